"""What the stages of a run share: the project folder, its config, the images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from labelwise.config import Run
from labelwise.data.bars import Bar as Bar
from labelwise.data.bars import silent as silent
from labelwise.data.image_reader import Images, pixels_of
from labelwise.data.pixels import Pixels
from labelwise.data.pixels import load as load_pixels
from labelwise.ledger import class_list
from labelwise.ledger.instant import Instant
from labelwise.project import consensus
from labelwise.project.given import Given
from labelwise.project.kept_features import Extraction, FrozenFeatures
from labelwise.project.objects import FrozenObjects, Objects, objects_of
from labelwise.project.project_folder import Project
from labelwise.project.whole_images import WholeImages
from labelwise.types import Clips, Labels, LabelwiseError, Pool


def say_nothing(_line: str) -> None:
    """Nobody is told."""


@dataclass
class Decoded:
    """Images that were decoded: per split and scale, and as one array per split; their frozen features and objects.
    Runs of one process on the same pool may share them (`shared`, see `kept_pools`).
    """

    images: dict[tuple[str, float], Images] = field(default_factory=dict)
    pixels: dict[str, Pixels] = field(default_factory=dict)
    features: dict[str, FrozenFeatures] = field(default_factory=dict)
    objects: dict[str, FrozenObjects] = field(default_factory=dict)
    shared: bool = False


@dataclass
class Context:
    """One run in one project folder.

    `first_images`: how many the first round labels. `tell`: says a line to the user. `absent`: images that the ledger
    knows and the data lacked when they were read, with the reason. `readable`: images that were read before they were
    asked. `seen`: the instant of the ledger that a stage knows of (None: the present one). `given`: labels that came
    with the pool.
    """

    project: Project
    run: Run
    pool: Pool
    test: Pool | None
    first_images: int
    bar: Bar = silent
    tell: Callable[[str], None] = say_nothing
    absent: Mapping[int, str] = field(default_factory=dict)
    readable: set[int] = field(default_factory=set)
    seen: Instant | None = None
    given: Given | None = None
    decoded: Decoded = field(default_factory=Decoded)

    def images(self, which: str, scale: float = 1.0) -> Images:
        """The resized images of the "pool" or of the "test" split, decoded once; at another `scale` never kept."""
        if (which, scale) not in self.decoded.images:
            pool = self.pool if which == "pool" or self.test is None else self.test
            budget = int(self.run.data.cache_gb * 1e9 / 2) if scale == 1 else 0
            size_px = round(self.run.data.image_size_px * scale)
            self.decoded.images[which, scale] = Images(pool, size_px, cache_bytes=budget)
        return self.decoded.images[which, scale]

    def pixels(self, which: str) -> Pixels:
        """The "pool" or the "test" split as one array of squares: what a classifier looks at."""
        if which not in self.decoded.pixels:
            pool = self.pool if which == "pool" or self.test is None else self.test
            most = self.run.data.cache_gb * 1e9 / 2
            with self.bar(f"read {len(pool)} images of the {which}", len(pool)) as advance:
                self.decoded.pixels[which] = load_pixels(
                    pool, self.run.data.image_size_px, most_bytes=most, progress=advance
                )
        return self.decoded.pixels[which]

    def features(self, which: str) -> FrozenFeatures:
        """The frozen features of the "pool" or of the "test" split, computed if they are not kept yet.

        Raises:
            LabelwiseError: the config has no section `features`.
        """
        if which not in self.decoded.features:
            self.decoded.features[which] = self._extracted(which)
        return self.decoded.features[which]

    def renew_features(self) -> None:
        """Before a training: features that are centred as an earlier pool wanted it are centred by the present one."""
        if self.features("pool").stale:
            self.decoded.features.clear()
            self.decoded.objects.clear()
            self.decoded.features["pool"] = self._extracted("pool", renew=True)

    def _extracted(self, which: str, *, renew: bool = False) -> FrozenFeatures:
        rule = self.run.features
        if rule is None:
            raise LabelwiseError("there are no frozen features: set for example features.body=efficientnet_lite0")
        own = self.project.folder / "features"
        looker: WholeImages | Objects = WholeImages(rule, self.run.classifies, self.device)
        looker = looker if rule.objects is None else Objects(rule, self.device)
        folder = own if rule.folder is None else Path(rule.folder)
        pool = self.pool if which == "pool" or self.test is None else self.test
        given: dict[str, Any] = {}
        if self.run.predict.engine == "ray":
            from labelwise.stages import ray_features  # with torch; what it needs of this room is beside us

            given["look"] = ray_features.look
        found = Extraction(looker, folder, rule.pca, self.bar, own, **given)
        return found.features(which, pool, self.pool, renew=renew)

    def objects(self, which: str) -> FrozenObjects:
        """The objects that a frozen detector proposes in the "pool" or the "test" split, computed if need be."""
        if which not in self.decoded.objects:
            self.decoded.objects[which] = objects_of(self.features(which))
        return self.decoded.objects[which]

    def unreadable(self, which: str) -> Mapping[int, str]:
        """The images of the "pool" or the "test" split that a classifier or a frozen model cannot look at, and why."""
        frozen = self.run.reads_features or self.run.reads_objects
        return self.features(which).failed if frozen else self.pixels(which).failed

    def drop_images(self) -> None:
        """Decoded images are forgotten: some can be shown that could not, or the other way round."""
        if self.decoded.shared:
            self.decoded = Decoded()
        self.decoded.images.clear()
        self.decoded.pixels.clear()
        self.decoded.features.clear()
        self.decoded.objects.clear()
        self.readable.clear()

    def known(self) -> Labels:
        """All that is known of the pool; to a stage, what was known when it was first begun."""
        run = self.run
        return consensus.labels(self.project, self.pool, run.ask.merge, one_class=run.classifies, seen=self.seen)

    def at(self, seen: Instant | None, run: Run) -> Context:
        """The run at an instant, with the classes and the given settings of then."""
        changed: dict[str, Any] = {"seen": seen, "run": run}
        if seen is not None and seen.classes < len(self.pool.classes):
            classes = self.pool.classes[: seen.classes]
            changed["pool"] = replace(self.pool, classes=classes)
            changed["test"] = None if self.test is None else replace(self.test, classes=classes)
        if run.data != self.run.data or run.features != self.run.features:
            changed["decoded"] = Decoded()
        return replace(self, **changed)

    def enter(self) -> None:
        """Enters the pool into the ledger, and the labels that came with it."""
        self.project.ledger.add_images(self.pool)
        if self.given is not None:
            self.given.enter(self.project.ledger, self.pool, self.absent, self.tell)

    def see_classes(self) -> None:
        """Takes over the classes that were added, here or by another process, since the project was opened."""
        known, before = self.project.ledger.classes(), self.pool.classes
        if len(known) > len(before) and known[: len(before)] == before:
            self.pool = replace(self.pool, classes=known)
            self.test = None if self.test is None else replace(self.test, classes=known)

    def add_class(self, name: str, who: str, *, none_so_far: bool) -> int:
        """Adds a class while people answer; see `class_list`. An image's class, of whole images, holds as it is."""
        self.enter()  # of a project that has not begun, too
        number = class_list.add_class(self.project.ledger, name, who, none_so_far=none_so_far or self.run.classifies)
        self.see_classes()
        return number

    @property
    def cache(self) -> Path:
        """What can be computed anew: $LABELWISE_CACHE (several projects on one pool share it), or in the project."""
        return cache_of(self.project.folder)

    @property
    def device(self) -> str:
        """The device that the config asks for, where models look at the pool."""
        import torch

        wants_gpu = self.run.train.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return "cuda" if wants_gpu else "cpu"

    def frame(self, image: int) -> np.ndarray:
        """The pixels of an image of the pool at its full size, uint8 [h, w, 3]."""
        return pixels_of(self.pool, image)


def askable(pool: Pool, run: Run) -> Bool[np.ndarray, " images"]:
    """Which images may be asked about: all, or of videos every `query.every_frames`-th frame."""
    every = run.query.every_frames
    return np.ones(len(pool), np.bool_) if every is None else clips_of(pool).every(every)


def cache_of(folder: Path) -> Path:
    """`Context.cache` of the project in a folder."""
    given = os.environ.get("LABELWISE_CACHE")
    return Path(given) if given else folder / "cache"


def clips_of(pool: Pool) -> Clips:
    """The clips of a pool of videos.

    Raises:
        LabelwiseError: it is of images.
    """
    if pool.clips is None:
        raise LabelwiseError(
            f"{pool.root}: these images are not frames of videos, which a score, selector, query.every_frames or "
            "labels.propagate needs. "
            'Give video files, a COCO file with video_id and frame_id, or frame folders with data.format = "frames"'
        )
    return pool.clips
