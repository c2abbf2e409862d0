"""How a live round stands, for whoever draws it: every update of the model, with what it reaches."""

from __future__ import annotations

from typing import Any

from labelwise.ledger import live_updates
from labelwise.project.context import Context


def live(context: Context) -> dict[str, Any]:
    """`updates`, oldest first: how many answers, boxes, queries, images and seconds of people each had; its `quality`
    (0..1, of `metric`; None where it was not measured: no test images, or not yet) and the `seconds` it took until the
    queue was another one. `every`: after so many answers; None: rounds alone.
    """
    run = context.run
    return {
        "every": run.ask.live_answers,
        "metric": run.metric,
        "updates": [
            {"round": one.round, "answers": int(one.spent["queries"]), "spent": one.spent}
            | {"quality": one.quality, "metric": run.metric, "seconds": one.seconds, "created": one.created}
            for one in live_updates.every(context.project.ledger)
        ],
    }
