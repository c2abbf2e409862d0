"""What box questions about proposed boxes cannot find: the recall of the proposals, estimated on whole images.

An object that nobody proposes is in no question, so that no number of answers tells of it. The images of the first
round are wholly looked over and were not chosen for what is in them: the share of their objects that a proposed box
overlaps by IoU 0.5 is the recall, with an interval that takes images as wholes.

Fails when: the first images were not drawn at random (`budget.start`), or there are few: the interval is then wide.
"""

from __future__ import annotations

import numpy as np

from labelwise.errors import LabelwiseError
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.study.model_choice import NEVER, first_hit
from labelwise.study.unit_choice import Estimate, share_by_image
from labelwise.types import Rects


def recall(context: Context) -> tuple[Estimate, int] | None:
    """The share of the objects of the first round's images that are proposed, and how many images these are; None where
    nobody proposes, or nothing was looked over yet.
    """
    if context.run.predict.proposals is None:
        return None
    now, pool = Round(context, 0), context.pool
    known = context.known()
    asked = {pool.number_of[query.image] for query in now.queries() if query.image in pool.number_of}
    images = np.array(sorted(asked & set(np.flatnonzero(known.covered(pool)).tolist())), np.int64)
    try:
        found = now.detections()
    except (LabelwiseError, OSError):  # of a run that set `proposals` later
        return None
    if not len(images):
        return None
    objects = known.annotations
    seen = first_hit(Rects(found.offsets, found.boxes), objects) < NEVER
    part, whole = (np.bincount(objects.image[rows], minlength=len(pool))[images] for rows in (seen, seen | True))
    return share_by_image(part, whole), len(images)


def lines(context: Context) -> list[str]:
    """What to tell of it; nothing where there is nothing to tell."""
    found = recall(context)
    if found is None:
        return []
    one, images = found
    name = context.run.predict.proposals
    if not one.n:
        return [f"Proposals: the {images} images of the first round hold no object, so what {name} misses is not known"]
    share = f"{100 * one.value:.0f} %, 95 % interval {100 * one.low:.0f} to {100 * one.high:.0f}"
    return [
        f"Proposals: {name} finds {round(one.value * one.n)} of the {one.n} objects in the {images} images of the "
        f"first round ({share}); no question about its boxes finds the others: ask about whole images for these, or "
        "raise predict.proposals_most or predict.proposals_px"
    ]
