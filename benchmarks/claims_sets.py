"""The sets of `benchmarks/claims.py`: which methods on which data, with which settings, for which claim of a document.

All are heads on frozen ImageNet features (recipes cifar10_frozen and mnist_frozen), whose runs take seconds. Where a
set has the document's shares (10 % at the start, 5 % a round), they are of 6,000 images drawn by the seed, not 50,000.
`seeds` is how many a full run has: as many as all sets take three quarters of an hour on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass

from labelwise.study.compare import Way

SMALL_POOL = "data.sample=6000"
LINEAR = "model.kind=linear"
"""Trained by SGD over epochs: label dispersion and the teacher's choice by it need a history; dropout is trained."""

SHARES = (SMALL_POOL, LINEAR, "budget.start_images=600", "budget.per_round=[300, 300, 300, 300]")
"""10 % and 4 x 5 % of 6,000 images (001, sections 3.4.1, 3.5 and 4.5.1)."""

LAM = {"entropy": 1.0, "bald": 0.2, "vaal": 0.1, "kcenter": 2.0}
"""λ of each class-balanced method: the median of `claims.py lambdas` over seeds 1000 to 1002 (claims_lambdas.csv); 0.1
is the smallest that it tries."""


@dataclass(frozen=True)
class Set:
    """What one set runs, and what is compared with what.

    `against`: baselines of every other method. `pairs`: further (method, baseline) pairs. `all_data`: a model of the
    whole pool as well, once per seed.
    """

    claims: str
    data: str
    ways: tuple[Way, ...]
    settings: tuple[str, ...]
    seeds: int
    against: tuple[str, ...] = ("random_image",)
    pairs: tuple[tuple[str, str], ...] = ()
    all_data: bool = False


def plain(*recipes: str) -> tuple[Way, ...]:
    """Methods that are recipes as they stand."""
    return tuple(Way(name, name) for name in recipes)


def balanced(name: str, score: str, *more: str) -> Way:
    """A class-balanced recipe with the λ of its score."""
    return Way(name, name, (f"query.select.lam={LAM[score]}", *more))


CLASS_BALANCED = (
    *plain("random_image", "entropy_image", "coreset_image", "vaal", "bald_image"),
    balanced("entropy_cb", "entropy"),
    balanced("entropy_cb_pseudo", "entropy"),
    balanced("kcenter_cb", "kcenter"),
    balanced("vaal_cb", "vaal"),
    balanced("bald_cb", "bald"),
)
BALANCE_PAIRS = (
    ("entropy_cb", "entropy_image"),
    ("entropy_cb_pseudo", "entropy_image"),
    ("entropy_cb", "entropy_cb_pseudo"),
    ("kcenter_cb", "coreset_image"),
    ("vaal_cb", "vaal"),
    ("bald_cb", "bald_image"),
)
FRONTIER = plain(
    *("random_image", "margin_image", "coreset_image", "typiclust", "probcover"),
    *("herding", "uncertainty_herding"),
)
WARM = "train.warm_start=true"


def imbalanced(factor: float) -> Set:
    """Table 4.1 at one imbalance factor; the first images are as many of every class."""
    tail = () if factor == 1 else (f"data.imbalance={factor}",)
    settings = (*SHARES, "budget.start=balanced", *tail)
    claims = f"001 Table 4.1, Fig. 4.3, 4.5, 4.7-4.10 at IF {factor:g}"
    return Set(claims, "cifar10_frozen", CLASS_BALANCED, settings, seeds=8, pairs=BALANCE_PAIRS)


def teachers(share: int) -> tuple[Way, ...]:
    """The two-model loop with `share` per cent of the pool as pseudo labels."""
    by = f"labels.teacher.share={share / 100}"
    return tuple(Way(f"{name}_{share}", name, (by,)) for name in ("teacher_entropy", "teacher_dispersion"))


SETS = {
    "low": Set(
        "001 Fig. 5.3 below 1 %; the low-budget frontier, from 10 random labels",
        "cifar10_frozen",
        FRONTIER,
        (),
        seeds=50,
    ),
    "cold": Set(
        "the same from one random label: the first ten are the method's own choice",
        "cifar10_frozen",
        FRONTIER,
        ("budget.start_images=1", "budget.per_round=[9, 10, 20, 40, 80]"),
        seeds=50,
    ),
    "middle": Set(
        "001 Fig. 3.6 and 5.3 at 200 to 3,200 labels",
        "cifar10_frozen",
        plain("random_image", "entropy_image", "margin_image", "dispersion", "badge", "coreset_image"),
        (SMALL_POOL, LINEAR, "budget.start_images=200", "budget.per_round=[200, 400, 800, 1600]"),
        seeds=16,
    ),
    "shares": Set(
        "001 Table 3.1, Fig. 3.3 to 3.6",
        "cifar10_frozen",
        plain(
            *("random_image", "dispersion", "margin_image", "bald_image", "coreset_image", "coreset_milp"),
            *("vaal", "entropy_image", "misclassified"),
        ),
        SHARES,
        seeds=8,
        pairs=tuple(("dispersion", other) for other in ("margin_image", "bald_image", "coreset_image", "vaal")),
        all_data=True,
    ),
    "teacher": Set(
        "001 Fig. 3.8",
        "cifar10_frozen",
        (
            *plain("random_image", "coreset_image", "ceal"),
            Way("entropy_warm", "entropy_image", (WARM,)),
            *teachers(10),
            *teachers(25),
        ),
        SHARES,
        seeds=8,
        against=("random_image", "entropy_warm", "ceal"),
        pairs=tuple(
            (f"teacher_dispersion_{share}", other)
            for share in (10, 25)
            for other in (f"teacher_entropy_{share}", "coreset_image")
        ),
    ),
    "balance_0.1": imbalanced(0.1),
    "balance_0.3": imbalanced(0.3),
    "balance_1": imbalanced(1),
    "tail": Set(
        "001 Table 4.1 at a lower budget, 100 to 800 labels, IF 0.1",
        "cifar10_frozen",
        (*plain("random_image", "entropy_image"), balanced("entropy_cb", "entropy")),
        (
            *(SMALL_POOL, LINEAR, "data.imbalance=0.1", "budget.start=balanced", "budget.start_images=100"),
            "budget.per_round=[100, 200, 400]",
        ),
        seeds=20,
        pairs=(("entropy_cb", "entropy_image"),),
    ),
    "threshold": Set(
        "001 Fig. 5.3 and 5.6: from how many labels on active learning beats random",
        "cifar10_frozen",
        plain("random_image", "entropy_image", "margin_image", "svm_margin", "coreset_image"),
        (SMALL_POOL, "budget.start_images=20", "budget.per_round=[20, 40, 80, 160, 320, 640, 1280]"),
        seeds=16,
    ),
    "threshold_mnist": Set(
        "001 Fig. 5.6 on another set of 10 classes",
        "mnist_frozen",
        plain("random_image", "entropy_image", "margin_image", "coreset_image"),
        ("budget.per_round=[20, 40, 80, 160, 320, 640]",),
        seeds=16,
    ),
    "stand_in": Set(
        "001 Fig. 5.3: from scratch (features_scratch_cifar10.csv) against pretrained frozen features, equal labels",
        "cifar10_frozen",
        plain("random_image", "entropy_image"),
        ("data.sample=10000", "budget.start_images=100", "budget.per_round=[100, 300, 500, 2000]"),
        seeds=8,
    ),
}
