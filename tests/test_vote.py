"""Box voting over views: against a loop over boxes and views, random and degenerate, and in a project."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from labelwise import files, loop
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.stages import label
from labelwise.targets import vote
from labelwise.types import ORIGIN_PSEUDO, Detections, LabelwiseError, Views, image_of

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kill  # a small run


def slow_mean(box, score, matches, match_scores, match_iou, width, height):
    """One box after the other, one view after the other."""

    def cut(corners):
        x1, y1, x2, y2 = (float(c) for c in corners)
        return [min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)]

    own = cut(box)
    weights, boxes = [float(score)], [own]
    for match, weight, iou in zip(matches, match_scores, match_iou, strict=True):
        seen = cut(match)
        if iou >= 0.5 and seen[2] > seen[0] and seen[3] > seen[1]:
            weights.append(float(weight))
            boxes.append(seen)
    if sum(weights) == 0:
        return own
    return [sum(w * b[k] for w, b in zip(weights, boxes, strict=True)) / sum(weights) for k in range(4)]


def random_case(seed: int, n: int, views: int):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-10, 60, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 30, (n, 2))], axis=1).astype(np.float32)
    matches = (boxes + rng.normal(0, 4, (views, n, 4))).astype(np.float32)  # some are turned inside out
    matches[rng.random((views, n)) < 0.2] = 0
    scores = rng.choice([0, 0.25, 0.5, 1], n).astype(np.float32)
    seen = rng.choice([0, 0.25, 0.5, 1], (views, n)).astype(np.float32)
    iou = rng.choice([0, 0.25, 0.5, 0.75, 1], (views, n)).astype(np.float32)
    return boxes, scores, matches, seen, iou, rng.integers(20, 80, (n, 2))


@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize("views", [0, 1, 3])
def test_equals_the_loop(n: int, views: int) -> None:
    for seed in range(5):
        case = boxes, scores, matches, seen, iou, size = random_case(seed, n, views)
        got = vote.mean_boxes(*case)
        assert got.shape == (n, 4) and got.dtype == np.float32 and np.isfinite(got).all()
        for i in range(n):
            want = slow_mean(boxes[i], scores[i], matches[:, i], seen[:, i], iou[:, i], *size[i])
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-4)
            assert (got[i] >= 0).all() and (got[i] <= np.tile(size[i], 2)).all()


def test_where_nothing_votes_a_box_stays_to_the_last_bit() -> None:
    boxes, scores, matches, seen, iou, _ = random_case(7, 50, 2)
    boxes, size = np.abs(boxes), np.full((50, 2), 200)
    for silent in ({"iou": iou * 0.4}, {"seen": seen * 0}, {"matches": matches * 0}, {"matches": boxes[None]}):
        given = {"matches": matches, "seen": seen, "iou": iou} | silent
        views = (given["matches"], given["seen"][: len(given["matches"])], given["iou"][: len(given["matches"])])
        assert vote.mean_boxes(boxes, scores, *views, size).tobytes() == boxes.tobytes()


def test_a_box_outside_of_the_image_is_cut_to_it() -> None:
    box, none = np.array([[-5, 10, 30, 90]], np.float32), np.zeros((0, 1), np.float32)
    got = vote.mean_boxes(box, none.sum(0) + 0.5, np.zeros((0, 1, 4), np.float32), none, none, np.array([[20, 80]]))
    assert got.tolist() == [[0, 10, 20, 80]]


def detections(boxes: bool = True) -> Detections:
    own = np.array([[0, 0, 20, 16], [10, 10, 30, 30], [0, 0, 20, 16]], np.float32)
    low = own + np.array([0, 4, 0, 4], np.float32)
    seen = Views(
        ("flip",),
        np.ones((1, 3, 1), np.float32),
        np.array([[0.25, 0.5, 0.25]], np.float32),
        np.array([[0.6, 0.4, 0.6]], np.float32),
        low[None] if boxes else None,
    )
    scores = np.array([0.75, 0.5, 0.75], np.float32)
    return Detections(np.array([0, 2, 3]), own, np.ones((3, 1), np.float32), scores, np.zeros((3, 0), np.float32), seen)


def test_boxes_alone_change_and_lie_in_their_images() -> None:
    found = detections()
    got = vote.with_votes(found, np.array([100, 15]), np.array([100, 18]))
    assert got.boxes.tolist() == [[0, 1, 20, 17], [10, 10, 30, 30], [0, 1, 15, 16.5]]
    for field in dataclasses.fields(Detections):
        assert field.name == "boxes" or getattr(got, field.name) is getattr(found, field.name)


def test_predictions_without_the_boxes_of_the_views_are_refused() -> None:
    for found in (detections(boxes=False), dataclasses.replace(detections(), views=None)):
        with pytest.raises(LabelwiseError, match=r"labels\.vote needs the boxes .* set labels\.vote = false"):
            vote.with_votes(found, np.array([100, 15]), np.array([100, 18]))


# ------------------------------------------------------------------------------------------------------- in a project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Round:
    """Round 1 of a run that votes and weighs boxes by the quality head."""
    asks = ["labels.vote=true", "labels.images=all", "model.quality=true", "budget.per_round=[6]"]
    asks += ["labels.policy={name='dual', upper=0.012, lower=0.01, box='quality', least_box=0.2}"]
    opened = opening.start(tmp_path_factory.mktemp("vote") / "p", "demo", [*kill.SMALL, *asks])
    list(loop.run(opened))
    return Round(opened, 1)


def test_pseudo_boxes_of_a_run_are_voted_and_weigh_their_quality(project: Round) -> None:
    found = files.read_detections(project.folder.predictions())
    assert found.quality is not None and found.views is not None and found.views.boxes is not None
    targets, pool = project.targets, project.pool
    pseudo = targets.origin == ORIGIN_PSEUDO
    assert pseudo.sum() > 5
    scores = found.scores >= np.float32(project.run.labels.threshold)
    found = found.take(scores)
    boxes = vote.with_votes(found, pool.width_px, pool.height_px).boxes
    assert (np.abs(boxes - found.boxes) > 0.01).any()
    image = targets.images[image_of(targets.offsets)[pseudo]]
    for at, box, w_cls, w_box in zip(
        image, targets.boxes[pseudo], targets.w_cls[pseudo], targets.w_box[pseudo], strict=True
    ):
        row = np.flatnonzero((found.image == at) & (boxes == box).all(axis=1))
        assert len(row) == 1, "the voted box of one detection"
        quality = found.quality[row[0]]
        assert w_box == (quality if w_cls and quality >= np.float32(0.2) else 0)
    assert (targets.w_box[pseudo] > 0).any()


def test_what_was_predicted_without_votes_says_what_to_do(project: Round) -> None:
    found = files.read_detections(project.folder.predictions(), columns=("view_iou",))
    with pytest.raises(LabelwiseError, match="it holds from the next round on"):
        label.targets(project, found)
