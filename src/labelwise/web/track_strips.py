"""The tracks of a class on the page: what temporal coherence linked from frame to frame, as strips of crops.

A track is a connected component of the links of a round (errors.parquet, links.parquet): detections, those that the
graph calls false positives among them, and the objects that it calls missed. Of several boxes in one frame the most
confident one is shown. The longest track comes first. There are none until a round has followed its detections.
"""
# no `from __future__ import annotations` here: FastAPI reads the signatures of the routes, which name local types

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Response
from jaxtyping import Bool, Int64
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from labelwise.project.context import Context, clips_of
from labelwise.project.round import Round
from labelwise.queue.accounts import Person
from labelwise.queue.shown_labels import known_questions_for
from labelwise.types import LabelwiseError
from labelwise.web.access import Access
from labelwise.web.bodies import Number
from labelwise.web.shown import Shown

PAGE = 20
"""Tracks that are sent at a time."""
STILLS = 12
"""Frames of a track that its strip shows, evenly spaced; up to half of them are those that are likely wrong."""
STILL_PX = 96
AROUND, LEAST_PX = 1.8, 16
"""A still is a square whose side is so many times that of the box, which counts as no smaller than this."""
NONE = "No round has followed its detections yet: they are followed where frames are asked by temporal_coherence."


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """Rows of errors.parquet, sorted by track and image; those of track t are `rows[starts[t]:starts[t + 1]]`."""

    rows: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " tracks+1"]

    def of(self, track: int) -> Int64[np.ndarray, " frames"]:
        """The rows of a track, one per frame, in order of time."""
        return self.rows[self.starts[track] : self.starts[track + 1]]


def grouped(nodes: Mapping[str, np.ndarray], links: Mapping[str, np.ndarray]) -> Grouped:
    """The tracks; candidates that were not called missed are in none.

    >>> nodes = {"image": np.array([0, 1, 3, 2, 4]), "score": np.array([0.9, 0.8, 0.7, 0, 0])}
    >>> nodes |= {"is_candidate": np.arange(5) > 2, "wrong": np.array([False, False, False, True, False])}
    >>> found = grouped(nodes, {"a": np.array([0, 1, 2, 2]), "b": np.array([1, 3, 3, 4])})
    >>> [found.of(track).tolist() for track in range(len(found.starts) - 1)]
    [[0, 1, 3, 2]]
    """
    there = ~nodes["is_candidate"] | nodes["wrong"]
    a, b, n = links["a"], links["b"], len(there)
    both = there[a] & there[b]
    graph = coo_array((np.ones(int(both.sum()), np.int8), (a[both], b[both])), shape=(n, n))
    track = connected_components(graph, directed=False)[1].astype(np.int64)
    rows = np.flatnonzero(there)
    rows = rows[np.lexsort((-nodes["score"][rows], nodes["image"][rows], track[rows]))]
    key = np.stack([track[rows], nodes["image"][rows]])
    rows = rows[np.append(True, (key[:, 1:] != key[:, :-1]).any(axis=0))[: len(rows)]]
    new = np.flatnonzero(np.diff(track[rows], prepend=-1))
    return Grouped(rows, np.append(new, len(rows)).astype(np.int64))


class TrackStrips:
    """The tracks of one project, for its page."""

    def __init__(self, context: Context, shown: Shown) -> None:
        self.context, self._shown, self._lock = context, shown, threading.Lock()
        self._read: tuple[int, Mapping[str, np.ndarray], Grouped] | None = None

    def of_class(self, label: int, start: int, who: str) -> dict[str, Any]:
        """The tracks of a class from number `start` on, the longest first, and how many there are."""
        if not 0 <= label < len(self.context.pool.classes):
            raise LabelwiseError(f"class {label}: there are {len(self.context.pool.classes)}; reload the page")
        newest = self._newest()
        if newest is None:
            return {"round": -1, "total": 0, "tracks": [], "problem": NONE}
        number, nodes, tracks = newest
        with self.context.project.ledger.read() as connection:
            asked = known_questions_for(connection, who, self.context.run.ask.overlap).values()
        left_out = [self.context.pool.number_of[name] for name in asked if name in self.context.pool.number_of]
        of = np.flatnonzero(nodes["label"][tracks.rows[tracks.starts[:-1]]] == label)
        of = of[np.argsort(-np.diff(tracks.starts)[of], kind="stable")]
        spoken = []
        for track in of[start : start + PAGE].tolist():
            rows = tracks.of(track)
            rows = rows[~np.isin(nodes["image"][rows], left_out)]
            spoken += [self._spoken(track, nodes, rows)] if len(rows) else []
        return {
            "round": number,
            "total": len(of),
            "sent": len(of[start : start + PAGE]),
            "tracks": spoken,
            "problem": "",
        }

    def strip(self, number: int, track: int, frames: list[int]) -> bytes:
        """These frames of a track side by side, each `STILL_PX` wide, as JPEG; black where one cannot be read."""
        newest = self._newest()
        if newest is None or newest[0] != number or track >= len(newest[2].starts) - 1:
            raise LabelwiseError("these tracks are of another round; reload the page")
        _, nodes, tracks = newest
        rows = tracks.of(track)
        rows = rows[np.isin(nodes["image"][rows], frames[:STILLS])]
        made = Image.new("RGB", (STILL_PX * max(len(rows), 1), STILL_PX))
        for k, (image, box) in enumerate(zip(nodes["image"][rows].tolist(), _boxes(nodes, rows).tolist(), strict=True)):
            try:
                pixels = Image.fromarray(self._shown.pixels(image))
            except LabelwiseError:
                continue
            side = AROUND * max(box[2] - box[0], box[3] - box[1], LEAST_PX)
            x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
            square = pixels.crop((round(x), round(y), round(x + side), round(y + side)))
            made.paste(square.resize((STILL_PX, STILL_PX), Image.Resampling.BILINEAR), (k * STILL_PX, 0))
        out = BytesIO()
        made.save(out, "JPEG", quality=88)
        return out.getvalue()

    def _newest(self) -> tuple[int, Mapping[str, np.ndarray], Grouped] | None:
        """The newest round that has followed its detections; read once."""
        with self._lock:
            for number in range(self.context.run.rounds - 1, 0, -1):
                now = Round(self.context, number)
                if self.context.pool.clips is None or not (now.folder.errors.exists() and now.folder.links.exists()):
                    continue
                if self._read is None or self._read[0] != number:
                    nodes = now.errors
                    self._read = number, nodes, grouped(nodes, now.links)
                return self._read
        return None

    def _spoken(self, track: int, nodes: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
        clips, images = clips_of(self.context.pool), nodes["image"][rows]
        kinds = np.where(nodes["is_candidate"][rows], "missed", np.where(nodes["wrong"][rows], "false", "found"))
        columns = images.tolist(), _boxes(nodes, rows).tolist(), kinds.tolist(), nodes["score"][rows].tolist()
        frames = [
            {"number": image, "time_s": self._shown.time_s(image), "box": box, "kind": kind, "score": round(score, 2)}
            for image, box, kind, score in zip(*columns, strict=True)
        ]
        name = clips.names[clips.video[images[0]]]
        return {"track": track, "film": name, "frames": frames, "stills": _stills(nodes["wrong"][rows]).tolist()}


def _stills(wrong: Bool[np.ndarray, " frames"]) -> Int64[np.ndarray, " stills"]:
    """Which frames of a track its strip shows; `wrong`: what the graph says of each."""
    first = _even(np.flatnonzero(wrong), STILLS // 2)
    return np.union1d(first, _even(np.arange(len(wrong)), STILLS - len(first)))


def _even(places: np.ndarray, most: int) -> Int64[np.ndarray, " places"]:
    return places[np.unique(np.linspace(0, len(places) - 1, min(len(places), most)).round().astype(np.int64))]


def _boxes(nodes: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    corners = [nodes[corner][rows] for corner in ("x1", "y1", "x2", "y2")]
    return np.stack(corners, axis=1).astype(np.float64).round(2)


def add_routes(app: FastAPI, access: Access, strips: TrackStrips) -> None:
    """Adds the routes."""
    Someone = Annotated[Person, Depends(access.person)]

    @app.get("/api/tracks/{label}")
    def tracks(person: Someone, label: Number, start: Number = 0) -> dict[str, Any]:
        return strips.of_class(label, start, person.name)

    @app.get("/api/tracks/{number}/{track}")
    def strip(_person: Someone, number: Number, track: Number, frames: Annotated[list[Number], Query()]) -> Response:
        headers = {"cache-control": "private, max-age=86400"}
        return Response(strips.strip(number, track, frames), media_type="image/jpeg", headers=headers)
