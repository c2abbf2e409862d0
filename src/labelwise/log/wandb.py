"""Weights & Biases: a run of its own, kept in the project's folder `log/wandb` (offline) or sent (online).

Offline (the default) nothing leaves the machine; `wandb sync PROJECT/log/wandb/offline-*` sends it later. The steps of
W&B only grow: each stage of each round is one, and the curves are drawn against `round` or what was spent. What was
handed over is noted in `log/wandb.json` before it is: a run that is killed between the two lacks that stage there, and
has none twice. Online, W&B itself says how far its run is. A process may have several projects, each its own run.

Fails when: a stage is done again: W&B keeps the values of the first time.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Sequence
from typing import Any, Literal

from labelwise.log._entries import QUALITY, About, Entry, load
from labelwise.types.disk import write_json

STAGES = 10
"""Steps of a round: more than it has stages."""
_RUNS: dict[str, Any] = {}
"""The runs of this process by their projects' keys."""


def log(
    entries: Sequence[Entry],
    about: About,
    *,
    project: str = "labelwise",
    mode: Literal["offline", "online"] = "offline",
) -> None:
    """Hands over the stages that were not handed over yet.

    Args:
        entries: what the run has to say so far.
        about: the run.
        project: the project at W&B.
        mode: "offline" keeps the run in the project's folder; "online" sends it.
    """
    wandb = load("wandb", "wandb", "wandb")
    noted, offline = about.folder / "wandb.json", mode == "offline"
    sent = int(json.loads(noted.read_text(encoding="utf-8"))["step"]) if offline and noted.exists() else -1
    fresh = [(STAGES * entry.round + entry.place, entry) for entry in entries]
    if not any(step > sent for step, _ in fresh):
        return
    run = _run(wandb, about, project, mode)
    sent = max(sent, int(run.step) - 1)
    for step, entry in fresh:
        if step > sent:
            if offline:
                write_json(noted, {"step": step})
            spent = {f"spent/{unit}": amount for unit, amount in entry.spent.items()}
            run.log({**entry.values, **spent, "round": entry.round}, step=step, commit=True)


def _run(wandb: Any, about: About, project: str, mode: str) -> Any:
    """The run of this project: that of this process, or the one of before, gone on with."""
    if about.key in _RUNS:
        return _RUNS[about.key]
    folder = about.folder
    folder.mkdir(parents=True, exist_ok=True)
    how = {"id": about.key, "resume": "allow", "mode": mode, "dir": str(folder), "allow_val_change": True}
    run = wandb.init(project=project, name=about.name, config=dict(about.settings), reinit="create_new", **how)
    run.define_metric("*", step_metric="round")
    run.define_metric(f"{QUALITY}*", step_metric="spent/boxes")
    atexit.register(run.finish)
    _RUNS[about.key] = run
    return run
