"""Ragged rectangles of the images of a pool, with a class or without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from labelwise.types.columns import check, check_column, check_finite, check_offsets, image_of, offsets_of


@dataclass(frozen=True, slots=True, eq=False)
class Rects:
    """Ragged rectangles without a class, sorted by image: coverage, background marks, ignore regions."""

    offsets: Int64[np.ndarray, " images+1"]
    xyxy: Float32[np.ndarray, "n 4"]

    def __post_init__(self) -> None:
        check_column("Rects", "xyxy", self.xyxy, np.float32, (None, 4))
        check_finite("Rects", "xyxy", self.xyxy)
        check_offsets("Rects", "offsets", self.offsets, len(self.xyxy))

    def of(self, image: int) -> Float32[np.ndarray, "k 4"]:
        return self.xyxy[self.offsets[image] : self.offsets[image + 1]]

    @staticmethod
    def empty(n_images: int) -> Rects:
        return Rects(np.zeros(n_images + 1, np.int64), np.zeros((0, 4), np.float32))

    @staticmethod
    def from_rows(image: np.ndarray, xyxy: np.ndarray, n_images: int) -> Rects:
        """From rows in any order; rows of one image keep their order."""
        order = np.argsort(image, kind="stable")
        rows = np.asarray(xyxy, np.float32).reshape(-1, 4)[order]
        return Rects(offsets_of(np.asarray(image)[order], n_images), rows)


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Ragged boxes with a class, sorted by image: ground truth, annotations."""

    offsets: Int64[np.ndarray, " images+1"]
    xyxy: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]

    def __post_init__(self) -> None:
        check_column("Boxes", "xyxy", self.xyxy, np.float32, (None, 4))
        check_column("Boxes", "labels", self.labels, np.int64, (len(self.xyxy),))
        check_finite("Boxes", "xyxy", self.xyxy)
        check_offsets("Boxes", "offsets", self.offsets, len(self.xyxy))
        bad = np.flatnonzero((self.xyxy[:, 2:] <= self.xyxy[:, :2]).any(axis=1))
        check(len(bad) == 0, f"Boxes.xyxy: row {bad[0] if len(bad) else ''} has no area; expected x1 < x2 and y1 < y2")

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def image(self) -> Int64[np.ndarray, " n"]:
        return image_of(self.offsets)

    @staticmethod
    def empty(n_images: int) -> Boxes:
        return Boxes(np.zeros(n_images + 1, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

    @staticmethod
    def from_rows(image: np.ndarray, xyxy: np.ndarray, labels: np.ndarray, n_images: int) -> Boxes:
        """From rows in any order; rows of one image keep their order."""
        order = np.argsort(image, kind="stable")
        rows = np.asarray(xyxy, np.float32).reshape(-1, 4)[order]
        return Boxes(offsets_of(np.asarray(image)[order], n_images), rows, np.asarray(labels, np.int64)[order])

    @staticmethod
    def of_images(labels: np.ndarray, width_px: np.ndarray, height_px: np.ndarray) -> Boxes:
        """One class per image (classification): a box that is the whole image."""
        n = len(labels)
        xyxy = np.stack([np.zeros(n), np.zeros(n), width_px, height_px], axis=1).astype(np.float32)
        return Boxes(np.arange(n + 1), xyxy, np.asarray(labels, np.int64))
