"""Augmentation of a detector's training image: what is drawn once moves pixels, boxes, coverage and ignore alike.

`draw` makes a `Change` from random numbers; `Change.image` and `Change.target` carry it out. All geometry is one map:
the part `source` of the image lands on the part `place` of a canvas as large as the image (both whole pixels), and the
canvas is mirrored. Zoom and IoU crop only choose `source` and `place`.

* A box is cut at the canvas. Of a box that shows less than `VISIBLE` of itself, or less than `LEAST_PX` on a side, what
  remains is ignored; of a box that does not show, nothing remains. Weights stay with their box.
* What lies outside the image (zooming out) is of the mean colour, as the padding of a batch. A coverage or ignore
  rectangle that reaches the image's border goes on outside it, as in `models._weighted`: so the padding is background
  where the image is looked over up to its border, and ignored where it is not.

Source: zoom: large scale jitter (Ghiasi et al. 2021); IoU crop: SSD (Liu et al. 2016, section 2.2), as torchvision's
RandomIoUCrop; colours: SSD, as torchvision's RandomPhotometricDistort.
Differs from the paper: the IoU crop draws its candidates at once and always crops if one of them holds the centre of a
box; a cut object is judged by the share of it that shows, not by its centre. The hue turns in the YIQ plane, not in
HSV, and the colours are clipped once.
Fails when: most objects are larger than the part that is shown: they are ignored, and the image teaches background.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

VISIBLE = 0.5
"""Share of a box's area from which a cut box is trained on."""
LEAST_PX = 1.0
"""Least side of a box that is trained on, after the change."""
CROP_SIDE, CROP_ASPECT, CROP_IOU = (0.3, 1.0), (0.5, 2.0), (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""Of the IoU crop: sides relative to the image, width over height in pixels, least IoU with a box."""
CROP_TRIES = 40
BRIGHTNESS, CONTRAST, SATURATION, HUE_TURNS = 0.125, 0.5, 0.5, 0.05
"""Largest change of colours at strength 1; each is made with probability 0.5."""
FILL = (124, 116, 104)
"""The mean colour of ImageNet, 0..255."""

LUMA = np.array([0.2989, 0.587, 0.114])
YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
FAR_PX, SLACK_PX = 1e5, 0.5
"""How far a rectangle goes on that comes so near to the image's border."""
SLIVER_PX = 1e-3
"""What shows no wider than this of a rectangle is rounding."""

Span = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Augment:
    """What may be drawn: probabilities of `flip`, `iou_crop`, `mosaic`, bounds of `scale`, strengths of the others."""

    flip: float = 0.0
    jitter: float = 0.0
    scale: tuple[float, float] | None = None
    iou_crop: float | None = None
    photometric: float | None = None
    mosaic: float | None = None

    @classmethod
    def of(cls, rule: Any) -> Augment:
        """As the settings say (`config.Train`)."""
        return cls(rule.flip, rule.jitter, rule.scale, rule.iou_crop, rule.photometric, rule.mosaic)

    def draw(self, boxes: Float32[np.ndarray, "k 4"], width: int, height: int, rng: np.random.Generator) -> Change:
        """The change of one image of this size, with these boxes in its pixels."""
        mirror = bool(rng.random() < self.flip)
        gain, bias = rng.uniform(-self.jitter, self.jitter, 2) if self.jitter else (0.0, 0.0)
        whole = window = np.array([0.0, 0.0, width, height])
        if self.iou_crop is not None and rng.random() < self.iou_crop:
            window = iou_window(boxes, width, height, rng)
        if self.scale is not None:
            window = zoom_window(window, float(rng.uniform(*self.scale)), rng.random(2))
        source, place = spans(window, width, height) if window is not whole else ((0, 0, width, height),) * 2
        colours = None if not self.photometric else _colours(self.photometric, rng)
        return Change(width, height, source, place, mirror, float(gain), float(bias), bool(self.jitter), colours)


@dataclass(frozen=True, slots=True)
class Change:
    """One drawn change of an image of `width` x `height` pixels; see the file's docstring."""

    width: int
    height: int
    source: Span
    place: Span
    mirror: bool = False
    gain: float = 0.0
    bias: float = 0.0
    jitters: bool = False
    colours: tuple[float, float, float, float] | None = None

    @property
    def moves(self) -> bool:
        """Whether it does more than mirror."""
        return self.source != self.place

    def image(self, pixels: UInt8[np.ndarray, "3 h w"]) -> Float[Tensor, "3 h w"]:
        """The changed image, 0..1."""
        if self.moves:
            x1, y1, x2, y2 = self.source
            u1, v1, u2, v2 = self.place
            part = functional.resize(torch.from_numpy(pixels[:, y1:y2, x1:x2].copy()), [v2 - v1, u2 - u1])
            if part.shape[1:] != (self.height, self.width):
                canvas = torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1).repeat(1, self.height, self.width)
                canvas[:, v1:v2, u1:u2] = part
                part = canvas
            image = part.float().div_(255)
        else:
            image = torch.from_numpy(pixels.astype(np.float32)).div_(255)
        if self.mirror:
            image = image.flip(2)
        if self.jitters:
            image = image.mul_(1 + self.gain).add_(self.bias / 2).clamp_(0, 1)
        return image if self.colours is None else recolour(image, *self.colours)

    def target(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """The changed boxes with their weights, coverage and ignore rectangles."""
        if self.moves:
            target = self._place_target(target)
        if self.mirror:
            for key in ("boxes", "negatives", "ignore", *(("doubt",) if "doubt" in target else ())):
                x1, y1, x2, y2 = target[key].unbind(1)
                target[key] = torch.stack((self.width - x2, y1, self.width - x1, y2), 1)
        return target

    def _place_target(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Coverage and ignore rectangles that reach the image's border do so up to the canvas's."""
        size, far = (self.width, self.height), dict(target)
        for key in ("negatives", "ignore"):
            low, high = target[key][:, :2], target[key][:, 2:]
            low = torch.where(low <= SLACK_PX, low.new_tensor(-FAR_PX), low)
            far[key] = torch.cat((low, torch.where(high >= high.new_tensor(size) - SLACK_PX, FAR_PX, high)), 1)
        return place_target(far | {"boxes": _cut(target["boxes"], (0, 0, *size))}, self._move, (0, 0, *size))

    def _move(self, rects: Float[Tensor, "r 4"]) -> Float[Tensor, "r 4"]:
        (x1, y1, x2, y2), (u1, v1, u2, v2) = self.source, self.place
        ratio = rects.new_tensor([(u2 - u1) / (x2 - x1), (v2 - v1) / (y2 - y1)] * 2)
        return (rects - rects.new_tensor([x1, y1, x1, y1])) * ratio + rects.new_tensor([u1, v1, u1, v1])


def place_target(target: Mapping[str, Tensor], move: Callable[[Tensor], Tensor], window: Span) -> dict[str, Tensor]:
    """A target whose rectangles `move` brings onto a canvas of which `window` is shown: boxes that show enough, the
    rest of the others to ignore, and what shows of coverage, ignore and doubt.
    """
    moved = move(target["boxes"])
    boxes = _cut(moved, window)
    sides = boxes[:, 2:] - boxes[:, :2]
    shown = sides.prod(1)
    keep = (shown >= VISIBLE * (moved[:, 2:] - moved[:, :2]).prod(1)) & (sides >= LEAST_PX).all(1)
    beside = ("negatives", "ignore", "doubt", "doubt_scores")
    changed = {key: value[keep] for key, value in target.items() if key not in beside}
    for key in ("negatives", "ignore", *(("doubt",) if "doubt" in target else ())):
        rects = _cut(move(target[key]), window)
        shows = (rects[:, 2:] - rects[:, :2] > SLIVER_PX).all(1)
        changed[key] = rects[shows]
        if key == "doubt":
            changed["doubt_scores"] = target["doubt_scores"][shows]
    remains = boxes[~keep & (shown > 0)]
    return changed | {"boxes": boxes[keep], "ignore": torch.cat((changed["ignore"], remains))}


def _cut(rects: Float[Tensor, "r 4"], window: Span) -> Float[Tensor, "r 4"]:
    """Cut to a window; a rectangle outside has no area, of sides 0 or more."""
    low = rects.new_tensor(window[:2] * 2)
    high = rects.new_tensor(window[2:] * 2)
    return torch.minimum(torch.maximum(rects, low), high)


def zoom_window(
    window: Float[np.ndarray, " 4"], scale: float, position: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, " 4"]:
    """The part that a zoom by `scale` shows: inside the window above 1, around it below 1, at `position` in 0..1.

    >>> zoom_window(np.array([0.0, 0, 8, 4]), 2.0, np.array([0.5, 1.0])).tolist()
    [2.0, 2.0, 6.0, 4.0]
    >>> zoom_window(np.array([0.0, 0, 8, 4]), 0.5, np.array([0.5, 0.0])).tolist()
    [-4.0, 0.0, 12.0, 8.0]
    """
    side = window[2:] - window[:2]
    low = window[:2] + (side - side / scale) * position
    return np.concatenate([low, low + side / scale])


def spans(window: Float[np.ndarray, " 4"], width: int, height: int) -> tuple[Span, Span]:
    """The pixels of the image that a window shows, and where on a canvas of the image's size they land.

    >>> spans(np.array([-4.0, 0, 12, 8]), 8, 4)
    ((0, 0, 8, 4), (2, 0, 6, 2))
    >>> spans(np.array([2.0, 2, 6, 4]), 8, 4)
    ((2, 2, 6, 4), (0, 0, 8, 4))
    """
    source, place = [0] * 4, [0] * 4
    for axis, size in enumerate((width, height)):
        low, high = float(window[axis]), float(window[axis + 2])
        first = int(np.clip(round(low), 0, size - 1))
        last = int(np.clip(round(high), first + 1, size))
        ratio = size / (high - low)
        begin = 0 if low >= 0 else int(np.clip(round(-low * ratio), 0, size - 1))
        end = size if high <= size else int(np.clip(round((size - low) * ratio), begin + 1, size))
        source[axis], source[axis + 2], place[axis], place[axis + 2] = first, last, begin, end
    return (source[0], source[1], source[2], source[3]), (place[0], place[1], place[2], place[3])


def iou_window(
    boxes: Float32[np.ndarray, "k 4"], width: int, height: int, rng: np.random.Generator
) -> Float[np.ndarray, " 4"]:
    """A crop that holds the centre of a box and has at least some IoU, drawn from `CROP_IOU`, with one whose centre it
    holds. The whole image if no candidate holds a centre.
    """
    size, sides = np.array([width, height]), rng.uniform(*CROP_SIDE, (CROP_TRIES, 2))
    position, least = rng.random((CROP_TRIES, 2)), rng.permutation(np.array(CROP_IOU))
    shown = sides * size
    low = (size - shown) * position
    windows, aspect = np.concatenate([low, low + shown], axis=1), shown[:, 0] / shown[:, 1]
    fits = (aspect >= CROP_ASPECT[0]) & (aspect <= CROP_ASPECT[1])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    holds = ((centre > windows[:, None, :2]) & (centre < windows[:, None, 2:])).all(axis=2) & fits[:, None]
    if not holds.any():
        return np.array([0.0, 0.0, width, height])
    shared = np.minimum(boxes[:, 2:], windows[:, None, 2:]) - np.maximum(boxes[:, :2], windows[:, None, :2])
    common = np.clip(shared, 0, None).prod(axis=2)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + shown.prod(axis=1)[:, None] - common
    best = np.where(holds, common / np.maximum(union, 1e-9), -1.0).max(axis=1)
    enough = best >= least[:, None]
    chosen = int(enough.any(axis=1).argmax())
    window: np.ndarray = windows[int(enough[chosen].argmax())]
    return window


def _colours(strength: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Factors of brightness, contrast and saturation, and the turn of the hue."""
    most = strength * np.array([BRIGHTNESS, CONTRAST, SATURATION, HUE_TURNS])
    drawn = rng.uniform(-1, 1, 4) * most * (rng.random(4) < 0.5)
    return 1 + float(drawn[0]), 1 + float(drawn[1]), 1 + float(drawn[2]), float(drawn[3])


def recolour(
    image: Float[Tensor, "3 h w"], brightness: float, contrast: float, saturation: float, turns: float
) -> Float[Tensor, "3 h w"]:
    """Brightness, contrast about the mean grey, saturation about each pixel's grey, hue: one matrix and one number.

    >>> recolour(torch.full((3, 1, 1), 0.5), 1.2, 1.0, 0.3, 0.1).flatten().round(decimals=4).tolist()
    [0.6000000238418579, 0.6000000238418579, 0.6000000238418579]
    """
    angle = 2 * np.pi * turns
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    luma = LUMA / LUMA.sum()
    matrix = (np.linalg.inv(YIQ) @ turn @ YIQ) @ (saturation * np.eye(3) + (1 - saturation) * luma)
    mean = float(image.mean((1, 2)).double() @ torch.from_numpy(luma))
    scaled = torch.from_numpy((matrix * brightness * contrast).astype(np.float32))
    shift = brightness * (1 - contrast) * mean
    return (scaled @ image.flatten(1)).add_(shift).clamp_(0, 1).view_as(image)
