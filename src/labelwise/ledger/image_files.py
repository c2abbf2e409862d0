"""What an image file was when its image was asked about, and which images are unavailable now.

Of every image the ledger keeps size and time of change of its file, and the SHA-256 of its content from when it was
first asked about. An image is unavailable when it is `gone`, `unreadable`, or `changed`: another content lies under the
name of one that has labels. Of a changed image the labels are held back, as if they were not there, until the owner
says that they still fit (`keep`) or not (`forget`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from labelwise.ledger import given_labels
from labelwise.ledger import schema as t
from labelwise.ledger.current_answers import CURRENT, withdraw
from labelwise.ledger.given_labels import STANDS
from labelwise.ledger.ledger import Ledger, now
from labelwise.types import LabelwiseError

GONE, UNREADABLE, CHANGED = "gone", "unreadable", "changed"

_MOST = 1000
"""Values in one statement: a database takes only so many."""

_f, _u, _n, _q = t.image_files.c, t.unavailable.c, t.annotation_table.c, t.queries.c


class File(NamedTuple):
    """Size and time of change of an image's file; `sha256` of its content where it was asked about."""

    size_bytes: int
    mtime_ns: int
    sha256: str | None = None


class Unavailable(NamedTuple):
    """Why an image cannot be shown: `why` is "gone", "unreadable" or "changed", `what` says it in a sentence."""

    why: str
    what: str


def known(ledger: Ledger) -> list[tuple[str, int, int]]:
    """Name, width and height of every image of the ledger, in its order."""
    c = t.images.c
    with ledger.read() as connection:
        cursor = connection.execute(sa.select(c.name, c.width_px, c.height_px).order_by(c.number)).cursor
        return list(cursor.fetchall()) if cursor else []


def known_files(ledger: Ledger) -> list[tuple[str, int, int, int | None, int | None]]:
    """`known`, with size in bytes and time of change of the files; None where the ledger holds none."""
    c = t.images.c
    with_files = sa.select(c.name, c.width_px, c.height_px, _f.size_bytes, _f.mtime_ns)
    with ledger.read() as connection:
        cursor = connection.execute(with_files.select_from(t.images.outerjoin(t.image_files)).order_by(c.number)).cursor
        return list(cursor.fetchall()) if cursor else []


def files(ledger: Ledger, names: Collection[str] | None = None) -> dict[str, File]:
    """What the ledger holds of the files of these images, or of all."""
    select = sa.select(_f.image, _f.size_bytes, _f.mtime_ns, _f.sha256)
    with ledger.read() as connection:
        if names is None:
            cursor = connection.execute(select).cursor  # plain tuples: of 100,000 images
            return {
                image: File(size, time, sha256) for image, size, time, sha256 in (cursor.fetchall() if cursor else ())
            }
        found: dict[str, File] = {}
        for some in _parts(sorted(names)):
            found |= {row[0]: File(*row[1:]) for row in connection.execute(select.where(_f.image.in_(some)))}
        return found


def unavailable(ledger: Ledger) -> dict[str, Unavailable]:
    """The images that cannot be shown, by name."""
    with ledger.read() as connection:
        rows = connection.execute(sa.select(_u.image, _u.why, _u.what).order_by(_u.image)).all()
    return {image: Unavailable(why, what) for image, why, what in rows}


def asked_and_labelled(ledger: Ledger) -> tuple[set[str], set[str]]:
    """Images that were ever asked about, and those of them that have labels now, held back or not."""
    newer = t.annotation_table.alias("newer")
    current = _n.label.is_not(None) & ~sa.exists().where(newer.c.supersedes == _n.id).correlate(t.annotation_table)
    with ledger.read() as connection:
        queried = set(connection.execute(sa.select(_q.image).distinct()).scalars())
        answered = sa.select(_q.image).distinct().select_from(t.queries.join(t.answers)).where(CURRENT)
        labelled = set(connection.execute(answered).scalars())
        labelled |= set(connection.execute(sa.select(_n.image).distinct().where(current)).scalars())
        labelled |= set(connection.execute(sa.select(t.coverage.c.image).distinct().where(STANDS)).scalars())
    return queried | labelled, labelled


def write(
    ledger: Ledger,
    files: Mapping[str, File],
    sizes_px: Mapping[str, tuple[int, int]] | None = None,
    states: Mapping[str, Unavailable] | None = None,
) -> None:
    """Writes what was found, in one transaction. `states`: all that are unavailable; None leaves them as they are."""
    rows = [{"image": image, **file._asdict()} for image, file in files.items()]
    sizes = [{"name_": name, "width": width, "height": height} for name, (width, height) in (sizes_px or {}).items()]
    before = unavailable(ledger) if states is not None else {}
    if not rows and not sizes and before == dict(states or {}):
        return
    with ledger.write() as connection:
        _replace(connection, rows)
        if sizes:
            of_name = sa.update(t.images).where(t.images.c.name == sa.bindparam("name_"))
            new: dict[str, Any] = {"width_px": sa.bindparam("width"), "height_px": sa.bindparam("height")}
            connection.execute(of_name.values(**new), sizes)
        if states is not None and before != dict(states):
            connection.execute(sa.delete(t.unavailable))
            _insert(connection, states)
    if sizes:
        ledger.see_sizes()


def mark(ledger: Ledger, states: Mapping[str, Unavailable]) -> None:
    """Notes that these images are unavailable, too; those that the ledger does not know are left out."""
    if states:
        with ledger.write() as connection:
            here = sa.select(t.images.c.name).where(t.images.c.name.in_(list(states)))
            states = {name: states[name] for name in connection.execute(here).scalars()}
            connection.execute(sa.delete(t.unavailable).where(_u.image.in_(list(states))))
            _insert(connection, states)


def back(ledger: Ledger, names: Sequence[str]) -> None:
    """Notes that these images, which were gone or unreadable, can be shown again."""
    if names:
        with ledger.write() as connection:
            for some in _parts(names):
                connection.execute(sa.delete(t.unavailable).where(_u.image.in_(some) & (_u.why != CHANGED)))


def _insert(connection: sa.Connection, states: Mapping[str, Unavailable]) -> None:
    if states:
        since = now()
        connection.execute(
            sa.insert(t.unavailable),
            [{"image": image, "why": why, "what": what, "since": since} for image, (why, what) in states.items()],
        )


def _replace(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    for some in _parts([row["image"] for row in rows]):
        connection.execute(sa.delete(t.image_files).where(_f.image.in_(some)))
    if rows:
        connection.execute(sa.insert(t.image_files), list(rows))


def _parts(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + _MOST] for start in range(0, len(names), _MOST)]


# ---- the owner's word ---------------------------------------------------------------------------------------------


def keep(
    ledger: Ledger, files: Mapping[str, File], sizes_px: Mapping[str, tuple[int, int]], who: str, *, whole: bool
) -> None:
    """The labels of these changed images still fit: they count again.

    `whole`: labels are of the whole image, as in classification; then they are those of the image in its new size.

    Raises:
        LabelwiseError: an image has another size now, and something that is known of it lies outside.
    """
    with ledger.write() as connection:
        before = dict(ledger.sizes_within(connection, set(files)))
        for name, file in files.items():
            if before[name] != sizes_px[name]:
                if whole:
                    _of_new_size(connection, name, before[name], sizes_px[name], who)
                else:
                    _refuse_outside(connection, name, before[name], sizes_px[name])
            _settle(connection, name, file, sizes_px[name])
    ledger.see_sizes()


def _settle(connection: sa.Connection, name: str, file: File, size_px: tuple[int, int]) -> None:
    """The image is known as it is now, and available."""
    width, height = size_px
    changed = sa.update(t.images).where(t.images.c.name == name)
    connection.execute(changed.values(width_px=width, height_px=height))
    _replace(connection, [{"image": name, **file._asdict()}])
    connection.execute(sa.delete(t.unavailable).where(_u.image == name))


def _current(connection: sa.Connection, name: str) -> Sequence[sa.RowMapping]:
    newer = t.annotation_table.alias("newer")
    current = _n.label.is_not(None) & ~sa.exists().where(newer.c.supersedes == _n.id).correlate(t.annotation_table)
    return connection.execute(sa.select(t.annotation_table).where((_n.image == name) & current)).mappings().all()


def _refuse_outside(connection: sa.Connection, name: str, old: tuple[int, int], new: tuple[int, int]) -> None:
    reach = [(row["x2"], row["y2"]) for row in _current(connection, name)]
    for table in (t.coverage, t.background):
        rows = connection.execute(sa.select(table.c.x2, table.c.y2).where(table.c.image == name)).all()
        reach += [(x2, y2) for x2, y2 in rows if (x2, y2) != old]
    if any(x2 > new[0] or y2 > new[1] for x2, y2 in reach):
        raise LabelwiseError(
            f"{name} was {old[0]} x {old[1]} pixels, is {new[0]} x {new[1]}, and some of its labels lie outside: they "
            "cannot be kept. Put the old file back, or forget them (--forget)"
        )


def _of_new_size(connection: sa.Connection, name: str, old: tuple[int, int], new: tuple[int, int], who: str) -> None:
    """Labels of the whole image become labels of the whole image in its new size: new rows, as every correction."""
    whole = dict(zip(("x1", "y1", "x2", "y2"), (0.0, 0.0, *map(float, new)), strict=True))
    kept = ("image", "label", "round", "query_id", "answer_id")
    for row in _current(connection, name):
        values = {key: row[key] for key in kept} | whole | {"supersedes": row["id"], "created": now()}
        connection.execute(sa.insert(t.annotation_table), values | {"origin": f"person {who}"})
    c = t.coverage.c
    of_old = (c.image == name) & (c.x2 == old[0]) & (c.y2 == old[1])
    for row in connection.execute(sa.select(t.coverage).where(of_old)).mappings().all():
        values = {key: row[key] for key in ("image", "round", "query_id")} | whole
        connection.execute(sa.insert(t.coverage), values)


def forget(
    ledger: Ledger, files: Mapping[str, File], sizes_px: Mapping[str, tuple[int, int]], who: str
) -> dict[str, int]:
    """Withdraws the labels of these images, which may be asked again; of each, how many annotations it had.

    Nothing is deleted: answers are taken back, annotations superseded. What they have cost in time stays.
    """
    had: dict[str, int] = {}
    with ledger.write() as connection:
        sizes = dict(ledger.sizes_within(connection, set(files)))
        for name, file in files.items():
            had[name] = len(_current(connection, name))
            standing = (
                sa.select(t.answers.c.id).select_from(t.answers.join(t.queries)).where((_q.image == name) & CURRENT)
            )
            while ids := connection.execute(standing).scalars().all():  # the second opinion of one that is taken back
                for answer_id in ids:
                    withdraw(connection, answer_id, who, sizes, now())
            for row in _current(connection, name):  # what no answer stands behind
                values = {key: row[key] for key in ("image", "x1", "y1", "x2", "y2", "round", "query_id")}
                values |= {"label": None, "origin": f"person {who}", "supersedes": row["id"], "created": now()}
                connection.execute(sa.insert(t.annotation_table), values)
            given_labels.forget(connection, name, who, now())
            _settle(connection, name, file, sizes_px[name])
    ledger.see_sizes()
    return had
