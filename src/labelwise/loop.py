"""THE FLOW ON ONE PAGE.

    pool -> predict -> score -> select -> ask -> label -> train -> evaluate -> report
      ^                                                      |
      +------------------- next round <----------------------+

A round goes through these stages, in this order; each is the function of its name in the file of its name in `stages`,
loaded when it runs:

    predict   the only place where a model meets the pool; its outputs are stored
    score     arrays -> how much each candidate is worth labelling
    select    arrays -> a ranking that fits the budget
    ask       the oracle, or people, answer until the budget of the round is spent
    label     ledger + predictions -> boxes with weights, by the label policy
    train     weighted losses
    evaluate  AP or accuracy on the test images

A stage is given the round (`project.round.Round`): what is known, asked, scored, picked. It writes its result under a
temporary name, renames it and is marked done in one transaction: a run that was killed at any instant continues with
the first stage that is not done. Round 0 has no model yet: it asks for whole images, drawn at random (or for none,
where labels came with the images). With `budget.stop` the run ends before a round that is forecast to bring too little.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from labelwise.errors import LabelwiseError
from labelwise.files.round_files import STAGES as STAGES
from labelwise.ledger import records, safety
from labelwise.project import availability, changes, given, glance, repair, run_log
from labelwise.project.context import Context
from labelwise.study import stop


def run(context: Context) -> Iterator[int]:
    """Runs all rounds that are not done yet, giving the number of each one that ends here.

    Raises:
        LabelwiseError: another process runs this project, or a stage failed (everything done so far is kept).
    """
    _refuse_own_detector(context)
    with context.project.lock():
        resume(context)
        for round_number in range(context.run.rounds):
            if stop.due(context, round_number):
                return
            fresh = [run_stage(context, round_number, name) for name in STAGES]
            if any(fresh):
                yield round_number


def begin(context: Context) -> None:
    """Enters the pool and the labels that came with it into the ledger; tells what was left out and which images are
    unavailable; refuses a class list that changed.
    """
    if not context.pool.classes:
        raise LabelwiseError(
            f"no classes are known, so nothing can be asked: add each with `labelwise add-class NAME --project "
            f"{context.project.folder}`, or write classes = [...] below [data] in {context.project.config_path}"
        )
    context.enter()
    availability.look(context)
    glance.remember(context)
    two_words = context.run.query.two_words
    for line in [*given.messages(context.pool), *availability.messages(context), *([two_words] if two_words else [])]:
        context.tell(line)


def resume(context: Context) -> None:
    """`begin`; tells which settings have changed, and which stages are done again: their files are lost or damaged;
    hands loggers what they lack.
    """
    begin(context)
    changes.tell(context)
    repair.look(context)
    run_log.follow(context, strict=True)


def run_stage(context: Context, round_number: int, name: str) -> bool:
    """Runs one stage of a round unless it is done already; tells whether it ran."""
    with context.project.stage(round_number, name) as stage:
        if stage.done:
            return False
        context.see_classes()
        availability.see(context)
        before = records.of_stage(context.project.ledger, round_number, name)
        view = repair.view(context, round_number, name, before, stage)
        getattr(importlib.import_module(f"labelwise.stages.{name}"), name)(view)
        repair.follow(context, round_number, name, before, stage)
    if name == "ask":
        safety.make_copy(context.project.ledger, context.project.folder, round_number)
    run_log.follow(context)
    return True


def next_stage(context: Context) -> tuple[int, str] | None:
    """The first stage that is not done: (round, name), or None when the run is complete."""
    for round_number in range(context.run.rounds):
        for name in STAGES:
            if context.project.ledger.stage_done(round_number, name) is None:
                return round_number, name
    return None


def run_next(context: Context, name: str) -> int:
    """Runs the stage `name` of the current round by hand (`labelwise score`, ...); returns the round.

    Raises:
        LabelwiseError: it is another stage's turn, or everything is done.
    """
    _refuse_own_detector(context)
    with context.project.lock():
        resume(context)
        due = next_stage(context)
        if due is None:
            raise LabelwiseError("every round of this run is done; add an entry to budget.per_round for another one")
        if due[1] != name:
            raise LabelwiseError(
                f"round {due[0]}: it is the turn of {due[1]!r}; run `labelwise {due[1]}` before {name!r}"
            )
        stop.refuse(context, due[0])
        run_stage(context, due[0], name)
        return due[0]


def redo(context: Context, round_number: int, name: str) -> None:
    """Does a stage again, and what depends on it where it has written other files than before (`labelwise redo`)."""
    _refuse_own_detector(context)
    with context.project.lock():
        resume(context)
        repair.redo(context, round_number, name)
        while (due := repair.due(context)) is not None:
            run_stage(context, *due)


def _refuse_own_detector(context: Context) -> None:
    if context.run.own_detector:
        raise LabelwiseError(
            f"{context.project.folder} is the project of your own detector, which this command cannot train: ask and "
            "take targets in Python, labelwise.open(...).ask(...) and .targets(); people answer by `labelwise serve`"
        )
