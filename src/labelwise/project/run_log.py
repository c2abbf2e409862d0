"""What a run tells its loggers (`log.to`): of every stage that is done, numbers that follow from ledger and files."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from labelwise import catalog
from labelwise.files.round_files import STAGES
from labelwise.ledger.import_export import project_id
from labelwise.log._entries import QUALITY, About, Entry
from labelwise.project import changes, repair
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types import Cost, LabelwiseError

_QUALITY = {"ap50": "AP50", "ap75": "AP75", "ap": "AP", "accuracy": "accuracy", "teacher_accuracy": "teacher accuracy"}
_PER_CLASS = ("per_class_ap50", "per_class_accuracy")


class LoggerError(LabelwiseError):
    """A logger failed for a reason that may pass: its store cannot be reached, for one."""


def catch_up(context: Context) -> None:
    """Hands all loggers everything that is done so far; each keeps what it lacks.

    Raises:
        LoggerError: loggers failed; the others were told.
        LabelwiseError: a package is missing, or a setting cannot be used.
    """
    to, failed = context.run.log.to, list[str]()
    if not to:
        return
    try:
        every, about = entries(context), _about(context)
    except Exception as error:
        raise LoggerError(_failed("what the loggers (log.to) are told", error)) from error
    for logger in to:
        try:
            catalog.find("log", logger.name).call({"entries": every, "about": about}, logger.settings)
        except LabelwiseError as error:
            raise LabelwiseError(_masked(str(error))) from None
        except Exception as error:
            failed.append(_failed(f"the logger {logger.name} (log.to)", error))
    if failed:
        raise LoggerError("\n".join(failed))


def follow(context: Context, *, strict: bool = False) -> None:
    """`catch_up` of a run, which a logger that fails does not stop: it is told.

    Raises:
        LabelwiseError: with `strict`: a package is missing, or a setting cannot be used.
    """
    try:
        catch_up(context)
    except LabelwiseError as error:
        if strict and not isinstance(error, LoggerError):
            raise
        context.tell(str(error))


def _failed(what: str, error: Exception) -> str:
    return (
        f"{what} failed: {type(error).__name__}: {_masked(str(error))}. Nothing of the run is lost; mend it, or "
        "take it out of log.to, and `labelwise run` again hands over what is missing"
    )


def _masked(text: str) -> str:
    """Without name and password of an address.

    >>> _masked("no http://me:secret@here:5000/api today")
    'no http://***@here:5000/api today'
    """
    return re.sub(r"//[^/\s]*@", "//***@", text)


def entries(context: Context) -> list[Entry]:
    """One per stage that is done, by round."""
    ledger, found, total = context.project.ledger, list[Entry](), Cost()
    costs, places = ledger.cost_by_round(), {name: k for k, name in enumerate(STAGES)}
    done = {(row["round"], row["stage"]): row for row in ledger.stages() if row["state"] == "done"}
    for number in sorted({number for number, _ in done}):
        cost = costs.get(number, Cost())
        total = Cost(**{name: amount + getattr(cost, name) for name, amount in asdict(total).items()})
        for name in (one for one in STAGES if (number, one) in done):
            row = done[number, name]
            values = {f"seconds/{name}": row["wall_s"], **_numbers(row["info"], f"{name}/")}
            values |= _numbers(asdict(total), "spent/") if name == "ask" else {}
            measured = Round(context, number).metrics if name == "evaluate" else {}
            values |= _measured(measured)
            ended_s = datetime.fromisoformat(row["ended"]).timestamp()
            spent = _numbers(asdict(total), "") if measured else {}
            found.append(Entry(number, name, places[name], ended_s, values, spent))
    return found


def _measured(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = _numbers({shown: metrics.get(name) for name, shown in _QUALITY.items()}, QUALITY)
    for name in _PER_CLASS:
        found |= _numbers(metrics.get(name, {}), "class/")
    return found


def _numbers(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """What of these is a finite number."""
    real = {key: value for key, value in values.items() if isinstance(value, int | float)}
    return {
        prefix + key: float(value)
        for key, value in real.items()
        if not isinstance(value, bool) and math.isfinite(value)
    }


def _about(context: Context) -> About:
    run, folder = context.run, Path(context.project.folder).resolve()
    settings = {key: str(value) for key, value in changes.flat(repair.kept_settings(run)).items()}
    name = f"{run.name}, seed {run.seed}"
    own = f"{project_id(context.project.ledger)} {name}"  # runs that are compared begin as copies of one ledger
    return About(hashlib.sha256(own.encode()).hexdigest()[:12], name, folder / "log", settings)
