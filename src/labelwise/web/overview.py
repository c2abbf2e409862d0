"""How a project stands: for everyone the round's progress, for the owner people, curve, and what is asked and why."""

from __future__ import annotations

from typing import Any

from labelwise.ledger import progress
from labelwise.ledger.agreement import agreement
from labelwise.ledger.suggestions import actions
from labelwise.project import consensus
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.report import outlook
from labelwise.report.results import RoundResult
from labelwise.study import stop
from labelwise.types import Cost

MOST_ASKED = 200


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
    return {
        "standing": run_state(context),
        "metric": run.metric,
        "curve": curve,
        "forecast": _forecast(context, curve) | {"stopped": None if stopped is None else stopped.text},
        "work": progress.by_person(ledger),
        "suggested": actions(ledger),
        "overlap": run.ask.overlap,
        "agreement": agreement(ledger),
        "quality": consensus.quality(context.project, context.pool, one_class=run.classifies),
        "missing": [row for row in progress.missing_classes(ledger) if row["name"].casefold() not in known],
        "asked": [
            {
                "rank": query.rank,
                "image": query.image,
                "unit": query.unit,
                "label": query.label,
                "score": query.score,
                "reason": dict(query.reason),
                "holder": holder,
            }
            for query, holder in asked
        ],
    }


def _forecast(context: Context, curve: list[dict[str, Any]]) -> dict[str, Any]:
    """What more labels would buy: sentences, and for each step ahead the boxes and the quality (middle, 80 % range)."""
    rounds = [RoundResult(**{f"cost_{k}" if k in _COSTS else k: v for k, v in one.items()}) for one in curve]
    if not rounds:
        return {"lines": [], "points": []}
    found = outlook.of_rounds(rounds, context.run.metric, context.run.budget.unit)
    now = max((one.cost_boxes for one in rounds if one.quality is not None), default=0)
    points = [{"boxes": now + one.boxes, "low": one.low, "value": one.value, "high": one.high} for one in found.steps]
    return {"lines": list(found.sentences), "points": points}


_COSTS = ("boxes", "queries", "images", "seconds")
