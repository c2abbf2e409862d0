"""The stage select: the scored candidates become a ranking."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labelwise import catalog, files, units
from labelwise.config.choice import Step
from labelwise.config.inputs import INPUTS
from labelwise.files import table_files
from labelwise.project.round import Round
from labelwise.stages import first_images, mixed_questions, selector_inputs, why
from labelwise.stages.selector_inputs import Makers
from labelwise.types import BECAUSE

RANKED = 20_000
"""Most candidates that a selector ranks whose first picks are the same for every budget; the rest follow by score."""

SPARE = 4
"""How many expected budgets are ranked by a selector whose picks depend on its budget: the expectation may be low."""

Ranked = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]
"""Rows of the scores in the order of a selector, the scores that it gave them, and its reasons."""


def select(now: Round) -> None:
    """Ranks the candidates; how far down the ranking is asked, the budget decides while answers come in.

    Every selector of the chain ranks what the one before it left, by the scores that it gave. One whose first picks are
    the same for every budget (its `PREFIX_STABLE`) ranks all; any other is given the number of queries that will
    probably spend the budget, then what is left, and so on. The first is given part after part where that is the same
    (its `IN_PARTS`). What was not ranked follows by falling score. Equal scores are taken in a random order.
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
    fixed = run.budget.unit in ("queries", "images")  # then the number of queries is known beforehand
    expected = now.budget if fixed else now.budget / _yield_per_query(now)
    if now.live is not None and run.ask.live_answers is not None:  # the next ranking comes so soon
        expected = min(expected, run.ask.live_answers)
    rows, scores, reasons = _shuffled(now), np.zeros(0), dict[str, np.ndarray]()
    makers = selector_inputs.makers(now, int(np.ceil(expected)))
    for k, step in enumerate(run.query.select):
        most = _most(step, len(rows), expected, spare=1 if fixed else SPARE)
        if k == 0 and len(rows) and catalog.find("select", step.name).constant("IN_PARTS", default=False):
            place = np.empty_like(rows)
            place[rows] = np.arange(len(rows), dtype=rows.dtype)
            del rows
            rows, scores, reasons = _rank_in_parts(step, scored, place, makers, most)
            del place
            continue
        if k == 0:
            rows = rows.astype(np.int64)
            scores = scored.take(rows, "score")[0]
        rows, scores, reasons = _rank(step, rows, scores, makers, int(np.ceil(expected)), most, rng)
    told = min(len(rows), why.how_many(expected))
    sentences = why.sentences(now, rows[:told], {k: v[:told] for k, v in reasons.items()}, makers)
    del makers
    _write(now, rows, {f"why_{k}": v for k, v in reasons.items()} | {BECAUSE: np.array(sentences, object)})
    now.info["ranked"] = len(rows)


def _shuffled(now: Round) -> np.ndarray:
    """The rows of the scores in a random order, in which equal ones are taken: the order of the pool often is class by
    class. The same for either type of number.
    """
    n = now.scores.n_rows
    rows = np.arange(n, dtype=np.int32 if n <= np.iinfo(np.int32).max else np.int64)
    return np.random.default_rng([now.run.seed, now.number, 5]).permutation(rows)


def _write(now: Round, first: np.ndarray, told: Mapping[str, np.ndarray]) -> None:
    """The ranking: the first rows of the scores, all others by falling score, and what is told of the first of them."""
    names = [name for name in now.scores if not name.startswith("mix_")]
    parts = files.falling(now.scores, "score", names, first)
    if now.run.ask.again or now.run.ask.review_share:
        every = list(parts)
        new = {name: np.concatenate([part[name] for part in every]) for name in names}
        new |= {name: _places(column, slice(0, now.scores.n_rows)) for name, column in told.items()}
        files.write_table(now.folder.picks, mixed_questions.mix(now, new))
        return
    with files.writing(now.folder.picks) as writer:
        start = 0
        for part in parts:
            stop = start + len(part["score"])
            writer.append(part | {name: _places(column, slice(start, stop)) for name, column in told.items()})
            start = stop


def _places(first: np.ndarray, part: slice) -> np.ndarray:
    """Some places of a column of which only the first are told; the others are empty."""
    text = first.dtype == object
    found = np.full(part.stop - part.start, "" if text else np.nan, object if text else np.float64)
    here = first[part]
    found[: len(here)] = here
    return found


def _most(step: Step, n: int, expected: float, spare: int) -> int:
    """How many of `n` rows a selector ranks: those for the next one, or as many as may be asked and some to spare."""
    if step.keep is not None:
        return min(n, int(np.ceil(step.keep * expected)))
    many = int(np.ceil(expected))
    stable = catalog.find("select", step.name).constant("PREFIX_STABLE")
    return min(n, max(RANKED, 10 * many) if stable and spare > 1 else max(spare * many, 1))


def _rank_in_parts(step: Step, scored: files.TableFile, place: np.ndarray, makers: Makers, most: int) -> Ranked:
    """`_rank` of all candidates by a selector whose picks among all are those among the picks of their parts. In memory
    are a part, the best of those before it, and the `place` of every row in the random order.
    """
    method = catalog.find("select", step.name)
    made: Makers = {**makers, "scores": lambda rows: scored.take(rows, "score")[0]}
    rows, kept, reasons = np.zeros(0, np.int64), dict[str, np.ndarray](), dict[str, np.ndarray]()
    size = max(table_files.ROWS, 2 * most)
    for start in range(0, len(place), size):
        new = np.arange(start, min(start + size, len(place)))
        menu = {name: made[name](new) for name in method.inputs if name in made}
        of_rows = [name for name in menu if INPUTS["select"][name].axis == "candidates"]
        rows = np.concatenate([rows, new])
        order = np.argsort(place[rows])
        menu |= {name: np.concatenate([kept.get(name, menu[name][:0]), menu[name]])[order] for name in of_rows}
        picked, reasons = method.call({**menu, "budget": most}, step.settings, explain=True)
        rows, kept = rows[order[picked]], {name: menu[name][picked] for name in of_rows}
    return rows, reasons["score"], reasons


def _rank(
    step: Step,
    rows: np.ndarray,
    scores: np.ndarray,
    makers: Makers,
    expected: int,
    most: int,
    rng: np.random.Generator,
) -> Ranked:
    """The first `most` of the rows in the order of one selector."""
    method = catalog.find("select", step.name)
    chunk = most if method.constant("PREFIX_STABLE") else min(max(expected, 1), most)
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
