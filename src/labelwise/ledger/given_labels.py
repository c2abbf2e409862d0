"""Labels that came with the images: in the ledger once, before the first round, without a question and a cost.

Annotations have the origin and the person "given" and the round `BEFORE`; an image that came wholly labelled has a row
of coverage that belongs to no query. What was read is kept as a sum per image, so that a data folder whose labels
change later is noticed: what the ledger holds stays as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from jaxtyping import Bool, Int64, UInt32

from labelwise.ledger import records
from labelwise.ledger import schema as t
from labelwise.ledger.answers import check_objects
from labelwise.ledger.current_answers import HELD_BACK
from labelwise.ledger.ledger import Ledger, now
from labelwise.types import Boxes, Pool

GIVEN = "given"
"""Origin of such an annotation, and who made it."""

BEFORE = -1
"""The round of what was known before the first."""

KEY = "given labels"
"""Under which name the ledger keeps what has entered (`records`)."""

STANDS = t.coverage.c.query_id.is_(None) & ~sa.exists().where(t.forgotten.c.coverage_id == t.coverage.c.id).correlate(
    t.coverage
)
"""Of a row of coverage: it came with the image and was not forgotten."""


@dataclass(frozen=True)
class Entry:
    """What one call of `enter` did: new images with labels, their boxes, how many of the images are wholly labelled;
    names of images that people had labelled before (theirs counts), and of those whose labels have changed since.
    """

    images: int = 0
    boxes: int = 0
    whole: int = 0
    labelled: Sequence[str] = ()
    changed: Sequence[str] = ()
    later_classes: bool = False


@dataclass(frozen=True)
class Total:
    """What has entered in all. `partly`: numbers of the images that came with some of their objects labelled."""

    word: str
    images: int
    boxes: int
    whole: int
    partly: tuple[int, ...]


def total(ledger: Ledger) -> Total | None:
    """What has entered; None: nothing."""
    kept = records.kept(ledger, KEY)
    if kept is None:
        return None
    return Total(kept["word"], kept["images"], kept["boxes"], kept["whole"], tuple(kept["partly"]))


def enter(
    ledger: Ledger,
    pool: Pool,
    boxes: Boxes,
    whole: Bool[np.ndarray, " images"],
    there: Bool[np.ndarray, " images"],
    word: str,
) -> Entry:
    """Enters the labels of all images that are new here, in one transaction.

    Args:
        ledger: the project's, which knows all images of the pool.
        pool: the images, in the ledger's order.
        boxes: that came with them.
        whole: of which images these are all objects.
        there: which images were read; of the others nothing is known now.
        word: what the setting says of these labels, for the record.

    Raises:
        LabelwiseError: a box without area, outside its image or of an unknown class; nothing is written.
    """
    sums = _sums(boxes, whole, there)
    with ledger.write() as connection:
        classes = ledger.class_list(connection, alone=True)
        kept = _kept(connection)
        before = np.zeros(len(pool), np.uint32)
        known = np.frombuffer(base64.b64decode(kept["sums"]), "<u4")
        before[: len(known)] = known
        changed = np.flatnonzero((before != 0) & (sums != 0) & (before != sums))
        new = (before == 0) & (sums != 0)
        if not new.any():
            return Entry(changed=[pool.names[i] for i in changed])
        labelled = _labelled(connection)
        taken = (
            np.array([name in labelled for name in pool.names], np.bool_) & new & ((np.diff(boxes.offsets) > 0) | whole)
        )
        fresh = new & ~taken
        later = connection.execute(sa.select(sa.func.count()).select_from(t.added_classes)).scalar_one() > 0
        whole = whole & fresh & (not later)  # nobody has looked for a class that was added since
        numbers = _insert(connection, pool, boxes, fresh, whole, len(classes))
        has_boxes = (np.bincount(numbers, minlength=len(pool)) > 0) & fresh
        partly = np.flatnonzero(has_boxes & ~whole).tolist()
        entry = Entry(
            int((has_boxes | whole).sum()),
            len(numbers),
            int(whole.sum()),
            [pool.names[i] for i in np.flatnonzero(taken)],
            [pool.names[i] for i in changed],
            bool(later),
        )
        value = {name: kept[name] + getattr(entry, name) for name in ("images", "boxes", "whole")}
        value |= {"word": word, "partly": kept["partly"] + partly}
        value["sums"] = base64.b64encode(np.where(before != 0, before, sums).astype("<u4").tobytes()).decode()
        records.keep(connection, KEY, value)
        return entry


def _kept(connection: sa.Connection) -> Mapping[str, Any]:
    value = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == KEY)).scalar()
    return value or {"images": 0, "boxes": 0, "whole": 0, "partly": [], "sums": ""}


def _labelled(connection: sa.Connection) -> set[str]:
    """Images of which people have said anything."""
    found = set(
        connection.execute(sa.select(t.queries.c.image).distinct().select_from(t.queries.join(t.answers))).scalars()
    )
    for table in (t.annotation_table, t.coverage, t.background):
        found |= set(connection.execute(sa.select(table.c.image).distinct()).scalars())
    return found | set(connection.execute(HELD_BACK).scalars())


def _insert(
    connection: sa.Connection,
    pool: Pool,
    boxes: Boxes,
    fresh: Bool[np.ndarray, " images"],
    whole: Bool[np.ndarray, " images"],
    n_classes: int,
) -> Int64[np.ndarray, " n"]:
    """Writes the rows of the images `fresh`; the image of every box that was written."""
    rows = np.flatnonzero(fresh[boxes.image])
    image, xyxy, labels = boxes.image[rows], boxes.xyxy[rows].astype(np.float64), boxes.labels[rows]
    size = np.stack([pool.width_px, pool.height_px], axis=1)
    places = [f"{pool.names[i]}, a box that came with it" for i in image.tolist()]
    check_objects(xyxy, labels, size[image], n_classes, places)
    made = {"origin": GIVEN, "round": BEFORE, "created": now()}
    corners = [dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) for box in xyxy.tolist()]
    annotations = [
        {"image": pool.names[i], "label": label, **box, **made}
        for i, label, box in zip(image.tolist(), labels.tolist(), corners, strict=True)
    ]
    coverage = [
        {
            "image": pool.names[i],
            "x1": 0.0,
            "y1": 0.0,
            "x2": float(size[i, 0]),
            "y2": float(size[i, 1]),
            "round": BEFORE,
        }
        for i in np.flatnonzero(whole).tolist()
    ]
    for table, found in ((t.annotation_table, annotations), (t.coverage, coverage)):
        if found:
            connection.execute(sa.insert(table), found)
    return image


def _sums(
    boxes: Boxes, whole: Bool[np.ndarray, " images"], there: Bool[np.ndarray, " images"]
) -> UInt32[np.ndarray, " images"]:
    """A number of the labels of every image, whatever their order; 0: the image is not there."""
    rows = np.concatenate([boxes.xyxy.view(np.uint32), boxes.labels[:, None].astype(np.uint32)], axis=1).astype(
        np.uint64
    )
    mixed = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    each = np.zeros(len(whole), np.uint64)
    np.add.at(each, boxes.image, mixed)
    each = (each ^ (each >> np.uint64(32)) ^ whole.astype(np.uint64)) & np.uint64(0xFFFFFFFF)
    found: np.ndarray = np.where(there, np.maximum(each, 1), 0).astype(np.uint32)
    return found


def forget(connection: sa.Connection, image: str, who: str, created: str) -> None:
    """The image counts as wholly labelled no longer, as part of a larger transaction."""
    which = sa.select(t.coverage.c.id).where((t.coverage.c.image == image) & STANDS)
    gone = [{"coverage_id": row, "who": who, "created": created} for row in connection.execute(which).scalars().all()]
    if gone:
        connection.execute(sa.insert(t.forgotten), gone)
