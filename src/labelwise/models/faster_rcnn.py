"""Faster R-CNN: proposals, then classes per region; confidence = the largest class probability, in 0..1.

The softmax includes the background; `probs` is renormalised over the classes (DESIGN section 7).

Source: 000 sections 3.2 and 4.1 (Eq. 7, for objectness and box head alike), on torchvision's Faster R-CNN: the same
modules, names and, with all weights 1 and `normalise = "torchvision"`, the same losses. The feature is the last hidden
layer of the box head (002, "FC2").
Beside boxes, scores, probs and features, a candidate has its tightness: IoU with the proposal that it came from. An
image has `image_feature`, the mean of the body's deepest map over the image, and with `loss_head` its
`predicted_loss` (see `_loss_head`).
Differs from the paper: the default is a size that two CPU cores can train (see `benchmarks/detector_speed.py`); the
paper's is backbone "resnet50", fpn_channels 256, anchor_sizes (32, 64, 128, 256, 512), box_width 1024, roi_size 7,
rois 512, proposals 1000.
Fails when: an image holds more objects than a quarter of `rois`; the rest then waits for later steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from labelwise.models import _anchors, _backbones, _loss_head, _normalise, _pooling, _weighted, _weights
from labelwise.models._proposer import Proposer, sample
from labelwise.types import LabelwiseError


class BoxHead(TwoMLPHead):  # type: ignore[misc]
    """torchvision's two hidden layers, with dropout after the first."""

    def __init__(self, in_channels: int, width: int, dropout: float) -> None:
        super().__init__(in_channels, width)
        self.dropout = _anchors.dropout(nn.Dropout, dropout)

    def forward(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n d"]:
        hidden = self.dropout(functional.relu(self.fc6(x.flatten(1))))
        return functional.relu(self.fc7(hidden))


class Regions(nn.Module):
    """The second stage: pooled features of a proposal to class scores and one box per class."""

    def __init__(self, pool: nn.Module, box_head: nn.Module, box_predictor: nn.Module, sampled: int) -> None:
        super().__init__()
        self.pool, self.box_head, self.box_predictor = pool, box_head, box_predictor
        self.matcher = Matcher(0.5, 0.5, allow_low_quality_matches=False)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.sampler = BalancedPositiveNegativeSampler(sampled, 0.25)

    def forward(
        self, levels: list[Tensor], boxes: list[Float[Tensor, "_ 4"]], padded: tuple[int, int]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c1"], Float[Tensor, "n c1 4"]]:
        features = self.box_head(self.pool(levels, boxes, padded))
        features, logits, shifts = map(_anchors.full, (features, *_anchors.last(self.box_predictor, features)))
        return features, logits, shifts.view(len(logits), shifts.shape[1] // 4, 4)

    @torch.no_grad()
    def chosen(
        self, boxes: list[Float[Tensor, "p 4"]], truth: _weighted.Truth
    ) -> tuple[list[Float[Tensor, "s 4"]], Int64[Tensor, " n"]]:
        """A random sample of proposals and true boxes per image, and the row of `truth` that each learns from."""
        spans = list(zip(truth.first, truth.first[1:], strict=False))
        boxes = [torch.cat((b, truth.boxes[first:last])) for b, (first, last) in zip(boxes, spans, strict=True)]
        rows = [_weighted.assign(b, truth, i, self.matcher) for i, b in enumerate(boxes)]
        picks = [sample(self.sampler, r[None])[1].sort()[0] for r in rows]
        boxes = [b[pick] for b, pick in zip(boxes, picks, strict=True)]
        return boxes, torch.cat([r[pick] for r, pick in zip(rows, picks, strict=True)])


def image_of(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Int64[Tensor, " n"]:
    """The number of the image of every box."""
    device = boxes[0].device
    counts = torch.tensor([len(b) for b in boxes], device=device)
    return torch.arange(len(boxes), device=device).repeat_interleave(counts)


class FasterRCNN(nn.Module):
    """Losses in training (`model(images, targets)`), candidates in evaluation (`model(images)`)."""

    def __init__(
        self,
        backbone: _backbones.Trunk,
        rpn: Proposer,
        roi_heads: Regions,
        *,
        n_classes: int,
        weights_input: _backbones.WeightsInput,
        division: _normalise.Division,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
        loss_head: _loss_head.LossHead | None,
    ) -> None:
        super().__init__()
        self.backbone, self.rpn, self.roi_heads, self.loss_head = backbone, rpn, roi_heads, loss_head
        self.weights_input = weights_input
        self.n_classes, self.division = n_classes, division
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        batch, sizes = _backbones.batch_of(images, self.weights_input)
        maps, deepest = self.backbone.maps(batch)
        levels = list(maps.values())
        head = self.rpn.head
        towers = [head.conv(level) for level in levels]
        scores, moves = ([_anchors.last(layer, t) for t in towers] for layer in (head.cls_logits, head.bbox_pred))
        grids = [(int(t.shape[2]), int(t.shape[3])) for t in towers]
        per_level = [h * w * self.rpn.anchors.per_location for h, w in grids]
        objectness = _anchors.flatten_levels(scores, 1)[:, :, 0]
        shifts = _anchors.flatten_levels(moves, 4)
        padded = (int(batch.shape[2]), int(batch.shape[3]))
        anchors = self.rpn.anchors(padded, grids, batch)
        boxes = self.rpn.propose(objectness, shifts, anchors, per_level, sizes)
        with torch.autocast(batch.device.type, enabled=False):
            predicted = {} if self.loss_head is None else {"predicted_loss": self.loss_head(levels[:-1], sizes, padded)}
        if not self.training:
            features, classes, moves = self.roi_heads(levels[:-1], boxes, padded)
            with torch.autocast(batch.device.type, enabled=False):
                whole = {"image_feature": _pooling.image_mean(_anchors.full(deepest), sizes, padded)}
                return self._detect(boxes, features, classes, moves, sizes, whole | predicted)
        if targets is None:
            raise ValueError("FasterRCNN in training mode needs targets")
        truth = _weighted.truth_of(targets, sizes, self.n_classes)
        with torch.autocast(batch.device.type, enabled=False):
            losses, anchor_sample = self.rpn.losses(objectness, shifts, anchors, truth, self.division)
        boxes, rows = self.roi_heads.chosen(boxes, truth)
        _, classes, moves = self.roi_heads(levels[:-1], boxes, padded)
        with torch.autocast(batch.device.type, enabled=False):
            more, box_sample = self._region_losses(boxes, rows, truth, classes, moves)
            losses |= more
            if self.loss_head is not None:
                stages = ((anchor_sample, self.rpn.coder), (box_sample, self.roi_heads.coder))
                own = sum(_weighted.own_losses(s, len(sizes), truth, c, self.division) for s, c in stages)
                losses["predicted_loss"] = self.loss_head.loss(predicted["predicted_loss"], cast(Tensor, own))
        return losses

    def _region_losses(
        self,
        boxes: list[Float[Tensor, "s 4"]],
        rows: Int64[Tensor, " n"],
        truth: _weighted.Truth,
        logits: Float[Tensor, "n c1"],
        shifts: Float[Tensor, "n c1 4"],
    ) -> tuple[dict[str, Tensor], _weighted.Sampled]:
        column = torch.zeros_like(rows)  # 0 is the background
        column[rows >= 0] = truth.labels[rows[rows >= 0]] + 1
        cost = functional.cross_entropy(logits, column, reduction="none")
        own = shifts[torch.arange(len(rows), device=rows.device), column]
        sampled = _weighted.Sampled(cost, own, torch.cat(boxes), rows, image_of(boxes))
        terms = _weighted.sampled_losses(sampled, truth, self.roi_heads.coder, self.division)
        return {"classification": terms[0], "bbox_regression": terms[1]}, sampled

    def _detect(
        self,
        proposals: list[Float[Tensor, "p 4"]],
        features: Float[Tensor, "n d"],
        logits: Float[Tensor, "n c1"],
        shifts: Float[Tensor, "n c1 4"],
        sizes: Float[Tensor, "b 2"],
        whole_image: dict[str, Tensor],
    ) -> list[dict[str, Tensor]]:
        classes = logits.softmax(1)[:, 1:]
        scores, label = classes.max(1)
        image, origin = image_of(proposals), torch.cat(proposals)
        likely = (scores > self.score_threshold).nonzero()[:, 0]
        boxes = self.roi_heads.coder.decode_single(shifts[likely, label[likely] + 1], origin[likely])
        boxes = _anchors.clip(boxes, image[likely], sizes)
        whole = _anchors.has_area(boxes)
        boxes, likely = boxes[whole], likely[whole]
        kept = _anchors.best_of(boxes, scores[likely], image[likely], nms_iou=self.nms_iou, most=self.max_detections)
        boxes, likely = boxes[kept], likely[kept]
        columns = {
            "boxes": boxes,
            "scores": scores[likely],
            "probs": classes[likely] / classes[likely].sum(1, keepdim=True),
            "features": features[likely],
            "tightness": _anchors.tightness(boxes, origin[likely]),
        }
        return _anchors.per_image(columns, image[likely], whole_image)


def build(
    n_classes: int,
    *,
    backbone: _backbones.BackboneName | _backbones.TimmName = "shufflenet_v2_x0_5",
    weights: str = "none",
    weights_input: _backbones.WeightsInput = "imagenet",
    activation: Literal["auto", "relu", "leaky_relu"] = "auto",
    fpn_channels: int = 64,
    anchor_sizes: tuple[int, ...] = (16, 32, 64, 128),
    anchors_per_octave: int = 1,
    proposals: int = 100,
    rpn_sampled: int = 128,
    rois: int = 64,
    roi_size: int = 5,
    box_width: int = 256,
    trainable_stages: int | None = None,
    frozen_norms: bool | None = None,
    normalise: _normalise.Normalise = "torchvision",
    pseudo: _normalise.Pseudo = "together",
    negatives: _normalise.Negatives = "hard",
    score_threshold: float = 0.05,
    nms_iou: float = 0.5,
    max_detections: int = 100,
    dropout: float = 0.0,
    loss_head: bool = False,
    loss_head_weight: float = 1.0,
) -> nn.Module:
    """Faster R-CNN for `n_classes` classes (0 to C - 1, no background).

    Args:
        n_classes: number of classes C.
        backbone: the convolutional body: one of torchvision, or "timm:NAME" (the extra `timm`).
        weights: "none", "imagenet" or "coco" (the hub), a name of `labelwise weights`, or the path of a .pth
            or .safetensors file. The body must fit; of a whole detector also what else has this model's shapes, never
            the class head.
        weights_input: how the backbone's training normalised its images.
        activation: "auto" is leaky_relu for a file whose batch norms are all folded (NanoDet), else relu.
        fpn_channels: width of the pyramid.
        anchor_sizes: base size in pixels per level; the last level is pooled from the one before, the others are the
            body's last ones (4 sizes: from stride 8; 5 sizes: from stride 4, where the backbone has it).
        anchors_per_octave: anchor scales between a level's base size and the next one's.
        proposals: regions per image that reach the second stage; twice as many per level enter suppression.
        rpn_sampled: anchors per image in the loss of the first stage.
        rois: regions per image in the loss of the second stage, at most a quarter of them positive.
        roi_size: side of the pooled feature map.
        box_width: width of the box head, and of the features.
        trainable_stages: the last so many stages of the backbone learn; None = all, all but the first if pre-trained.
        frozen_norms: batch norms of the backbone keep their statistics; None = only with weights = "coco". Norms
            that were folded into a file's convolutions are estimated anew on the first training batch.
        normalise: by what the loss is divided: "torchvision", "paper" (000, Eq. 7) or "batch" (mmdetection); see
            `_normalise`.
        pseudo: "apart": annotated and pseudo boxes are an average each (002, Eq. 3); "together": one.
        negatives: "background": a negative where the model before saw an object weighs the probability of background
            (Soft Teacher); "hard": it weighs 1.
        score_threshold: candidates below it are dropped.
        nms_iou: of two candidates that overlap by more than this, the lower is dropped, whatever their classes.
        max_detections: candidates per image.
        dropout: share of the box head's first hidden layer that is dropped in training.
        loss_head: also learn to predict the loss of every image (see `_loss_head`).
        loss_head_weight: weight of that in the training loss, lambda.
    """
    source = _weights.read(weights, "faster_rcnn", backbone)
    layers = _backbones.body(backbone, source.activation if activation == "auto" else activation)
    first = _backbones.levels_of(backbone) + 1 - len(anchor_sizes)
    if first < 0 or len(anchor_sizes) < 2:
        most = _backbones.levels_of(backbone) + 1
        raise LabelwiseError(
            f"anchor_sizes has {len(anchor_sizes)} levels; Faster R-CNN on {backbone} takes 2 to {most}"
        )
    trunk = _backbones.trunk(layers, backbone, first, fpn_channels, LastLevelMaxPool())
    anchors = _anchors.Anchors(anchor_sizes, anchors_per_octave, (0.5, 1.0, 2.0))
    rpn = Proposer(RPNHead(fpn_channels, anchors.per_location), anchors, proposals, rpn_sampled)
    box_head = BoxHead(fpn_channels * roi_size**2, box_width, dropout)
    model = FasterRCNN(
        trunk,
        rpn,
        Regions(_pooling.PyramidPool(roi_size), box_head, FastRCNNPredictor(box_width, n_classes + 1), rois),
        n_classes=n_classes,
        weights_input=weights_input,
        division=_normalise.Division(normalise, pseudo, negatives),
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        max_detections=max_detections,
        loss_head=_loss_head.LossHead(fpn_channels, len(anchor_sizes) - 1, loss_head_weight) if loss_head else None,
    )
    source.load_into(model)
    trunk.freeze(
        backbone,
        trainable_stages,
        frozen_norms=source.frozen_norms if frozen_norms is None else frozen_norms,
        folded_norms=source.folded,
        pretrained=bool(source.tensors),
    )
    return cast(nn.Module, model.to(memory_format=torch.channels_last))
