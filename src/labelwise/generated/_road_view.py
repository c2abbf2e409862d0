"""Where things are in a road scene, and where they show: the road, a pinhole camera above it, and a canvas.

World: x to the east, z to the north, h above the ground, metres. Road: s along its middle line, t to the right of it.
Camera: to the right, up, and ahead (depth) of the lens; it turns about the vertical axis alone, its pitch and shake
are a shift of the horizon. Pixels: u to the right, v down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.typing import ArrayLike
from PIL import Image

STEP_M = 0.5
START_M = -80.0
NEAR_M = 0.35
Vector = tuple[float, float, float]
NOBODY = 255
"""Owner of a pixel that belongs to no object."""


@dataclass(frozen=True, slots=True, eq=False)
class Road:
    """The middle line, every `STEP_M` from `START_M` on."""

    x: Float64[np.ndarray, " n"]
    z: Float64[np.ndarray, " n"]
    heading: Float64[np.ndarray, " n"]

    @staticmethod
    def bent(curvature_per_m: Float64[np.ndarray, " n"]) -> Road:
        """From the curvature at every step; at s = 0 the road is at the origin and runs north."""
        heading = np.cumsum(curvature_per_m) * STEP_M
        zero = round(-START_M / STEP_M)
        heading -= heading[zero]
        x, z = np.cumsum(np.sin(heading)) * STEP_M, np.cumsum(np.cos(heading)) * STEP_M
        return Road(x - x[zero], z - z[zero], heading)

    def at(self, s: ArrayLike, t: ArrayLike) -> Float64[np.ndarray, "2 ..."]:
        """World x and z of road positions."""
        row = (np.asarray(s, np.float64) - START_M) / STEP_M
        steps = np.arange(len(self.x))
        heading = np.interp(row, steps, self.heading)
        x, z = np.interp(row, steps, self.x), np.interp(row, steps, self.z)
        return np.stack([x + t * np.cos(heading), z - t * np.sin(heading)])

    def heading_at(self, s: float) -> float:
        """Direction of the road, radians to the right of north."""
        return float(np.interp((s - START_M) / STEP_M, np.arange(len(self.x)), self.heading))

    def locate(
        self, x: Float32[np.ndarray, "h w"], z: Float32[np.ndarray, "h w"], s: Float32[np.ndarray, "h w"]
    ) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
        """Road position (s, t) of world positions, from a first guess of s: two steps along the tangent."""
        sine, cosine = np.sin(self.heading).astype(np.float32), np.cos(self.heading).astype(np.float32)
        middle_x, middle_z = self.x.astype(np.float32), self.z.astype(np.float32)
        for _ in range(2):
            row = np.clip(((s - START_M) / STEP_M).astype(np.int32), 0, len(self.x) - 1)
            dx, dz = x - middle_x[row], z - middle_z[row]
            along = dx * sine[row] + dz * cosine[row]
            s = row * np.float32(STEP_M) + np.float32(START_M) + along
        return s, dx * cosine[row] - dz * sine[row]


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera.

    A car 1.5 m high at 20 m from a lens 1.5 m above the ground reaches the horizon and stands 15 px below it:

    >>> camera = Camera(320, 192, focal_px=200.0, horizon_px=90.0, x=0.0, z=0.0, heading=0.0, eye_m=1.5)
    >>> camera.pixels(camera.seen(np.array([[0.0, 20.0, 1.5], [2.0, 20.0, 0.0]]))).tolist()
    [[160.0, 90.0], [180.0, 105.0]]
    """

    width: int
    height: int
    focal_px: float
    horizon_px: float
    x: float
    z: float
    heading: float
    eye_m: float

    def turned(self, world: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """World directions (x, z, h) as the camera sees them (right, up, depth)."""
        sine, cosine = np.sin(self.heading), np.cos(self.heading)
        x, z, h = world.T
        return np.stack([x * cosine - z * sine, h, x * sine + z * cosine], axis=1)

    def seen(self, world: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """World points (x, z, h) as right, up, depth from the lens."""
        return self.turned(world - np.array([self.x, self.z, self.eye_m]))

    def pixels(self, seen: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
        """Image points of what lies ahead of the lens."""
        scale = self.focal_px / seen[:, 2]
        return np.stack([self.width / 2 + seen[:, 0] * scale, self.horizon_px - seen[:, 1] * scale], axis=1)

    def around(
        self, low: Float64[np.ndarray, " 2"], high: Float64[np.ndarray, " 2"], margin_px: float = 1.0
    ) -> tuple[int, int, int, int] | None:
        """The whole pixels x1, y1, x2, y2 around a rectangle, clipped to the image; None: outside."""
        low, high = np.clip(low - margin_px, -1e6, 1e6), np.clip(high + margin_px, -1e6, 1e6)
        x1, y1 = max(math.floor(low[0]), 0), max(math.floor(low[1]), 0)
        x2, y2 = min(math.ceil(high[0]), self.width), min(math.ceil(high[1]), self.height)
        return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


@dataclass(slots=True, eq=False)
class Canvas:
    """A frame that is painted from far to near: colours, the depth of every pixel in m, and whose pixel it is."""

    image: Image.Image
    depth: Float32[np.ndarray, "h w"]
    owner: UInt8[np.ndarray, "h w"]

    def put(self, tile: Image.Image, at: tuple[int, int], depth: np.ndarray | float, owner: int = NOBODY) -> int:
        """Paint an RGBA tile over what is there; returns how many pixels are now this owner's."""
        self.image.paste(tile, at, tile)
        covered = np.asarray(tile.getchannel("A")) > 127
        area = np.s_[at[1] : at[1] + tile.height, at[0] : at[0] + tile.width]
        np.copyto(self.depth[area], depth, where=covered, casting="same_kind")
        np.copyto(self.owner[area], np.uint8(owner), where=covered)
        return int(np.count_nonzero(covered))


def clip(seen: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "m 3"]:
    """The part of a polygon that lies ahead of the lens by `NEAR_M`."""
    ahead = seen[:, 2] >= NEAR_M
    if ahead.all():
        return seen
    kept = []
    for k in range(len(seen)):
        a, b = seen[k - 1], seen[k]
        if ahead[k - 1] != ahead[k]:
            kept.append(a + (b - a) * ((NEAR_M - a[2]) / (b[2] - a[2])))
        if ahead[k]:
            kept.append(b)
    return np.array(kept).reshape(-1, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A flat picture in the world: bottom left corner, edge to the bottom right one, edge to the top left one.

    `picture` holds the same RGBa (premultiplied) image at 1, 1/2, 1/4, ... of its size, with a clear rim of one pixel.
    """

    corner: Vector
    along: Vector
    up: Vector
    picture: tuple[Image.Image, ...]

    def paint(self, camera: Camera, canvas: Canvas) -> None:
        """Paint what is in view, in perspective. Plain numbers: a frame has dozens of panels of few pixels."""
        f, middle, horizon = camera.focal_px, camera.width / 2, camera.horizon_px
        sine, cosine = math.sin(camera.heading), math.cos(camera.heading)
        (x, z, h), (ax, az, ah), (bx, bz, bh) = self.corner, self.along, self.up
        x, z, h = x - camera.x, z - camera.z, h - camera.eye_m
        px, pz = x * cosine - z * sine, x * sine + z * cosine
        ax, az = ax * cosine - az * sine, ax * sine + az * cosine
        bx, bz = bx * cosine - bz * sine, bx * sine + bz * cosine
        corners = [
            (px, h, pz),
            (px + ax, h + ah, pz + az),
            (px + ax + bx, h + ah + bh, pz + az + bz),
            (px + bx, h + bh, pz + bz),
        ]
        if max(corner[2] for corner in corners) < NEAR_M:
            return
        if min(corner[2] for corner in corners) < NEAR_M:
            corners = [(a, b, c) for a, b, c in clip(np.array(corners)).tolist()]
        us = [middle + f * c[0] / c[2] for c in corners]
        vs = [horizon - f * c[1] / c[2] for c in corners]
        x1, y1 = max(math.floor(min(us)) - 1, 0), max(math.floor(min(vs)) - 1, 0)
        x2, y2 = min(math.ceil(max(us)) + 1, camera.width), min(math.ceil(max(vs)) + 1, camera.height)
        if x1 >= x2 or y1 >= y2:
            return
        if (max(us) - min(us)) * (max(vs) - min(vs)) < 1.5:  # too small to be seen
            return
        full = self.picture[0]
        shrink = max(full.width / max(max(us) - min(us), 0.1), full.height / max(max(vs) - min(vs), 0.1))
        picture = self._level(shrink)
        wide, tall = picture.width - 2, picture.height - 2
        # image point -> (share along, share up, 1) / depth: the inverse of the columns along, up, corner, in pixels
        ua, va, ub, vb = f * ax + middle * az, horizon * az - f * ah, f * bx + middle * bz, horizon * bz - f * bh
        uc, vc = f * px + middle * pz, horizon * pz - f * h
        along = (vb * pz - vc * bz, uc * bz - ub * pz, ub * vc - uc * vb)
        up = (vc * az - va * pz, ua * pz - uc * az, uc * va - ua * vc)
        one = (va * bz - vb * az, ub * az - ua * bz, ua * vb - ub * va)
        scale = ua * along[0] + ub * up[0] + uc * one[0]
        if abs(scale) < 1e-9:  # seen edge on
            return
        rows = []
        for k, (a, b) in enumerate(((wide, 1.0), (-tall, tall + 1.0), (0.0, 1.0))):
            way = along if k == 0 else up
            u, v, c = ((a * w + b * o) / scale for w, o in zip(way, one, strict=True))
            rows.append((u, v, c + u * x1 + v * y1))
        last = rows[2][2] if abs(rows[2][2]) > 1e-12 else 1e-12
        data = [value / last for row in rows for value in row][:8]
        tile = picture.transform((x2 - x1, y2 - y1), Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR)
        inverse = rows[2][0] * (np.arange(x2 - x1, dtype=np.float32) + 0.5) + rows[2][2]
        if abs(rows[2][1]) > 1e-9:
            inverse = inverse + rows[2][1] * (np.arange(y2 - y1, dtype=np.float32)[:, None] + 0.5)
        canvas.put(tile.convert("RGBA"), (x1, y1), 1 / np.maximum(inverse, 1e-3))

    def _level(self, shrink: float) -> Image.Image:
        return self.picture[min(int(math.log2(max(shrink, 1)) + 0.3), len(self.picture) - 1)]


def pyramid(picture: Image.Image) -> tuple[Image.Image, ...]:
    """A picture with its clear rim, at smaller and smaller sizes, for `Panel`."""
    levels = []
    while True:
        rimmed = Image.new("RGBa", (picture.width + 2, picture.height + 2))
        rimmed.paste(picture.convert("RGBa"), (1, 1))
        levels.append(rimmed)
        if min(picture.size) < 8:
            return tuple(levels)
        picture = picture.reduce(2)
