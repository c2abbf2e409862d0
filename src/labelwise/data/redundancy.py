"""Images that look the same: how many different ones the splits of a data set hold.

A thumbnail is the image in `SIDE` x `SIDE` cells of grey, less its mean, over its norm, or over that of a contrast of
`FLOOR` grey levels where it has less; two images look the same where their thumbnails are no more than `NEAR` apart. So
a picture saved anew, made brighter or smaller is the same, one that is cut or turned is not.
Source: ours; what perceptual hashes (dHash, pHash) reduce to bits. A dHash of 64 bits, the usual choice, takes one
asphalt for another: its bits are signs of differences that are noise there (docs/decisions/0018-look-alikes.md).
Fails when: what differs is smaller than a cell, such as a small object before the same ground, and where a change of
brightness drives an image of low contrast into black or white.

The first image of every group stands for it: in their order, an image that looks like one that stands already is one
too many, any other stands from now on. A film that changes slowly is as many pictures as it takes steps of `NEAR`.

>>> grey = np.tile(np.arange(0, 160, 10, dtype=np.float32), (16, 1))
>>> rows = features(np.stack([grey, grey + 9, grey[::-1, ::-1]]).astype(np.uint8))  # brighter; turned
>>> first_alike(rows).tolist()
[0, 0, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image

SIDE = 16
FLOOR = 8.0
NEAR = 0.1
SHORT_PX = 128
"""Of a larger image only every so many rows and columns are looked at that its shorter side has about this many."""
MOST = 10_000
"""Images that are looked at, of all splits."""
STRETCH = 100
"""Of more images stretches of so many in a row are looked at: what looks the same often stands together."""
BLOCK = 256


@dataclass(frozen=True, slots=True)
class Alike:
    """Of a split: how many images it has, how many were looked at, how many of these differ from each other, and how
    many look like one of another split. `groups` are images that look the same, by name, the largest group first.
    """

    split: str
    images: int
    looked_at: int
    different: int
    elsewhere: int
    groups: tuple[tuple[str, ...], ...]

    def as_json(self, examples: int | None) -> dict[str, object]:
        """For other programs."""
        return {
            "split": self.split,
            "images": self.images,
            "looked_at": self.looked_at,
            "different": self.different,
            "like_another_split": self.elsewhere,
            "groups": [list(group) for group in self.groups[:examples]],
        }


def thumbnail(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "16 16"]:
    """The image in so many cells of grey."""
    step = max(1, min(pixels.shape[:2]) // SHORT_PX)
    small = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step])).convert("L")
    cells: np.ndarray = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX))
    return cells


def sample(n: int, most: int = MOST) -> Bool[np.ndarray, " n"]:
    """Which of n images are looked at: all, or stretches in even distances."""
    if n <= most:
        return np.ones(n, np.bool_)
    stretches = max(most // STRETCH, 1)
    first = np.linspace(0, n - STRETCH, stretches).round().astype(np.int64)
    found = np.zeros(n, np.bool_)
    found[(first[:, None] + np.arange(STRETCH)).reshape(-1)] = True
    return found


def features(thumbnails: UInt8[np.ndarray, "n 16 16"]) -> Float32[np.ndarray, "n 256"]:
    """What is compared of every image."""
    flat = thumbnails.reshape(-1, SIDE**2).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(norm, FLOOR * SIDE), np.float32)


def first_alike(rows: Float32[np.ndarray, "n d"]) -> Int64[np.ndarray, " n"]:
    """Of every image the first that it looks like among those that stand for a group; its own number if it is one."""
    n = len(rows)
    found = np.arange(n)
    stands = np.zeros(0, np.int64)
    for start in range(0, n, BLOCK):
        block = np.arange(start, min(start + BLOCK, n))
        own = _near(rows[block], rows[block])
        if len(stands):
            near = _near(rows[block], rows[stands])
            found[block] = np.where(near.any(axis=1), stands[near.argmax(axis=1)], found[block])
        new: list[int] = []
        for row in np.flatnonzero(found[block] == block).tolist():
            before = [other for other in new if own[row, other]]
            if before:
                found[block[row]] = block[before[0]]
            else:
                new.append(row)
        stands = np.concatenate([stands, block[new]])
    return found


def any_alike(rows: Float32[np.ndarray, "n d"], others: Float32[np.ndarray, "m d"]) -> Bool[np.ndarray, " n"]:
    """Whether every image looks like one of the others."""
    parts = [_near(rows[start : start + BLOCK], others).any(axis=1) for start in range(0, len(rows), BLOCK)]
    return np.concatenate([np.zeros(0, np.bool_), *parts]) if len(others) else np.zeros(len(rows), np.bool_)


def alike(splits: Sequence[tuple[str, Sequence[str]]], thumbnails: dict[str, np.ndarray]) -> tuple[Alike, ...]:
    """Of every split (its name and those of its images), by the thumbnails of the images that were looked at."""
    names = list(thumbnails)
    rows = features(np.stack([thumbnails[name] for name in names])) if names else np.zeros((0, SIDE**2), np.float32)
    number = {name: k for k, name in enumerate(names)}
    found = []
    for split, images in splits:
        inside = np.array([number[name] for name in images if name in number], np.int64)
        others = np.setdiff1d(np.arange(len(names)), inside)
        stands = first_alike(rows[inside])
        groups: dict[int, list[str]] = {}
        for k, first in enumerate(stands.tolist()):
            groups.setdefault(first, []).append(names[inside[k]])
        several = sorted((tuple(group) for group in groups.values() if len(group) > 1), key=len, reverse=True)
        elsewhere = int(any_alike(rows[inside], rows[others]).sum())
        found.append(Alike(split, len(images), len(inside), len(groups), elsewhere, tuple(several)))
    return tuple(found)


def _near(rows: np.ndarray, others: np.ndarray) -> Bool[np.ndarray, "n m"]:
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :]
    near: np.ndarray = squares - 2 * (rows @ others.T) <= np.float32(NEAR**2)
    return near
