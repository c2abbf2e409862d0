"""The stage select: the scored candidates become a ranking."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labelwise import catalog, files, units
from labelwise.config.choice import Step
from labelwise.project.round import Round
from labelwise.stages import first_images, mixed_questions, selector_inputs, why
from labelwise.stages.selector_inputs import Makers
from labelwise.types import BECAUSE

RANKED = 20_000
"""Most candidates that a selector ranks whose first picks are the same for every budget; the rest follow by score."""

SPARE = 4
"""How many expected budgets are ranked by a selector whose picks depend on its budget: the expectation may be low."""


def select(now: Round) -> None:
    """Ranks the candidates; how far down the ranking is asked, the budget decides while answers come in.

    Every selector of the chain ranks what the one before it left, by the scores that it gave. One whose first picks are
    the same for every budget (its `PREFIX_STABLE`) ranks all; any other is given the number of queries that will
    probably spend the budget, then what is left, and so on. What was not ranked follows by falling score. Equal scores
    are taken in a random order.
    """
    run, seed = now.run, now.run.seed
    rng = np.random.default_rng([seed, now.number, 1])
    if now.number == 0:
        image = first_images.drawn(now)
        table = {"row": np.full(len(image), -1), "image": image, "label": np.full(len(image), -1)}
        said = np.full(len(image), why.first(now), object)
        files.write_table(now.folder.picks, {**table, "score": np.zeros(len(image)), "because": said})
        return
    scored = now.scores
    n = scored.n_rows
    fixed = run.budget.unit in ("queries", "images")  # then the number of queries is known beforehand
    expected = now.budget if fixed else now.budget / _yield_per_query(now)
    if now.live is not None and run.ask.live_answers is not None:  # the next ranking comes so soon
        expected = min(expected, run.ask.live_answers)
    rows = np.random.default_rng([seed, now.number, 5]).permutation(n)  # equal scores: not in the order of the pool,
    scores = scored["score"][rows]  # which often is class by class
    reasons: dict[str, np.ndarray] = {}
    makers = selector_inputs.makers(now, int(np.ceil(expected)))
    spare = 1 if fixed else SPARE
    for step in run.query.select:
        keep = None if step.keep is None else int(np.ceil(step.keep * expected))
        rows, scores, reasons = _rank(step, rows, scores, makers, int(np.ceil(expected)), keep, spare, rng)
    del scores
    left = np.ones(n, np.bool_)
    left[rows] = False
    rest = np.flatnonzero(left)
    ranking = np.concatenate([rows, rest[np.argsort(-scored["score"][rest], kind="stable")]])
    told = min(len(rows), why.how_many(expected))
    sentences = why.sentences(now, rows[:told], {k: v[:told] for k, v in reasons.items()}, makers)
    del makers, rest, left
    _write(now, ranking, {f"why_{k}": v for k, v in reasons.items()} | {BECAUSE: np.array(sentences, object)})
    now.info["ranked"] = len(rows)


def _write(now: Round, ranking: np.ndarray, first: Mapping[str, np.ndarray]) -> None:
    """The ranking: rows of the scores, and what is told of the first of them."""
    names = [name for name in now.scores if not name.startswith("mix_")]
    if now.run.ask.again or now.run.ask.review_share:
        new = {name: now.scores[name][ranking] for name in names}
        new |= {name: _places(column, slice(0, len(ranking))) for name, column in first.items()}
        files.write_table(now.folder.picks, mixed_questions.mix(now, new))
        return
    with files.writing(now.folder.picks) as writer:
        for part, columns in now.scores.in_order(names, ranking):
            writer.append(columns | {name: _places(column, part) for name, column in first.items()})


def _places(first: np.ndarray, part: slice) -> np.ndarray:
    """Some places of a column of which only the first are told; the others are empty."""
    text = first.dtype == object
    found = np.full(part.stop - part.start, "" if text else np.nan, object if text else np.float64)
    here = first[part]
    found[: len(here)] = here
    return found


def _rank(
    step: Step,
    rows: np.ndarray,
    scores: np.ndarray,
    makers: Makers,
    expected: int,
    keep: int | None,
    spare: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The first `keep` of the rows in the order of one selector (None: as many as may be asked, and some to spare), the
    scores that it gave, and its reasons.
    """
    method = catalog.find("select", step.name)
    stable = method.constant("PREFIX_STABLE")
    asked = max(RANKED, 10 * expected) if stable and spare > 1 else max(spare * expected, 1)
    most = min(len(rows), asked if keep is None else keep)
    chunk = most if stable else min(max(expected, 1), most)
    picked, reasons = [np.zeros(0, np.int64)], []
    left = np.arange(len(rows))
    while (more := most - sum(map(len, picked))) > 0 and len(left):
        chosen, value = (rows, scores) if len(left) == len(rows) else (rows[left], scores[left])
        menu = {name: makers[name](chosen) for name in method.inputs if name in makers}
        given = menu | {"scores": value, "budget": min(chunk, more), "rng": rng}
        rows_picked, parts = method.call(given, step.settings, explain=True)
        picked.append(left[rows_picked])
        reasons.append(parts)
        if more > len(rows_picked):
            left = np.delete(left, rows_picked)
    order = np.concatenate(picked)
    if not reasons:  # no candidate at all
        return rows[order], scores[order], {"score": scores[order]}
    joined = {name: np.concatenate([parts[name] for parts in reasons]) for name in reasons[0]}
    return rows[order], joined["score"], joined


def _yield_per_query(now: Round) -> float:
    """What one query is expected to bring in the budget's unit: what queries of its kind have brought so far.

    Nothing is known in the first round of boxes or regions; one box (or what an image brought) is assumed there, and
    one of whatever it is where no image was asked about.
    """
    unit = now.budget_unit
    by_round = now.ledger.cost_by_round(now.context.seen)
    spent = [
        cost for r, cost in by_round.items() if 0 < r < now.number or (r == 0 and now.unit_names == (units.FIRST,))
    ]
    if not spent and (unit == "boxes" or 0 not in by_round):
        return 1.0
    spent = spent or [by_round[0]]
    queries = sum(cost.queries for cost in spent)
    return float(max(sum(getattr(cost, unit) for cost in spent) / max(queries, 1), 0.05))
