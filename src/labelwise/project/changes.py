"""Settings that changed while a run was under way: told at `run`, marked in the learning curve and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labelwise.files.round_files import STAGES
from labelwise.ledger import records
from labelwise.project import repair
from labelwise.project.context import Context

NO_MATTER = (
    "name",
    "data.root",
    "data.images",
    "data.store_gb",
    "data.cache_gb",
    "data.frames_gb",
    "features.folder",
    "ask.poll_s",
    "predict.engine",
    "train.checkpoint_every_s",
    "train.engine",
    "log.to",
)
"""Settings that change no result."""


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys.

    >>> flat({"seed": 0, "train": {"epochs": 3}})
    {'seed': 0, 'train.epochs': 3}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changed, one line each. A budget that was given further rounds, or lost some, is the same budget.

    >>> between({"train": {"epochs": 3}, "budget": {"per_round": [6]}}, {"budget": {"per_round": [6, 9]}, "seed": 1})
    ['seed: none -> 1', 'train.epochs: 3 -> none']
    """
    old, new = flat(before), flat(after)
    for values in (old, new):
        if values.get("query.units") is not None:
            values.pop("query.unit", None)  # which does not count beside them; once both were written
    short = min(len(values.get("budget.per_round", [])) for values in (old, new))
    for values in (old, new):
        values["budget.per_round"] = values.get("budget.per_round", [])[:short]
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and key not in NO_MATTER)
    return [f"{key}: {_text(old.get(key))} -> {_text(new.get(key))}" for key in changed]


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def by_round(context: Context) -> dict[int, list[str]]:
    """Of every round in which a stage used other settings than the stage before it: what changed, and from where on."""
    found: dict[int, list[str]] = {}
    before: dict[str, Any] | None = None
    kept = records.every(context.project.ledger)
    for round_number in range(context.run.rounds):
        for name in STAGES:
            after = kept.get(kept.get(records.key_of(round_number, name), {}).get("settings", ""))
            if before is not None and after is not None:
                found.setdefault(round_number, []).extend(f"{line} (from {name} on)" for line in between(before, after))
            before = after or before
    return {round_number: lines for round_number, lines in found.items() if lines}


def tell(context: Context) -> None:
    """Tells what has changed in the settings since the last stage that was done, and where it begins to hold."""
    kept = records.every(context.project.ledger)
    order = [(round_number, name) for round_number in range(context.run.rounds) for name in STAGES]
    used = [kept.get(records.key_of(*one), {}).get("settings") for one in order]
    last = max((k for k, key in enumerate(used) if key is not None), default=None)
    if last is None or last + 1 == len(order):
        return
    for line in between(kept[used[last]], repair.kept_settings(context.run)):
        context.tell(f"settings have changed: {line}, from round {order[last + 1][0]} {order[last + 1][1]} on")
