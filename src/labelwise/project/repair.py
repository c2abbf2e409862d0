"""What is lost or damaged is done again: by itself, or by `labelwise redo`.

A stage that is done again sees the ledger as it was when it was first done, with the settings of then, so that on one
machine it writes the same files, bit for bit. Only where they are other files, what depends on them follows. Answers
are never asked again: of a round that has asked, score and select are done again for the record alone.
"""

from __future__ import annotations

import json
from typing import Any

from labelwise import catalog, config
from labelwise.config import Run
from labelwise.errors import LabelwiseError
from labelwise.files import round_files
from labelwise.files.round_files import STAGES
from labelwise.ledger import records, safety
from labelwise.ledger.ledger import now
from labelwise.project.context import Context
from labelwise.project.project_folder import Project, Stage
from labelwise.project.round import Round
from labelwise.types.disk import remove_leftovers

FOLLOWS = {
    "predict": ((0, "score"), (0, "label")),
    "score": ((0, "select"),),
    "select": (),
    "ask": (),
    "label": ((0, "train"),),
    "train": ((0, "evaluate"), (1, "predict"), (1, "score")),
    "evaluate": (),
}
"""What reads the files of a stage: how many rounds later, and which."""

CHECKED_BYTES = 2e9
"""How much is read at every start to find damage, the newest rounds first; of what is beyond, sizes are compared."""

BEFORE_ANSWERS = ("predict", "score", "select")
"""Stages that see the answers of the rounds before theirs alone."""


def look(context: Context) -> None:
    """Refuses a damaged ledger. A stage that is done with lost or damaged files is due again; that is told."""
    remove_leftovers(context.project.folder, below=False)
    safety.compare(context.project.ledger, context.run.rounds)
    left, found = CHECKED_BYTES, []
    done = {(row["round"], row["stage"]) for row in context.project.ledger.stages() if row["state"] == "done"}
    for round_number in reversed(range(context.run.rounds)):
        for name in STAGES:
            if (round_number, name) in done and name != "ask":
                wrong, read = damage(context.project, round_number, name, left)
                left -= read
                found += [(round_number, name, wrong)] if wrong else []
    for round_number, name, wrong in sorted(found, key=lambda one: (one[0], STAGES.index(one[1]))):
        first, many = next(iter(wrong.items())), len(wrong) - 1
        more = f", and {many} more" if many else ""
        context.tell(f"round {round_number} {name}: {' '.join(first)}{more}; it is done again")
        _due_again(context, round_number, name)


def damage(project: Project, round_number: int, name: str, most_bytes: float) -> tuple[dict[str, str], int]:
    """What is wrong with the files of a stage that is done, by name, and how many bytes were read."""
    expected = records.of_stage(project.ledger, round_number, name).get("files")
    if expected is None and round_number == 0 and name in ("predict", "score"):
        return {}, 0
    sums = None if expected is None else {file: (size, crc) for file, (size, crc) in expected.items()}
    return round_files.damage(project.round_folder(round_number), name, sums, most_bytes)


def _due_again(context: Context, round_number: int, name: str, *, afresh: bool = False) -> None:
    """`afresh`: with what is known of these rounds now, and with the settings of now."""
    ledger = context.project.ledger
    record = records.of_stage(ledger, round_number, name) or {"files": None}
    if afresh:
        record = {"files": record["files"], "afresh": True}
    with ledger.write() as connection:
        records.keep(connection, records.key_of(round_number, name), record)
    round_files.remove(context.project.round_folder(round_number), name)
    ledger.mark_started(round_number, name)


def due(context: Context) -> tuple[int, str] | None:
    """The first stage that was done once and is to be done again, or None."""
    started = {(row["round"], row["stage"]) for row in context.project.ledger.stages() if row["state"] == "started"}
    for round_number, name in sorted(started, key=lambda one: (one[0], STAGES.index(one[1]))):
        if name != "ask" and "files" in records.of_stage(context.project.ledger, round_number, name):
            return round_number, name
    return None


def redo(context: Context, round_number: int, name: str) -> None:
    """Makes a stage due again, by the wish of the user: with what is known of its rounds now, and the settings of now.

    Raises:
        LabelwiseError: no such stage, or it has not been done; answers are not asked for again.
    """
    if name not in STAGES:
        raise LabelwiseError(catalog.unknown("stage", name, list(STAGES)))
    if name == "ask":
        raise LabelwiseError(
            f"round {round_number}: what was asked is not asked again, every answer is kept. Correct answers on the "
            f"page (`labelwise serve`), then `labelwise redo {round_number} label` makes the targets anew"
        )
    if context.project.ledger.stage_done(round_number, name) is None:
        if "files" in records.of_stage(context.project.ledger, round_number, name):
            return  # lost or damaged: `look` has made it due, as it was then
        raise LabelwiseError(
            f"round {round_number}: {name} has not been done yet; `labelwise run` does it when it is its turn"
        )
    _due_again(context, round_number, name, afresh=True)


# ------------------------------------------------------------------------------------------------- as it was, and after


def view(context: Context, round_number: int, name: str, before: dict[str, Any], stage: Stage) -> Round:
    """The round as a stage sees it: what is known and set now, or, where it is done again, what was then."""
    ledger = context.project.ledger
    until = round_number - 1 if name in BEFORE_ANSWERS else round_number
    stage.record["seen"] = before.get("seen") or records.seen_now(ledger, until, now())
    stage.record["settings"] = before.get("settings") or records.keep_settings(ledger, kept_settings(context.run))
    if name == "ask":
        return Round(context, round_number, stage.info)
    seen = records.instant_of(stage.record)
    if name == "label" and seen is not None and safety.is_file(ledger):
        stage.record["rows"] = safety.row_sums(ledger, seen)
    run = context.run if "settings" not in before else _settings_of_then(context, before["settings"])
    return Round(context.at(seen, run), round_number, stage.info)


def kept_settings(run: Run) -> dict[str, Any]:
    """The settings as they are kept: all but the addresses of the ledger and of loggers, which may hold a password."""
    return dict(json.loads(run.model_dump_json(exclude_none=True, exclude={"ledger", "log"})))


def _settings_of_then(context: Context, key: str) -> Run:
    values = records.kept(context.project.ledger, key)
    if values is None or records.key_of_settings(values) != key or values == kept_settings(context.run):
        return context.run
    try:
        return config.parse(values, f"the settings of then in {context.project.ledger.where}")
    except LabelwiseError as error:  # of another version of labelwise
        context.tell(f"the settings of now are taken: {error}")
        return context.run


def follow(context: Context, round_number: int, name: str, before: dict[str, Any], stage: Stage) -> None:
    """After a stage was done again: if it has written other files than before, what depends on them is due again."""
    if "files" not in before or name == "ask":
        return
    stage.record["files"] = round_files.sums(context.project.round_folder(round_number), name)
    if before["files"] is None:
        context.tell(
            f"round {round_number} {name}: done again; what it was before nobody knows, so what depends on it is kept"
        )
        return
    if {file: tuple(sums) for file, sums in before["files"].items()} == stage.record["files"]:
        context.tell(f"round {round_number} {name}: done again, the same bit for bit")
        return
    begun = {(row["round"], row["stage"]) for row in context.project.ledger.stages()}
    asked = {number for number, one in begun if one == "ask"}
    after = [(round_number + later, one) for later, one in FOLLOWS[name]]
    if name == "train" and context.run.train.warm_start:
        after.append((round_number + 1, "train"))
    after = [one for one in after if one in begun]
    for later, one in after:
        _due_again(context, later, one, afresh=before.get("afresh", False))
    said = ", ".join(f"round {later} {one}" for later, one in after)
    kept = "; what was asked is not asked again" if round_number in asked and name in ("score", "select") else ""
    context.tell(
        f"round {round_number} {name}: done again, not the same as "
        f"before{': ' + said + ' follow' if said else ''}{kept}"
    )
