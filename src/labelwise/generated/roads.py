"""Generated road scenes: video clips seen from a driven car, with the imbalance of the document's SYNTHIA-AL.

Areas: city, town, highway. Conditions: spring, fall, winter, rain, night. Classes: pedestrian, cyclist, car and, in a
rare subset, wheelchair; on the highway and by night there are only cars. Everyone is spawned at spots along the road
with the probabilities of the subset, so that many frames are nearly empty, and frames close in time nearly the same.
A pinhole camera at 1.45 m drives along a road that bends; sizes and motion are geometrically right, surfaces are
textured, what is near covers what is far. A box is the hull of the visible pixels of an object of which more than
`MIN_AREA_PX` pixels and at least the share `MIN_VISIBLE` show.

Written: `<split>/<clip>/<frame>.jpg` and `annotations/instances_<split>.json`, COCO with a list `videos`, `video_id`
and `frame_id` (from 0) on images and `track_id` on annotations. The same settings and seed give the same files, bit
for bit, with the same versions of NumPy and Pillow; a clip depends on (seed, split, number) and what it shows alone.

Source: document 001, section 2.4, Table 2.1 and Figures 2.6-2.7.
Differs from the paper: drawn by a painter's algorithm in place of a game engine; the test clips run through areas x
conditions in turn, by night with cars alone in the town, too; the share of each role (parked, oncoming, crossing, ...)
among those spawned is ours, the document gives none.
Fails when: Pillow draws differently from version to version (the files differ then, the boxes hardly).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelwise.generated import _road_film as film
from labelwise.generated import _road_traffic as traffic
from labelwise.generated.annotation_file import AnnotationFile
from labelwise.types import LabelwiseError
from labelwise.types.disk import new_folder

CLASSES = traffic.CLASSES
MIN_AREA_PX, MIN_VISIBLE = film.MIN_AREA_PX, film.MIN_VISIBLE
SPLITS = ("train", "test")


class Subset(NamedTuple):
    """A row of Table 2.1: `chance` of pedestrians, cyclists, cars and wheelchairs at a spot."""

    name: str
    clips: int
    areas: tuple[str, ...]
    conditions: tuple[str, ...]
    chance: tuple[float, float, float, float]


class Shot(NamedTuple):
    """What a clip shows."""

    subset: str
    area: str
    condition: str
    chance: tuple[float, float, float, float]


_MAIN, _ALL = (0.3, 0.2, 0.35, 0.0), ("spring", "winter", "fall", "rain")
TABLE = {
    "train": (
        Subset("default", 150, ("city", "highway"), _ALL, _MAIN),
        Subset("town", 36, ("town",), _ALL, _MAIN),
        Subset("night", 6, ("city", "highway"), ("night",), (0.0, 0.0, 0.35, 0.0)),
        Subset("wheelchair", 5, ("city", "town"), ("spring",), (0.2, 0.2, 0.0, 1.0)),
    ),
    "test": (
        Subset("test", 85, ("city", "highway", "town"), ("spring", "fall", "rain", "night"), _MAIN),
        Subset("test_wheelchair", 12, ("city", "town"), ("spring",), (0.2, 0.2, 0.0, 1.0)),
    ),
}
"""Table 2.1."""


@dataclass(frozen=True, slots=True)
class Preset:
    """How much to film: clips of each split, shortest and longest in seconds, (width, height), frames per second;
    `density`: by how much more road users there are than in Table 2.1.
    """

    train: int
    test: int
    seconds: tuple[float, float]
    size_px: tuple[int, int]
    fps: float
    density: float = 1.0


PRESETS = {
    "paper": Preset(197, 97, (10.0, 30.0), (640, 480), 25.0),
    "small": Preset(24, 12, (2.0, 4.0), (320, 192), 25.0),
    "dense": Preset(24, 12, (2.0, 4.0), (320, 192), 25.0, density=2.0),
    "tiny": Preset(3, 2, (0.48, 0.48), (256, 160), 25.0),
}


def write(
    root: Path,
    *,
    seed: int = 0,
    preset: str = "small",
    train: int | None = None,
    test: int | None = None,
    seconds: tuple[float, float] | None = None,
    size_px: tuple[int, int] | None = None,
    fps: float | None = None,
    density: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the road scenes as a COCO video data set with the splits `train` and `test`.

    `preset`: "paper" (Table 2.1), "small" (CPU experiments), "dense" (as small, at least 3 objects a frame) or "tiny"
    (unit tests). The others override it: how many
    clips to `train` and to `test`, how long a clip is (shortest, longest, in seconds), (width, height), frames per
    second, and `density`: by how much the probabilities of Table 2.1 are raised. `progress(1)` after each frame.
    """
    chosen = _chosen(preset, train=train, test=test, seconds=seconds, size_px=size_px, fps=fps, density=density)
    with new_folder(root) as folder:
        (folder / "annotations").mkdir()
        for number, (split, clips) in enumerate(zip(SPLITS, (chosen.train, chosen.test), strict=True)):
            (folder / split).mkdir()
            content = _Content(chosen)
            for k, shot in enumerate(plan(split, clips)):
                rng = np.random.default_rng([seed, number, k])
                name = f"{k:03d}_{shot.area}_{shot.condition}"
                (folder / split / name).mkdir()
                content.video(name, shot)
                for frame, (image, boxes) in enumerate(_film(rng, shot, chosen)):
                    file = f"{name}/{frame:06d}.jpg"
                    image.save(folder / split / file, quality=90)
                    content.frame(file, frame, boxes)
                    if progress is not None:
                        progress(1)
            path = folder / "annotations" / f"instances_{split}.json"
            path.write_text(content.to_json(), encoding="utf-8")


def expected_frames(preset: str = "small", seed: int = 0, **settings: Any) -> int:
    """About how many frames `write` will draw with these settings."""
    chosen = _chosen(preset, **{name: settings.get(name) for name in ("train", "test", "seconds", "size_px", "fps")})
    return round((chosen.train + chosen.test) * sum(chosen.seconds) / 2 * chosen.fps)


def plan(split: str, clips: int) -> list[Shot]:
    """What the clips of a split show: subsets by their share in Table 2.1, each going through its areas and conditions.

    A subset gets at least one clip where there are as many clips as subsets. Ten clips to train, of 150:36:6:5 parts,
    would be 7.6, 1.8, 0.3 and 0.3:

    >>> [shot.subset for shot in plan("train", 10)].count("default")
    7
    >>> plan("train", 10)[-1]
    Shot(subset='wheelchair', area='city', condition='spring', chance=(0.2, 0.2, 0.0, 1.0))
    """
    subsets = TABLE[split]
    parts = np.array([subset.clips for subset in subsets], np.float64)
    least = np.full(len(parts), int(clips >= len(parts)))
    counts = least.copy()
    for _ in range(clips - int(least.sum())):  # the next clip goes where most is missing
        counts[int(np.argmax(parts / parts.sum() * clips - counts))] += 1
    shots = []
    for subset, count in zip(subsets, counts.tolist(), strict=True):
        cells = _diagonal(subset.areas, subset.conditions)
        for area, condition in islice(cycle(cells), count):
            only_cars = area == "highway" or condition == "night"
            chance = (0.0, 0.0, subset.chance[traffic.CAR], 0.0) if only_cars else subset.chance
            shots.append(Shot(subset.name, area, condition, chance))
    return shots


def _diagonal(areas: tuple[str, ...], conditions: tuple[str, ...]) -> list[tuple[str, str]]:
    """All pairs in an order in which the first few have areas and conditions as even as can be."""
    pairs = product(range(len(conditions)), range(len(areas)))
    order = sorted(pairs, key=lambda p: ((p[1] - p[0]) % len(areas), p[0]))
    return [(areas[a], conditions[c]) for c, a in order]


def _film(rng: np.random.Generator, shot: Shot, preset: Preset) -> Iterator[tuple[Any, list[film.Box]]]:
    frames = max(round(rng.uniform(*preset.seconds) * preset.fps), 1)
    chance = tuple(min(one * preset.density, 1.0) for one in shot.chance)
    clip = film.clip(rng, shot.area, shot.condition, chance, frames, preset.fps, preset.size_px)
    yield from clip.frames(rng)


def _chosen(name: str, **settings: Any) -> Preset:
    """The preset with what was set."""
    if name not in PRESETS:
        raise LabelwiseError(f"roads: preset is {name!r}; expected one of {', '.join(PRESETS)}.")
    preset = PRESETS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    p = Preset(**{key: given.get(key, getattr(preset, key)) for key in Preset.__dataclass_fields__})
    for key, value, holds, expected in (
        ("train", p.train, p.train >= 0, "at least 0"),
        ("test", p.test, p.test >= 0, "at least 0"),
        ("seconds", p.seconds, 0 < p.seconds[0] <= p.seconds[1] <= 3600, "0 < shortest <= longest <= 3600"),
        ("size_px", p.size_px, min(p.size_px) >= 64 and max(p.size_px) <= 4096, "64 to 4096 wide and high"),
        ("fps", p.fps, 1 <= p.fps <= 240, "1 to 240"),
        ("density", p.density, 0 <= p.density <= 10, "0 to 10"),
    ):
        if not holds:
            raise LabelwiseError(f"roads: {key} is {value}; expected {expected}.")
    return p


class _Content:
    """The annotation file of a split, as it grows."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.videos: list[dict[str, Any]] = []
        self.file = AnnotationFile(CLASSES)
        self.tracks: dict[tuple[int, int], int] = {}

    def video(self, name: str, shot: Shot) -> None:
        (width, height), fps = self.preset.size_px, self.preset.fps
        row = {"id": len(self.videos) + 1, "name": name, "fps": fps, "width": width, "height": height}
        self.videos.append(row | {"area": shot.area, "condition": shot.condition, "subset": shot.subset})

    def frame(self, file: str, number: int, boxes: list[film.Box]) -> None:
        video = len(self.videos)
        self.file.image(file, self.preset.size_px, video_id=video, frame_id=number)
        for box in boxes:
            track = self.tracks.setdefault((video, box.actor), len(self.tracks) + 1)
            self.file.box(box.xyxy, box.label, box.area_px, track_id=track, visible=box.visible)

    def to_json(self) -> str:
        return self.file.to_json(videos=self.videos)
