"""The size at which a model sees an image, here alone: boxes, regions and tracks are scaled by the same numbers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, Shaped


def scaled_size(
    size: Shaped[np.ndarray, "*images 2"], longest_px: float, scale: float = 1.0
) -> Int64[np.ndarray, "*images 2"]:
    """Width and height after resizing: the longest side becomes `longest_px`, times `scale`; no side less than a pixel.

    Boxes are scaled by `scaled_size(...) / size`, per axis, since both sides are rounded.

    >>> scaled_size(np.array([[640, 480], [100, 1]]), 256).tolist()  # 480 x 256 / 640 = 192; 1 x 2.56, rounded
    [[256, 192], [256, 3]]
    """
    ratio = longest_px / size.max(axis=-1, keepdims=True)
    resized: np.ndarray = np.maximum(1, np.round(size * ratio * scale)).astype(np.int64)
    return resized
