"""Whether choosing what to label may be expected to beat labelling at random, from what was measured, and nothing else.

Everything is counted in labels per class. `MEASURED` holds what was seen: for an origin of the features, a number of
classes and a range of labels per class, which side was ahead, by how much, and where that is written. Between two
measured numbers of classes the answer is theirs where both agree and "either" where they differ; outside "not known".
The size of the pool plays no part, unless the whole of it will be labelled: choosing from more can be no worse.

Source: 001, section 3.3, 5.5, 5.6 (ResNet-18, CIFAR and Tiny ImageNet; a share of the pool in its words is turned into
labels per class by the sizes of these: 50,000 images of 10 or 100 classes, 90,000 of 200); our own results on frozen
features (docs/results.md, benchmarks/results).
Differs from the paper: its rule for models from scratch, "from 10 % of the pool", would say that a larger pool makes
choosing worse; the line of its Fig. 5.6 through 10 and 100 classes gives 367 labels per class at 200, where its own
curves end at 225.
Fails when: the data are unlike these (balanced classes, one object a picture).

100 labels of 10 classes are 10 per class:

>>> advise(10, 50_000, 100, features="pretrained").expected, advise(10, 50_000, 100, features="frozen").expected
('random', 'active learning')
>>> advise(10, 50_000, 30_000, features="frozen").expected
'not known'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labelwise.types import LabelwiseError

Expected = Literal["active learning", "random", "either", "not known", "nothing to choose"]
Features = Literal["scratch", "pretrained", "frozen"]

RANK = {"random": 0, "either": 1, "active learning": 2}
WORDS: dict[Features, str] = {
    "scratch": "a model trained from scratch",
    "pretrained": "self-supervised features of these images",
    "frozen": "frozen features of a foreign network",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen between `low` and `high` labels per class (both included)."""

    features: Features
    classes: int
    low: float
    high: float
    ahead: Literal["active learning", "random", "either"]
    what: str
    source: str


_FIG_5_3, _FIG_5_4, _FIG_5_5 = (f"001, 5.5, Fig. 5.{k}" for k in (3, 4, 5))
MEASURED = (
    Measured("scratch", 10, 5, 500, "random", "CIFAR10: random ahead until 10 % of 50,000 images", _FIG_5_3),
    Measured("scratch", 10, 500, 2500, "active learning", "CIFAR10: choosing ahead after 10 %", _FIG_5_3),
    Measured("scratch", 100, 5, 50, "random", "CIFAR100: random ahead below 10 % of 50,000 images", _FIG_5_4),
    Measured(
        *("scratch", 100, 50, 150, "either"),
        "CIFAR100: methods and random close together from 10 to 30 %, dispersion ahead in the last two cycles",
        "001, 3.3, Fig. 3.6",
    ),
    Measured("scratch", 200, 4.5, 45, "random", "Tiny ImageNet: choosing had to exceed 10 % of 90,000", _FIG_5_5),
    Measured("scratch", 200, 45, 225, "active learning", "Tiny ImageNet: choosing ahead above 10 %", _FIG_5_5),
    Measured("pretrained", 10, 5, 50, "random", "CIFAR10: random ahead below 1 % of 50,000 images", _FIG_5_3),
    Measured("pretrained", 10, 50, 2500, "active learning", "CIFAR10: choosing ahead from 1 % onward", _FIG_5_3),
    Measured("pretrained", 100, 5, 50, "random", "CIFAR100: random ahead below 10 % of 50,000 images", _FIG_5_4),
    Measured("pretrained", 100, 50, 200, "either", "CIFAR100: no gain before about 40 %", _FIG_5_4),
    Measured("pretrained", 100, 200, 250, "active learning", "CIFAR100: a gain from about 40 %", _FIG_5_4),
    Measured(
        *("pretrained", 200, 4.5, 225, "random"),
        "Tiny ImageNet: random ahead up to half of 90,000 images, by a shrinking margin",
        _FIG_5_5,
    ),
    Measured(
        *("frozen", 10, 1, 16, "active learning"),
        "CIFAR-10: selectors that cover (MaxHerding, TypiClust, ProbCover) +12 points at 1 label per class, +3.8 at 16 "
        "(50 seeds); margin level with random, core-set below it",
        "docs/results.md, claims_cold.csv",
    ),
    Measured(
        *("frozen", 10, 16, 80, "either"),
        "CIFAR-10: margin +0.2 (-0.2 to 0.6) at 64 labels per class, entropy -1.6 (-3.0 to -0.2) at 32 (8 seeds)",
        "docs/results.md, claims_threshold.csv",
    ),
    Measured(
        *("frozen", 10, 80, 320, "active learning"),
        "CIFAR-10: margin +0.3 (0.0 to 0.7) at 80 labels per class, +0.6 at 160, +0.8 at 320; BADGE +0.6, +0.6, +0.7 "
        "(8 seeds)",
        "docs/results.md, claims_middle.csv",
    ),
    Measured(
        *("frozen", 31, 4, 8, "active learning"),
        "runway debris, one object a frame: MaxHerding +12.5 AP50 at 4 frames per class, +8.2 at 8; k-center +10.2 and "
        "+8.3; margin -1.9 to +1.3, entropy -7.1 to -1.2 (50 seeds)",
        "docs/results.md, fod_a_frozen.csv",
    ),
)


@dataclass(frozen=True, slots=True)
class Advice:
    """`share` is of the pool; `rows` what was measured that the answer rests on."""

    expected: Expected
    features: Features
    classes: int
    share: float
    per_class: float
    rows: tuple[Measured, ...]


def advise(classes: int, pool: int, budget: int, *, features: Features) -> Advice:
    """What to expect of `budget` labels in total, the first random ones among them.

    Args:
        classes: how many there are.
        pool: images, labelled or not.
        budget: images that will be labelled in the end.
        features: where the model's features come from.

    Raises:
        LabelwiseError: fewer than 2 classes, an empty pool, a budget that is negative or larger than the pool.
    """
    if classes < 2:
        raise LabelwiseError(f"classes = {classes}: expected at least 2; with one class there is nothing to tell apart")
    if pool < 1:
        raise LabelwiseError(f"pool = {pool}: expected at least 1 image")
    if not 0 <= budget <= pool:
        raise LabelwiseError(f"budget = {budget}: expected 0 to {pool}, the images of the pool; give labels in total")
    per_class = budget / classes
    known = sorted({row.classes for row in MEASURED if row.features == features})
    near = {c for c in known if c <= classes}, {c for c in known if c >= classes}
    between = {max(near[0]), min(near[1])} if all(near) else set[int]()
    rows = tuple(row for c in sorted(between) if (row := _at(features, c, per_class)) is not None)
    expected: Expected = "not known"
    if budget == pool:
        expected = "nothing to choose"
    elif rows and len(rows) == len(between):
        expected = rows[0].ahead if len({row.ahead for row in rows}) == 1 else "either"
    return Advice(expected, features, classes, budget / pool, per_class, rows)


def _at(features: Features, classes: int, per_class: float) -> Measured | None:
    """The row of this number of classes; where two meet, the one that speaks more for choosing."""
    fits = (row for row in MEASURED if (row.features, row.classes) == (features, classes))
    return max((row for row in fits if row.low <= per_class <= row.high), key=lambda row: RANK[row.ahead], default=None)


def text(advice: Advice) -> str:
    """The advice in plain lines, for a terminal.

    >>> print(text(advise(10, 50_000, 100, features="pretrained")))
    Expect random labelling to do better.
    10 labels per class (0.2 % of the pool), self-supervised features of these images.
    - 10 classes, 5 to 50 labels per class: CIFAR10: random ahead below 1 % of 50,000 images (001, 5.5, Fig. 5.3)
    """
    expected = {
        "active learning": "Expect choosing (active learning) to beat random labelling.",
        "random": "Expect random labelling to do better.",
        "either": "Choosing or random labelling: either may be better.",
        "not known": "Not known: nobody whose results stand here has measured that.",
        "nothing to choose": "The budget labels the whole pool, so there is nothing to choose.",
    }[advice.expected]
    share = f"{100 * advice.share:.1f} % of the pool"
    lines = [expected, f"{advice.per_class:.3g} labels per class ({share}), {WORDS[advice.features]}."]
    lines += [f"- {_range(row)}: {row.what} ({row.source})" for row in advice.rows]
    if advice.expected == "not known":
        ranges = [_range(row) for row in MEASURED if row.features == advice.features]
        lines.append(f"- Measured for {WORDS[advice.features]}: {'; '.join(ranges)}")
    if advice.features == "scratch" and advice.expected != "nothing to choose" and advice.share < 0.5:
        lines.append(
            "- Pre-train first (labelwise pretrain) or take frozen features (features.body): self-supervision saved "
            "more labels than choosing, most of all for small budgets (001, section 5.1 and 5.5, Table 5.1)"
        )
    return "\n".join(lines)


def _range(row: Measured) -> str:
    return f"{row.classes} classes, {row.low:g} to {row.high:g} labels per class"
