"""Boxes found again in the frames around their own by correlation of features: SiamFC's scheme on any backbone.

Source: 001, section 2.3.2, "Object tracker": "SiamFC tracker [11]", the second source of links.
Differs from the paper: SiamFC's own network, trained on pairs of video frames, is replaced by the features of any
backbone that the caller has, which nobody trained to track. A frame's features are computed once, for all of it, and
exemplar and search window are cut out of them (RoIAlign), so that a frame with many detections costs one pass. What
is kept of SiamFC: the exemplar is the box in its own frame with the context of (w + h) / 4 on each side, brought to 6 x
6 cells, never updated; it is correlated with a square window around the last place; the response is enlarged 16 times
by cubic interpolation and mixed with a cosine window (0.176); its peak moves the box. The features are centred (minus
the mean of the window) and the correlation normalised, as untrained features ask for. The size is kept: of the
three scales of SiamFC, `scales` may give some, each but 1 with SiamFC's penalty 0.9745; a changed size is damped
(0.59) as there.
Fails when: the object is smaller than about two cells of the features (images twice as large did not help, see
benchmarks/flow.py); when it turns or
deforms within a few frames; beside its like, where the cosine window alone tells which is which.

Every step starts at the place of the step before; a track ends as in `follow.py`: at a cut, or when the centre or more
than half of the box leaves the image.

Worked by hand: a bright square of one cell of 8 pixels moves by one cell to the right from each frame to the next; the
features are the image itself, shrunk 8 times.

>>> frames = torch.zeros(2, 3, 128, 128)
>>> frames[0, :, 64:72, 64:72] = frames[1, :, 64:72, 72:80] = 1
>>> shrink = lambda x: torch.nn.functional.avg_pool2d(x, 8)
>>> one, size = np.ones((2, 2)), np.array([128, 128])
>>> boxes, joined = np.array([[56, 56, 80, 80]], np.float32), np.array([True, False])
>>> tracks = follow(np.array([0, 1, 1]), boxes, frames.__getitem__, one, joined, size, size, shrink, frames=1)
>>> tracks.image.tolist(), (tracks.boxes[0, 1] / 8).round().tolist()
([[-1, 1]], [8.0, 7.0, 11.0, 10.0])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from labelwise.tracks._steps import check_boxes, place, remaining
from labelwise.types import LabelwiseError, Tracks

EXEMPLAR = 6
"""Cells per side of the exemplar, as in SiamFC (127 pixels at stride 8 give 6)."""

ENLARGE = 16
"""The response is enlarged so many times before its peak is taken."""

BLOCK = 128
"""Detections at a time."""

DAMPING = 0.59
"""Share of the way that a box's size goes to the scale found."""


def follow(
    offsets: Int64[np.ndarray, " images+1"],
    boxes: Float32[np.ndarray, "n 4"],
    images: Callable[[int], Float[Tensor, "3 h w"]],
    scale_xy: Float[np.ndarray, "images 2"],
    joined: Bool[np.ndarray, " images"],
    width_px: Int64[np.ndarray, " images"],
    height_px: Int64[np.ndarray, " images"],
    features: Callable[[Float[Tensor, "1 3 h w"]], Float[Tensor, "1 C h2 w2"]],
    *,
    frames: int = 3,
    search: float = 2.0,
    window: float = 0.176,
    scales: Sequence[float] = (1.0,),
    penalty: float = 0.9745,
    progress: Callable[[int], None] | None = None,
) -> Tracks:
    """Where every box is in the `frames` frames before its own and after it.

    Args:
        offsets: the boxes of image i are the rows `offsets[i]:offsets[i + 1]`.
        boxes: detections, in pixels of the original image.
        images: an image as the backbone wants it: resized, normalised, on the backbone's device.
        scale_xy: of every image, its resized size over its original one.
        joined: whether image i and i + 1 are of one shot (`Flow.joined`, or `Clips` alone).
        width_px: of every image.
        height_px: of every image.
        features: one feature map of the backbone; stride 8 or less for small objects.
        frames: how many frames to follow in each direction.
        search: side of the search window over that of the box with its context.
        window: share of the cosine window in the response.
        scales: sizes of the search window to try.
        penalty: factor on the response of every scale but 1.
        progress: is told how many more images are done.
    """
    check_boxes(offsets, boxes, width_px, height_px, frames)
    if search <= 1 or not len(scales) or min(scales) <= 0:
        raise LabelwiseError(f"search: {search} with scales {scales}; expected search > 1 and scales above 0")
    size = np.stack([width_px, height_px], axis=1).astype(np.float64)
    image = np.full((len(boxes), 2 * frames), -1, np.int64)
    moved = np.zeros((len(boxes), 2 * frames, 4), np.float32)
    maps = _Maps(images, features, scale_xy, frames)
    tracker = _Tracker(search, window, tuple(scales), penalty)
    for here, (start, end) in enumerate(pairwise(offsets.tolist())):
        if end > start:
            own = boxes[start:end].astype(np.float64)
            exemplar = None
            for way, columns in ((0, range(frames, 2 * frames)), (1, range(frames - 1, -1, -1))):
                alive, box, now = np.arange(start, end), own, here
                for column in columns:
                    if not (len(alive) and remaining(joined, np.array([now - way]), 0)[0]):
                        break
                    if exemplar is None:
                        exemplar = tracker.exemplar(maps, here, own)
                    now += 1 - 2 * way
                    box = tracker.find(exemplar[alive - start], maps, now, box)
                    clipped, inside = place(box, size[[now]])
                    alive, box, clipped = alive[inside], box[inside], clipped[inside]
                    image[alive, column], moved[alive, column] = now, clipped
        if progress is not None:
            progress(1)
    return Tracks(image, moved)


class _Maps:
    """The feature maps of the last frames, each computed once where boxes come in order."""

    def __init__(
        self, images: Callable[..., Tensor], features: Callable[..., Tensor], scale: np.ndarray, k: int
    ) -> None:
        self.images, self.features, self.scale, self.most = images, features, scale, 2 * k + 1
        self.held: dict[int, tuple[Tensor, Float64[np.ndarray, " 2"]]] = {}

    @torch.inference_mode()
    def crop(self, image: int, centre: np.ndarray, side: np.ndarray, cells: int) -> Float[Tensor, "n C cells cells"]:
        """Squares of an image (original pixels), brought to `cells` x `cells`; outside of it is its mean feature."""
        if image not in self.held:
            pixels = self.images(image)
            found = _centred(self.features(pixels[None]).float())
            stride = np.array(found.shape[:1:-1]) / np.array(pixels.shape[:0:-1])
            self.held[image] = found, stride * self.scale[image]
            for old in sorted(self.held, key=lambda i: abs(i - image))[self.most :]:
                del self.held[old]
        found, scale = self.held[image]
        half = side[:, None] * np.ones(2) / 2
        rois = np.concatenate([centre - half, centre + half], axis=1) * np.tile(scale, 2)
        where = torch.from_numpy(rois).to(found)
        cut: Tensor = roi_align(found, [where], cells, spatial_scale=1.0, sampling_ratio=2, aligned=True)
        return cut


class _Tracker:
    """Exemplars, and where they are found."""

    def __init__(self, search: float, window: float, scales: tuple[float, ...], penalty: float) -> None:
        self.window, self.scales = window, np.array(scales)
        self.cells = EXEMPLAR + 2 * max(1, round((search - 1) * EXEMPLAR / 2))
        self.fine = (self.cells - EXEMPLAR) * ENLARGE + 1
        cosine = torch.hann_window(self.fine + 2, periodic=False)[1:-1]
        self.cosine = torch.outer(cosine, cosine) / cosine.sum() ** 2
        self.penalty = torch.tensor([1.0 if scale == 1 else penalty for scale in scales])

    @staticmethod
    def context(box: Float64[np.ndarray, "n 4"]) -> tuple[np.ndarray, np.ndarray]:
        """Centre of every box, and the side of the square that has the area of the box with its context."""
        wide = box[:, 2:] - box[:, :2]
        side = np.sqrt((wide + wide.sum(axis=1, keepdims=True) / 2).prod(axis=1))
        return (box[:, :2] + box[:, 2:]) / 2, np.maximum(side, 1.0)

    @torch.inference_mode()
    def exemplar(self, maps: _Maps, image: int, box: Float64[np.ndarray, "n 4"]) -> Float[Tensor, "n C e e"]:
        """The features of every box with its context, of length 1."""
        found = _centred(maps.crop(image, *self.context(box), EXEMPLAR))
        length: Tensor = torch.linalg.vector_norm(found, dim=(1, 2, 3), keepdim=True)
        return found / length.clamp_min(1e-6)

    @torch.inference_mode()
    def find(
        self, exemplar: Float[Tensor, "n C e e"], maps: _Maps, image: int, box: Float64[np.ndarray, "n 4"]
    ) -> Float64[np.ndarray, "n 4"]:
        """Every box at the place of the best response in another image."""
        out = [
            self._find(exemplar[start : start + BLOCK], maps, image, box[start : start + BLOCK])
            for start in range(0, len(box), BLOCK)
        ]
        return np.concatenate(out)

    def _find(self, exemplar: Tensor, maps: _Maps, image: int, box: np.ndarray) -> np.ndarray:
        n, (centre, side) = len(box), self.context(box)
        sides = (side * self.cells / EXEMPLAR)[:, None] * self.scales
        many = len(self.scales)
        around = _centred(maps.crop(image, np.repeat(centre, many, axis=0), sides.reshape(-1), self.cells))
        response = _correlate(exemplar.repeat_interleave(many, dim=0), around)
        fine = functional.interpolate(response[:, None], (self.fine, self.fine), mode="bicubic", align_corners=True)
        peak = fine.reshape(n, many, -1).amax(dim=2) * self.penalty.to(fine)
        best = peak.argmax(dim=1)
        chosen = fine.reshape(n, many, -1)[torch.arange(n, device=fine.device), best]
        chosen = chosen - chosen.amin(dim=1, keepdim=True)
        chosen = chosen / chosen.sum(dim=1, keepdim=True).clamp_min(1e-12)
        at = ((1 - self.window) * chosen + self.window * self.cosine.to(fine).flatten()).argmax(dim=1).cpu().numpy()
        scale = self.scales[best.cpu().numpy()]
        step = np.stack([at % self.fine, at // self.fine], axis=1) - (self.fine - 1) / 2
        centre = centre + step / ENLARGE * (side * scale / EXEMPLAR)[:, None]
        half = (box[:, 2:] - box[:, :2]) / 2 * (1 + DAMPING * (scale - 1))[:, None]
        return np.concatenate([centre - half, centre + half], axis=1)


def _centred(found: Float[Tensor, "n C h w"]) -> Float[Tensor, "n C h w"]:
    return found - found.mean(dim=(2, 3), keepdim=True)


def _correlate(exemplar: Float[Tensor, "n C e e"], around: Float[Tensor, "n C w w"]) -> Float[Tensor, "n r r"]:
    """The normalised correlation of every exemplar (of length 1) with its own window, at each place."""
    n, channels, e, _ = exemplar.shape
    dot = functional.conv2d(around.reshape(1, n * channels, *around.shape[2:]), exemplar, groups=n)[0]
    length = functional.avg_pool2d(around.square().sum(dim=1, keepdim=True), e, stride=1)[:, 0] * e * e
    return dot / length.clamp_min(1e-6).sqrt()
