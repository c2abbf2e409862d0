"""Everything that a model found on a pool: boxes, distributions, features, views, outputs of whole images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int64

from labelwise.types.columns import check, check_column, check_finite, check_offsets, image_of, offsets_of


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What the model said of every detection under each of V augmentations, matched to the detection by highest IoU.

    No counterpart: iou 0, score 0, probs NaN-free but irrelevant: `matched` is False and JS counts as maximal. `boxes`
    are the counterparts mapped back to the image and cut to it, in its pixels, without area where there is none; None
    where nobody asked for them.
    """

    names: tuple[str, ...]
    probs: Float32[np.ndarray, "V n C"]
    scores: Float32[np.ndarray, "V n"]
    iou: Float32[np.ndarray, "V n"]
    boxes: Float32[np.ndarray, "V n 4"] | None = None

    def __post_init__(self) -> None:
        n = self.iou.shape[1]
        check_column("Views", "probs", self.probs, np.float32, (len(self.names), n, None))
        check_column("Views", "scores", self.scores, np.float32, (len(self.names), n))
        check_column("Views", "iou", self.iou, np.float32, (len(self.names), n))
        for name in ("scores", "iou"):
            check_finite("Views", name, getattr(self, name).T)
        if self.boxes is not None:
            check_column("Views", "boxes", self.boxes, np.float32, (len(self.names), n, 4))
            check_finite("Views", "boxes", self.boxes.transpose(1, 0, 2))

    def take(self, rows: np.ndarray | slice) -> Views:
        """Those of the given rows."""
        boxes = None if self.boxes is None else self.boxes[:, rows]
        return Views(self.names, self.probs[:, rows], self.scores[:, rows], self.iou[:, rows], boxes)


@dataclass(frozen=True, slots=True, eq=False)
class ImageOutputs:
    """What a model said of whole images: the pooled feature of its backbone, and the loss that it predicts for itself.

    D is 0 where features were not asked for, `predicted_loss` 0 where the model has no loss head. `seen` tells which
    images the model was shown; the others hold zeros.
    """

    features: Float32[np.ndarray, "images D"]
    predicted_loss: Float32[np.ndarray, " images"]
    seen: Bool[np.ndarray, " images"]

    def __post_init__(self) -> None:
        n = len(self.seen)
        check_column("ImageOutputs", "seen", self.seen, np.bool_, (None,))
        check_column("ImageOutputs", "features", self.features, np.float32, (n, None))
        check_column("ImageOutputs", "predicted_loss", self.predicted_loss, np.float32, (n,))
        check_finite("ImageOutputs", "features", self.features)
        check_finite("ImageOutputs", "predicted_loss", self.predicted_loss)

    def __len__(self) -> int:
        return len(self.seen)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Everything that a model found on a pool, sorted by image; within an image by falling score.

    `scores` is the confidence: the largest foreground class probability as the model gives it (softmax with background,
    or the largest sigmoid). `probs` is the distribution over the C foreground classes, normalised to sum 1 (DESIGN
    section 7). `labels` is `probs.argmax(1)`. `features` is the RoI / anchor feature (D may be 0). `tightness` is the
    IoU of the box with the proposal or anchor it came from, None where nobody asked for it; `per_image` likewise, and
    `quality`, the IoU of the box with its object as the model predicts it, in 0..1.
    """

    offsets: Int64[np.ndarray, " images+1"]
    boxes: Float32[np.ndarray, "n 4"]
    probs: Float32[np.ndarray, "n C"]
    scores: Float32[np.ndarray, " n"]
    features: Float32[np.ndarray, "n D"]
    views: Views | None = None
    tightness: Float32[np.ndarray, " n"] | None = None
    per_image: ImageOutputs | None = None
    quality: Float32[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes)
        check_column("Detections", "boxes", self.boxes, np.float32, (n, 4))
        check_column("Detections", "probs", self.probs, np.float32, (n, None))
        check_column("Detections", "scores", self.scores, np.float32, (n,))
        check_column("Detections", "features", self.features, np.float32, (n, None))
        check_offsets("Detections", "offsets", self.offsets, n)
        for name in ("boxes", "probs", "scores"):
            check_finite("Detections", name, getattr(self, name))
        if self.views is not None:
            check(self.views.iou.shape[1] == n, f"Detections.views: expected {n} rows, got {self.views.iou.shape[1]}")
        for name, values in (("tightness", self.tightness), ("quality", self.quality)):
            if values is not None:
                check_column("Detections", name, values, np.float32, (n,))
                check_finite("Detections", name, values)
        if self.per_image is not None:
            images = len(self.per_image)
            check(images == self.n_images, f"Detections.per_image: {images} images, expected {self.n_images}")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def n_images(self) -> int:
        return len(self.offsets) - 1

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        return self.probs.argmax(axis=1).astype(np.int64) if self.probs.shape[1] else np.zeros(len(self), np.int64)

    @property
    def image(self) -> Int64[np.ndarray, " n"]:
        return image_of(self.offsets)

    def of_images(self, n_images: int) -> Detections:
        """With nothing in the images that came into the pool since."""
        missing = n_images - self.n_images
        if missing <= 0:
            return self
        offsets, said = np.pad(self.offsets, (0, missing), mode="edge"), self.per_image
        if said is not None:
            features = np.pad(said.features, ((0, missing), (0, 0)))
            said = ImageOutputs(features, np.pad(said.predicted_loss, (0, missing)), np.pad(said.seen, (0, missing)))
        return replace(self, offsets=offsets, per_image=said)

    def of_classes(self, n_classes: int) -> Detections:
        """With probability 0 for the classes that were added to the list since."""
        missing = n_classes - self.probs.shape[1]
        if missing <= 0:
            return self
        views = self.views
        if views is not None and views.probs.shape[2]:
            views = replace(views, probs=np.pad(views.probs, ((0, 0), (0, 0), (0, missing))))
        return replace(self, probs=np.pad(self.probs, ((0, 0), (0, missing))), views=views)

    def take(self, rows: np.ndarray) -> Detections:
        """The given rows (rising row numbers or a mask), with the same images."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        views = None if self.views is None else self.views.take(rows)
        tightness, quality = (None if one is None else one[rows] for one in (self.tightness, self.quality))
        columns = self.boxes[rows], self.probs[rows], self.scores[rows], self.features[rows]
        offsets = offsets_of(self.image[rows], self.n_images)
        return Detections(offsets, *columns, views, tightness, self.per_image, quality)
