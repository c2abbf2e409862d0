"""Convolutional networks of torchvision: their last feature map, pooled.

A ShuffleNet ends with its last stage, before `conv5`, which files of detectors lack. A file whose batch norms are all
folded into the convolutions (NanoDet) was trained with LeakyReLU(0.1), which it gets.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from labelwise import weights as known_weights
from labelwise.bodies.frozen_body import IMAGENET, NONE, PRETRAINED, FrozenBody, load_into, tensors_of, unreachable

NAMES = (
    "mobilenet_v2",
    "mobilenet_v3_large",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "squeezenet1_0",
    "resnet18",
    "resnet50",
)
"""The names that `features.body` takes."""

_PARTS = {
    "shufflenet": ("conv1", "maxpool", "stage2", "stage3", "stage4"),
    "resnet": ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
}
"""The layers of networks that have no part called `features`."""


def build(name: str, weights: str) -> FrozenBody:
    """A network of torchvision without its classes.

    Args:
        name: one of `NAMES`.
        weights: "pretrained" (torchvision's hub), "none" (random), or a file under torchvision's names.

    Raises:
        LabelwiseError: the hub cannot be reached; the file cannot be read or does not fit.
    """
    net: Any = getattr(torchvision.models, name)(weights=None)
    parts = next((found for family, found in _PARTS.items() if name.startswith(family)), None)
    layers = nn.Sequential()
    for part in parts or ("features",):
        layers.add_module(part, getattr(net, part))
    if weights != NONE:
        tensors = _download(name) if weights == PRETRAINED else tensors_of(Path(weights))
        tensors = {k.removeprefix("backbone.body."): v for k, v in tensors.items()}
        if parts is None and not any(k.startswith("features.") for k in tensors):
            tensors = {f"features.{k}": v for k, v in tensors.items()}
        load_into(layers, tensors, weights)
        if _folded(tensors):
            _take_leaky(layers)
    return FrozenBody(layers, IMAGENET, 224)


def _folded(tensors: dict[str, Tensor]) -> bool:
    variances = [v for k, v in tensors.items() if k.endswith("running_var")]
    means = [v for k, v in tensors.items() if k.endswith("running_mean")]
    return bool(variances) and all(bool((v == 1).all()) for v in variances) and not any(bool(m.any()) for m in means)


def _take_leaky(layers: nn.Module) -> None:
    for module in list(layers.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, key, nn.LeakyReLU(0.1, inplace=True))


def _download(name: str) -> dict[str, Tensor]:
    """What `labelwise weights` put into the cache; else from torchvision's hub, kept and checked in torch's own."""
    url = str(torchvision.models.get_model_weights(name).IMAGENET1K_V1.url)
    if (kept := known_weights.kept(url)) is not None:
        return tensors_of(kept)
    try:
        with redirect_stdout(sys.stderr):  # torch announces the download on stdout, which belongs to the command
            return dict(
                torch.hub.load_state_dict_from_url(
                    url, map_location="cpu", progress=False, check_hash=True, weights_only=True
                )
            )
    except Exception as error:  # a network fails in many ways
        file = url.rsplit("/", 1)[-1]
        raise unreachable(
            name, error, f"Fetch {url} where there is a network and set features.weights = path/to/{file}"
        ) from error
