"""Image classifier: a convolutional body, its pooled last feature map, dropout, one linear layer.

Source: 001, section 3.4.1 and 4.5.1: ResNet-18, and 5.4: a linear classifier on a frozen self-supervised body. Dropout
before the linear layer gives BALD its samples (MC dropout, section 3.4.1 "Baselines").
Differs from the paper: `resnet18_cifar` has the stem that is usual for 32-pixel images (3x3 convolution of stride 1, no
pooling); the document does not say which it had. The input's mean and deviation are settings, not estimated.
Fails when: images are far from square: they are cut to their central square before.

A model of this folder with `TASK = "classification"` takes images float [b, 3, h, w] in 0..1. In training mode, with
targets {"labels" [b], "weights" [b]}, it gives its losses by name; in evaluation mode (logits [b, C], features [b, D]).

>>> model = build(5, backbone="small").eval()
>>> logits, features = model(torch.rand(2, 3, 32, 32))
>>> tuple(logits.shape), tuple(features.shape)
((2, 5), (2, 256))
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from labelwise.models import _weights
from labelwise.models._backbones import BackboneName, WeightsInput, body, width_of
from labelwise.types import LabelwiseError

TASK: Literal["classification"] = "classification"

Triple = tuple[float, float, float]


class Classifier(nn.Module):
    """`backbone.body` is the network without its classes; it gives feature maps by name, of which the last counts."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, layers: nn.Module, width: int, n_classes: int, dropout: float, mean: Triple, std: Triple
    ) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"body": layers})
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, n_classes)
        self.frozen = False
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def freeze(self) -> None:
        """Trains the linear layer alone; the body stays as it is, its batch norms too."""
        self.frozen = True
        self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b D"]:
        """The mean of the last feature map over the image."""
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        maps: Mapping[str, Tensor] = self.backbone["body"](normalised)
        return list(maps.values())[-1].mean(dim=(2, 3))

    def forward(
        self, images: Float[Tensor, "b 3 h w"], targets: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
        features = self.features(images)
        logits = self.head(self.dropout(features))
        if not self.training:
            return logits, features
        if targets is None:
            raise LabelwiseError("classifier: training needs targets; call model.eval() to predict")
        loss = functional.cross_entropy(logits, targets["labels"], reduction="none")
        weights = targets["weights"]
        return {"classification": (loss * weights).sum() / weights.sum().clamp(min=1e-6)}


class Pooled(nn.Module):
    """A classifier without its classes: images in 0..1 to features. What self-supervision trains."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b D"]:
        return self.classifier.features(images)


class _Last(nn.Sequential):
    """Layers one after the other, with the last output under the name that a body gives its feature maps."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for layer in self:
            x = layer(x)
        return {"0": x}


def _small(width: int) -> nn.Module:
    """Four 3x3 convolutions with batch norm, halving the image after each of the first three."""
    layers: list[nn.Module] = []
    channels = [3, width, 2 * width, 4 * width, 8 * width]
    for k, (before, after) in enumerate(pairwise(channels)):
        layers += [nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if k < 3 else []
    return _Last(*layers)


def build(
    n_classes: int,
    *,
    backbone: Literal["small", "resnet18_cifar"] | BackboneName = "resnet18_cifar",
    weights: str = "none",
    width: Annotated[int, Field(ge=4)] = 32,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    frozen: bool = False,
    mean: Triple = (0.485, 0.456, 0.406),
    std: Triple = (0.229, 0.224, 0.225),
    weights_input: WeightsInput = "imagenet",
) -> nn.Module:
    """A classifier with random weights, or with the body of a file.

    Args:
        n_classes: C.
        backbone: `small` (four convolutions of `width` to 8 `width` channels, for a CPU), `resnet18_cifar`, or one of
            torchvision's networks.
        weights: "none", "imagenet" (torchvision's hub), a name of `labelwise weights`, or a file of tensors by
            torchvision's names, such as `labelwise pretrain` writes.
        width: channels of the first convolution of `small`.
        dropout: probability before the linear layer; needed by the view `dropout` (BALD).
        frozen: trains the linear layer alone (001, section 5.4).
        mean: what is taken from the input in 0..1, per channel.
        std: what it is divided by then.
        weights_input: "raw01" for a file that was trained on images as they come, in 0..1 (mean and std are not used).
    """
    if backbone == "small":
        layers, features = _small(width // 4 * 4), 8 * (width // 4 * 4)
    elif backbone == "resnet18_cifar":
        layers, features = body("resnet18"), width_of("resnet18")
        layers["conv1"] = nn.Conv2d(3, 64, 3, 1, 1, bias=False)  # type: ignore[operator]
        layers["maxpool"] = nn.Identity()  # type: ignore[operator]
    else:
        layers, features = body(backbone), width_of(backbone)
    if weights_input == "raw01":
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    model = Classifier(layers, features, n_classes, dropout, mean, std)
    _weights.read(weights, "classifier", "resnet18" if backbone == "resnet18_cifar" else backbone).load_into(model)
    if frozen:
        model.freeze()
    return model
