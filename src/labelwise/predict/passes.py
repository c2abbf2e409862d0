"""A batch of images through the model: once untouched, once per view, everything matched to the untouched boxes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn

from labelwise import catalog
from labelwise.config.inputs import INPUTS
from labelwise.predict.match import match, onto_image, onto_view
from labelwise.types import Detections, ImageOutputs, LabelwiseError, Views, image_of, offsets_of

Model = Callable[[list[Tensor]], list[dict[str, Tensor]]]
"""Images float [3, h, w] in 0..1 -> per image its boxes [n, 4] in pixels, scores [n], probs [n, C], features [n, D];
where asked for, tightness [n], quality [n], image_feature [D] and predicted_loss []."""
STRIDE = 32
"""Images share a batch only if they are equally large once padded to this multiple, as torchvision's detectors pad even
a single image: so the company of an image changes nothing in what is found on it."""
ViewChoice = str | tuple[str, Mapping[str, Any]]
"""A file of predict/views (or a dotted name), alone or with its settings."""


@dataclass(frozen=True, slots=True)
class Image:
    """A readable image: number in the pool, name for messages, pixels uint8 [3, h, w], resized / original."""

    number: int
    name: str
    pixels: np.ndarray
    scale_xy: np.ndarray


@dataclass(frozen=True, slots=True)
class View:
    """A view with its settings; `label` is unique in its run."""

    label: str
    inputs: tuple[str, ...]
    function: Callable[..., tuple[Tensor, Tensor]]
    stochastic: bool = False

    def __call__(self, image: Tensor, boxes: np.ndarray, stream: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The augmented image and its affine; what is random in it depends on `stream` and the label alone."""
        rng = np.random.default_rng([*stream, zlib.crc32(self.label.encode())])
        menu = {"image": image, "boxes": torch.from_numpy(boxes), "rng": rng}
        return self.function(*(menu[name] for name in self.inputs))


def group_by_shape(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Numbers of the shapes [3, h, w] that are equally large once padded to a multiple of STRIDE, group by group.

    >>> group_by_shape([(3, 60, 64), (3, 64, 90), (3, 64, 33)])
    [[0, 2], [1]]
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for number, (_, height, width) in enumerate(shapes):
        groups.setdefault((-(-height // STRIDE), -(-width // STRIDE)), []).append(number)
    return list(groups.values())


def views_of(choices: Sequence[ViewChoice]) -> tuple[View, ...]:
    """Finds views by name. A view asked for twice is labelled `noise`, `noise-2`.

    Raises:
        LabelwiseError: a view or setting that does not exist, or an input that predict does not have.
    """
    found: list[View] = []
    for choice in choices:
        name, settings = (choice, {}) if isinstance(choice, str) else choice
        method = catalog.find("predict/views", name)
        problems = method.problems(settings)
        problems += [f"predict/views/{name} needs {n!r}" for n in method.inputs if n not in INPUTS["predict/views"]]
        if problems:
            raise LabelwiseError("; ".join(problems))
        again = sum(view.label.split("-")[0] == name for view in found)
        label = name if again == 0 else f"{name}-{again + 1}"
        stochastic = bool(method.constant("STOCHASTIC", False))
        found.append(View(label, method.inputs, partial(method.function, **settings), stochastic))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Passes:
    """Everything that stays the same from batch to batch. `stream` is (seed, round).

    `keep` names the optional outputs: `features` (per box), `tightness`, `quality`, `view_boxes`, `image_features`,
    `predicted_loss`. `members` are further models of a small ensemble; what each says counts as one more view of the
    untouched image.
    """

    model: Model
    views: tuple[View, ...]
    stream: tuple[int, ...]
    device: torch.device
    min_score: float
    keep: frozenset[str]
    bf16: bool
    members: tuple[Model, ...] = ()

    def run(self, images: Sequence[Image]) -> tuple[Detections, int]:
        """Detections of these images, in pixels of the original images, and how many had no area there."""
        tensors = [torch.tensor(image.pixels, device=self.device).float().div_(255) for image in images]
        found = self._ask(self.model, tensors, images, self.keep)
        original = _original_pixels(found.boxes, found.image, images)
        flat = (original[:, 2:] <= original[:, :2]).any(axis=1)
        keep = ~flat & (found.scores >= self.min_score)
        found, original = found.take(keep), original[keep]
        views = self._views(tensors, found, images) if self.views or self.members else None
        columns = found.probs, found.scores, found.features
        kept = Detections(found.offsets, original, *columns, views, found.tightness, found.per_image, found.quality)
        return kept, int(flat.sum())

    def _views(self, tensors: list[Tensor], found: Detections, images: Sequence[Image]) -> Views:
        shape = (len(self.views) + len(self.members), len(found))
        iou, scores = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        probs = np.full((*shape, found.probs.shape[1]), 1 / max(1, found.probs.shape[1]), np.float32)
        boxes = np.zeros((*shape, 4), np.float32) if "view_boxes" in self.keep else None
        spans = [slice(a, b) for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]
        for v, (seen, affine) in enumerate(self._under_views(tensors, found, spans, images)):
            mapped = onto_view(found.boxes, affine[found.image])
            iou[v], row = match(mapped, found.offsets, seen.boxes, seen.offsets)
            matched = row >= 0
            scores[v, matched], probs[v, matched] = seen.scores[row[matched]], seen.probs[row[matched]]
            if boxes is not None:
                image = found.image[matched]
                back = onto_image(seen.boxes[row[matched]], affine[image])
                boxes[v, matched] = _original_pixels(back, image, images)
        labels = [view.label for view in self.views] + [f"member-{k + 1}" for k in range(len(self.members))]
        return Views(tuple(labels), probs, scores, iou, boxes)

    def _under_views(
        self, tensors: list[Tensor], found: Detections, spans: list[slice], images: Sequence[Image]
    ) -> Iterator[tuple[Detections, np.ndarray]]:
        """What is found under every view and by every member, and the affine [images, 2, 3] onto that view."""
        for view in self.views:
            made = [
                view(tensor, found.boxes[span], (*self.stream, image.number))
                for tensor, span, image in zip(tensors, spans, images, strict=True)
            ]
            stream = (*self.stream, zlib.crc32(view.label.encode()), images[0].number)
            with dropping_out(self.model, stream) if view.stochastic else nullcontext():
                seen = self._ask(self.model, [augmented for augmented, _ in made], images)
            yield seen, torch.stack([affine for _, affine in made]).float().cpu().numpy()
        for member in self.members:
            yield self._ask(member, tensors, images), np.tile(np.eye(2, 3, dtype=np.float32), (len(images), 1, 1))

    def _ask(
        self, model: Model, tensors: list[Tensor], images: Sequence[Image], keep: frozenset[str] = frozenset()
    ) -> Detections:
        """What a model says, as columns, in pixels of the images it was given."""
        said: list[dict[str, Tensor]] = [{}] * len(tensors)
        for group in group_by_shape([tensor.shape for tensor in tensors]):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                answers = model([tensors[i] for i in group])
            if len(answers) != len(group):
                raise LabelwiseError(f"predict: the model answered {len(answers)} of {len(group)} images; expected all")
            for i, answer in zip(group, answers, strict=True):
                said[i] = answer

        def column(key: str) -> Float32[np.ndarray, "n ..."]:
            values: np.ndarray = torch.cat([one[key] for one in said]).float().cpu().numpy()
            return values

        offsets = np.concatenate([[0], np.cumsum([len(one["scores"]) for one in said])]).astype(np.int64)
        boxes, scores, probs = column("boxes"), column("scores"), column("probs")
        extra = column("features") if "features" in keep else np.zeros((len(scores), 0), np.float32)
        for key, values in (("boxes", boxes), ("scores", scores), ("probs", probs), ("features", extra)):
            bad: np.ndarray = np.logical_not(np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
            _refuse(
                bad, offsets, images, f"{key} that are not finite; the model has diverged or its weights are broken"
            )
        off: np.ndarray = np.abs(probs.sum(axis=1) - 1) > 1e-3
        _refuse(
            off,
            offsets,
            images,
            "probs that do not sum to 1; a model must normalise them over its classes, or "
            'say that its head is of sigmoids (labelwise.open(..., head="sigmoid"))',
        )
        if "tightness" in keep and "tightness" not in said[0]:
            raise LabelwiseError(
                "predict: the model tells no tightness, as it has neither anchors nor proposals; take "
                "--set model.name=retinanet or faster_rcnn, or another score"
            )
        tightness = column("tightness") if "tightness" in keep else None
        if "quality" in keep and "quality" not in said[0]:
            raise LabelwiseError("predict: the model has no quality head; train it with --set model.quality=true")
        quality = column("quality") if "quality" in keep else None
        return Detections(offsets, boxes, probs, scores, extra, None, tightness, _of_images(said, keep), quality)


@contextmanager
def dropping_out(model: Model, stream: tuple[int, ...]) -> Iterator[None]:
    """The model's dropout layers switched on, their noise drawn from `stream`; afterwards everything is as before."""
    modules = model.modules() if isinstance(model, nn.Module) else iter(())
    layers = [module for module in modules if isinstance(module, nn.Dropout | nn.Dropout2d)]
    if not any(layer.p > 0 for layer in layers):
        raise LabelwiseError(
            "predict: the view 'dropout' needs a model that drops out; set for example --set model.dropout=0.2"
        )
    for layer in layers:
        layer.train()
    try:
        with torch.random.fork_rng(devices=[] if not torch.cuda.is_available() else None):
            torch.manual_seed(int(np.random.default_rng(stream).integers(2**62)))
            yield
    finally:
        for layer in layers:
            layer.eval()


def _of_images(said: list[dict[str, Tensor]], keep: frozenset[str]) -> ImageOutputs | None:
    """The outputs per image that are asked for, None where none is."""
    if not keep & {"image_features", "predicted_loss"}:
        return None
    features = np.zeros((len(said), 0), np.float32)
    loss = np.zeros(len(said), np.float32)
    if "image_features" in keep:
        features = np.stack([one["image_feature"].float().cpu().numpy() for one in said])
    if "predicted_loss" in keep:
        if "predicted_loss" not in said[0]:
            raise LabelwiseError("predict: the model has no loss head; train it with --set model.loss_head=true")
        loss = np.array([float(one["predicted_loss"]) for one in said], np.float32)
    return ImageOutputs(features, loss, np.ones(len(said), np.bool_))


def _refuse(bad: Bool[np.ndarray, " n"], offsets: np.ndarray, images: Sequence[Image], what: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        image = int(image_of(offsets)[row])
        where = f"image {images[image].name}, detection {row - int(offsets[image])}"
        raise LabelwiseError(f"predict: {where}: the model gave {what}")


def _original_pixels(
    boxes: Float32[np.ndarray, "n 4"], per_box: Int64[np.ndarray, " n"], images: Sequence[Image]
) -> Float32[np.ndarray, "n 4"]:
    """Boxes of the resized images in pixels of the original ones, clipped to them; `per_box`: the image of each."""
    scale = np.array([image.scale_xy for image in images], np.float64)
    size = np.rint(np.array([image.pixels.shape[:0:-1] for image in images]) / scale)
    original = boxes / np.tile(scale, 2)[per_box]
    clipped: np.ndarray = np.clip(original, 0, np.tile(size, 2)[per_box]).astype(np.float32)
    return clipped


def in_order(parts: Sequence[Detections], places: Sequence[np.ndarray], n_images: int) -> Detections:
    """Batches put together: image `i` of part `p` becomes image `places[p][i]`; within an image by falling score."""
    image = np.concatenate([place[part.image] for part, place in zip(parts, places, strict=True)])
    scores = np.concatenate([part.scores for part in parts])
    order = np.lexsort((-scores, image))

    def joined(column: Callable[[Detections], np.ndarray]) -> np.ndarray:
        return np.concatenate([column(part) for part in parts])[order]

    views = None
    if all(part.views is not None for part in parts):
        tables = [part.views for part in parts if part.views is not None]
        corners = [t.boxes for t in tables if t.boxes is not None]
        views = Views(
            tables[0].names,
            np.concatenate([t.probs for t in tables], axis=1)[:, order],
            np.concatenate([t.scores for t in tables], axis=1)[:, order],
            np.concatenate([t.iou for t in tables], axis=1)[:, order],
            np.concatenate(corners, axis=1)[:, order] if corners else None,
        )
    columns = joined(lambda d: d.boxes), joined(lambda d: d.probs), scores[order], joined(lambda d: d.features)
    tightness = quality = None
    if all(part.tightness is not None for part in parts):
        tightness = np.concatenate([part.tightness for part in parts if part.tightness is not None])[order]
    if all(part.quality is not None for part in parts):
        quality = np.concatenate([part.quality for part in parts if part.quality is not None])[order]
    said = _images_in_order([part.per_image for part in parts], places, n_images)
    return Detections(offsets_of(image[order], n_images), *columns, views, tightness, said, quality)


def _images_in_order(
    parts: Sequence[ImageOutputs | None], places: Sequence[np.ndarray], n_images: int
) -> ImageOutputs | None:
    known = [(part, place) for part, place in zip(parts, places, strict=True) if part is not None]
    if not known:
        return None
    width = known[0][0].features.shape[1]
    out = ImageOutputs(
        np.zeros((n_images, width), np.float32), np.zeros(n_images, np.float32), np.zeros(n_images, np.bool_)
    )
    for part, place in known:
        out.features[place], out.predicted_loss[place], out.seen[place] = part.features, part.predicted_loss, part.seen
    return out
