"""FCOS: one stage without anchors, one prediction per location; confidence = root of class times centre-ness, in 0..1.

Classes are sigmoids, divided by their sum for `probs`. A candidate's feature is what the classification tower says at
its location; an image has `image_feature`, the mean of the body's deepest map over the image.

Source: Tian et al., FCOS, arXiv 2006.09214, on torchvision's FCOS: the same modules, names and, with all weights 1, the
same losses; weighted as 000, Eq. 7: a location that belongs to a box has its focal cost weighed by `w_cls`, its
generalised IoU loss and its centre-ness by `w_box`; one of a box whose two weights are 0 is ignored, and so is a
negative one whose cell (a square as wide as its stride) lies outside `negatives` or in `ignore`. Sums are divided by
the positives of the batch whose weight is above 0.
Differs from the paper: the default is a size that two CPU cores can train; the paper's is backbone "resnet50",
fpn_channels 256, head_convs 4, levels 5, which weights = "coco" fits. Suppression knows no classes (DESIGN section 7).
Fails when: two objects of nearly the same size have one centre: a location has one box, the smaller one. A candidate
has no tightness: there is neither anchor nor proposal that it moved from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import generalized_box_iou_loss

from labelwise.models import _anchors, _backbones, _normalise, _pooling, _weighted, _weights
from labelwise.types import LabelwiseError

RADIUS_CELLS = 1.5
"""A location belongs to a box only if it is nearer to its centre than so many strides."""
RANGE_CELLS = (4, 8)
"""Its farthest side is between so many strides away; below on the finest level, above on the coarsest."""
FIRST_SIDE_CELLS = 2.0
"""So far away starts each side of a new head: from 0, as torchvision does, half of them are where no ReLU learns."""


class FCOS(nn.Module):
    """Losses in training (`model(images, targets)`), candidates in evaluation (`model(images)`)."""

    def __init__(
        self,
        backbone: _backbones.Trunk,
        head: FCOSHead,
        anchors: _anchors.Anchors,
        *,
        n_classes: int,
        weights_input: _backbones.WeightsInput,
        negatives: _normalise.Negatives,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
        pre_nms: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.anchors = backbone, head, anchors
        self.dropout = _anchors.dropout(nn.Dropout2d, dropout)
        self.weights_input, self.negatives, self.n_classes = weights_input, negatives, n_classes
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections
        self.pre_nms = pre_nms
        self.coder = BoxLinearCoder(normalize_by_size=True)

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        batch, sizes = _backbones.batch_of(images, self.weights_input)
        maps, deepest = self.backbone.maps(batch)
        classifier, regressor = self.head.classification_head, self.head.regression_head
        towers = [classifier.conv(level) for level in maps.values()]
        places = [regressor.conv(level) for level in maps.values()]
        scores = [_anchors.last(classifier.cls_logits, self.dropout(t)) for t in towers]
        away = [functional.relu(_anchors.last(regressor.bbox_reg, place)) for place in places]
        middle = [_anchors.last(regressor.bbox_ctrness, place) for place in places]
        logits, sides = _anchors.flatten_levels(scores, self.n_classes), _anchors.flatten_levels(away, 4)
        centred = _anchors.flatten_levels(middle, 1)[:, :, 0]
        grids = [(int(t.shape[2]), int(t.shape[3])) for t in towers]
        padded = (int(batch.shape[2]), int(batch.shape[3]))
        cells = self.anchors(padded, grids, batch)
        with torch.autocast(batch.device.type, enabled=False):
            if self.training:
                if targets is None:
                    raise ValueError("FCOS in training mode needs targets")
                truth = _weighted.truth_of(targets, sizes, self.n_classes)
                return self._losses(logits, sides, centred, cells, grids, truth)
            whole = {"image_feature": _pooling.image_mean(_anchors.full(deepest), sizes, padded)}
            return self._detect(logits, sides, centred, cells, towers, sizes, whole)

    def _losses(
        self,
        logits: Float[Tensor, "b a c"],
        sides: Float[Tensor, "b a 4"],
        centred: Float[Tensor, "b a"],
        cells: Float[Tensor, "a 4"],
        grids: Sequence[tuple[int, int]],
        truth: _weighted.Truth,
    ) -> dict[str, Tensor]:
        rows = torch.stack([assign(cells, truth, i, grids[0], grids[-1]) for i in range(len(logits))])
        positive = rows >= 0
        w_cls = _weighted.weights_of(rows, truth.w_cls)
        if self.negatives == "background" and any(doubt is not None for doubt in truth.doubt):
            sure = torch.stack([_weighted.negative_weights(cells, truth, i) for i in range(len(logits))])
            w_cls = torch.where(rows == _weighted.NEGATIVE, sure.to(w_cls.dtype), w_cls)
        image, cell = positive.nonzero(as_tuple=True)
        hit = rows[image, cell]
        wanted, w_box = truth.boxes[hit].to(sides.dtype), truth.w_box[hit]
        boxes = self.coder.decode(sides[image, cell], cells[cell])
        off = generalized_box_iou_loss(boxes, wanted)
        left, top, right, bottom = self.coder.encode(cells[cell], wanted).unbind(1)
        shares = [torch.minimum(a, b) / torch.maximum(a, b) for a, b in ((left, right), (top, bottom))]
        blur = functional.binary_cross_entropy_with_logits(
            centred[image, cell], (shares[0] * shares[1]).sqrt(), reduction="none"
        )
        used = _normalise.count(w_box > 0)
        cost = _weighted.focal_cost(logits, rows, truth.labels) * w_cls
        return {
            "classification": cost.sum() / _normalise.count(positive & (w_cls > 0)),
            "bbox_regression": (off * w_box).sum() / used,
            "centerness": (blur * w_box).sum() / used,
        }

    def _detect(
        self,
        logits: Float[Tensor, "b a c"],
        sides: Float[Tensor, "b a 4"],
        centred: Float[Tensor, "b a"],
        cells: Float[Tensor, "a 4"],
        towers: list[Float[Tensor, "b d _ _"]],
        sizes: Float[Tensor, "b 2"],
        whole_image: dict[str, Tensor],
    ) -> list[dict[str, Tensor]]:
        confidence = (logits.amax(2).sigmoid() * centred.sigmoid()).sqrt()
        best, index = confidence.topk(min(self.pre_nms, confidence.shape[1]), dim=1)
        image, rank = (best > self.score_threshold).nonzero(as_tuple=True)
        cell, scores = index[image, rank], best[image, rank]
        boxes = _anchors.clip(self.coder.decode(sides[image, cell], cells[cell]), image, sizes)
        whole = _anchors.has_area(boxes)
        boxes, scores, image, cell = boxes[whole], scores[whole], image[whole], cell[whole]
        kept = _anchors.best_of(boxes, scores, image, nms_iou=self.nms_iou, most=self.max_detections)
        image, cell = image[kept], cell[kept]
        sigmoids = logits[image, cell].sigmoid()
        tower = torch.cat([t.permute(0, 2, 3, 1).flatten(1, 2) for t in towers], 1)
        columns = {
            "boxes": boxes[kept],
            "scores": scores[kept],
            "probs": sigmoids / sigmoids.sum(1, keepdim=True),
            "features": tower[image, cell].float(),
        }
        return _anchors.per_image(columns, image, whole_image)


@torch.no_grad()
def assign(
    cells: Float[Tensor, "a 4"],
    truth: _weighted.Truth,
    image: int,
    finest: tuple[int, int],
    coarsest: tuple[int, int],
) -> Int64[Tensor, " a"]:
    """For every location of one image: the row of `truth` that it learns from, `NEGATIVE` or `IGNORED`.

    `cells` are squares around the locations, as wide as their stride, level by level; `finest` and `coarsest`: rows and
    columns of the first and of the last level. Of the boxes that a location may belong to it takes the smallest.
    """
    first, last = truth.first[image : image + 2]
    rows = torch.full((len(cells),), _weighted.NEGATIVE, device=cells.device)
    if first < last:
        boxes = truth.boxes[first:last].to(cells.dtype)
        centre, stride = (cells[:, None, :2] + cells[:, None, 2:]) / 2, cells[:, 2] - cells[:, 0]
        near = (centre - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(2) < RADIUS_CELLS * stride[:, None]
        away = torch.cat((centre - boxes[:, :2], boxes[:, 2:] - centre), 2)
        low, high = (stride * factor for factor in RANGE_CELLS)
        low[: finest[0] * finest[1]] = 0
        high[len(high) - coarsest[0] * coarsest[1] :] = torch.inf
        farthest = away.amax(2)
        fits = near & (away.amin(2) > 0) & (farthest > low[:, None]) & (farthest < high[:, None])
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        smallest, row = torch.where(fits, area, torch.inf).min(1)
        rows = torch.where(smallest < torch.inf, row + first, rows)
        muted = (truth.w_cls == 0) & (truth.w_box == 0)
        rows = torch.where((rows >= 0) & muted[rows.clamp(min=0)], _weighted.IGNORED, rows)
    return _weighted.outside(rows, cells, truth, image)


def build(
    n_classes: int,
    *,
    backbone: _backbones.BackboneName | _backbones.TimmName = "shufflenet_v2_x0_5",
    weights: str = "none",
    weights_input: _backbones.WeightsInput = "imagenet",
    activation: Literal["auto", "relu", "leaky_relu"] = "auto",
    fpn_channels: int = 64,
    head_convs: int = 2,
    levels: int = 4,
    trainable_stages: int | None = None,
    frozen_norms: bool | None = None,
    negatives: _normalise.Negatives = "hard",
    score_threshold: float = 0.05,
    nms_iou: float = 0.5,
    max_detections: int = 100,
    pre_nms: int = 1000,
    dropout: float = 0.0,
) -> nn.Module:
    """FCOS for `n_classes` classes (0 to C - 1, no background).

    Args:
        n_classes: number of classes C.
        backbone: the convolutional body: one of torchvision, or "timm:NAME" (the extra `timm`).
        weights: "none", "imagenet" or "coco" (the hub), a name of `labelwise weights`, or the path of a .pth or
            .safetensors file. The body must fit; of a whole detector also what else has this model's shapes, never the
            class head.
        weights_input: how the backbone's training normalised its images.
        activation: "auto" is leaky_relu for a file whose batch norms are all folded (NanoDet), else relu.
        fpn_channels: width of the pyramid and of the head, a multiple of 32.
        head_convs: 3x3 convolutions per tower.
        levels: of the pyramid, from stride 8 on; 3 to 5. Each has the boxes that fit its stride.
        trainable_stages: the last so many stages of the backbone learn; None = all, all but the first if pre-trained.
        frozen_norms: batch norms of the backbone keep their statistics; None = only with weights = "coco". Norms
            that were folded into a file's convolutions are estimated anew on the first training batch.
        negatives: "background": a negative where the model before saw an object weighs the probability of background
            (Soft Teacher); "hard": it weighs 1.
        score_threshold: candidates below it are dropped.
        nms_iou: of two candidates that overlap by more than this, the lower is dropped, whatever their classes.
        max_detections: candidates per image.
        pre_nms: candidates per image that enter suppression.
        dropout: share of channels, drawn per image and level, that are dropped before the last convolution of the
            classification head in training; features are taken before that.
    """
    if fpn_channels % 32 or fpn_channels < 32:
        raise LabelwiseError(f"fpn_channels = {fpn_channels}: FCOS takes a multiple of 32, the groups of its norms")
    source = _weights.read(weights, "fcos", backbone)
    layers = _backbones.body(backbone, source.activation if activation == "auto" else activation)
    extra = _backbones.extra_levels(backbone, levels, fpn_channels, f"levels = {levels}; FCOS")
    trunk = _backbones.trunk(layers, backbone, _backbones.first_of(backbone), fpn_channels, extra)
    model = FCOS(
        trunk,
        FCOSHead(fpn_channels, 1, n_classes, head_convs),
        _anchors.Anchors([8 * 2**i for i in range(levels)], 1, (1.0,)),
        n_classes=n_classes,
        weights_input=weights_input,
        negatives=negatives,
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        max_detections=max_detections,
        pre_nms=pre_nms,
        dropout=dropout,
    )
    nn.init.constant_(cast(Tensor, cast(FCOSHead, model.head).regression_head.bbox_reg.bias), FIRST_SIDE_CELLS)
    source.load_into(model)
    trunk.freeze(
        backbone,
        trainable_stages,
        frozen_norms=source.frozen_norms if frozen_norms is None else frozen_norms,
        folded_norms=source.folded,
        pretrained=bool(source.tensors),
    )
    return cast(nn.Module, model.to(memory_format=torch.channels_last))
