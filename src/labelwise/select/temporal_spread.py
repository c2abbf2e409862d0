"""Temporal spread: the highest scores, yet no frame near a labelled or picked one, and of every video equally many.

Source: 001, section 2.5.2, "Random+R": "temporal representativeness, which prevents selecting the k neighbors in both
directions of already labeled frames", and "per-video sampling", which section 2.6.1 includes for all methods. With
the score `random` it is Random+R.
Differs from the paper: it does not say how videos share a budget; here the best frame of every video comes first (by
its score), then the second best of every video, and so on. Neighbours count in frames of the pool. When no other frame
is left, those near labelled or picked ones follow, by their score.
Fails when: videos differ in what they are worth: a dull one gets as many picks as a rich one (`per_video=False`).

Equal scores: the lower row first.

Worked by hand: frames 0 to 3 of video 0, frames 4 and 5 of video 1. Best of video 0 is frame 1 (0.9), which shuts out
frames 0 and 2; frame 3 (0.1) is its second. Frame 5 (0.6) is the best of video 1 and shuts out frame 4.

>>> scores, videos = np.array([0.8, 0.9, 0.7, 0.1, 0.5, 0.6]), np.array([0, 0, 0, 0, 1, 1])
>>> select(scores, np.arange(6), videos, np.zeros(0, int), 4, exclude=1).tolist()
[1, 5, 3, 0]
>>> select(scores, np.arange(6), videos, np.array([1]), 2, exclude=1).tolist()  # frame 1 is labelled already
[5, 3]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from labelwise.select._order import check, significant
from labelwise.types import LabelwiseError

PREFIX_STABLE = True
"""The first picks are the same for every budget."""


def select(
    scores: Float[np.ndarray, " n"],
    image: Int[np.ndarray, " n"],
    videos: Int[np.ndarray, " images"],
    labelled_images: Int[np.ndarray, " l"],
    budget: int,
    *,
    exclude: int = 3,
    per_video: bool = True,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, in the order in which they are to be asked.

    Args:
        scores: informativeness.
        image: pool number of the frame, each once.
        videos: video of every frame of the pool; the frames of a video have numbers that follow each other.
        labelled_images: pool numbers of the frames that are labelled.
        budget: how many rows to pick.
        exclude: how many neighbours on either side a labelled or picked frame shuts out; 0: none.
        per_video: whether videos take turns; if not, all frames compete by score alone.
        explain: return the score, the turn (0: the best of its video) and whether the frame was shut out, too.

    Raises:
        LabelwiseError: a score that is not finite or a frame that stands there twice (row named), a negative setting.
    """
    k = check(scores, budget)
    _check(scores, image, videos, labelled_images, exclude)
    order = np.lexsort((np.arange(len(scores)), -significant(scores)))
    rank = np.empty(len(scores), np.int64)
    rank[order] = np.arange(len(scores))
    free = _free(order, image, videos, labelled_images, exclude)
    turn = _turn(rank, videos[image], free) if per_video else np.zeros(len(scores), np.int64)
    rows = np.lexsort((rank, np.where(free, turn, 0), ~free))[:k].astype(np.int64)
    if not explain:
        return rows
    return rows, {
        "score": scores[rows].astype(np.float64),
        "turn": turn[rows].astype(np.float64),
        "near_another": (~free[rows]).astype(np.float64),
    }


def explain(near_another: Float64[np.ndarray, " k"]) -> list[str]:
    """That no frame near it is labelled or picked, if so."""
    return ["" if near else "No frame near it is labelled or picked." for near in near_another.tolist()]


def _free(order: np.ndarray, image: np.ndarray, videos: np.ndarray, labelled: np.ndarray, exclude: int) -> np.ndarray:
    """The frames that a greedy choice in this order takes, each shutting out its neighbours.

    A plain loop, over bytes: 0.1 s for 129,000 frames whatever their order, where sweeps of local maxima are quadratic
    for scores that fall along a video.
    """
    free = np.zeros(len(order), bool)
    at = (
        np.arange(len(videos)) + (videos + 1) * exclude
    )  # on one line, where frames of different videos are out of reach
    shut = bytearray(int(at[-1]) + exclude + 1 if len(at) else 0)
    reach = bytes([1]) * (2 * exclude + 1)
    for place in at[labelled].tolist():
        shut[place - exclude : place + exclude + 1] = reach
    for row, place in zip(order.tolist(), at[image[order]].tolist(), strict=True):
        if not shut[place]:
            free[row] = True
            shut[place - exclude : place + exclude + 1] = reach
    return free


def _turn(rank: np.ndarray, video: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Which of its video's free frames each is, from 0, by rank."""
    turn = np.zeros(len(rank), np.int64)
    rows = np.flatnonzero(free)
    order = rows[np.lexsort((rank[rows], video[rows]))]
    first = np.append(True, np.diff(video[order]) != 0)[: len(order)]
    begins = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    turn[order] = np.arange(len(order)) - begins
    return turn


def _check(scores: np.ndarray, image: np.ndarray, videos: np.ndarray, labelled: np.ndarray, exclude: int) -> None:
    if exclude < 0:
        raise LabelwiseError(f"temporal_spread: exclude is {exclude}; expected a number of frames >= 0")
    if image.shape != scores.shape:
        raise LabelwiseError(f"image: expected {scores.shape} numbers, got {image.shape}")
    for name, column in (("image", image), ("labelled_images", labelled)):
        bad = np.flatnonzero((column < 0) | (column >= len(videos)))
        if len(bad):
            raise LabelwiseError(f"{name}: row {bad[0]} is {column[bad[0]]}; expected 0 to {len(videos) - 1}")
    bad = np.flatnonzero(np.diff(videos) < 0)
    if len(bad):
        raise LabelwiseError(f"videos: frame {bad[0] + 1} is of a video before that of frame {bad[0]}; sort them")
    seen, count = np.unique(image, return_counts=True)
    if (count > 1).any():
        row = np.flatnonzero(image == seen[count > 1][0])[1]
        raise LabelwiseError(f"image: row {row} is frame {image[row]}, as is an earlier row")
