"""Backgrounds for the demo scenes: cloudy colours, grain, shapes and pen strokes that are no digit.

All randomness comes from the generator; colours are float32 RGB in 0..1.
"""

from __future__ import annotations

import colorsys

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw, ImageFilter


def paint(rng: np.random.Generator, size_px: int) -> Float32[np.ndarray, "s s 3"]:
    """One background: three related colours mixed by noise, light and shade, sometimes stripes, then shapes."""
    side = (size_px + 1) // 2  # clouds are soft: half the resolution, a quarter of the time
    palette = _palette(rng)
    mix = _unit(clouds(rng, side, roughness=rng.uniform(0.45, 0.75)))
    if rng.random() < 0.35:  # wood, water, cloth: stripes bent by the clouds
        mix = 0.6 * mix + 0.4 * _stripes(rng, side, mix)
    low, high = np.clip(2 * mix, 0, 1)[..., None], np.clip(2 * mix - 1, 0, 1)[..., None]
    canvas = palette[0] + (palette[1] - palette[0]) * low + (palette[2] - palette[1]) * high
    shade = clouds(rng, side, roughness=0.5) + 0.6 * _ramp(rng, side)
    canvas = canvas * (1 + rng.uniform(0.08, 0.22) * shade[..., None])
    image = Image.fromarray((np.clip(canvas, 0, 1) * 255).astype(np.uint8))
    image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
    _shapes(rng, image)
    return np.asarray(image, dtype=np.float32) / 255


def clouds(rng: np.random.Generator, size_px: int, *, roughness: float) -> Float32[np.ndarray, "s s"]:
    """Multi-octave noise with mean 0 and deviation 1: each octave is `roughness` as strong as the one before."""
    field = rng.standard_normal((3, 3), dtype=np.float32)
    side, strength = 3, 1.0
    while 2 * side <= size_px:  # finer octaves are left to the sensor noise
        side, strength = 2 * side, strength * roughness
        field = _grown(field, side) + strength * rng.standard_normal((side, side), dtype=np.float32)
    return _grown((field - field.mean()) / field.std(), size_px)


def _grown(field: np.ndarray, side: int) -> Float32[np.ndarray, "s s"]:
    return np.asarray(Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC))


def stroke(rng: np.random.Generator, length_px: float) -> Float32[np.ndarray, "h w"]:
    """Opacity of a bent pen stroke: what a digit is made of, without being one."""
    side = max(8, int(length_px))
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    width = max(2, int(side * rng.uniform(0.08, 0.16)))
    x, y = rng.uniform(0.1, 0.9, (2, 2)) * side
    if rng.random() < 0.5:
        start, sweep = rng.uniform(0, 360), rng.uniform(60, 200)
        draw.arc(
            (width, width, side - width, side * rng.uniform(0.6, 0.95)), start, start + sweep, fill=255, width=width
        )
    else:
        draw.line((x[0], y[0], x[1], y[1]), fill=255, width=width)
    soft = image.filter(ImageFilter.GaussianBlur(max(0.6, width / 6)))
    return np.asarray(soft, dtype=np.float32) / 255


def _palette(rng: np.random.Generator) -> Float32[np.ndarray, "3 3"]:
    hue, saturation = rng.random(), rng.uniform(0.05, 0.6)
    value = rng.uniform(0.2, 0.85) + np.array([-0.18, 0.0, 0.18]) * rng.choice([-1, 1])
    hues = hue + rng.normal(0, 0.07, 3)
    colours = [
        colorsys.hsv_to_rgb(float(h % 1), saturation, float(v))
        for h, v in zip(hues, np.clip(value, 0.08, 0.95), strict=True)
    ]
    return np.array(colours, dtype=np.float32)


def _unit(field: np.ndarray) -> Float32[np.ndarray, "s s"]:
    return np.clip(0.5 + field / 5, 0, 1).astype(np.float32)


def _ramp(rng: np.random.Generator, size_px: int) -> Float32[np.ndarray, "s s"]:
    angle = rng.uniform(0, 2 * np.pi)
    line = np.linspace(-1, 1, size_px, dtype=np.float32)
    return np.float32(np.cos(angle)) * line[None, :] + np.float32(np.sin(angle)) * line[:, None]


def _stripes(rng: np.random.Generator, size_px: int, bend: np.ndarray) -> Float32[np.ndarray, "s s"]:
    phase = _ramp(rng, size_px) * np.float32(rng.uniform(8, 30)) + bend * np.float32(rng.uniform(5, 20))
    return np.asarray(0.5 + 0.5 * np.sin(phase), dtype=np.float32)


def _shapes(rng: np.random.Generator, image: Image.Image) -> None:
    """Translucent ellipses, bars and polygons, soft and hard."""
    size_px = image.width
    for _ in range(rng.integers(2, 7)):
        layer = Image.new("L", (size_px, size_px))
        draw = ImageDraw.Draw(layer)
        opacity = int(rng.uniform(60, 230))
        (x, y), r = rng.uniform(0, size_px, 2), size_px * rng.uniform(0.03, 0.22, 2)
        kind = rng.integers(3)
        if kind == 0:
            draw.ellipse((x - r[0], y - r[1], x + r[0], y + r[1]), fill=opacity)
        elif kind == 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            corners = np.stack([x + r[0] * np.cos(angles), y + r[0] * np.sin(angles)], axis=1)
            draw.polygon([tuple(c) for c in corners.tolist()], fill=opacity)
        else:
            to = rng.uniform(0, size_px, 2)
            draw.line((x, y, to[0], to[1]), fill=opacity, width=max(1, int(size_px * rng.uniform(0.006, 0.05))))
        if rng.random() < 0.4:
            layer = layer.filter(ImageFilter.BoxBlur(size_px * rng.uniform(0.005, 0.03)))
        image.paste(tuple(int(v) for v in rng.integers(20, 236, 3)), mask=layer)
