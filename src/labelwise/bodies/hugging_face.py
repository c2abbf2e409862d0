"""Vision models of Hugging Face (DINOv2, DINOv3, CLIP, SigLIP, ...): `hf:facebook/dinov2-small`, or a local folder.

The feature is the model's pooled output; of a model without one, the class token of its last layer. Of CLIP and SigLIP
it is that of the vision part, before the projection. Needs the extra `transformers`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from labelwise.bodies.frozen_body import IMAGENET, NONE, PRETRAINED, FrozenBody, missing, unreachable
from labelwise.types import LabelwiseError


class _Pooled(nn.Module):
    """A vision model that gives its pooled output."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b D"]:
        said: Any = self.net(pixel_values=images)
        pooled: Tensor | None = getattr(said, "pooler_output", None)
        pooled = said.last_hidden_state[:, 0] if pooled is None else pooled
        return pooled.flatten(1)


def build(name: str, weights: str) -> FrozenBody:
    """A vision model; mean, deviation and size are those of its image processor.

    Args:
        name: the model's name on the hub, or a folder that `save_pretrained` wrote, without "hf:".
        weights: "pretrained" or "none" (random, of the model's config).

    Raises:
        LabelwiseError: transformers is not installed; the hub cannot be reached or has no such model.
    """
    try:
        transformers: Any = importlib.import_module("transformers")
    except ModuleNotFoundError:
        raise missing("transformers", "transformers", f"hf:{name}") from None
    if weights not in (NONE, PRETRAINED):
        raise LabelwiseError(
            f'features.weights = "{weights}": a Hugging Face model takes none; name its folder instead: '
            'features.body = "hf:path/to/folder"'
        )
    source = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    try:
        settings = transformers.AutoConfig.from_pretrained(source)
        net = (
            transformers.AutoModel.from_pretrained(source)
            if weights == PRETRAINED
            else transformers.AutoModel.from_config(settings)
        )
    except Exception as error:  # a network fails in many ways
        raise unreachable(
            f"hf:{name}",
            error,
            'Save the model where there is a network (`save_pretrained`) and set features.body = "hf:path/to/folder", '
            "or take a body whose weights lie in a package (efficientnet_lite0)",
        ) from error
    net = getattr(net, "vision_model", net)
    normalisation, size_px = _input(transformers, source, settings)
    return FrozenBody(_Pooled(net), normalisation, size_px)


def _input(transformers: Any, source: str, settings: Any) -> tuple[Any, int]:
    """Mean and deviation, and the side of the images; ImageNet's and the config's where there is no processor."""
    vision = getattr(settings, "vision_config", settings)
    size_px = int(getattr(vision, "image_size", 224))
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(source)
    except Exception:  # a folder of the model alone
        return IMAGENET, size_px
    for one in (getattr(processor, "crop_size", None), getattr(processor, "size", None)):
        sides = [int(v) for v in dict(one or {}).values() if v]
        if sides:
            size_px = min(sides)
            break
    return (tuple(processor.image_mean), tuple(processor.image_std)), size_px
