"""An own detector's project: queries out, answers in, targets out; killed, opened again, seen by other commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import labelwise
from labelwise.adapters import callable as functions
from labelwise.cli import app
from labelwise.project.project_folder import Project as Folder
from labelwise.queue.leases import Leases
from labelwise.types import LabelwiseError

CLASSES = ["cat", "dog"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(6):
        Image.new("RGB", (64, 48), (40 * k, 0, 0)).save(folder / f"{k}.png")
    return folder


@pytest.fixture
def project(tmp_path: Path, images: Path) -> labelwise.Project:
    return labelwise.open(tmp_path / "mine", images=images, classes=CLASSES)


def predictions(n: int = 6) -> dict[str, Any]:
    """Two boxes per image; the surer one is a cat; image k is the less sure, the larger k."""
    image = np.repeat(np.arange(n), 2)
    boxes = np.tile([[2, 2, 22, 22], [30, 20, 60, 44]], (n, 1)).astype(np.float64)
    sure = 0.98 - 0.05 * image + np.tile([0, -0.2], n)
    probs = np.stack([np.where(image % 2 == 0, sure, 1 - sure), np.where(image % 2 == 0, 1 - sure, sure)], axis=1)
    view_iou = np.stack([np.full(2 * n, 0.75), np.full(2 * n, 0.25)])
    return {"image": image, "boxes": boxes, "probs": probs, "view_iou": view_iou, "view_probs": np.stack([probs] * 2)}


def test_two_rounds(project: labelwise.Project) -> None:
    first = project.ask(budget=2)
    assert [query.unit for query in first] == ["image", "image"]
    assert {query.image for query in first} <= set(project.images)
    project.answer(first[0], boxes=[(2, 2, 22, 22)], labels=["cat"], who="Ada", seconds=9)
    project.answer(first[1])
    targets = project.targets()
    assert {target.image for target in targets} == {query.image for query in first}
    assert sorted(len(target.boxes) for target in targets) == [0, 1]
    project.finish({"ap50": 0.25})
    assert project.round == 1

    queries = project.ask(predictions(), budget=3, score="entropy", select="top")
    assert [query.unit for query in queries] == ["box"] * 3
    assert not {query.image for query in queries} & {query.image for query in first}
    assert [query.score for query in queries] == sorted((query.score for query in queries), reverse=True)
    hit, miss, twice = queries
    project.answer(hit, boxes=[hit.box], labels=[hit.label])
    project.answer(miss, "background")
    project.answer(twice, "skipped", note="too dark")
    assert project.open_queries() == []
    assert (project.cost.boxes, project.cost.queries, project.cost.images) == (2, 5, 2)

    by_image = {target.image: target for target in project.targets(policy="task_soft")}
    target = by_image[hit.image]
    answered = target.answered
    assert target.boxes[answered].tolist() == [list(hit.box or ())]
    assert (target.w_cls[answered] == 1).all() and (target.w_box[answered] == 1).all()
    assert (target.w_box[~answered] == 0.5).all(), "cons(b): the mean IoU of both views"
    project.finish({"ap50": 0.5, "per_class_ap50": {"cat": 0.6, "dog": 0.4}})
    assert project.round == 2


def test_killed_between_any_two_calls_nothing_is_lost(tmp_path: Path, images: Path) -> None:
    """Every call in a process of its own, which dies at once after it."""
    script = (
        "import os, sys, labelwise; sys.path.insert(0, sys.argv[3]); import test_api_project as t; "
        "p = labelwise.open(sys.argv[1], images=sys.argv[2], classes=t.CLASSES); "
        "q = p.ask(t.predictions(), budget=4, score='margin'); print(len(q), q[0].id if q else '-'); "
        "q and p.answer(q[0], 'background'); sys.stdout.flush(); os._exit(9)"
    )
    here = str(Path(__file__).parent)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    said = []
    for _ in range(3):
        arguments = [sys.executable, "-c", script, str(tmp_path / "p"), str(images), here]
        done = subprocess.run(arguments, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 9, done.stderr
        said.append(done.stdout.split())
    assert [count for count, _ in said] == ["4", "3", "2"]
    assert len({number for _, number in said}) == 3
    project = labelwise.open(tmp_path / "p")
    assert len(project.open_queries()) == 1
    with pytest.raises(
        LabelwiseError, match=r"round 1 has asked already, with other settings \(4 box queries by margin"
    ):
        project.ask(predictions(), budget=9)


def test_what_one_selector_keeps_the_next_one_chooses_from(project: labelwise.Project) -> None:
    """The two least sure of image 0 to 5 look the same; the third, far away, is among the four that are kept."""
    sure = np.array([0.95, 0.9, 0.7, 0.6, 0.52, 0.51])
    features = np.array([[9.0, 9], [9, 9], [0, 5], [5, 0], [1, 0], [1, 0]], np.float32)
    made = {
        "image": np.arange(6), "boxes": np.tile([[2.0, 2, 22, 22]], (6, 1)),
        "probs": np.stack([sure, 1 - sure], axis=1), "features": features,
    }  # fmt: skip
    chain = [{"name": "top", "keep": 2}, "kcenter"]
    asked = project.ask(made, budget=2, score="margin", select=chain)
    pictures = {query.image for query in asked}
    assert len(pictures) == 2 and pictures < {"2.png", "3.png", "4.png", "5.png"} and pictures != {"4.png", "5.png"}


def test_an_interrupted_ask_is_done_again_with_the_new_predictions(
    project: labelwise.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labelwise.stages import select

    def fails(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(select, "select", fails)
        with pytest.raises(KeyboardInterrupt):
            project.ask(predictions(), budget=4)
    assert project.open_queries() == []
    few = {name: value[..., :2, :] if name == "view_probs" else value[..., :2] if name == "view_iou" else value[:2]
           for name, value in predictions().items()}  # fmt: skip
    assert {query.image for query in project.ask(few, budget=4)} == {"0.png"}


def test_people_answer_by_the_page_and_other_commands_open_it(project: labelwise.Project, tmp_path: Path) -> None:
    asked = project.ask(predictions(), budget=2)
    opened = Folder.open(project.folder)
    leases = Leases(opened.ledger).take("Bo", "window-1", 0.0, most=2)
    assert [lease.query.id for lease in leases] == [query.id for query in asked]
    opened.close()
    runner = CliRunner()
    shown = runner.invoke(app, ["status", "--project", str(project.folder)])
    assert shown.exit_code == 0, shown.output
    out = tmp_path / "queries"
    sent = runner.invoke(app, ["export", "queries", "--to", "json", "-p", str(project.folder), "-o", str(out)])
    assert sent.exit_code == 0 and (out / "queries.json").exists(), sent.output
    for query in asked:
        project.answer(query, boxes=[query.box], labels=[query.label])
    project.finish({"ap50": 0.4})
    labels = runner.invoke(
        app, ["export", "labels", "--to", "coco", "-p", str(project.folder), "-o", str(tmp_path / "set")]
    )
    assert labels.exit_code == 0 and (tmp_path / "set" / "partly_labelled.json").exists(), labels.output
    made = runner.invoke(app, ["report", str(project.folder), "-o", str(tmp_path / "report.html")])
    assert made.exit_code == 0 and (tmp_path / "report.html").exists(), made.output


def test_an_ask_of_regions_that_was_killed_with_its_queries_open_opens_no_others(
    project: labelwise.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the opening of the queries and the mark that the round asks: the same ones are open afterwards."""
    from labelwise.ledger.ledger import Ledger

    mark = Ledger.mark_started

    def killed(ledger: Ledger, round_number: int, stage: str) -> None:
        if stage == "ask":
            raise KeyboardInterrupt
        mark(ledger, round_number, stage)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "mark_started", killed)
        with pytest.raises(KeyboardInterrupt):
            project.ask(predictions(), budget=3, unit="region", scales=[2.0])
    before = [(query.image, query.box) for query in project.open_queries()]
    after = [(query.image, query.box) for query in project.ask(predictions(), budget=3, unit="region", scales=[2.0])]
    assert len(before) == 3 and after == before


@pytest.mark.parametrize("unit", ["image", "region"])
def test_other_units(project: labelwise.Project, unit: str) -> None:
    queries = project.ask(predictions(), budget=3, unit=unit, score="entropy", select="top")
    assert [query.unit for query in queries] == [unit] * 3
    query = queries[0]
    box = (31.0, 21.0, 50.0, 40.0) if query.box is None else (query.box[0] + 1, query.box[1] + 1, *query.box[2:])
    project.answer(query, boxes=[box], labels=["dog"])
    (target,) = project.targets(policy="ignore")
    whole = [[0, 0, 64, 48]] if unit == "image" else [list(query.box or ())]
    assert target.negatives.tolist() == whole


def test_frames_of_a_film_are_read_although_no_file_holds_them(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: uv sync --extra video")
    from test_data_video import film, picture

    film(tmp_path / "films" / "one.mp4", 4)
    project = labelwise.open(tmp_path / "p", images=tmp_path / "films", classes=CLASSES, format="video")
    (query,) = project.ask(budget=1)
    project.answer(query, boxes=[(1, 1, 9, 9)], labels=["cat"])
    (target,) = project.targets()
    assert target.path is None and target.size_px == (96, 64)
    shown = project.pixels(target.image)
    assert shown.shape == (64, 96, 3) and shown.dtype == np.uint8
    number = project.images.index(target.image)
    assert np.abs(shown.astype(int) - picture(number)).mean() < 20, "that very frame, but for its compression"
    with pytest.raises(LabelwiseError, match=r"there is no image 'two\.mp4#000000'"):
        project.pixels("two.mp4#000000")


def test_a_target_of_an_image_file_names_it(project: labelwise.Project) -> None:
    (query,) = project.ask(budget=1)
    project.answer(query)
    (target,) = project.targets()
    assert target.path is not None and np.array_equal(project.pixels(target.image), Image.open(target.path))


def test_a_list_of_images_may_grow(tmp_path: Path, images: Path) -> None:
    paths = sorted(images.iterdir())
    project = labelwise.open(tmp_path / "p", images=paths[:4], classes=CLASSES)
    assert project.images == ("0.png", "1.png", "2.png", "3.png")
    project.close()
    assert len(labelwise.open(tmp_path / "p", images=paths).images) == 6
    shorter = labelwise.open(tmp_path / "p", images=paths[:3])
    assert len(shorter.images) == 6, "an image keeps its number and its labels"
    assert 3 in shorter.pool.unavailable and "3.png" in shorter.pool.unavailable[3]
    other = tmp_path / "x.png"
    Image.new("RGB", (8, 8)).save(other)
    with pytest.raises(LabelwiseError, match="does not lie below"):
        labelwise.open(tmp_path / "p", images=[*paths, other])


def test_a_function_predicts_with_views(project: labelwise.Project) -> None:
    def mine(shown: list[np.ndarray]) -> list[dict[str, Any]]:
        assert shown[0].shape == (480, 640, 3)
        return [{"boxes": [[40, 40, 200, 200]], "scores": [0.6], "labels": ["dog"]} for _ in shown]

    found = project.predict(functions.detector(mine, CLASSES), views=["flip", "colour"])
    assert found.boxes[0].tolist() == [4, 4, 20, 20]
    assert found.views is not None and found.views.names == ("flip", "colour")
    assert found.views.iou[1].tolist() == [1.0] * 6, "colour moves nothing"
    queries = project.ask(found, budget=1)
    assert queries[0].label == 1
    assert project.targets(policy="hard") == []


def test_mistakes_say_what_to_do(project: labelwise.Project, tmp_path: Path, images: Path) -> None:
    plain = {name: value for name, value in predictions().items() if not name.startswith("view_")}
    wrong: list[tuple[Any, str]] = [
        (lambda: labelwise.open(tmp_path / "none"), "is no project yet; give images"),
        (lambda: labelwise.open(tmp_path / "none", images=images), "give the names of the classes"),
        (lambda: labelwise.open(tmp_path / "none", images=tmp_path / "nix", classes=CLASSES), "no such folder"),
        (lambda: labelwise.open(tmp_path / "none", images=[], classes=CLASSES), "empty list"),
        (lambda: labelwise.open(tmp_path / "none", images=["nix.png"], classes=CLASSES), "no such file"),
        (lambda: labelwise.open(project.folder, classes=["dog", "cat"]), "has the classes cat, dog; got dog, cat"),
        (lambda: labelwise.open(project.folder, images=tmp_path), "name another folder"),
        (lambda: project.ask(plain, budget=2, score="consistency"), "needs 'view_probs', which these predictions lack"),
        (lambda: project.ask(plain, budget=2, select="kcenter"), "needs 'features', which these predictions lack"),
        (lambda: project.ask(plain, budget=2, unit="image", select="kcenter"), "needs 'image_features'"),
        (
            lambda: project.ask(plain, budget=2, score="dispersion"),
            "'history', which arrays of predictions do not carry",
        ),
        (lambda: project.ask(plain, budget=2, score="entrpy"), "Did you mean 'entropy'"),
        (lambda: project.ask(plain, budget=0), "budget is 0; expected a number of questions"),
        (lambda: project.ask(plain, budget=2, unit="boxes"), "query.unit"),
        (lambda: project.targets(plain), "needs 'view_iou', which these predictions lack"),
        (lambda: project.targets(plain, policy="hrad"), "Did you mean 'hard'"),
        (lambda: project.answer(99), "there is no query 99"),
        (lambda: project.finish({"ap50": 50}), r"ap50 is 50; expected a number in \[0, 1\]"),
    ]
    for call, message in wrong:
        with pytest.raises(LabelwiseError, match=message):
            call()
    assert not (tmp_path / "none" / "run.toml").exists()
    query = project.ask(plain, budget=2)[0]
    for answer, message in (
        ({}, "give the object's box and label, or a verdict"),
        ({"boxes": [(1, 1, 90, 20)], "labels": [0]}, "lies outside the image of 64 x 48"),
        ({"boxes": [(1, 1, 20, 20)], "labels": [2]}, "label 0: class 2; expected 0 to 1"),
        ({"boxes": [(1, 1, 20, 20)], "labels": ["cta"]}, "Did you mean 'cat'"),
        ({"boxes": [(1, 1, 20, 20)]}, "1 boxes and 0 labels"),
        ({"verdict": "all"}, "verdict 'all'; expected one of object, background, duplicate, skipped"),
    ):
        with pytest.raises(LabelwiseError, match=message):
            project.answer(query, **answer)
    project.answer(query, "background", who="Ada")
    project.answer(query, "background", who="Ada")  # the same again changes nothing
    assert project.cost.queries == 1
    with pytest.raises(LabelwiseError, match=r"was answered by Ada \(background\), here by Bo \(skipped\)"):
        project.answer(query, "skipped", who="Bo")


@pytest.mark.parametrize("command", ["run", "train"])
def test_the_loop_does_not_train_in_its_place(project: labelwise.Project, tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(app, [command, "--project", str(tmp_path / "mine")])
    assert isinstance(result.exception, LabelwiseError)
    assert "own detector" in str(result.exception) and "labelwise serve" in str(result.exception)


FEATURES = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]])


@pytest.mark.parametrize("as_table", [False, True])
@pytest.mark.parametrize("select", ["kcenter", "typiclust", "probcover", "herding"])
def test_features_of_images_alone_are_enough_to_ask_about_images(
    project: labelwise.Project, select: str, as_table: bool
) -> None:
    given: Any = {"image_features": FEATURES} if as_table else FEATURES
    asked = project.ask(given, budget=3, unit="image", select=select)
    assert [query.unit for query in asked] == ["image"] * 3
    assert len({query.image for query in asked}) == 3
    again = project.ask(given, budget=3, unit="image", select=select)
    assert [query.id for query in again] == [query.id for query in asked]
    for query in asked:
        project.answer(query, boxes=[(2, 2, 22, 22)], labels=["cat"])
    assert len(project.targets(policy="ignore")) == 3
    project.finish()
    rest = project.ask(given, budget=3, unit="image", select=select)
    assert {query.image for query in rest} == set(project.images) - {query.image for query in asked}


def test_kcenter_on_features_alone_takes_the_farthest(project: labelwise.Project) -> None:
    first = project.ask(FEATURES, budget=1, unit="image", select="kcenter")[0]
    project.answer(first)
    project.finish()
    here = FEATURES[project.images.index(first.image)]
    second = project.ask(FEATURES, budget=1, unit="image", select="kcenter")[0]
    assert project.images.index(second.image) == int(np.abs(FEATURES - here).argmax())


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (FEATURES, {"unit": "box", "select": "kcenter"}, "take unit=\"image\", not 'box'"),
        (FEATURES, {"unit": "image"}, "select 'balance_frequency' needs '.*hold no box: take one of .*kcenter"),
        (FEATURES, {"unit": "image", "select": "kcenter", "score": "entropy"}, "score 'entropy' needs 'probs'"),
        (
            FEATURES[:4],
            {"unit": "image", "select": "kcenter"},
            r"image_features has shape \(4, 1\); expected .*\(6, D\)",
        ),
        (FEATURES * np.nan, {"unit": "image", "select": "kcenter"}, "expected finite numbers"),
        (np.zeros((6, 0)), {"unit": "image", "select": "kcenter"}, "expected finite numbers"),
        (np.array([["a"]] * 6), {"unit": "image", "select": "kcenter"}, "expected finite numbers"),
    ],
)
def test_what_features_alone_cannot_do(
    project: labelwise.Project, given: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabelwiseError, match=message):
        project.ask(given, budget=2, **settings)
    assert project.open_queries() == []
