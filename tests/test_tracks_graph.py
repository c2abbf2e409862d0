"""The graph of temporal coherence: its links beside loops over frames and pairs, its minimum beside all labellings."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import coo_array

from labelwise.tracks import cut, links
from labelwise.tracks.clamps import Known
from labelwise.tracks.coherence import estimate
from labelwise.tracks.cut import minimum_cut
from labelwise.tracks.links import link
from labelwise.types import Boxes, LabelwiseError, Tracks, image_of

BOX = np.array([0, 0, 10, 10], np.float32)


def iou(a, b) -> float:
    a, b = [float(x) for x in a], [float(x) for x in b]
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high)


def slow_link(offsets, boxes, labels, tracks, theta, overlap=1.0):
    """Section 2.3.2, line by line: links as a set of pairs, candidates as (image, class, members)."""
    image, n = image_of(offsets), len(boxes)
    moved = {}
    for i in range(n):
        for j, box in zip(tracks.image[i], tracks.boxes[i], strict=True):
            if j >= 0 and box[0] < box[2] and box[1] < box[3]:
                moved.setdefault((i, int(j)), []).append(box)
    pairs = set()
    for a in range(n):
        for b in range(n):
            there = moved.get((a, int(image[b])), [])
            if labels[a] == labels[b] and any(iou(box, boxes[b]) > theta for box in there):
                pairs.add((min(a, b), max(a, b)))
    met = {(a, int(image[b])) for a, b in pairs} | {(b, int(image[a])) for a, b in pairs}
    found, spurs = [], set()
    for frame in range(len(offsets) - 1):
        for kind in sorted(set(labels.tolist())):
            left = [(i, box) for (i, j), many in sorted(moved.items()) if j == frame for box in many
                    if labels[i] == kind and (i, j) not in met]  # fmt: skip
            local = [b for b in range(n) if image[b] == frame and labels[b] == kind]
            left = [(i, box) for i, box in left if all(iou(box, boxes[b]) <= overlap for b in local)]
            groups = []
            for member in left:
                near = [g for g in groups if any(iou(member[1], box) > theta for _, box in g)]
                groups = [g for g in groups if not any(g is h for h in near)]
                groups.append(sorted([m for g in [*near, [member]] for m in g], key=lambda m: m[0]))
            for group in sorted(groups, key=lambda g: g[0][0]):
                spurs |= {(i, n + len(found)) for i, _ in group}
                found.append((frame, kind, np.mean([box.astype(np.float64) for _, box in group], axis=0)))
    return sorted(pairs | spurs), found


def make(seed: int, images: int, n: int, k: int, classes: int, grid: float, side: int = 12):
    """Boxes on a coarse lattice (many ties), tracks that stay near."""
    rng = np.random.default_rng(seed)
    image = np.sort(rng.integers(0, images, n))
    corner = rng.integers(-3, side, (n, 2)) * grid
    boxes = np.concatenate([corner, corner + rng.integers(0, 6, (n, 2)) * grid], axis=1).astype(np.float32)
    steps = np.concatenate([np.arange(-k, 0), np.arange(1, k + 1)])
    where = image[:, None] + steps
    where[(where < 0) | (where >= images) | (rng.random(where.shape) < 0.1)] = -1
    slip = np.tile(rng.integers(-1, 2, (n, 2 * k, 2)), 2) * grid
    moved = np.where(where[..., None] >= 0, boxes[:, None] + slip, 0).astype(np.float32)
    offsets = np.searchsorted(image, np.arange(images + 1))
    return offsets, boxes, rng.integers(0, classes, n) * 3 - 1, Tracks(where, moved)


def same(pool, theta, overlap=0.99) -> links.Graph:
    graph = link(*pool, theta=theta, candidate_overlap=overlap)
    pairs, found = slow_link(*pool, theta, overlap)
    assert graph.links.tolist() == [list(pair) for pair in pairs]
    assert graph.candidate_image.tolist() == [frame for frame, _, _ in found]
    assert graph.candidate_labels.tolist() == [kind for _, kind, _ in found]
    expected = np.array([box for _, _, box in found]).reshape(-1, 4).astype(np.float32)
    np.testing.assert_allclose(graph.candidate_boxes, expected, rtol=1e-6, atol=1e-6)
    assert (graph.n_detections, len(graph)) == (len(pool[1]), len(pool[1]) + len(found))
    return graph


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(0, 25), st.integers(0, 3), st.integers(1, 3),
       st.sampled_from([1.0, 0.1]), st.sampled_from([0.0, 0.25, 0.5, 0.9]),
       st.sampled_from([0.0, 0.2, 0.5, 0.99]))  # fmt: skip
def test_links_and_candidates_are_those_of_the_loops(seed, images, n, k, classes, grid, theta, overlap) -> None:
    same(make(seed, images, n, k, classes, grid), theta, overlap)


@pytest.mark.parametrize("block", [1, 7])
def test_the_blocks_of_pairs_change_nothing(monkeypatch, block) -> None:
    pool = make(3, 5, 60, 3, 2, 1.0, side=6)
    before = same(pool, 0.3, 0.1)
    monkeypatch.setattr(links, "PAIRS", block)
    after = link(*pool, theta=0.3, candidate_overlap=0.1)
    assert len(before.links) > 60
    np.testing.assert_array_equal(before.links, after.links)
    np.testing.assert_array_equal(before.candidate_boxes, after.candidate_boxes)


def chain(frames: list[int], length: int, k: int, first: int = 0):
    """One object that stands still, found in some frames of one video and tracked through all of it."""
    found = np.array(frames) + first
    where = found[:, None] + np.concatenate([np.arange(-k, 0), np.arange(1, k + 1)])
    where[(where < first) | (where >= first + length)] = -1
    return found, where


def pool_of(parts, images: int, labels=None):
    found, where = (np.concatenate(column) for column in zip(*parts, strict=True))
    boxes = np.tile(BOX, (len(found), 1))
    tracks = Tracks(where, np.where(where[..., None] >= 0, BOX, 0).astype(np.float32))
    labels = np.zeros(len(found), np.int64) if labels is None else np.array(labels)
    return np.searchsorted(found, np.arange(images + 1)), boxes, labels, tracks


def test_no_detections_one_frame_and_no_tracks() -> None:
    for images in (0, 1, 4):
        for k in (0, 3):
            tracks = Tracks(np.zeros((0, 2 * k), np.int64), np.zeros((0, 2 * k, 4), np.float32))
            none = np.zeros(images + 1, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), tracks
            found = estimate(*none)
            assert (len(found.false_positive), len(found.candidates), len(found.links)) == (0, 0, 0)
            assert found.fp.tolist() == found.fn.tolist() == [0] * images
            assert found.energy == 0
    one = estimate(*pool_of([chain([0], 1, 3)], 1))  # nothing speaks against it
    assert one.false_positive.tolist() == [False]


def test_other_classes_are_never_linked() -> None:
    pool = pool_of([chain([0, 1, 2], 3, 2)], 3, [0, 1, 2])
    graph = same(pool, 0.5)
    assert (graph.links[:, 1] >= 3).all()
    assert graph.candidate_labels.tolist() == [1, 2, 0, 2, 0, 1]
    assert estimate(*pool).fp.tolist() == [1, 1, 1]


def test_thousands_of_detections_in_a_frame_take_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    n, k = 12_000, 3  # 3,000 in each of four frames, spread over a large picture
    image = np.repeat(np.arange(4), n // 4)
    corner = np.tile(rng.random((n // 4, 2)) * [4000, 3000], (4, 1))
    boxes = np.concatenate([corner, corner + 20], axis=1).astype(np.float32)
    where = image[:, None] + np.array([-3, -2, -1, 1, 2, 3])
    where[(where < 0) | (where > 3)] = -1
    keep = rng.random(n) < 0.9
    tracks = Tracks(where[keep], np.where(where[..., None] >= 0, boxes[:, None], 0).astype(np.float32)[keep])
    tracemalloc.start()
    pool = np.searchsorted(image[keep], np.arange(5)), boxes[keep], np.zeros(keep.sum(), np.int64)
    found = estimate(*pool, tracks, candidate_overlap=0.3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 600 * 2**20  # all pairs would be 100 M
    assert found.fn.sum() > 0.8 * (~keep).sum()
    assert k == tracks.image.shape[1] // 2


def test_all_boxes_in_one_place_make_one_candidate(monkeypatch) -> None:
    monkeypatch.setattr(links, "PAIRS", 1000)
    n = 300
    where = np.full((n, 2), -1)
    where[:, 1] = 1
    boxes = np.tile(BOX, (n, 1))
    tracks = Tracks(where, np.where(where[..., None] >= 0, boxes[:, None], 0).astype(np.float32))
    graph = link(np.array([0, n, n]), boxes, np.zeros(n, np.int64), tracks)
    assert graph.links.tolist() == [[i, n] for i in range(n)]
    assert graph.candidate_boxes.tolist() == [BOX.tolist()]


@pytest.mark.parametrize("bad", ["theta", "nan", "length", "float64", "image", "own"])
def test_links_refuse_what_does_not_fit(bad) -> None:
    offsets, boxes, labels, tracks = pool_of([chain([0, 1], 3, 1)], 3)
    where = tracks.image.copy()
    theta, words = (
        0.5,
        {"nan": "boxes: row 1 ", "length": "from one prediction", "float64": "float64", "theta": "theta: "},
    )
    if bad == "theta":
        theta = 1.0
    elif bad == "nan":
        boxes[1, 2] = np.nan
    elif bad == "length":
        labels = labels[:1]
    elif bad == "float64":
        boxes = boxes.astype(np.float64)
    else:
        where[1, 1] = {"image": 3, "own": 1}[bad]
    with pytest.raises(LabelwiseError, match=words.get(bad, "tracks: box 1, column 1")):
        link(offsets, boxes, labels, Tracks(where, tracks.boxes), theta=theta)


def energy(true, unary_true, unary_false, pairs, weight) -> np.ndarray:
    """Of labellings [..., N], by Eq. 2.1."""
    apart = true[..., pairs[:, 0]] != true[..., pairs[:, 1]]
    return np.where(true, unary_true, unary_false).sum(axis=-1) + (apart * weight).sum(axis=-1)


def problem(seed: int, n: int, kind: str):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, n, (rng.integers(0, 3 * n + 1), 2))
    if kind == "tree":
        pairs = np.stack([np.arange(1, n), rng.integers(0, np.arange(1, n))], axis=1) if n > 1 else pairs[:0]
    if kind == "ones":
        side = rng.random(n) < 0.6
        return (~side).astype(float), side.astype(float), pairs, 1.0
    most = {"ties": 3, "tree": 4, "wide": 50, "decimals": 30}[kind]
    unary = rng.integers(-1 if kind == "wide" else 0, most, (2, n)).astype(float)
    weight = rng.integers(0, most, len(pairs)).astype(float)
    scale = 10 if kind == "decimals" else 1
    return unary[0] / scale, unary[1] / scale, pairs, weight / scale


@pytest.mark.parametrize("batch", [1, 1 << 15])
@pytest.mark.parametrize("kind", ["ones", "ties", "tree", "wide", "decimals"])
def test_the_cut_is_the_largest_of_all_least_labellings(monkeypatch, kind, batch) -> None:
    monkeypatch.setattr(cut, "BATCH", batch)
    rng = np.random.default_rng(5)
    for seed in range(66):
        n = 16 if seed > 62 else int(rng.integers(0, 11))
        given_ = problem(seed, n, kind) if n else (np.zeros(0), np.zeros(0), np.zeros((0, 2), np.int64), 1.0)
        every = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
        cost = energy(every, *given_)
        best = every[np.isclose(cost, cost.min(), rtol=0, atol=1e-9)]
        np.testing.assert_array_equal(minimum_cut(*given_), best.any(axis=0), err_msg=f"{kind} {seed}")


def linear_program(unary_true, unary_false, pairs, weight) -> float:
    """The same minimum as a linear program (its corners are whole): d >= x_a - x_b, d >= x_b - x_a."""
    n, m = len(unary_true), len(pairs)
    row = np.arange(m)
    one = coo_array((np.r_[np.ones(m), -np.ones(m), -np.ones(m)], (np.r_[row, row, row], np.r_[pairs.T.ravel(), n + row])), shape=(m, n + m))  # fmt: skip  # noqa: E501
    two = coo_array((np.r_[-np.ones(m), np.ones(m), -np.ones(m)], (np.r_[row, row, row], np.r_[pairs.T.ravel(), n + row])), shape=(m, n + m))  # fmt: skip  # noqa: E501
    both = coo_array(np.concatenate([one.toarray(), two.toarray()]))
    cost = np.r_[unary_true - unary_false, np.broadcast_to(weight, m)]
    done = linprog(cost, both, np.zeros(2 * m), bounds=[(0, 1)] * n + [(0, None)] * m)
    return float(done.fun) + float(unary_false.sum())


@pytest.mark.parametrize("kind", ["ones", "ties", "tree", "wide"])
@pytest.mark.parametrize("batch", [50, 1 << 15])
def test_on_larger_graphs_the_cut_costs_what_the_linear_program_does(monkeypatch, kind, batch) -> None:
    monkeypatch.setattr(cut, "BATCH", batch)
    for seed in range(3):
        unary_true, unary_false, pairs, weight = problem(seed, 300, kind)
        keep = np.arange(len(pairs)) < 220 if kind != "tree" else np.ones(len(pairs), bool)
        weight = weight if np.isscalar(weight) else weight[keep]
        given_ = unary_true, unary_false, pairs[keep], weight
        assert energy(minimum_cut(*given_), *given_) == pytest.approx(linear_program(*given_), abs=1e-6)


def test_costs_stay_exact_up_to_the_bound_and_are_refused_beyond() -> None:
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]])
    unary = np.array([[0.0, 1, 0, 1], [1, 0, 1, 0]]) * 100000007
    every = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(bool)
    weight = np.array([1e8, 1.2e8, 1.1e8, 1e8 + 1, 0])
    cost = energy(every, *unary, pairs, weight)
    np.testing.assert_array_equal(minimum_cut(*unary, pairs, weight), every[cost == cost.min()].any(axis=0))
    plain = unary / 100000007
    huge = minimum_cut(*plain * 2.0**40, pairs, 2.0**40)  # a common factor costs nothing
    np.testing.assert_array_equal(huge, minimum_cut(*plain, pairs, 1.0))
    np.testing.assert_array_equal(minimum_cut(*plain * 1.2, pairs, 0.4), minimum_cut(*plain * 3, pairs, 1.0))
    with pytest.raises(LabelwiseError, match="more than 9 digits"):
        minimum_cut(*plain, pairs, 1 / 3)
    with pytest.raises(LabelwiseError, match=r"node 2: .* reach 2"):
        minimum_cut(*unary, pairs, weight * 12)


@pytest.mark.parametrize(
    ("bad", "words"),
    [("nan", "unary_false: row 1 "), ("inf", "weight: row 0 "), ("negative", "weight: row 0 is neg"),
     ("node", "links: row 1 "), ("shape", "expected costs")],
)  # fmt: skip
def test_the_cut_refuses_what_does_not_fit(bad, words) -> None:
    given_ = [np.zeros(3), np.ones(3), np.array([[0, 1], [1, 2]]), np.ones(2)]
    if bad == "nan":
        given_[1][1] = np.nan
    elif bad in ("inf", "negative"):
        given_[3][0] = {"inf": np.inf, "negative": -1}[bad]
    elif bad == "node":
        given_[2][1, 1] = 3
    else:
        given_[3] = np.ones(3)
    with pytest.raises(LabelwiseError, match=words):
        minimum_cut(*given_)


COSTS = [(1.0, 1.0, 1.0), (1.0, 0.5, 0.1), (0.3, 0.1, 0.1), (2.0, 1.0, 0.0), (0.0, 0.0, 1.0)]


def known_of(rng, pool, graph) -> Known:
    """A random part of the truth: some frames wholly labelled, some verdicts and missed objects of others."""
    offsets, boxes, _, _ = pool
    whole = rng.random(len(offsets) - 1) < 0.3
    verdict = np.where(whole[image_of(offsets)] | (rng.random(len(boxes)) < 0.2), rng.integers(0, 2, len(boxes)), -1)
    rows = np.flatnonzero(rng.random(len(graph) - graph.n_detections) < 0.3)
    corners = graph.candidate_boxes[rows] + np.float32(0.1)
    missed = Boxes.from_rows(graph.candidate_image[rows], corners, graph.candidate_labels[rows], len(whole))
    return Known(verdict.astype(np.int8), missed, whole)


def slow_clamps(graph, known) -> list[int]:
    """Node after node: whether an object is there (1), none (0), or nobody knows (-1)."""
    out = known.detections.tolist()
    for frame, box, kind in zip(graph.candidate_image, graph.candidate_boxes, graph.candidate_labels, strict=True):
        there = [iou(box, m) > 0.5 and kind == c
                 for m, c, j in zip(known.missed.xyxy, known.missed.labels, known.missed.image, strict=True)
                 if j == frame]  # fmt: skip
        out.append(1 if any(there) else 0 if known.whole[frame] else -1)
    return out


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("ties", ["detector", "present", "absent"])
@pytest.mark.parametrize("costs", COSTS)
def test_the_estimate_costs_least_and_keeps_to_the_rule_of_ties_and_to_what_is_known(costs, ties, clamped) -> None:
    seen = clamps_seen = 0
    for seed in range(60):
        pool = make(seed, 5, 7, 2, 1, 1.0, side=4)
        graph, n = link(*pool, theta=0.3, candidate_overlap=0.1), 7
        if len(graph) > 14:
            continue
        seen += 1
        size = len(graph)
        every = (np.arange(2**size)[:, None] >> np.arange(size) & 1).astype(bool)
        known = known_of(np.random.default_rng(seed), pool, graph) if clamped else None
        if known is not None:
            fixed = np.array(slow_clamps(graph, known))
            clamps_seen += np.count_nonzero(fixed[n:] == 1)
            every = every[((fixed < 0) | (every == fixed)).all(axis=1)]
        unary_true = np.where(np.arange(size) < n, 0, costs[1])
        cost = energy(every, unary_true, np.where(np.arange(size) < n, costs[0], 0), graph.links, costs[2])
        best = every[np.isclose(cost, cost.min(), rtol=0, atol=1e-9)]
        fp, fn = (~best[:, :n]).sum(axis=1), best[:, n:].sum(axis=1)
        keys = {"detector": (fn, fp), "present": (-fn, fp), "absent": (fn, -fp)}[ties]
        order = np.lexsort(keys)
        settings_ = {"cost_fp": costs[0], "cost_fn": costs[1], "cost_link": costs[2], "ties": ties, "known": known}
        found = estimate(*pool, theta=0.3, candidate_overlap=0.1, **settings_)
        np.testing.assert_array_equal(np.concatenate([~found.false_positive, found.false_negative]), best[order[0]])
        assert found.energy == pytest.approx(cost.min())
        assert found.fp.tolist() == np.bincount(image_of(pool[0])[found.false_positive], minlength=5).tolist()
        assert found.fn.tolist() == np.bincount(found.candidates.image[found.false_negative], minlength=5).tolist()
    assert seen > 5
    assert not clamped or clamps_seen > 5


def test_what_is_known_of_one_frame_reaches_its_neighbours() -> None:
    pool = pool_of([chain([0, 1, 2, 3, 4], 5, 1)], 5)  # a false alarm that stays: nothing speaks against it
    whole = np.array([True, False, True, False, True])
    known = Known(np.array([0, -1, 0, -1, 0], np.int8), Boxes.empty(5), whole)
    assert estimate(*pool).fp.tolist() == [0, 0, 0, 0, 0]
    assert estimate(*pool, known=known).fp.tolist() == [1, 1, 1, 1, 1]


def test_a_moved_box_that_overlaps_a_detection_is_no_candidate() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 20, 12]], np.float32)  # IoU 100 / 240
    image, moved = np.array([[-1, 1], [0, -1]]), np.zeros((2, 2, 4), np.float32)
    moved[0, 1], moved[1, 0] = boxes
    pool = np.array([0, 1, 2]), boxes, np.zeros(2, np.int64), Tracks(image, moved)
    assert [len(link(*pool, candidate_overlap=most)) for most in (0.0, 0.4, 0.42, 0.9)] == [2, 2, 4, 4]
    assert len(link(pool[0], boxes, np.array([0, 1]), pool[3])) == 4  # of another class
    with pytest.raises(LabelwiseError, match="candidate_overlap"):
        link(*pool, candidate_overlap=1.0)


def test_settings_and_knowledge_that_do_not_fit_are_refused() -> None:
    pool = pool_of([chain([0], 2, 1)], 2)
    with pytest.raises(LabelwiseError, match="ties"):
        estimate(*pool, ties="coin")
    known = Known(np.zeros(2, np.int8), Boxes.empty(2), np.zeros(2, bool))
    with pytest.raises(LabelwiseError, match="known: of 2 detections"):
        estimate(*pool, known=known)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_short_runs_are_false_positives_and_longer_ones_have_misses_at_their_ends(k) -> None:
    for run in range(1, 2 * k + 3):
        found = estimate(*pool_of([chain(list(range(10, 10 + run)), 30, k)], 30))
        assert found.false_positive.all() == found.false_positive.any() == (run < 2 * k)
        beyond = [10 - i for i in range(k - 1, 0, -1)] + [9 + run + i for i in range(1, k)]
        assert np.flatnonzero(found.fn).tolist() == (beyond if run >= 2 * k else [])


def test_a_tie_reports_no_error() -> None:
    found = estimate(*pool_of([chain([0], 2, 1)], 2))
    assert (found.false_positive.tolist(), found.false_negative.tolist(), found.energy) == ([False], [False], 1.0)


def test_videos_do_not_touch_each_other() -> None:
    parts = [chain([0, 1, 3, 4], 5, 3), chain([2], 6, 3, first=5), chain([0, 1, 2, 3], 4, 3, first=11)]
    found = estimate(*pool_of(parts, 15))
    assert np.flatnonzero(found.fp).tolist() == [7]
    assert np.flatnonzero(found.fn).tolist() == [2]


@pytest.mark.parametrize("name", ["cost_fp", "cost_fn", "cost_link"])
def test_costs_are_finite_and_not_negative(name) -> None:
    for cost in (-1.0, np.nan, np.inf):
        with pytest.raises(LabelwiseError, match=name):
            estimate(*pool_of([chain([0], 2, 1)], 2), **{name: cost})
