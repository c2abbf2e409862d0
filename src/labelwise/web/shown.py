"""What the page is shown: a query as JSON, and the pixels of an image of the pool, resized and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from labelwise import units
from labelwise.exchange._geometry import ROUNDING_PX, crop
from labelwise.ledger.reviews import REVIEWS
from labelwise.project import availability
from labelwise.project.clip_flow import film_of
from labelwise.project.context import Context, clips_of
from labelwise.project.round import Round
from labelwise.queue.lease_queue import Lease
from labelwise.types import BECAUSE, Answer, LabelwiseError, Query, Suggestion
from labelwise.units import IN_REGION
from labelwise.web.bodies import Offered
from labelwise.web.predicted import Predicted

SIDES = (320, 1280, 2560)
"""Longest side of the copies of an image that the page may ask for, in pixels."""
MOST_PIXELS = 120_000_000
STRIP = 2
"""Frames of a film that are shown before and after the one that is asked about."""
STRIP_STEP_S = 0.2
"""Time from one of them to the next, where the film has more frames."""
KEPT_BYTES = 256_000_000
LOOK_AGAIN_S = 5.0
"""How often images that were gone are looked for."""
DECODERS = 3
"""Images that are decoded at a time; each may take 3 bytes for every one of its pixels."""


class Passed(LabelwiseError):
    """An image that cannot be shown now."""


def spoken(answer: Answer, number_of: Mapping[str, int]) -> dict[str, Any]:
    """An answer as JSON; `number_of` an image by its name."""
    said = {"verdict": answer.verdict, "boxes": answer.boxes, "labels": answer.labels, "note": answer.note}
    return said | {"suggested": [asdict(one) | {"image": number_of[one.image]} for one in answer.suggested]}


class Shown:
    """The queries and images of one project, for its page."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.predicted = Predicted(context)
        self._classifies = context.run.classifies  # it looks at the model's file: not for every query
        self._hides = context.run.ask.known_share > 0  # known questions have no reason and no score: none is told
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self.looked = float("-inf")
        self._lock, self._film = threading.Lock(), threading.Lock()
        self._decoding = threading.BoundedSemaphore(DECODERS)

    def look_again(self, at: float) -> None:
        """Images that were gone are looked for, now and then."""
        if at > self.looked + LOOK_AGAIN_S:
            self.looked = at
            availability.look_again(self._context)
            self._context.project.ledger.see_sizes()

    def query(self, lease: Lease) -> dict[str, Any]:
        """Everything that the page needs to show one query."""
        query, pool = lease.query, self._context.pool
        hides = self._hides and REVIEWS not in query.reason
        reason = {} if hides else dict(query.reason)
        number = self._context.pool.number_of.get(query.image)
        size = (1, 1) if number is None else (int(pool.width_px[number]), int(pool.height_px[number]))
        return {
            "query": query.id,
            "lease": lease.secret,
            "round": query.round,
            "rank": query.rank,
            "kind": "class" if self._classifies else units.find(query.unit).PAGE,
            "image": {"number": -1 if number is None else number, "name": query.image, "size": size},
            "strip": [] if number is None else self._neighbours(number),
            "box": query.box,
            "label": self.class_of(query),
            "score": None if hides else query.score,
            "because": reason.pop(BECAUSE, ""),
            "reason": {name: part for name, part in reason.items() if name != REVIEWS},
            "reviews": REVIEWS in query.reason,
            "likely": [] if number is None else self.predicted.likely(query, number),
            "before": None if lease.before is None else spoken(lease.before, pool.number_of),
            **lease.known,
        }

    def class_of(self, query: Query) -> int | None:
        """The class that a query offers; None: who proposed its box knows none, and the page offers the last one."""
        run = self._context.run
        without = query.box is not None and Round(self._context, query.round).proposed
        return None if without and not run.predict.proposes_classes else query.label

    def _neighbours(self, image: int) -> list[dict[str, float]]:
        """Frames around a frame of a film, itself included: image numbers and when they are shown, in seconds."""
        return [{"number": k, "time_s": self.time_s(k)} for k in self.strip(image)]

    def strip(self, image: int) -> list[int]:
        """The images of a film that are shown beside one of them, and itself, in order; none where it is no film."""
        clips = self._context.pool.clips
        if clips is None:
            return []
        film = film_of(self._context, image)
        seconds = float(clips.time_s[film.stop - 1] - clips.time_s[film.start])
        step = max(1, round(STRIP_STEP_S * (len(film) - 1) / seconds)) if seconds > 0 else 1
        return [k for k in range(image - STRIP * step, image + STRIP * step + 1, step) if k in film]

    def time_s(self, image: int) -> float:
        """When a frame is shown in its film."""
        return round(float(clips_of(self._context.pool).time_s[image]), 2)

    def suggestion(self, said: Offered) -> Suggestion:
        """A suggestion as a browser sends it back.

        Raises:
            LabelwiseError: it names no image of the pool.
        """
        names = self._context.pool.names
        if said.image >= len(names):
            raise LabelwiseError(f"a suggestion comes from image {said.image}: there are {len(names)}. Reload the page")
        return Suggestion(said.box, said.label, said.origin, names[said.image], said.number)

    def fit(self, query: Query, answer: Answer, told: list[str]) -> Answer:
        """The answer as it is stored: of a region, every object is cropped to it, by the rule of the imports.

        What was cut, or left out because it lies in the region by no more than `IN_REGION` of its area, is `told`.
        """
        if units.meaning(query, answer).boxes != "any":
            return answer
        if self._classifies and len(answer.labels) != 1:
            raise LabelwiseError(f"query {query.id}: an image has one class, not {len(answer.labels)}")
        if query.box is None or len(answer.boxes) != len(answer.labels):
            return answer
        boxes, labels = list[tuple[float, float, float, float]](), list[int]()
        number = dict[int | None, int]()  # a box's place among those that are kept
        for k, (box, label) in enumerate(zip(answer.boxes, answer.labels, strict=True)):
            x1, y1, x2, y2 = box
            cut = crop(box, query.box) if x1 < x2 and y1 < y2 else box  # a box that is none is refused by the ledger
            if cut is None:
                told.append(f"box {k + 1} was left out: no more than {IN_REGION:.0%} of it lies in the region")
                continue
            if max(abs(a - b) for a, b in zip(cut, box, strict=True)) > ROUNDING_PX:
                told.append(f"box {k + 1} was cut to the region")
            number[k] = len(boxes)
            boxes.append(cut)
            labels.append(label)
        offered = tuple(replace(one, number=number.get(one.number)) for one in answer.suggested)
        return replace(answer, boxes=tuple(boxes), labels=tuple(labels), suggested=offered)

    def jpeg(self, number: int, side: int) -> bytes:
        """An image of the pool as JPEG, at most `side` pixels long; small sides are kept in memory.

        Raises:
            Passed: it is gone or cannot be read; its queries are passed over until it is back.
            LabelwiseError: there is no such image, or it is too large to be decoded safely.
        """
        if side not in SIDES:
            raise LabelwiseError(f"image {number} at {side} pixels: there is no such copy; expected one of {SIDES}")
        with self._lock:
            if (number, side) in self._kept:
                self._kept.move_to_end((number, side))
                return self._kept[number, side]
        with self.decoded(number) as pixels:
            image = Image.fromarray(pixels)
            image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
            out = BytesIO()
            image.save(out, "JPEG", quality=88)
            content = out.getvalue()
        with self._lock:
            if (number, side) not in self._kept:
                self._kept[number, side] = content
                self._bytes += len(content)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return content

    @contextmanager
    def decoded(self, number: int) -> Iterator[np.ndarray]:
        """The pixels of an image of the pool, uint8 [h, w, 3], of `DECODERS` at a time.

        Raises:
            Passed: it is gone or cannot be read; its queries are passed over until it is back.
            LabelwiseError: there is no such image, or it is too large to be decoded safely.
        """
        pool = self._context.pool
        if not 0 <= number < len(pool):
            raise LabelwiseError(f"image {number}: there is no such image")
        if int(pool.width_px[number]) * int(pool.height_px[number]) > MOST_PIXELS:
            raise LabelwiseError(f"image {number} has more than {MOST_PIXELS} pixels: too large for the page")
        with self._decoding:
            try:
                pixels = self.pixels(number) if pool.pixels is None else pool.pixels[number]
            except LabelwiseError as error:
                availability.pass_over(self._context, number)
                raise Passed(str(error)) from error
            yield pixels

    def pixels(self, number: int) -> np.ndarray:
        """An image of the pool at its full size, uint8 [h, w, 3]; of a film one reader reads."""
        with self._film if self._context.pool.frames is not None else nullcontext():
            return self._context.frame(number)
