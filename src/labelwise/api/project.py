"""A project whose detector is foreign: `open` it, then round by round `ask`, `answer`, `targets`, `finish`.

A round is what a run calls a round, in the same folder, written by the same stages: `ask` does predict (it stores what
it is given), score and select and opens the queries; `finish` closes the round. Killed at any instant, the same calls
go on: `ask` in a round that has asked already gives what is still open, an answer that is in the ledger is not recorded
twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from labelwise import files
from labelwise.api import arguments, reply, rounds
from labelwise.api import predictions as foreign
from labelwise.api.arguments import Method
from labelwise.api.checks import check_metrics, whole_number
from labelwise.api.heads import SOFTMAX, Distributions
from labelwise.api.reply import Corners
from labelwise.api.stream import stream
from labelwise.api.target import Target, per_image
from labelwise.ledger import import_export
from labelwise.ledger.answers import origin_of
from labelwise.ledger.ledger import Ledger
from labelwise.predict.detect import predict_detections
from labelwise.predict.passes import Model, ViewChoice
from labelwise.project.context import Context
from labelwise.project.prices import Prices
from labelwise.project.round import Round
from labelwise.stages import label
from labelwise.types import Answer, Cost, Detections, LabelwiseError, Pool, Query
from labelwise.types.queries import shown


class Project:
    """An opened project. One process at a time asks; people may answer meanwhile by `labelwise serve`."""

    def __init__(self, opened: Context, head: str = SOFTMAX) -> None:
        self._context, self._head = opened, head
        self._seen: dict[int | None, Query] = {}

    @property
    def folder(self) -> Path:
        """The project folder."""
        return self._context.project.folder

    @property
    def pool(self) -> Pool:
        """The images: `pool.names`, `pool.width_px`, `pool.classes`, `pool.path(number)`."""
        return self._context.pool

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the images, in the order of the pool."""
        return self._context.pool.names

    def pixels(self, image: str) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of an image by its name, RGB; of a frame of a video and an image of an archive too."""
        if not isinstance(image, str) or image not in self.pool.number_of:
            raise LabelwiseError(
                f"there is no image {shown(image)} in the pool of {self.folder}; take one of project.images"
            )
        return self._context.frame(self.pool.number_of[image])

    def frames(self, images: Sequence[str] | None = None) -> Iterator[tuple[str, UInt8[np.ndarray, "height width 3"]]]:
        """Name and pixels (RGB) of all images, or of those named, in the order of the pool: to predict on.

        A film is decoded once, from its beginning to its end. An image that cannot be read is left out, with a warning
        that names it.
        """
        unknown = [name for name in images or () if name not in self.pool.number_of]
        if unknown:
            raise LabelwiseError(f"there is no image {unknown[0]!r} in the pool of {self.folder}; see project.images")
        numbers = range(len(self.pool)) if images is None else sorted({self.pool.number_of[name] for name in images})
        return stream(self.pool, numbers)

    def needed(self, every_frames: int | None = None, tracks: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Names of the frames whose predictions `ask` needs where boxes are followed, with the same arguments."""
        arguments.check_clips("needed", self.pool)
        wanted = rounds.needed(
            self._context, arguments.run_of_videos(self._context.run, every_frames, tracks, self.pool)
        )
        return tuple(name for name, is_wanted in zip(self.images, wanted, strict=True) if is_wanted)

    @property
    def cost(self) -> Cost:
        """What has been spent so far: boxes, queries, images, seconds."""
        return self._ledger.cost()

    @property
    def round(self) -> int:
        """The number of the current round: the first that is not finished."""
        return rounds.current(self._context)

    @property
    def _ledger(self) -> Ledger:
        return self._context.project.ledger

    def add_class(self, name: str, *, who: str = "me", none_so_far: bool = False) -> int:
        """Adds a class while a round asks; its number. Predictions have a column more from then on.

        What was looked over before counts as not looked over, since nobody looked for the new class there; with
        `none_so_far` you say that it held none.
        """
        return self._context.add_class(name, who, none_so_far=none_so_far)

    def close(self) -> None:
        """Lets go of the ledger."""
        self._context.project.close()

    # ---- predictions ----------------------------------------------------------------------------------------------

    def predict(
        self,
        model: Model,
        *,
        views: Sequence[ViewChoice] = (),
        min_score: float = 0.05,
        batch_size: int = 8,
        features: bool = False,
        wholly_labelled: bool | None = None,
    ) -> Detections:
        """Runs a detector over the images that are not wholly labelled (or all), once per view. None: over all frames
        of videos, since tracks must not end where one is labelled, and else over images that are not.

        `model` is one of `labelwise.adapters`, or takes images float [3, h, w] in 0..1 and gives one dict per image:
        boxes [n, 4] in its pixels, scores [n], probs [n, C]; with `features` also features [n, D].
        """
        images = self._context.images("pool")
        covered = self._context.known().covered(self.pool)
        every = self.pool.clips is not None if wholly_labelled is None else wholly_labelled
        wanted = np.arange(len(self.pool)) if every else np.flatnonzero(~covered)
        found, summary = predict_detections(
            model if self._head == SOFTMAX else Distributions(model),
            images,
            wanted,
            n_images=len(self.pool),
            views=views,
            seed=self._context.run.seed,
            round_number=self.round,
            batch_size=batch_size,
            min_score=min_score,
            keep=("features",) if features else (),
            names=self.images,
        )
        if len(summary.skipped) == len(wanted) > 0:
            raise LabelwiseError(f"no image can be read; the first: {summary.skipped[0][1]}")
        return foreign.read(found, self.pool)

    # ---- asking ---------------------------------------------------------------------------------------------------

    def ask(
        self,
        predictions: Any = None,
        *,
        budget: int,
        unit: str = "box",
        score: Method | None = None,
        select: Method | Sequence[Method] = "balance_frequency",
        threshold: float = 0.1,
        aggregate: str = "mean",
        scales: Sequence[float] = (1.5, 2.0),
        tracks: Mapping[str, Any] | None = None,
        every_frames: int | None = None,
    ) -> list[Query]:
        """Opens the `budget` questions that are most worth an answer; gives those that are open, best first.

        Args:
            predictions: in any form of `labelwise.api.predictions`; None asks for images drawn at random, which
                is how a project without any model begins.
            budget: number of questions.
            unit: a file of `labelwise/units`: "box", "region" or "image" ("frame" is another word for it).
            score: a file of `labelwise/score`; None: consistency of views, random without boxes, else entropy.
            select: one file of `labelwise/select`, or a chain of them.
            threshold: least confidence of a candidate box.
            aggregate: how box scores become those of an image or region.
            scales: a region is one such part of the image's side: 2.0 asks for half its width and height.
            tracks: of videos, how detections are followed: {"frames": 3, "theta": 0.5} and others
                (`labelwise config tracks`); None: as the project has it.
            every_frames: of videos only every so many frames may be asked, while tracks run through the film's own
                frames, see `needed`; None: as the project has it.

        Raises:
            LabelwiseError: faulty predictions or settings, or a round that has asked something else and is not
                finished.
        """
        with self._context.project.lock():
            budget = whole_number(budget, "budget")
            run = arguments.run_of_videos(self._context.run, every_frames, tracks, self.pool)
            if predictions is None:
                return rounds.ask_at_random(self._context, budget, run)
            table = foreign.read(predictions, self.pool, self._head)
            alone = foreign.are_features(predictions)
            score = score or ("random" if alone else "entropy" if table.views is None else "consistency")
            if alone:
                arguments.check_without_boxes(score, select, unit)
            arguments.check_inputs("score", score, table, unit, self.pool)
            arguments.check_inputs("select", select, table, unit, self.pool)
            round_number = rounds.first_with_a_model(self._context)
            asked: dict[str, Any] = {"budget": budget, "unit": unit, "score": score, "select": select}
            asked |= {"threshold": threshold, "aggregate": aggregate, "scales": scales}
            run = arguments.run_with_query(run, round_number, **asked)
            needed = rounds.needed(self._context, run) if run.needs_tracks else np.zeros(len(self.pool), np.bool_)
            predicted = arguments.looked_at(predictions, self.pool, needed)
            if rounds.has_asked(self._context, round_number):
                return rounds.still_open(self._context, round_number, run)
            return rounds.ask(self._context, round_number, run, table, predicted)

    # ---- answers --------------------------------------------------------------------------------------------------

    def open_queries(self) -> list[Query]:
        """The queries of the current round that nobody has answered, best first."""
        return self._ledger.open_queries(self.round)

    def answer(
        self,
        query: Query | int,
        verdict: str | None = None,
        *,
        boxes: Sequence[Corners] | np.ndarray = (),
        labels: Sequence[int | str] | np.ndarray = (),
        who: str = "me",
        seconds: float = 0.0,
        note: str = "",
    ) -> None:
        """Records an answer; it is in the ledger when this returns.

        Args:
            query: the query, or its id.
            verdict: of a box: "object" (with one box and label), "background" (no object), "duplicate" (annotated
                before) or "skipped"; of an image or region "all" (with every object in it, or none) or "skipped".
                None: "object" where there is a box, "all" for images and regions.
            boxes: [k, 4] xyxy in pixels of the image.
            labels: class numbers or names.
            who: who said it.
            seconds: how long it took; 0: not measured, the cost table is used.
            note: a remark.

        Raises:
            LabelwiseError: a verdict, box or class that does not fit; somebody else has answered (differently).
        """
        self.record([self.made(query, verdict, boxes=boxes, labels=labels, who=who, seconds=seconds, note=note)])

    def made(
        self,
        query: Query | int,
        verdict: str | None = None,
        *,
        boxes: Sequence[Corners] | np.ndarray = (),
        labels: Sequence[int | str] | np.ndarray = (),
        who: str = "me",
        seconds: float = 0.0,
        note: str = "",
    ) -> Answer:
        """The answer that `answer` records, for `record` to take with many others."""
        asked = self._query(query.id if isinstance(query, Query) else query)
        how: dict[str, Any] = {"boxes": boxes, "labels": labels, "who": who, "seconds": seconds, "note": note}
        return reply.made(asked, self.pool.classes, verdict, **how)

    def record(self, answers: Sequence[Answer]) -> int:
        """Records many answers, those of one person all or none; tells how many were new.

        The same answer again changes nothing.
        """
        asked = [self._query(answer.query) for answer in answers]
        prices = Prices(self._context)
        records = [(query, one, prices.of(query, one)) for query, one in zip(asked, answers, strict=True)]
        written = 0
        for who in dict.fromkeys(answer.who for answer in answers):
            mine = [record for record in records if record[1].who == who]
            places = [f"query {query.id} on {query.image}" for query, _, _ in mine]
            taken = import_export.take_in(self._ledger, mine, places, origin_of(who))
            if taken.problems:
                first = taken.problems[0]
                raise LabelwiseError(f"{first.where}: {first.what}. The first answer counts; to change a label, use "
                                     "the page of `labelwise serve`")  # fmt: skip
            written += taken.written
        return written

    def _query(self, query_id: int | None) -> Query:
        if not isinstance(query_id, int):
            raise LabelwiseError(f"{shown(query_id)} is no query, nor the id of one; take those of open_queries()")
        if query_id not in self._seen:
            self._seen = {one.id: one for one in self._ledger.queries()}
        if query_id not in self._seen:
            raise LabelwiseError(f"there is no query {query_id} in {self.folder}; take those of project.open_queries()")
        return self._seen[query_id]

    # ---- training -------------------------------------------------------------------------------------------------

    def targets(
        self,
        predictions: Any = None,
        *,
        policy: Method = "task_soft",
        threshold: float = 0.3,
        images: str = "annotated",
        regions: str = "coverage",
        propagate: Mapping[str, Any] | None = None,
    ) -> list[Target]:
        """What to train on: all answers so far, completed by the predictions as the label policy says.

        Args:
            predictions: to make pseudo labels of; None: those of this round's `ask`, if there were any.
            policy: a file of `labelwise/labels`: "task_soft" (needs `view_iou`), "hard", "noisy", "ignore", ...
            threshold: least confidence of a pseudo label.
            images: "annotated", "answered" (also those of which only a background mark is known) or "all".
            regions: what labelled regions become: "coverage", "crops" or "both".
            propagate: of videos, {"frames": 1, "weight": 0.5} lends the boxes of every labelled frame to so many frames
                on either side, moved by the optical flow, at that weight; None: none are lent.

        Raises:
            LabelwiseError: faulty predictions or settings, or boxes to lend where the images are no videos.
        """
        if propagate is not None:
            arguments.check_clips("propagate", self.pool)
        stored = Round(self._context, self.round).folder.predictions()
        if predictions is None and stored.is_dir():
            predictions = stored
        table = None if predictions is None else foreign.read(predictions, self.pool, self._head)
        arguments.check_inputs("labels", policy, table)
        run = arguments.run_with_policy(
            self._context.run,
            policy=policy,
            threshold=threshold,
            images=images,
            regions=regions,
            propagate=propagate,
        )
        with self._context.project.lock():
            rounds.keep(self._context, run)
            now = Round(self._context, self.round)
            made = label.targets(now, table)
            files.write_targets(now.folder.targets, made)
        return list(per_image(made, self.pool))

    def finish(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Ends the round: its open queries are asked no more (late answers still count in the next round).

        `metrics` of the model that was trained, for the report: "ap50" (0 to 1), and optionally "ap", "ap75" and
        "per_class_ap50" ({class name: value}).
        """
        check_metrics(metrics)
        with self._context.project.lock():
            rounds.finish(self._context, metrics)
