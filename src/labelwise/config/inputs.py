"""The menu of inputs: what a score, a selector, a label policy or a view may name, one row each.

Everything else reads it here: which settings go together, what predict keeps, what the stages hand over, what arrays of
a foreign detector carry, the tables of CONTRIBUTING and of the documentation, the arrays of the contract tests. To add
an input: a row here, and its value where the stage makes what is not a column of the detections (`Input.at`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from labelwise import catalog

if TYPE_CHECKING:
    from labelwise.types import Detections

Axis = Literal["boxes", "candidates", "images", "pool", "whole"]
"""What an input has values for: boxes, candidates (of a selector), images whose boxes are at hand, all images of the
pool; `whole`: none of these, it is the same for all.
"""
Values = Literal["share", "distribution", "class", "count", "amount", "number", "position", "offsets", "other"]
"""What one value is: from 0 to 1; such that sum to 1 over the last axis; number of a class; a whole number >= 0; any
number >= 0; any number; number of an image in the pool; offsets of rows.
"""
Need = Literal["labelled", "history", "truth", "tracks", "clips", "answers"]
"""What a run must have or do for it: predict wholly labelled images too, record the training, know the ground truth,
follow boxes from frame to frame, be of videos, hold its predictions against what was answered.
"""


@dataclass(frozen=True, slots=True)
class Input:
    """One input.

    name: the positional parameter by which a method asks for it.
    shape: its axes, "V n C"; empty: a single value. n are the rows of the axis that it has values for.
    axis, values: see `Axis`, `Values`.
    at: where the detections hold it, if they do.
    column: what the model must give beyond boxes and distributions: an output that predict keeps, or of the views.
    column_of_images: the same where the candidates are whole images.
    needs: see `Need`.
    task: of boxes ("detection") or of classified images alone.
    from_arrays: whether it can be made of a foreign detector's predictions and the ledger.
    images_only: whether it tells something of whole images although its axis does not say so.
    """

    name: str
    shape: str
    axis: Axis
    values: Values
    meaning: str
    at: str = ""
    column: str = ""
    column_of_images: str = ""
    needs: tuple[Need, ...] = ()
    task: Literal["detection", "classification"] | None = None
    from_arrays: bool = True
    images_only: bool = False

    @property
    def of_images(self) -> bool:
        """Whether a method that names it is one of whole images."""
        return self.axis in ("images", "pool") or self.images_only

    @property
    def position(self) -> int:
        """Which of its axes counts the images of the pool, the boxes or the candidates."""
        return self.shape.split().index("images" if self.axis == "pool" else "n")

    def needed(self, one_per_image: bool) -> str:
        """`column`; that of whole images where the candidates are these."""
        return self.column_of_images if one_per_image and self.column_of_images else self.column

    def of(self, found: Detections) -> Any:
        """Its value in these detections; None where they lack it."""
        value: Any = found
        for name in self.at.split("."):
            value = getattr(value, name, None)
        return value

    def __str__(self) -> str:
        shape = self.shape.replace(" ", ", ").replace("+", " + ")
        return f"`{self.name}`" + (f" [{shape}]" if shape else "")


# fmt: off
_COUNTS = Input("counts", "C", "whole", "count", "labelled objects of every class")
_RNG = Input("rng", "", "whole", "other", "generator, seeded by seed and round")
_SCORE = (
    Input("n", "", "whole", "count", "how many are scored"),
    _RNG,
    Input("probs", "n C", "boxes", "distribution", "class distribution", at="probs"),
    Input("scores", "n", "boxes", "share", "confidence", at="scores"),
    Input("labels", "n", "boxes", "class", "the most probable class", at="labels"),
    Input("features", "n D", "boxes", "number", "feature of the box", at="features", column="features"),
    Input("tightness", "n", "boxes", "share", "IoU with the proposal or anchor that the box came from",
          at="tightness", column="tightness", task="detection"),
    Input("quality", "n", "boxes", "share", "IoU with its object, as the model predicts it",
          at="quality", column="quality", task="detection", from_arrays=False),
    Input("view_probs", "V n C", "boxes", "distribution", "distribution under every view",
          at="views.probs", column="view_probs"),
    Input("view_scores", "V n", "boxes", "share", "confidence under every view",
          at="views.scores", column="view_probs"),
    Input("view_iou", "V n", "boxes", "share", "IoU with its match under every view; 0: it has none",
          at="views.iou", column="view_iou"),
    Input("view_boxes", "V n 4", "boxes", "amount", "corners of its match under every view, in pixels of the image",
          at="views.boxes", column="view_boxes", task="detection", from_arrays=False),
    _COUNTS,
    Input("difficulty", "C", "whole", "share", "how badly labelled objects of every class are found",
          needs=("labelled",), task="detection", from_arrays=False),
    Input("offsets", "images+1", "images", "offsets", "where the boxes of every image begin"),
    Input("predicted_loss", "images", "images", "amount", "loss that the model predicts for itself",
          at="per_image.predicted_loss", column="predicted_loss", task="detection", from_arrays=False),
    Input("labelled_probability", "images", "pool", "share", "how much it looks like the labelled images",
          column="image_features", needs=("labelled",), from_arrays=False),
    Input("image_features", "images D", "pool", "number", "feature of the image",
          at="per_image.features", column="image_features", from_arrays=False),
    Input("labelled_features", "m D", "whole", "number", "features of the labelled images",
          column="image_features", needs=("labelled",), from_arrays=False),
    Input("labelled_classes", "m", "whole", "class", "classes of the labelled images",
          task="classification", from_arrays=False),
    Input("history", "T images", "pool", "class", "class predicted after every epoch",
          needs=("history",), task="classification", from_arrays=False),
    Input("truth_classes", "images", "pool", "class", "the true classes, for study",
          needs=("truth",), task="classification", from_arrays=False),
    Input("estimated_fp", "images", "pool", "count", "boxes that the neighbouring frames call false",
          needs=("tracks", "clips"), task="detection"),
    Input("estimated_fn", "images", "pool", "count", "objects that the neighbouring frames say are missed",
          needs=("tracks", "clips"), task="detection"),
    Input("true_fp", "images", "pool", "count", "boxes that are false, for study",
          needs=("truth",), task="detection", from_arrays=False),
    Input("true_fn", "images", "pool", "count", "objects that are missed, for study",
          needs=("truth",), task="detection", from_arrays=False),
)
_SELECT = (
    Input("scores", "n", "candidates", "amount", "the score, as the selector before left it"),
    Input("labels", "n", "candidates", "class", "the class; of images and regions class shares [n, C]"),
    Input("frequency", "C", "whole", "distribution", "how frequent the classes are among the predictions (000, Eq. 1)"),
    _COUNTS,
    Input("target", "C", "whole", "amount", "how many of every class are wanted (001, chapter 4)"),
    Input("probs", "n C", "candidates", "distribution", "class distribution, the mean over its boxes"),
    Input("features", "n D", "candidates", "number", "feature of the box or image; the mean over a region's boxes",
          column="features", column_of_images="image_features"),
    Input("labelled_features", "m D", "whole", "number", "features of what is labelled",
          column="features", column_of_images="image_features", needs=("labelled",)),
    Input("scale", "n", "candidates", "count", "number of a region's scale"),
    Input("image", "n", "candidates", "position", "its image", images_only=True),
    Input("videos", "images", "pool", "count", "number of the video", needs=("clips",)),
    Input("labelled_images", "k", "whole", "position", "the images that are wholly labelled"),
    Input("box_offsets", "n+1", "candidates", "offsets", "where the boxes of every candidate begin"),
    Input("box_probs", "boxes C", "boxes", "distribution", "class distribution of its boxes", at="probs"),
    Input("box_scores", "boxes", "boxes", "share", "confidence of its boxes", at="scores"),
    Input("box_features", "boxes D", "boxes", "number", "feature of its boxes",
          at="features", column="features", task="detection"),
    Input("box_numbers", "boxes", "boxes", "count", "number of its boxes: one that several candidates hold has one"),
    Input("box_objects", "boxes", "boxes", "share", "how likely a box is an object, as answers tell of its confidence",
          needs=("answers",), task="detection"),
    Input("unseen", "n", "candidates", "amount", "expected objects beside its boxes of which the model learns",
          needs=("answers",), task="detection"),
    Input("look_seconds", "n", "candidates", "amount", "expected seconds of an answer, but for its boxes' objects",
          needs=("answers",), task="detection"),
    Input("object_seconds", "n", "candidates", "amount", "seconds for each of its boxes that is an object",
          task="detection"),
    Input("labelled_box_features", "m D", "whole", "number", "features of the boxes on labelled objects",
          column="features", needs=("labelled",), task="detection"),
    Input("budget_seconds", "", "whole", "amount", "seconds of the round; infinite where its budget counts others"),
    Input("budget", "", "whole", "count", "how many to pick"),
    _RNG,
)
_LABELS = (
    Input("scores", "n", "boxes", "share", "confidence"),
    Input("probs", "n C", "boxes", "distribution", "class distribution"),
    Input("consistency", "n", "boxes", "share", "mean IoU over the views: cons(b) of 000, Eq. 4", column="view_iou"),
    Input("answers_per_candidate", "n", "boxes", "amount", "answers in the box's image, over its open boxes"),
    Input("class_threshold", "n", "boxes", "share", "upper threshold that answers show for its class; NaN: too few"),
    Input("quality", "n", "boxes", "share", "IoU with its object, as the model predicts it", column="quality",
          task="detection", from_arrays=False),
    Input("tightness", "n", "boxes", "share", "IoU with the proposal or anchor that it came from", column="tightness",
          task="detection"),
    Input("round", "", "whole", "count", "number of the round"),
)
_VIEWS = (
    Input("image", "3 h w", "whole", "share", "pixels"),
    Input("boxes", "k 4", "whole", "amount", "corners in pixels"),
    _RNG,
)
# fmt: on
INPUTS: Mapping[str, Mapping[str, Input]] = MappingProxyType(
    {
        folder: MappingProxyType({row.name: row for row in rows})
        for folder, rows in (("score", _SCORE), ("select", _SELECT), ("labels", _LABELS), ("predict/views", _VIEWS))
    }
)
"""By folder and name. The same name may be another thing in another folder: `scores` are confidences to a score."""


def rows_of(folder: str, method: str, settings: Mapping[str, Any] | None = None) -> tuple[Input, ...]:
    """The rows of what a method names, in its order; with `settings`, of what it looks at when set so.

    An input whose name is one of the words that a setting takes is looked at only where the setting has that word: of
    `box: Literal["confidence", "quality"]`, the input `quality` where `box = "quality"`.

    Raises:
        LabelwiseError: no such method.
    """
    found = catalog.find(folder, method)
    rows = tuple(INPUTS[folder][name] for name in found.inputs)
    if settings is None:
        return rows
    on_demand = [word for parameter in found.settings.values() for word in get_args(parameter.annotation)]
    asked = [settings.get(key, parameter.default) for key, parameter in found.settings.items()]
    return tuple(row for row in rows if row.name not in on_demand or row.name in asked)


def problems(method: catalog.Method) -> list[str]:
    """A sentence for each name in a method's signature that is not on its folder's menu."""
    menu = INPUTS.get(method.folder)
    if menu is None:  # models and data formats are given one thing
        return []
    missing = [name for name in method.inputs if name not in menu]
    return [catalog.unknown(f"input of {method.folder}/{method.name}", name, sorted(menu)) for name in missing]


def of_images(folder: str, method: str) -> bool:
    """Whether a method is one of whole images: a score that gives one number per image, a selector of frames."""
    return any(one.of_images for one in rows_of(folder, method))
