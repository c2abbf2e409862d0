"""Doubtful labels: the kinds of doubt, their queue, and a project that asks about them."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from labelwise import catalog
from labelwise.api import review_project
from labelwise.cli import app
from labelwise.data import coco
from labelwise.ledger.reviews import REVIEWS
from labelwise.project import opening
from labelwise.review import badly_located, overlooked, self_confidence, sparsely_labelled, swapped
from labelwise.review._in_turn import in_turn
from labelwise.study import label_review
from labelwise.study.label_review import Doubtful
from labelwise.types import Answer, Boxes, Cost, Detections, LabelwiseError, Pool
from labelwise.types.overlap import iou_matrix

OF_BOXES = [name for name in catalog.names("review") if catalog.find("review", name).constant("OF") != "images"]


def drawn(seed: int, images: int = 6, classes: int = 3) -> tuple[Boxes, Detections]:
    """Labels and detections that overlap now and then, on whole pixels."""
    rng = np.random.default_rng(seed)

    def boxes(n: int) -> np.ndarray:
        corner = rng.integers(0, 12, (n, 2))
        return np.concatenate([corner, corner + rng.integers(3, 9, (n, 2))], axis=1).astype(np.float32)

    n, m = rng.integers(0, 5, images), rng.integers(0, 7, images)
    labels = Boxes(np.append(0, n.cumsum()), boxes(int(n.sum())), rng.integers(0, classes, int(n.sum())))
    probs = rng.dirichlet(np.ones(classes), int(m.sum())).astype(np.float32)
    scores = rng.random(int(m.sum())).astype(np.float32)
    return labels, Detections(np.append(0, m.cumsum()), boxes(int(m.sum())), probs, scores, probs[:, :0])


def slow(name: str, labels: Boxes, found: Detections) -> list[float]:
    """Box by box, image by image."""
    iou = np.zeros((len(labels), len(found)))
    for i, j in product(range(len(labels)), range(len(found))):
        if labels.image[i] == found.image[j]:
            iou[i, j] = iou_matrix(labels.xyxy[[i]].astype(float), found.boxes[[j]].astype(float))[0, 0]
    score, probs = found.scores.astype(float), found.probs.astype(float)
    if name == "overlooked":
        best = [max(iou[:, j], default=0.0) for j in range(len(found))]
        return [float(score[j] * (1 - best[j])) if best[j] < 0.5 else 0.0 for j in range(len(found))]
    if name == "swapped":
        out = []
        for i, label in enumerate(labels.labels.tolist()):
            others = [max((probs[j, c], c) for c in range(probs.shape[1]) if c != label) for j in range(len(found))]
            worth = [iou[i, j] * score[j] * others[j][0] for j in range(len(found))
                     if iou[i, j] >= 0.5 and others[j][0] > probs[j, label]]  # fmt: skip
            out.append(float(max(worth, default=0.0)))
        return out
    owner = [int(iou[:, j].argmax()) if len(labels) and iou[:, j].max() > 0 else None for j in range(len(found))]
    chosen: dict[int, tuple[float, float]] = {}
    for i, label in enumerate(labels.labels.tolist()):
        mine = [j for j in range(len(found)) if owner[j] == i]
        if mine:
            j = max(mine, key=lambda j: (score[j] * probs[j, label] * iou[i, j], -j))
            chosen[i] = (float(score[j] * probs[j, label]), float(iou[i, j]))
    out = [0.0] * len(labels)
    for i, (chance, overlap) in chosen.items():
        typical = np.median([o for k, (_, o) in chosen.items() if labels.labels[k] == labels.labels[i]])
        out[i] = float(chance * max(typical - overlap, 0) / typical)
    return out


@pytest.mark.parametrize("name", OF_BOXES)
@pytest.mark.parametrize("seed", range(8))
def test_a_doubt_equals_loops(name: str, seed: int) -> None:
    labels, found = drawn(seed)
    doubts = catalog.find("review", name).call({"labels": labels, "found": found}, {})
    of_labels = catalog.find("review", name).constant("OF") == "labels"
    assert doubts.shape == (len(labels) if of_labels else len(found),)
    assert ((doubts >= 0) & (doubts <= 1)).all()
    assert doubts == pytest.approx(slow(name, labels, found), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_an_images_doubt_equals_loops(seed: int) -> None:
    labels, found = drawn(seed)
    alone, score = slow("overlooked", labels, found), found.scores.astype(float)
    mine = [[j for j in range(len(found)) if found.image[j] == k] for k in range(6)]
    share = [sum(alone[j] for j in rows) / (sum(score[j] for j in rows) + 0.5) for rows in mine]
    assert sparsely_labelled.doubt(labels, found) == pytest.approx(share, abs=1e-6)


def test_an_image_without_labels_is_told_before_one_that_lacks_one(tmp_path: Path) -> None:
    """Two objects without a label of two beside three without one of ten, all pale."""
    xyxy = np.concatenate([[[30 * k, 0, 30 * k + 20, 20] for k in range(n)] for n in (2, 10)]).astype(np.float32)
    ones = np.ones((12, 2), np.float32) / 2
    found = Detections(np.array([0, 2, 12]), xyxy, ones, np.full(12, 0.3, np.float32), ones[:, :0])
    labels = Boxes(np.array([0, 0, 7]), xyxy[5:], np.zeros(7, np.int64))
    pool = Pool(tmp_path, ("cat", "dog"), ("bare.png", "full.png"), np.full(2, 400), np.full(2, 48), truth=labels)
    assert overlooked.doubt(labels, found)[:2].sum() < overlooked.doubt(labels, found)[2:].sum()
    assert sparsely_labelled.doubt(labels, found) == pytest.approx([0.6 / 1.1, 0.9 / 3.5])
    told = label_review.images_told(pool, labels, found)
    assert [(one.kind, one.image, one.box, one.label) for one in told] == [
        ("sparsely_labelled", "bare.png", None, None)
    ]


@pytest.mark.parametrize("name", OF_BOXES)
def test_nothing_there_is_no_doubt(name: str) -> None:
    labels, found = drawn(1)
    none = Detections(np.zeros(7, np.int64), found.boxes[:0], found.probs[:0], found.scores[:0], found.features[:0])
    assert catalog.find("review", name).call({"labels": labels, "found": none}, {}).sum() == 0
    empty = catalog.find("review", name).call({"labels": Boxes.empty(6), "found": found}, {})
    assert empty.sum() == (pytest.approx(found.scores.sum()) if name == "overlooked" else 0)


def test_labels_and_detections_of_other_pools_are_refused() -> None:
    labels, found = drawn(2)
    with pytest.raises(LabelwiseError, match="expected the same pool"):
        overlooked.doubt(Boxes.empty(3), found)
    with pytest.raises(LabelwiseError, match="the detections know classes 0 to 2"):
        swapped.doubt(Boxes(labels.offsets, labels.xyxy, labels.labels + 3), found)
    with pytest.raises(LabelwiseError, match="expected a row for each"):
        self_confidence.doubt(np.array([0, 2]), np.full((2, 2), 0.5))


def test_a_label_whose_object_lies_elsewhere_is_first_among_loose_detections() -> None:
    rng = np.random.default_rng(0)
    corner = np.arange(40)[:, None] * 30.0
    xyxy = np.concatenate([corner, corner * 0, corner + 20, corner * 0 + 20], axis=1).astype(np.float32)
    loose = xyxy + rng.normal(0, 1.0, xyxy.shape).astype(np.float32)
    ones = np.ones((40, 1), np.float32)
    found = Detections(np.array([0, 40]), loose, ones, np.full(40, 0.8, np.float32), ones[:, :0])
    moved = xyxy.copy()
    moved[7] += 8
    doubts = badly_located.doubt(Boxes(np.array([0, 40]), moved, np.zeros(40, np.int64)), found)
    assert doubts.argmax() == 7 and doubts[7] > 3 * np.delete(doubts, 7).max()


def test_kinds_have_their_turn() -> None:
    kind, row = in_turn([np.array([0.1, 0.3, 0.2]), np.zeros(4), np.array([0.9, 0.9])])
    assert (kind.tolist(), row.tolist()) == ([0, 2, 0, 2, 0], [1, 0, 2, 1, 0])
    assert [len(column) for column in in_turn([])] == [0, 0]


def test_classes_out_of_fold_find_what_was_swapped() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat(np.arange(3), 40)
    features = (np.eye(3)[truth] + rng.normal(0, 0.2, (120, 3))).astype(np.float32)
    labels, wrong = truth.copy(), rng.permutation(120)[:8]
    labels[wrong] = (labels[wrong] + 1) % 3
    probs = label_review.out_of_fold(features, labels, 3, [str(k) for k in range(120)], 0)
    first = np.argsort(-self_confidence.doubt(labels, probs))[:8]
    assert len(np.intersect1d(first, wrong)) >= 7
    with pytest.raises(LabelwiseError, match="two are needed"):
        label_review.out_of_fold(features, labels, 3, ["clip"] * 120, 0)


# --------------------------------------------------------------------------------------------------------- a project


def small_set(folder: Path) -> Path:
    """Three images with two boxes each, as COCO."""
    images = folder / "images"
    images.mkdir(parents=True)
    for k in range(3):
        Image.new("RGB", (64, 48), (60 * k, 0, 0)).save(images / f"{k}.png")
    xyxy = np.array([[1, 1, 20, 20], [30, 20, 60, 40]] * 3, np.float32)
    names = tuple(f"{k}.png" for k in range(3))
    truth = Boxes(np.array([0, 2, 4, 6]), xyxy, np.array([0, 1] * 3))
    pool = Pool(images, ("cat", "dog"), names, np.full(3, 64), np.full(3, 48), truth=truth)
    coco.write(pool, folder / "set", "train")
    return folder / "set"


def doubtful_of(pool: Pool) -> list[Doubtful]:
    assert pool.truth is not None
    box = tuple(pool.truth.xyxy[3].tolist())
    return [
        Doubtful("overlooked", 0.9, pool.names[0], (5.0, 25.0, 25.0, 45.0), None, 1),
        Doubtful("swapped", 0.8, pool.names[1], box, 1, 0),  # type: ignore[arg-type]
        Doubtful("sparsely_labelled", 0.7, pool.names[2], None, None, 1),
    ]


def test_the_command_lists_writes_and_makes_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_set(tmp_path)
    monkeypatch.setattr(label_review, "of_pool", lambda pool, **_: doubtful_of(pool))
    table, project = tmp_path / "doubt.csv", tmp_path / "project"
    arguments = ["review", "--data", str(data), "-o", str(table), "--project", str(project)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "2 doubtful labels" in done.output and "2 questions are open" in done.output
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["label"], row["rather"]) for row in rows] == [
        ("overlooked", "", "dog"),
        ("swapped", "dog", "cat"),
        ("sparsely_labelled", "", "dog"),
    ]
    assert "1 images seem" not in done.output and "1 image seems to have hardly a label" in done.output

    context = opening.start(project, None)
    ledger, known = context.project.ledger, context.known()
    assert len(known.annotations) == 6 and known.covered(context.pool).all()
    missing, wrong = ledger.open_queries(1)
    assert REVIEWS not in missing.reason and wrong.label == 1
    box = wrong.box
    assert box is not None
    says = [
        (missing, Answer(missing.id or 0, "object", [(5.0, 25.0, 25.0, 45.0)], [1], "Ada"), Cost(1, 1, 0, 2.0)),
        (wrong, Answer(wrong.id or 0, "object", [box], [0], "Ada"), Cost(1, 1, 0, 2.0)),
    ]
    ledger.record_many(says, "person Ada")
    mended = context.known().annotations
    assert len(mended) == 7 and np.bincount(mended.labels).tolist() == [4, 3]
    assert np.diff(mended.offsets).tolist() == [3, 2, 2]
    context.project.close()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1 and "labelwise project already" in str(again.exception)


def test_a_project_needs_boxes_and_doubts(tmp_path: Path) -> None:
    data = small_set(tmp_path)
    with pytest.raises(LabelwiseError, match="no label is doubtful"):
        review_project.ask(tmp_path / "p", data, "coco", "train", ("cat", "dog"), [])
    one = Doubtful("self_confidence", 0.9, "0.png", None, 0, 1)
    with pytest.raises(LabelwiseError, match="not asked about yet"):
        review_project.ask(tmp_path / "p", data, "coco", "train", ("cat", "dog"), [one])
    assert not (tmp_path / "p").exists()


def test_a_set_without_labels_has_nothing_to_review(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ("cat",), ("a.png",), np.array([8]), np.array([8]))
    with pytest.raises(LabelwiseError, match="no labels to review"):
        label_review.of_pool(pool)
