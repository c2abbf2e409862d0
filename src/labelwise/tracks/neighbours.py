"""Which frames are looked at where not every frame may be asked: those, and the ones around them that tracks need.

Source: our own; 001, section 2.3.2, tracks over every frame of a video and may ask about each.

Asking is thinned (`query.every_frames`), tracking is not: detections, flow, links and the k neighbours on either side
are of the film's own frames. What the graph says of a frame hangs on its detections, on its candidates, which come
from detections within k frames, and on the links of these in turn. `reach(k)` frames on either side of every frame
that may be asked are predicted, k and at least 2, and tracks end where they leave these frames: one that nobody
looked at is no frame without objects. The nodes of a frame that may be asked thus have all their links; those at the
rim of its stretch lack some.
Differs from predicting all frames, on 60 clips of drone_video_dev with a tenth of the boxes missed and as many false
alarms (benchmarks/results/coherence_rate.csv): with k = 3, where every fifth frame may be asked nothing is left out;
of every tenth 70 % of the frames are predicted, and of 2,078 verdicts on detections 7 differ (precision of estimated
false positives 0.953 in place of 0.966, recall of misses 0.982 in place of 0.987); of every twentieth 35 %, 3 of
1,073 differ. Twice that reach costs all frames and 65 % there, and none differs. With k = 1 a reach of 1 would not
do, since the next frame alone can be a miss (precision 0.90 in place of 0.99 at every tenth frame); with 2 it is
0.99, at half of the frames, and no verdict differs.
Fails when: a run of false alarms is longer than the reach, of which the graph then sees a part.

Frames 0 to 6 of one video and two of another; 0 and 7 may be asked, two frames on either side are looked at:

>>> around(np.array([0, 0, 0, 0, 0, 0, 0, 1, 1]), np.arange(9) % 7 == 0, 2).tolist()
[True, True, True, False, False, False, False, True, True]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

from labelwise.types import LabelwiseError

LEAST = 2
"""Frames that are looked at on either side of one that may be asked, however short the tracks are."""


def reach(frames: int) -> int:
    """How many frames on either side of one that may be asked are looked at, for tracks of so many frames.

    >>> reach(1), reach(3)
    (2, 3)
    """
    return max(LEAST, frames)


def around(
    video: Int64[np.ndarray, " images"], centres: Bool[np.ndarray, " images"], frames: int
) -> Bool[np.ndarray, " images"]:
    """The images within so many of one of `centres` in its own video, these included.

    Args:
        video: number of every image's video, rising.
        centres: around which images.
        frames: how many on either side.
    """
    if frames < 0:
        raise LabelwiseError(f"frames: expected 0 or more, got {frames}")
    before = np.concatenate([[0], np.cumsum(centres)])
    place = np.arange(len(video))
    first, end = np.searchsorted(video, video, "left"), np.searchsorted(video, video, "right")
    found: np.ndarray = before[np.minimum(place + frames + 1, end)] > before[np.maximum(place - frames, first)]
    return found


def pairs(video: Int64[np.ndarray, " images"], wanted: Bool[np.ndarray, " images"]) -> int:
    """How many pairs of neighbouring frames have both of them among the wanted ones.

    >>> pairs(np.array([0, 0, 0, 1, 1]), np.array([True, True, False, True, True]))
    2
    """
    return int(np.count_nonzero(wanted[1:] & wanted[:-1] & (np.diff(video) == 0)))
