"""Labels that rest on one look: those that came with the images, and what one person answered once."""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.current_labels import is_current_label
from labelwise.ledger.instant import Instant
from labelwise.ledger.reviews import REVIEWS
from labelwise.ledger.several_answers import several

_n, _q = t.annotation_table.c, t.queries.c


def unreviewed(connection: sa.Connection, seen: Instant | None, *, merged: bool) -> dict[str, np.ndarray]:
    """Current labels (or those of an instant) that superseded none and that no question was about: columns `id`,
    `image` (names), `xyxy` [n, 4] float64, `label`, oldest first.

    `merged`: labels that several people's answers made are left out, for another opinion is asked on their query.
    """
    about = _q.reason[REVIEWS].as_float()
    asked = sa.select(about).where(about.is_not(None))
    if seen is not None:
        asked = asked.where((_q.id <= seen.queries) & (_q.round <= seen.round))
    select = sa.select(_n.id, _n.image, _n.x1, _n.y1, _n.x2, _n.y2, _n.label)
    select = select.where(is_current_label(seen) & _n.supersedes.is_(None))
    if merged:
        select = select.where(_n.query_id.is_(None) | _n.query_id.not_in(several(seen)))
    done = {int(row) for row in connection.execute(asked).scalars()}
    rows = [row for row in connection.execute(select.order_by(_n.id)) if row[0] not in done]
    return {
        "id": np.array([row[0] for row in rows], np.int64),
        "image": np.array([row[1] for row in rows], object),
        "xyxy": np.array([tuple(row[2:6]) for row in rows], np.float64).reshape(-1, 4),
        "label": np.array([row[6] for row in rows], np.int64),
    }
