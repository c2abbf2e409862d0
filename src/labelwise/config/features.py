"""The section `features`: a network that is never trained, whose features of every image are computed once and kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelwise.config.section import Section


class Features(Section):
    """Frozen features: what heads are trained on, and what selectors may look at."""

    body: str
    """The network: mobilenet_v2, shufflenet_v2_x0_5, squeezenet1_0, efficientnet_lite0 (extra `features`), timm:NAME
    (extra `timm`), hf:NAME or hf:FOLDER (extra `transformers`)."""
    weights: str = "pretrained"
    """`pretrained`: those of the body's package or hub; a file; `none`: random ones."""
    weights_input: Literal["imagenet", "raw01"] | None = None
    """How the training of the weights normalised images: ImageNet's mean and deviation, or raw01; none: as the body's
    own weights want it. shufflenet_v2_x0_5_imagenet_backbone.pth wants raw01."""
    size_px: int | None = Field(None, ge=16, le=4096)
    """Side of the square that the body sees; none: what its weights were trained on (224)."""
    views: int = Field(0, ge=0, le=64)
    """So many random resized crops of every image, mirrored at random, are kept beside the image itself; a linear head
    trains on one of them drawn at every step (001, section 5.4)."""
    pca: int | None = Field(None, ge=1)
    """Centred features are reduced to so many principal components of the pool; none: all columns."""
    folder: str | None = None
    """Where they are kept, shared by all projects that name it; none: in the project folder. A comparison shares its
    own."""
    objects: str | None = None
    """Detectors: what proposes objects, whose crops the body looks at: `yolox_nano` (`labelwise weights yolox_nano`
    fetches it) or a file of its weights; none: the body looks at whole images."""
    objects_most: int = Field(10, ge=1, le=300)
    """So many proposals of an image are kept, the best first."""
    objects_px: int = Field(416, ge=32, le=4096)
    """The longest side at which proposals are looked for; larger finds smaller objects and takes longer."""
    objects_crop_px: int = Field(96, ge=16, le=1024)
    """Side of the square crop that the body sees of an object."""
    objects_margin: float = Field(1.0, ge=1, le=4)
    """The crop is so many times as wide and as high as the object's box."""
