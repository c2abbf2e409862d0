"""RetinaNet and Faster R-CNN of torchvision: their predictions with the full class distribution, and weighted losses.

    model = adopt(retinanet_resnet50_fpn(weights="DEFAULT"))
    predictions = project.predict(model.eval())
    losses = model.train()(images, [tensors(target) for target in project.targets(...)])

`adopt` builds labelwise's own RetinaNet or Faster R-CNN around the *same* modules: what it trains, the given detector
has learnt, and its state_dict saves it. With all weights 1 and full coverage the losses are torchvision's own (but for
the boxes of `retinanet_resnet50_fpn_v2`, which learns them by GIoU there and by L1 here). Images
come as they are, float [3, h, w] in 0..1; they are normalised by ImageNet's mean, but never resized: resize them as
before (`image_size_px` of the project), and boxes with them.

Classes are numbered 0 to C - 1 in the order of the project. torchvision's Faster R-CNN counts the background as class
0; here it does not. Its RetinaNet for COCO has 91 outputs, the first of which is never used. Twice as many proposals
enter suppression as leave it in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TheirFasterRCNN
from torchvision.models.detection import RetinaNet as TheirRetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from labelwise.api.target import Target
from labelwise.models import faster_rcnn, retinanet
from labelwise.models._normalise import Division
from labelwise.models._proposer import Proposer
from labelwise.types import LabelwiseError


def tensors(target: Target, scale_xy: tuple[float, float] = (1.0, 1.0)) -> dict[str, Tensor]:
    """A target as the adopted model takes it; `scale_xy`: pixels shown over pixels of the original image."""
    x1, y1, _, _ = target.window
    origin, scale = torch.tensor([x1, y1, x1, y1]), torch.tensor([*scale_xy, *scale_xy])

    def shown(boxes: Any) -> Float[Tensor, "n 4"]:
        return (torch.from_numpy(boxes) - origin) * scale

    return {
        "boxes": shown(target.boxes),
        "labels": torch.from_numpy(target.labels),
        "w_cls": torch.from_numpy(target.w_cls),
        "w_box": torch.from_numpy(target.w_box),
        "negatives": shown(target.negatives),
        "ignore": shown(target.ignore),
    }


def adopt(detector: nn.Module) -> nn.Module:
    """A labelwise model around the modules of a torchvision detector; nothing is copied.

    Raises:
        LabelwiseError: another kind of detector, or one whose parts were exchanged for others.
    """
    if isinstance(detector, TheirRetinaNet):
        return _retinanet(detector)
    if isinstance(detector, TheirFasterRCNN):
        return _faster_rcnn(detector)
    raise LabelwiseError(
        f"adopt: got {type(detector).__name__}; expected RetinaNet or FasterRCNN of torchvision. Wrap any other "
        "detector with labelwise.adapters.callable"
    )


class Body(nn.Module):
    """A backbone with pyramid as labelwise's models call it."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        _require(hasattr(backbone, "body") and hasattr(backbone, "fpn"), "a backbone of a body and an fpn")
        self.body, self.fpn = backbone.body, backbone.fpn

    def maps(self, x: Float[Tensor, "b 3 h w"]) -> tuple[dict[str, Tensor], Float[Tensor, "b d _ _"]]:
        """The levels of the pyramid, and the deepest map of the body."""
        found = self.body(x)
        return cast(dict[str, Tensor], self.fpn(found)), list(found.values())[-1]


class Anchors(nn.Module):
    """torchvision's own anchor generator, all levels one after the other."""

    def __init__(self, generator: Any) -> None:
        super().__init__()
        self.generator = generator
        counts = set(generator.num_anchors_per_location())
        _require(len(counts) == 1, "as many anchors per location on every level")
        self.per_location = int(counts.pop())

    def forward(
        self, image_size: tuple[int, int], grids: Sequence[tuple[int, int]], like: Tensor
    ) -> Float[Tensor, "a 4"]:
        self.generator.set_cell_anchors(like.dtype, like.device)
        strides = [
            [torch.tensor(side // cells, device=like.device) for side, cells in zip(image_size, grid, strict=True)]
            for grid in grids
        ]
        return torch.cat(self.generator.grid_anchors([list(grid) for grid in grids], strides))


class Pool(nn.Module):
    """torchvision's RoI align, fed with levels in order."""

    def __init__(self, align: Any) -> None:
        super().__init__()
        _require(isinstance(align, MultiScaleRoIAlign), "MultiScaleRoIAlign as box_roi_pool")
        self.align = align

    def forward(
        self, levels: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]], padded: tuple[int, int]
    ) -> Float[Tensor, "n c s s"]:
        named = dict(zip(self.align.featmap_names, levels, strict=False))  # a shallow body has fewer levels than names
        return cast(Tensor, self.align(named, list(boxes), [padded] * len(boxes)))


def _retinanet(theirs: Any) -> nn.Module:
    head = theirs.head
    return retinanet.RetinaNet(
        Body(theirs.backbone),  # type: ignore[arg-type]
        head,
        Anchors(theirs.anchor_generator),  # type: ignore[arg-type]
        n_classes=int(head.classification_head.num_classes),
        weights_input="imagenet",
        division=Division(),
        score_threshold=float(theirs.score_thresh),
        nms_iou=float(theirs.nms_thresh),
        max_detections=int(theirs.detections_per_img),
        pre_nms=int(theirs.topk_candidates),
        dropout=0.0,
        loss_head=None,
    )


def _faster_rcnn(theirs: Any) -> nn.Module:
    rpn, roi = theirs.rpn, theirs.roi_heads
    heads = TwoMLPHead, FastRCNNConvFCHead
    _require(isinstance(roi.box_head, heads), "TwoMLPHead or FastRCNNConvFCHead as box_head")
    _require(not roi.has_mask() and not roi.has_keypoint(), "no masks and no keypoints")
    proposer = Proposer(
        rpn.head, Anchors(rpn.anchor_generator), rpn._post_nms_top_n["training"], rpn.fg_bg_sampler.batch_size_per_image  # type: ignore[arg-type]
    )  # fmt: skip
    regions = faster_rcnn.Regions(
        Pool(roi.box_roi_pool), roi.box_head, roi.box_predictor, roi.fg_bg_sampler.batch_size_per_image
    )
    return faster_rcnn.FasterRCNN(
        Body(theirs.backbone),  # type: ignore[arg-type]
        proposer,
        regions,
        n_classes=int(roi.box_predictor.cls_score.out_features) - 1,
        weights_input="imagenet",
        division=Division(),
        score_threshold=float(roi.score_thresh),
        nms_iou=float(roi.nms_thresh),
        max_detections=int(roi.detections_per_img),
        loss_head=None,
    )


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise LabelwiseError(f"adopt: expected {what}; wrap this detector with labelwise.adapters.callable instead")
