"""Per class the confidence from which there are as many detections as images that are wholly known have objects.

Of every class the k surest detections on n images count as objects, k = n times the objects of that class an image. So
a model that grows surer of what it sees finds no more objects than before: the thresholds rise with it.

Source: LabelMatch (Chen et al., CVPR 2022), adaptive label-distribution-aware confidence thresholds.
Differs from the paper: theirs are taken once per epoch, ours from the last images that the teacher was shown; half an
object is added to every class, so that one that is not among the few known images is not ruled out.
Fails when: the wholly known images hold more or fewer objects than the others, as a method that asks for crowded images
makes them; with few of them the numbers of rare classes are guesses.

Two images, classes of one object and of half an object an image: the second surest of class 0, the surest of class 1.

>>> scores, label = np.array([0.9, 0.8, 0.3, 0.6, 0.2], np.float32), np.array([0, 0, 0, 1, 1])
>>> count_thresholds(scores, label, 2, np.array([1.0, 0.5])).round(3).tolist()
[0.8, 0.6]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from labelwise.types import Detections, Labels

IMAGES = 64
"""How many of the last images the thresholds are taken from."""


def count_thresholds(
    scores: Float[np.ndarray, " n"], label: Int64[np.ndarray, " n"], n_images: int, per_image: Float64[np.ndarray, " C"]
) -> Float64[np.ndarray, " C"]:
    """The threshold of every class; 0: there are no more detections than objects; above 1: of less than half an object.

    Args:
        scores: confidence of the detections on all n images.
        label: their class.
        n_images: how many images.
        per_image: objects of every class an image.
    """
    wanted = np.floor(per_image * n_images + 0.5).astype(np.int64)
    order = np.lexsort((-scores, label))
    n = np.bincount(label, minlength=len(per_image))
    begin = n.cumsum() - n
    found = np.where(wanted == 0, float(np.nextafter(np.float32(1), np.float32(2))), 0.0)
    exact = (wanted > 0) & (wanted <= n)
    found[exact] = scores[order[(begin + wanted - 1)[exact]]]
    return found


def objects_per_image(known: Labels, whole: Bool[np.ndarray, " images"], n_classes: int) -> Float64[np.ndarray, " C"]:
    """Annotated objects of every class an image, over those that were wholly looked over, of which there are some."""
    table = known.annotations
    count = np.bincount(table.labels[whole[table.image]], minlength=n_classes)
    per_image: np.ndarray = (count + 0.5) / whole.sum()
    return per_image


@dataclass
class Recent:
    """What a model said of the last images that it was shown, and the thresholds that follow; starts with nothing."""

    per_image: Float64[np.ndarray, " C"]
    label: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)

    def thresholds(self, found: Detections) -> Float64[np.ndarray, " C"]:
        """Takes in what was found on some images; the thresholds of every class now."""
        parts = [slice(a, b) for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]
        labels = found.labels
        self.label = [*self.label, *(labels[part] for part in parts)][-IMAGES:]
        self.scores = [*self.scores, *(found.scores[part] for part in parts)][-IMAGES:]
        return count_thresholds(
            np.concatenate(self.scores), np.concatenate(self.label), len(self.label), self.per_image
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it."""
        if not self.label:
            return {}
        ends = np.cumsum([0, *map(len, self.label)]).astype(np.int64)
        return {"ends": ends, "label": np.concatenate(self.label), "scores": np.concatenate(self.scores)}

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        """The opposite of `tensors`."""
        self.label, self.scores = [], []
        if "ends" in tensors:
            inner = tensors["ends"][1:-1]
            self.label, self.scores = (np.split(tensors[name], inner) for name in ("label", "scores"))
