"""Any network of the package `timm` (the extra `timm`): `timm:convnext_tiny.fb_in1k`, features as it pools them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from labelwise.bodies.frozen_body import (
    IMAGENET,
    NONE,
    PRETRAINED,
    FrozenBody,
    load_into,
    missing,
    tensors_of,
    unreachable,
)
from labelwise.types import LabelwiseError


def build(name: str, weights: str) -> FrozenBody:
    """A network of timm without its classes; mean, deviation and size are those of its weights' record.

    Args:
        name: timm's name of model and weights, without "timm:".
        weights: "pretrained" (its hub), "none" (random), or a file under timm's names.

    Raises:
        LabelwiseError: timm is not installed, or knows no such network; the hub cannot be reached; the file does not
            fit.
    """
    try:
        timm: Any = importlib.import_module("timm")
    except ModuleNotFoundError:
        raise missing("timm", "timm", f"timm:{name}") from None
    if not timm.is_model(name):
        some = ", ".join(timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:5]) or "see timm.list_models()"
        raise LabelwiseError(f'features.body = "timm:{name}": timm {timm.__version__} has no such network; {some}')
    try:
        net = timm.create_model(name, pretrained=weights == PRETRAINED, num_classes=0)
    except Exception as error:  # a network fails in many ways
        raise unreachable(
            f"timm:{name}",
            error,
            "Fetch them where there is a network and set features.weights to the file, or take a body whose weights "
            "lie in a package (efficientnet_lite0)",
        ) from error
    if weights not in (NONE, PRETRAINED):
        load_into(net, tensors_of(Path(weights)), weights)
    record = dict(getattr(net, "pretrained_cfg", {}) or {})
    mean, std = record.get("mean", IMAGENET[0]), record.get("std", IMAGENET[1])
    size = record.get("input_size", (3, 224, 224))
    return FrozenBody(net, (tuple(mean), tuple(std)), int(size[-1]))
