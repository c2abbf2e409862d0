"""Own detectors as they come: heads of sigmoids, results of Ultralytics and supervision by their shape."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import labelwise
from labelwise.adapters import callable as functions
from labelwise.api import heads
from labelwise.api.predictions import read, spread
from labelwise.types import LabelwiseError, Pool

POOL = Pool(Path(), ("cat", "dog", "hen"), ("a.jpg", "b.jpg"), np.array([100, 200]), np.array([80, 100]))
SIGMOIDS = np.array([[0.6, 0.2, 0.0], [0.0, 0.0, 0.0], [0.9, 0.9, 0.2]])
BOXES = np.array([[1.0, 2, 30, 40], [5, 5, 20, 30], [0, 0, 90, 70]])


def columns(**more: Any) -> dict[str, Any]:
    return {"image": ["a.jpg", "a.jpg", "b.jpg"], "boxes": BOXES, "probs": SIGMOIDS} | more


# ---- heads of sigmoids ----------------------------------------------------------------------------------------------


def test_sigmoids_become_a_distribution_and_the_largest_is_the_confidence() -> None:
    found = read(columns(), POOL, heads.SIGMOID)
    np.testing.assert_allclose(found.probs, [[0.75, 0.25, 0], [1 / 3] * 3, [0.45, 0.45, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.6, 0.0, 0.9], rtol=1e-6)
    objectness = read(columns(scores=[0.3, 0.1, 0.45]), POOL, heads.SIGMOID)
    np.testing.assert_allclose(objectness.scores, [0.3, 0.1, 0.45], rtol=1e-6)
    np.testing.assert_array_equal(objectness.probs, found.probs)


@pytest.mark.parametrize("seed", range(4))
def test_any_sigmoids_are_a_distribution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [*(rng.random((20, 3)) ** 8 * rng.integers(0, 2, (20, 3))).tolist(), [1, 1, 1], [0, 0, 0], [5e-324, 0, 0]]
    found = heads.distribution(np.array(rows))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    for said, made in zip(rows, found, strict=True):
        total = sum(said)
        np.testing.assert_allclose(made, [s / total for s in said] if total else [1 / 3] * 3, rtol=1e-5, atol=1e-7)


def test_sigmoids_of_views_and_of_a_parquet_file(tmp_path: Path) -> None:
    view = np.array([[0.4, 0.4, 0.0], [np.nan] * 3, [0.1, 0.5, 0.2]])
    found = read(columns(view_iou=[[0.5, 0.0, 0.5]], view_probs=view[None]), POOL, heads.SIGMOID)
    assert found.views is not None
    np.testing.assert_allclose(found.views.probs[0], [[0.5, 0.5, 0], [1 / 3] * 3, [1 / 8, 5 / 8, 2 / 8]], rtol=1e-6)
    np.testing.assert_allclose(found.views.scores, [[0.4, 0, 0.5]], rtol=1e-6)
    table = {name: BOXES[:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))}
    table |= {"image": columns()["image"], "probs": SIGMOIDS.tolist()}
    pq.write_table(pa.table(table), tmp_path / "found.parquet")
    np.testing.assert_array_equal(
        read(tmp_path / "found.parquet", POOL, heads.SIGMOID).probs, read(columns(), POOL, heads.SIGMOID).probs
    )


def test_without_the_setting_the_error_names_it_and_no_sigmoid_is_above_one() -> None:
    with pytest.raises(LabelwiseError, match=r'row 0 .*sum to 0.8.*head of sigmoids: open\(..., head="sigmoid"\)'):
        read(columns(), POOL)
    with pytest.raises(LabelwiseError, match=r"row 1 \(image a.jpg\): probs \[0, 1.5, 0\]; expected sigmoids, 0 to 1"):
        read(columns(probs=np.array([[0.1, 0, 0], [0, 1.5, 0], [0.1, 0, 0]])), POOL, heads.SIGMOID)


def test_a_project_is_opened_with_the_head_and_predicts_and_asks_with_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for k in range(3):
        Image.new("RGB", (64, 48), (90 * k, 0, 0)).save(tmp_path / "images" / f"{k}.png")
    with pytest.raises(LabelwiseError, match="unknown head 'sigmoids'; known: softmax, sigmoid"):
        labelwise.open(tmp_path / "mine", images=tmp_path / "images", classes=["cat", "dog"], head="sigmoids")
    project = labelwise.open(tmp_path / "mine", images=tmp_path / "images", classes=["cat", "dog"], head="sigmoid")

    def model(images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        box, probs = torch.tensor([[2.0, 2, 30, 30]]), torch.tensor([[0.6, 0.2]])
        return [{"boxes": box, "scores": probs.amax(1), "probs": probs} for _ in images]

    found = project.predict(model)
    np.testing.assert_allclose(found.probs, [[0.75, 0.25]] * 3, rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.6] * 3, rtol=1e-6)
    said = {"image": project.images, "boxes": [[2, 2, 30, 30]] * 3, "probs": [[0.6, 0.2], [0.5, 0.5], [0.9, 0.1]]}
    queries = project.ask(said, budget=1, score="entropy", select="top")
    assert [query.image for query in queries] == ["1.png"]
    with pytest.raises(LabelwiseError, match=r"class score of 1.5; expected sigmoids"):
        project.predict(lambda images: [{**model([image])[0], "probs": torch.tensor([[1.5, 0.2]])} for image in images])
    project.close()
    again = labelwise.open(tmp_path / "mine")
    with pytest.raises(LabelwiseError, match='head="sigmoid"'):
        again.predict(model)


def test_dropout_of_a_wrapped_module_is_still_found() -> None:
    inner = torch.nn.Sequential(torch.nn.Dropout(0.5))
    assert [type(m) for m in heads.Distributions(inner).modules()][-1] is torch.nn.Dropout
    empty = [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "probs": torch.zeros(0, 2)}]
    assert heads.Distributions(lambda images: empty)([torch.zeros(3, 8, 8)])[0]["probs"].shape == (0, 2)


def test_a_function_may_give_sigmoids() -> None:
    said = {"boxes": [[1, 2, 30, 40]], "probs": [[0.6, 0.2]]}
    (found,) = functions.detector(lambda images: [said], ["cat", "dog"], head="sigmoid")([torch.zeros(3, 64, 64)])
    torch.testing.assert_close(found["probs"], torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(found["scores"], torch.tensor([0.6]))
    bad = functions.detector(lambda images: [said | {"probs": [[2, 0]]}], ["cat", "dog"], head="sigmoid")
    with pytest.raises(LabelwiseError, match=r"box 0: probs are \[2.0, 0.0\]; expected sigmoids"):
        bad([torch.zeros(3, 64, 64)])


# ---- result objects -------------------------------------------------------------------------------------------------


def ultralytics_like(names: Any, boxes: Any, scores: Any, labels: Any) -> Any:
    """`Results` as it is used: tensors in `boxes`, names of the classes by number."""
    tensors = {"xyxy": torch.tensor(boxes).reshape(-1, 4), "conf": torch.tensor(scores), "cls": torch.tensor(labels)}
    return SimpleNamespace(boxes=SimpleNamespace(**tensors), names=names, orig_shape=(80, 100))


def supervision_like(boxes: Any, scores: Any, labels: Any, data: dict[str, Any] | None = None) -> Any:
    """`Detections` as it is used: NumPy arrays, which may be None."""
    said = {"confidence": None if scores is None else np.array(scores, np.float32)}
    said |= {"class_id": None if labels is None else np.array(labels, int), "mask": None, "tracker_id": None}
    return SimpleNamespace(xyxy=np.array(boxes, np.float32).reshape(-1, 4), data=data or {}, **said)


MINE = {"boxes": [[1, 2, 30, 40], [5, 5, 20, 30]], "scores": [0.8, 0.5], "labels": [1, 2]}
EMPTY: dict[str, Any] = {"boxes": np.zeros((0, 4)), "scores": [], "labels": []}
FORMS = {
    "names of Ultralytics": [
        ultralytics_like({0: "hen", 1: "dog", 2: "cat"}, MINE["boxes"], [0.8, 0.5], [1.0, 0.0]),
        ultralytics_like({0: "hen", 1: "dog", 2: "cat"}, [], [], []),
    ],
    "numbers of Ultralytics": [
        ultralytics_like({0: "0", 1: "1", 2: "2"}, MINE["boxes"], [0.8, 0.5], [1.0, 2.0]),
        ultralytics_like({0: "0", 1: "1", 2: "2"}, [], [], []),
    ],
    "numbers of supervision": [supervision_like(MINE["boxes"], [0.8, 0.5], [1, 2]), supervision_like([], [], [])],
    "names of supervision": [
        supervision_like(MINE["boxes"], [0.8, 0.5], [7, 9], {"class_name": np.array(["dog", "hen"])}),
        supervision_like([], None, None),
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_result_objects_are_taken_in_place_of_dicts(form: str) -> None:
    want = read([MINE, EMPTY], POOL)
    for given_as in (FORMS[form], dict(zip(POOL.names, FORMS[form], strict=True))):
        found = read(given_as, POOL)
        for name in ("offsets", "boxes", "scores", "probs"):
            np.testing.assert_array_equal(getattr(found, name), getattr(want, name))
    np.testing.assert_allclose(want.probs, spread(np.float32([0.8, 0.5]), np.array([1, 2]), 3))
    model = functions.detector(lambda images: FORMS[form][: len(images)], POOL.classes)
    one, none = model([torch.zeros(3, 80, 100), torch.zeros(3, 100, 200)])
    np.testing.assert_array_equal(one["probs"].numpy(), want.probs)
    assert none["boxes"].shape == (0, 4) and none["probs"].shape == (0, 3)


def test_supervision_may_carry_columns_of_ours() -> None:
    data = {"probs": np.array([[0.2, 0.7, 0.1]]), "features": np.array([[1.0, 2.0]]), "class_name": np.array(["dog"])}
    found = read([supervision_like([[1, 2, 30, 40]], [0.5], [1], data), supervision_like([], [], [])], POOL)
    np.testing.assert_allclose(found.probs, [[0.2, 0.7, 0.1]], rtol=1e-6)
    assert found.scores.tolist() == [0.5] and found.features.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (supervision_like([[1, 2, 3, 4]], None, [0]), "image 0: these Detections have no confidence; a box needs"),
        (supervision_like([[1, 2, 3, 4]], [0.5], None), 'have no class_id.*data\\["probs"\\]'),
        (SimpleNamespace(boxes=None, names={0: "cat"}), "image 0: these Results hold no boxes"),
        (ultralytics_like({0: "person"}, [[1.0, 2, 3, 4]], [0.5], [0.0]), "unknown class 'person'; known: cat, dog"),
        (ultralytics_like({0: "0"}, [[1.0, 2, 3, 4]], [0.5], [5.0]), "class 5; expected 0 to 2"),
        (SimpleNamespace(xyxy=[[1, 2, 3, 4]]), "image 0: expected a dict with boxes"),
    ],
)
def test_what_a_result_object_lacks_is_named(entry: Any, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        read([entry, EMPTY], POOL)


def test_a_function_that_gives_something_else_is_told() -> None:
    model = functions.detector(lambda images: [3 for _ in images], ["cat", "dog"])
    with pytest.raises(LabelwiseError, match="the detector gave int; expected a dict with boxes"):
        model([torch.zeros(3, 8, 8)])


def test_detections_of_the_real_supervision() -> None:
    sv = pytest.importorskip("supervision", reason="supervision is not installed (pip install supervision)")
    one = sv.Detections(
        xyxy=np.array(MINE["boxes"], np.float32), confidence=np.float32([0.8, 0.5]), class_id=np.array([1, 2])
    )
    want = read([MINE, EMPTY], POOL)
    np.testing.assert_array_equal(read([one, sv.Detections.empty()], POOL).probs, want.probs)
    named = sv.Detections(
        xyxy=one.xyxy,
        confidence=one.confidence,
        class_id=np.array([4, 9]),
        data={"class_name": np.array(["dog", "hen"])},
    )
    np.testing.assert_array_equal(read([named, sv.Detections.empty()], POOL).probs, want.probs)


@pytest.mark.filterwarnings("ignore")  # of its own imports
def test_results_of_the_real_ultralytics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    engine = pytest.importorskip(
        "ultralytics.engine.results", reason="Ultralytics is not installed (AGPL-3.0; pip install ultralytics)"
    )

    def results(rows: list[list[float]]) -> Any:
        picture = np.zeros((80, 100, 3), np.uint8)
        table = torch.tensor(rows).reshape(-1, 6)
        return engine.Results(picture, path="a.jpg", names={0: "hen", 1: "dog", 2: "cat"}, boxes=table)

    found = read([results([[1, 2, 30, 40, 0.8, 1], [5, 5, 20, 30, 0.5, 0]]), results([])], POOL)
    np.testing.assert_array_equal(found.probs, read([MINE, EMPTY], POOL).probs)
