"""Networks of the package `timm` (the extra `timm`) as bodies of detectors: feature maps of stride 4 to 32."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from labelwise.types import LabelwiseError

STRIDES = (4, 8, 16, 32)
MEAN = (0.485, 0.456, 0.406)


def _timm(name: str) -> Any:
    try:
        timm: Any = importlib.import_module("timm")
    except ModuleNotFoundError:
        raise LabelwiseError(
            f"backbone = \"timm:{name}\": the package timm is not installed: pip install 'labelwise[timm]'"
        ) from None
    if not timm.is_model(name):
        some = ", ".join(timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:5]) or "see timm.list_models()"
        raise LabelwiseError(f'backbone = "timm:{name}": timm {timm.__version__} has no such network; {some}')
    return timm


def _network(name: str) -> Any:
    timm = _timm(name)
    try:
        whole = timm.create_model(name, features_only=True, pretrained=False)
        maps = zip(whole.feature_info.out_indices, whole.feature_info.reduction(), strict=True)
        wanted = tuple(i for i, stride in maps if stride in STRIDES)
        net = timm.create_model(name, features_only=True, pretrained=False, out_indices=wanted)
    except (RuntimeError, AttributeError, AssertionError, TypeError) as error:  # each network fails in its own way
        raise LabelwiseError(
            f'backbone = "timm:{name}": timm gives no feature maps of it ({str(error) or type(error).__name__}); take '
            "a convolutional network, timm:resnet50 or timm:convnext_tiny for example"
        ) from error
    layout = getattr(getattr(net, "output_fmt", None), "value", "NCHW")  # some have none
    if layout != "NCHW":
        raise LabelwiseError(
            f'backbone = "timm:{name}" gives maps laid out {layout}, the pyramid takes channels before rows '
            "(NCHW). Take timm:resnet50 or timm:convnext_tiny, for example"
        )
    if tuple(net.feature_info.reduction())[-3:] != STRIDES[1:]:
        raise LabelwiseError(
            f'backbone = "timm:{name}" has maps of stride {net.feature_info.reduction()}; expected 8, 16 and 32. Take '
            "timm:resnet50 or timm:convnext_tiny, for example"
        )
    return net


def body(name: str) -> nn.Module:
    """The network with random weights, without its classes; gives a list of maps of rising stride.

    Raises:
        LabelwiseError: timm is not installed, knows no such network, or it has no maps of stride 8, 16 and 32.
    """
    return cast(nn.Module, _network(name))


@functools.cache
def shape_of(name: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Channels of the maps, and the layers of every stage that can be frozen: those up to a map, comma between.

    Layers are the body's own children, which timm calls `stages_0` where the network says `stages.0`. What keeps all
    its blocks in one child (EfficientNet, MobileNet) has maps within it: these end no stage.
    """
    net = _network(name)
    ends = [str(module).replace(".", "_") for module in net.feature_info.module_name()]
    stages: list[list[str]] = [[]]
    for layer, _ in net.named_children():
        stages[-1].append(layer)
        if layer in ends:
            stages.append([])
    return tuple(net.feature_info.channels()), tuple(",".join(stage) for stage in stages if stage)


def pretrained(name: str) -> Mapping[str, Tensor]:
    """The weights of timm's hub, by name.

    Raises:
        LabelwiseError: the hub cannot be reached, or the network takes images that are normalised otherwise.
    """
    timm, kept = _timm(name), _network(name).feature_info.out_indices
    record = timm.get_pretrained_cfg(name)
    if record is not None and tuple(record.mean) != MEAN:
        raise LabelwiseError(
            f'weights = "imagenet": timm:{name} takes images with mean {tuple(record.mean)}, not ImageNet\'s; take '
            "other weights of it (timm:NAME.TAG), or another network"
        )
    try:
        net = timm.create_model(name, features_only=True, pretrained=True, out_indices=kept)
    except Exception as error:  # a hub fails in many ways
        raise LabelwiseError(
            f'weights = "imagenet": cannot fetch the weights of timm:{name} ({error}). Fetch them where there is a '
            'network and set weights to the file, or set weights = "none"'
        ) from error
    return cast(Mapping[str, Tensor], net.state_dict())
