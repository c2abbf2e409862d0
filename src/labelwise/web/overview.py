"""How a project stands: for everyone the round's progress, for the owner people, curve, and what is asked and why."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from labelwise.ledger import pace, progress
from labelwise.ledger.agreement import agreement
from labelwise.ledger.suggestions import actions
from labelwise.project import consensus
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.report import outlook
from labelwise.report.results import RoundResult
from labelwise.report.run_curve import chart
from labelwise.study import stop
from labelwise.types import BECAUSE, Cost, Query

MOST_ASKED = 200
Point = tuple[int, float | None, float, float, float, float]
"""A round: its number, quality, and what was spent until then: boxes, queries, images, seconds."""


def run_state(context: Context) -> dict[str, Any]:
    """The state of the run ("open", "busy" with a stage, "done"), and the counts of the round that is asking."""
    ledger, run = context.project.ledger, context.run
    stages = ledger.stages()
    asking = [row["round"] for row in stages if row["stage"] == "ask" and row["state"] == "started"]
    if not asking or run.ask.who != "people":
        evaluated = sum(row["stage"] == "evaluate" and row["state"] == "done" for row in stages)
        busy = [row for row in stages if row["state"] == "started"]
        state = "done" if evaluated >= run.rounds or stop.kept(context) is not None else "busy"
        return {
            "state": state,
            "stage": busy[-1]["stage"] if busy else "",
            "round": _last(stages),
            "rounds": run.rounds,
        }
    round_number = max(asking)
    unit = run.budget.unit if round_number else "images"
    amount = float(run.budget.per_round[round_number - 1]) if round_number else float(context.first_images)
    found = {"state": "open", "round": round_number, "rounds": run.rounds, "unit": unit, "budget": amount}
    counted = progress.counts(ledger, round_number, run.ask.overlap)
    return found | {"spent": counted.pop("cost")[unit]} | counted


def _last(stages: list[dict[str, Any]]) -> int:
    return max((row["round"] for row in stages), default=0)


def overview(context: Context) -> dict[str, Any]:
    """The learning curve so far, the work of every person, and the open queries with the parts of their scores."""
    ledger, run = context.project.ledger, context.run
    stages = ledger.stages()
    rounds = sorted({row["round"] for row in stages})
    curve, spent = [], ledger.cost_by_round()
    total, known = Cost(), {name.casefold() for name in context.pool.classes}
    for round_number in rounds:
        cost = spent.get(round_number, Cost())
        total = Cost(*(getattr(total, k) + getattr(cost, k) for k in ("boxes", "queries", "images", "seconds")))
        quality = Round(context, round_number).metrics.get("accuracy" if run.classifies else "ap50")
        sums = {"boxes": total.boxes, "queries": total.queries, "images": total.images, "seconds": total.seconds}
        curve.append({"round": round_number, "quality": quality, **sums})
    stopped = stop.kept(context)
    asking = [row["round"] for row in stages if row["stage"] == "ask" and row["state"] == "started"]
    asked = progress.asked_now(ledger, max(asking), MOST_ASKED) if asking else []
    standing = run_state(context)
    return {
        "standing": standing,
        "metric": run.metric,
        "curve": curve,
        "forecast": _forecast(tuple(tuple(one.values()) for one in curve), run.metric, run.budget.unit)
        | {"stopped": None if stopped is None else stopped.text},
        "work": progress.by_person(ledger),
        "suggested": actions(ledger),
        "overlap": run.ask.overlap,
        "agreement": agreement(ledger),
        "quality": consensus.quality(context.project, context.pool, one_class=run.classifies),
        "missing": [row for row in progress.missing_classes(ledger) if row["name"].casefold() not in known],
        "asked": [_asked(context, query, holder) for query, holder in asked],
        "pace": pace.of_people(ledger),
        "left": hours_left(context, standing, total),
    }


def _asked(context: Context, query: Query, holder: str | None) -> dict[str, Any]:
    """An open query for the owner: what it shows, why it is asked, and in whose hands it is."""
    pool, reason = context.pool, dict(query.reason)
    number = pool.number_of.get(query.image)
    return {
        "rank": query.rank,
        "image": query.image,
        "number": -1 if number is None else number,
        "size": (1, 1) if number is None else (int(pool.width_px[number]), int(pool.height_px[number])),
        "unit": query.unit,
        "box": query.box,
        "label": query.label,
        "score": query.score,
        "because": reason.pop(BECAUSE, ""),
        "reason": reason,
        "holder": holder,
    }


def hours_left(context: Context, standing: Mapping[str, Any], spent: Cost) -> dict[str, float | None]:
    """Hours of people's time to the end of the `round` that asks and of `all` rounds, at the cost so far; None where
    nothing was spent yet that tells, or nobody is asked.
    """
    run, unit = context.run, context.run.budget.unit
    if standing["state"] != "open":
        return {"round": None, "all": None}

    def hours(amount: float, of: str) -> float | None:
        so_far = float(getattr(spent, of))
        return amount / 3600 if of == "seconds" else amount * spent.seconds / so_far / 3600 if so_far else None

    here = hours(max(0.0, standing["budget"] - standing["spent"]), standing["unit"])
    later = hours(float(sum(run.budget.per_round[standing["round"] :])), unit)
    return {"round": here, "all": None if here is None or later is None else here + later}


@lru_cache(maxsize=4)
def _forecast(curve: tuple[Point, ...], metric: str, unit: str) -> dict[str, Any]:
    """What more labels would buy in sentences, and the curve with the forecast as the report draws it; made once for
    what is measured. The page's policy takes no `style` in a text: its script sets them.
    """
    rounds = [
        RoundResult(number, int(boxes), int(queries), int(images), seconds, quality=quality)
        for number, quality, boxes, queries, images, seconds in curve
    ]
    if not rounds:
        return {"lines": [], "chart": None}
    found = outlook.of_rounds(rounds, metric, unit)
    drawing = chart(rounds, metric, unit, found.steps)
    return {"lines": list(found.sentences), "chart": drawing and drawing.replace(' style="', ' data-style="')}
