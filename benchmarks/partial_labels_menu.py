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

    `seconds`: what so many boxes cost as random images (7 s a box, 7.8 s an image), the budget of `--budget seconds`.
    `stretch`: how many steps stand for one of a recipe's, as some data take longer to learn.
    """

    data: str
    settings: tuple[str, ...]
    boxes: int
    seconds: int
    stretch: int = 1


WIDE = ("data.pool_split=train", "data.test_split=val+test")
"""bccd with 159 test images in place of 72 (there are no more), and a pool of 205 in place of 292."""
COCO = 'model.weights="weights/shufflenet_v2_x0_5_fastestdet_coco_backbone.pth"'
FOD_A = (
    *("data.root=fod_a", "data.format=coco", "data.pool_split=train", "data.stride_frames=4"),
    *("data.image_size_px=160", "train.lr=2e-3", COCO),
)
AQUARIUM = ('model.backbone="shufflenet_v2_x0_5"', COCO, "data.image_size_px=320")

BEDS = {
    "bccd-4": Bed("bccd", ("budget.start_images=4",), 60, 455),
    "bccd-15": Bed("bccd", ("budget.start_images=15",), 240, 1820),
    "bccd-4-wide": Bed("bccd", ("budget.start_images=4", *WIDE), 60, 455),
    "bccd-15-wide": Bed("bccd", ("budget.start_images=15", *WIDE), 240, 1820),
    "scenes": Bed("scenes", ("budget.start_images=20", "train.jitter=0.2"), 240, 2010, stretch=4),
    "scenes_voc": Bed("scenes_voc", ("train.jitter=0.2",), 240, 2460, stretch=4),
    "fod_a": Bed("bccd", ("budget.start_images=80", *FOD_A), 100, 1460, stretch=2),
    "aquarium": Bed("aquarium", ("budget.start_images=20", *AQUARIUM), 120, 966),
}
"""Test images: bccd 72 (wide: 159), scenes 100, scenes_voc 200, fod_a 214 of other clips, aquarium 190."""

AS_WAS = (
    *("train.warm_start=false", "train.warm_lr=none", "train.whole_share=none", "train.scale=none"),
    *("train.photometric=none", "train.steps=none", "train.min_steps=150", 'model.normalise="torchvision"'),
    "labels.threshold=0.3",
)
"""What the tokens of a recipe add to, whatever the data recipe sets."""

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
    "uncertain boxes": ("random", ("query.score=confidence",)),
    "core-set boxes": ("random", ("query.select=kcenter",)),
    "MuRAL regions": ("mural", ()),
}
"""Name -> method recipe, settings. The first two are the bounds of every bed."""

BOUNDS = ("no new label", "everything labelled")
BUDGETS = ("boxes", "seconds", "queries")
"""What a method may spend: the bed's boxes, its seconds, or as many questions as it has boxes. Of a method named alone
it is boxes; `random images @seconds` spends seconds."""
OWN_PREDICTIONS = ("core-set images", "core-set boxes", "MuRAL regions")
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
    "noisy-paper": ('labels.policy={name="noisy"}', "labels.threshold=0.1", "labels.images=answered"),
    "noisy-eq3-paper": (
        'labels.policy={name="noisy", weight="flat"}',
        'model.pseudo="apart"',
        "labels.threshold=0.1",
        "labels.images=answered",
    ),
    "hpl": ('labels.policy={name="hard", tau_cls=0.8}', "labels.threshold=0.05"),
    "thpl": ('labels.policy={name="task_hard", tau_cls=0.8, tau_box=0.7}', "labels.threshold=0.05"),
    "tspl": ('labels.policy={name="task_soft", tau_cls=[0.8, 0.1], tau_box=[0.7, 0.3]}', "labels.threshold=0.05"),
    "dual-counts": ('labels.policy={name="dual"}', "labels.threshold=0.05", 'labels.class_thresholds="counts"'),
    "dual-counts-hard": (
        'labels.policy={name="dual", weight="hard"}',
        "labels.threshold=0.05",
        'labels.class_thresholds="counts"',
    ),
    "dual-counts-nobox": (
        'labels.policy={name="dual", box="none"}',
        "labels.threshold=0.05",
        'labels.class_thresholds="counts"',
    ),
    "dual-consistency": ('labels.policy={name="dual", box="consistency", least_box=0.5}', "labels.threshold=0.05"),
    "dual-quality": ('labels.policy={name="dual", box="quality"}', "labels.threshold=0.05"),
    "dual-nobox": ('labels.policy={name="dual", box="none"}', "labels.threshold=0.05"),
    "dual0.5-nobox": ('labels.policy={name="dual", upper=0.5, box="none"}', "labels.threshold=0.05"),
    "crops": ('labels.policy={name="background"}', "labels.regions=crops", "labels.cut_objects=negative"),
    "crops-ignore": ('labels.policy={name="background"}', "labels.regions=crops", "labels.cut_objects=ignore"),
    "coverage": ('labels.policy={name="ignore"}', "labels.regions=coverage"),
    "coverage-dual": ('labels.policy={name="dual"}', "labels.threshold=0.05", "labels.regions=coverage"),
}
"""`hpl`, `thpl`, `tspl`: as Table 1 of 000 has them; its rows U and U+CB take what nobody labelled as background."""

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
    "teacher-decay": (("train.teacher_decay={}",),),
    "negatives": (('model.negatives="{}"',),),
    "vote": (("labels.vote=true",),),
    "quality": (("model.quality=true",),),
    "frcnn": (('model.name="faster_rcnn"', "train.lr=3e-3"),),
    "exact": (("train.min_steps=0", "train.steps={}"),),
    "retrain": (("seed=100{}",),),
    "threads": (("train.threads={}",),),
}
"""Token of a recipe -> the settings that it stands for; where labelwise does not know these, the next ones.

`exact`: steps that no bed stretches. `retrain`: another seed of the training alone, as start, first model, predictions
and picks were made before with the cell's own (one jump). `frcnn`, `quality`: cells with a first model of their own.
"""

OLD = ("steps", "warm", "lr", "share", "norm", "scale", "photo", "crop")
"""Tokens that a labelwise that does not know them goes without; a row with any other unknown token is left out."""
OF_THE_MODEL, OF_THE_PREDICTIONS = ("frcnn", "quality"), ("vote",)
"""Tokens that change the first model, and those that change what is predicted with it."""

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
"""Name -> tokens. A recipe is a list of names and tokens by commas: "sane,retrain=1"."""

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

    @property
    def name(self) -> str:
        """The method without its budget."""
        return self.method.partition(" @")[0]

    @property
    def budget(self) -> str:
        """What the method spends."""
        return self.method.partition(" @")[2] or BUDGETS[0]

    @property
    def model(self) -> str:
        """The tokens that the first model must have too."""
        return ",".join(token for token in tokens_of(self.recipe) if token in OF_THE_MODEL)

    @property
    def view(self) -> str:
        """The tokens that the predictions depend on."""
        return ",".join(token for token in tokens_of(self.recipe) if token in OF_THE_MODEL + OF_THE_PREDICTIONS)


def tokens_of(recipe: str) -> list[str]:
    """The tokens of a recipe, each name replaced by its own."""
    return [token for part in recipe.split(",") for token in RECIPES.get(part, part).split(",") if token]


@functools.cache
def is_known(settings: tuple[str, ...], before: tuple[str, ...] = ()) -> bool:
    """Whether this labelwise has these settings beside those before; tells once if not.

    With a policy that goes with all of them: the data recipe's own looks at views, which an online teacher has not.
    """
    try:
        config.load(catalog.recipe_files("bccd"), (*POLICIES["background"], *before, *settings))
    except LabelwiseError as error:
        if multiprocessing.parent_process() is None:
            print(f"unknown here: {', '.join(settings)} ({str(error).splitlines()[-1].strip()[:80]})", flush=True)
        return False
    return True


def settings_of_tokens(text: str, stretch: int = 1) -> dict[str, tuple[str, ...]]:
    """Token -> its settings, the first of its ways that this labelwise knows beside the tokens before; () for none."""
    out: dict[str, tuple[str, ...]] = {}
    for token in tokens_of(text):
        name, _, value = token.partition("=")
        if name not in TOKENS:
            raise LabelwiseError(f"recipe {text!r}: unknown token {name!r}; expected {', '.join(TOKENS)}")
        value = str(stretch * int(value)) if name == "steps" else value
        ways = [tuple(one.format(value or VALUES.get(name, "")) for one in way) for way in TOKENS[name]]
        before = tuple(one for settings in out.values() for one in settings)
        out[token] = next((way for way in ways if is_known(way, before)), ())
    return out


def recipe_settings(text: str, stretch: int = 1) -> list[str]:
    """The settings of a recipe's names and tokens; what is unknown to this labelwise is left out."""
    return [one for settings in settings_of_tokens(text, stretch).values() for one in settings]


def missing_tokens(text: str) -> list[str]:
    """The tokens without which the recipe would be another one under its name."""
    return [token for token, found in settings_of_tokens(text).items() if not found and token.split("=")[0] not in OLD]


def settings_of(cell: Cell) -> tuple[str, str]:
    """What a cell's policy and recipe set, for the table: names may come to mean other settings."""
    return "; ".join(policy_settings(cell.policy)), "; ".join(recipe_settings(cell.recipe, BEDS[cell.bed].stretch))


def policy_settings(policy: str) -> list[str]:
    """The settings of a label policy, without the oracle's edit."""
    return list(POLICIES[policy.split("/")[0]])


def method_settings(cell: Cell) -> list[str]:
    """The settings of a method, with the budget of its rounds."""
    own = [one for one in METHODS[cell.name][1] if not one.startswith("budget.per_round")]
    once = next((one.partition("=")[2] for one in METHODS[cell.name][1] if one.startswith("budget.per_round")), None)
    bed = BEDS[cell.bed]
    amount = str(bed.seconds if cell.budget == "seconds" else bed.boxes)
    unit = [f"budget.unit={cell.budget}"] if cell.budget != BUDGETS[0] else []
    per_round = [once or amount] + [once if once == "0" else "0" if once else amount] * (cell.rounds - 1)
    return [*own, *unit, f"budget.per_round=[{', '.join(per_round)}]"]
