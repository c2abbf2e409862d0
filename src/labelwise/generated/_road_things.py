"""Cars, pedestrians, cyclists and wheelchairs as a few dozen faces and limbs each, and painting one.

A thing stands at the origin of its own frame: x to its right, y ahead, z up, metres. A face is a flat polygon that is
seen from outside alone; a limb is a line of round section. Parts of a car are painted in the order they are listed in
(body, details, cabin), those of people from far to near.
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw

from labelwise.generated._road_view import NEAR_M, Camera, Canvas, clip

Colour = tuple[float, float, float]
SUN = np.array([-0.45, -0.35, 0.82])
"""Where the light comes from in the world (x, z, h)."""


class Part(NamedTuple):
    """`radius_m` 0: a face; else a limb. `lamp_m`: radius of its halo at night or in rain; 0: it does not shine."""

    points: Float64[np.ndarray, "k 3"]
    colour: Colour
    radius_m: float = 0.0
    lamp_m: float = 0.0
    normal: Colour = (0.0, 0.0, 0.0)


class Painted(NamedTuple):
    """What a thing took of the frame: pixels, share of it that lies in the image, and lamps (u, v, radius, colour)."""

    pixels: int
    inside: float
    lamps: list[tuple[float, float, float, Colour]]


def paint(
    parts: list[Part],
    place: tuple[float, float, float],
    camera: Camera,
    canvas: Canvas,
    light: Colour,
    owner: int,
    *,
    ordered: bool,
) -> Painted:
    """Paint a thing that stands at world x, z and faces `place[2]` (radians)."""
    sine, cosine = np.sin(place[2]), np.cos(place[2])
    stacked = np.concatenate([part.points for part in parts])
    x, y, up = stacked.T
    world = np.stack([place[0] + x * cosine + y * sine, place[1] - x * sine + y * cosine, up], axis=1)
    seen = camera.seen(world)
    thick = np.repeat([part.radius_m for part in parts], [len(part.points) for part in parts])
    front = seen[:, 2] >= NEAR_M
    ahead = seen[front]
    if not len(ahead):
        return Painted(0, 0.0, [])
    pixels, reach = camera.pixels(ahead), (thick[front] * camera.focal_px / ahead[:, 2])[:, None]
    low, high = (pixels - reach).min(axis=0), (pixels + reach).max(axis=0)
    box = camera.around(low, high, margin_px=2.0)
    if box is None:
        return Painted(0, 0.0, [])
    shown = np.minimum(high, [camera.width, camera.height]) - np.maximum(low, 0)
    inside = float(np.clip((shown / np.maximum(high - low, 1e-6)).prod(), 0, 1) * len(ahead) / len(seen))
    zoom = 3 if (box[2] - box[0]) * (box[3] - box[1]) < 6000 else 2
    tile = Image.new("RGBA", ((box[2] - box[0]) * zoom, (box[3] - box[1]) * zoom))
    draw = ImageDraw.Draw(tile)
    scale = zoom * camera.focal_px / np.maximum(seen[:, 2], NEAR_M)
    middle, horizon = zoom * (camera.width / 2 - box[0]), zoom * (camera.horizon_px - box[1])
    at = np.stack([middle + seen[:, 0] * scale, horizon - seen[:, 1] * scale], axis=1)
    ends = np.cumsum([len(part.points) for part in parts]).tolist()
    starts, count = [0, *ends[:-1]], np.diff([0, *ends])
    nearest = np.minimum.reduceat(seen[:, 2], starts).tolist()
    widths = (np.add.reduceat(scale, starts) / count).tolist()
    flats = at.ravel().tolist()
    order = list(range(len(parts)))
    if not ordered:
        order = np.argsort(-np.add.reduceat(seen[:, 2], starts) / count, kind="stable").tolist()
    sun = (SUN[0] * cosine - SUN[1] * sine, SUN[0] * sine + SUN[1] * cosine, SUN[2])
    lamps = []
    for k in order:
        part, rows, near = parts[k], slice(starts[k], ends[k]), nearest[k]
        flat = flats[2 * starts[k] : 2 * ends[k]]
        if part.radius_m:
            if near > NEAR_M:
                _limb(draw, part, flat, 2 * part.radius_m * widths[k], light)
            continue
        if near < NEAR_M:
            cut = clip(seen[rows])
            flat = ((camera.pixels(cut) - box[:2]) * zoom).ravel().tolist() if len(cut) > 2 else []
        if _face(draw, part, flat, light, sun) and part.lamp_m and near > NEAR_M:
            u, v = at[rows].mean(axis=0) / zoom + box[:2]
            lamps.append((float(u), float(v), widths[k] / zoom * part.lamp_m, part.colour))
    middle_m = float(np.median(ahead[:, 2]))
    return Painted(canvas.put(tile.reduce(zoom), box[:2], middle_m, owner), inside, lamps)


def _limb(draw: ImageDraw.ImageDraw, part: Part, flat: list[float], width: float, light: Colour) -> None:
    fill = tuple(int(c * b) for c, b in zip(part.colour, light, strict=True))
    if len(flat) > 2:
        draw.line(flat, fill=fill, width=max(round(width), 1))
    if width > 2:
        for u, v in (flat[:2], flat[-2:]):
            draw.ellipse((u - width / 2, v - width / 2, u + width / 2, v + width / 2), fill=fill)


def _face(draw: ImageDraw.ImageDraw, part: Part, flat: list[float], light: Colour, sun: Colour) -> bool:
    """Draw a face; whether it shows."""
    if not flat:
        return False
    us, vs = flat[::2], flat[1::2]
    area = sum(us[k - 1] * vs[k] - us[k] * vs[k - 1] for k in range(len(us)))
    if area >= 0:  # seen from behind (v runs down)
        return False
    shade = 0.62 + 0.38 * max(0.0, sum(n * s for n, s in zip(part.normal, sun, strict=True)))
    tint = (1.0, 1.0, 1.0) if part.lamp_m else (shade * light[0], shade * light[1], shade * light[2])
    draw.polygon(flat, fill=tuple(min(int(c * b), 255) for c, b in zip(part.colour, tint, strict=True)))
    return True


def _normal(points: Float64[np.ndarray, "k 3"]) -> Float64[np.ndarray, " 3"]:
    """Of a flat polygon, towards whom its corners run anticlockwise; as long as twice its area."""
    normal: np.ndarray = np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0)
    return normal


def outward(faces: list[tuple[list[tuple[float, float, float]], Colour, float]], inside: Colour) -> list[Part]:
    """Faces of a convex solid around the point `inside`, turned so that they are seen from outside."""
    parts = []
    for corners, colour, lamp in faces:
        points = np.array(corners, np.float64)
        normal = _normal(points)
        if normal @ (points.mean(axis=0) - np.array(inside)) < 0:
            points, normal = points[::-1], -normal
        x, y, z = (normal / np.linalg.norm(normal)).tolist()
        parts.append(Part(points, colour, 0.0, lamp, (x, y, z)))
    return parts


def car(rng: np.random.Generator, *, lit: bool, dark: bool) -> list[Part]:
    """A hatchback, saloon, estate or van. `lit`: its lamps are on; `dark`: at night, when their halos are wide."""
    kind = int(rng.integers(4))
    length, width, height = ((3.9, 1.72, 1.5), (4.5, 1.8, 1.44), (4.6, 1.82, 1.52), (4.9, 1.95, 2.05))[kind]
    screen, roof_front, roof_back, back = (
        (0.9, 0.25, -1.5, -1.9),
        (0.85, 0.1, -1.2, -1.75),
        (0.9, 0.2, -1.9, -2.25),
        (1.7, 1.05, -2.3, -2.42),
    )[kind]
    half, front, tail, belt, sill = width / 2, length / 2, -length / 2, 0.92 if kind < 3 else 1.08, 0.27
    paint, glass = _car_colour(rng), (46.0, 56.0, 68.0)
    nose = 0.72 if kind < 3 else 0.9
    rear = belt if kind != 1 else 0.95
    side = [(tail, sill), (front, sill), (front, nose), (screen, belt), (back, belt), (tail, rear)]
    body: list[tuple[list[tuple[float, float, float]], Colour, float]] = [
        ([(x, y, z) for y, z in side], paint, 0.0) for x in (-half, half)
    ]
    edges = list(zip(side[1:], side[2:] + side[:1], strict=True))
    body += [([(-half, *a), (half, *a), (half, *b), (-half, *b)], paint, 0.0) for a, b in edges]
    parts = outward(body, (0.0, 0.0, 0.6))
    parts += _car_details(half, front, tail, nose, rear, lit, dark)
    low, high = half * 0.94, half * 0.76
    ring = {
        "front": [(-low, screen, belt), (low, screen, belt), (high, roof_front, height), (-high, roof_front, height)],
        "back": [(-low, back, belt), (low, back, belt), (high, roof_back, height), (-high, roof_back, height)],
        "roof": [
            (-high, roof_front, height),
            (high, roof_front, height),
            (high, roof_back, height),
            (-high, roof_back, height),
        ],
    }
    cabin: list[tuple[list[tuple[float, float, float]], Colour, float]] = []
    for x, xt in ((-low, -high), (low, high)):
        cabin.append(
            ([(x, screen, belt), (x, back, belt), (xt, roof_back, height), (xt, roof_front, height)], paint, 0.0)
        )
    cabin += [(ring["front"], paint, 0.0), (ring["back"], paint, 0.0), (ring["roof"], paint, 0.0)]
    parts += outward(cabin, (0.0, 0.0, 1.1))
    panes = [(ring["front"], 0.86), (ring["back"], 0.8)]
    for x, xt in ((-low, -high), (low, high)):
        middle = (screen + back) / 2
        for a, b, c, d in (
            (screen, middle + 0.05, middle + 0.05, roof_front),
            (middle - 0.05, back, roof_back, middle - 0.05),
        ):
            if kind != 3 or a == screen:
                panes.append(([(x, a, belt), (x, b, belt), (xt, c, height), (xt, d, height)], 0.8))
    shrunk = [(_shrunk(corners, share), glass, 0.0) for corners, share in panes]
    return parts + outward(shrunk, (0.0, 0.0, 1.1))


def _shrunk(corners: list[tuple[float, float, float]], share: float) -> list[tuple[float, float, float]]:
    points = np.array(corners)
    middle = points.mean(axis=0)
    return [(float(x), float(y), float(z)) for x, y, z in middle + share * (points - middle)]


def _car_colour(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.55:
        grey = float(rng.choice([40, 90, 150, 195, 232]))
        return (grey, grey, grey * 1.02)
    red, green, blue = colorsys.hsv_to_rgb(
        float(rng.choice([0.0, 0.02, 0.1, 0.35, 0.58, 0.62])), 0.75, rng.uniform(0.4, 0.85)
    )
    return (255 * red, 255 * green, 255 * blue)


def _car_details(half: float, front: float, tail: float, nose: float, rear: float, lit: bool, dark: bool) -> list[Part]:
    faces: list[tuple[list[tuple[float, float, float]], Colour, float]] = []

    def plate(y: float, x1: float, x2: float, z1: float, z2: float, colour: Colour, lamp: float = 0.0) -> None:
        out = y + (0.01 if y > 0 else -0.01)
        faces.append(([(x1, out, z1), (x2, out, z1), (x2, out, z2), (x1, out, z2)], colour, lamp))

    halo = 0.0 if not lit else (1.0 if dark else 0.45)
    plate(front, -half * 0.55, half * 0.55, 0.45, nose - 0.1, (30, 30, 32))
    plate(front, -0.26, 0.26, 0.36, 0.47, (235, 235, 225))
    plate(tail, -0.26, 0.26, 0.62, 0.74, (235, 225, 150))
    plate(tail, -half * 0.9, half * 0.9, 0.3, 0.42, (42, 42, 44))
    for side in (-1, 1):
        a, b = sorted((side * half * 0.58, side * half * 0.95))
        plate(front, a, b, nose - 0.22, nose - 0.04, (255, 250, 225) if lit else (215, 220, 222), halo)
        plate(tail, a, b, rear - 0.26, rear - 0.06, (255, 40, 30) if lit else (165, 28, 26), 0.45 * halo)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for side in (-1, 1):
        for y in (front * 0.64, tail * 0.62):
            for radius, colour, out in ((0.32, (24.0, 24.0, 26.0), 0.012), (0.18, (150.0, 150.0, 155.0), 0.02)):
                ring = [(side * (half + out), y + radius * np.cos(a), 0.32 + radius * np.sin(a)) for a in angle]
                faces.append((ring, colour, 0.0))
    return outward(faces, (0.0, 0.0, 0.5))


def shadow(
    place: tuple[float, float, float], wide_m: float, long_m: float, camera: Camera, canvas: Canvas, depth: float
) -> None:
    """Darken the ground below a thing; nobody's pixels."""
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    x, y = 0.62 * wide_m * np.cos(angle), 0.56 * long_m * np.sin(angle)
    sine, cosine = np.sin(place[2]), np.cos(place[2])
    flat = np.stack([place[0] + x * cosine + y * sine, place[1] - x * sine + y * cosine, np.zeros(14)], axis=1)
    seen = clip(camera.seen(flat))
    if len(seen) < 3:
        return
    pixels, zoom = camera.pixels(seen), 2
    box = camera.around(pixels.min(axis=0), pixels.max(axis=0))
    if box is not None:
        veil = Image.new("L", ((box[2] - box[0]) * zoom, (box[3] - box[1]) * zoom))
        at = (pixels - box[:2]) * zoom
        ImageDraw.Draw(veil).polygon([tuple(p) for p in at.tolist()], fill=int(255 * depth))
        canvas.image.paste((10, 10, 14), box, veil.reduce(zoom))
