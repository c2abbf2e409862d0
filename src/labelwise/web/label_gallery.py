"""The owner's gallery: labels as crops, filtered; what is wrong is marked there and sent as answers that supersede."""
# no `from __future__ import annotations` here: FastAPI reads the signatures of the routes, which name local types

import threading
from collections import OrderedDict
from io import BytesIO
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import Response
from PIL import Image, ImageDraw
from pydantic import Field

from labelwise.ledger import by_hand
from labelwise.ledger.by_hand import Change
from labelwise.ledger.labels_said import Which
from labelwise.project.browse import Agreement, Browse, Wanted
from labelwise.project.context import Context
from labelwise.project.prices import Prices
from labelwise.queue.accounts import Person
from labelwise.types import LabelwiseError
from labelwise.web.access import Access
from labelwise.web.bodies import Body, Coordinate, Corners, Number, Verdict
from labelwise.web.shown import MOST_PIXELS, Shown

TILES = 60
"""Labels on a page."""
SIDE_PX = 220
"""Longest side of a crop."""
MARGIN = 0.3
"""How much of a box's sides is shown around it, at least `LEAST_PX`."""
LEAST_PX = 12
KEPT_CROPS = 2_000
KEPT_IMAGES = 4
DECODERS = 2
"""Images that are decoded at a time."""


class Mark(Body):
    """What the owner says of one label, or of a place without one; `image`: its number."""

    image: Number
    verdict: Verdict
    annotation: Number | None = None
    about: Number | None = None
    box: Corners | None = None
    label: Number | None = None


class Marks(Body):
    """Corrections, and the seconds that all of them took."""

    items: list[Mark] = Field(min_length=1, max_length=500)
    seconds: float = Field(0.0, ge=0, le=86_400, allow_inf_nan=False)


class Taken(Body):
    """Corrections to take back, by their answers."""

    answers: list[Number] = Field(min_length=1, max_length=500)


class Crops:
    """Parts of images as JPEG; the newest are kept, and of the newest images the pixels."""

    def __init__(self, context: Context, shown: Shown) -> None:
        self._context, self._shown = context, shown
        self._crops: OrderedDict[tuple[float, ...], bytes] = OrderedDict()
        self._images: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock, self._decoding = threading.Lock(), threading.BoundedSemaphore(DECODERS)

    def jpeg(self, number: int, box: tuple[float, float, float, float]) -> bytes:
        """The surroundings of a box, with its frame.

        Raises:
            LabelwiseError: there is no such image, it is too large, or it cannot be read.
        """
        with self._lock:
            if (found := self._crops.get((number, *box))) is not None:
                return found
        if not (box[0] < box[2] and box[1] < box[3]):
            raise LabelwiseError(f"{box} has no area")
        with self._decoding:
            made = self._cut(self._pixels(number), box)
        with self._lock:
            self._crops[number, *box] = made
            while len(self._crops) > KEPT_CROPS:
                self._crops.popitem(last=False)
        return made

    def _pixels(self, number: int) -> np.ndarray:
        pool = self._context.pool
        if not 0 <= number < len(pool) or int(pool.width_px[number]) * int(pool.height_px[number]) > MOST_PIXELS:
            raise LabelwiseError(f"image {number}: there is no such image, or it is too large for the page")
        with self._lock:
            if (kept := self._images.get(number)) is not None:
                return kept
        pixels = self._shown.pixels(number)
        with self._lock:
            self._images[number] = pixels
            while len(self._images) > KEPT_IMAGES:
                self._images.popitem(last=False)
        return pixels

    @staticmethod
    def _cut(pixels: np.ndarray, box: tuple[float, float, float, float]) -> bytes:
        height, width = pixels.shape[:2]
        x1, y1, x2, y2 = box
        dx, dy = max(MARGIN * (x2 - x1), LEAST_PX), max(MARGIN * (y2 - y1), LEAST_PX)
        left, top = (int(np.clip(v, 0, most - 1)) for v, most in ((x1 - dx, width), (y1 - dy, height)))
        right, bottom = (int(np.clip(np.ceil(v), low + 1, most)) for v, low, most in
                         ((x2 + dx, left, width), (y2 + dy, top, height)))  # fmt: skip
        image = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
        scale = SIDE_PX / max(image.size)
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
        frame = [round((v - start) * scale) for v, start in ((x1, left), (y1, top), (x2, left), (y2, top))]
        draw = ImageDraw.Draw(image)
        draw.rectangle(frame, outline=(0, 0, 0), width=4)
        draw.rectangle(frame, outline=(255, 212, 59), width=2)
        out = BytesIO()
        image.save(out, "JPEG", quality=85)
        return out.getvalue()


def add_routes(app: FastAPI, context: Context, shown: Shown, prices: Prices, access: Access) -> None:
    """The routes of the gallery, all of them the owner's."""
    Owner = Annotated[Person, Depends(access.owner)]
    browse, crops, ledger, names = Browse(context), Crops(context, shown), context.project.ledger, context.pool.names

    @app.get("/api/owner/labels")
    def labels(
        _person: Owner,
        label: Number | None = None,
        origin: Annotated[str | None, Query(max_length=300)] = None,
        of_round: Annotated[int | None, Query(alias="round", ge=-1, le=2**31 - 1)] = None,
        image: Number | None = None,
        verdict: Verdict | None = None,
        agreement: Agreement | None = None,
        doubtful: bool = False,
        start: Number = 0,
    ) -> dict[str, Any]:
        if image is not None and image >= len(names):
            raise HTTPException(404, f"there is no image {image}")
        context.see_classes()
        which = Which(label, origin, of_round, None if image is None else names[image])
        most = TILES if image is None else 2_000
        return browse.page(Wanted(which, verdict, agreement, doubtful), start, most) | {"most": most}

    @app.get("/api/owner/labels/filters")
    def filters(_person: Owner) -> dict[str, Any]:
        return browse.how_many()

    @app.get("/api/owner/crops/{image}")
    def crop(_person: Owner, image: Number, x1: Coordinate, y1: Coordinate, x2: Coordinate, y2: Coordinate) -> Response:
        try:
            content = crops.jpeg(image, (x1, y1, x2, y2))
        except LabelwiseError:
            raise HTTPException(404, f"image {image} cannot be shown") from None
        return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})

    @app.post("/api/owner/corrections")
    def correct(person: Owner, body: Marks) -> dict[str, Any]:
        if any(mark.image >= len(names) for mark in body.items):
            raise HTTPException(404, "there is no such image")
        changes = [
            Change(names[mark.image], mark.verdict, mark.box, mark.label, mark.annotation, mark.about)
            for mark in body.items
        ]
        return {"answers": by_hand.correct(ledger, changes, person.name, body.seconds, prices.of)}

    @app.post("/api/owner/corrections/undo")
    def undo(person: Owner, body: Taken) -> dict[str, Any]:
        by_hand.take_back(ledger, body.answers, person.name)
        return {"taken": len(body.answers)}
