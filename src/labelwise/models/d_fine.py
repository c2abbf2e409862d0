"""D-FINE: RT-DETR whose boxes are distributions of their edges, refined layer by layer; confidence in 0..1.

Classes are sigmoids whose targets are the IoU of the predicted box, divided by their sum for `probs`. A candidate's
feature is its query's embedding after the last decoder layer; an image has `image_feature`. It needs the extra
`transformers` (Apache-2.0, as are the authors' weights on the hub).

Source: Peng et al., D-FINE, arXiv 2410.13842, ICLR 2025; networks and loss of `transformers`, weighted as 000, Eq. 7
(`_rt_detr_loss`).
Differs from the paper: see `_set_detector` and `_rt_detr_loss`.
Fails when: it begins at random weights on few images: take weights = "coco". The authors train at train.lr = 2e-4 and
train.backbone_lr_factor = 0.5 (sizes n and s; 0.1 for m and l). A candidate has no tightness: there is neither anchor
nor proposal that it moved from.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from torch import nn

from labelwise.models import _normalise, _set_detector
from labelwise.models._rt_detr_loss import d_fine_loss

Size = Literal["tiny", "n", "s", "m", "l", "x"]
NAMES = {"n": "nano", "s": "small", "m": "medium", "l": "large", "x": "xlarge"}
"""Of the sizes on the hub."""


def _body(
    stem: list[int], mid: list[int], out: list[int], layers: int, blocks: list[int], **more: Any
) -> dict[str, Any]:
    """HGNetV2's configuration: channels of stem and stages, layers per block, blocks per stage."""
    return {
        "stem_channels": [3, *stem], "stage_in_channels": [stem[-1], *out[:-1]], "stage_mid_channels": mid,
        "stage_out_channels": out, "hidden_sizes": out, "stage_num_blocks": blocks,
        "stage_numb_of_layers": [layers] * 4, "out_indices": [2, 3, 4],
    } | more  # fmt: skip


_LAB: dict[str, Any] = {"use_learnable_affine_block": True}
_NARROW = _body([16, 16], [16, 32, 64, 128], [64, 256, 512, 1024], 3, [1, 1, 2, 1], **_LAB)
_POINTS = {"decoder_n_points": [3, 6, 3]}
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "body": _body([8, 16], [8, 8, 16, 16], [16, 32, 48, 64], 1, [1, 1, 1, 1]),
        "encoder_in_channels": [32, 48, 64], "encoder_hidden_dim": 64, "encoder_ffn_dim": 128, "hidden_expansion": 0.5,
        "encoder_attention_heads": 4, "d_model": 64, "decoder_in_channels": [64, 64, 64], "decoder_ffn_dim": 128,
        "decoder_attention_heads": 4, "decoder_layers": 3, "num_queries": 50, "num_denoising": 20, "depth_mult": 0.34,
        "lqe_hidden_dim": 16,
    },
    "n": {
        "body": _NARROW | {"out_indices": [3, 4]}, "num_feature_levels": 2, "encoder_ffn_dim": 512,
        "encode_proj_layers": [1], "d_model": 128, "encoder_hidden_dim": 128, "decoder_ffn_dim": 512,
        "encoder_in_channels": [512, 1024], "decoder_n_points": [6, 6], "decoder_in_channels": [128, 128],
        "feat_strides": [16, 32], "depth_mult": 0.5, "decoder_layers": 3, "hidden_expansion": 0.34,
    },
    "s": {
        "body": _NARROW, "encoder_in_channels": [256, 512, 1024], "hidden_expansion": 0.5,
        "depth_mult": 0.34, "decoder_layers": 3, **_POINTS,
    },
    "m": {
        "body": _body([24, 32], [32, 64, 128, 256], [96, 384, 768, 1536], 4, [1, 1, 3, 1], **_LAB),
        "encoder_in_channels": [384, 768, 1536], "depth_mult": 0.67, "decoder_layers": 4, **_POINTS,
    },
    "l": {
        "body": _body([32, 48], [48, 96, 192, 384], [128, 512, 1024, 2048], 6, [1, 1, 3, 1]),
        "encoder_in_channels": [512, 1024, 2048], **_POINTS,
    },
    "x": {
        "body": _body([32, 64], [64, 128, 256, 512], [128, 512, 1024, 2048], 6, [1, 2, 5, 2]),
        "encoder_in_channels": [512, 1024, 2048], "encoder_hidden_dim": 384, "encoder_ffn_dim": 2048,
        "decoder_in_channels": [384, 384, 384], **_POINTS,
    },
}  # fmt: skip
"""What each size sets in the configuration, as the authors' weights have it."""


def build(
    n_classes: int,
    *,
    size: Size = "s",
    weights: str = "none",
    queries: int | None = None,
    trainable_stages: int | None = None,
    frozen_norms: bool | None = None,
    negatives: _normalise.Negatives = "hard",
    score_threshold: float = 0.05,
    nms_iou: float = 0.5,
    max_detections: int = 100,
) -> nn.Module:
    """D-FINE for `n_classes` classes (0 to C - 1, no background).

    Args:
        n_classes: number of classes C.
        size: "n" (4 M weights), "s" (10 M), "m" (19 M), "l" (31 M), "x" (62 M), or "tiny" (0.4 M, random, for trials).
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
    source = _set_detector.source_of(weights, f"ustc-community/dfine-{NAMES[size]}-coco" if size in NAMES else None)
    changes = {} if queries is None else {"num_queries": queries}
    network, still = _set_detector.network_of("DFine", n_classes, source, SIZES, size, changes)
    network.loss_function = d_fine_loss
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
