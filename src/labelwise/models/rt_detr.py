"""RT-DETRv2: a transformer that gives a set of boxes, without anchors; confidence = the largest class sigmoid, in 0..1.

Classes are sigmoids whose targets are the IoU of the predicted box, divided by their sum for `probs`. A candidate's
feature is its query's embedding after the last decoder layer; an image has `image_feature`. It needs the extra
`transformers` (Apache-2.0, as are the authors' weights on the hub).

Source: Lv et al., RT-DETRv2, arXiv 2407.17140; Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, CVPR 2024;
networks and loss of `transformers`, weighted as 000, Eq. 7 (`_rt_detr_loss`).
Differs from the paper: see `_set_detector`.
Fails when: it begins at random weights on few images: take weights = "coco". The authors train at train.lr = 1e-4 and
train.backbone_lr_factor = 0.1. A candidate has no tightness: there is neither anchor nor proposal that it moved from.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from torch import nn

from labelwise.models import _normalise, _set_detector
from labelwise.models._rt_detr_loss import rt_detr_loss

Size = Literal["tiny", "r18", "r34", "r50", "r101"]
_BASIC = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "out_indices": [2, 3, 4]}
_DEEP = {"layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048], "out_indices": [2, 3, 4]}
_SMALL = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
_WIDE = {"encoder_hidden_dim": 384, "encoder_ffn_dim": 2048, "decoder_in_channels": [384, 384, 384]}
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "body": {"layer_type": "basic", "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]}
        | {"out_indices": [2, 3, 4]},
        "encoder_in_channels": [32, 48, 64], "encoder_hidden_dim": 64, "encoder_ffn_dim": 128, "hidden_expansion": 0.5,
        "encoder_attention_heads": 4, "d_model": 64, "decoder_in_channels": [64, 64, 64], "decoder_ffn_dim": 128,
        "decoder_attention_heads": 4, "decoder_layers": 2, "num_queries": 50, "num_denoising": 20,
    },
    "r18": {"body": _BASIC | {"depths": [2, 2, 2, 2]}, **_SMALL, "decoder_layers": 3},
    "r34": {"body": _BASIC | {"depths": [3, 4, 6, 3]}, **_SMALL, "decoder_layers": 4},
    "r50": {"body": _DEEP | {"depths": [3, 4, 6, 3]}},
    "r101": {"body": _DEEP | {"depths": [3, 4, 23, 3]}, **_WIDE},
}  # fmt: skip
"""What each size sets in the configuration, as the authors' weights have it."""


def build(
    n_classes: int,
    *,
    size: Size = "r18",
    weights: str = "none",
    queries: int | None = None,
    trainable_stages: int | None = None,
    frozen_norms: bool | None = None,
    negatives: _normalise.Negatives = "hard",
    score_threshold: float = 0.05,
    nms_iou: float = 0.5,
    max_detections: int = 100,
) -> nn.Module:
    """RT-DETRv2 for `n_classes` classes (0 to C - 1, no background).

    Args:
        n_classes: number of classes C.
        size: "r18" (20 M weights), "r34" (31 M), "r50" (43 M), "r101" (76 M), or "tiny" (0.6 M, random, for trials).
        weights: "none"; "coco" (the authors' of this size, from the hub); or "hf:NAME", a name on the hub or a folder
            that `save_pretrained` wrote, whose size it then is. Everything but the classes is taken over.
        queries: candidates per image before suppression; None = 300, or as the weights have it.
        trainable_stages: the last so many of the five stages of the body learn; None = all.
        frozen_norms: all batch norms keep their statistics, scale and shift; None = those of the body, with weights
            that were trained so.
        negatives: "background": a negative where the model before saw an object weighs the probability of background
            (Soft Teacher); "hard": it weighs 1.
        score_threshold: candidates below it are dropped.
        nms_iou: of two candidates that overlap by more than this, the lower is dropped, whatever their classes.
        max_detections: candidates per image.
    """
    source = _set_detector.source_of(weights, None if size == "tiny" else f"PekingU/rtdetr_v2_{size}vd")
    changes = {} if queries is None else {"num_queries": queries}
    network, still = _set_detector.network_of("RTDetrV2", n_classes, source, SIZES, size, changes)
    network.loss_function = rt_detr_loss
    model = _set_detector.SetDetector(
        network,
        n_classes=n_classes,
        negatives=negatives,
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        max_detections=max_detections,
    )
    model.freeze(trainable_stages, all_norms=bool(frozen_norms), body_norms=still and frozen_norms is None)
    return cast(nn.Module, model)
