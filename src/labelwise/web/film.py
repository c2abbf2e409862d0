"""A film on the page: its frames one after the other, the labels of near frames moved along the optical flow, an object
in the frames before and after.

What is known of a frame up to `REACH` frames away is followed to the one that is asked about (`tracks.follow`); the
nearest frame comes first, and one that was looked over wholly is the last in its direction: of what lies beyond it says
where it went. The flow is read where a round has kept it, and else computed in the background, a part of a film at a
time. How far boxes hold on real clips: benchmarks/video_page.py.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import sqlalchemy as sa

from labelwise.exchange._geometry import crop
from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row
from labelwise.ledger.progress import labelled_images
from labelwise.project.clip_flow import film_of, flow_of, part_of
from labelwise.project.context import Context
from labelwise.queue.shown_labels import known_to
from labelwise.tracks import follow
from labelwise.tracks.flow import Flow
from labelwise.types import LabelwiseError, Query, Suggestion, Tracks
from labelwise.types.overlap import iou_matrix
from labelwise.web.shown import Shown

REACH = 15
"""Frames over which a label is followed: on real clips 3 of 4 boxes still overlap their object by half or more."""
SAME_IOU = 0.5
"""From which IoU on two boxes of one class are one object."""
KEPT_PARTS = 8
"""Parts of films whose flow stays open."""

NOTHING: Mapping[str, Any] = {"offers": [], "lent": [], "track": [], "waits": False, "problem": ""}
Known = Mapping[str, Mapping[str, Any]]


class Film:
    """The films of one project, for its page."""

    def __init__(self, context: Context, shown: Shown) -> None:
        self._context, self._shown, self._predicted = context, shown, shown.predicted
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flow")
        self._lock = threading.Lock()
        self._open: OrderedDict[range, Flow] = OrderedDict()
        self._wanted: set[range] = set()
        self._failed = ""

    def frame(self, number: int, who: str) -> dict[str, Any]:
        """A frame, what `who` may see of what is known of it, and the images before and after it in its film (none:
        -1).
        """
        pool = self._context.pool
        if pool.clips is None or not 0 <= number < len(pool):
            raise LabelwiseError(f"image {number}: there is no such frame of a film")
        film, name = film_of(self._context, number), pool.names[number]
        with self._context.project.ledger.read() as connection:
            known = self._known(connection, who, [name])[name]
        size = int(pool.width_px[number]), int(pool.height_px[number])
        before, after = (k if k in film else -1 for k in (number - 1, number + 1))
        found = {"number": number, "name": name, "size": size, "time_s": self._shown.time_s(number)}
        return found | {"before": before, "after": after} | dict(known)

    def _known(self, connection: sa.Connection, who: str, names: list[str]) -> Known:
        return known_to(connection, who, names, self._context.run.ask.overlap)

    def offers(self, query_id: int, who: str) -> dict[str, Any]:
        """What near frames and the model suggest for the image of a query (`ask.prefill`), what the nearest frame that
        anything is known of would lend it, and where a candidate box is in the frames beside it; to `who` is asked.

        `waits`: the flow is being computed, more is known soon; `problem`: why there is none.
        """
        query, pool = self._query(query_id), self._context.pool
        image = pool.number_of.get(query.image)
        if image is None:
            return dict(NOTHING)
        found = dict(NOTHING) if pool.clips is None else self._of_film(query, image, who)
        if not self._context.run.ask.prefill:
            return found | {"offers": [], "lent": []}
        return found | {"offers": [*found["offers"], *self._of_model(query, image, who, found["offers"])]}

    def _of_model(self, query: Query, image: int, who: str, others: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the model found where boxes are drawn, but for what is known there and what labelled frames suggest."""
        if query.label is not None:
            return []
        found, name = self._predicted.boxes(query, image), self._context.pool.names[image]
        with self._context.project.ledger.read() as connection:
            known = self._boxes(self._known(connection, who, [name]), image)
        settled = known + [Suggestion(one["box"], one["label"], one["origin"], name) for one in others]
        apart = _unlike([Suggestion(box, label, "model", name) for box, label, _ in found], settled)
        scores = {(box, label): score for box, label, score in found}
        offered = [(one, spoken) for one in apart for spoken in self._spoken([one], query)]
        return [spoken | {"score": scores[one.box, one.label]} for one, spoken in offered]

    def _of_film(self, query: Query, image: int, who: str) -> dict[str, Any]:
        """What near frames suggest, what the nearest would lend, and a candidate's track."""
        pool = self._context.pool
        film, names = film_of(self._context, image), pool.names
        near = range(max(film.start, image - REACH), min(film.stop, image + REACH + 1))
        with self._context.project.ledger.read() as connection:
            known = self._known(connection, who, [names[k] for k in near])
            last = self._nearest(labelled_images(connection), film, image)
            if last is not None and last not in near:
                known = {**known, **self._known(connection, who, [names[last]])}
        flow, offered = self._flow(image), list[Suggestion]()
        if flow is not None:
            offered = self._followed(self._sources(known, near, image), known, flow, image)
        lent = [] if last is None else [one for one in offered if one.image == names[last]]
        if last is not None and not lent:  # out of reach of the flow, or beyond a cut
            stood = [replace(one, origin="lent") for one in self._boxes(known, last)]
            lent = _unlike(stood, self._boxes(known, image))
        return {
            "offers": self._spoken(offered, query),
            "lent": self._spoken(lent, query),
            "track": self._track(query, image, flow),
            "waits": flow is None and not self._failed,
            "problem": self._failed,
        }

    def _query(self, query_id: int) -> Query:
        with self._context.project.ledger.read() as connection:
            select = sa.select(t.queries).where(t.queries.c.id == query_id)
            row = connection.execute(select).mappings().one_or_none()
        if row is None:
            raise LabelwiseError(f"query {query_id}: there is none; reload the page")
        return query_from_row(row)

    def _nearest(self, labelled: set[str], film: range, image: int) -> int | None:
        """The nearest other frame of a film of which anything is known, the earlier one of two."""
        number_of = self._context.pool.number_of
        numbers = {number_of[name] for name in labelled if name in number_of} & set(film)
        return min(numbers - {image}, key=lambda k: (abs(k - image), k), default=None)

    def _boxes(self, known: Known, image: int) -> list[Suggestion]:
        name = self._context.pool.names[image]
        return [Suggestion(tuple(one["box"]), one["label"], "flow", name) for one in known[name]["boxes"]]

    def _sources(self, known: Known, near: range, image: int) -> list[int]:
        """The frames whose boxes are followed, the nearest first."""
        found = list[int]()
        for way in (range(image - 1, near.start - 1, -1), range(image + 1, near.stop)):
            for k in way:
                of = known[self._context.pool.names[k]]
                found += [k] if of["boxes"] else []
                size = self._context.pool.width_px[k], self._context.pool.height_px[k]
                if any(x1 <= 0 and y1 <= 0 and x2 >= size[0] and y2 >= size[1] for x1, y1, x2, y2 in of["covered"]):
                    break
        return sorted(found, key=lambda k: (abs(k - image), k))

    def _followed(self, sources: list[int], known: Known, flow: Flow, image: int) -> list[Suggestion]:
        """The boxes of these frames, where they are in `image`; of one object once, and none that is known there."""
        part = part_of(self._context, image, REACH)
        boxes = {k: self._boxes(known, k) for k in sorted(sources)}
        rows = [one for k in boxes for one in boxes[k]]
        if not rows:
            return []
        tracks = self._tracks({k: [one.box for one in boxes[k]] for k in boxes}, flow, part)
        columns = np.repeat([_column(image - k) for k in boxes], [len(boxes[k]) for k in boxes])
        here = np.arange(len(rows)), columns
        arrived, xyxy = tracks.image[here] == image - part.start, tracks.boxes[here].astype(float).round(2).tolist()
        found, taken = list[Suggestion](), self._boxes(known, image)
        names = self._context.pool.names
        for k in sources:
            of = [
                Suggestion(tuple(xyxy[i]), one.label, "flow", one.image)
                for i, one in enumerate(rows)
                if arrived[i] and one.image == names[k]
            ]
            found += _unlike(of, taken + found)
        return found

    def _tracks(self, boxes: Mapping[int, list[Any]], flow: Flow, part: range) -> Tracks:
        """Boxes of images of a part of a film (in rising order) in the frames around theirs."""
        rows = slice(part.start, part.stop)
        size = self._context.pool.width_px[rows], self._context.pool.height_px[rows]
        counts = np.bincount([k - part.start for k in boxes for _ in boxes[k]], minlength=len(part))
        xyxy = np.array([box for k in boxes for box in boxes[k]], np.float32).reshape(-1, 4)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return follow.follow(offsets, xyxy, flow, *size, frames=REACH, at=self._context.run.tracks.at)

    def _track(self, query: Query, image: int, flow: Flow | None) -> list[dict[str, Any]]:
        """Where a candidate box is in the frames beside its own; where it stood as long as there is no flow."""
        if query.box is None or query.label is None:
            return []
        boxes: dict[int, Any] = dict.fromkeys(self._shown.strip(image), query.box)
        if flow is not None:
            part = part_of(self._context, image, REACH)
            tracks = self._tracks({image: [query.box]}, flow, part)
            for k in [k for k in boxes if 0 < abs(k - image) <= REACH]:
                column = _column(k - image)
                there = tracks.image[0, column] >= 0
                boxes[k] = tracks.boxes[0, column].astype(float).round(2).tolist() if there else None
        return [{"number": k, "box": box} for k, box in boxes.items()]

    def _spoken(self, offered: list[Suggestion], query: Query) -> list[dict[str, Any]]:
        """As JSON; of a region what lies in it, by the rule of its answers."""
        number_of, region = self._context.pool.number_of, query.box if query.label is None else None
        cut = [(one, one.box if region is None else crop(one.box, region)) for one in offered]
        return [
            {"box": box, "label": one.label, "origin": one.origin, "image": number_of[one.image]}
            for one, box in cut
            if box is not None
        ]

    def _flow(self, image: int) -> Flow | None:
        """The flow around a frame; where there is none yet it is computed, one part of a film after the other."""
        part = part_of(self._context, image, REACH)
        with self._lock:
            if part in self._open:
                self._open.move_to_end(part)
                return self._open[part]
        flow = flow_of(self._context, part)
        with self._lock:
            if flow is not None:
                self._open[part] = flow
                while len(self._open) > KEPT_PARTS:
                    self._open.popitem(last=False)
            elif part not in self._wanted and not self._failed:
                self._wanted.add(part)
                self._worker.submit(self._compute, part)
        return flow

    def _compute(self, part: range) -> None:
        try:
            flow_of(self._context, part, self._shown.pixels)
        except Exception as error:  # of a thread nobody else would hear of it
            self._failed = str(error) if isinstance(error, LabelwiseError) else f"the flow failed ({error})"
        finally:
            with self._lock:
                self._wanted.discard(part)


def _column(step: int) -> int:
    """The column of a step in tracks over `REACH` frames."""
    return step + REACH if step < 0 else step + REACH - 1


def _unlike(some: list[Suggestion], others: list[Suggestion]) -> list[Suggestion]:
    """Those that are no object of `others`."""
    if not some or not others:
        return some
    a, b = (np.array([one.box for one in rows], np.float64) for rows in (some, others))
    labels = [np.array([one.label for one in rows]) for rows in (some, others)]
    same = (iou_matrix(a, b) >= SAME_IOU) & (labels[0][:, None] == labels[1][None])
    return [one for one, hit in zip(some, same.any(axis=1).tolist(), strict=True) if not hit]
