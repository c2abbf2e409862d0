"""Which detections of nearby frames show the same object, and where in between one may have been missed.

Source: 001, section 2.3.2 and Fig. 2.2: detection i in one frame and l in another are linked where the one, moved by
the tracker into the frame of the other, overlaps it by IoU > θ, in either direction, and their classes are the same. A
moved box of a detection that has no link into that frame is unmatched; the unmatched boxes of one frame are clustered
"based on their overlap", each cluster is a candidate for a missed object, linked to the detections it was moved from.
Differs from the paper: its text takes tracked boxes "not matched with any local detection" for candidates, its Fig.
2.2b those "that do not overlap any local detection". Here a moved box that overlaps a detection of its own class by
IoU > `candidate_overlap` is none: 0.5 (θ) is the text, 0 the figure, 0.3 the default. Ground truth as detections on
60 clips of drone_video_dev, k = 3 (benchmarks/results/coherence_rules.csv): 148, 50 and 28 of 20,662 are called false
positives with 0.5, 0.3 and 0; with a tenth of misses and of alarms in one frame precision and recall of false
positives are 0.91 / 1.00, 0.98 / 1.00 and 0.98 / 1.00, of misses 0.85 / 0.98, 0.93 / 0.99 and 0.94 / 0.98. Its price:
of detections that lie beside their object (IoU 0.2 to 0.45) in one frame 99, 62 and 1 % are called false positives,
and at 0 an object near another of its class is never a candidate. Detections of other classes do not count: they may
be the error. It does not say how it clusters. Here a cluster is a connected component of "same frame, same class, IoU
> θ", and its box the mean of its members: that needs no order of the boxes (a greedy choice would need one, and moved
boxes have no score of their own to give it), and the same boxes in another order give the same clusters.
Fails when: many small steps make a chain from one object to its neighbour (rows of parked cars at a low θ): the
component is then one candidate, whose mean box lies between them.

Boxes of one frame and class are compared only where their x intervals overlap, in blocks of pairs: the time grows with
the number of such pairs, the memory with the boxes and the links. A box without area overlaps nothing: such a detection
has no links, and a moved box without area counts as gone.

Worked by hand: frames 0, 1, 2; an object 10 wide moves by 2, is found in 0 and 1 and lost in 2. Detection 0 moved into
frame 1 is detection 1: linked. Moved into frame 2 the two lie at 4 and 5, IoU 9 / 11: one candidate, at 4.5.

>>> boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10]], np.float32)
>>> image = np.array([[-1, -1, 1, 2], [-1, 0, 2, -1]])
>>> moved = np.zeros((2, 4, 4), np.float32)
>>> moved[0, 2:] = [[2, 0, 12, 10], [4, 0, 14, 10]]
>>> moved[1, 1:3] = [[0, 0, 10, 10], [5, 0, 15, 10]]
>>> graph = link(np.array([0, 1, 2, 2]), boxes, np.zeros(2, np.int64), Tracks(image, moved))
>>> graph.links.tolist(), graph.candidate_image.tolist(), graph.candidate_boxes.tolist()
([[0, 1], [0, 2], [1, 2]], [2], [[4.5, 0.0, 14.5, 10.0]])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from labelwise.types import LabelwiseError, Tracks, image_of
from labelwise.types.overlap import iou_pairs

PAIRS = 1 << 21
"""Pairs of boxes compared at a time."""

Pairs = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Nodes 0 to n_detections - 1 are the detections, the next ones the candidates, which are sorted by image.

    `links` holds each pair of linked nodes once, the lower number first, in rising order.
    """

    n_detections: int
    candidate_image: Int64[np.ndarray, " c"]
    candidate_boxes: Float32[np.ndarray, "c 4"]
    candidate_labels: Int64[np.ndarray, " c"]
    links: Int64[np.ndarray, "m 2"]

    def __len__(self) -> int:
        return self.n_detections + len(self.candidate_image)


def link(
    offsets: Int64[np.ndarray, " images+1"],
    boxes: Float32[np.ndarray, "n 4"],
    labels: Int64[np.ndarray, " n"],
    tracks: Tracks,
    *,
    theta: float = 0.5,
    candidate_overlap: float = 0.3,
) -> Graph:
    """The detections of a pool, the candidates between them, and their links.

    Args:
        offsets: rows `offsets[i]:offsets[i + 1]` are the detections of image i.
        boxes: of the detections.
        labels: their classes.
        tracks: where each detection is in the frames around its own.
        theta: boxes that overlap by a larger IoU show the same object.
        candidate_overlap: a moved box that overlaps a detection of its frame and class by a larger IoU is no candidate,
            linked or not; from theta on: one that has no link is.

    Raises:
        LabelwiseError: a box that is not finite (row named), tracks of other detections or images, θ outside 0 to 1.
    """
    _check(offsets, boxes, labels, tracks, theta)
    if not 0 <= candidate_overlap < 1:
        raise LabelwiseError(f"candidate_overlap: expected an IoU from 0 to below 1, got {candidate_overlap}")
    n, image = len(boxes), image_of(offsets)
    row, column = np.nonzero((tracks.image >= 0) & (tracks.boxes[..., 2:] > tracks.boxes[..., :2]).all(axis=2))
    moved, where = tracks.boxes[row, column], tracks.image[row, column]
    kinds, kind = np.unique(labels, return_inverse=True)  # the group of a box: its frame and class
    group = np.concatenate([image, where]) * len(kinds) + np.concatenate([kind, kind[row]])
    group = np.unique(group, return_inverse=True)[1]
    found = [np.zeros(0, np.int64)]
    for at, other in _between(group[n:], moved, group[:n], boxes, theta):
        one = row[at]
        found.append(_distinct(np.minimum(one, other) * n + np.maximum(one, other)))
    joined = np.stack(np.divmod(_distinct(np.concatenate(found)), max(n, 1)), axis=1)
    left = ~_met(joined, image, tracks.image)[row, column]
    if candidate_overlap < theta:  # from theta on the two are linked
        for at, _ in _between(group[n:], moved, group[:n], boxes, candidate_overlap):
            left[at] = False
    row, moved, where, group = row[left], moved[left], where[left], group[n:][left]

    order = np.argsort(group, kind="stable")  # by frame, then class, then detection
    row, moved, where, group = row[order], moved[order], where[order], group[order]
    cluster = _components(len(row), _within(group, moved, theta))
    first, size = np.unique(cluster, return_index=True)[1], np.bincount(cluster)
    mean = np.stack([np.bincount(cluster, column.astype(np.float64)) for column in moved.T], axis=1) / size[:, None]
    spurs = _distinct(row * max(len(size), 1) + cluster)
    spurs = np.stack(np.divmod(spurs, max(len(size), 1)), axis=1) + np.array([0, n])
    links = np.concatenate([joined, spurs])
    links = links[np.lexsort((links[:, 1], links[:, 0]))]
    return Graph(n, where[first], mean.astype(np.float32), labels[row[first]], links)


def _distinct(values: np.ndarray) -> np.ndarray:
    """Sorted, each once: np.unique hashes integers, which takes several times as long on millions."""
    values = np.sort(values)
    first = np.ones(len(values), np.bool_)
    first[1:] = values[1:] != values[:-1]
    return values[first]


def _met(joined: np.ndarray, image: np.ndarray, tracked: np.ndarray) -> np.ndarray:
    """[n, 2k]: whether the detection has a link into that frame."""
    met = np.zeros(tracked.shape, np.bool_)
    for start in range(0, len(joined), PAIRS):
        one, other = joined[start : start + PAIRS].T
        for a, b in ((one, other), (other, one)):
            for column in range(tracked.shape[1]):
                met[a[tracked[a, column] == image[b]], column] = True
    return met


def _components(n: int, pairs: Pairs) -> Int64[np.ndarray, " n"]:
    """The connected component of each of n boxes, numbered by their first boxes; joins block after block."""
    cluster = np.arange(n)
    for i, j in pairs:
        size = int(cluster.max()) + 1
        graph = coo_array((np.ones(len(i), np.int8), (cluster[i], cluster[j])), shape=(size, size))
        cluster = connected_components(graph, directed=False)[1][cluster]
    first, number = np.unique(cluster, return_index=True, return_inverse=True)[1:]
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]


def _between(a_group: np.ndarray, a: np.ndarray, b_group: np.ndarray, b: np.ndarray, theta: float) -> Pairs:
    """All rows (i of a, j of b) of one group with IoU > theta.

    Of two x intervals that overlap one begins inside the other: first those where b does, then those where a does.
    """
    a_order, a_key, a_end = _by_left_edge(a_group, a)
    b_order, b_key, b_end = _by_left_edge(b_group, b)
    for i, j in _ranges(np.searchsorted(b_key, a_key, "left"), np.searchsorted(b_key, a_end, "left")):
        yield _similar(a, a_order[i], b, b_order[j], theta)
    for j, i in _ranges(np.searchsorted(a_key, b_key, "right"), np.searchsorted(a_key, b_end, "left")):
        yield _similar(a, a_order[i], b, b_order[j], theta)


def _within(group: np.ndarray, a: np.ndarray, theta: float) -> Pairs:
    """All pairs of rows of one group with IoU > theta, each once."""
    order, key, end = _by_left_edge(group, a)
    for i, j in _ranges(np.arange(1, len(key) + 1), np.searchsorted(key, end, "left")):
        yield _similar(a, order[i], a, order[j], theta)


def _by_left_edge(group: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order by (group, x1), and in that order (group, x1) and (group, x2) as integers that compare like them.

    The bits of a float32 as an integer rise with the number where it is positive, and fall where it is negative.
    """
    edges = np.ascontiguousarray(boxes[:, 0::2] + np.float32(0)).view(np.int32)  # + 0: no negative zero
    edges ^= (edges >> 31) & np.int32(0x7FFFFFFF)
    keys = (group[:, None] << 32) + (edges.astype(np.int64) + 2**31)
    order = np.argsort(keys[:, 0], kind="stable")
    return order, keys[order, 0], keys[order, 1]


def _ranges(start: np.ndarray, stop: np.ndarray) -> Pairs:
    """All (i, j) with start[i] <= j < stop[i], in blocks of about PAIRS."""
    count = np.maximum(stop - start, 0)
    ends = np.cumsum(count)
    low = 0
    while low < len(count):
        before = ends[low] - count[low]
        high = max(low + 1, int(np.searchsorted(ends, before + PAIRS, "right")))
        part = count[low:high]
        i = np.repeat(np.arange(low, high), part)
        j = np.arange(len(i)) + np.repeat(start[low:high] - (ends[low:high] - part - before), part)
        if len(i):
            yield i, j
        low = high


def _similar(a: np.ndarray, i: np.ndarray, b: np.ndarray, j: np.ndarray, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Those of the pairs of rows (i of a, j of b) with IoU > theta, in float64."""
    tall = np.minimum(a[i, 3], b[j, 3]) > np.maximum(a[i, 1], b[j, 1])
    i, j = i[tall], j[tall]
    same = np.flatnonzero(iou_pairs(a[i], b[j]) > theta)
    return i[same], j[same]


def _check(offsets: np.ndarray, boxes: np.ndarray, labels: np.ndarray, tracks: Tracks, theta: float) -> None:
    n = len(boxes)
    if not 0 <= theta < 1:
        raise LabelwiseError(f"theta: expected an IoU from 0 to below 1, got {theta}")
    if boxes.shape != (n, 4) or labels.shape != (n,) or len(tracks) != n or offsets[0] != 0 or offsets[-1] != n:
        raise LabelwiseError(
            f"expected boxes [n, 4], labels [n], tracks of n boxes and offsets from 0 to n; got {boxes.shape}, "
            f"{labels.shape}, {len(tracks)} and {offsets[0]} to {offsets[-1]}; take all of them from one prediction"
        )
    if boxes.dtype != np.float32 or not np.issubdtype(labels.dtype, np.integer):
        raise LabelwiseError(
            f"expected boxes of float32 and labels that are integers, got {boxes.dtype}, {labels.dtype}"
        )
    bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    if len(bad):
        raise LabelwiseError(f"boxes: row {bad[0]} is not finite ({boxes[bad[0]]}); the model may have diverged")
    images = len(offsets) - 1
    wrong = np.argwhere((tracks.image >= images) | (tracks.image == image_of(offsets)[:, None]))
    if len(wrong):
        row, column = wrong[0]
        raise LabelwiseError(
            f"tracks: box {row}, column {column} lies in image {tracks.image[row, column]}; expected another than its "
            f"own, below {images}. Compute the tracks for these detections"
        )
