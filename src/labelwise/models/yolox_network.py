"""The networks of YOLOX, nano to m: images to the raw outputs of every cell; what `yolox` trains, and `proposals` ask.

Tensors have the names of the YOLOX authors (`backbone.backbone.stem...`, `backbone.lateral_conv0...`, `head...`), so
that their releases load as they are; `yolox_files` reads them, and nano's ncnn export with folded batch norms too.

Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021, arXiv 2107.08430; the authors' code (Apache-2.0): depth, width
and depthwise convolutions of `yolox_nano`, `yolox_tiny`, `yolox_s`, `yolox_m`.
Differs from the paper: classes need not be computed where nobody asks for them.
Fails when: an object is smaller than about 8 px on the resized image, or objects stand dense; see `proposals`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labelwise.models._anchors import last

Pixels = Literal["imagenet", "bgr255"]
"""What the weights take: RGB with ImageNet's mean and deviation taken out, or BGR in 0..255 as it is."""

STRIDES = (8, 16, 32)
MULTIPLE_PX = 32
GREY = 114 / 255
"""What the authors fill an image's margin with."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Size = Literal["nano", "tiny", "s", "m"]
SIZES: dict[Size, tuple[float, float, bool]] = {
    "nano": (0.33, 0.25, True),
    "tiny": (0.33, 0.375, False),
    "s": (0.33, 0.5, False),
    "m": (0.67, 0.75, False),
}
"""Depth and width relative to YOLOX-l, and whether 3x3 convolutions are depthwise."""


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, SiLU; after `fold` a convolution with bias, and SiLU."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return cast(Tensor, self.act(self.bn(self.conv(x))))


class Depthwise(nn.Module):
    """A 3x3 convolution of every channel by itself, then a 1x1 one of all."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = ConvNormAct(channels, channels, 3, stride, channels)
        self.pconv = ConvNormAct(channels, out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return cast(Tensor, self.pconv(self.dconv(x)))


def three(channels: int, out: int, depthwise: bool, stride: int = 1) -> nn.Module:
    """A 3x3 convolution with norm and activation, depthwise or plain."""
    return Depthwise(channels, out, stride) if depthwise else ConvNormAct(channels, out, 3, stride)


class Bottleneck(nn.Module):
    """1x1, then 3x3; plus its input where `shortcut` says."""

    def __init__(self, channels: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvNormAct(channels, channels), three(channels, channels, depthwise)
        self.shortcut = shortcut

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = cast(Tensor, self.conv2(self.conv1(x)))
        return y.add_(x) if self.shortcut and not y.requires_grad else y + x if self.shortcut else y


class Csp(nn.Module):
    """Cross-stage partial layer: bottlenecks on one half of the channels, the other half passed by."""

    def __init__(self, channels: int, out: int, blocks: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        half = out // 2
        self.conv1, self.conv2 = ConvNormAct(channels, half), ConvNormAct(channels, half)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut, depthwise) for _ in range(blocks)))
        self.conv3 = ConvNormAct(out, out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return cast(Tensor, self.conv3(torch.cat((self.m(self.conv1(x)), self.conv2(x)), 1)))


class Focus(nn.Module):
    """Every second pixel of every second row becomes a channel: a quarter of the pixels, four times the channels."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(12, out, 3)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d h2 w2"]:
        b, c, h, w = x.shape
        squares = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 5, 3, 1, 2, 4)  # column first, as the authors stack
        packed = squares.reshape(b, 4 * c, h // 2, w // 2)
        return cast(Tensor, self.conv(packed.contiguous(memory_format=torch.channels_last)))


class Pooling(nn.Module):
    """The map beside its maxima over 5, 9 and 13 cells; those of 9 and 13 are maxima of 5 taken twice and thrice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvNormAct(channels, channels // 2), ConvNormAct(2 * channels, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        maps = [self.conv1(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        return cast(Tensor, self.conv2(torch.cat(maps, 1)))


class Darknet(nn.Module):
    """The body: maps of stride 8, 16 and 32 with 4, 8 and 16 times `width` channels."""

    def __init__(self, width: int, depth: int, depthwise: bool) -> None:
        super().__init__()

        def stage(channels: int, blocks: int) -> nn.Sequential:
            first = three(channels, 2 * channels, depthwise, 2)
            return nn.Sequential(first, Csp(2 * channels, 2 * channels, blocks, True, depthwise))

        self.stem = Focus(width)
        self.dark2, self.dark3 = stage(width, depth), stage(2 * width, 3 * depth)
        self.dark4 = stage(4 * width, 3 * depth)
        deepest = 16 * width
        self.dark5 = nn.Sequential(
            three(8 * width, deepest, depthwise, 2), Pooling(deepest), Csp(deepest, deepest, depth, False, depthwise)
        )

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.dark3(self.dark2(self.stem(x)))
        middle = self.dark4(fine)
        return fine, middle, self.dark5(middle)


class Pyramid(nn.Module):
    """Body and path aggregation: coarse maps flow down to the fine ones, and back up."""

    def __init__(self, width: int, depth: int, depthwise: bool) -> None:
        super().__init__()
        fine, middle, coarse = 4 * width, 8 * width, 16 * width

        def csp(channels: int, out: int) -> Csp:
            return Csp(channels, out, depth, False, depthwise)

        self.backbone = Darknet(width, depth, depthwise)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.lateral_conv0, self.C3_p4 = ConvNormAct(coarse, middle), csp(coarse, middle)
        self.reduce_conv1, self.C3_p3 = ConvNormAct(middle, fine), csp(middle, fine)
        self.bu_conv2, self.C3_n3 = three(fine, fine, depthwise, 2), csp(middle, middle)
        self.bu_conv1, self.C3_n4 = three(middle, middle, depthwise, 2), csp(coarse, coarse)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The three levels, and the deepest map of the body."""
        fine, middle, deepest = self.backbone(x)
        top = self.lateral_conv0(deepest)
        middle = self.reduce_conv1(self.C3_p4(torch.cat((self.upsample(top), middle), 1)))
        fine = self.C3_p3(torch.cat((self.upsample(middle), fine), 1))
        middle = self.C3_n3(torch.cat((self.bu_conv2(fine), middle), 1))
        return fine, middle, self.C3_n4(torch.cat((self.bu_conv1(middle), top), 1)), deepest


class Head(nn.Module):
    """Per level: box and objectness from one branch, classes from the other. `dropout` acts before the classes."""

    def __init__(self, n_classes: int, width: int, depthwise: bool) -> None:
        super().__init__()
        levels = (width, 2 * width, 4 * width)
        self.stems = nn.ModuleList(ConvNormAct(channels, width) for channels in levels)
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(nn.Sequential(*(three(width, width, depthwise) for _ in range(2))) for _ in levels)
            for _ in range(2)
        )
        self.cls_preds, self.reg_preds, self.obj_preds = (
            nn.ModuleList(nn.Conv2d(width, out, 1) for _ in levels) for out in (n_classes, 4, 1)
        )
        self.dropout: nn.Module = nn.Identity()

    def forward(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]], classes: bool
    ) -> tuple[Float[Tensor, "b cells outputs"], list[Float[Tensor, "b d _ _"]]]:
        """Rows of stride 8, 16, 32: dx, dy, log w, log h, the logit of objectness and, if wanted, one of each class;
        and what the branch of the classes says, level by level.
        """
        levels, towers = [], []
        for k, level in enumerate(maps):
            x = self.stems[k](level)
            region = self.reg_convs[k](x)
            parts = [last(self.reg_preds[k], region), last(self.obj_preds[k], region)]
            if classes:
                towers.append(self.cls_convs[k](x))
                parts.append(last(self.cls_preds[k], self.dropout(towers[-1])))
            levels.append(torch.cat(parts, 1).permute(0, 2, 3, 1).flatten(1, 2))
        return torch.cat(levels, 1), towers


class YoloxNetwork(nn.Module):
    """Images to the raw outputs of every cell.

    pixels: what the weights were trained on; the module turns RGB in 0..1 into that.
    size: depth and width.
    """

    def __init__(self, n_classes: int = 80, pixels: Pixels = "imagenet", size: Size = "nano") -> None:
        super().__init__()
        deep, wide, depthwise = SIZES[size]
        width, depth = round(64 * wide), round(3 * deep)
        self.backbone, self.head = Pyramid(width, depth, depthwise), Head(n_classes, 4 * width, depthwise)
        self.pixels: Pixels = pixels

    def forward(self, images: Float[Tensor, "b 3 h w"], classes: bool = True) -> Float[Tensor, "b cells outputs"]:
        """Of RGB images in 0..1 of any size, filled with grey to a multiple of 32 px on the right and below.

        Returns: dx, dy, log w, log h (see `boxes`), objectness, then the classes' probabilities if `classes`; cells
            row by row, those of stride 8 first.
        """
        outputs, _ = self.head(self.backbone(self.prepared(images))[:3], classes)
        outputs[..., 4:].sigmoid_()
        return cast(Tensor, outputs)

    def prepared(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 H W"]:
        """RGB in 0..1 as the weights take it, filled with grey to a multiple of 32 px."""
        high, wide = (-side % MULTIPLE_PX for side in images.shape[2:])
        if high or wide:
            images = nn.functional.pad(images, (0, wide, 0, high), value=GREY)
        if self.pixels == "bgr255":
            return images.flip(1).mul_(255)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        return (images - mean).div_(std)


def cells(height_px: int, width_px: int, device: torch.device | None = None) -> Float[Tensor, "cells 3"]:
    """Left, top and stride of every cell in pixels, in the order of the network's rows; sides padded to 32.

    >>> cells(32, 32).shape[0], cells(32, 32)[5].tolist()  # 16 + 4 + 1; the second of the second row, stride 8
    (21, [8.0, 8.0, 8.0])
    """
    levels = []
    for stride in STRIDES:
        rows, columns = (-(-side // MULTIPLE_PX) * MULTIPLE_PX // stride for side in (height_px, width_px))
        y, x = torch.meshgrid(
            torch.arange(rows, device=device) * stride, torch.arange(columns, device=device) * stride, indexing="ij"
        )
        levels.append(torch.stack((x, y, torch.full_like(x, stride)), -1).flatten(0, 1))
    return torch.cat(levels).float()


def boxes(outputs: Float[Tensor, "b cells outputs"], grid: Float[Tensor, "*b cells 3"]) -> Float[Tensor, "b cells 4"]:
    """The boxes of the network's outputs, xyxy in pixels of the image that it saw, not clipped.

    A cell at (8, 8) of stride 8 whose centre is moved by half a cell, twice as wide as a cell: 12 -+ 8, 12 -+ 4.

    >>> out = torch.tensor([[[0.5, 0.5, 0.6931472, 0.0, 0.9]]])
    >>> boxes(out, torch.tensor([[8.0, 8.0, 8.0]])).round(decimals=3).tolist()
    [[[4.0, 8.0, 20.0, 16.0]]]
    """
    stride = grid[..., 2:]
    centre = outputs[..., :2] * stride + grid[..., :2]
    half = outputs[..., 2:4].exp() * (stride / 2)
    return torch.cat((centre - half, centre + half), -1)


def fold(model: YoloxNetwork) -> YoloxNetwork:
    """A copy in eval mode whose batch norms are folded into the convolutions: the same outputs, faster."""
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.bn, nn.BatchNorm2d):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
    return folded.to(memory_format=torch.channels_last)
