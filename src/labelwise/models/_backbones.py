"""Backbones with a feature pyramid, and how images get into them.

A body gives feature maps of rising stride (C2 at stride 4, where there is one, to C5 at 32); the pyramid brings them to
one width. Modules and their names are torchvision's, so that its weights fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import torch
import torchvision
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.shufflenetv2 import InvertedResidual, ShuffleNetV2
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

from labelwise.models import _norms, _timm_bodies
from labelwise.types import LabelwiseError

BackboneName = Literal[
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "resnet18",
    "resnet50",
    "mobilenet_v3_large",
    "squeezenet1_0",
]
TimmName = Annotated[str, Field(pattern="^timm:.")]
"""A network of the package `timm` whose features are maps of stride 8, 16 and 32."""
Activation = Literal["relu", "leaky_relu"]
WeightsInput = Literal["imagenet", "raw01"]


@dataclass(frozen=True, slots=True)
class Backbone:
    """One backbone of torchvision or timm.

    channels: of every feature map that is kept, finest first.
    kept: the layers that give them.
    stages: the layers of every stage that can be frozen.
    taken: how many of its last maps a RetinaNet's pyramid takes.
    widths: of a ShuffleNet; another one torchvision builds by its name.
    """

    channels: tuple[int, ...]
    kept: tuple[str, ...]
    stages: tuple[str, ...]
    taken: int = 3
    widths: tuple[int, ...] = ()


_SHUFFLENET = ("stage2", "stage3", "stage4"), ("conv1", "stage2", "stage3", "stage4")
_RESNET = ("layer1", "layer2", "layer3", "layer4"), ("conv1,bn1", "layer1", "layer2", "layer3", "layer4")
BACKBONES: Mapping[str, Backbone] = {
    "shufflenet_v2_x0_5": Backbone((48, 96, 192), *_SHUFFLENET, widths=(24, 48, 96, 192, 1024)),
    "shufflenet_v2_x1_0": Backbone((116, 232, 464), *_SHUFFLENET, widths=(24, 116, 232, 464, 1024)),
    "resnet18": Backbone((64, 128, 256, 512), *_RESNET),
    "resnet50": Backbone((256, 512, 1024, 2048), *_RESNET),
    "mobilenet_v3_large": Backbone(
        (24, 40, 112, 160), ("3", "6", "12", "15"), ("0,1", "2,3", "4,5,6", "7,8,9,10,11,12", "13,14,15")
    ),
    "squeezenet1_0": Backbone((256, 512, 512), ("5", "10", "12"), ("0", "3,4,5", "7,8,9,10", "12"), taken=2),
}
"""A row for each name of torchvision's."""


def row_of(name: str) -> Backbone:
    """What is known of a backbone."""
    if not name.startswith("timm:"):
        return BACKBONES[name]
    channels, stages = _timm_bodies.shape_of(name.removeprefix("timm:"))
    return Backbone(channels, tuple(str(i) for i in range(len(channels))), stages)


class ShuffleUnit(InvertedResidual):  # type: ignore[misc]
    """torchvision's unit; joins and shuffles the two branches in one copy that keeps the channels-last layout."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        if self.stride == 1:
            left, right = x.chunk(2, dim=1)
        else:
            left, right = self.branch1(x), x
        both = torch.stack((left.permute(0, 2, 3, 1), self.branch2(right).permute(0, 2, 3, 1)), dim=-1)
        return both.flatten(3).permute(0, 3, 1, 2)


class ExtraLevels(ExtraFPNBlock):  # type: ignore[misc]
    """P6 (and P7) by 3x3 convolutions of stride 2 on P5, as torchvision's RetinaNet makes them."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.p7 = nn.Conv2d(channels, channels, 3, 2, 1) if count > 1 else None
        for conv in (self.p6, self.p7):
            if conv is not None:
                nn.init.kaiming_uniform_(conv.weight, a=1)
                nn.init.zeros_(cast(Tensor, conv.bias))

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(p[-1])
        more = [p6] if self.p7 is None else [p6, self.p7(torch.relu(p6))]
        return [*p, *more], [*names, *("p6", "p7")[: len(more)]]


class Trunk(nn.Module):
    """Body and pyramid: a batch of normalised images to one feature map per level, finest first."""

    def __init__(
        self, body: nn.Module, channels: Sequence[int], width: int, extra: nn.Module | None, first: int = 0
    ) -> None:
        super().__init__()
        self.body, self.first = body, first
        self.fpn = FeaturePyramidNetwork(list(channels), width, extra_blocks=extra)
        self.out_channels = width
        self.frozen: list[nn.Module] = []
        self.frozen_norms = self.folded_norms = False

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        return self.maps(x)[0]

    def maps(self, x: Float[Tensor, "b 3 h w"]) -> tuple[dict[str, Tensor], Float[Tensor, "b d _ _"]]:
        """The levels of the pyramid, and the deepest map of the body, from which they were made."""
        if self.folded_norms and self.training and not self.frozen_norms:
            self.folded_norms = False
            _norms.unfold(self.body, lambda: self.body(x))
        found = self.body(x)
        if not isinstance(found, dict):  # timm's give all maps
            found = {str(i): one for i, one in enumerate(found[self.first :])}
        return cast(dict[str, Tensor], self.fpn(found)), list(found.values())[-1]

    def train(self, mode: bool = True) -> Trunk:
        super().train(mode)
        for layer in self.body.children() if self.frozen_norms else self.frozen:
            for module in layer.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def freeze(
        self,
        name: str,
        trainable_stages: int | None,
        *,
        frozen_norms: bool,
        folded_norms: bool,
        pretrained: bool,
    ) -> None:
        """Keeps all but the last `trainable_stages` stages, and optionally every batch norm, as they are.

        None trains all stages; with pre-trained weights all but the first, which costs most and changes least; the only
        one is trained.
        """
        stages = row_of(name).stages
        if trainable_stages is None:
            trainable_stages = len(stages) - (pretrained and len(stages) > 1)
        if not 0 <= trainable_stages <= len(stages):
            raise LabelwiseError(
                f"trainable_stages = {trainable_stages}: {name} has {len(stages)} stages; give 0 to {len(stages)}"
            )
        names = {layer for stage in stages[: len(stages) - trainable_stages] for layer in stage.split(",")}
        self.frozen = [child for key, child in self.body.named_children() if key in names]
        self.frozen_norms, self.folded_norms = frozen_norms, folded_norms
        for layer in self.frozen:
            layer.requires_grad_(False)
        for module in self.body.modules():
            if frozen_norms and isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)


def body(name: str, activation: Activation = "relu") -> nn.Module:
    """The convolutional part with random weights; gives feature maps of rising stride, '0', '1', ..., timm's a list."""
    if name.startswith("timm:"):
        return _timm_bodies.body(name.removeprefix("timm:"))
    row = BACKBONES[name]
    if row.widths:
        net: Any = ShuffleNetV2([4, 8, 4], list(row.widths), inverted_residual=ShuffleUnit)
    else:
        net = getattr(torchvision.models, name)(weights=None)
    net = getattr(net, "features", net)
    layers = IntermediateLayerGetter(net, {layer: str(i) for i, layer in enumerate(row.kept)})
    if activation == "leaky_relu":
        for module in list(layers.modules()):
            for key, child in module.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(module, key, nn.LeakyReLU(0.1, inplace=True))
    return cast(nn.Module, layers)


def width_of(name: str) -> int:
    """Channels of the body's last feature map."""
    return row_of(name).channels[-1]


def levels_of(name: str) -> int:
    """How many feature maps the body has."""
    return len(row_of(name).channels)


def first_of(name: str) -> int:
    """The number of the first feature map that a pyramid from stride 8 on takes."""
    row = row_of(name)
    return len(row.channels) - row.taken


def extra_levels(name: str, levels: int, channels: int, what: str) -> ExtraLevels | None:
    """The levels of a pyramid from stride 8 on that the backbone does not have; `what` begins the message."""
    own = row_of(name).taken
    if not own <= levels <= own + 2:
        raise LabelwiseError(f"{what} on {name} takes {own} to {own + 2}")
    return ExtraLevels(channels, levels - own) if levels > own else None


def trunk(layers: nn.Module, name: str, first: int, width: int, extra: nn.Module | None) -> Trunk:
    """A pyramid of `width` channels on the feature maps of `layers` from number `first` on."""
    row = row_of(name)
    if name in BACKBONES:
        layers.return_layers = {layer: str(i) for i, layer in enumerate(row.kept[first:])}  # type: ignore[assignment]
    return Trunk(layers, row.channels[first:], width, extra, first)


def batch_of(
    images: Sequence[Float[Tensor, "3 _ _"]], weights_input: WeightsInput
) -> tuple[Float[Tensor, "b 3 H W"], Float[Tensor, "b 2"]]:
    """One normalised batch, padded to a multiple of 32 and never resized, and every image's (height, width) in it.

    `weights_input` says what the backbone was trained on: "imagenet" = mean and deviation of ImageNet taken out,
    "raw01" = the images as they come, in 0..1.
    """
    like = images[0]
    mean = torch.tensor((0.485, 0.456, 0.406), dtype=like.dtype, device=like.device).view(3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225), dtype=like.dtype, device=like.device).view(3, 1, 1)
    sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    if len(set(sizes)) == 1 and sizes[0] == (height, width):
        batch = torch.stack(list(images))
        if weights_input == "imagenet":
            batch.sub_(mean).div_(std)
    else:
        batch = like.new_zeros((len(images), 3, height, width))
        for slot, image, (h, w) in zip(batch, images, sizes, strict=True):
            slot[:, :h, :w] = image if weights_input == "raw01" else (image - mean).div_(std)
    batch = batch.contiguous(memory_format=torch.channels_last)
    return batch, torch.tensor(sizes, dtype=like.dtype, device=like.device)
