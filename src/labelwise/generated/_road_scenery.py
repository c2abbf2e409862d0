"""What stands still beside the road, in the order of the road: houses, hedges, trees, lamps, rails, signs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from labelwise.generated import _road_textures as textures
from labelwise.generated._road_ground import Look
from labelwise.generated._road_view import Camera, Canvas, Panel, Road, pyramid

Picture = tuple[Image.Image, ...]


class Stand(NamedTuple):
    """Pictures at one place, or a billboard that always faces the camera (`foot` and `size_m`).

    `s_m` is what it is sorted by: the far end of a wall, behind which nobody on the road can be seen before it.
    """

    s_m: float
    panels: tuple[Panel, ...] = ()
    foot: tuple[float, float] = (0.0, 0.0)
    size_m: tuple[float, float] = (0.0, 0.0)
    picture: Picture = ()

    def paint(self, camera: Camera, canvas: Canvas) -> None:
        """Paint what is in view."""
        for panel in self.panels:
            panel.paint(camera, canvas)
        if self.picture:
            x, z = math.cos(camera.heading) * self.size_m[0], -math.sin(camera.heading) * self.size_m[0]
            corner = (self.foot[0] - x / 2, self.foot[1] - z / 2, 0.0)
            Panel(corner, (x, z, 0.0), (0.0, 0.0, self.size_m[1]), self.picture).paint(camera, canvas)


def stands(rng: np.random.Generator, area: str, look: Look, road: Road, end_m: float) -> list[Stand]:
    """All scenery of an area up to `end_m`, far to near."""
    found = _AREAS[area](rng, look, road, end_m)
    return sorted(found, key=lambda stand: -stand.s_m)


def _along(
    road: Road, s1: float, s2: float, t1: float, t2: float, low_m: float, high_m: float, picture: Picture
) -> Panel:
    """An upright panel from (s1, t1) to (s2, t2)."""
    (xa, xb), (za, zb) = road.at(np.array([s1, s2]), np.array([t1, t2])).tolist()
    return Panel((xa, za, low_m), (xb - xa, zb - za, 0.0), (0.0, 0.0, high_m - low_m), picture)


def _billboard(road: Road, s: float, t: float, size_m: tuple[float, float], picture: Picture) -> Stand:
    x, z = road.at(s, t)
    return Stand(s, foot=(float(x), float(z)), size_m=size_m, picture=picture)


def _city(rng: np.random.Generator, look: Look, road: Road, end_m: float) -> list[Stand]:
    found = []
    kinds = []
    for _ in range(8):
        wide, tall = float(rng.uniform(9, 16)), float(rng.uniform(11, 26))
        kinds.append((wide, tall, pyramid(textures.facade(rng, look, wide, tall))))
    blank = pyramid(textures.grain(rng, 160, 200, (138, 126, 116), look, 8.0))
    for side in (-1, 1):
        s, before = -16.0, (0.0, 0.0)
        while s < end_m:
            wide, tall, front = kinds[rng.integers(len(kinds))]
            t = side * (9.6 + float(rng.choice([0.0, 0.0, 0.5])))
            if rng.random() < 0.07:  # a side street
                s, before = s + 8.0, (0.0, 0.0)
            panels = [_along(road, s, s + wide, t, t, 0, tall, front)]
            if before[0] < tall or before[1] != t:  # its end shows beside or above the one before
                panels.insert(0, _along(road, s, s, t, t + side * 14, 0, tall, blank))
            found.append(Stand(s + wide, tuple(panels)))
            s, before = s + wide, (tall, t)
    trees = [pyramid(textures.tree(rng, look)) for _ in range(3)]
    posts = {side: pyramid(textures.lamp(look, side)) for side in (-1, 1)}
    for side in (-1, 1):
        for s in np.arange(-4, end_m, 16.0):
            if rng.random() < 0.55:
                tall = float(rng.uniform(4.5, 6.5))
                found.append(
                    _billboard(road, s + rng.uniform(-2, 2), side * 6.5, (tall * 0.66, tall), trees[rng.integers(3)])
                )
        for s in np.arange(4 + 4 * side, end_m, 32.0):
            found.append(_billboard(road, s, side * 6.2, (2.0, 7.0), posts[-side]))
    return found


def _house(rng: np.random.Generator, look: Look) -> tuple[float, float, float, Picture, Picture, Picture]:
    wide, tall, rise = float(rng.uniform(8, 12)), float(rng.choice([3.2, 5.6])), float(rng.uniform(2.2, 3.4))
    colour = textures.wall_colour(rng)
    pale = (0.5 * colour[0] + 118, 0.5 * colour[1] + 114, 0.5 * colour[2] + 106)
    front = pyramid(textures.house(rng, look, wide, tall, pale))
    end = pyramid(textures.house(rng, look, 8.0, tall, pale, gable_m=rise))
    return wide, tall, rise, front, end, pyramid(textures.roof(rng, look, wide + 0.8, float(np.hypot(4.4, rise))))


def _town(rng: np.random.Generator, look: Look, road: Road, end_m: float) -> list[Stand]:
    found = []
    houses = [_house(rng, look) for _ in range(5)]
    hedges = [pyramid(textures.greenery(rng, look, 8.0, 1.1, 0.15)) for _ in range(3)]
    woods = [pyramid(textures.greenery(rng, look, 16.0, 7.0, 0.6)) for _ in range(2)]
    trees = [pyramid(textures.tree(rng, look)) for _ in range(4)]
    post = {side: pyramid(textures.lamp(look, side)) for side in (-1, 1)}
    for side in (-1, 1):
        for s in np.arange(-16, end_m, 16.0):
            found.append(
                Stand(s + 16, (_along(road, s, s + 16, side * 30, side * 30, 0, 7.5, woods[rng.integers(2)]),))
            )
        for s in np.arange(-16, end_m, 8.0):
            if abs((s + 4 + 8 * side) % 32 - 16) > 3 and rng.random() < 0.8:
                panel = _along(
                    road, s, s + 8, side * 7.3, side * 7.3, 0, float(rng.uniform(0.8, 1.3)), hedges[rng.integers(3)]
                )
                found.append(Stand(s + 8, (panel,)))
            if rng.random() < 0.4:
                tall = float(rng.uniform(3.5, 7.5))
                at = side * float(rng.uniform(8.5, 10.5))
                found.append(_billboard(road, s + rng.uniform(0, 6), at, (tall * 0.66, tall), trees[rng.integers(4)]))
        for s in np.arange(3 + 8 * side, end_m, 32.0):
            found.append(_billboard(road, s, side * 5.7, (2.0, 6.0), post[-side]))
        s = -12.0
        while s < end_m:
            wide, tall, rise, front, end, tiles = houses[rng.integers(len(houses))]
            found.append(_built(road, s, side, 12.5 + float(rng.uniform(-1, 1.5)), wide, tall, rise, front, end, tiles))
            s += wide + float(rng.uniform(3, 9))
    return found


def _built(
    road: Road,
    s: float,
    side: int,
    t: float,
    wide: float,
    tall: float,
    rise: float,
    front: Picture,
    end: Picture,
    tiles: Picture,
) -> Stand:
    """A house: its roof towards the road, its end towards the camera, its front."""
    eaves = _along(road, s - 0.4, s + wide + 0.4, side * (t - 0.4), side * (t - 0.4), tall, tall + 1, tiles)
    ridge = _along(road, s - 0.4, s + wide + 0.4, side * (t + 4), side * (t + 4), tall + rise, tall + rise + 1, tiles)
    (x1, z1, h1), (x2, z2, h2) = eaves.corner, ridge.corner
    slope = Panel(eaves.corner, eaves.along, (x2 - x1, z2 - z1, h2 - h1), tiles)
    gable = _along(road, s, s, side * t, side * (t + 8), 0, tall + rise, end)
    return Stand(s + wide, (slope, gable, _along(road, s, s + wide, side * t, side * t, 0, tall, front)))


def _highway(rng: np.random.Generator, look: Look, road: Road, end_m: float) -> list[Stand]:
    found = []
    rail = pyramid(textures.rail(look))
    woods = [pyramid(textures.greenery(rng, look, 16.0, 8.0, 0.55)) for _ in range(4)]
    trees = [pyramid(textures.tree(rng, look)) for _ in range(3)]
    post = {side: pyramid(textures.lamp(look, side)) for side in (-1, 1)}
    barrier = pyramid(textures.grain(rng, 320, 60, (128, 138, 124), look, 12.0))
    for t in (-14.9, -0.3, 0.3, 14.9):
        for s in np.arange(-16, end_m, 8.0):
            found.append(Stand(s + 4, (_along(road, s, s + 8, t, t, 0.05, 0.85, rail),)))
    for side in (-1, 1):
        walled = False
        for s in np.arange(-16, end_m, 16.0):
            walled = walled != (rng.random() < 0.12)
            far = side * float(rng.uniform(27, 32))
            found.append(
                Stand(
                    s + 16, (_along(road, s, s + 16, far, far, 0, float(rng.uniform(6, 10)), woods[rng.integers(4)]),)
                )
            )
            if walled:
                found.append(Stand(s + 16, (_along(road, s, s + 16, side * 17, side * 17, 0, 3.2, barrier),)))
            elif rng.random() < 0.6:
                tall = float(rng.uniform(5, 9))
                at = side * float(rng.uniform(19, 25))
                found.append(_billboard(road, s + rng.uniform(0, 16), at, (tall * 0.66, tall), trees[rng.integers(3)]))
    for s in np.arange(10, end_m, 48.0):
        found.append(_billboard(road, s, 15.6, (2.6, 10.0), post[-1]))
    sign = pyramid(textures.gantry(rng, look))
    for s in np.arange(rng.uniform(40, 160), end_m, 180.0):
        found.append(Stand(s, (_along(road, s, s, 0.4, 15.4, 0, 7.5, sign),)))
    return found


_AREAS = {"city": _city, "town": _town, "highway": _highway}
