"""Filming a road scene: every frame painted from far to near, then light, haze, rain and the sensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

from labelwise.generated import _road_ground as grounds
from labelwise.generated import _road_scenery as scenery
from labelwise.generated import _road_textures as textures
from labelwise.generated import _road_things as things
from labelwise.generated import _road_traffic as traffic
from labelwise.generated._road_view import NOBODY, Camera, Canvas, Road

EYE_M = 1.45
MIN_AREA_PX = 50
MIN_VISIBLE = 0.2
"""Share of an object that must show: of what lies in the image, and of it all."""
SHAKE_PX = 320.0


class Box(NamedTuple):
    """A visible object: its number in the clip, class, hull x1, y1, x2, y2 of its visible pixels, how many.

    `visible`: which share of the object that is.
    """

    actor: int
    label: int
    xyxy: tuple[int, int, int, int]
    area_px: int
    visible: float


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """All that a clip shows, ready to be filmed."""

    look: grounds.Look
    road: Road
    ground: grounds.Ground
    sky: Float32[np.ndarray, "h w 3"]
    stands: list[scenery.Stand]
    drive: traffic.Drive
    actors: list[traffic.Actor]
    ahead_m: float
    size_px: tuple[int, int]

    def frames(self, rng: np.random.Generator) -> Iterator[tuple[Image.Image, list[Box]]]:
        """The frames in order, each with the boxes of what shows."""
        width, height = self.size_px
        grain = rng.standard_normal((height + 64, width + 64, 1), dtype=np.float32)
        for k in range(len(self.drive.s)):
            camera = self.camera(k)
            canvas, boxes, lamps = self.paint(k, camera)
            colours = self._lit(np.array(canvas.image, np.float32), canvas, camera)
            for lamp in lamps:
                _glow(colours, *lamp)
            at = rng.integers(0, 64, 2)
            colours += grain[at[0] : at[0] + height, at[1] : at[1] + width] * (3.0 if self.look.night else 2.0)
            image = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
            if self.look.rain or self.look.snow:
                _fall(rng, image, self.look)
            yield image, boxes

    def camera(self, frame: int) -> Camera:
        """The lens in a frame."""
        (width, height), drive = self.size_px, self.drive
        s, t = float(drive.s[frame]), float(drive.t[frame])
        x, z = self.road.at(s, t)
        heading = self.road.heading_at(s + 2) + float(drive.yaw[frame])
        horizon = 0.46 * height + float(drive.shake[frame]) * width / SHAKE_PX
        return Camera(width, height, 0.72 * width, horizon, float(x), float(z), heading, EYE_M)

    def paint(
        self, frame: int, camera: Camera
    ) -> tuple[Canvas, list[Box], list[tuple[float, float, float, things.Colour]]]:
        """The frame before light and weather; what shows of whom; and the lamps that shine."""
        width, height = self.size_px
        s, colours = float(self.drive.s[frame]), self._sky(camera)
        depth = np.zeros((height, width), np.float32)  # the sky needs no haze
        canvas = Canvas(Image.new("RGB", (1, 1)), depth, np.full((height, width), NOBODY, np.uint8))
        self.ground.paint(camera, self.road, s, canvas, colours)
        canvas.image = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
        cast = [
            (float(actor.s[frame]), number)
            for number, actor in enumerate(self.actors)
            if s - 6 < actor.s[frame] < s + self.ahead_m
        ]
        order: list[tuple[float, int]] = sorted(cast, reverse=True)[-(NOBODY - 1) :]
        painted: list[tuple[int, things.Painted]] = []
        for stand in self.stands:
            if s - 4 < stand.s_m < s + self.ahead_m:
                while order and order[0][0] > stand.s_m:
                    self._actor(order.pop(0)[1], frame, camera, canvas, painted)
                stand.paint(camera, canvas)
        for _, number in order:
            self._actor(number, frame, camera, canvas, painted)
        return canvas, *self._shown(canvas, painted)

    def _actor(
        self, number: int, frame: int, camera: Camera, canvas: Canvas, painted: list[tuple[int, things.Painted]]
    ) -> None:
        actor = self.actors[number]
        s, t = float(actor.s[frame]), float(actor.t[frame])
        x, z = self.road.at(s, t)
        facing = self.road.heading_at(s) + float(actor.facing[frame])
        place = (float(x), float(z), facing)
        things.shadow(place, actor.wide_m, actor.long_m, camera, canvas, self.look.shadow)
        parts, ordered = actor.parts(frame), actor.label == traffic.CAR
        done = things.paint(parts, place, camera, canvas, self.look.light, len(painted), ordered=ordered)
        painted.append((number, done))

    def _shown(
        self, canvas: Canvas, painted: list[tuple[int, things.Painted]]
    ) -> tuple[list[Box], list[tuple[float, float, float, things.Colour]]]:
        width, height = self.size_px
        boxes, lamps = [], []
        count = np.bincount(canvas.owner.ravel(), minlength=NOBODY + 1)
        for owner, (number, done) in enumerate(painted):
            area = int(count[owner])
            if not area:
                continue
            for u, v, radius, colour in done.lamps:
                if 0 <= u < width and 0 <= v < height and canvas.owner[int(v), int(u)] == owner:
                    lamps.append((u, v, radius, colour))
            visible = area / done.pixels * done.inside
            if area > MIN_AREA_PX and visible >= MIN_VISIBLE:
                rows, columns = (np.flatnonzero((canvas.owner == owner).any(axis=axis)) for axis in (1, 0))
                hull = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
                boxes.append(Box(number, self.actors[number].label, hull, area, round(visible, 3)))
        return sorted(boxes), lamps

    def _sky(self, camera: Camera) -> Float32[np.ndarray, "h w 3"]:
        """The part of the panorama that the camera looks at, its lowest row at the horizon."""
        width, height = self.size_px
        colours = np.zeros((height, width, 3), np.float32)
        above = min(max(int(np.ceil(camera.horizon_px + 0.5)), 0), height)
        across = camera.heading * camera.focal_px - width / 2
        first = math.floor(across)
        share, first = np.float32(across - first), first % (self.sky.shape[1] - width - 1)
        top = len(self.sky) - round(camera.horizon_px)
        rows = slice(max(top, 0), max(top, 0) + above)
        left, right = self.sky[rows, first : first + width], self.sky[rows, first + 1 : first + width + 1]
        colours[: len(left)] = left + share * (right - left)
        colours[len(left) : above] = colours[max(len(left) - 1, 0)]  # up to where the ground begins
        return colours

    def _lit(self, colours: np.ndarray, canvas: Canvas, camera: Camera) -> Float32[np.ndarray, "h w 3"]:
        """Haze after depth; at night the own headlights; in rain less contrast."""
        look, depth = self.look, canvas.depth
        if look.night:
            v, u = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float32)
            aside = (u - camera.width / 2) / camera.focal_px
            above = np.clip((camera.horizon_px - 2 - v) / camera.focal_px, 0, None)
            beam = np.exp(-((aside / 0.42) ** 2) - (above / 0.05) ** 2) * 4.2 / (1 + (depth / 17) ** 2)
            colours *= (1 + beam)[..., None]
        haze = np.array(look.haze, np.float32)
        colours -= haze
        colours *= np.exp(depth * np.float32(-1 / look.haze_m))[..., None]
        colours += haze
        if look.contrast < 1:
            colours *= np.float32(look.contrast)
            colours += np.float32(128 * (1 - look.contrast))
        return colours


def clip(
    rng: np.random.Generator,
    area: str,
    condition: str,
    chance: tuple[float, ...],
    frames: int,
    fps: float,
    size_px: tuple[int, int],
) -> Clip:
    """Build the world of a clip."""
    look, ahead = grounds.LOOKS[condition], traffic.AHEAD_M[area]
    drive = traffic.drive(rng, area, frames, fps)
    end = float(drive.s[-1]) + ahead
    road = traffic.road(rng, area, end)
    sky = textures.sky(rng, look, round(2 * np.pi * 0.72 * size_px[0]), round(0.62 * size_px[1]))
    return Clip(
        look,
        road,
        grounds.lay(rng, area, look),
        np.concatenate([sky, sky[:, : size_px[0] + 1]], axis=1),  # all round and on, so that a view is one slice
        scenery.stands(rng, area, look, road, end),
        drive,
        traffic.spawn(rng, area, look, chance, drive, fps),
        ahead,
        size_px,
    )


def _glow(colours: np.ndarray, u: float, v: float, radius_px: float, colour: things.Colour) -> None:
    """The halo of a lamp."""
    height, width = colours.shape[:2]
    reach = min(max(2.5 * radius_px, 2.0), width / 16)
    x1, x2 = max(int(u - reach), 0), min(int(u + reach) + 2, width)
    y1, y2 = max(int(v - reach), 0), min(int(v + reach) + 2, height)
    if x1 < x2 and y1 < y2:
        dx, dy = np.arange(x1, x2) + 0.5 - u, (np.arange(y1, y2) + 0.5 - v)[:, None]
        halo = 0.7 * np.exp(-(dx**2 + dy**2) / (0.6 * reach**2 / 2.5))
        colours[y1:y2, x1:x2] += (halo[..., None] * np.array(colour)).astype(np.float32)


def _fall(rng: np.random.Generator, image: Image.Image, look: grounds.Look) -> None:
    """Streaks of rain, or flakes."""
    width, height = image.size
    veil = Image.new("L", image.size)
    draw = ImageDraw.Draw(veil)
    many = int(width * height / (420 if look.rain else 1500))
    x, y, near = rng.uniform(0, width, many), rng.uniform(-10, height, many), rng.random(many)
    for a, b, c in zip(x.tolist(), y.tolist(), near.tolist(), strict=True):
        if look.rain:
            long = (4 + 12 * c) * height / 192
            draw.line((a, b, a + 0.12 * long, b + long), fill=int(40 + 60 * c))
        else:
            r = (0.3 + 0.8 * c) * height / 192
            draw.ellipse((a - r, b - r, a + r, b + r), fill=int(90 + 110 * c))
    image.paste((205, 212, 220) if look.rain else (248, 250, 255), mask=veil)
