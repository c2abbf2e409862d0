"""RT-DETRv2 and D-FINE of Hugging Face `transformers` as models of the loop (the extra `transformers`).

Every query says a box and a sigmoid per class; it is a candidate whose confidence is the largest of them. Its feature
is its embedding after the last decoder layer; `image_feature` is the mean of the encoder's deepest map over the image.
Losses as `_rt_detr_loss` has them, summed by kind.

Differs from the papers: images keep their ratio and are padded to a multiple of 32 px, where the authors stretch them
to 640 x 640; suppression knows no classes and is there at all (DESIGN section 7; `nms_iou = 1` lets all pass). With
random weights convolutions and norms begin as in torch, as the authors' do.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import box_convert

from labelwise.models import _anchors, _normalise, _pooling, _weighted
from labelwise.models._set_loss import Labels, corners
from labelwise.types import LabelwiseError

KINDS = {"loss_vfl": "classification", "loss_bbox": "bbox_regression", "loss_giou": "bbox_regression"}
KINDS |= {"loss_fgl": "bbox_regression", "loss_ddf": "distillation"}
"""The loss that every term of `transformers` belongs to."""
CLASS_LAYERS = ("class_embed", "enc_score_head", "denoising_class_embed")
"""Layers whose weights are not taken over where the classes are others."""


class LastLinear(nn.Linear):
    """A last layer, in float32 under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = _anchors.last(super().forward, x)
        return found


class SetDetector(nn.Module):
    """Losses in training (`model(images, targets)`), candidates in evaluation (`model(images)`)."""

    def __init__(
        self,
        network: Any,
        *,
        n_classes: int,
        negatives: _normalise.Negatives,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
    ) -> None:
        super().__init__()
        self.network = network
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear) and any(layer in name for layer in CLASS_LAYERS):
                module.__class__ = LastLinear
        self.n_classes, self.negatives = n_classes, negatives
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections
        self.still: list[nn.Module] = []

    def train(self, mode: bool = True) -> SetDetector:
        super().train(mode)
        for part in self.still:
            for module in part.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def freeze(self, trainable_stages: int | None, *, all_norms: bool, body_norms: bool) -> None:
        """Keeps all but the last so many stages of the body, and batch norms, as they are; None: all stages learn."""
        body = self.network.model.backbone.model
        stages = [body.embedder, *body.encoder.stages]
        if trainable_stages is None:
            trainable_stages = len(stages)
        if not 0 <= trainable_stages <= len(stages):
            raise LabelwiseError(
                f"trainable_stages = {trainable_stages}: {type(self.network).__name__} has {len(stages)} stages; "
                f"give 0 to {len(stages)}"
            )
        frozen = stages[: len(stages) - trainable_stages]
        self.still = [self.network] if all_norms else [body] if body_norms else frozen
        for part in frozen:
            part.requires_grad_(False)
        for part in self.still:
            for module in part.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.requires_grad_(False)
        self.train(self.training)
        self.train(self.training)

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        batch, sizes = _batch_of(images, self.network.config)
        padded = (int(batch.shape[2]), int(batch.shape[3]))
        if not self.training:
            said = self.network(pixel_values=batch)
            with torch.autocast(batch.device.type, enabled=False):
                return self._detect(said, sizes, padded)
        if targets is None:
            raise ValueError(f"{type(self.network).__name__} in training mode needs targets")
        truth = _weighted.truth_of(targets, sizes, self.n_classes)
        labels = [labels_of(truth, i, padded, doubt=self.negatives == "background") for i in range(len(images))]
        losses: dict[str, Tensor] = {}
        for name, value in self.network(pixel_values=batch, labels=labels).loss_dict.items():
            kind = KINDS["_".join(name.split("_")[:2])]
            losses[kind] = losses[kind] + value if kind in losses else value
        return losses

    def _detect(self, said: Any, sizes: Float[Tensor, "b 2"], padded: tuple[int, int]) -> list[dict[str, Tensor]]:
        deepest = _anchors.full(said.encoder_last_hidden_state[-1])
        whole = {"image_feature": _pooling.image_mean(deepest, sizes, padded)}
        sigmoids = _anchors.full(said.logits).sigmoid()
        confidence = sigmoids.amax(2)
        image, query = (confidence > self.score_threshold).nonzero(as_tuple=True)
        scale = sizes.new_tensor([padded[1], padded[0]] * 2)
        boxes = _anchors.clip(corners(_anchors.full(said.pred_boxes)[image, query]) * scale, image, sizes)
        some = _anchors.has_area(boxes)
        boxes, image, query = boxes[some], image[some], query[some]
        scores = confidence[image, query]
        kept = _anchors.best_of(boxes, scores, image, nms_iou=self.nms_iou, most=self.max_detections)
        image, query = image[kept], query[kept]
        classes = sigmoids[image, query]
        columns = {
            "boxes": boxes[kept],
            "scores": scores[kept],
            "probs": classes / classes.sum(1, keepdim=True),
            "features": said.last_hidden_state[image, query].float(),
        }
        return _anchors.per_image(columns, image, whole)


def labels_of(truth: _weighted.Truth, image: int, padded: tuple[int, int], *, doubt: bool) -> Labels:
    """The targets of one image as `_set_loss` takes them: shares of the padded batch."""
    mine = slice(*truth.first[image : image + 2])
    scale = truth.boxes.new_tensor([padded[1], padded[0]] * 2)
    boxes = box_convert(truth.boxes[mine] / scale, "xyxy", "cxcywh")
    on = (truth.w_cls[mine] > 0) | (truth.w_box[mine] > 0)
    found = {"boxes": boxes[on], "class_labels": truth.labels[mine][on]}
    found |= {"w_cls": truth.w_cls[mine][on], "w_box": truth.w_box[mine][on]}
    found |= {"muted": boxes[~on], "muted_labels": truth.labels[mine][~on]}
    for name, rects in (("negatives", truth.negatives[image]), ("ignore", truth.ignore[image])):
        found |= {} if rects is None else {name: rects / scale}
    unsure = truth.doubt[image]
    if doubt and unsure is not None:
        found |= {"doubt": unsure[0] / scale, "doubt_scores": unsure[1]}
    return found


def _batch_of(images: Sequence[Float[Tensor, "3 _ _"]], config: Any) -> tuple[Tensor, Float[Tensor, "b 2"]]:
    """One batch in 0..1, padded to a multiple of 32 and until there is a location for every query; (height, width)."""
    sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    while sum((height // stride) * (width // stride) for stride in config.feat_strides) < config.num_queries:
        height, width = (height + 32, width) if height <= width else (height, width + 32)
    batch = images[0].new_zeros((len(images), 3, height, width))
    for slot, image, (h, w) in zip(batch, images, sizes, strict=True):
        slot[:, :h, :w] = image
    return batch, torch.tensor(sizes, dtype=batch.dtype, device=batch.device)


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the library's tables of layers that begin anew; that is said here."""
    before = library.utils.logging.get_verbosity()
    library.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        library.utils.logging.set_verbosity(before)


def network_of(
    kind: str,
    n_classes: int,
    weights: str,
    sizes: Mapping[str, Mapping[str, Any]],
    size: str,
    changes: Mapping[str, Any],
) -> tuple[Any, bool]:
    """A network of `transformers`, and whether its weights want the body's norms left alone.

    Args:
        kind: how the names of its classes begin, "RTDetrV2" or "DFine".
        n_classes: number of classes C.
        weights: "none", or a name on the hub or a folder.
        sizes: settings of the configuration per size; `body` are those of the body.
        size: one of them, for `weights` = "none".
        changes: settings of the configuration that are set in any case.

    Raises:
        LabelwiseError: `transformers` is not installed; the weights cannot be had or are another network's.
    """
    try:
        library: Any = importlib.import_module("transformers")
    except ModuleNotFoundError:
        raise LabelwiseError(
            f"model.name: {kind} is a network of the package transformers, which is not installed: pip install "
            "'labelwise[transformers]'"
        ) from None
    model = getattr(library, f"{kind}ForObjectDetection")
    changes = {**changes, "num_labels": n_classes, "anchor_image_size": None, "eval_size": None}
    if weights == "none":
        own = dict(sizes[size])
        body = {"RTDetrV2": library.RTDetrResNetConfig, "DFine": library.HGNetV2Config}[kind](**own.pop("body"))
        said = {**own, **changes, "backbone_config": body, "freeze_backbone_batch_norms": False}
        return _fresh(model(getattr(library, f"{kind}Config")(**said))), False
    try:
        with _quiet(library):
            config = getattr(library, f"{kind}Config").from_pretrained(weights)
            still, config.freeze_backbone_batch_norms = bool(config.freeze_backbone_batch_norms), False
            config.update(changes)
            network, said = model.from_pretrained(
                weights, config=config, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except (OSError, ValueError) as error:
        raise LabelwiseError(
            f"model.weights = {weights!r}: {kind} cannot be had from there ({str(error).splitlines()[0]}). Fetch it "
            'where there is a network (`hf download NAME`) and set model.weights = "hf:FOLDER", or set it to "none"'
        ) from error
    lost = {*said["missing_keys"], *(key for key, *_ in said["mismatched_keys"])}
    allowed = (*CLASS_LAYERS, "num_batches_tracked")
    strange = sorted(key for key in lost if not any(layer in key for layer in allowed))
    if strange:
        raise LabelwiseError(
            f"model.weights = {weights!r}: not the weights of a {kind}: {len(strange)} of its tensors are missing "
            f"or of another shape, {strange[0]} for one"
        )
    return network, still


def _fresh(network: Any) -> Any:
    """Convolutions and batch norms as torch begins them; `transformers` draws both near 0, where nothing learns."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.reset_parameters()
    return network


def source_of(weights: str, coco: str | None) -> str:
    """The name on the hub, or the folder, of what the setting `weights` says; `coco`: of the authors' weights, if any.

    >>> source_of("hf:me/mine", "them/theirs"), source_of("coco", "them/theirs"), source_of("none", "them/theirs")
    ('me/mine', 'them/theirs', 'none')
    """
    family, colon, name = weights.partition(":")
    if weights not in ("none", "coco") and not (family == "hf" and colon and name):
        raise LabelwiseError(
            f'model.weights = {weights!r}: expected "none", "coco" (the authors\' weights, from the hub) or "hf:NAME", '
            "a name on the hub or a folder"
        )
    if weights == "coco" and coco is None:
        raise LabelwiseError(
            'model.weights = "coco": there are none of this size; set model.size to another one, or "none"'
        )
    inner = Path(name).expanduser()
    return {"none": "none", "coco": coco}.get(weights) or (str(inner) if inner.is_dir() else name)
