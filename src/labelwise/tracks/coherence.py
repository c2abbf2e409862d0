"""Which detections are likely false alarms, and where objects were likely missed: what nearby frames do not bear out.

Source: 001, section 2.3.2, Eq. 2.1 to 2.4. Detections and candidates (links.py) are nodes that say "an object is here"
(a true positive, a missed object: FN) or "none is" (a false positive, a true negative); a detection pays `cost_fp` to
say none, a candidate pays `cost_fn` to say there is one, a link pays `cost_link` where its ends disagree, and the
labelling that costs least is found exactly (cut.py).
Differs from the paper: the three costs are settings (there all are 1); ties, which are frequent then, have a rule;
and what is known of labelled frames is not estimated (clamps.py).
Ties fall to the detector (`ties`): of all labellings that cost least, this is the one with the fewest false
positives, and of those the one with the fewest missed objects. There is exactly one such, and no frame earns its
place by a coin toss: a detection that is linked to one candidate alone costs 1 as a false positive, as a true one
beside a true negative, and as a true one beside a miss; nothing is reported. (A cut by itself returns an extreme: a
false positive, or a miss.) Its effect on the ranking of frames (Spearman's correlation of estimated with true errors,
a tenth of misses and alarms in one frame, benchmarks/results/coherence_rules.csv): with k = 3 0.988, 0.988 and 0.985
for false positives by "detector", "present" and "absent", for misses 0.969, 0.936 and 0.969. With k = 1 a lone miss
between two detections is a tie: "present" finds 98 % of them at a precision of 0.94 (correlation 0.968), "detector"
78 % at 1.00 (0.877).
Fails when: an object shows for a short time. With all costs 1, a run of up to 2k - 1 frames in the middle of a video
(k: frames tracked either way) costs less as false positives than its 2k candidates before and after do. Where a longer
run begins or ends while the tracker still follows it (an occlusion), k - 1 frames beyond that end get a miss each.

Worked by hand, k = 2. Video one, five frames: the object is found in all but the third. The candidate there has four
links: a miss costs 1, no miss 4. Video two, three frames: one detection, in the second. True, it pays 1 for each of its
two candidates, be they misses or broken links; as a false positive it pays 1. Together 2.

>>> image = np.array([[-1, -1, 1, 2], [-1, 0, 2, 3], [1, 2, 4, -1], [2, 3, -1, -1], [-1, 5, 7, -1]])
>>> boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (5, 1))
>>> moved = np.where(image[..., None] >= 0, boxes[:, None], 0).astype(np.float32)
>>> offsets = np.array([0, 1, 2, 2, 3, 4, 4, 5, 5])
>>> found = estimate(offsets, boxes, np.zeros(5, np.int64), Tracks(image, moved))
>>> found.false_positive.tolist(), found.candidates.image.tolist(), found.false_negative.tolist(), found.energy
([False, False, False, False, True], [2, 5, 7], [True, False, False], 2.0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64

from labelwise.tracks.clamps import Known, clamps
from labelwise.tracks.cut import minimum_cut
from labelwise.tracks.links import Graph, link
from labelwise.types import Boxes, LabelwiseError, Tracks, image_of

Ties = Literal["detector", "present", "absent"]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """The estimated errors of a detector on a pool.

    A detection is a false or a true positive, a candidate a false (missed) or a true negative. `links` are pairs of
    nodes: the detections, then the candidates. `fp` and `fn` are the counts per image, `energy` the least cost.
    """

    false_positive: Bool[np.ndarray, " n"]
    candidates: Boxes
    false_negative: Bool[np.ndarray, " c"]
    links: Int64[np.ndarray, "m 2"]
    fp: Int64[np.ndarray, " images"]
    fn: Int64[np.ndarray, " images"]
    energy: float


def estimate(
    offsets: Int64[np.ndarray, " images+1"],
    boxes: Float32[np.ndarray, "n 4"],
    labels: Int64[np.ndarray, " n"],
    tracks: Tracks,
    *,
    theta: float = 0.5,
    candidate_overlap: float = 0.3,
    cost_fp: float = 1.0,
    cost_fn: float = 1.0,
    cost_link: float = 1.0,
    ties: Ties = "detector",
    known: Known | None = None,
) -> Estimate:
    """The false positives and the missed objects that make the detections of nearby frames agree at least cost.

    Args:
        offsets: rows `offsets[i]:offsets[i + 1]` are the detections of image i.
        boxes: of the detections.
        labels: their classes.
        tracks: where each detection is in the frames around its own.
        theta: boxes that overlap by a larger IoU show the same object.
        candidate_overlap: a moved box that overlaps a detection of its class by a larger IoU is no candidate.
        cost_fp: of calling a detection a false positive (Eq. 2.2).
        cost_fn: of calling a candidate a missed object (Eq. 2.3).
        cost_link: of a link whose ends disagree (Eq. 2.4).
        ties: which of several labellings that cost least, by the errors that it has: "detector" the fewest false
            positives, and then the fewest misses; "present" the fewest false positives and the most misses; "absent"
            the most false positives and the fewest misses.
        known: what answers tell of the nodes.

    Raises:
        LabelwiseError: what links.py and cut.py refuse; a cost that is negative or not finite.
    """
    for name, cost in (("cost_fp", cost_fp), ("cost_fn", cost_fn), ("cost_link", cost_link)):
        if not (math.isfinite(cost) and cost >= 0):
            raise LabelwiseError(f"{name}: expected a finite cost from 0 on, got {cost}")
    if ties not in get_args(Ties):
        raise LabelwiseError(f"ties: {ties!r} is none of {', '.join(get_args(Ties))}")
    graph = link(offsets, boxes, labels, tracks, theta=theta, candidate_overlap=candidate_overlap)
    n, images = len(boxes), len(offsets) - 1
    clamped = None if known is None else clamps(graph, known)
    there = label(graph, cost_fp, cost_fn, cost_link, ties, clamped)
    false_positive, false_negative = ~there[:n], there[n:]
    broken = int(np.count_nonzero(there[graph.links[:, 0]] != there[graph.links[:, 1]]))
    counts = int(np.count_nonzero(false_positive)), int(np.count_nonzero(false_negative))
    return Estimate(
        false_positive,
        Boxes.from_rows(graph.candidate_image, graph.candidate_boxes, graph.candidate_labels, images),
        false_negative,
        graph.links,
        np.bincount(image_of(offsets)[false_positive], minlength=images),
        np.bincount(graph.candidate_image[false_negative], minlength=images),
        counts[0] * cost_fp + counts[1] * cost_fn + broken * cost_link,
    )


def label(
    graph: Graph,
    cost_fp: float,
    cost_fn: float,
    cost_link: float,
    ties: Ties = "detector",
    clamped: Int8[np.ndarray, " nodes"] | None = None,
) -> Bool[np.ndarray, " nodes"]:
    """Whether each node says that an object is there; `clamped` nodes (1 or 0, not -1) say what they must."""
    n = graph.n_detections
    unary_true, unary_false = np.zeros(len(graph)), np.zeros(len(graph))
    unary_false[:n], unary_true[n:] = cost_fp, cost_fn
    if clamped is not None:
        degree = np.bincount(graph.links.ravel(), minlength=len(graph))
        most = np.ceil(cost_fp + cost_fn + cost_link * degree) + 1  # more than all else that hangs on a node
        unary_true[clamped == 0], unary_false[clamped == 1] = most[clamped == 0], most[clamped == 1]
    if ties == "absent":
        return ~minimum_cut(unary_false, unary_true, graph.links, cost_link)
    there = minimum_cut(unary_true, unary_false, graph.links, cost_link)
    if ties == "present":
        return there
    # The largest set of objects has the fewest false positives. Candidates have links to detections alone: given
    # these, each costs least by itself, and is a miss only where that is strictly cheaper.
    links = graph.links[graph.links[:, 1] >= n]
    surplus = np.bincount(links[:, 1] - n, np.where(there[links[:, 0]], 1, -1), len(graph) - n)
    free = np.ones(len(graph) - n, np.bool_) if clamped is None else clamped[n:] < 0
    missed = np.zeros(len(surplus), np.bool_)
    if cost_link:
        missed = surplus > math.floor(Fraction(repr(float(cost_fn))) / Fraction(repr(float(cost_link))))
    there[n:] = np.where(free, missed, there[n:])
    return there
