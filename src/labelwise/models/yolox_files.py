"""Reads YOLOX from files: the authors' releases with their own names, or nano's ncnn layer names with folded norms.

Of the authors' releases, 0.1.1rc0 and later take BGR in 0..255, the older ones RGB with ImageNet's mean and deviation
taken out, under the same names. The norm behind the first convolution tells which: its mean is the mean of that
convolution's outputs, the sum of each filter times the mean level of what went in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from labelwise import weights as known_weights
from labelwise.errors import LabelwiseError
from labelwise.models.yolox_network import Pixels, Size, YoloxNetwork, fold

_WRAPPERS = ("model", "ema", "state_dict")
_LAYER = re.compile(r"Conv_(\d+)\.(weight|bias)")
_STEM = "backbone.backbone.stem.conv"
_RAW_LEVEL = 10.0
"""Mean level of the input above which it was in 0..255; normalised images are at about 0, raw ones at about 110."""


def load(
    weights: str | Path, *, pixels: Pixels | None = None, folded: bool = True, setting: str = "weights"
) -> YoloxNetwork:
    """YOLOX-nano in eval mode, from a path or a name that `labelwise weights` lists ("yolox_nano").

    Args:
        weights: a .pth or .safetensors file under either naming, or the known name; fetched once where it is not there.
        pixels: what the weights take; None = as the file says (see above), "imagenet" of an ncnn export.
        folded: norms folded into the convolutions, for speed.
        setting: that named the weights, for the message.

    Raises:
        LabelwiseError: there is no such file, it cannot be read, or its tensors are another network's.
    """
    path = known_weights.path_of(str(weights), setting, among=known_weights.of_kind("yolox"))
    tensors, found = read(path)
    model = YoloxNetwork(len(tensors["head.cls_preds.0.weight"]), pixels or found)
    model.load_state_dict(tensors)
    model.eval().requires_grad_(False)
    return fold(model) if folded else model


def identity(weights: str | Path, setting: str = "features.objects") -> str:
    """What tells a file of weights from others: its SHA-256.

    Raises:
        LabelwiseError: there is no such file.
    """
    path = known_weights.path_of(str(weights), setting, among=known_weights.of_kind("yolox"))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path, size: Size = "nano") -> tuple[dict[str, Tensor], Pixels]:
    """The tensors of a file under the authors' names, complete, and what pixels they take.

    Raises:
        LabelwiseError: the file cannot be read, or its tensors are another network's.
    """
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except Exception as error:  # every broken file fails in its own way
        raise LabelwiseError(
            f"weights {path}: cannot be read as tensors ({type(error).__name__}); expected a state dict saved "
            "by torch.save (it is read with weights_only=True) or a .safetensors file"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping):
        raise LabelwiseError(f"weights {path}: expected a dict of tensors by name, this is a {type(found).__name__}")
    tensors = {str(k).removeprefix("module."): v for k, v in found.items() if isinstance(v, Tensor)}
    if tensors and all(map(_LAYER.fullmatch, tensors)):
        return _fitting(_unfolded(tensors, path), path, size), "imagenet"
    fitting = _fitting(tensors, path, size)
    return fitting, "bgr255" if _level(fitting) > _RAW_LEVEL else "imagenet"


def layers() -> Iterator[str]:
    """Names of the convolutions in the order in which the network runs them: the order of an exported graph."""

    def depthwise(name: str) -> list[str]:
        return [f"{name}.dconv.conv", f"{name}.pconv.conv"]

    def csp(name: str, blocks: int) -> Iterator[str]:
        yield from (f"{name}.{part}.conv" for part in ("conv1", "conv2"))
        for k in range(blocks):
            yield f"{name}.m.{k}.conv1.conv"
            yield from depthwise(f"{name}.m.{k}.conv2")
        yield f"{name}.conv3.conv"

    yield f"{_STEM}.conv"
    for part, blocks in (("dark2", 1), ("dark3", 3), ("dark4", 3), ("dark5", 1)):
        name, last = f"backbone.backbone.{part}", 2 if part == "dark5" else 1
        yield from depthwise(f"{name}.0")
        if last == 2:
            yield from (f"{name}.1.{conv}.conv" for conv in ("conv1", "conv2"))
        yield from csp(f"{name}.{last}", blocks)
    for lateral, layer in (("lateral_conv0", "C3_p4"), ("reduce_conv1", "C3_p3")):
        yield f"backbone.{lateral}.conv"
        yield from csp(f"backbone.{layer}", 1)
    for down, layer in (("bu_conv2", "C3_n3"), ("bu_conv1", "C3_n4")):
        yield from depthwise(f"backbone.{down}")
        yield from csp(f"backbone.{layer}", 1)
    for k in range(3):
        yield f"head.stems.{k}.conv"
        for branch, ends in (("cls", ("cls",)), ("reg", ("reg", "obj"))):
            for block in range(2):
                yield from depthwise(f"head.{branch}_convs.{k}.{block}")
            yield from (f"head.{end}_preds.{k}" for end in ends)


def _unfolded(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """An exported graph's tensors under the authors' names: a folded norm becomes one that adds the bias alone."""
    numbers = sorted({int(cast(re.Match[str], _LAYER.fullmatch(key))[1]) for key in tensors})
    names = list(layers())
    if len(numbers) != len(names) or len(tensors) != 2 * len(names):
        raise _foreign(path, "nano", f"{len(numbers)} convolutions, YOLOX-nano has {len(names)}")
    out = {}
    for number, name in zip(numbers, names, strict=True):
        weight, bias = tensors[f"Conv_{number}.weight"].float(), tensors[f"Conv_{number}.bias"].float()
        out[f"{name}.weight"] = weight
        if name.endswith("conv"):
            norm = name.removesuffix("conv") + "bn"
            one = torch.ones_like(bias)
            out |= {f"{norm}.weight": one, f"{norm}.bias": bias, f"{norm}.running_mean": one * 0}
            out |= {f"{norm}.running_var": one - 1e-3, f"{norm}.num_batches_tracked": torch.tensor(0)}
        else:
            out[f"{name}.bias"] = bias
    return out


def _fitting(tensors: dict[str, Tensor], path: Path, size: Size) -> dict[str, Tensor]:
    """Checked against the network by name and shape, in float32."""
    head = tensors.get("head.cls_preds.0.weight")
    want = YoloxNetwork(1 if head is None else len(head), size=size).state_dict()
    left = [k for k in want if k not in tensors or tensors[k].shape != want[k].shape]
    left = [k for k in left if not k.endswith("num_batches_tracked")]
    if left:
        fits = len(want) - len(left)
        raise _foreign(path, size, f"{fits} of {len(want)} tensors fit by name and shape, {left[0]!r} does not")
    if extra := sorted(tensors.keys() - want.keys()):
        raise _foreign(path, size, f"{extra[0]!r} is none of its tensors")
    return {k: tensors[k].to(v.dtype) if k in tensors else v for k, v in want.items()}


def _level(tensors: Mapping[str, Tensor]) -> float:
    """Mean level of the pixels that the first norm saw, by least squares: its mean is each filter's sum times that."""
    sums = tensors[f"{_STEM}.conv.weight"].double().sum((1, 2, 3))
    return float((tensors[f"{_STEM}.bn.running_mean"].double() * sums).sum() / (sums * sums).sum().clamp(min=1e-12))


def _unpickle(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _foreign(path: Path, size: Size, why: str) -> LabelwiseError:
    more = " (`labelwise weights yolox_nano` fetches it) or its ncnn export as .safetensors" if size == "nano" else ""
    return LabelwiseError(f"weights {path} are not YOLOX-{size}'s: {why}. Expected the authors' yolox_{size}.pth{more}")
