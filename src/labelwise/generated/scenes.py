"""The demo set: handwritten digits on cluttered backgrounds, a detection task that a laptop can learn.

The digits are real (UCI's optical recognition set, bundled with scikit-learn: 1,797 scans of 8 x 8), drawn smoothly at
several scales in varied contrast and slant, mostly in a hue typical of their class; train and test draw from different
scans. The train split is long-tailed: "zero" is the most frequent class, the last one `imbalance` times rarer,
geometrically between. The test split is balanced, so that rare classes can be measured. Digits stand in crowds and
cover one another, and stray pen strokes look like parts of digits; but no digit is left with less than `MIN_VISIBLE` of
its ink to be seen, so that every digit in an image is annotated, by the hull of its whole ink (where covered, too)
clipped to the image.

The same settings and seed give the same files, bit for bit, with the same versions of NumPy and Pillow. An image
depends on its own number alone, except for its classes, which are dealt from one deck so that the counts are exact.

Fails when: an image is too small for its digits; a digit that finds no place in `_digits.TRIES` attempts is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from labelwise.generated import _deck, _digits, backdrop
from labelwise.generated.annotation_file import AnnotationFile
from labelwise.types import LabelwiseError
from labelwise.types.disk import new_folder

CLASSES, ALL_CLASSES = _digits.CLASSES, _digits.ALL_CLASSES
"""The ten digits; and with them the same in outline."""
MIN_VISIBLE = _digits.MIN_VISIBLE


def write(
    root: Path,
    *,
    seed: int = 0,
    train: int = 300,
    test: int = 100,
    size_px: int = 256,
    imbalance: float = 20.0,
    classes: int = 10,
    digits: tuple[int, int] = (3, 10),
    scale: tuple[float, float] = (0.06, 0.35),
    crowding: float = 0.5,
    colour_cue: float = 0.8,
    most: float | None = None,
    mean: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the demo set as a COCO data set with the splits `train` and `test`.

    `imbalance`: most frequent over rarest class in train. `most`: share of the first class in train; then the imbalance
    is among the others. `classes`: how many, from "zero" on; above 10 the digits in outline follow, in the hues of the
    solid ones. `digits`: fewest and most per image. `mean`: how many on average, falling geometrically from the fewest
    on (none: every number as often). `scale`: height of a digit as a share of the image. `crowding`: share of the
    digits that are put next to another. `colour_cue`: share of the digits in a hue that is typical of their class, so
    that a class shows in colour as well as in form, as natural classes do (0: form alone, which a small detector learns
    much slower).
    `progress(1)` after each image.
    """
    _check(train, test, size_px, imbalance, classes, digits, scale, crowding, colour_cue, most, mean)
    scans, even = _digits.scans(seed), np.full(classes, 1 / classes)
    shares = _deck.shares(classes, imbalance, most)
    with new_folder(root) as folder:
        (folder / "annotations").mkdir()
        for split, name, n, share in ((_digits.TRAIN, "train", train, shares), (_digits.TEST, "test", test, even)):
            (folder / name).mkdir()
            content = AnnotationFile(ALL_CLASSES[:classes])
            deal = _deck.deal(np.random.default_rng([seed, split]), n, digits, mean, share)
            for i, dealt in zip(range(n), deal, strict=False):  # of no images the deck deals one
                rng = np.random.default_rng([seed, split, i])
                scene = _draw(rng, dealt, scans[split], size_px, scale, crowding, colour_cue)
                _digits.photo(rng, scene.pixels).save(folder / name / f"{i:05d}.jpg", quality=92)
                content.image(f"{i:05d}.jpg", (size_px, size_px))
                for box, label in zip(scene.boxes, scene.labels, strict=True):
                    x1, y1, x2, y2 = map(float, box)
                    content.box((x1, y1, x2, y2), label, (x2 - x1) * (y2 - y1))
                if progress is not None:
                    progress(1)
            path = folder / "annotations" / f"instances_{name}.json"
            path.write_text(content.to_json(), encoding="utf-8")


def _check(
    train: int,
    test: int,
    size_px: int,
    imbalance: float,
    classes: int,
    digits: tuple[int, int],
    scale: tuple[float, float],
    crowding: float,
    colour_cue: float,
    most: float | None,
    mean: float | None,
) -> None:
    for name, value, holds, expected in (
        ("train", train, train >= 0, "at least 0"),
        ("test", test, test >= 0, "at least 0"),
        ("size_px", size_px, size_px >= 64, "at least 64"),
        ("imbalance", imbalance, imbalance >= 1, "at least 1"),
        ("classes", classes, 2 <= classes <= len(ALL_CLASSES), f"2 to {len(ALL_CLASSES)}"),
        ("digits", digits, 0 <= digits[0] <= digits[1], "0 <= fewest <= most"),
        ("scale", scale, 0 < scale[0] <= scale[1] <= 0.8, "0 < smallest <= largest <= 0.8"),
        ("crowding", crowding, 0 <= crowding <= 1, "0 to 1"),
        ("colour_cue", colour_cue, 0 <= colour_cue <= 1, "0 to 1"),
        ("most", most, most is None or 0 < most < 1, "above 0, below 1, or none"),
        ("mean", mean, mean is None or digits[0] < mean <= digits[1], "above the fewest digits, at most the most"),
    ):
        if not holds:
            raise LabelwiseError(f"scenes: {name} is {value}; expected {expected}.")


def _draw(
    rng: np.random.Generator,
    labels: np.ndarray,
    scans: list[np.ndarray],
    size_px: int,
    scale: tuple[float, float],
    crowding: float,
    colour_cue: float,
) -> _digits.Scene:
    scene = _digits.Scene(backdrop.paint(rng, size_px), np.full((size_px, size_px), -1), [], [], [], [])
    for _ in range(rng.integers(1, 5)):
        _digits.stray(rng, scene)
    for label in labels.tolist():
        digit, hollow = label % len(CLASSES), label >= len(CLASSES)
        scan = scans[digit][rng.integers(len(scans[digit]))]
        hue = digit / len(CLASSES) if rng.random() < colour_cue else None
        near = len(scene.boxes) > 0 and rng.random() < crowding
        for _ in range(_digits.TRIES):
            height = size_px * float(np.exp(rng.uniform(*np.log(scale))))
            centre = rng.uniform(0, size_px, 2)
            if near:
                x1, y1, x2, y2 = scene.boxes[rng.integers(len(scene.boxes))]
                height = float(np.clip((y2 - y1) * rng.uniform(0.7, 1.4), scale[0] * size_px, scale[1] * size_px))
                angle, distance = rng.uniform(0, 2 * np.pi), height * rng.uniform(0.45, 0.9)
                centre = np.array([(x1 + x2) / 2 + distance * np.cos(angle), (y1 + y2) / 2 + distance * np.sin(angle)])
            ink = _digits.opacity(rng, scan, height)
            if _digits.place(rng, scene, _digits.outline(ink) if hollow else ink, centre, label, hue):
                break
    for _ in range(rng.integers(0, 3)):
        _digits.stray(rng, scene)
    return scene
