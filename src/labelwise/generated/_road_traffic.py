"""Who is on the road: the course of the driven car, and everyone whom the dice spawn, frame by frame.

Spots lie every `SPOT_M` along the paths of a class; at each spot one is spawned with the probability of the class. All
on one lane drive at one speed, so that nobody runs into the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from labelwise.generated import _road_people as people
from labelwise.generated import _road_things as things
from labelwise.generated._road_ground import Look
from labelwise.generated._road_things import Part
from labelwise.generated._road_view import START_M, STEP_M, Road

CLASSES = ("pedestrian", "cyclist", "car", "wheelchair")
PEDESTRIAN, CYCLIST, CAR, WHEELCHAIR = range(4)
SPOT_M = 16.0
AHEAD_M = {"city": 110.0, "town": 110.0, "highway": 190.0}
"""How far one can see."""
_SPEED = {"city": (5.0, 12.0), "town": (4.0, 10.0), "highway": (20.0, 29.0)}
_LANE = {"city": 1.7, "town": 1.55, "highway": 6.6}
_BEND = {"city": (1 / 90, 22.0), "town": (1 / 60, 18.0), "highway": (1 / 450, 80.0)}
_PARK = {"city": 4.55, "town": 4.2}
_RIDE = {"city": 3.05, "town": 2.75}
_WALK = {"city": (6.9, 9.0), "town": (5.7, 6.9)}
_CROSS = {"city": 7.5, "town": 6.4}


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """The driven car in every frame: position on the road, yaw against it.

    `shake`: of the horizon, in pixels of an image 320 px wide.
    """

    s: Float64[np.ndarray, " n"]
    t: Float64[np.ndarray, " n"]
    yaw: Float64[np.ndarray, " n"]
    shake: Float64[np.ndarray, " n"]


@dataclass(frozen=True, slots=True, eq=False)
class Actor:
    """One being or vehicle in every frame. `facing` is against the road; `way_m` what it went."""

    label: int
    s: Float64[np.ndarray, " n"]
    t: Float64[np.ndarray, " n"]
    facing: Float64[np.ndarray, " n"]
    body: list[Part] | people.Dress
    frame_colour: things.Colour
    wide_m: float
    long_m: float

    def parts(self, frame: int) -> list[Part]:
        """Its shape in a frame."""
        if isinstance(self.body, list):
            return self.body
        step = np.hypot(np.diff(self.s), np.diff(self.t))
        way = float(step[:frame].sum()) + 0.37 * self.wide_m
        moving = bool(step[min(frame, len(step) - 1)] > 1e-4) if len(step) else False
        if self.label == PEDESTRIAN:
            return people.pedestrian(self.body, way, moving)
        if self.label == CYCLIST:
            return people.cyclist(self.body, way, self.frame_colour)
        return people.wheelchair(self.body, way, self.frame_colour)


def drive(rng: np.random.Generator, area: str, frames: int, fps: float) -> Drive:
    """Driving at a speed that changes, sometimes to a stop; the wheel is never quite still."""
    slow, fast = _SPEED[area]
    knots = rng.uniform(slow, fast, max(int(frames / fps / 3), 1) + 2)
    if area != "highway" and rng.random() < 0.15:
        knots[rng.integers(len(knots))] = 0.0
    time = np.arange(frames) / fps
    speed = np.interp(time, np.linspace(0, frames / fps, len(knots)), knots)
    s = np.cumsum(speed) / fps - speed[0] / fps
    waves = [rng.uniform(-1, 1) * np.sin(2 * np.pi * (time / period + rng.random())) for period in (2.3, 3.7, 5.9)]
    shake = np.zeros(frames)
    for k in range(1, frames):
        shake[k] = 0.8 * shake[k - 1] + rng.normal(0, 0.35) * min(speed[k] / 10, 1.2)
    return Drive(s, _LANE[area] + 0.12 * waves[0] + 0.08 * waves[1], 0.012 * (waves[1] + waves[2]), shake)


def road(rng: np.random.Generator, area: str, end_m: float) -> Road:
    """A road that bends now and then."""
    s = np.arange(START_M, end_m + 60, STEP_M)
    bend, wide = _BEND[area]
    curvature = np.zeros(len(s))
    for centre in np.arange(-20, end_m + 60, 3.5 * wide):
        if rng.random() < 0.55:
            curvature += rng.uniform(-bend, bend) * np.exp(-(((s - centre - rng.uniform(0, wide)) / wide) ** 2))
    return Road.bent(curvature)


def spawn(
    rng: np.random.Generator, area: str, look: Look, chance: tuple[float, ...], ego: Drive, fps: float
) -> list[Actor]:
    """Everyone in the clip."""
    time = np.arange(len(ego.s)) / fps
    actors: list[Actor] = []
    if area == "highway":
        return _highway(rng, look, chance[CAR], ego, time)
    far = float(ego.s[-1]) + 90
    lanes = {"oncoming": -rng.uniform(6, 11), "ride": rng.uniform(3.5, 5.5), "against": -rng.uniform(3.5, 5.5)}
    for label, role, share, first, last in (
        (CAR, "park", 0.5, 4.0, far),
        (CAR, "oncoming", 0.55, 8.0, far - lanes["oncoming"] * time[-1]),
        (CAR, "lead", 0.35, 14.0, 90.0),
        (CYCLIST, "ride", 0.75, 5.0, far),
        (CYCLIST, "against", 0.5, 8.0, far),
        (PEDESTRIAN, "walk", 0.9, 5.0, far),
        (PEDESTRIAN, "cross", 0.35, 12.0, far),
        (WHEELCHAIR, "walk", 0.55, 6.0, far),
        (WHEELCHAIR, "cross", 0.3, 16.0, far),
    ):
        for spot in np.arange(first, last, SPOT_M):
            if rng.random() < share * chance[label]:
                at = spot + rng.uniform(-3, 3)
                actors.append(_actor(rng, look, label, *_path(rng, area, role, at, ego, time, lanes)))
    return actors


def _path(
    rng: np.random.Generator, area: str, role: str, at: float, ego: Drive, time: np.ndarray, lanes: dict[str, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position and direction in every frame."""
    still, park, ride = np.zeros(len(time)), _PARK[area], _RIDE[area]
    side = float(rng.choice([-1, 1]))
    if role == "park":
        return at + still, side * park + rng.uniform(-0.1, 0.1) + still, (np.pi if side < 0 else 0.0) + still
    if role == "lead":
        sway = 1 + 0.08 * np.sin(2 * np.pi * (time / 6 + rng.random()))
        return ego.s + at * sway, _LANE[area] + rng.uniform(-0.15, 0.15) + still, still
    if role == "oncoming":
        return at + lanes[role] * time, -_LANE[area] + rng.uniform(-0.15, 0.15) + still, np.pi + still
    if role in ("ride", "against"):
        forward = role == "ride"
        sway = 0.08 * np.sin(2 * np.pi * (time / 2 + rng.random()))
        return at + lanes[role] * time, (ride if forward else -ride) + sway, (0.0 if forward else np.pi) + still
    if role == "walk":
        low, high = _WALK[area]
        pace = rng.uniform(0.9, 1.6) * rng.choice([-1, 1]) if rng.random() < 0.85 else 0.0
        facing = np.pi * (pace < 0) if pace else rng.uniform(0, 2 * np.pi)
        return at + pace * time, side * rng.uniform(low, high) + still, facing + still
    edge, pace = _CROSS[area], rng.uniform(1.0, 1.7)
    near = np.flatnonzero(ego.s > at - 4)
    meets = time[near[0]] if len(near) else time[-1] + rng.uniform(0, 3)
    middle = meets - rng.uniform(3.4, 7.0) / pace  # off the lane before the car is there
    t = np.clip(side * pace * (middle - time), -edge, edge)
    return at + still, t, -side * np.pi / 2 + still


def _actor(rng: np.random.Generator, look: Look, label: int, s: np.ndarray, t: np.ndarray, facing: np.ndarray) -> Actor:
    colour = (float(rng.uniform(20, 235)), float(rng.uniform(20, 200)), float(rng.uniform(20, 220)))
    if label == CAR:
        body: list[Part] | people.Dress = things.car(rng, lit=look.night or look.rain, dark=look.night)
        return Actor(label, s, t, facing, body, colour, 1.9, 4.5)
    wide, long = ((0.5, 0.5), (0.5, 1.7), (0.0, 0.0), (0.8, 1.0))[label]
    return Actor(label, s, t, facing, people.dress(rng, warm=look.snow), colour, wide, long)


def _highway(rng: np.random.Generator, look: Look, chance: float, ego: Drive, time: np.ndarray) -> list[Actor]:
    """Three lanes each way; on the driven lane one keeps its distance."""
    own = float(ego.s[-1] / time[-1]) if len(time) > 1 else 25.0
    actors = []
    for lane, (t, faster) in enumerate(((2.9, 3.5), (6.6, 0.0), (10.4, -3.0), (-2.9, 0.0), (-6.6, 0.0), (-10.4, 0.0))):
        forward = t > 0
        speed = own + faster * rng.uniform(0.6, 1.4) if forward else -rng.uniform(23, 30)
        drift = (speed - own) * time[-1]
        for gap in np.arange(16.0 if lane == 1 else -10.0 - max(drift, 0), 170 - min(drift, 0), 1.6 * SPOT_M):
            if rng.random() < chance:
                gap += rng.uniform(-5, 5)
                wander = rng.uniform(-0.25, 0.25) + 0.1 * np.sin(2 * np.pi * (time / 5 + rng.random()))
                s = ego.s + gap if lane == 1 else gap + speed * time
                actors.append(_actor(rng, look, CAR, s, t + wander, np.full(len(time), 0.0 if forward else np.pi)))
    return actors
