"""Whether a project is whole: `labelwise check PROJECT`, and the message in place of a traceback where it is not."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

from labelwise.cli.console import out, tell
from labelwise.errors import LabelwiseError, no_project


def check(folder: Path) -> None:
    """Everything that can be found: the ledger by SQLite's whole check and by its rows, every file by its sum."""
    from labelwise import config
    from labelwise.ledger import safety
    from labelwise.project.project_folder import Project

    run = config.load(folder / "run.toml")
    project = Project.open(folder, run.ledger)
    found = safety.faults(project.ledger, run.rounds)
    for line in found:
        tell(f"ledger: {line}")
    lost = [one for round_number in range(run.rounds) for one in _lost(project, round_number)]
    for line in lost:
        tell(line)
    if found:
        raise LabelwiseError(
            f"the ledger {project.ledger.where} is damaged. `labelwise check {folder} --restore` goes back to the copy "
            f"that was made when the last round had been answered{_when(folder)}; the damaged one is kept"
        )
    if lost:
        out.print(f"`labelwise run --project {folder}` makes these files again by itself.", markup=False)
    else:
        out.print(f"{folder}: nothing wrong found in the ledger and {_number(folder)} files", markup=False)


def _lost(project: object, round_number: int) -> list[str]:
    from labelwise.files.round_files import STAGES
    from labelwise.project import repair
    from labelwise.project.project_folder import Project

    assert isinstance(project, Project)
    done = {row["stage"] for row in project.ledger.stages() if (row["round"], row["state"]) == (round_number, "done")}
    found = []
    for name in STAGES:
        if name in done and name != "ask":
            wrong, _ = repair.damage(project, round_number, name, float("inf"))
            found += [f"round {round_number} {name}: {file} {what}" for file, what in wrong.items()]
    return found


def _number(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "rounds").rglob("*"))


def _when(folder: Path) -> str:
    from datetime import UTC, datetime

    from labelwise.ledger.safety import COPY

    path = folder / COPY
    if not path.is_file():
        return " (there is none: restore a backup of your own)"
    return f" ({datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC)"


def restore(folder: Path) -> None:
    """Goes back to the copy of the ledger; the run then continues from there."""
    from labelwise import config
    from labelwise.ledger import safety
    from labelwise.project.project_folder import LEDGER, locked

    if not (folder / "run.toml").is_file():
        raise no_project(folder)
    if config.load(folder / "run.toml").ledger is not None:
        raise LabelwiseError(f"{folder}: its ledger is on a database server; restore a backup of that")
    with locked(folder):
        aside = safety.restore(folder, folder / LEDGER)
    tell(f"{folder / LEDGER} is the copy of the last round that was answered; the damaged one is {aside}")
    tell(f"`labelwise run --project {folder}` continues from there; answers that came after the copy are not in it")


def explains(_error: Exception) -> LabelwiseError | None:
    """The error to show in place of a traceback, if a project that this command has opened is damaged."""
    project = sys.modules.get("labelwise.project.project_folder")
    for folder in getattr(project, "OPENED", ()):
        try:
            with redirect_stdout(io.StringIO()):
                check(folder)
        except LabelwiseError as damage:
            return damage
    return None
