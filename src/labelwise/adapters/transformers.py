"""DETR, RT-DETR, RT-DETRv2 and D-FINE of Hugging Face `transformers`: predictions, and their loss with weights.

    model = weighted(RTDetrV2ForObjectDetection.from_pretrained(...))  # trains as before, also by their Trainer
    loss = model(pixel_values=images, labels=[labels(target) for target in project.targets(...)]).loss
    predictions = project.predict(Detector(model))

With labels of their own kind (no weights, no `negatives`) the loss is the library's own. It needs the extra
`transformers`. Classes are numbered 0 to C - 1 in the order of the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from labelwise.api.target import Target
from labelwise.models import _set_loss as sets
from labelwise.models._rt_detr_loss import d_fine_loss, rt_detr_loss
from labelwise.models._set_loss import Labels, LayerOutput, Matcher
from labelwise.types import LabelwiseError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KNOWN = {
    "ForObjectDetectionLoss": "detr",
    "RTDetrForObjectDetectionLoss": "rt_detr",
    "DFineForObjectDetectionLoss": "d_fine",
}


def labels(target: Target) -> dict[str, Tensor]:
    """A target as these models take it: boxes as (centre x, centre y, width, height), shares of the window shown.

    An object of weight 0 goes to `muted`: it is not matched, and what finds it is not called background.
    """
    x1, y1, x2, y2 = target.window
    origin, size = np.array([x1, y1, x1, y1], np.float32), np.array([x2 - x1, y2 - y1] * 2, np.float32)

    def shares(boxes: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip((boxes - origin) / size, 0, 1), np.float32)

    xyxy = shares(target.boxes)
    centred = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    on = (target.w_cls > 0) | (target.w_box > 0)
    columns = {"boxes": centred[on], "class_labels": target.labels[on]}
    columns |= {"w_cls": target.w_cls[on], "w_box": target.w_box[on]}
    columns |= {"muted": centred[~on], "muted_labels": target.labels[~on]}
    columns |= {"negatives": shares(target.negatives), "ignore": shares(target.ignore)}
    return {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}


def weighted(model: nn.Module) -> nn.Module:
    """Gives the model the weighted loss, in place; everything else about it stays.

    Raises:
        LabelwiseError: a model with another loss than DETR's, RT-DETR's or D-FINE's.
    """
    losses = {"detr": detr_loss, "rt_detr": rt_detr_loss, "d_fine": d_fine_loss}
    model.loss_function = losses[kind_of(model)]  # type: ignore[assignment]
    return model


def kind_of(model: nn.Module) -> str:
    """Which loss the model has: "detr" (softmax with "no object"), "rt_detr" or "d_fine" (sigmoids)."""
    known: dict[Any, str] = {detr_loss: "detr", rt_detr_loss: "rt_detr", d_fine_loss: "d_fine"}
    loss = getattr(model, "loss_function", None)
    found = known.get(loss) or KNOWN.get(getattr(loss, "__name__", ""))
    if found is None:
        raise LabelwiseError(
            f"{type(model).__name__} has the loss {getattr(loss, '__name__', None)}; expected {' or '.join(KNOWN)} "
            "(DetrForObjectDetection, RTDetrForObjectDetection, RTDetrV2ForObjectDetection, DFineForObjectDetection)"
        )
    return found


def detr_loss(
    logits: Float[Tensor, "b q c1"],
    labels: Sequence[Labels],
    device: torch.device,
    pred_boxes: Float[Tensor, "b q 4"],
    config: Any,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    **_: Any,
) -> tuple[Tensor, dict[str, Tensor], list[dict[str, Tensor]] | None]:
    """The loss of `DetrForObjectDetection`, weighted; called by the model."""
    from transformers.loss.loss_for_object_detection import HungarianMatcher

    sets.check(labels)
    match: Matcher = HungarianMatcher(
        class_cost=config.class_cost, bbox_cost=config.bbox_cost, giou_cost=config.giou_cost
    )
    class_weight = torch.ones(config.num_labels + 1, device=logits.device)
    class_weight[-1] = config.eos_coefficient
    auxiliary = None
    layers = {"": LayerOutput(logits, pred_boxes)}
    if config.auxiliary_loss:
        auxiliary = [
            {"logits": a, "pred_boxes": b} for a, b in zip(outputs_class[:-1], outputs_coord[:-1], strict=True)
        ]
        layers |= {f"_{i}": LayerOutput(one["logits"], one["pred_boxes"]) for i, one in enumerate(auxiliary)}
    found: dict[str, Tensor] = {}
    factor = {"loss_ce": 1, "loss_bbox": config.bbox_loss_coefficient, "loss_giou": config.giou_loss_coefficient}
    for suffix, said in layers.items():
        pairs = said.match(labels, match)
        use = sets.counted(said, labels, pairs, match)
        classes = sets.chosen_classes(said, labels, pairs, config.num_labels)
        ce = sets.cross_entropy(said, classes, use, class_weight)
        l1, giou = sets.box_losses(said, labels, pairs, sets.number_of(labels, "w_box"))
        found |= {f"loss_ce{suffix}": ce, f"loss_bbox{suffix}": l1, f"loss_giou{suffix}": giou}
    total = torch.stack([value * factor["_".join(name.split("_")[:2])] for name, value in found.items()]).sum()
    return total, found, auxiliary


class Detector:
    """A model as `Project.predict` takes it: images float [3, h, w] in 0..1 to boxes with their class distribution.

    Args:
        model: DETR, RT-DETR, RT-DETRv2 or D-FINE, on any device.
        mean, std: of the model's input; None: ImageNet's for DETR, else (0, 1), as they were trained.
        size_px: (height, width) that every image is resized to; None: as it comes, padded to a multiple of 32.
        min_score: candidates of lower confidence are dropped.
    """

    def __init__(
        self,
        model: Any,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size_px: tuple[int, int] | None = None,
        min_score: float = 0.05,
    ) -> None:
        self.model, self.kind, self.size_px, self.min_score = model.eval(), kind_of(model), size_px, min_score
        plain = IMAGENET if self.kind == "detr" else ((0.0,) * 3, (1.0,) * 3)
        self.mean, self.std = tuple(mean or plain[0]), tuple(std or plain[1])

    @torch.inference_mode()
    def __call__(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.model.eval()
        device = next(self.model.parameters()).device
        batch, mask, sizes = _padded([image.to(device) for image in images], self.size_px)
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        batch = (batch - mean) / std * mask[:, None]
        more = {"pixel_mask": mask.long()} if self.kind == "detr" else {}
        said = self.model(pixel_values=batch, **more)
        features = said.last_hidden_state
        found = []
        for i, image in enumerate(images):
            if self.kind == "detr":
                every = said.logits[i].float().softmax(-1)[:, :-1]
            else:
                every = said.logits[i].float().sigmoid()
            height, width = image.shape[1:]
            # DETR's boxes are shares of the image alone, the others' of the padded batch
            share = (1.0, 1.0) if self.kind == "detr" else sizes[i]
            scale = torch.tensor([width / share[1], height / share[0]] * 2, device=device)
            limit = torch.tensor([width, height] * 2, device=device)
            boxes = torch.minimum((sets.corners(said.pred_boxes[i].float()) * scale).clamp(min=0), limit)
            scores = every.max(1).values
            rows = (scores >= self.min_score) & (boxes[:, 2:] - boxes[:, :2] > 0.01).all(1)
            columns = {"boxes": boxes, "scores": scores, "probs": every / every.sum(1, keepdim=True).clamp(min=1e-12)}
            found.append({name: column[rows] for name, column in columns.items()} | {"features": features[i][rows]})
        return found


def _padded(images: list[Tensor], size_px: tuple[int, int] | None) -> tuple[Tensor, Tensor, list[tuple[float, float]]]:
    """One batch, which of its pixels are of an image, and the share of its height and width that each image fills."""
    if size_px is not None:
        resized = [
            functional.interpolate(image[None], size=size_px, mode="bilinear", antialias=True) for image in images
        ]
        batch = torch.cat(resized)
        return batch, torch.ones_like(batch[:, 0]), [(1.0, 1.0)] * len(images)
    height, width = (-(-max(int(image.shape[d]) for image in images) // 32) * 32 for d in (1, 2))
    batch = images[0].new_zeros((len(images), 3, height, width))
    mask = images[0].new_zeros((len(images), height, width))
    for i, image in enumerate(images):
        h, w = image.shape[1:]
        batch[i, :, :h, :w], mask[i, :h, :w] = image, 1
    return batch, mask, [(image.shape[1] / height, image.shape[2] / width) for image in images]


def collate(images: Sequence[Tensor], targets: Sequence[Target]) -> tuple[Tensor, Tensor, list[dict[str, Tensor]]]:
    """A padded batch `pixel_values`, `pixel_mask` and `labels` of images float [3, h, w] of the targets' windows.

    For DETR, whose boxes are shares of each image; RT-DETR wants images of one size, which need no padding.
    """
    batch, mask, _ = _padded(list(images), None)
    return batch, mask.long(), [labels(target) for target in targets]
