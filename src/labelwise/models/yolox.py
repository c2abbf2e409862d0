"""YOLOX: one stage without anchors, from nano (0.9 M weights) to m; confidence = objectness times the largest class.

Classes are sigmoids whose targets are the IoU of the predicted box, divided by their sum for `probs`; objectness says
whether a cell holds an object at all, and with COCO's weights it knows that before the first label. A candidate's
feature is what the branch of the classes says at its cell; an image has `image_feature`, the mean of the body's deepest
map over the image.

Source: Ge et al., YOLOX, arXiv 2107.08430: the network (`yolox_network`), SimOTA (`_simota`), its losses; weighted as
000, Eq. 7: objectness and class of a positive weigh what `w_cls` of its box says, its IoU loss `w_box`, negatives 1
where nothing tells that they are unknown. All sums are divided by the positives of the batch whose weight is above 0.
Differs from the paper: no L1 loss at the end, no mosaic or mixup, no moving average of the weights; suppression knows
no classes (DESIGN section 7); the bias of the classes begins at 1 / C, for that branch learns from positives alone.
Fails when: objects are smaller than about 8 px, or no weights are given and there are few images. A candidate has no
tightness: there is neither anchor nor proposal that it could have moved from.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from labelwise import weights as known_weights
from labelwise.models import _anchors, _normalise, _norms, _pooling, _simota, _weighted, yolox_files
from labelwise.models.yolox_network import GREY, Pixels, Size, YoloxNetwork, boxes, cells
from labelwise.types import LabelwiseError

BOX_WEIGHT = 5.0
"""Weight of the IoU loss."""
PRIOR = 0.01
"""Objectness at the start where nothing is known."""
LARGEST = 8.0
"""Largest log of a predicted side in cells while training, so that no area overflows."""
STAGES = ("stem", "dark2", "dark3", "dark4", "dark5")
"""Layers of the body that can be frozen."""


class Yolox(nn.Module):
    """Losses in training (`model(images, targets)`), candidates in evaluation (`model(images)`)."""

    def __init__(
        self,
        network: YoloxNetwork,
        *,
        n_classes: int,
        negatives: _normalise.Negatives,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
        pre_nms: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.n_classes, self.negatives = n_classes, negatives
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections
        self.pre_nms = pre_nms
        self.frozen: list[nn.Module] = []
        self.frozen_norms = self.folded_norms = False

    def train(self, mode: bool = True) -> Yolox:
        super().train(mode)
        for layer in [self.network] if self.frozen_norms else self.frozen:
            for module in layer.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def freeze(self, trainable_stages: int, *, frozen_norms: bool, folded_norms: bool) -> None:
        """Keeps all but the last so many stages of the body, and optionally every batch norm, as they are."""
        if not 0 <= trainable_stages <= len(STAGES):
            raise LabelwiseError(
                f"trainable_stages = {trainable_stages}: yolox has {len(STAGES)} stages; give 0 to {len(STAGES)}"
            )
        body = self.network.backbone.backbone
        self.frozen = [getattr(body, name) for name in STAGES[: len(STAGES) - trainable_stages]]
        self.frozen_norms, self.folded_norms = frozen_norms, folded_norms
        for layer in self.frozen:
            layer.requires_grad_(False)
        for module in self.network.modules():
            if frozen_norms and isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self.train(self.training)

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        batch, sizes = _batch_of(images)
        padded = (int(batch.shape[2]), int(batch.shape[3]))
        batch = self.network.prepared(batch).contiguous(memory_format=torch.channels_last)
        if self.folded_norms and self.training and not self.frozen_norms:
            self.folded_norms = False
            _norms.unfold(self.network, lambda: self._run(batch))
        outputs, towers, deepest = self._run(batch)
        grid = cells(*padded, batch.device).to(batch.dtype)
        with torch.autocast(batch.device.type, enabled=False):
            outputs = _anchors.full(outputs)
            if self.training:
                if targets is None:
                    raise ValueError("YOLOX in training mode needs targets")
                return self._losses(outputs, grid, _weighted.truth_of(targets, sizes, self.n_classes))
            whole = {"image_feature": _pooling.image_mean(_anchors.full(deepest), sizes, padded)}
            return self._detect(outputs, grid, towers, sizes, whole)

    def _run(self, batch: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, list[Tensor], Tensor]:
        """Rows of the cells, the towers of the classes, the deepest map of the body."""
        *levels, deepest = self.network.backbone(batch)
        outputs, towers = self.network.head(levels, True)
        return outputs, towers, deepest

    def _losses(
        self, outputs: Float[Tensor, "b a o"], grid: Float[Tensor, "a 3"], truth: _weighted.Truth
    ) -> dict[str, Tensor]:
        said = torch.cat((outputs[..., :2], outputs[..., 2:4].clamp(max=LARGEST)), -1)
        predicted, objectness, classes = boxes(said, grid), outputs[..., 4], outputs[..., 5:]
        rows = _simota.assign(predicted.detach(), objectness.detach(), classes.detach(), grid, truth)
        positive = rows >= 0
        weight = _weighted.weights_of(rows, truth.w_cls).to(outputs.dtype)
        if self.negatives == "background" and any(doubt is not None for doubt in truth.doubt):
            sure = [_weighted.negative_weights(own, truth, i) for i, own in enumerate(predicted.detach())]
            weight = torch.where(rows == _weighted.NEGATIVE, torch.stack(sure).to(weight.dtype), weight)
        image, cell = positive.nonzero(as_tuple=True)
        hit = rows[image, cell]
        overlap = _simota.iou_of_pairs(predicted[image, cell], truth.boxes[hit].to(outputs.dtype))
        wanted = functional.one_hot(truth.labels[hit], self.n_classes) * overlap.detach()[:, None]
        cost = functional.binary_cross_entropy_with_logits(classes[image, cell], wanted, reduction="none").sum(1)
        shows = functional.binary_cross_entropy_with_logits(objectness, positive.to(outputs.dtype), reduction="none")
        w_box = truth.w_box[hit]
        used = _normalise.count(positive & (weight > 0))
        return {
            "classification": (cost * weight[image, cell]).sum() / used,
            "objectness": (shows * weight).sum() / used,
            "bbox_regression": BOX_WEIGHT * ((1 - overlap.square()) * w_box).sum() / _normalise.count(w_box > 0),
        }

    def _detect(
        self,
        outputs: Float[Tensor, "b a o"],
        grid: Float[Tensor, "a 3"],
        towers: list[Float[Tensor, "b d _ _"]],
        sizes: Float[Tensor, "b 2"],
        whole_image: dict[str, Tensor],
    ) -> list[dict[str, Tensor]]:
        confidence = outputs[..., 4].sigmoid() * outputs[..., 5:].amax(2).sigmoid()
        best, index = confidence.topk(min(self.pre_nms, confidence.shape[1]), dim=1)
        image, rank = (best > self.score_threshold).nonzero(as_tuple=True)
        cell, scores = index[image, rank], best[image, rank]
        found = _anchors.clip(boxes(outputs[image, cell, None, :4], grid[cell, None])[:, 0], image, sizes)
        whole = _anchors.has_area(found)
        found, scores, image, cell = found[whole], scores[whole], image[whole], cell[whole]
        kept = _anchors.best_of(found, scores, image, nms_iou=self.nms_iou, most=self.max_detections)
        image, cell = image[kept], cell[kept]
        sigmoids = outputs[image, cell, 5:].sigmoid()
        tower = torch.cat([t.permute(0, 2, 3, 1).flatten(1, 2) for t in towers], 1)
        columns = {
            "boxes": found[kept],
            "scores": scores[kept],
            "probs": sigmoids / sigmoids.sum(1, keepdim=True),
            "features": tower[image, cell].float(),
        }
        return _anchors.per_image(columns, image, whole_image)


def _batch_of(images: Sequence[Float[Tensor, "3 _ _"]]) -> tuple[Float[Tensor, "b 3 H W"], Float[Tensor, "b 2"]]:
    """One batch in 0..1, grey up to a multiple of 32 px on the right and below, and every image's (height, width)."""
    sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    batch = images[0].new_full((len(images), 3, height, width), GREY)
    for slot, image, (h, w) in zip(batch, images, sizes, strict=True):
        slot[:, :h, :w] = image
    return batch, torch.tensor(sizes, dtype=batch.dtype, device=batch.device)


def _begin(network: YoloxNetwork, n_classes: int) -> None:
    """The biases of objectness and classes at the start."""
    for objects, classes in zip(network.head.obj_preds, network.head.cls_preds, strict=True):
        nn.init.constant_(cast(Tensor, objects.bias), log(PRIOR / (1 - PRIOR)))
        nn.init.constant_(cast(Tensor, classes.bias), -log(max(n_classes - 1, 1)))


def _read(weights: str, size: Size) -> tuple[dict[str, Tensor], Pixels]:
    """What a file has, but for its classes; nothing for "none"."""
    if weights == "none":
        return {}, "imagenet"
    name = f"yolox_{size}" if weights == "coco" else weights
    path = known_weights.path_of(name, "model.weights", among=known_weights.of_kind("yolox"))
    tensors, pixels = yolox_files.read(path, size)
    return {key: value for key, value in tensors.items() if not key.startswith("head.cls_preds.")}, pixels


def build(
    n_classes: int,
    *,
    size: Size = "nano",
    weights: str = "none",
    trainable_stages: int = 5,
    frozen_norms: bool | None = None,
    negatives: _normalise.Negatives = "hard",
    score_threshold: float = 0.05,
    nms_iou: float = 0.5,
    max_detections: int = 100,
    pre_nms: int = 1000,
    dropout: float = 0.0,
) -> nn.Module:
    """YOLOX for `n_classes` classes (0 to C - 1, no background).

    Args:
        n_classes: number of classes C.
        size: "nano" (0.9 M weights), "tiny" (5 M), "s" (9 M) or "m" (25 M).
        weights: "none", "coco" (the authors' release, fetched by `labelwise weights`, nano alone) or the path of a
            release of this size, .pth or .safetensors; everything but the classes is taken over.
        trainable_stages: the last so many of the five stages of the body learn; pyramid and head always do.
        frozen_norms: all batch norms keep their statistics, scale and shift; None = with weights. Norms that were
            folded into a file's convolutions are else estimated anew on the first training batch.
        negatives: "background": a negative where the model before saw an object weighs the probability of background
            (Soft Teacher); "hard": it weighs 1.
        score_threshold: candidates below it are dropped.
        nms_iou: of two candidates that overlap by more than this, the lower is dropped, whatever their classes.
        max_detections: candidates per image.
        pre_nms: candidates per image that enter suppression.
        dropout: share of channels, drawn per image and level, that are dropped before the classes in training;
            features are taken before that.
    """
    tensors, pixels = _read(weights, size)
    network = YoloxNetwork(n_classes, pixels, size)
    _begin(network, n_classes)
    network.load_state_dict(tensors, strict=False)
    network.head.dropout = _anchors.dropout(nn.Dropout2d, dropout)
    model = Yolox(
        network,
        n_classes=n_classes,
        negatives=negatives,
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        max_detections=max_detections,
        pre_nms=pre_nms,
    )
    means = [value for key, value in tensors.items() if key.endswith("running_mean")]
    folded = bool(means) and not any(bool(mean.any()) for mean in means)
    still = bool(tensors) if frozen_norms is None else frozen_norms
    model.freeze(trainable_stages, frozen_norms=still, folded_norms=folded)
    return cast(nn.Module, model.to(memory_format=torch.channels_last))
