"""Handwritten digits as ink in a picture: drawn from scans, placed so that no other digit is lost, photographed.

The scans are UCI's optical recognition set, bundled with scikit-learn: 1,797 of 8 x 8. All randomness comes from the
generator that is given; colours are float32 RGB in 0..1.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64
from PIL import Image, ImageFilter

from labelwise.generated import backdrop

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ALL_CLASSES = (*CLASSES, *(f"hollow {name}" for name in CLASSES))
"""The ten digits, then the same in outline."""
MIN_VISIBLE = 0.35
TRIES = 30
TEST_SHARE = 0.3  # of the scans

TRAIN, TEST = 0, 1


@dataclass
class Scene:
    """An image that is being drawn. `owner` says for every pixel whose ink is on top (-1: nobody's)."""

    pixels: Float32[np.ndarray, "s s 3"]
    owner: Int64[np.ndarray, "s s"]
    ink: list[int]
    visible: list[int]
    boxes: list[tuple[int, int, int, int]]
    labels: list[int]


def scans(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For train and test: the scans of every class, [k, 8, 8] in 0..1."""
    from sklearn.datasets import load_digits  # half a second: only where it is needed

    data = load_digits()
    rng = np.random.default_rng([seed, 2])
    parts: tuple[list[np.ndarray], list[np.ndarray]] = [], []
    for label in range(len(CLASSES)):
        rows = rng.permutation(np.flatnonzero(data.target == label))
        cut = round(len(rows) * TEST_SHARE)
        parts[TEST].append((data.images[rows[:cut]] / 16).astype(np.float32))
        parts[TRAIN].append((data.images[rows[cut:]] / 16).astype(np.float32))
    return parts


def opacity(rng: np.random.Generator, scan: np.ndarray, height_px: float) -> Float32[np.ndarray, "h w"]:
    """A scan as a smooth pen stroke of the given height, slanted and turned a little, cut to its ink."""
    padded = Image.fromarray(np.pad(scan, 2))
    side = int(np.ceil(height_px * 1.5))
    step = 8 / height_px  # pixels of the scan per pixel drawn
    angle, slant, stretch = rng.normal(0, 0.12), rng.normal(0, 0.12), rng.uniform(0.8, 1.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[step * stretch, step * slant], [0, step]])
    shift = np.array([6, 6]) - matrix @ np.array([side, side]) / 2
    data = (*matrix[0], shift[0], *matrix[1], shift[1])
    drawn = np.asarray(
        padded.transform((side, side), Image.Transform.AFFINE, data, resample=Image.Resampling.BICUBIC), np.float32
    )
    threshold = rng.uniform(0.4, 0.65)  # thick or thin pen
    edge = np.clip((drawn - threshold) / (0.08 + 1.2 * step) + 0.5, 0, 1)
    alpha = edge * edge * (3 - 2 * edge)
    rows, columns = np.flatnonzero((alpha > 0.5).any(axis=1)), np.flatnonzero((alpha > 0.5).any(axis=0))
    cut: np.ndarray = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cut


def outline(alpha: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The stroke without its inside, as thick as a twentieth of the height, at least a pixel."""
    image = Image.fromarray((np.pad(alpha, 1) * 255).round().astype(np.uint8))
    inside = image.filter(ImageFilter.MinFilter(2 * max(1, round(len(alpha) / 20)) + 1))
    return alpha * (1 - np.asarray(inside, np.float32)[1:-1, 1:-1] / 255)


def place(
    rng: np.random.Generator, scene: Scene, alpha: np.ndarray, centre: np.ndarray, label: int, hue: float | None
) -> bool:
    """Draw a digit, unless it or one that it covers would be too little to be seen."""
    where = _window(scene, alpha, centre)
    if where is None:
        return False
    (x1, y1, x2, y2), part = where
    ink = part > 0.5
    total = int((alpha > 0.5).sum())
    if not _uncovered(scene, (x1, y1, x2, y2), ink) or ink.sum() < 0.75 * total or x2 - x1 < 3 or y2 - y1 < 3:
        return False
    area = scene.pixels[y1:y2, x1:x2]
    colour = _colour(rng, area.mean(axis=(0, 1)), hue)
    if rng.random() < 0.3:  # a shadow or a halo behind it
        blurred = Image.fromarray((part * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(1 + len(part) / 16))
        area += 0.6 / 255 * np.asarray(blurred, np.float32)[..., None] * (np.float32(rng.random() < 0.4) - area)
    shade = 1 + rng.uniform(0, 0.15) * np.linspace(-1, 1, y2 - y1, dtype=np.float32)[:, None, None]
    area += (part * rng.uniform(0.8, 1.0))[..., None] * (np.clip(colour * shade, 0, 1) - area)
    _cover(scene, (x1, y1, x2, y2), ink, len(scene.boxes))
    scene.ink.append(total)
    scene.visible.append(int(ink.sum()))
    scene.boxes.append((x1, y1, x2, y2))
    scene.labels.append(label)
    return True


def stray(rng: np.random.Generator, scene: Scene) -> None:
    """A pen stroke that belongs to no digit."""
    size_px = len(scene.pixels)
    alpha = backdrop.stroke(rng, size_px * rng.uniform(0.06, 0.3))
    where = _window(scene, alpha, rng.uniform(0, size_px, 2))
    if where is None:
        return
    box, part = where
    if _uncovered(scene, box, part > 0.5):
        area = scene.pixels[box[1] : box[3], box[0] : box[2]]
        area += part[..., None] * (_colour(rng, area.mean(axis=(0, 1))) - area)
        _cover(scene, box, part > 0.5, -1)


def _window(
    scene: Scene, alpha: np.ndarray, centre: np.ndarray
) -> tuple[tuple[int, int, int, int], Float32[np.ndarray, "h w"]] | None:
    """Where a drawing lies around its centre: the box in the image, and the part of the drawing that is in it."""
    size_px, (height, width) = len(scene.pixels), alpha.shape
    x, y = int(centre[0] - width / 2), int(centre[1] - height / 2)
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + width, size_px), min(y + height, size_px)
    if x1 >= x2 or y1 >= y2:
        return None
    part = alpha[y1 - y : y2 - y, x1 - x : x2 - x]
    ink = part > 0.5
    if not ink.any():
        return None
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return (x1 + left, y1 + top, x1 + right, y1 + bottom), part[top:bottom, left:right]


def _lost(scene: Scene, box: tuple[int, int, int, int], ink: Bool[np.ndarray, "h w"]) -> Int64[np.ndarray, " n"]:
    """How many visible pixels every digit so far would lose under new ink."""
    under = scene.owner[box[1] : box[3], box[0] : box[2]][ink]
    return np.bincount(under + 1, minlength=len(scene.boxes) + 1)[1:]


def _uncovered(scene: Scene, box: tuple[int, int, int, int], ink: Bool[np.ndarray, "h w"]) -> bool:
    rest = np.array(scene.visible, np.int64) - _lost(scene, box, ink)
    return bool((rest >= MIN_VISIBLE * np.array(scene.ink, np.int64)).all())


def _cover(scene: Scene, box: tuple[int, int, int, int], ink: Bool[np.ndarray, "h w"], owner: int) -> None:
    for k, lost in enumerate(_lost(scene, box, ink).tolist()):
        scene.visible[k] -= lost
    scene.owner[box[1] : box[3], box[0] : box[2]][ink] = owner


def _colour(rng: np.random.Generator, behind: np.ndarray, hue: float | None = None) -> Float32[np.ndarray, " 3"]:
    """A colour that can be told from what is behind it, sometimes only just; about that hue (0..1), or any."""
    for _ in range(TRIES):
        if hue is None:
            colour = rng.random(3)
        else:
            turned = (hue + rng.normal(0, 0.02)) % 1.0
            colour = np.array(colorsys.hsv_to_rgb(turned, rng.uniform(0.6, 1), rng.uniform(0.3, 1)))
        if np.abs(colour - behind).mean() > 0.2 and abs(float((colour - behind).mean())) > 0.1:
            return colour.astype(np.float32)
    return np.full(3, behind.mean() < 0.5, np.float32)


def photo(rng: np.random.Generator, pixels: np.ndarray) -> Image.Image:
    """What a cheap camera makes of it: a little blur, a little sensor noise."""
    noisy = pixels + rng.uniform(0.005, 0.035) * rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    image = Image.fromarray((np.clip(noisy, 0, 1) * 255).round().astype(np.uint8))
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0, 0.8)))
