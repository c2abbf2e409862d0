"""What `partial_labels.py` chooses from: beds, methods, label policies, recipes of training, and one cell of them."""

from __future__ import annotations

import functools
import multiprocessing
from dataclasses import dataclass

from labelwise import catalog, config
from labelwise.errors import LabelwiseError

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
