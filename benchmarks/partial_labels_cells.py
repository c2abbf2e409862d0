"""What `partial_labels.py` measures: test beds, methods, label policies, recipes of training, and one cell of them.

A cell is an ordinary project that goes through the product's own stages. Of one bed and seed all cells share the start
images, the first model, its stored predictions and (of one method) the picks; only the training differs.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
ALL = 1_000_000
"""More images than any pool has."""


@dataclass(frozen=True)
class Bed:
    """A data set with a start: the data recipe, its settings, how many boxes one round buys.

    `stretch`: how many steps stand for one of a recipe's, as some data take longer to learn.
    """

    data: str
    settings: tuple[str, ...]
    boxes: int
    stretch: int = 1


BEDS = {
    "bccd-4": Bed("bccd", ("budget.start_images=4",), 60),
    "bccd-15": Bed("bccd", ("budget.start_images=15",), 240),
    "scenes": Bed("scenes", ("budget.start_images=20",), 240, stretch=4),
    "scenes_voc": Bed("scenes_voc", ("budget.start_images=30",), 120, stretch=4),
}

IMAGES = ("query.unit=image", "query.score=random", "query.select=top", "budget.unit=images")
METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    "no new label": ("", (*IMAGES, "budget.per_round=0")),
    "everything labelled": ("", (*IMAGES, f"budget.per_round={ALL}")),
    "random images": ("random_image", ()),
    "entropy images": ("entropy_image", ()),
    "entropy-sum images": ("entropy_image", ("query.aggregate=sum",)),
    "core-set images": ("coreset_image", ()),
    "random boxes": ("random", ()),
    "U boxes": ("u", ()),
    "U+CB boxes": ("u_cb", ()),
}
"""Name -> method recipe, settings. The first two are the bounds of every bed."""

BOUNDS = ("no new label", "everything labelled")
OWN_PREDICTIONS = ("core-set images",)
"""Methods that predict the pool themselves, as they look at more than boxes and views."""

POLICIES = {
    "background": ('labels.policy={name="background"}',),
    "ignore": ('labels.policy={name="ignore"}',),
    "hard": ('labels.policy={name="hard"}', "labels.threshold=0.05"),
    "task_hard": ('labels.policy={name="task_hard"}', "labels.threshold=0.05"),
    "soft0.3": ('labels.policy={name="task_soft"}', "labels.threshold=0.3"),
    "soft0.05": ('labels.policy={name="task_soft"}', "labels.threshold=0.05"),
    "dual": ('labels.policy={name="dual"}', "labels.threshold=0.05"),
    "dual0.5": ('labels.policy={name="dual", upper=0.5}', "labels.threshold=0.05"),
    "dual-answers": ('labels.policy={name="dual"}', "labels.threshold=0.05", 'labels.class_thresholds="answers"'),
    "noisy": ('labels.policy={name="noisy"}', "labels.threshold=0.3", "labels.images=answered"),
    "noisy-eq3": (
        'labels.policy={name="noisy", weight="flat"}',
        'model.pseudo="apart"',
        "labels.threshold=0.3",
        "labels.images=answered",
    ),
}

TOKENS: dict[str, tuple[tuple[str, ...], ...]] = {
    "steps": (("train.min_steps=0", "train.steps={}"), ("train.min_steps={}", "train.max_steps={}")),
    "warm": (("train.warm_start=true", "train.warm_lr={}"), ("train.warm_start=true", "train.lr={}")),
    "lr": (("train.lr={}",),),
    "share": (("train.whole_share={}",),),
    "norm": (('model.normalise="{}"',),),
    "scale": (("train.scale=[0.6, 1.4]",),),
    "photo": (("train.photometric={}",),),
    "crop": (("train.iou_crop={}",),),
    "teacher": (('train.teacher="{}"',),),
    "negatives": (('model.negatives="{}"',),),
}
"""Token of a recipe -> the settings that it stands for; where labelwise does not know these, the next ones."""

VALUES = {"warm": "1e-3", "share": "0.5", "norm": "batch", "photo": "1", "crop": "0.5", "teacher": "ema"}
VALUES |= {"negatives": "background"}
"""What a token without a value means."""

SANE = "steps=240,warm,share,norm,scale,photo"
RECIPES = {
    "sane": SANE,
    "as-was": "steps=120",
    "as-was+steps": "steps=240",
    "as-was+warm": "steps=120,warm",
    "as-was+share": "steps=120,share",
    "as-was+batch": "steps=120,norm",
    "as-was+augment": "steps=120,scale,photo",
    "sane-120": SANE.replace("240", "120"),
    "sane-480": SANE.replace("240", "480"),
    "sane-scratch": SANE.replace("warm,", ""),
    "sane-no-share": SANE.replace("share,", ""),
    "sane-per-image": SANE.replace("norm,", ""),
    "sane-no-augment": SANE.replace(",scale,photo", ""),
    "sane+teacher": SANE + ",teacher",
    "sane+negatives": SANE + ",negatives",
    "sane+crop": SANE + ",crop",
}
"""Name -> tokens; any other text is taken as tokens itself."""

KEY = ("bed", "seed", "method", "policy", "recipe", "rounds", "policy_settings", "recipe_settings")
"""The columns by which a finished cell is known."""

FIRST = "steps=240,norm,scale,photo"
"""How the first model of every bed is trained."""


@dataclass(frozen=True, order=True)
class Cell:
    """One training of the ablation. `policy` may name an oracle's edit of the pseudo boxes: `dual/true boxes`."""

    bed: str
    seed: int
    method: str
    policy: str
    recipe: str
    rounds: int = 1

    @property
    def key(self) -> tuple[str, ...]:
        """What a row of the table is known by, together with `settings_of`."""
        return (self.bed, str(self.seed), self.method, self.policy, self.recipe, str(self.rounds))


@dataclass(frozen=True)
class Place:
    """Where the projects are, and what holds for all: the weights of the body, the first model's recipe."""

    work: Path
    weights: str = WEIGHTS
    first: str = FIRST
    extra: tuple[str, ...] = ()

    def of(self, cell: Cell) -> Path:
        """The folder of one bed and seed."""
        return self.work / cell.bed / f"seed{cell.seed}"

    def base(self, bed: Bed) -> tuple[str, ...]:
        """The settings of a bed, with one thread of the CPU and the weights of the body."""
        alike = ("train.threads=1", "train.accelerator=cpu")
        return (f'model.weights="{self.weights}"', *alike, *bed.settings, *self.extra)


@functools.cache
def is_known(settings: tuple[str, ...]) -> bool:
    """Whether this labelwise has these settings together; tells once if not."""
    try:
        config.load(catalog.recipe_files("bccd"), settings)
    except LabelwiseError as error:
        if multiprocessing.parent_process() is None:
            print(
                f"left out, unknown here: {', '.join(settings)} ({str(error).splitlines()[-1].strip()[:80]})",
                flush=True,
            )
        return False
    return True


def recipe_settings(text: str, stretch: int = 1) -> list[str]:
    """The settings of a recipe's name or tokens; what is unknown to this labelwise is left out."""
    out: list[str] = []
    for token in filter(None, RECIPES.get(text, text).split(",")):
        name, _, value = token.partition("=")
        if name not in TOKENS:
            raise LabelwiseError(f"recipe {text!r}: unknown token {name!r}; expected {', '.join(TOKENS)}")
        value = str(stretch * int(value)) if name == "steps" else value
        ways = [tuple(one.format(value or VALUES.get(name, "")) for one in way) for way in TOKENS[name]]
        out += next(filter(is_known, ways), ())
    return out


def settings_of(cell: Cell) -> tuple[str, str]:
    """What a cell's policy and recipe set, for the table: names may come to mean other settings."""
    return "; ".join(policy_settings(cell.policy)), "; ".join(recipe_settings(cell.recipe, BEDS[cell.bed].stretch))


def policy_settings(policy: str) -> list[str]:
    """The settings of a label policy, without the oracle's edit."""
    return list(POLICIES[policy.split("/")[0]])


def method_settings(cell: Cell) -> list[str]:
    """The settings of a method, with the budget of its rounds."""
    own = [one for one in METHODS[cell.method][1] if not one.startswith("budget.per_round")]
    once = next((one.partition("=")[2] for one in METHODS[cell.method][1] if one.startswith("budget.per_round")), None)
    bed = BEDS[cell.bed]
    per_round = [once or str(bed.boxes)] + [once if once == "0" else "0" if once else str(bed.boxes)] * (
        cell.rounds - 1
    )
    return [*own, f"budget.per_round=[{', '.join(per_round)}]"]


def run_of(place: Place, cell: Cell, settings: list[str], folder: Path) -> Run:
    """The config of a project of the bed with a cell's method."""
    bed, recipe = BEDS[cell.bed], METHODS[cell.method][0]
    names = f"{bed.data}+{recipe}" if recipe else bed.data
    every = [f"seed={cell.seed}", *place.base(bed), *settings]
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
        opening.start(folder, BEDS[bed].data, list(place.base(BEDS[bed]))).project.close()


def make_start(place: Place, cell: Cell) -> None:
    """The start images and the first model."""
    folder = place.of(cell) / "start"
    settings = [*recipe_settings(place.first, BEDS[cell.bed].stretch), "train.warm_start=false", "budget.per_round=[]"]
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


def make_predicted(place: Place, cell: Cell) -> None:
    """The first model's predictions of the pool, with the views, that all methods and policies look at."""
    folder, like = place.of(cell) / "predicted", replace(cell, method="U+CB boxes", rounds=1)
    settings = [*method_settings(like), *policy_settings("soft0.05")]
    take_over(place.of(cell) / "start", folder, run_of(place, like, settings, folder))
    context = opened(folder)
    stages(context, ("predict",))
    context.project.close()


def make_picks(place: Place, cell: Cell) -> None:
    """What one method asks, and the answers."""
    own = cell.method in OWN_PREDICTIONS
    before = place.of(cell) / ("start" if own else "predicted")
    folder, once = picks_of(place, cell), replace(cell, rounds=1)
    settings = [*method_settings(once), *policy_settings("background" if own else "soft0.05")]
    take_over(before, folder, run_of(place, once, settings, folder))
    context = opened(folder)
    stages(context, ("predict", "score", "select", "ask"))
    context.project.close()


def picks_of(place: Place, cell: Cell) -> Path:
    """The folder in which a method has asked."""
    return place.of(cell) / cell.method.replace(" ", "_")


# ---------------------------------------------------------------------------------------------------------- a cell


def measure(place: Place, cell: Cell) -> list[dict[str, Any]]:
    """Trains a cell and tests it: one row per round."""
    began, cpu = time.perf_counter(), time.process_time()
    jump = cell.rounds == 1
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
        files.write_targets(now.files.targets, edited(now, name))
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
