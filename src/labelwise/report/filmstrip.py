"""Filmstrips (001, figure 2.3): a picked frame among its neighbours, with what the graph says of every box.

Detections are red; those that the graph calls false positives purple, with a cross; objects that it says were missed
green and dashed, with a plus; ground truth, where known, yellow and dotted. Thin lines join the boxes that are linked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, UInt8

from labelwise.report.svg import as_jpeg
from labelwise.report.wording import plural
from labelwise.types import LabelwiseError

FRAME_PX = 320
"""Width of a frame in the strip."""
GAP_PX = 10
MOST_BYTES = 3_000_000
TITLES = {
    "detection": "detection",
    "false_positive": "estimated false positive",
    "false_negative": "estimated missed object",
    "truth": "ground-truth box",
}
SIGNS = {"false_positive": "✗", "false_negative": "+"}


@dataclass(frozen=True, slots=True, eq=False)
class FilmFrame:
    """One frame; boxes are xyxy in pixels of `image`, and `kinds` says what each is (a key of TITLES)."""

    image: UInt8[np.ndarray, "H W 3"]
    caption: str
    boxes: Float32[np.ndarray, "n 4"]
    kinds: Sequence[str]
    labels: Sequence[str]
    is_pick: bool = False

    def __post_init__(self) -> None:
        n = len(self.kinds)
        if self.boxes.shape != (n, 4) or len(self.labels) != n or set(self.kinds) - set(TITLES):
            raise LabelwiseError(
                f"FilmFrame {self.caption!r}: {self.boxes.shape} boxes, {n} kinds {sorted(set(self.kinds))} and "
                f"{len(self.labels)} labels; expected as many of each, kinds of {', '.join(TITLES)}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A picked frame and its neighbours, in order of time. `links`: (frame, box, frame, box), numbers in `frames`."""

    caption: str
    frames: Sequence[FilmFrame]
    links: Sequence[tuple[int, int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Still:
    """A frame where it stands in the strip."""

    uri: str
    x: float
    width: float
    height: float
    caption: str
    is_pick: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """A box where it stands in the strip."""

    kind: str
    x: float
    y: float
    w: float
    h: float
    title: str
    sign: str


@dataclass(frozen=True, slots=True)
class Strip:
    """One strip as the page draws it; `lines` are x1, y1, x2, y2."""

    caption: str
    alt: str
    width: float
    height: float
    stills: Sequence[Still]
    boxes: Sequence[Frame]
    lines: Sequence[tuple[float, float, float, float]]


def strips(films: Sequence[Film], most_bytes: int = MOST_BYTES) -> list[Strip]:
    """The films as far as they fit on the page."""
    found: list[Strip] = []
    for film in films:
        one = strip(film)
        most_bytes -= sum(len(still.uri) for still in one.stills)
        if most_bytes < 0:
            break
        found.append(one)
    return found


def strip(film: Film) -> Strip:
    """Frames side by side, all equally wide."""
    stills, boxes, places = list[Still](), list[Frame](), list[np.ndarray]()
    for number, frame in enumerate(film.frames):
        height, width = frame.image.shape[:2]
        scale, left = FRAME_PX / width, number * (FRAME_PX + GAP_PX)
        uri = as_jpeg(frame.image, FRAME_PX)
        stills.append(Still(uri, left, FRAME_PX, round(height * scale, 1), frame.caption, frame.is_pick))
        at = frame.boxes.astype(np.float64) * scale + np.array([left, 0, left, 0])
        places.append(at)
        for (x1, y1, x2, y2), kind, label in zip(at.round(1).tolist(), frame.kinds, frame.labels, strict=True):
            sizes = round(x2 - x1, 1), round(y2 - y1, 1)
            boxes.append(Frame(kind, x1, y1, *sizes, f"{TITLES[kind]}: {label}", SIGNS.get(kind, "")))
    lines = []
    for a, box_a, b, box_b in film.links:
        ends = [(places[f][i, :2] + places[f][i, 2:]) / 2 for f, i in ((a, box_a), (b, box_b))]
        x1, y1, x2, y2 = (round(float(v), 1) for v in (*ends[0], *ends[1]))
        lines.append((x1, y1, x2, y2))
    height = max((still.height for still in stills), default=0.0)
    width = max(len(stills) * (FRAME_PX + GAP_PX) - GAP_PX, 1)
    return Strip(film.caption, _alt(film), width, height, stills, boxes, lines)


def _alt(film: Film) -> str:
    kinds = [kind for frame in film.frames for kind in frame.kinds]
    parts = [plural(kinds.count(kind), title) for kind, title in TITLES.items() if kinds.count(kind)]
    return f"{film.caption}: {plural(len(film.frames), 'frame')} with {', '.join(parts) or 'no box'}."
