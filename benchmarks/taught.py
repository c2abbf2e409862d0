"""What a detector reaches on the test split when it is taught some labels: shared by two benchmarks.

`consensus_training.py` teaches what several people's answers come to, `mended.py` faulty labels and mended ones.
"""

from __future__ import annotations

import csv
import datetime
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np

from labelwise import catalog
from labelwise.evaluate import detection
from labelwise.models import frozen
from labelwise.predict.detect import predict_detections
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.stages import frozen_detector
from labelwise.stages.checkpoints import build_model
from labelwise.targets import partial
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import fit
from labelwise.types import Boxes, Detections, Labels, Rects, Targets, offsets_of
from labelwise.types.disk import replacing

ONE_THREAD = ("train.threads=1", "train.accelerator=cpu")


@dataclass(frozen=True)
class Bed:
    """A data set with its frozen detector, and the recipe of the same name with one that is trained."""

    name: str
    work: Path
    settings: tuple[str, ...] = ()
    """Of the detector that is trained."""

    def _opened(self, recipe: str, settings: tuple[str, ...] = ()) -> Context:
        folder = "_".join([recipe.replace("+", "_"), *(re.sub("[^0-9a-z.=]", "_", one) for one in settings)])
        return opening.start(self.work / folder, recipe, [*ONE_THREAD, *settings])

    @cached_property
    def frozen(self) -> Context:
        """The project of the frozen detector; its objects are computed once and kept."""
        return self._opened(f"{self.name}+random_image+frozen")

    @cached_property
    def trained(self) -> Context:
        """The project of the recipe's own detector."""
        return self._opened(f"{self.name}+random_image", self.settings)

    def frozen_ap50(self, known: Labels) -> float:
        """AP50 on the test split, in %, of the frozen detector."""
        model = self._frozen_model()
        frozen_detector.teach(model, self.frozen.objects("pool"), targets_of(self.frozen, known))
        test = self.frozen.test
        size_px = np.stack([test.width_px, test.height_px], axis=1)
        return self.ap50(
            frozen_detector.detect(model.eval(), self.frozen.objects("test"), size_px, detection.MIN_SCORE)
        )

    def _frozen_model(self) -> frozen.FrozenDetector:
        settings = dict(self.frozen.run.model.settings)
        return frozen.build(len(self.frozen.pool.classes), self.frozen.objects("pool").features.shape[1], **settings)  # type: ignore[return-value]

    def held_back(self, known: Labels, seed: int, folds: int = 5) -> Detections:
        """Of all images of the pool what the frozen detector says that was taught the labels of the other folds."""
        pool, objects, targets = self.frozen.pool, self.frozen.objects("pool"), targets_of(self.frozen, known)
        fold = np.random.default_rng([seed, 9]).permutation(len(pool)) % folds
        size_px = np.stack([pool.width_px, pool.height_px], axis=1)
        parts = []
        for k in range(folds):
            model = self._frozen_model()
            frozen_detector.teach(model, objects, targets, (fold != k).astype(np.int64))
            found = frozen_detector.detect(model.eval(), objects, size_px, detection.MIN_SCORE)
            parts.append(found.take(fold[found.image] == k))
        return joined(parts, len(pool))

    def trained_ap50(self, known: Labels, seed: int) -> float:
        """AP50 on the test split, in %, of the recipe's detector, trained from the start."""
        test = np.arange(len(self.trained.test))
        return self.ap50(self._trained(known, seed, np.ones(len(self.trained.pool), bool), "test", test))

    def trained_held_back(self, known: Labels, seed: int, folds: int = 3) -> Detections:
        """Of all images of the pool what the recipe's detector says that was trained on the other folds."""
        fold = np.random.default_rng([seed, 9]).permutation(len(self.trained.pool)) % folds
        parts = [self._trained(known, seed, fold != k, "pool", np.flatnonzero(fold == k)) for k in range(folds)]
        return joined(parts, len(fold))

    def _trained(self, known: Labels, seed: int, taught: np.ndarray, which: str, shown: np.ndarray) -> Detections:
        """What it says of the images `shown` when it was trained on the images `taught`."""
        context = replace(self.trained, run=self.trained.run.model_copy(update={"seed": seed}))
        targets, images = targets_of(context, known), context.images(which)
        rows = np.flatnonzero(taught[targets.images])
        data = TrainingSet(context.images("pool"), targets, rows, Augment.of(context.run.train))
        model = build_model(Round(context, 0))
        fit(model, data, context.run.train, seed=seed, round_number=0)
        n = len(context.pool if which == "pool" else context.test)
        batch = context.run.predict.batch_size
        return predict_detections(
            model.eval(), images, shown, n_images=n, batch_size=batch, min_score=detection.MIN_SCORE
        )[0]

    def ap50(self, found: Detections) -> float:
        """Of detections on the test split, in %."""
        test = self.frozen.test
        return 100 * float(detection.evaluate(found, test.truth, test.crowd, test.classes)["ap50"])


def joined(parts: list[Detections], images: int) -> Detections:
    """Detections on different images of a pool as one table, without features; of each image the best first."""
    image = np.concatenate([part.image for part in parts])
    boxes, probs, scores = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "probs", "scores")
    )
    order = np.lexsort((-scores, image))
    nothing = np.zeros((len(order), 0), np.float32)
    return Detections(offsets_of(image[order], images), boxes[order], probs[order], scores[order], nothing)


def targets_of(context: Context, known: Labels) -> Targets:
    """What labels of whole images teach."""
    pool, nothing = context.pool, (np.zeros(0, bool), np.zeros(0, np.float32), np.zeros(0, np.float32))
    negatives = catalog.find("labels", "ignore").constant("NEGATIVES")
    return partial.targets(known, None, lambda _: nothing, negatives, pool.width_px, pool.height_px, pool.crowd)


def labels_of(pool, image: np.ndarray, xyxy: np.ndarray, label: np.ndarray, whole: np.ndarray, trust=None) -> Labels:
    """Boxes of the images `whole`, all whose objects are annotated; nothing is known of the others."""
    n, order = len(pool), np.argsort(image, kind="stable")
    size_px = np.stack([pool.width_px, pool.height_px], axis=1).astype(np.float32)[whole]
    cover = Rects.from_rows(
        np.sort(whole), np.concatenate([np.zeros_like(size_px), size_px], axis=1)[np.argsort(whole)], n
    )
    boxes = Boxes(offsets_of(image[order], n), xyxy[order].astype(np.float32), label[order].astype(np.int64))
    trust = None if trust is None else trust[order].astype(np.float32)
    return Labels(boxes, cover, Rects.empty(n), np.isin(np.arange(n), whole), trust)


def paired(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Mean of a - b with its interval of 95 % (t)."""
    from scipy import stats

    some = np.asarray(a, float) - np.asarray(b, float)
    half = stats.t.ppf(0.975, len(some) - 1) * some.std(ddof=1) / np.sqrt(len(some)) if len(some) > 1 else np.nan
    return float(some.mean()), float(some.mean() - half), float(some.mean() + half)


def machine() -> dict[str, str]:
    """The columns that say where and how a figure was measured."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    told = [part if not Path(part).is_absolute() else "PATH" for part in sys.argv[1:]]
    names = ("numpy", "scikit-learn", "torch")
    return {
        "command": " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *told]),
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": ", ".join([f"python {platform.python_version()}", *(f"{n} {version(n)}" for n in names)]),
    }


def write(path: Path, rows: list[dict]) -> None:
    """As CSV, every row with where it was measured; rows that were read from such a file keep theirs."""
    about = machine()
    columns = [*dict.fromkeys(key for row in rows for key in row if key not in about), *about]
    with replacing(path) as partial_, partial_.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({**about, **row} for row in rows)


def read(path: Path) -> list[dict]:
    """The rows of such a file; none if it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
