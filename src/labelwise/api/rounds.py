"""What `Project.ask` does: predictions into a round's folder, the stages score and select over them, queries opened;
and what `Project.finish` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from labelwise import config, files, loop
from labelwise.config import Run
from labelwise.project import run_log
from labelwise.project.context import Context, askable, clips_of
from labelwise.project.round import Round
from labelwise.queue.leases import Leases
from labelwise.stages import label, predict, ranking, score, select
from labelwise.tracks.neighbours import around, reach
from labelwise.types import Detections, LabelwiseError, Query


def current(context: Context) -> int:
    """The first round that is not finished."""
    ledger = context.project.ledger
    return next((r for r in range(context.run.rounds) if ledger.stage_done(r, "evaluate") is None), context.run.rounds)


def has_asked(context: Context, round_number: int) -> bool:
    """Whether the queries of a round are in the ledger."""
    return any((s["round"], s["stage"]) == (round_number, "ask") for s in context.project.ledger.stages())


def keep(context: Context, run: Run) -> None:
    """Writes the run to run.toml."""
    files.write_text(context.project.config_path, config.dump(run))
    context.run = run


def first_with_a_model(context: Context) -> int:
    """The current round; round 0, which has no model, is over when predictions come and nothing was asked in it."""
    if current(context) == 0:
        if has_asked(context, 0):
            raise LabelwiseError("round 0 asked for images at random and is not finished; call project.finish()")
        for name in loop.STAGES:
            context.project.ledger.mark_done(0, name, {}, 0.0)
    return current(context)


def needed(context: Context, run: Run) -> Bool[np.ndarray, " images"]:
    """The frames that tracks run through: those around the ones that may be asked and are not wholly labelled."""
    pool = context.pool
    still_open = pool.available & askable(pool, run) & ~context.known().covered(pool)
    wanted: np.ndarray = pool.available & around(clips_of(pool).video, still_open, reach(run.tracks.frames))
    return wanted


def ask_at_random(context: Context, budget: int, run: Run) -> list[Query]:
    """Opens image queries drawn at random, in round 0."""
    round_number = current(context)
    if round_number:
        raise LabelwiseError(f"round {round_number}: give predictions; only the first round asks without any")
    budget = min(budget, int(askable(context.pool, run).sum()))
    run = run.model_copy(update={"budget": run.budget.model_copy(update={"start_images": budget})})
    if has_asked(context, 0):
        return still_open(context, 0, run)
    keep(context, run)
    context.first_images = budget
    _stages(context, 0, ("predict", "score", "select"))
    return _open_queries(context, 0)


def ask(
    context: Context, round_number: int, run: Run, table: Detections, predicted: Bool[np.ndarray, " images"]
) -> list[Query]:
    """Opens the queries that the run chooses by these predictions, which are of the images `predicted`."""
    keep(context, run)
    if run.needs_tracks:
        images = np.flatnonzero(predicted & context.pool.available)
        files.write_table(Round(context, round_number).folder.predicted, {"image": images})
    scales = run.query.scales if run.query.any("SCALES") else ()
    for scale in dict.fromkeys((1.0, *scales)):
        files.write_detections(Round(context, round_number).folder.predictions(scale), table)
    context.project.ledger.mark_done(round_number, "predict", {}, 0.0)
    _stages(context, round_number, ("score", "select"))
    return _open_queries(context, round_number)


def still_open(context: Context, round_number: int, run: Run) -> list[Query]:
    """The open queries of a round that has asked.

    Raises:
        LabelwiseError: it has asked something else than `run` says.
    """
    ledger, before = context.project.ledger, context.run
    if (run.query, run.budget, run.tracks) != (before.query, before.budget, before.tracks):
        raise LabelwiseError(
            f"round {round_number} has asked already, with other settings ({len(ledger.queries(round_number))} "
            f"{', '.join(before.query.asked)} queries by {before.query.score.name}); project.open_queries() gives "
            "those that are still open, project.finish() ends the round"
        )
    return ledger.open_queries(round_number)


def finish(context: Context, metrics: Mapping[str, Any] | None) -> None:
    """Ends the current round, with the metrics of the model that was trained.

    Raises:
        LabelwiseError: a round that has asked nothing yet.
    """
    round_number, ledger = current(context), context.project.ledger
    if round_number and not has_asked(context, round_number):
        raise LabelwiseError(f"round {round_number} has asked nothing yet; call project.ask(predictions, budget=...)")
    now = Round(context, round_number)
    Leases(ledger).close_round(round_number)
    if metrics is not None:
        files.write_json(now.folder.metrics, dict(metrics))
    if not now.folder.targets.exists():  # the report shows them; nobody asked for pseudo labels
        files.write_targets(now.folder.targets, label.targets(now, None))
    for name in loop.STAGES:
        if ledger.stage_done(round_number, name) is None:
            ledger.mark_done(round_number, name, {}, 0.0)
    run_log.follow(context, strict=True)


def _stages(context: Context, round_number: int, names: Sequence[str]) -> None:
    """Runs stages anew: what an interrupted `ask` left is of other predictions."""
    work = {"predict": predict.predict, "score": score.score, "select": select.select}
    for name in names:
        context.project.ledger.mark_started(round_number, name)
        with context.project.stage(round_number, name) as stage:
            work[name](Round(context, round_number, stage.info))


def _open_queries(context: Context, round_number: int) -> list[Query]:
    """Puts the first picks into the ledger; of regions those that do not lie in one before them."""
    now = Round(context, round_number)
    covered = ranking.covered_rectangles(now, now.known)
    most = int(now.budget)
    step = 1 if now.overlaps else most
    found: list[Query] = []
    while len(found) < most:
        rank = found[-1].rank + 1 if found else 0
        more = ranking.next_queries(now, rank, min(step, most - len(found)), covered)
        if not more:
            break
        found += more
        for query in more:
            ranking.cover(now, covered, query)
    now.ledger.add_queries(round_number, found)
    now.ledger.mark_started(round_number, "ask")  # from here on `labelwise serve` hands them out
    return now.ledger.open_queries(round_number)
