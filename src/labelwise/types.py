"""What flows between the stages: frozen tables of NumPy arrays, checked once, when they are made.

Conventions (DESIGN section 7): boxes are float32 `xyxy` in pixels of the *original* image (as displayed, after EXIF
orientation), `0 <= x1 < x2 <= width`; IoU without "+1". Ragged data is columnar: the rows of image `i` are
`offsets[i]:offsets[i + 1]`. Images are numbered by their position in the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64, UInt8

from labelwise.boxes import Boxes as Boxes
from labelwise.boxes import Rects as Rects
from labelwise.clips import Clips as Clips
from labelwise.clips import Tracks as Tracks
from labelwise.columns import LabelwiseError as LabelwiseError
from labelwise.columns import check, check_column, check_finite, check_offsets
from labelwise.columns import image_of as image_of
from labelwise.columns import offsets_of as offsets_of

Unit = Literal["box", "image", "region"]
Verdict = Literal["object", "background", "duplicate", "all", "skipped"]

ORIGIN_LABEL, ORIGIN_PSEUDO = 0, 1
"""`Targets.origin`: a box that somebody annotated, and a box that the model predicted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a data set, and what was done about it."""

    kind: str
    where: str
    what: str
    handling: str


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The images of one split of a data set, with ground truth where there is any.

    `names` are file paths relative to `root`, unique; they identify an image in the ledger. `truth` is None for a bare
    image folder; for classification it is one box per image, the whole of it (`Boxes.of_images`). `crowd` are
    ground-truth regions to ignore (COCO `iscrowd`, VOC `difficult`). `problems` is what the reader found wrong, and how
    it handled it. `pixels` are the decoded images, where the data set is an archive or an array and not image files.
    `unavailable` says of images that a project knows and that cannot be shown now (by number) why: they keep their
    place and their labels, but are neither asked nor trained on.
    """

    root: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    width_px: Int64[np.ndarray, " images"]
    height_px: Int64[np.ndarray, " images"]
    truth: Boxes | None = None
    crowd: Rects | None = None
    problems: tuple[Problem, ...] = ()
    pixels: UInt8[np.ndarray, "images height width 3"] | None = None
    clips: Clips | None = None
    frames: Callable[[int], np.ndarray] | None = None
    unavailable: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(len(set(self.names)) == len(self.names), f"Pool {self.root}: image names are not unique")
        check(len(set(self.classes)) == len(self.classes), f"Pool {self.root}: class names are not unique")
        check_column("Pool", "width_px", self.width_px, np.int64, (len(self.names),))
        check_column("Pool", "height_px", self.height_px, np.int64, (len(self.names),))
        if self.truth is not None:
            check(len(self.truth.offsets) == len(self.names) + 1, f"Pool {self.root}: truth has other images")
        if self.pixels is not None:
            check_column("Pool", "pixels", self.pixels, np.uint8, (len(self.names), None, None, 3))
        if self.clips is not None:
            check(len(self.clips) == len(self.names), f"Pool {self.root}: clips has {len(self.clips)} images")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def one_class_per_image(self) -> bool:
        """Whether this is a classification data set: every image has one object, and that is the whole image."""
        if self.truth is None or len(self.truth) != len(self) or not len(self):
            return False
        size = np.stack([self.width_px, self.height_px], axis=1)
        alone = (np.diff(self.truth.offsets) == 1).all()
        return bool(alone and (self.truth.xyxy[:, :2] == 0).all() and (self.truth.xyxy[:, 2:] == size).all())

    @property
    def available(self) -> Bool[np.ndarray, " images"]:
        """Which images can be shown now, as far as is known."""
        found = np.ones(len(self), np.bool_)
        found[list(self.unavailable)] = False
        return found

    def path(self, image: int) -> Path:
        return self.root / self.names[image]


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What the model said of every detection under each of V augmentations, matched to the detection by highest IoU.

    No counterpart: iou 0, score 0, probs NaN-free but irrelevant: `matched` is False and JS counts as maximal.
    """

    names: tuple[str, ...]
    probs: Float32[np.ndarray, "V n C"]
    scores: Float32[np.ndarray, "V n"]
    iou: Float32[np.ndarray, "V n"]

    def __post_init__(self) -> None:
        n = self.iou.shape[1]
        check_column("Views", "probs", self.probs, np.float32, (len(self.names), n, None))
        check_column("Views", "scores", self.scores, np.float32, (len(self.names), n))
        check_column("Views", "iou", self.iou, np.float32, (len(self.names), n))
        for name in ("scores", "iou"):
            check_finite("Views", name, getattr(self, name).T)


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
    IoU of the box with the proposal or anchor it came from, None where nobody asked for it; `per_image` likewise.
    """

    offsets: Int64[np.ndarray, " images+1"]
    boxes: Float32[np.ndarray, "n 4"]
    probs: Float32[np.ndarray, "n C"]
    scores: Float32[np.ndarray, " n"]
    features: Float32[np.ndarray, "n D"]
    views: Views | None = None
    tightness: Float32[np.ndarray, " n"] | None = None
    per_image: ImageOutputs | None = None

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
        if self.tightness is not None:
            check_column("Detections", "tightness", self.tightness, np.float32, (n,))
            check_finite("Detections", "tightness", self.tightness)
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
        v = self.views
        views = None if v is None else Views(v.names, v.probs[:, rows], v.scores[:, rows], v.iou[:, rows])
        tightness = None if self.tightness is None else self.tightness[rows]
        columns = self.boxes[rows], self.probs[rows], self.scores[rows], self.features[rows]
        return Detections(offsets_of(self.image[rows], self.n_images), *columns, views, tightness, self.per_image)


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `box` and `label` are the candidate box, `box` alone the region, neither a whole image; `reason`
    is the score's parts.
    """

    round: int
    rank: int
    image: str
    unit: Unit
    box: tuple[float, float, float, float] | None = None
    label: int | None = None
    score: float = 0.0
    reason: Mapping[str, float | str] = field(default_factory=dict)
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one query.

    verdict "object": `boxes`/`labels` hold the one annotated object (box query). "all": every object of the image or
    region, possibly none (it is covered from then on). "background": no object there. "duplicate": the object had been
    annotated before. "skipped": no answer could be given (`note` says why). `classes`: how many classes whoever
    answered knew of (None: all there are); an answer that says "nothing else" is refused if one was added since.
    """

    query: int
    verdict: Verdict
    boxes: Sequence[tuple[float, float, float, float]] = ()
    labels: Sequence[int] = ()
    who: str = "oracle"
    seconds: float = 0.0
    note: str = ""
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What has been spent, in every unit at once (DESIGN section 4)."""

    boxes: int = 0
    queries: int = 0
    images: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """All that is known of a pool: the partial-label model of DESIGN section 3, one row per image of the pool.

    `annotations`: the current (not superseded) annotated boxes. `coverage`: inside such a rectangle every object is
    annotated. `background`: such a candidate box holds no object. `answered`: at least one query on it was answered.
    """

    annotations: Boxes
    coverage: Rects
    background: Rects
    answered: Bool[np.ndarray, " images"]


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the model trains on this round; one entry of `images` (pool numbers) per training image.

    Every box carries the weights of its classification and localisation loss (000, Eq. 5-7). An anchor that matches no
    box is a negative where at least half of its area lies inside the image's `negatives` rectangles (the whole image,
    unless the policy ignores what nobody looked at), and is ignored where at least half lies inside `ignore`.
    `windows` is the part of the image that an entry shows: the whole of it, or a labelled region that is trained on as
    a crop; an image may have several entries. Everything is in pixels of the original image.
    """

    images: Int64[np.ndarray, " m"]
    offsets: Int64[np.ndarray, " m+1"]
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    w_cls: Float32[np.ndarray, " n"]
    w_box: Float32[np.ndarray, " n"]
    origin: Int8[np.ndarray, " n"]
    negatives: Rects
    ignore: Rects
    windows: Float32[np.ndarray, "m 4"]

    def __post_init__(self) -> None:
        n = len(self.boxes)
        check_column("Targets", "windows", self.windows, np.float32, (len(self.images), 4))
        check_column("Targets", "boxes", self.boxes, np.float32, (n, 4))
        check_column("Targets", "labels", self.labels, np.int64, (n,))
        for name in ("w_cls", "w_box"):
            check_column("Targets", name, getattr(self, name), np.float32, (n,))
            check_finite("Targets", name, getattr(self, name))
        check_column("Targets", "origin", self.origin, np.int8, (n,))
        check_offsets("Targets", "offsets", self.offsets, n)
        for name, rects in (("negatives", self.negatives), ("ignore", self.ignore)):
            check(len(rects.offsets) == len(self.images) + 1, f"Targets.{name}: expected {len(self.images)} images")
        check(len(self.offsets) == len(self.images) + 1, f"Targets.offsets: expected {len(self.images)} images")

    def __len__(self) -> int:
        return len(self.images)
