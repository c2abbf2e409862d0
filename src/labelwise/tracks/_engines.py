"""What computes dense optical flow: OpenCV's DIS, or torchvision's RAFT from a file of weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from labelwise.types import LabelwiseError

Preset = Literal["ultrafast", "fast", "medium", "raft_small", "raft_large"]
Pixels = UInt8[np.ndarray, "height width 3"]
Prepare = Callable[[Pixels, tuple[int, int]], Any]
Between = Callable[[Any, Any], Float[np.ndarray, "h w 2"]]

RAFT_LEAST = 128
"""RAFT's correlation pyramid needs this many pixels per side."""


def opencv() -> Any:
    """The module `cv2`; an error that names the extra where it is missing."""
    try:
        import cv2
    except ImportError as error:
        raise LabelwiseError(
            f"optical flow needs OpenCV: install the extra with `uv sync --extra video` ({error})"
        ) from None
    return cv2


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Lets OpenCV work in the calling thread alone: the clips are the parallel part."""
    cv2 = opencv()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def dis(preset: Preset) -> tuple[Prepare, Between]:
    """DIS on grey images; not to be shared between threads."""
    cv2 = opencv()
    engine = cv2.DISOpticalFlow_create(("ultrafast", "fast", "medium").index(preset))

    def prepare(pixels: Pixels, size: tuple[int, int]) -> np.ndarray:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        shrinks = size[0] < grey.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized: np.ndarray = grey if size == grey.shape[::-1] else cv2.resize(grey, size, interpolation=how)
        return resized

    return prepare, lambda a, b: engine.calc(a, b, None)


def raft(preset: Preset, weights: Path, device: str) -> tuple[Prepare, Between]:
    """RAFT on RGB images, for all threads; one at a time uses the device."""
    import torch
    from torch.nn import functional
    from torchvision.models import optical_flow

    cv2, lock = opencv(), threading.Lock()
    model = getattr(optical_flow, preset)(weights=None, progress=False)
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:
        raise LabelwiseError(
            f"{weights}: expected torchvision's weights of {preset} (a state dict): {error}"
        ) from error
    model = model.eval().to(device)

    def prepare(pixels: Pixels, size: tuple[int, int]) -> Any:
        image = torch.from_numpy(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)).to(device)
        return image.permute(2, 0, 1)[None].float() / 127.5 - 1

    def between(a: Any, b: Any) -> np.ndarray:
        h, w = a.shape[2:]
        right, below = (max(-(-side // 8) * 8, RAFT_LEAST) - side for side in (w, h))
        with lock, torch.inference_mode():
            a, b = (functional.pad(image, (0, right, 0, below), mode="replicate") for image in (a, b))
            flow = model(a, b)[-1][0, :, :h, :w].permute(1, 2, 0)
            result: np.ndarray = flow.cpu().numpy()
        return result

    return prepare, between
