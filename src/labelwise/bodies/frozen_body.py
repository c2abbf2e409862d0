"""What every frozen body is: a network in evaluation mode that knows the input that its weights want."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from labelwise.types import LabelwiseError

Triple = tuple[float, float, float]
WeightsInput = Literal["imagenet", "raw01"]

IMAGENET: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation that most weights want taken out."""
RAW01: tuple[Triple, Triple] = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""The images as they come, in 0..1."""

PRETRAINED, NONE = "pretrained", "none"
"""`weights`: those that come with the body (in its package, or from its hub); random ones, for tests."""


class FrozenBody(nn.Module):
    """Images float [b, 3, h, w] in 0..1 to features [b, D]: the mean of the last feature map, or the network's own.

    `size_px` is the side of the images that its weights were trained on.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: nn.Module, normalisation: tuple[Triple, Triple], size_px: int) -> None:
        super().__init__()
        self.layers, self.size_px = layers, size_px
        for name, values in zip(("mean", "std"), normalisation, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b D"]:
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        found: Tensor = self.layers(normalised)
        return found.mean(dim=(2, 3)) if found.ndim == 4 else found

    def normalise_as(self, weights_input: WeightsInput) -> None:
        """Takes another input than the body's own: that of a file which was trained on it."""
        mean, std = IMAGENET if weights_input == "imagenet" else RAW01
        self.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
        self.std.copy_(torch.tensor(std).view(1, 3, 1, 1))


def tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file, as float32.

    Raises:
        LabelwiseError: no such file, or one that holds no tensors by name.
    """
    if not path.is_file():
        raise LabelwiseError(
            f"features.weights = {str(path)!r}: there is no such file; give a .pth or .safetensors file"
        )
    try:
        read: Any = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except Exception as error:  # every broken file fails in its own way
        raise LabelwiseError(
            f"features.weights {path}: cannot be read as tensors ({type(error).__name__}); expected a state dict "
            "saved by torch.save (it is read with weights_only=True) or a .safetensors file"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(read, Mapping) and isinstance(read.get(wrapper), Mapping):
            read = read[wrapper]
    if not isinstance(read, Mapping) or not read or not all(isinstance(v, Tensor) for v in read.values()):
        raise LabelwiseError(f"features.weights {path}: expected a dict of tensors by name")
    named = {k.removeprefix("module."): v for k, v in read.items()}
    return {k: v.float() if v.is_floating_point() else v for k, v in named.items()}


def _unpickle(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def load_into(net: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Gives a network the tensors of its names; what the network lacks (a head of classes) is left out.

    Raises:
        LabelwiseError: a tensor of the network is missing, or has another shape.
    """
    own = net.state_dict()
    wanted = [name for name in own if not name.endswith("num_batches_tracked")]
    lacking = [name for name in wanted if name not in tensors or tensors[name].shape != own[name].shape]
    if lacking:
        raise LabelwiseError(
            f"features.weights {where}: does not fit this body: {len(wanted) - len(lacking)} of {len(wanted)} tensors "
            f"agree in name and shape, {lacking[0]!r} for one does not. Set features.body to the network that the "
            "weights are of"
        )
    net.load_state_dict({name: tensors[name].to(own[name].dtype) for name in wanted}, strict=False)


def missing(package: str, extra: str, body: str) -> LabelwiseError:
    """The error where a package is not installed."""
    return LabelwiseError(
        f'features.body = "{body}" needs the package {package}, which is not installed: '
        f'`uv sync --extra {extra}`, or pip install "labelwise[{extra}]"'
    )


def unreachable(body: str, error: BaseException, otherwise: str) -> LabelwiseError:
    """The error where a hub cannot be reached."""
    why = str(error).strip().split("\n")[0] or type(error).__name__
    return LabelwiseError(f'features.body = "{body}": its weights cannot be fetched ({why}). {otherwise}')
