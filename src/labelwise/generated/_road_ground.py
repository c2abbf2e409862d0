"""The ground of a road scene: what light and season make of everything, and the plane with road, marks and verges.

The ground is one picture over (s, t), repeated along the road every `PERIOD_M`. A pixel at depth z covers z / f metres
across and about z^2 / (f * eye) along, so that level l of the picture is 2^l times coarser across, 4^l along.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt32
from PIL import Image

from labelwise.generated._road_view import Camera, Canvas, Road

PERIOD_M = 64.0
REACH_M = 24.0
"""How far the picture goes to each side; beyond, its edge is repeated."""
ALONG_M, ACROSS_M = 0.1, 0.05
LEVELS = 4
FAR_M = 400.0

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """Light and season. Colours are RGB in 0..255; `light` multiplies the colours of all that does not shine."""

    light: Colour = (1.0, 1.0, 1.0)
    sky: tuple[Colour, Colour] = ((96, 150, 220), (205, 222, 238))
    cloud: Colour = (250, 250, 250)
    cover: float = 0.45
    haze: Colour = (200, 215, 228)
    haze_m: float = 500.0
    grass: Colour = (98, 140, 62)
    leaves: tuple[Colour, ...] = ((70, 125, 45), (95, 150, 60), (60, 105, 50))
    road: Colour = (104, 104, 108)
    contrast: float = 1.0
    shadow: float = 0.5
    snow: bool = False
    fallen: bool = False
    rain: bool = False
    night: bool = False


LOOKS = {
    "spring": Look(),
    "fall": Look(
        light=(1.02, 0.95, 0.84),
        sky=((150, 175, 205), (232, 222, 202)),
        cover=0.6,
        haze=(222, 212, 192),
        haze_m=320.0,
        grass=(136, 128, 66),
        leaves=((214, 120, 30), (200, 84, 28), (222, 164, 44), (160, 90, 40)),
        fallen=True,
    ),
    "winter": Look(
        light=(0.95, 0.98, 1.04),
        sky=((176, 190, 206), (226, 230, 236)),
        cloud=(236, 238, 242),
        cover=0.8,
        haze=(222, 227, 234),
        haze_m=240.0,
        grass=(236, 240, 246),
        leaves=(),
        road=(134, 136, 142),
        shadow=0.3,
        snow=True,
    ),
    "rain": Look(
        light=(0.62, 0.66, 0.72),
        sky=((112, 120, 130), (158, 164, 172)),
        cloud=(92, 98, 108),
        cover=0.9,
        haze=(150, 157, 165),
        haze_m=95.0,
        grass=(86, 118, 62),
        leaves=((58, 100, 44), (76, 118, 54), (52, 88, 46)),
        road=(84, 86, 92),
        contrast=0.85,
        shadow=0.2,
        rain=True,
    ),
    "night": Look(
        light=(0.17, 0.18, 0.25),
        sky=((5, 8, 20), (26, 28, 44)),
        cloud=(30, 32, 46),
        cover=0.5,
        haze=(16, 17, 28),
        haze_m=200.0,
        shadow=0.2,
        night=True,
    ),
}


def noise(rng: np.random.Generator, height: int, width: int, octaves: int = 4) -> Float32[np.ndarray, "h w"]:
    """Clouds with mean about 0 and deviation about 1, from coarse to fine."""
    field = np.zeros((height, width), np.float32)
    for k in range(octaves):
        shrink = 2 ** (octaves - 1 - k)
        small = rng.standard_normal((max(height // shrink, 1), max(width // shrink, 1)), dtype=np.float32)
        if shrink > 1:
            small = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
        field += small * np.float32(0.8**k)
    return field / np.float32(np.sqrt(octaves) * 0.75)


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """All levels of the picture, packed one after another as RGBX, and where each starts."""

    packed: UInt32[np.ndarray, " n"]
    starts: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]

    def paint(self, camera: Camera, road: Road, s: float, canvas: Canvas, colours: np.ndarray) -> None:
        """Into `colours` (h, w, 3) and the depth of the canvas, all that lies below the horizon."""
        first = max(int(np.ceil(camera.horizon_px + 0.5)), 0)
        depth = camera.focal_px * camera.eye_m / (np.arange(first, camera.height) + 0.5 - camera.horizon_px)
        depth = np.minimum(depth, FAR_M).astype(np.float32)
        ray = ((np.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal_px).astype(np.float32)
        right, ahead = depth[:, None] * ray, np.broadcast_to(depth[:, None], (len(depth), len(ray)))
        sine, cosine = np.float32(np.sin(camera.heading)), np.float32(np.cos(camera.heading))
        x = np.float32(camera.x) + right * cosine + ahead * sine
        z = np.float32(camera.z) - right * sine + ahead * cosine
        along, across = road.locate(x, z, np.float32(s) + ahead)
        footprint = depth**2 / (camera.focal_px * camera.eye_m) / ALONG_M
        level = np.clip(np.log2(np.maximum(footprint, 1)) / 2 + 0.2, 0, LEVELS - 1).astype(np.int32)
        for k in range(LEVELS):
            rows = np.flatnonzero(level == k)
            if len(rows):
                part = np.s_[rows[0] : rows[-1] + 1]
                colours[first:][part] = self._sample(k, along[part], across[part])
        canvas.depth[first:] = depth[:, None]

    def _sample(self, level: int, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Colours at (s, t), linear across and along where pixels are finer than the picture."""
        length, width = self.shapes[level]
        row = s * np.float32(1 / (ALONG_M * 4**level)) - np.float32(0.5)
        column = np.clip((t + np.float32(REACH_M)) * np.float32(1 / (ACROSS_M * 2**level)), 0.5, width - 0.51) - 0.5
        i, j = np.floor(row).astype(np.int32), column.astype(np.int32)
        if level > 0:
            return self._texel(level, i % length, np.minimum(j + (column - j > 0.5), width - 1))[..., :3]
        di, dj = (row - i)[..., None], (column - j)[..., None]
        i, below, beside = i % length, (i + 1) % length, np.minimum(j + 1, width - 1)
        top = self._mix(self._texel(level, i, j), self._texel(level, i, beside), dj)
        return self._mix(top, self._mix(self._texel(level, below, j), self._texel(level, below, beside), dj), di)[
            ..., :3
        ]

    def _mix(self, a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
        return np.asarray(a + (b - a) * share)

    def _texel(self, level: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        index = i * np.int32(self.shapes[level][1]) + j + np.int32(self.starts[level])
        return np.asarray(self.packed[index].view(np.uint8).reshape(*i.shape, 4), np.float32)


def lay(rng: np.random.Generator, area: str, look: Look) -> Ground:
    """The ground of an area."""
    n_s, n_t = round(PERIOD_M / ALONG_M), round(2 * REACH_M / ACROSS_M)
    s = ((np.arange(n_s) + 0.5) * ALONG_M)[:, None]
    t = ((np.arange(n_t) + 0.5) * ACROSS_M - REACH_M)[None, :]
    fine, coarse = noise(rng, n_s, n_t, 4), noise(rng, n_s // 8, n_t // 8, 3)
    coarse = np.asarray(Image.fromarray(coarse).resize((n_t, n_s), Image.Resampling.BICUBIC))
    picture = np.empty((n_s, n_t, 3), np.float32)
    picture[:] = look.grass
    _LAY[area](picture, s, t, look)
    rough = np.where(np.abs(t) < ROADWAY_M[area], 7.0, 13.0).astype(np.float32)
    picture += (fine * rough + coarse * (0.7 * rough))[..., None]
    if look.fallen:
        at = rng.integers(0, (n_s, n_t), (6000, 2))
        at = at[(np.abs(t[0, at[:, 1]]) > ROADWAY_M[area] * 0.8) | (rng.random(len(at)) < 0.1)]
        leaves = np.array(look.leaves, np.float32)[rng.integers(0, len(look.leaves), len(at))]
        for step in range(3):
            picture[at[:, 0], np.minimum(at[:, 1] + step, n_t - 1)] = leaves
    if look.snow:  # a thin cover, driven off where the wheels run
        wheels = np.abs((np.abs(t) % 3.4) - 1.7)
        cover = np.clip(0.4 + 0.14 * coarse - 0.45 * np.exp(-(((wheels - 0.75) / 0.35) ** 2)), 0, 0.85)
        cover = np.where(np.abs(t) < ROADWAY_M[area], cover, 0.75 + 0.1 * coarse)[..., None]
        picture += np.clip(cover, 0, 1) * (np.array([238, 241, 246], np.float32) - picture)
    picture = np.clip(picture * np.array(look.light, np.float32), 0, 255)
    return _pack(picture)


def _pack(picture: np.ndarray) -> Ground:
    parts, starts, shapes, total = [], [], [], 0
    for level in range(LEVELS):
        if level:
            length, width = picture.shape[:2]
            picture = picture.reshape(length // 4, 4, width // 2, 2, 3).mean(axis=(1, 3))
        length, width = picture.shape[:2]
        rgbx = np.zeros((length, width, 4), np.uint8)
        rgbx[..., :3] = picture.round()
        parts.append(rgbx.reshape(-1, 4).view(np.uint32).ravel())
        starts.append(total)
        shapes.append((length, width))
        total += length * width
    return Ground(np.concatenate(parts), tuple(starts), tuple(shapes))


ROADWAY_M = {"city": 5.7, "town": 5.2, "highway": 14.6}
WALL_M = {"city": 9.6, "town": 7.2, "highway": 15.0}
WHITE, YELLOW, KERB, PAVING = (226, 226, 222), (222, 190, 70), (176, 174, 168), (150, 146, 140)


def _strip(picture: np.ndarray, t: np.ndarray, low: float, high: float, colour: Colour, mirror: bool = True) -> None:
    side = np.abs(t) if mirror else t
    picture[:, ((side >= low) & (side < high))[0]] = colour


def _dashes(
    picture: np.ndarray, s: np.ndarray, t: np.ndarray, at: float, wide: float, on: float, period: float, colour: Colour
) -> None:
    picture[((s % period) < on) & (np.abs(t - at) < wide / 2)] = colour


def _paving(picture: np.ndarray, s: np.ndarray, t: np.ndarray, low: float, high: float) -> None:
    _strip(picture, t, low, high, PAVING)
    slab = (np.floor(s / 0.8) * 7 + np.floor(t / 0.8) * 3) % 5
    seam = ((s % 0.8) < 0.1) | ((t % 0.8) < 0.06)
    inside = (np.abs(t) >= low) & (np.abs(t) < high)
    picture += np.where(inside, slab * 5 - 10 - 26 * seam, 0)[..., None]


def _city(picture: np.ndarray, s: np.ndarray, t: np.ndarray, look: Look) -> None:
    _paving(picture, s, t, 5.7, REACH_M + 1)
    _strip(picture, t, 0, 5.7, look.road)
    _strip(picture, t, 3.5, 5.5, tuple(0.88 * c for c in look.road))  # type: ignore[arg-type]
    _strip(picture, t, 5.7, 5.95, KERB)
    _dashes(picture, s, t, 0.0, 0.15, 4.0, 8.0, WHITE)
    for side in (-1, 1):
        _dashes(picture, s, t, side * 3.5, 0.12, 1.0, 2.0, WHITE)
    bars = (np.abs(s - 32) < 1.8) & (np.abs(t) < 5.4) & ((t % 1.0) < 0.5)
    picture[bars] = WHITE
    picture[(np.abs(s - 28.5) < 0.2) & (t > 0.2) & (t < 3.4)] = WHITE


def _town(picture: np.ndarray, s: np.ndarray, t: np.ndarray, look: Look) -> None:
    _strip(picture, t, 0, 5.2, look.road)
    _paving(picture, s, t, 5.2, 7.2)
    _strip(picture, t, 5.2, 5.4, KERB)
    _dashes(picture, s, t, 0.0, 0.12, 2.0, 8.0, WHITE)
    for side in (-1, 1):  # driveways and garden paths
        picture[(np.abs((s + 8 * side) % 32 - 16) < 1.4) & (side * t > 7.2) & (side * t < 12)] = PAVING


def _highway(picture: np.ndarray, s: np.ndarray, t: np.ndarray, look: Look) -> None:
    _strip(picture, t, 0, 14.6, look.road)
    _strip(picture, t, 0, 0.9, tuple(0.8 * c for c in look.road))  # type: ignore[arg-type]
    _strip(picture, t, 14.6, 15.2, (150, 140, 120))
    for side in (-1, 1):
        _dashes(picture, s, t, side * 1.05, 0.22, 64.0, 64.0, YELLOW)
        _dashes(picture, s, t, side * 12.2, 0.22, 64.0, 64.0, WHITE)
        for lane in (4.75, 8.5):
            _dashes(picture, s, t, side * lane, 0.2, 4.0, 16.0, WHITE)


_LAY = {"city": _city, "town": _town, "highway": _highway}
