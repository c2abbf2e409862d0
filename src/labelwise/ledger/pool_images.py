"""The images of the pool as the ledger holds them; names are compared one after another, none is kept."""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq

import numpy as np
import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.types import Pool

HOW_MANY = sa.select(sa.func.count()).select_from(t.images)
AT_ONCE = 50_000
"""Images that are added together: not all of their rows are in memory."""


def known_first(connection: sa.Connection, names: Sequence[str]) -> int | None:
    """How many images the ledger holds, if these are the first of the names and in order, as nearly always."""
    count = int(connection.execute(HOW_MANY).scalar_one())
    stored = connection.execute(sa.select(t.images.c.name).order_by(t.images.c.number)).scalars()
    return count if count <= len(names) and all(map(eq, stored, names)) else None


def add_new_images(connection: sa.Connection, pool: Pool) -> None:
    """Adds the images of the pool that the ledger does not know."""
    names, first = pool.names, known_first(connection, pool.names)
    if first is None:
        known = set(connection.execute(sa.select(t.images.c.name)).scalars())
        first, new = len(known), np.array([k for k, name in enumerate(names) if name not in known], np.int64)
    else:
        new = np.arange(first, len(names))
    for start in range(0, len(new), AT_ONCE):
        part = new[start : start + AT_ONCE]
        sizes = zip(part.tolist(), pool.width_px[part].tolist(), pool.height_px[part].tolist(), strict=True)
        rows = [
            {"name": names[k], "number": first + start + n, "width_px": width, "height_px": height}
            for n, (k, width, height) in enumerate(sizes)
        ]
        connection.execute(sa.insert(t.images), rows)
