"""The gallery (000, figure 4): picks in cyan, solid; pseudo labels in red, dashed; each with its class.

Images become JPEG data URIs; boxes stay vectors over them, so that they are sharp on screen and on paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.report.results import GalleryItem
from labelwise.report.spread import Group
from labelwise.report.svg import as_jpeg, short
from labelwise.report.wording import plural

LONGEST_SIDE_PX = 640
MOST_IMAGES = 24
ROW = 3
MOST_BYTES = 3_000_000
MARKS = {"object": "✓ ", "all": "✓ ", "background": "✗ ", "duplicate": "= ", "skipped": "? "}
CHIP_SHARE = 0.036
"""Height of the letters as a share of the image's width (about 12 px in a card of 340 px)."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A label beside its box."""

    x: float
    y: float
    w: float
    h: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One box of the picture; `kind` is "pick", "pseudo" or "truth"; `title` is read out and shown on hover."""

    kind: str
    x: float
    y: float
    w: float
    h: float
    title: str
    opacity: float = 1.0
    chip: Chip | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One card of the gallery."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Gallery:
    """The pictures of one run; `left_out` tells of those that did not fit on the page."""

    name: str
    pictures: Sequence[Picture]
    left_out: str


def galleries(groups: Sequence[Group]) -> list[Gallery]:
    """Of every name the first seed that has a gallery, within one limit on images and bytes for the page."""
    found = [next(((g.name, r.gallery) for r in g.runs if r.gallery), None) for g in groups]
    chosen = [f for f in found if f]
    share = max(ROW, MOST_IMAGES // max(len(chosen), 1) // ROW * ROW)
    left = MOST_BYTES
    out = []
    for number, (name, items) in enumerate(chosen):
        allowed = left // (len(chosen) - number)
        pictures: list[Picture] = []
        for item in items[:share]:
            shown = picture(item)
            if len(shown.uri) > allowed:
                break
            allowed -= len(shown.uri)
            left -= len(shown.uri)
            pictures.append(shown)
        hidden = len(items) - len(pictures)
        left_out = f"{plural(hidden, 'more image')} left out to keep this file small." if hidden else ""
        out.append(Gallery(name, pictures, left_out))
    return out


def picture(item: GalleryItem) -> Picture:
    """Truth first, picks last, so that picks lie on top; picks get their label's place first."""
    height, width = item.image.shape[:2]
    letters = max(width, height * 0.5) * CHIP_SHARE
    small = letters * 0.8
    taken: list[Chip] = []
    picks = [
        _mark(
            "pick",
            box,
            (width, height, letters),
            f"{MARKS.get(verdict, '')}{label}",
            _pick_title(label, verdict),
            taken,
        )
        for box, label, verdict in zip(item.pick_boxes, item.pick_labels, item.pick_verdicts, strict=True)
    ]
    pseudo = [
        _mark(
            "pseudo",
            box,
            (width, height, small),
            label,
            f"pseudo label: {label}, classification weight {weight:.2f}",
            taken,
            opacity=0.5 + 0.5 * float(np.clip(weight, 0, 1)),
        )
        for box, label, weight in zip(item.pseudo_boxes, item.pseudo_labels, item.pseudo_w_cls, strict=True)
    ]
    boxes = np.zeros((0, 4)) if item.truth_boxes is None else item.truth_boxes
    truth = [
        _mark("truth", box, (width, height, letters), "", f"ground truth: {label}", taken)
        for box, label in zip(boxes, item.truth_labels, strict=True)
    ]
    return Picture(
        as_jpeg(item.image, LONGEST_SIDE_PX), width, height, _alt(item), item.caption, [*truth, *pseudo, *picks]
    )


def _pick_title(label: str, verdict: str) -> str:
    return f"pick: {label}, answer: {verdict or 'none yet'}"


def _alt(item: GalleryItem) -> str:
    kinds = Counter(v or "no answer yet" for v in item.pick_verdicts)
    verdicts = f" ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})" if kinds else ""
    names = ", ".join(dict.fromkeys(item.pick_labels))
    of = f" of {names}" if names else ""
    pseudo = plural(len(item.pseudo_labels), "pseudo label")
    return f"{item.caption or 'Image'}: {plural(len(item.pick_labels), 'pick')}{of}{verdicts}, {pseudo}."


def _mark(
    kind: str,
    box: np.ndarray,
    frame: tuple[int, int, float],
    text: str,
    title: str,
    taken: list[Chip],
    *,
    opacity: float = 1.0,
) -> Mark:
    x, y, w, h = (round(float(v), 1) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
    chip = _place(x, y, w, h, short(text, 28), frame, taken, always=kind == "pick") if text else None
    return Mark(kind, x, y, w, h, title, round(opacity, 2), chip)


def _place(
    x: float, y: float, w: float, h: float, text: str, frame: tuple[int, int, float], taken: list[Chip], *, always: bool
) -> Chip | None:
    """At a corner of the box where it covers no other label; a pick's label is shown in any case."""
    width, height, letters = frame
    cw, ch = letters * (_ems(text) + 0.6), letters * 1.35
    corners = [(x, y - ch), (x, y), (x, y + h), (x, y + h - ch), (x + w - cw, y - ch), (x + w - cw, y + h)]
    chips = []
    for cx, cy in corners:
        inside = (min(max(cx, 0.0), max(width - cw, 0.0)), min(max(cy, 0.0), max(height - ch, 0.0)))
        chips.append(Chip(round(inside[0], 1), round(inside[1], 1), round(cw, 1), round(ch, 1), text))
    free = next((c for c in chips if not any(_overlap(c, t) for t in taken)), chips[0] if always else None)
    if free:
        taken.append(free)
    return free


def _ems(text: str) -> float:
    """Roughly how wide the text is in a bold sans-serif font."""
    return sum(0.4 if c in "iljtfrI.,:;' " else 0.8 if c.isupper() or not c.isascii() else 0.66 for c in text)


def _overlap(a: Chip, b: Chip) -> bool:
    return a.x < b.x + b.w and b.x < a.x + a.w and a.y < b.y + b.h and b.y < a.y + a.h
