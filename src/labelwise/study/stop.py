"""Whether a run ends before its next round: the forecast of its own curve says that the round is not worth its cost.

Looked at between rounds only, so that a round that has begun is finished. Nothing is final: what was decided is kept
beside the labels, and looked at anew whenever the run is started, so that another `budget.stop` goes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float64

from labelwise.errors import LabelwiseError
from labelwise.ledger import records
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types import Cost

KEY = "stopped"
"""The name under which the ledger keeps that a run has stopped."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Before which round a run stopped, what its budget would buy (points), how probably that is too little."""

    round: int
    gain: float
    gain_below: float
    probability: float

    @property
    def text(self) -> str:
        """What to tell, and how to go on."""
        sure = f"less than {self.gain_below:g} with a probability of {100 * self.probability:.1f} %"
        return (
            f"Stopped before round {self.round}: its budget should bring {self.gain:+.1f} points, {sure} "
            "(budget.stop). To go on, change or remove budget.stop in run.toml and run again"
        )


def curve(context: Context, until: int) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Cost so far, in the unit of the budget, and measured quality of the rounds before `until`; of those that cost
    something and were measured.
    """
    run, spent = context.run, context.project.ledger.cost_by_round()
    points, total = list[tuple[float, float]](), 0.0
    for number in range(until):
        more = float(getattr(spent.get(number, Cost()), run.budget.unit))
        quality = Round(context, number).metrics.get("accuracy" if run.classifies else "ap50")
        total += more
        if more > 0 and quality is not None:
            points.append((total, float(quality)))
    found = np.array(points, np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def find(context: Context, round_number: int) -> Stopped | None:
    """Whether the run ends before this round, which has not begun; None: it goes on, or there is too little to tell."""
    rule = context.run.budget.stop
    if rule is None or not 0 < round_number < context.run.rounds:
        return None
    from labelwise.report import forecast  # SciPy takes a quarter of a second

    more = float(context.run.budget.per_round[round_number - 1])
    cost, quality = curve(context, round_number)
    if more <= 0 or len(cost) < forecast.ENOUGH or more > (forecast.FURTHEST - 1) * cost[-1]:
        return None
    gain = forecast.fitted(cost, quality).trend(cost[-1] + more)
    probability = gain.below(rule.gain_below / 100)
    if probability < rule.confidence:
        return None
    return Stopped(round_number, 100 * gain.quantile(0.5), rule.gain_below, probability)


def kept(context: Context) -> Stopped | None:
    """What the last start of this run has decided; None: it goes on."""
    found = records.kept(context.project.ledger, KEY)
    return Stopped(**found) if found and context.run.budget.stop is not None else None


def due(context: Context, round_number: int) -> bool:
    """Whether the run ends here; that is kept, and told. A round that has begun is finished."""
    ledger = context.project.ledger
    begun = any(row["round"] == round_number for row in ledger.stages())
    found = None if begun else find(context, round_number)
    if (None if found is None else asdict(found)) != records.kept(ledger, KEY):
        with ledger.write() as connection:
            records.keep(connection, KEY, None if found is None else asdict(found))
    if found is not None:
        context.tell(found.text)
    return found is not None


def refuse(context: Context, round_number: int) -> None:
    """Refuses a stage by hand where the run ends before its round.

    Raises:
        LabelwiseError: it does; `due` has told nothing yet.
    """
    begun = any(row["round"] == round_number for row in context.project.ledger.stages())
    if not begun and (found := find(context, round_number)) is not None:
        raise LabelwiseError(found.text)
