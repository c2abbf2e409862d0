"""RetinaNet: one stage, focal loss, on a pyramid from stride 8; confidence = the largest class sigmoid, in 0..1.

Source: 000 sections 3.2 and 4.1 (Eq. 7), on torchvision's RetinaNet: the same modules, names and, with all weights 1
and `normalise = "torchvision"`, the same losses.
Beside boxes, scores, probs and features, a candidate has its tightness: IoU with the anchor that it came from, cut to
the image as a proposal would be. With `quality` it has its quality, too: the IoU with its object as the model predicts
it (see `_quality`). An image has `image_feature`, the mean of the body's deepest map over the image, and
with `loss_head` its `predicted_loss` (see `_loss_head`).
Differs from the paper: the default is a size that two CPU cores can train (see `benchmarks/detector_speed.py`); the
paper's is backbone "resnet50", fpn_channels 256, head_convs 4, anchors_per_octave 3, anchor_sizes (32, 64, 128, 256,
512); weights = "coco" fits it, and any other size in the body alone.
Fails when: objects are smaller than about half the first anchor size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetHead

from labelwise.models import _anchors, _backbones, _loss_head, _normalise, _pooling, _quality, _weighted, _weights
from labelwise.types import LabelwiseError


@dataclass(frozen=True, slots=True)
class _Costs:
    """Costs and weights of all anchors; `off`: of the positives' boxes, at (`image`, `anchor`), `pseudo` or not."""

    cost: Float[Tensor, "b a"]
    w_cls: Float[Tensor, "b a"]
    positive: Bool[Tensor, "b a"]
    off: Float[Tensor, " p"]
    image: Int64[Tensor, " p"]
    anchor: Int64[Tensor, " p"]
    w_box: Float[Tensor, "b a"]
    pseudo: Bool[Tensor, " p"]

    def divided(self, division: _normalise.Division) -> dict[str, Tensor]:
        """Both losses, divided as `_normalise` says of RetinaNet."""
        normalise, by_weight = division.normalise, division.negatives == "background"
        count = _normalise.count
        if division.pseudo == "apart":
            cls, box = self._apart(division)
        elif normalise == "paper":
            cls = _normalise.mean_of_each(self.cost, self.w_cls, self.positive, by_weight=by_weight)
            box = self.off.sum() / count(self.w_box > 0)
        elif normalise == "batch":
            cls = _normalise.over_positives(self.cost, self.w_cls, self.positive)
            box = self.off.sum() / count(self.w_box > 0)
        else:
            cls = _normalise.per_image_mean(self.cost, self.w_cls, self.positive)
            box = (self.off / count(self.w_box > 0, 1)[self.image]).sum() / len(self.cost)
        return {"classification": cls, "bbox_regression": box}

    def _apart(self, division: _normalise.Division) -> tuple[Tensor, Tensor]:
        """Positives of annotated and of pseudo boxes as an average each, per image or over the batch."""
        dim = 1 if division.normalise == "torchvision" else None
        where, used = (self.image, self.anchor), self.w_cls > 0
        pseudo = torch.zeros_like(self.positive).index_put(where, self.pseudo)
        rest = _normalise.count(used & self.positive, dim)
        if division.normalise == "paper":
            rest = _normalise.amount(self.w_cls, used & ~self.positive, division.negatives == "background")
        cls = _normalise.average_of_each(self.cost, self.w_cls, self.positive, pseudo, rest, dim)
        off = torch.zeros_like(self.cost).index_put(where, self.off)
        used = self.w_box > 0
        box = _normalise.average_of_each(off, used.to(off.dtype), used, pseudo, torch.ones_like(rest), dim)
        return cls.mean(), box.mean()

    @torch.no_grad()
    def own(self, division: _normalise.Division) -> Float[Tensor, " b"]:
        """Every image's own loss: the sum of both as if the image were alone in its batch."""
        alone = (self._of(i).divided(division) for i in range(len(self.cost)))
        return torch.stack([losses["classification"] + losses["bbox_regression"] for losses in alone])

    def _of(self, i: int) -> _Costs:
        one, mine = slice(i, i + 1), self.image == i
        return _Costs(
            self.cost[one], self.w_cls[one], self.positive[one], self.off[mine], torch.zeros_like(self.image[mine]),
            self.anchor[mine], self.w_box[one], self.pseudo[mine],
        )  # fmt: skip


class RetinaNet(nn.Module):
    """Losses in training (`model(images, targets)`), candidates in evaluation (`model(images)`)."""

    def __init__(
        self,
        backbone: _backbones.Trunk,
        head: RetinaNetHead,
        anchors: _anchors.Anchors,
        *,
        n_classes: int,
        weights_input: _backbones.WeightsInput,
        division: _normalise.Division,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
        pre_nms: int,
        dropout: float,
        loss_head: _loss_head.LossHead | None,
        quality: _quality.QualityHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.anchors, self.loss_head = backbone, head, anchors, loss_head
        self.quality = quality
        self.dropout = _anchors.dropout(nn.Dropout2d, dropout)
        self.weights_input = weights_input
        self.n_classes, self.division = n_classes, division
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections
        self.pre_nms = pre_nms
        self.matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        batch, sizes = _backbones.batch_of(images, self.weights_input)
        maps, deepest = self.backbone.maps(batch)
        levels = list(maps.values())
        classifier, regressor = self.head.classification_head, self.head.regression_head
        towers = [classifier.conv(level) for level in levels]
        logits = _anchors.flatten_levels(
            [_anchors.last(classifier.cls_logits, self.dropout(t)) for t in towers], self.n_classes
        )
        places = [regressor.conv(level) for level in levels]
        shifts = _anchors.flatten_levels([_anchors.last(regressor.bbox_reg, place) for place in places], 4)
        quality = None if self.quality is None else self.quality(places)
        grids = [(int(t.shape[2]), int(t.shape[3])) for t in towers]
        padded = (int(batch.shape[2]), int(batch.shape[3]))
        anchors = self.anchors(padded, grids, batch)
        with torch.autocast(batch.device.type, enabled=False):
            predicted = {} if self.loss_head is None else {"predicted_loss": self.loss_head(levels, sizes, padded)}
            if self.training:
                if targets is None:
                    raise ValueError("RetinaNet in training mode needs targets")
                truth = _weighted.truth_of(targets, sizes, self.n_classes)
                return self._losses(logits, shifts, anchors, truth, quality, **predicted)
            whole = {"image_feature": _pooling.image_mean(_anchors.full(deepest), sizes, padded)}
            return self._detect(logits, shifts, anchors, towers, sizes, whole | predicted, quality)

    def _losses(
        self,
        logits: Float[Tensor, "b a c"],
        shifts: Float[Tensor, "b a 4"],
        anchors: Float[Tensor, "a 4"],
        truth: _weighted.Truth,
        quality: Float[Tensor, "b a"] | None = None,
        predicted_loss: Float[Tensor, " b"] | None = None,
    ) -> dict[str, Tensor]:
        rows = torch.stack([_weighted.assign(anchors, truth, i, self.matcher) for i in range(len(logits))])
        positive = rows >= 0
        w_cls = _weighted.weights_of(rows, truth.w_cls)
        if self.division.negatives == "background" and any(doubt is not None for doubt in truth.doubt):
            sure = torch.stack([_weighted.negative_weights(anchors, truth, i) for i in range(len(logits))])
            w_cls = torch.where(rows == _weighted.NEGATIVE, sure.to(w_cls.dtype), w_cls)
        image, anchor = positive.nonzero(as_tuple=True)
        hit = rows[image, anchor]
        wanted = self.coder.encode_single(truth.boxes[hit], anchors[anchor])
        off = functional.l1_loss(shifts[image, anchor], wanted, reduction="none").sum(1) * truth.w_box[hit]
        costs = _Costs(
            _weighted.focal_cost(logits, rows, truth.labels),
            w_cls,
            positive,
            off,
            image,
            anchor,
            torch.zeros_like(w_cls).index_put((image, anchor), truth.w_box[hit]),
            truth.pseudo[hit],
        )
        losses = costs.divided(self.division)
        if quality is not None:
            boxes = self.coder.decode_single(shifts[image, anchor].detach(), anchors[anchor])
            off = _quality.cost(quality[image, anchor], boxes, truth.boxes[hit], truth.w_box[hit])
            losses["quality"] = replace(costs, off=off).divided(self.division)["bbox_regression"]
        if self.loss_head is not None and predicted_loss is not None:
            losses["predicted_loss"] = self.loss_head.loss(predicted_loss, costs.own(self.division))
        return losses

    def _detect(
        self,
        logits: Float[Tensor, "b a c"],
        shifts: Float[Tensor, "b a 4"],
        anchors: Float[Tensor, "a 4"],
        towers: list[Float[Tensor, "b d _ _"]],
        sizes: Float[Tensor, "b 2"],
        whole_image: dict[str, Tensor],
        quality: Float[Tensor, "b a"] | None = None,
    ) -> list[dict[str, Tensor]]:
        best, index = logits.amax(2).topk(min(self.pre_nms, logits.shape[1]), dim=1)
        image, rank = (best.sigmoid() > self.score_threshold).nonzero(as_tuple=True)
        anchor, scores = index[image, rank], best[image, rank].sigmoid()
        if self.quality is not None and quality is not None:
            scores = self.quality.confidence(scores, quality[image, anchor])
        boxes = self.coder.decode_single(shifts[image, anchor], anchors[anchor])
        boxes = _anchors.clip(boxes, image, sizes)
        whole = _anchors.has_area(boxes)
        boxes, scores, image, anchor = boxes[whole], scores[whole], image[whole], anchor[whole]
        kept = _anchors.best_of(boxes, scores, image, nms_iou=self.nms_iou, most=self.max_detections)
        boxes, image, anchor = boxes[kept], image[kept], anchor[kept]
        sigmoids = logits[image, anchor].sigmoid()
        columns = {
            "boxes": boxes,
            "scores": scores[kept],
            "probs": sigmoids / sigmoids.sum(1, keepdim=True),
            "features": _features(towers, image, anchor // self.anchors.per_location),
            "tightness": _anchors.tightness(boxes, _anchors.clip(anchors[anchor], image, sizes)),
        }
        columns |= {} if quality is None else {"quality": quality[image, anchor].sigmoid()}
        return _anchors.per_image(columns, image, whole_image)


def _features(
    towers: list[Float[Tensor, "b d _ _"]], image: Int64[Tensor, " n"], location: Int64[Tensor, " n"]
) -> Float[Tensor, "n d"]:
    """What the classification tower says at each candidate's location."""
    flat = torch.cat([t.permute(0, 2, 3, 1).flatten(1, 2) for t in towers], dim=1)
    return flat[image, location].float()


def _head(channels: int, per_location: int, n_classes: int, convs: int) -> RetinaNetHead:
    """Torchvision's head with `convs` (0 to 4) convolutions per tower."""
    head = RetinaNetHead(channels, per_location, n_classes)
    for part in (head.classification_head, head.regression_head):
        part.conv = part.conv[:convs]
        for layer in part.conv.modules():
            if isinstance(
                layer, nn.Conv2d
            ):  # torchvision's deviation 0.01 is made for 256 channels; narrow towers fade out
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return head


def build(
    n_classes: int,
    *,
    backbone: _backbones.BackboneName | _backbones.TimmName = "shufflenet_v2_x0_5",
    weights: str = "none",
    weights_input: _backbones.WeightsInput = "imagenet",
    activation: Literal["auto", "relu", "leaky_relu"] = "auto",
    fpn_channels: int = 64,
    head_convs: int = 1,
    anchor_sizes: tuple[int, ...] = (16, 32, 64, 128),
    anchors_per_octave: int = 2,
    trainable_stages: int | None = None,
    frozen_norms: bool | None = None,
    normalise: _normalise.Normalise = "torchvision",
    pseudo: _normalise.Pseudo = "together",
    negatives: _normalise.Negatives = "hard",
    score_threshold: float = 0.05,
    nms_iou: float = 0.5,
    max_detections: int = 100,
    pre_nms: int = 1000,
    dropout: float = 0.0,
    loss_head: bool = False,
    loss_head_weight: float = 1.0,
    quality: bool = False,
    quality_power: float = 0.0,
) -> nn.Module:
    """RetinaNet for `n_classes` classes (0 to C - 1, no background).

    Args:
        n_classes: number of classes C.
        backbone: the convolutional body: one of torchvision, or "timm:NAME" (the extra `timm`).
        weights: "none", "imagenet" or "coco" (the hub), a name of `labelwise weights`, or the path of a .pth
            or .safetensors file. The body must fit; of a whole detector also what else has this model's shapes, never
            the class head.
        weights_input: how the backbone's training normalised its images.
        activation: "auto" is leaky_relu for a file whose batch norms are all folded (NanoDet), else relu.
        fpn_channels: width of the pyramid and of the head.
        head_convs: 3x3 convolutions per tower, 0 to 4.
        anchor_sizes: base size in pixels per level, from stride 8 on; 3 to 5 levels.
        anchors_per_octave: anchor scales between a level's base size and the next one's.
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
        pre_nms: candidates per image that enter suppression.
        dropout: share of channels, drawn per image and level, that are dropped before the last convolution of the
            classification head in training; features are taken before that.
        loss_head: also learn to predict the loss of every image (see `_loss_head`).
        loss_head_weight: weight of that in the training loss, lambda.
        quality: also learn how well every box fits its object (see `_quality`).
        quality_power: how much of that is in the confidence, score^(1 - p) · quality^p; 0 to 1.
    """
    if not 0 <= head_convs <= 4:
        raise LabelwiseError(f"head_convs = {head_convs}: expected 0 to 4")
    source = _weights.read(weights, "retinanet", backbone)
    layers = _backbones.body(backbone, source.activation if activation == "auto" else activation)
    said = f"anchor_sizes has {len(anchor_sizes)} levels; RetinaNet"
    extra = _backbones.extra_levels(backbone, len(anchor_sizes), fpn_channels, said)
    trunk = _backbones.trunk(layers, backbone, _backbones.first_of(backbone), fpn_channels, extra)
    anchors = _anchors.Anchors(anchor_sizes, anchors_per_octave, (0.5, 1.0, 2.0))
    model = RetinaNet(
        trunk,
        _head(fpn_channels, anchors.per_location, n_classes, head_convs),
        anchors,
        n_classes=n_classes,
        weights_input=weights_input,
        division=_normalise.Division(normalise, pseudo, negatives),
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        max_detections=max_detections,
        pre_nms=pre_nms,
        dropout=dropout,
        loss_head=_loss_head.LossHead(fpn_channels, len(anchor_sizes), loss_head_weight) if loss_head else None,
        quality=_quality.quality_head(quality, quality_power, fpn_channels, anchors.per_location),
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
