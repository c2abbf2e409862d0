"""Weights to start from: torchvision's hub, or a file; a backbone alone, or a whole detector without its class head."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from labelwise import weights as known_weights
from labelwise.models import _timm_bodies
from labelwise.types import LabelwiseError

Architecture = Literal["retinanet", "faster_rcnn", "fcos", "classifier"]

_log = logging.getLogger(__name__)

_COCO = {
    ("retinanet", "resnet50"): "RetinaNet_ResNet50_FPN_Weights",
    ("faster_rcnn", "resnet50"): "FasterRCNN_ResNet50_FPN_Weights",
    ("fcos", "resnet50"): "FCOS_ResNet50_FPN_Weights",
    ("retinanet", "mobilenet_v3_large"): "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights",
    ("faster_rcnn", "mobilenet_v3_large"): "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights",
}
_CLASS_HEADS = ("head.classification_head.cls_logits.", "roi_heads.box_predictor.")
_WRAPPERS = ("state_dict", "model")
_DETECTORS = known_weights.of_kind("detector")
"""Files of torchvision's detectors, by the names of `labelwise weights`."""
_KNOWN = (*known_weights.of_kind("body"), *_DETECTORS)


class Source:
    """Tensors by name with torchvision's names, or nothing at all (`weights = "none"`)."""

    def __init__(self, name: str, tensors: Mapping[str, Tensor], *, whole: bool) -> None:
        self.name, self.tensors, self.whole = name, tensors, whole

    @property
    def folded(self) -> bool:
        """True where every batch norm is the identity: folded into the convolutions when the file was exported."""
        variances = [v for k, v in self.tensors.items() if k.endswith("running_var")]
        means = [v for k, v in self.tensors.items() if k.endswith("running_mean")]
        return bool(variances) and all(bool((v == 1).all()) for v in variances) and all(not m.any() for m in means)

    @property
    def fcos(self) -> bool:
        """Whether it is a whole FCOS, which is younger than torchvision's other detectors."""
        return any("bbox_ctrness" in key for key in self.tensors)

    @property
    def frozen_norms(self) -> bool:
        """Whether the norms stay as they are unless set otherwise: COCO's detectors were trained so."""
        return self.name.startswith("coco")

    @property
    def activation(self) -> Literal["relu", "leaky_relu"]:
        """What the body was trained with: the one file known with folded batch norms (NanoDet) has LeakyReLU(0.1)."""
        return "leaky_relu" if self.folded else "relu"

    def load_into(self, model: nn.Module) -> None:
        """Loads what fits: the body must fit as a whole; pyramid and head where shapes agree; never the class head.

        Raises:
            LabelwiseError: tensors of the body are missing or have another shape.
        """
        if not self.tensors:
            return
        own = model.state_dict()
        body = {k for k in own if k.startswith("backbone.body.") and not k.endswith("num_batches_tracked")}
        tensors = {k if k in own else _joined(k, own): v for k, v in self.tensors.items()}
        fits = {k: v for k, v in tensors.items() if k in own and own[k].shape == v.shape}
        fits = {k: v for k, v in fits.items() if not k.startswith(_CLASS_HEADS)}
        alone = [k for k in fits if k.endswith(".bias") and (w := f"{k[:-4]}weight") in own and w not in fits]
        fits = {k: v for k, v in fits.items() if k not in alone}  # a bias of a layer that begins anew
        missing = sorted(body - fits.keys())
        if missing:
            raise LabelwiseError(
                f"weights {self.name!r} do not fit this backbone: {len(body) - len(missing)} of {len(body)} tensors "
                f"match by name and shape, {missing[0]!r} for one does not; the file has {len(self.tensors)} tensors, "
                f"{next(iter(self.tensors))!r} for one. Set backbone to the network that the file was made from"
            )
        model.load_state_dict({k: v.to(own[k].dtype) for k, v in fits.items()}, strict=False)
        if self.name.startswith("coco") and not self.fcos:  # trained with frozen norms of epsilon 0, which FCOS is not
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = 0.0
        left = sorted(k for k in own.keys() - fits.keys() if not k.endswith("num_batches_tracked"))
        if self.whole and left:
            _log.info("weights %r: %d tensors loaded; %d start at random: %s", self.name, len(fits), len(left), left)


def read(weights: str, detector: Architecture, backbone: str) -> Source:
    """Reads "none", "imagenet", "coco", a name of `labelwise weights`, or the file of that path.

    Raises:
        LabelwiseError: the hub cannot be reached or has no such weights; the file cannot be read.
    """
    if weights == "none":
        return Source(weights, {}, whole=False)
    if weights == "imagenet" and backbone.startswith("timm:"):
        return _source(f"imagenet ({backbone})", _timm_bodies.pretrained(backbone.removeprefix("timm:")))
    if weights in ("imagenet", "coco"):
        return _source(f"{weights} ({backbone})", _download(weights, detector, backbone))
    path = Path(weights).expanduser()
    if not path.is_file() and weights in _KNOWN:
        path = known_weights.path_of(weights, "weights", among=_KNOWN)
    if not path.is_file():
        raise LabelwiseError(
            f'weights = {weights!r}: there is no such file; expected "none", "imagenet", "coco" or the path of a .pth '
            "or .safetensors file, or a body or detector that `labelwise weights` lists"
        )
    try:
        read_tensors: Any = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except Exception as error:  # every broken file fails in its own way
        raise LabelwiseError(
            f"weights {path}: cannot be read as tensors ({type(error).__name__}); expected a state dict saved "
            "by torch.save (it is read with weights_only=True) or a .safetensors file"
        ) from error
    return _source(f"coco ({weights})" if weights in _DETECTORS else str(path), read_tensors)


def _unpickle(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _source(name: str, found: Any) -> Source:
    """Brings a state dict to the names of a detector."""
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()) or not found:
        raise LabelwiseError(f"weights {name}: expected a dict of tensors by name. Save `model.state_dict()`")
    tensors = {k.removeprefix("module."): v.float() if v.is_floating_point() else v for k, v in found.items()}
    whole = any(k.startswith("backbone.body.") for k in tensors)
    if not whole:
        tensors = {f"backbone.body.{k.removeprefix('features.')}": v for k, v in tensors.items()}
    fcos = any("bbox_ctrness" in key for key in tensors)
    return Source(name, {_renamed(k, heads=not fcos): v for k, v in tensors.items()}, whole=whole)


def _joined(key: str, own: Collection[str]) -> str:
    """The name in a body of timm's: `stages_0` is what the whole network, as published, calls `stages.0`."""
    parts = key.split(".")
    joined = ".".join([*parts[:2], "_".join(parts[2:4]), *parts[4:]])
    return joined if joined in own else key


def _renamed(key: str, *, heads: bool = True) -> str:
    """Torchvision's published detectors are older than the names of their pyramid and heads, but for FCOS's head."""
    parts = key.split(".")
    if key.startswith(("backbone.fpn.inner_blocks.", "backbone.fpn.layer_blocks.")) and len(parts) == 5:
        return ".".join([*parts[:4], "0", parts[4]])
    if heads and ".conv." in key and key.startswith("head.") and len(parts) == 5:
        number = int(parts[3])
        return ".".join([*parts[:3], str(number // 2), "0", parts[4]])
    if key.startswith("rpn.head.conv.") and len(parts) == 4:
        return f"rpn.head.conv.0.0.{parts[3]}"
    return key


def _hub_url(weights: str, detector: Architecture, backbone: str) -> str:
    if weights == "imagenet":
        return str(torchvision.models.get_model_weights(backbone).IMAGENET1K_V1.url)
    name = _COCO.get((detector, backbone))
    if name is None:
        known = ", ".join(b for d, b in _COCO if d == detector) or "none"
        raise LabelwiseError(f'weights = "coco": torchvision has none for {detector} on {backbone}; it has: {known}')
    return str(torchvision.models.get_weight(f"{name}.COCO_V1").url)


def _download(weights: str, detector: Architecture, backbone: str) -> Any:
    """What `labelwise weights` put into the cache; else from torchvision's hub, kept and checked in torch's own."""
    url = _hub_url(weights, detector, backbone)
    try:
        if (kept := known_weights.kept(url)) is not None:
            return _unpickle(kept)
        with redirect_stdout(sys.stderr):  # torch announces the download on stdout, which belongs to the command
            return torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise LabelwiseError(
            f'weights = "{weights}": cannot fetch {url} ({error}). Download that file where there is a network and set '
            f'weights = "path/to/{url.rsplit("/", 1)[-1]}", or set weights = "none"'
        ) from error
