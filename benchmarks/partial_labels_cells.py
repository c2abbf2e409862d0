"""What `partial_labels.py` measures: one cell of the ablation, and what the cells of a bed share.

A cell is an ordinary project that goes through the product's own stages. Of one bed and seed all cells share the start
images, the first model, its stored predictions and (of one method) the picks; only the training differs.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from partial_labels_menu import (
    AS_WAS,
    BEDS,
    FIRST,
    IMAGES,
    KEY,
    METHODS,
    OWN_PREDICTIONS,
    Bed,
    Cell,
    method_settings,
    policy_settings,
    recipe_settings,
    settings_of,
)
from partial_labels_oracle import EDITS, Pseudo, edited, of_pseudo

from labelwise import catalog, config, files, loop
from labelwise.config import Run
from labelwise.data import staging
from labelwise.errors import LabelwiseError
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.project_folder import Project
from labelwise.project.round import Round

WEIGHTS = "weights/shufflenet_v2_x0_5_imagenet_backbone.pth"


@dataclass(frozen=True)
class Place:
    """Where the projects are, and what holds for all: the weights of the body, the first model's recipe."""

    work: Path
    weights: str = WEIGHTS
    first: str = FIRST
    extra: tuple[str, ...] = ()

    def of(self, cell: Cell) -> Path:
        """The folder of one bed, seed and kind of first model."""
        return self.work / cell.bed / "-".join([f"seed{cell.seed}", *filter(None, cell.model.split(","))])

    def first_of(self, cell: Cell) -> str:
        """The recipe of the first model that a cell goes on from."""
        return ",".join(filter(None, (self.first, cell.model)))

    def base(self, bed: Bed) -> tuple[str, ...]:
        """The settings of a bed, with one thread of the CPU and the weights of the body."""
        alike = ("train.threads=1", "train.accelerator=cpu")
        return (f'model.weights="{self.weights}"', *alike, *AS_WAS, *bed.settings)


def run_of(place: Place, cell: Cell, settings: list[str], folder: Path) -> Run:
    """The config of a project of the bed with a cell's method."""
    bed, recipe = BEDS[cell.bed], METHODS[cell.name][0]
    names = f"{bed.data}+{recipe}" if recipe else bed.data
    every = [f"seed={cell.seed}", *place.base(bed), *settings, *place.extra]
    return opening.resolve_paths(config.load(catalog.recipe_files(names), every), folder)


def opened(folder: Path) -> Context:
    """The project with one thread."""
    import torch

    torch.set_num_threads(1)
    return opening.start(folder, None)


def take_over(before: Path, folder: Path, run: Run) -> None:
    """A copy of a project with other settings, in one step; generated data are shared."""
    if (folder / "run.toml").exists():
        refuse_other(folder, run)
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(before, partial, ignore=shutil.ignore_patterns("data", "cache", ".lock*", "report.html"))
    (partial / "run.toml").write_text(config.dump(run), encoding="utf-8")
    if (before / "data").exists():
        staging.link(partial / "data", (before / "data").resolve())
    partial.rename(folder)


def refuse_other(folder: Path, run: Run) -> None:
    """A project that was begun with other settings must not be mixed with these."""
    if config.load(folder / "run.toml") != run:
        raise LabelwiseError(f"{folder} was begun with other settings (--first, --set, --weights); give another --work")


def stages(context: Context, names: tuple[str, ...], round_number: int = 1) -> None:
    """Runs stages of a round, those that are done excepted."""
    with context.project.lock():
        for name in names:
            loop.run_stage(context, round_number, name)


# ---------------------------------------------------------------------------------------------- what the cells share


def make_data(place: Place, bed: str) -> None:
    """Draws generated data once for all seeds."""
    folder = place.work / bed / "data"
    if config.load(catalog.recipe_files(BEDS[bed].data)).data.generated:
        opening.start(folder, BEDS[bed].data, [*place.base(BEDS[bed]), *place.extra]).project.close()


def make_start(place: Place, cell: Cell) -> None:
    """The start images and the first model."""
    folder = place.of(cell) / "start"
    settings = [
        *recipe_settings(place.first_of(cell), BEDS[cell.bed].stretch),
        "train.warm_start=false",
        "budget.per_round=[]",
    ]
    run = run_of(place, replace(cell, method="no new label"), [*IMAGES, *settings], folder)
    if not (folder / "run.toml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = place.work / cell.bed / "data" / "data"
        if data.exists() and not (folder / "data").exists():
            staging.link(folder / "data", data.resolve())
        Project.create(folder, config.dump(run)).close()
    refuse_other(folder, run)
    context = opened(folder)
    for _ in loop.run(context):
        pass
    context.project.close()


def view_settings(cell: Cell, policy: str) -> list[str]:
    """What predictions and picks are made with: the policy that looks at most of what is predicted, voting if any."""
    policy = "dual-quality" if "quality" in cell.view.split(",") else policy
    return [*policy_settings(policy), *recipe_settings(cell.view)]


def make_predicted(place: Place, cell: Cell) -> None:
    """The first model's predictions of the pool, with the views, that all methods and policies look at."""
    folder, like = predicted_of(place, cell), replace(cell, method="U+CB boxes", rounds=1)
    settings = [*method_settings(like), *view_settings(cell, "soft0.05")]
    take_over(place.of(cell) / "start", folder, run_of(place, like, settings, folder))
    context = opened(folder)
    stages(context, ("predict",))
    context.project.close()


def make_picks(place: Place, cell: Cell) -> None:
    """What one method asks, and the answers."""
    own = cell.name in OWN_PREDICTIONS
    before = place.of(cell) / "start" if own else predicted_of(place, cell)
    folder, once = picks_of(place, cell), replace(cell, rounds=1)
    settings = [*method_settings(once), *view_settings(cell, "background" if own else "soft0.05")]
    take_over(before, folder, run_of(place, once, settings, folder))
    context = opened(folder)
    stages(context, ("predict", "score", "select", "ask"))
    context.project.close()


def predicted_of(place: Place, cell: Cell) -> Path:
    """The folder of the predictions that a cell's method looks at."""
    return place.of(cell) / "-".join(filter(None, ("predicted", *cell.view.split(","))))


def picks_of(place: Place, cell: Cell) -> Path:
    """The folder in which a method has asked."""
    return place.of(cell) / "-".join(filter(None, (cell.method.replace(" ", "_"), *cell.view.split(","))))


# ---------------------------------------------------------------------------------------------------------- a cell


def measure(place: Place, cell: Cell) -> list[dict[str, Any]]:
    """Trains a cell and tests it: one row per round."""
    began, cpu = time.perf_counter(), time.process_time()
    jump = cell.rounds == 1
    if not jump and "retrain=" in cell.recipe:
        raise LabelwiseError("retrain changes the seed of one training; in several rounds it would change the picks")
    folder = place.of(cell) / "cells" / "-".join(cell.key[2:]).replace(" ", "_").replace("/", "_")
    if jump:  # a minute: begun anew after a kill
        shutil.rmtree(folder, ignore_errors=True)
    settings = [
        *method_settings(cell),
        *policy_settings(cell.policy),
        *recipe_settings(cell.recipe, BEDS[cell.bed].stretch),
    ]
    take_over(
        picks_of(place, cell) if jump else place.of(cell) / "start", folder, run_of(place, cell, settings, folder)
    )
    context = opened(folder)
    if jump:
        stages(context, ("label",))
        said = _edit(Round(context, 1), cell.policy.partition("/")[2])
        stages(context, ("train", "evaluate"))
    else:
        for _ in loop.run(context):
            pass
        said = of_pseudo(Round(context, cell.rounds))
    rows = [_row(context, cell, number, said) for number in range(1, cell.rounds + 1)]
    for row in rows:
        row |= {"seconds": round(time.perf_counter() - began, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    context.project.close()
    shutil.rmtree(folder, ignore_errors=True)
    return rows


def _edit(now: Round, name: str) -> Pseudo:
    """The pseudo boxes of the round as they are; the targets are written anew where the oracle changes them."""
    if name:
        if name not in EDITS:
            raise LabelwiseError(f"oracle: unknown edit {name!r}; expected {', '.join(EDITS)}")
        said = of_pseudo(now)
        files.write_targets(now.folder.targets, edited(now, name))
        return said
    return of_pseudo(now)


def _row(context: Context, cell: Cell, number: int, said: Pseudo) -> dict[str, Any]:
    ledger, metrics = context.project.ledger, Round(context, number).metrics
    spent = [cost for at, cost in ledger.cost_by_round().items() if 0 < at <= number]
    info = ledger.stage_done(number, "train") or {}
    per_class = {name: round(100 * value, 1) for name, value in metrics["per_class_ap50"].items() if value is not None}
    last = number == cell.rounds
    return {
        **dict(zip(KEY, (*cell.key, *settings_of(cell)), strict=True)),
        "round": number,
        **{name: round(100 * metrics[name], 2) for name in ("ap50", "ap", "ap75")},
        "boxes": sum(cost.boxes for cost in spent),
        "questions": sum(cost.queries for cost in spent),
        "annotation_s": round(sum(cost.seconds for cost in spent)),
        "steps": info.get("steps", ""),
        "loss": round(float(info.get("loss", float("nan"))), 4),
        "images": said.images if last else "",
        "pseudo": said.boxes if last else "",
        "pseudo_recall": said.recall if last else "",
        "pseudo_precision": said.precision if last else "",
        "per_class_ap50": json.dumps(per_class),
    }
