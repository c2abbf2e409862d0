"""A watch camera: mostly empty frames, objects that stay for several of them, few of the rare classes.

A camera goes round and looks at `places`, a frame at a time. Most frames are empty (`empty`). Now and then somebody
visits: 1 to 4 digits come in together and stay for `stay` frames, in which they move a little and the light changes, so
that the pool holds bursts of near-identical images. Visitors are the digits of `scenes`; their classes fall
geometrically, the first `imbalance` times more frequent than the last. Pen strokes that are no digit lie about in every
place, and others come and go with the frames, so that an empty frame is not simply a known picture.

The test split is made to measure with: other places, one image of each, other scans, classes balanced; half of the
images are empty, so that false alarms count. A labelled empty frame costs a look and brings little; a burst costs as
many looks as it has frames and brings little more than one.

The same settings and seed give the same files, bit for bit, with the same versions of NumPy and Pillow. A frame depends
on its place and its visit, not on the frames before it.

Source: none of the documents; the pool of label_efficiency.md, section 3, with bursts and places.
Differs from a real camera: the order of the frames is known (their names) and no label follows from it.
Fails when: an image is too small for its digits; a digit that finds no place in `_digits.TRIES` attempts is left out,
and a frame in which no visitor can be seen is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from labelwise.generated import _deck, _digits, backdrop
from labelwise.generated.annotation_file import AnnotationFile
from labelwise.types import LabelwiseError
from labelwise.types.disk import new_folder

TEST_EMPTY = 0.5
"""Share of the test images without an object."""
STEP = 0.03
"""How far a visitor goes from frame to frame, as a share of the image's side (standard deviation of each direction)."""
LIGHT = 0.06
"""How much brighter or darker a frame is than its place (standard deviation)."""

_PLACE, _VISIT, _FRAME, _PLAN, _DEAL = range(5)
"""What a generator of random numbers is for; the third number of its seed."""


@dataclass(frozen=True, slots=True, eq=False)
class _Visitor:
    """One digit of a visit: its ink, class and hue; where its centre is in the first frame, how far it goes in each."""

    ink: Float32[np.ndarray, "h w"]
    label: int
    hue: float | None
    centre: Float64[np.ndarray, " 2"]
    step: Float64[np.ndarray, " 2"]


@dataclass(frozen=True, slots=True)
class _Look:
    """What the drawing needs to know."""

    seed: int
    size_px: int
    scale: tuple[float, float]
    colour_cue: float


def write(
    root: Path,
    *,
    seed: int = 0,
    train: int = 1600,
    test: int = 240,
    size_px: int = 96,
    empty: float = 0.85,
    places: int = 80,
    classes: int = 6,
    imbalance: float = 20.0,
    digits: tuple[int, int] = (1, 4),
    stay: tuple[int, int] = (2, 4),
    scale: tuple[float, float] = (0.2, 0.45),
    colour_cue: float = 0.9,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the frames as a COCO data set with the splits `train` and `test`.

    `empty`: share of the pool's frames without a visit. `places`: how many the camera looks at. `digits`: fewest and
    most of a visit. `stay`: fewest and most frames of a visit. `imbalance`, `classes`, `scale`, `colour_cue`: as in
    `scenes.write`. `progress(1)` after each image.

    Raises:
        LabelwiseError: a setting that makes no sense, with what was expected.
    """
    _check(train, test, size_px, empty, places, classes, imbalance, digits, stay, scale, colour_cue)
    look, scans = _Look(seed, size_px, scale, colour_cue), _digits.scans(seed)
    fall, even = _deck.shares(classes, imbalance, None), np.full(classes, 1 / classes)
    with new_folder(root) as folder:
        (folder / "annotations").mkdir()
        for split, name, n, share in ((_digits.TRAIN, "train", train, fall), (_digits.TEST, "test", test, even)):
            (folder / name).mkdir()
            content, rng = AnnotationFile(_digits.CLASSES[:classes]), np.random.default_rng([seed, split, _PLAN])
            pool = split == _digits.TRAIN
            visits = timeline(rng, n, round((1 - (empty if pool else TEST_EMPTY)) * n), stay if pool else (1, 1))
            where, since = rooms(visits, places if pool else n)
            dealt = np.random.default_rng([seed, split, _DEAL])
            cast = list(_deck.deal(dealt, int(visits.max(initial=-1)) + 1, digits, None, share))
            for i in range(n):
                labels = cast[visits[i]] if visits[i] >= 0 else np.zeros(0, np.int64)
                scene = _frame(look, scans[split], (split, int(where[i]), int(visits[i]), i), labels, int(since[i]))
                file = f"place{where[i]:04d}_{i:05d}.jpg"
                noise = np.random.default_rng([seed, split, _FRAME, i, 1])
                _digits.photo(noise, scene.pixels).save(folder / name / file, quality=92)
                content.image(file, (size_px, size_px))
                for box, label in zip(scene.boxes, scene.labels, strict=True):
                    x1, y1, x2, y2 = map(float, box)
                    content.box((x1, y1, x2, y2), label, (x2 - x1) * (y2 - y1))
                if progress is not None:
                    progress(1)
            path = folder / "annotations" / f"instances_{name}.json"
            path.write_text(content.to_json(), encoding="utf-8")


def timeline(rng: np.random.Generator, n: int, busy: int, stay: tuple[int, int]) -> Int64[np.ndarray, " n"]:
    """The visit of each frame, numbered as they come; -1: none. `busy` frames have one.

    >>> timeline(np.random.default_rng(0), 8, 4, (2, 2)).tolist()  # two visits of two frames
    [-1, -1, -1, -1, 0, 0, 1, 1]
    """
    lengths = rng.integers(stay[0], stay[1] + 1, busy // stay[0] + 1)
    ends = np.minimum(np.cumsum(lengths), busy)
    lengths = np.diff(ends, prepend=0)
    lengths = lengths[lengths > 0]
    blocks = rng.permutation(np.concatenate([np.arange(len(lengths)), np.full(n - busy, -1)]))
    number = np.where(blocks >= 0, np.cumsum(blocks >= 0) - 1, -1)  # in the order in which they come
    frames = np.concatenate([lengths, [1]])[blocks]  # -1, none, is the last: a frame alone
    return np.repeat(number, frames).astype(np.int64)


def rooms(visits: Int64[np.ndarray, " n"], places: int) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """The place of each frame, and how many frames of the same visit came before it; a visit stays in one place.

    >>> where, since = rooms(np.array([0, 0, -1, 1, 1, 1]), 3)
    >>> where.tolist(), since.tolist()
    ([0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 1, 2])
    """
    rows = np.arange(len(visits))
    goes_on = (visits >= 0) & (visits == np.concatenate([[-2], visits])[: len(visits)])
    begin = np.maximum.accumulate(np.where(goes_on, 0, rows)) if len(rows) else rows
    return begin * places // max(len(rows), 1), rows - begin


def _frame(
    look: _Look, scans: list[np.ndarray], key: tuple[int, int, int, int], labels: np.ndarray, since: int
) -> _digits.Scene:
    """A frame of (split, place, visit, number), `since` frames after its visit came."""
    split, place, visit, number = key
    scene = _place(look, split, place)
    rng = np.random.default_rng([look.seed, split, _FRAME, number])
    scene.pixels = np.clip(scene.pixels * (1 + LIGHT * rng.standard_normal()), 0, 1).astype(np.float32)
    side = look.size_px - 1
    for k, label in enumerate(labels.tolist()):
        own = np.random.default_rng([look.seed, split, _VISIT, visit, k])
        for _ in range(_digits.TRIES):
            visitor = _visitor(own, look, scans, label)
            paint = int(own.integers(1 << 31))
            centre = np.clip(visitor.centre + since * visitor.step, 0.1 * side, 0.9 * side)
            colours = np.random.default_rng(paint)
            if _digits.place(colours, scene, visitor.ink, centre, visitor.label, visitor.hue):
                break
    for _ in range(rng.integers(0, 2)):
        _digits.stray(rng, scene)
    return scene


def _place(look: _Look, split: int, place: int) -> _digits.Scene:
    """What a place looks like when nobody is there."""
    rng = np.random.default_rng([look.seed, split, _PLACE, place])
    free = np.full((look.size_px, look.size_px), -1)
    scene = _digits.Scene(backdrop.paint(rng, look.size_px), free, [], [], [], [])
    for _ in range(rng.integers(1, 4)):
        _digits.stray(rng, scene)
    return scene


def _visitor(rng: np.random.Generator, look: _Look, scans: list[np.ndarray], label: int) -> _Visitor:
    scan = scans[label][rng.integers(len(scans[label]))]
    hue = label / len(_digits.CLASSES) if rng.random() < look.colour_cue else None
    height = look.size_px * float(np.exp(rng.uniform(*np.log(look.scale))))
    ink = _digits.opacity(rng, scan, height)
    return _Visitor(ink, label, hue, rng.uniform(0, look.size_px, 2), rng.normal(0, STEP * look.size_px, 2))


def _check(
    train: int,
    test: int,
    size_px: int,
    empty: float,
    places: int,
    classes: int,
    imbalance: float,
    digits: tuple[int, int],
    stay: tuple[int, int],
    scale: tuple[float, float],
    colour_cue: float,
) -> None:
    for name, value, holds, expected in (
        ("train", train, train >= 0, "at least 0"),
        ("test", test, test >= 0, "at least 0"),
        ("size_px", size_px, size_px >= 64, "at least 64"),
        ("empty", empty, 0 <= empty <= 1, "0 to 1"),
        ("places", places, places >= 1, "at least 1"),
        ("classes", classes, 2 <= classes <= len(_digits.CLASSES), f"2 to {len(_digits.CLASSES)}"),
        ("imbalance", imbalance, imbalance >= 1, "at least 1"),
        ("digits", digits, 1 <= digits[0] <= digits[1], "1 <= fewest <= most"),
        ("stay", stay, 1 <= stay[0] <= stay[1], "1 <= fewest <= most"),
        ("scale", scale, 0 < scale[0] <= scale[1] <= 0.8, "0 < smallest <= largest <= 0.8"),
        ("colour_cue", colour_cue, 0 <= colour_cue <= 1, "0 to 1"),
    ):
        if not holds:
            raise LabelwiseError(f"patrol: {name} is {value}; expected {expected}.")
