"""Pedestrians, cyclists and people in wheelchairs: limbs for `_road_things`, in the pose of one moment."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np

from labelwise.generated._road_things import Colour, Part

DARK: Colour = (38.0, 38.0, 42.0)
STRIDE_M = 1.4
"""Length of two steps: a pedestrian's legs follow the way that was gone."""


class Dress(NamedTuple):
    """How one person looks."""

    tall: float
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    wide: float
    pack: bool


def dress(rng: np.random.Generator, *, warm: bool) -> Dress:
    """Anyone; `warm`: thick winter clothes."""
    skin = [(236, 196, 168), (205, 158, 122), (150, 104, 76), (96, 66, 50)][rng.integers(4)]
    hair = [(40, 30, 26), (92, 62, 38), (190, 150, 90), (150, 150, 150)][rng.integers(4)]
    top = 255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 0.85), rng.uniform(0.35, 0.95)))
    legs = [(48, 54, 88), (40, 40, 44), (110, 96, 76), (84, 92, 104), (70, 40, 46)][rng.integers(5)]
    wide = rng.uniform(0.92, 1.12) * (1.12 if warm else 1.0)
    return Dress(rng.uniform(1.55, 1.9), skin, hair, (top[0], top[1], top[2]), legs, wide, rng.random() < 0.3)


def _limb(points: list[tuple[float, float, float]], colour: Colour, radius: float) -> Part:
    return Part(np.array(points, np.float64), colour, radius)


def _head(who: Dress, x: float, y: float, z: float, *, helmet: Colour | None = None) -> list[Part]:
    r = 0.115
    top = helmet or who.hair
    return [
        _limb([(x, y, z)], who.skin, r),
        _limb([(x, y - 0.035, z + 0.045)], top, r * (1.0 if helmet is None else 1.1)),
        _limb([(x, y - 0.01, z - 0.16), (x, y, z)], who.skin, 0.06),
    ]


def _knee(hip: np.ndarray, foot: np.ndarray, limb: float) -> tuple[float, float, float]:
    """Where a leg of two parts of this length bends forward between hip and foot."""
    middle, reach = (hip + foot) / 2, float(np.linalg.norm(foot - hip))
    bend = np.sqrt(max(limb**2 - (reach / 2) ** 2, 0.0))
    line = (foot - hip) / max(reach, 1e-6)
    forward = np.array([0.0, -line[2], line[1]])
    out = middle + forward * bend * (1 if forward[1] >= 0 else -1)
    return float(out[0]), float(out[1]), float(out[2])


def pedestrian(who: Dress, way_m: float, walking: bool) -> list[Part]:
    """Walking (or standing) after `way_m` of way."""
    unit, w = who.tall / 1.75, who.wide
    phase = 2 * np.pi * way_m / STRIDE_M
    parts = []
    for side in (-1, 1):
        swing = np.sin(phase + (np.pi / 2) * (1 - side)) if walking else 0.08 * side
        lift = max(0.0, np.cos(phase + (np.pi / 2) * (1 - side))) * 0.1 if walking else 0.0
        hip = np.array([0.09 * side, 0.0, 0.92 * unit])
        foot = np.array([0.1 * side, 0.34 * swing * unit, (0.07 + lift) * unit])
        knee = _knee(hip, foot, 0.445 * unit)
        parts.append(_limb([(hip[0], 0, hip[2]), knee], who.legs, 0.085 * w))
        parts.append(_limb([knee, (foot[0], foot[1], foot[2])], who.legs, 0.065 * w))
        parts.append(
            _limb([(foot[0], foot[1] - 0.04, 0.06 * unit + lift), (foot[0], foot[1] + 0.16, 0.05 + lift)], DARK, 0.055)
        )
        shoulder = (0.2 * side * w, 0.0, 1.42 * unit)
        elbow = (0.26 * side * w, -0.14 * swing, 1.14 * unit)
        hand = (0.25 * side * w, -0.30 * swing + 0.08, 0.9 * unit)
        parts += [_limb([shoulder, elbow], who.top, 0.06 * w), _limb([elbow, hand], who.top, 0.05 * w)]
        parts.append(_limb([hand], who.skin, 0.05))
    for side in (-1, 1):
        parts.append(_limb([(0.09 * side * w, 0, 0.98 * unit), (0.11 * side * w, 0, 1.38 * unit)], who.top, 0.11 * w))
    parts.append(_limb([(0, 0, 1.0 * unit), (0, 0, 1.4 * unit)], who.top, 0.12 * w))
    if who.pack:
        parts.append(_limb([(0, -0.2, 1.12 * unit), (0, -0.2, 1.34 * unit)], (70, 76, 60), 0.13))
    return parts + _head(who, 0.0, 0.03, 1.635 * unit)


def _ring(
    x: float, y: float, z: float, radius: float, colour: Colour, thick: float, spokes: int, turn: float
) -> list[Part]:
    angle = np.linspace(0, 2 * np.pi, 17)
    rim = np.stack([np.full(17, x), y + radius * np.cos(angle), z + radius * np.sin(angle)], axis=1)
    parts = [Part(rim, colour, thick)]
    for k in range(spokes):
        a = turn + np.pi * k / spokes
        dy, dz = radius * np.cos(a), radius * np.sin(a)
        parts.append(_limb([(x, y - dy, z - dz), (x, y + dy, z + dz)], (150, 152, 156), 0.006))
    return parts


def cyclist(who: Dress, way_m: float, frame: Colour) -> list[Part]:
    """Pedalling after `way_m` of way; the helmet has the colour of the bicycle."""
    turn, pedal = way_m / 0.34, way_m / 0.9
    parts = _ring(0, -0.5, 0.34, 0.33, DARK, 0.03, 3, turn) + _ring(0, 0.53, 0.34, 0.33, DARK, 0.03, 3, turn)
    for a, b in (
        ((0, -0.5, 0.34), (0, -0.05, 0.3)),
        ((0, -0.05, 0.3), (0, -0.2, 0.85)),
        ((0, -0.2, 0.8), (0, 0.38, 0.82)),
        ((0, -0.05, 0.3), (0, 0.38, 0.8)),
        ((0, 0.36, 0.98), (0, 0.53, 0.34)),
        ((0, -0.5, 0.34), (0, -0.18, 0.75)),
    ):
        parts.append(_limb([a, b], frame, 0.028))
    parts.append(_limb([(-0.25, 0.36, 1.0), (0.25, 0.36, 1.0)], DARK, 0.022))
    parts.append(_limb([(0, -0.3, 0.9), (0, -0.1, 0.9)], DARK, 0.06))
    for side in (-1, 1):
        angle = -pedal + (np.pi / 2) * (1 - side)
        foot = np.array([0.12 * side, -0.05 + 0.17 * np.cos(angle), 0.34 + 0.17 * np.sin(angle)])
        hip = np.array([0.1 * side, -0.18, 0.97])
        knee = _knee(hip, foot, 0.43)
        parts += [_limb([(0.1 * side, -0.18, 0.97), knee], who.legs, 0.085)]
        parts += [_limb([knee, (foot[0], foot[1], foot[2])], who.legs, 0.06)]
        parts.append(_limb([(foot[0], foot[1] - 0.06, foot[2]), (foot[0], foot[1] + 0.14, foot[2])], DARK, 0.05))
        shoulder, elbow, hand = (0.19 * side, 0.14, 1.43), (0.27 * side, 0.22, 1.2), (0.24 * side, 0.36, 1.03)
        parts += [
            _limb([shoulder, elbow], who.top, 0.06),
            _limb([elbow, hand], who.top, 0.05),
            _limb([hand], who.skin, 0.05),
        ]
        parts.append(_limb([(0.08 * side, -0.18, 1.0), (0.1 * side, 0.12, 1.42)], who.top, 0.115))
    parts.append(_limb([(0, -0.18, 1.02), (0, 0.12, 1.44)], who.top, 0.12))
    return parts + _head(who, 0.0, 0.24, 1.64, helmet=frame)


def wheelchair(who: Dress, way_m: float, frame: Colour) -> list[Part]:
    """Someone who pushes the big wheels, after `way_m` of way."""
    parts = []
    turn, push = way_m / 0.3, np.sin(2 * np.pi * way_m / 1.3)
    steel: Colour = (168.0, 172.0, 178.0)
    for side in (-1, 1):
        parts += _ring(0.3 * side, -0.08, 0.31, 0.3, DARK, 0.028, 4, turn)
        parts += _ring(0.34 * side, -0.08, 0.31, 0.24, steel, 0.014, 0, turn)
        parts.append(_limb([(0.22 * side, 0.42, 0.09)], DARK, 0.085))
        parts.append(_limb([(0.22 * side, 0.42, 0.12), (0.23 * side, 0.3, 0.48)], steel, 0.02))
        parts.append(
            _limb([(0.23 * side, -0.2, 0.31), (0.23 * side, -0.26, 0.98), (0.23 * side, -0.38, 1.0)], steel, 0.022)
        )
        parts.append(_limb([(0.26 * side, -0.2, 0.7), (0.26 * side, 0.2, 0.7)], DARK, 0.035))
        parts.append(_limb([(0.2 * side, 0.34, 0.46), (0.16 * side, 0.56, 0.1)], steel, 0.018))
        parts.append(_limb([(0.1 * side, -0.1, 0.56), (0.12 * side, 0.38, 0.58)], who.legs, 0.09))
        parts.append(_limb([(0.12 * side, 0.38, 0.58), (0.12 * side, 0.5, 0.16)], who.legs, 0.065))
        parts.append(_limb([(0.12 * side, 0.48, 0.11), (0.12 * side, 0.66, 0.11)], DARK, 0.055))
        shoulder, elbow = (0.2 * side, -0.08, 1.06), (0.33 * side, -0.14 + 0.08 * push, 0.82)
        hand = (0.33 * side, 0.02 + 0.16 * push, 0.64)
        parts += [
            _limb([shoulder, elbow], who.top, 0.058),
            _limb([elbow, hand], who.top, 0.05),
            _limb([hand], who.skin, 0.05),
        ]
        parts.append(_limb([(0.1 * side, -0.1, 0.62), (0.11 * side, -0.1, 1.03)], who.top, 0.11))
    parts.append(_limb([(0, -0.1, 0.62), (0, -0.1, 1.06)], who.top, 0.12))
    for low in (0.5, 0.62, 0.74, 0.86):  # the back rest
        parts.append(_limb([(-0.23, -0.25, low), (0.23, -0.25, low)], frame, 0.065))
    for ahead in (-0.15, -0.02, 0.11, 0.24):  # the seat
        parts.append(_limb([(-0.23, ahead, 0.46), (0.23, ahead, 0.46)], frame, 0.05))
    return parts + _head(who, 0.0, -0.05, 1.28)
