"""One round of a run, as a stage sees it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from labelwise import files, units
from labelwise.config import Run
from labelwise.files.round_files import RoundFolder
from labelwise.ledger.ledger import Ledger
from labelwise.project.context import Context, askable
from labelwise.types import Detections, ImageOutputs, Labels, Pool, Query, Targets, offsets_of
from labelwise.units import Unit

Table = Mapping[str, np.ndarray]
"""Columns of one length, by their names."""


@dataclass
class Round:
    """What is known, covered, asked, scored, picked, predicted in one round: read when it is first asked for, and once.

    `info` is what the stage says of itself, `kept` what it works out once and reads again. A stage that is done again
    is given the round as it was then: with the labels, classes and settings of the instant when it was first begun
    (`repair.view`). `live`: a folder of its own in place of the round's; it holds the model too, of which that of the
    round before is the place otherwise.
    """

    context: Context
    number: int
    info: dict[str, Any] = field(default_factory=dict)
    live: Path | None = None
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    # ---- what holds for every round -------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The settings."""
        return self.context.run

    @property
    def pool(self) -> Pool:
        """The images; `pool.number_of` gives the number of a name."""
        return self.context.pool

    @property
    def test(self) -> Pool | None:
        """The images that the round is tested on."""
        return self.context.test

    @property
    def ledger(self) -> Ledger:
        """Queries, answers, costs."""
        return self.context.project.ledger

    # ---- the round ------------------------------------------------------------------------------------------------

    @cached_property
    def folder(self) -> RoundFolder:
        """Where its files are."""
        return RoundFolder(self.live or self.context.project.round_folder(self.number))

    @cached_property
    def before(self) -> Round:
        """The round before it."""
        return Round(self.context, self.number - 1, live=self.live)

    @property
    def unit_names(self) -> tuple[str, ...]:
        """What its questions are about: whole images in round 0, which has no model yet."""
        return self.run.query.asked if self.number else (units.FIRST,)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The files of these names: their candidates, answers, costs."""
        return tuple(map(units.find, self.unit_names))

    @property
    def overlaps(self) -> bool:
        """Whether an answer may settle other open queries of the round."""
        return len(self.units) > 1 or any(unit.OVERLAPS for unit in self.units)

    @property
    def at_most_one(self) -> bool:
        """Whether no answer costs more than one of what the budget counts."""
        return all(self.budget_unit in unit.AT_MOST_ONE for unit in self.units)

    @property
    def budget_unit(self) -> str:
        """What its budget counts."""
        return self.run.budget.unit if self.number else "images"

    @cached_property
    def budget(self) -> float:
        """What may be spent, in `budget_unit`; in round 0 all that was picked."""
        return self.run.budget.per_round[self.number - 1] if self.number else float(self.picks.n_rows)

    @property
    def proposed(self) -> bool:
        """Whether its boxes are those of `predict.proposals`, not of the model before; also where there is none yet."""
        rule = self.run.predict
        if rule.proposals is None or not self.number:
            return False
        return self.number <= rule.proposal_rounds or not self.before.folder.checkpoint().exists()

    @property
    def model_looked(self) -> bool:
        """Whether a model of the project has looked at the pool: what is proposed is no model's word."""
        return self.number > 0 and not self.proposed and self.folder.predictions().exists()

    def title(self, what: str) -> str:
        """The text of a progress bar."""
        return f"round {self.number}: {what}"

    # ---- what is known --------------------------------------------------------------------------------------------

    @cached_property
    def known(self) -> Labels:
        """All labels of the pool; for a stage that asks, as they were when it began."""
        return self.context.known()

    @cached_property
    def covered(self) -> Bool[np.ndarray, " images"]:
        """Whether an image is wholly labelled: nothing is left to ask there."""
        return self.known.covered(self.pool)

    @cached_property
    def askable(self) -> Bool[np.ndarray, " images"]:
        """Whether an image may be asked about at all: of videos every `query.every_frames`-th frame may."""
        return askable(self.pool, self.run)

    def queries(self) -> list[Query]:
        """What has been asked in it so far."""
        return self.ledger.queries(self.number)

    # ---- what its stages have written -----------------------------------------------------------------------------

    def detections(self, columns: Collection[str] = (), scale: float = 1.0) -> Detections:
        """What the model found in the pool, with the given optional columns."""
        return files.read_detections(self.folder.predictions(scale), columns).of_images(len(self.pool))

    def detections_in(self, images: Bool[np.ndarray, " images"]) -> Detections:
        """`detections` of these images; nothing is in the others. Memory: what is found there, and a shard."""
        if not len(images):
            return self.detections()
        read = images.copy()
        read[0] = True  # one shard at least: it tells how many classes there are
        parts = [(first, found.take(images[first + found.image])) for first, found in self.shards((), images=read)]
        offsets = offsets_of(np.concatenate([first + one.image for first, one in parts]), len(images))
        names = "boxes", "probs", "scores", "features"
        boxes, probs, scores, features = (np.concatenate([getattr(one, name) for _, one in parts]) for name in names)
        return Detections(offsets, boxes, probs, scores, features)

    @cached_property
    def predicted(self) -> Bool[np.ndarray, " images"]:
        """Which images the model looked at, where tracks ask for it: the others have no detections, and no say."""
        found = np.ones(len(self.pool), np.bool_)
        if self.folder.predicted.exists():
            found[:] = False
            found[files.read_table(self.folder.predicted)["image"]] = True
        return found

    def shards(
        self, columns: Collection[str], scale: float = 1.0, images: np.ndarray | None = None
    ) -> Iterator[tuple[int, Detections]]:
        """`detections`, part after part, each with the number of its first image; `images` (a mask): parts that hold
        none of these are passed over.
        """
        return files.stream_detections(self.folder.predictions(scale), columns, images)

    @cached_property
    def image_outputs(self) -> ImageOutputs:
        """What the model said of whole images; `image_features` and `looked_at` take less memory."""
        every = np.arange(len(self.pool))
        parts = [said.predicted_loss for _, said in self._image_shards()]
        loss = np.pad(np.concatenate(parts), (0, max(0, len(self.pool) - sum(map(len, parts)))))
        return ImageOutputs(self.image_features(every), loss, self.looked_at)

    @cached_property
    def looked_at(self) -> Bool[np.ndarray, " images"]:
        """Which images the model was shown."""
        seen = np.zeros(len(self.pool), np.bool_)
        for first, said in self._image_shards():
            seen[first : first + len(said)] = said.seen
        return seen

    def image_features(self, images: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n D"]:
        """The model's features of these images; zeros of those that came into the pool since. One shard and the result
        are in memory.
        """
        order = np.argsort(images, kind="stable")
        found: np.ndarray | None = None
        for first, said in self._image_shards():
            if found is None:
                found = np.zeros((len(images), said.features.shape[1]), np.float32)
            here = order[slice(*np.searchsorted(images, (first, first + len(said)), sorter=order).tolist())]
            found[here] = said.features[images[here] - first]
        assert found is not None, "an empty pool has one empty shard"
        return found

    def _image_shards(self) -> Iterator[tuple[int, ImageOutputs]]:
        return files.stream_image_outputs(self.folder.predictions())

    @cached_property
    def labelled_probability(self) -> np.ndarray:
        """How far each image looks labelled, [images] (VAAL)."""
        return files.read_table(self.folder.labelled_probability)["value"]

    @cached_property
    def scores(self) -> files.TableFile:
        """The candidates and what each is worth."""
        return files.TableFile(self.folder.scores)

    @cached_property
    def picks(self) -> files.TableFile:
        """The ranking."""
        return files.TableFile(self.folder.picks)

    @cached_property
    def errors(self) -> Table:
        """Detections and candidates of videos; `wrong` where one is a false positive or a missed object."""
        return files.read_table(self.folder.errors)

    @cached_property
    def links(self) -> Table:
        """Pairs of rows of `errors` that are one object."""
        return files.read_table(self.folder.links)

    @cached_property
    def targets(self) -> Targets:
        """What the model trains on."""
        return files.read_targets(self.folder.targets)

    @cached_property
    def history(self) -> np.ndarray:
        """What the training recorded of every image [records, images]."""
        return files.read_record(self.folder.history)

    @cached_property
    def pseudo_labels(self) -> Table:
        """The images to which a teacher lent a class (`image`), and which (`label`); empty where there is none."""
        path = self.folder.pseudo_labels
        return files.read_table(path) if path.exists() else {"image": np.zeros(0, int), "label": np.zeros(0, int)}

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """What the model reaches on the test images; empty before."""
        return files.read_json(self.folder.metrics) if self.folder.metrics.exists() else {}
