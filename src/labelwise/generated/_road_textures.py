"""Pictures for the scenery of road scenes: facades, houses, hedges, trees, rails, signs, clouds."""

from __future__ import annotations

import colorsys

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

from labelwise.generated._road_ground import Colour, Look, noise

PER_M = 20
"""Pixels per metre of a facade."""
WARM = (255.0, 208.0, 128.0)


def lit(colour: Colour, look: Look) -> tuple[int, int, int]:
    """A colour in this light."""
    r, g, b = (int(min(max(c * k, 0), 255)) for c, k in zip(colour, look.light, strict=True))
    return r, g, b


def grain(
    rng: np.random.Generator, width: int, height: int, colour: Colour, look: Look, strength: float = 9.0
) -> Image.Image:
    """A rough surface."""
    field = noise(rng, height, width)[..., None] * strength
    pixels = (np.array(colour, np.float32) + field) * np.array(look.light, np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert("RGBA")


def wall_colour(rng: np.random.Generator) -> Colour:
    hue, saturation, value = rng.choice([0.03, 0.06, 0.09, 0.12, 0.6]), rng.uniform(0.05, 0.45), rng.uniform(0.5, 0.85)
    red, green, blue = colorsys.hsv_to_rgb(float(hue), saturation, value)
    return (255 * red, 255 * green, 255 * blue)


def _pane(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], look: Look, on: float) -> None:
    """A window with its frame; `on`: how often it is lit at night."""
    x1, y1, x2, y2 = box
    draw.rectangle((x1 - 2, y1 - 2, x2 + 2, y2 + 3), fill=lit((225, 222, 214), look))
    shine = rng.uniform(0.6, 1.3)
    glass = lit((72 * shine, 92 * shine, 112 * shine), look)
    if look.night and rng.random() < on:
        glass = lit((255, 208 * rng.uniform(0.85, 1.05), 128 * rng.uniform(0.6, 1.4)), Look())
    draw.rectangle((x1, y1, x2, y2), fill=glass)
    if not look.night:  # a reflection, a curtain
        draw.polygon([(x1, y2), (x1, (y1 + y2) / 2), (x2, y1), (x2, y1 + 4)], fill=lit((135, 155, 172), look))
    draw.line(((x1 + x2) / 2, y1, (x1 + x2) / 2, y2), fill=lit((215, 212, 204), look), width=2)


def facade(rng: np.random.Generator, look: Look, wide_m: float, tall_m: float) -> Image.Image:
    """A town house in a street: shops on the ground floor, rows of windows above."""
    width, height = round(wide_m * PER_M), round(tall_m * PER_M)
    colour = wall_colour(rng)
    image = grain(rng, width, height, colour, look)
    draw = ImageDraw.Draw(image)
    trim = lit(tuple(min(c * 1.2, 250) for c in colour), look)  # type: ignore[arg-type]
    if rng.random() < 0.5:  # brick courses
        for y in range(0, height, 8):
            draw.line((0, y, width, y), fill=lit(tuple(0.86 * c for c in colour), look), width=1)  # type: ignore[arg-type]
    floor, columns = 3.0 * PER_M, max(int(wide_m / rng.uniform(1.9, 2.8)), 2)
    pitch, pane, tall = width / columns, rng.uniform(0.4, 0.62), rng.uniform(1.3, 1.9) * PER_M
    ground = height - 3.6 * PER_M
    for y in np.arange(ground - floor, 0.2 * floor, -floor).tolist():
        for k in range(columns):
            x = (k + 0.5 - pane / 2) * pitch
            _pane(rng, draw, (x, y + 0.5 * PER_M, x + pane * pitch, y + 0.5 * PER_M + tall), look, 0.35)
        if rng.random() < 0.4:
            draw.rectangle((0, y + floor - 5, width, y + floor - 2), fill=trim)
    draw.rectangle((0, 0, width, 9), fill=trim)
    _shops(rng, draw, width, height, ground, look)
    if look.snow:
        draw.rectangle((0, 0, width, 6), fill=lit((240, 244, 250), look))
    return image


def _shops(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, height: int, top: float, look: Look
) -> None:
    shops = max(width // (6 * PER_M), 1)
    for k in range(shops):
        x1, x2 = k * width / shops + 8, (k + 1) * width / shops - 8
        red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.35, 0.8))
        sign = (255 * red, 255 * green, 255 * blue)
        draw.rectangle((x1, top + 0.2 * PER_M, x2, height), fill=lit((62, 60, 60), look))
        _pane(rng, draw, (x1 + 6, top + 1.1 * PER_M, x2 - 1.5 * PER_M, height - 12), look, 0.8)
        draw.rectangle((x2 - 1.2 * PER_M, top + 1.1 * PER_M, x2 - 5, height), fill=lit((96, 74, 58), look))
        draw.rectangle((x1, top + 0.2 * PER_M, x2, top + 0.9 * PER_M), fill=lit(sign, look))
        for at in np.arange(x1 + 10, x2 - 14, 11):  # letters of a kind
            draw.rectangle(
                (at, top + 0.38 * PER_M, at + rng.uniform(4, 8), top + 0.7 * PER_M), fill=lit((240, 238, 230), look)
            )


def house(
    rng: np.random.Generator, look: Look, wide_m: float, tall_m: float, colour: Colour, *, gable_m: float = 0.0
) -> Image.Image:
    """A side of a house with a garden: its front, or (`gable_m` high at the top) an end."""
    width, height, gable = round(wide_m * PER_M), round((tall_m + gable_m) * PER_M), round(gable_m * PER_M)
    image = grain(rng, width, height, colour, look, 7.0)
    draw = ImageDraw.Draw(image)
    floors, columns = max(round(tall_m / 2.8), 1), max(int(wide_m / 2.6), 2)
    for floor in range(floors):
        for k in range(columns):
            x, y = (k + 0.5) * width / columns, height - (floor + 1) * 2.7 * PER_M + 0.7 * PER_M
            if floor == 0 and k == columns // 2 and not gable:
                draw.rectangle((x - 11, height - 2.2 * PER_M, x + 11, height), fill=lit((110, 62, 44), look))
            elif not gable or (k + floor) % 2:
                _pane(rng, draw, (x - 13, y, x + 13, y + 1.3 * PER_M), look, 0.5)
    draw.rectangle((0, height - 9, width, height), fill=lit((122, 116, 110), look))
    if gable:
        clear = Image.new("L", image.size, 255)
        cut = ImageDraw.Draw(clear)
        cut.polygon([(0, gable), (width / 2, 0), (0, 0)], fill=0)
        cut.polygon([(width, gable), (width / 2, 0), (width, 0)], fill=0)
        image.putalpha(clear)
    return image


def roof(rng: np.random.Generator, look: Look, wide_m: float, tall_m: float) -> Image.Image:
    """Tiles, or snow on them."""
    colour = [(150, 72, 52), (120, 62, 50), (88, 84, 88)][rng.integers(3)]
    width, height = round(wide_m * PER_M), round(tall_m * PER_M)
    image = grain(rng, width, height, (235, 239, 246) if look.snow else colour, look, 12.0)
    draw = ImageDraw.Draw(image)
    for y in range(0, height, 7):
        shade = (222, 228, 238) if look.snow else tuple(0.8 * c for c in colour)
        draw.line((0, y, width, y), fill=lit(shade, look), width=2)  # type: ignore[arg-type]
    return image


def tree(rng: np.random.Generator, look: Look) -> Image.Image:
    """A street tree, 4 m x 6 m: in leaf, in autumn colours, or bare with snow on its boughs."""
    width, height = 128, 192
    image = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(image)
    bark: Colour = (84, 66, 52)

    def bough(x: float, y: float, angle: float, length: float, thick: float) -> None:
        to = (x + length * np.sin(angle), y - length * np.cos(angle))
        draw.line((x, y, *to), fill=lit(bark, look), width=max(round(thick), 1))
        if look.snow and thick < 6:
            draw.line((x, y - thick / 2, to[0], to[1] - thick / 2), fill=lit((236, 240, 246), look), width=1)
        if length > 9:
            for turn in (-0.45, 0.1, 0.5):
                bough(*to, angle + turn + rng.normal(0, 0.12), length * rng.uniform(0.62, 0.76), thick * 0.62)

    bough(width / 2, height, rng.normal(0, 0.04), height * (0.25 if look.leaves else 0.3), 11)
    if look.leaves:
        for k in range(230):
            angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
            x, y = width / 2 + 54 * reach * np.cos(angle), 70 + 62 * reach * np.sin(angle)
            shade = 1.25 - 0.6 * (y / 140) + rng.normal(0, 0.1)
            leaf = look.leaves[k % len(look.leaves)]
            r = rng.uniform(4, 9)
            fill = lit((leaf[0] * shade, leaf[1] * shade, leaf[2] * shade), look)
            draw.ellipse((x - r, y - r * 0.8, x + r, y + r * 0.8), fill=fill)
    return image


def greenery(rng: np.random.Generator, look: Look, wide_m: float, tall_m: float, ragged: float) -> Image.Image:
    """A hedge, or (ragged) the edge of a wood."""
    width, height = round(wide_m * PER_M * 0.8), round(tall_m * PER_M * 0.8)
    leaves = look.leaves or ((120, 108, 96), (212, 218, 226), (150, 142, 134))
    image = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(image)
    line = noise(rng, 1, width, 5)[0]
    top = height * ragged * np.clip(0.5 + 0.4 * line, 0, 1)
    for _ in range(width * height // 30):
        x = rng.uniform(0, width)
        low = float(top[int(x)])
        y = rng.uniform(low, height)
        leaf, shade = (
            leaves[rng.integers(len(leaves))],
            1.2 - 0.55 * (y - low) / max(height - low, 1) + rng.normal(0, 0.12),
        )
        r = rng.uniform(2, 6)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=lit((leaf[0] * shade, leaf[1] * shade, leaf[2] * shade), look))
    return image


def rail(look: Look) -> Image.Image:
    """8 m of guard rail, 0.8 m high."""
    image = Image.new("RGBA", (256, 28))
    draw = ImageDraw.Draw(image)
    for x in (30, 94, 158, 222):
        draw.rectangle((x, 4, x + 5, 28), fill=lit((110, 112, 116), look))
    for y, shade in ((0, 205), (3, 176), (6, 140), (8, 196), (11, 150)):
        draw.rectangle((0, y, 256, y + 3), fill=lit((shade, shade + 2, shade + 5), look))
    for x in (30, 94, 158, 222):
        draw.rectangle((x, 5, x + 5, 8), fill=lit((90, 90, 94), look))
    return image


def lamp(look: Look, side: int) -> Image.Image:
    """A street lamp, 2 m x 7 m, its arm to the left (side -1) or right."""
    image = Image.new("RGBA", (64, 224))
    draw = ImageDraw.Draw(image)
    steel = lit((120, 124, 128), look)
    draw.rectangle((30, 8, 33, 224), fill=steel)
    draw.rectangle((30, 6, 58, 9) if side > 0 else (6, 6, 33, 9), fill=steel)
    box = (44, 8, 60, 13) if side > 0 else (4, 8, 20, 13)
    draw.rectangle(box, fill=(255, 226, 160) if look.night else lit((210, 212, 205), look))
    return image


def gantry(rng: np.random.Generator, look: Look) -> Image.Image:
    """A sign bridge over a carriageway, 15 m x 7.5 m."""
    image = Image.new("RGBA", (450, 225))
    draw = ImageDraw.Draw(image)
    steel = lit((140, 144, 150), look)
    for box in ((0, 30, 7, 225), (443, 30, 450, 225), (0, 26, 450, 34)):
        draw.rectangle(box, fill=steel)
    for x in (30, 175, 320):
        blue = lit((28, 78, 168), Look(light=(0.5, 0.5, 0.5)) if look.night else look)
        draw.rectangle((x, 0, x + 115, 66), fill=blue, outline=lit((230, 232, 235), look), width=3)
        for y in (14, 30, 46):
            draw.rectangle((x + 12, y, x + rng.uniform(40, 100), y + 7), fill=(235, 236, 240))
    return image


def sky(rng: np.random.Generator, look: Look, width: int, height: int) -> Float32[np.ndarray, "h w 3"]:
    """All round the horizon: the sky, clouds, and hills far off along the lowest rows."""
    rise = np.linspace(1, 0, height, dtype=np.float32)[:, None, None] ** 0.8
    top, low = np.array(look.sky, np.float32)
    pixels = low + (top - low) * np.broadcast_to(rise, (height, width, 1))
    small = noise(rng, max(height // 3, 8), max(width // 10, 8), 4)
    small[:, -8:] += (small[:, :1] - small[:, -8:]) * np.linspace(0, 1, 8, dtype=np.float32)
    field = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    cover = np.clip(field * 0.7 + look.cover * 1.6 - 0.7, 0, 1)[..., None] * np.float32(0.85)
    pixels = pixels + cover * (np.array(look.cloud, np.float32) - pixels)
    line = noise(rng, 1, width, 7)[0]
    hills = height * (1 - 0.09 - 0.03 * np.clip(line, -2, 2))
    below = np.clip(np.arange(height)[:, None] - hills, 0, 1)[..., None]
    hill = 0.6 * np.array(look.haze, np.float32) + 0.4 * np.array(lit(look.grass, look), np.float32)
    return np.asarray(pixels + below * (hill - pixels), np.float32)
