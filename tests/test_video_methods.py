"""Videos: the restraint of picks in time, true errors, and boxes lent to neighbours, beside slow references."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise import catalog, config
from labelwise.config import parse
from labelwise.evaluate.true_errors import errors
from labelwise.score import detection_errors, temporal_coherence
from labelwise.select import temporal_spread
from labelwise.stages.tracking import known_errors
from labelwise.targets.propagate import lenders, propagate
from labelwise.tracks.flow import Flow, record
from labelwise.tracks.follow import follow
from labelwise.types import Boxes, Clips, Detections, Labels, LabelwiseError, Rects, Tracks, offsets_of


def spread_slowly(scores, image, videos, labelled, exclude, per_video):
    """One frame after the other: the best that no labelled or taken frame of its video is near to."""
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    taken, rest, turns = [], [], {}
    near = list(labelled)
    for row in order:
        shut = any(abs(image[row] - other) <= exclude and videos[image[row]] == videos[other] for other in near)
        if shut:
            rest.append(row)
            continue
        near.append(image[row])
        turn = turns.setdefault(videos[image[row]], 0)
        turns[videos[image[row]]] += 1
        taken.append((turn if per_video else 0, row))
    rank = {row: k for k, row in enumerate(order)}
    return [row for _, row in sorted(taken, key=lambda t: (t[0], rank[t[1]]))] + rest


@pytest.mark.parametrize("per_video", [True, False])
@pytest.mark.parametrize("exclude", [0, 1, 3, 50])
def test_the_spread_is_the_greedy_one(exclude, per_video):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(0, 40))
        pool = n + int(rng.integers(1, 30))
        videos = np.sort(rng.integers(0, 1 + seed % 5, pool))
        image = rng.permutation(pool)[:n]
        labelled = rng.permutation(pool)[: rng.integers(0, 4)]
        scores = rng.integers(0, 4, n).astype(float)
        expected = spread_slowly(scores.tolist(), image, videos, labelled, exclude, per_video)
        for budget in (0, 1, n // 2, n, n + 3):
            rows = temporal_spread.select(scores, image, videos, labelled, budget, exclude=exclude, per_video=per_video)
            assert rows.tolist() == expected[:budget]


def test_the_spread_keeps_its_distance_and_shares_among_videos():
    videos = np.repeat(np.arange(4), (400, 20, 20, 20))  # one long video
    scores = np.random.default_rng(0).random(460)
    rows = temporal_spread.select(scores, np.arange(460), videos, np.array([405]), 12)
    assert np.bincount(videos[rows]).tolist() == [3, 3, 3, 3]
    for video in range(4):
        own = np.sort(rows[videos[rows] == video])
        assert (np.diff(own) > 3).all()
    assert (np.abs(rows - 405) > 3).all()
    alone = temporal_spread.select(scores, np.arange(460), videos, np.array([405]), 12, per_video=False)
    assert np.bincount(videos[alone], minlength=4)[0] > 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.array([0, 1, 1])}, "row 2 is frame 1"),
        ({"image": np.array([0, 1, 9])}, "row 2 is 9"),
        ({"videos": np.array([0, 1, 0, 0])}, "frame 2 is of a video before"),
        ({"labelled_images": np.array([7])}, "labelled_images: row 0 is 7"),
    ],
)
def test_bad_frames_are_named(change, message):
    given = {"image": np.arange(3), "videos": np.zeros(4, int), "labelled_images": np.zeros(0, int)} | change
    with pytest.raises(LabelwiseError, match=message):
        temporal_spread.select(np.zeros(3), given["image"], given["videos"], given["labelled_images"], 2)
    with pytest.raises(LabelwiseError, match="exclude"):
        temporal_spread.select(np.zeros(3), np.arange(3), np.zeros(4, int), np.zeros(0, int), 2, exclude=-1)


def iou(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.maximum(high - low, 0).prod()
    return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)


def boxes_of(rng, n):
    low = rng.integers(0, 12, (n, 2))
    return np.concatenate([low, low + rng.integers(2, 9, (n, 2))], axis=1).astype(np.float32)


def test_errors_against_one_detection_after_the_other():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        images, n, m = 4, int(rng.integers(0, 25)), int(rng.integers(0, 15))
        image, of_truth = np.sort(rng.integers(0, images, n)), np.sort(rng.integers(0, images, m))
        boxes, labels, scores = boxes_of(rng, n), rng.integers(0, 2, n), rng.integers(0, 5, n) / 5
        truth = Boxes.from_rows(of_truth, boxes_of(rng, m), rng.integers(0, 2, m), images)
        found: set[int] = set()
        wrong = np.ones(n, bool)
        for row in sorted(range(n), key=lambda r: (-scores[r], r)):
            near = [
                (-iou(boxes[row].astype(float), truth.xyxy[t].astype(float)), t)
                for t in range(m)
                if of_truth[t] == image[row] and truth.labels[t] == labels[row]
            ]
            if near and -min(near)[0] > 0.5 and min(near)[1] not in found:
                found.add(min(near)[1])
                wrong[row] = False
        got = errors(offsets_of(image, images), boxes, labels, scores, truth)
        assert got.false_positive.tolist() == wrong.tolist()
        assert np.flatnonzero(~got.missed).tolist() == sorted(found)


def test_a_detection_in_a_crowd_region_is_nobodys_error():
    box = np.array([[0, 0, 4, 4], [20, 20, 24, 24]], np.float32)
    crowd = Rects.from_rows(np.array([0]), np.array([[0, 0, 9, 9]]), 1)
    got = errors(np.array([0, 2]), box, np.zeros(2, int), np.ones(2), Boxes.empty(1), crowd)
    assert got.false_positive.tolist() == [False, True] and got.missed.tolist() == []
    with pytest.raises(LabelwiseError, match="1 images"):
        errors(np.array([0, 2]), box, np.zeros(2, int), np.ones(2), Boxes.empty(3))


@pytest.mark.parametrize("method", [temporal_coherence, detection_errors])
def test_counts_that_are_none_are_refused(method):
    with pytest.raises(LabelwiseError, match="errors is 'all'"):
        method.score(np.zeros(2, int), np.zeros(2, int), errors="all")
    with pytest.raises(LabelwiseError, match="2 counts"):
        method.score(np.zeros(2, int), np.zeros(3, int))


def known_of(n_images, image, xyxy, labels, whole):
    annotations = Boxes.from_rows(np.array(image), np.array(xyxy, float).reshape(-1, 4), np.array(labels), n_images)
    covers = np.tile([0, 0, 50, 50], (len(whole), 1))
    answered = np.isin(np.arange(n_images), [*whole, *image])
    return Labels(annotations, Rects.from_rows(np.array(whole), covers, n_images), Rects.empty(n_images), answered)


def test_boxes_go_to_the_nearest_unlabelled_neighbours():
    known = known_of(7, [1, 1, 4], [[0, 0, 4, 4], [9, 9, 12, 12], [5, 5, 9, 9]], [0, 1, 1], [1, 4])
    boxes, rows = lenders(known, np.isin(np.arange(7), [1, 4]))
    assert rows.tolist() == [0, 1, 2] and boxes.image.tolist() == [1, 1, 4]
    image = np.array([[-1, 0, 2, 3], [-1, 0, 2, -1], [2, 3, 5, 6]])
    moved = np.where(image[..., None] >= 0, boxes.xyxy[:, None] + image[..., None], 0).astype(np.float32)
    size = np.full(7, 50)
    lent = propagate(known, Tracks(image, moved), rows, size, size, weight=0.25)
    assert lent.images.tolist() == [0, 2, 3, 5, 6], "frame 2 is one from frame 1, frame 3 one from frame 4"
    assert np.diff(lent.offsets).tolist() == [2, 2, 1, 1, 1] and lent.labels.tolist() == [0, 1, 0, 1, 1, 1, 1]
    assert lent.boxes[4].tolist() == [8, 8, 12, 12] and (lent.w_cls == 0.25).all() and (lent.origin == 1).all()
    assert (lent.windows == [0, 0, 50, 50]).all() and lent.negatives.xyxy.tolist() == lent.windows.tolist()
    with pytest.raises(LabelwiseError, match="weight"):
        propagate(known, Tracks(image, moved), rows, size, size, weight=0.0)


def test_a_partly_labelled_frame_neither_lends_nor_borrows():
    known = known_of(3, [0, 1], [[0, 0, 4, 4], [0, 0, 4, 4]], [0, 0], [0])
    boxes, rows = lenders(known, np.array([True, False, False]))
    image = np.array([[-1, -1, 1, 2]])
    moved = np.array([[[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 5, 4], [2, 0, 6, 4]]], np.float32)
    size = np.full(3, 50)
    assert len(boxes) == 1
    assert propagate(known, Tracks(image, moved), rows, size, size).images.tolist() == [2]


def test_clips_are_checked():
    with pytest.raises(LabelwiseError, match="together"):
        Clips(("a", "b"), np.array([1, 0]), np.zeros(2, int), np.zeros(2))
    with pytest.raises(LabelwiseError, match="image 2 does not come after"):
        Clips(("a",), np.zeros(3, int), np.array([0, 4, 4]), np.zeros(3))
    with pytest.raises(LabelwiseError, match="0 to 0"):
        Clips(("a",), np.array([1]), np.zeros(1, int), np.zeros(1))
    a = Clips(("a",), np.zeros(2, int), np.array([0, 5]), np.array([0, 0.2]))
    both = Clips.join([(a, 2), (a, 2)])
    assert both.video.tolist() == [0, 0, 1, 1] and both.take(np.array([1, 3])).frame.tolist() == [5, 5]


def run_of(**sections):
    return parse({"data": {"root": "x"}, "model": "retinanet", **sections}, "test")


def test_a_frame_is_an_image_and_what_videos_need_is_known_beforehand():
    run = run_of(
        query={"unit": "frame", "score": "temporal_coherence", "select": "temporal_spread"},
        budget={"unit": "frames", "per_round": [5]},
        labels={"policy": "background"},
    )
    assert run.query.unit == "image" and run.budget.unit == "images"
    assert run.needs_tracks and run.needs_clips and not run.needs_labelled and not run.needs_views
    still = run_of(query={"unit": "image", "score": "random", "select": "top"}, labels={"policy": "background"})
    assert not still.needs_clips
    with pytest.raises(LabelwiseError, match="scores whole images"):
        run_of(query={"unit": "box", "score": "temporal_coherence", "select": "top"}, labels={"policy": "background"})
    with pytest.raises(LabelwiseError, match="of boxes; a classifier"):
        run_of(
            model="classifier",
            query={"unit": "image", "score": "temporal_coherence", "select": "top"},
            labels={"policy": "background"},
        )


@pytest.mark.parametrize(("data", "lr", "epochs", "steps", "share"), [
    ("roads_paper", 0.02, 10, (5, 7), 0.12), ("imagenet_vid_paper", 0.001, 6, (3, 5), 0.1)])  # fmt: skip
@pytest.mark.parametrize("method", ["temporal_coherence", "random_r", "frame_entropy", "oracle_fp"])
def test_the_papers_protocol_resolves_with_every_kind_of_method(data, lr, epochs, steps, share, method) -> None:
    run = config.load(catalog.recipe_files(f"{data}+{method}"), ["query.select.exclude=1"])
    assert (run.train.lr, run.train.epochs, run.train.step_epochs, run.train.batch_size) == (lr, epochs, steps, 12)
    assert run.train.optimiser == "sgd"
    assert run.train.schedule == "step"
    assert run.train.warm_start
    assert (run.model.name, run.query.threshold, run.tracks.frames) == ("faster_rcnn", 0.5, 3)
    assert run.query.select[0].settings == {"exclude": 1}
    frames = run.budget.per_round[0] / run.budget.start_images  # of the pool
    assert run.budget.start_images + sum(run.budget.per_round) / frames == pytest.approx(share)


def test_partly_known_frames_tell_what_was_found_and_missed_and_no_more() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10], [0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
    probs, none = np.ones((4, 1), np.float32), np.zeros((4, 0), np.float32)
    found = Detections(np.array([0, 2, 4]), boxes, probs, probs[:, 0], none)
    told = Boxes.from_rows(np.array([0, 0, 1]), boxes[[0, 0, 0]] + [[0], [90], [0]], np.zeros(3, np.int64), 2)
    whole = np.array([False, True])
    known = known_errors(found, Labels(told, Rects.empty(2), Rects.empty(2), whole), whole)
    assert known.detections.tolist() == [1, -1, 1, 0]
    assert (known.missed.image.tolist(), known.missed.xyxy[:, 0].tolist()) == ([0], [90])


@pytest.mark.parametrize(
    ("back", "within", "followed"), [(-4, 0.1, True), (0, 0.1, False), (0, 0.6, True), (0, None, True)]
)
def test_a_track_ends_where_the_flow_back_misses_its_start(back, within, followed) -> None:
    rows = np.zeros(2, record(2, 4))
    rows["joined"][0] = True
    rows["flow"][0, 0, ..., 0], rows["flow"][0, 1, ..., 0] = 4, back
    grid = np.array([[4, 2], [4, 2]])
    moving = Flow((rows,), np.array([0, 2]), np.array([True, False]), np.full((2, 2), 8.0), grid)
    size, box = (np.array([32, 32]), np.array([16, 16])), np.array([[0, 0, 8, 8]], np.float32)
    tracks = follow(np.array([0, 1, 1]), box, moving, *size, frames=1, return_within=within)
    assert tracks.image.tolist() == [[-1, 1 if followed else -1]]
