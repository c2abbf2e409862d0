"""The sets of rows of `partial_labels.py`: (method, label policy, recipe of training)."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import partial_labels_menu as menu
from partial_labels_oracle import EDITS

Row = tuple[str, str, str]
CORE = [
    *((name, "background") for name in menu.BOUNDS),
    ("random images", "background"),
    ("entropy-sum images", "background"),
    ("core-set images", "background"),
    ("random boxes", "background"),
    ("random boxes", "dual"),
    ("U boxes", "dual"),
    ("U+CB boxes", "background"),
    ("U+CB boxes", "soft0.05"),
    ("U+CB boxes", "dual"),
]
TABLE1 = [
    *((name, "background") for name in menu.BOUNDS),
    *((f"{name} images", "background") for name in ("random", "entropy", "entropy-sum", "core-set")),
    ("random boxes", "background"),
    ("U boxes", "background"),
    *(("U+CB boxes", how) for how in ("background", "hpl", "thpl", "tspl", "dual", "ignore")),
]
"""Table 1 of 000 (U, U+CB, HPL, THPL, TSPL) and what stands beside it; its U and U+CB take the rest as background.
`dual` and `ignore` are not of the document."""
TEACHERS = (
    *((how, "teacher") for how in ("dual", "dual0.5", "dual-nobox", "dual0.5-nobox", "dual-counts")),
    ("dual0.5-nobox", "share=0.75,teacher"),
    ("dual", "teacher,negatives"),
    ("dual", "teacher,teacher-decay=0.99"),
    ("dual", "negatives"),
)
"""Policy and the tokens after the recipe. The teacher's boxes become labels as the policy says."""
STEPS = (120, 240, 480, 960, 1920)
AUGMENT = "norm,scale,photo"
NOISE = ("sane", *(f"sane,retrain={k}" for k in (1, 2, 3)), "sane,threads=2")


def sets(policy: str, recipe: str) -> dict[str, list[Row]]:
    """Name -> rows; `policy` is that of box methods in the sets that vary something else."""
    bounds = [(name, "background", recipe) for name in menu.BOUNDS]
    images = ("random images", "background", recipe)
    noisy = ("random boxes", "uncertain boxes", "core-set boxes")
    return {
        "core": [(*row, recipe) for row in CORE],
        "policies": [(method, how, recipe) for method in ("random boxes", "U+CB boxes") for how in FIRST_POLICIES],
        "recipes": [
            (method, policy if "boxes" in method else "background", name)
            for name in menu.RECIPES
            for method in (*menu.BOUNDS, "random images", "U+CB boxes")
        ],
        "oracle": [
            *bounds,
            images,
            ("U+CB boxes", policy, recipe),
            *(("U+CB boxes", f"{policy}/{edit}", recipe) for edit in EDITS),
        ],
        "table1": [(*row, recipe) for row in TABLE1],
        "mural": [
            *bounds,
            images,
            *(("MuRAL regions", how, recipe) for how in ("crops", "crops-ignore", "coverage", "coverage-dual")),
        ],
        "noisy": [
            *bounds,
            *(
                (method + budget, how, recipe)
                for method in noisy
                for how in ("noisy", "noisy-eq3", "noisy-paper", "noisy-eq3-paper")
                for budget in (" @boxes", " @queries")
            ),
            *((f"random {what}", how, recipe) for what, how in (("images", "background"), ("boxes", policy))),
        ],
        "teacher": [
            *bounds,
            images,
            ("U+CB boxes", policy, recipe),
            *(("U+CB boxes", how, f"{recipe},{more}") for how, more in TEACHERS),
            *(("random boxes", policy, one) for one in (recipe, f"{recipe},teacher")),
        ],
        "boxes": [
            *bounds,
            images,
            *(("U+CB boxes", how, recipe) for how in ("dual", "dual-consistency", "dual-nobox")),
            *(("U+CB boxes", how, f"{recipe},vote") for how in ("dual", "dual-consistency")),
            *((name, "background", f"{recipe},quality") for name in (*menu.BOUNDS, "random images")),
            *(("U+CB boxes", how, f"{recipe},quality") for how in ("dual", "dual-quality")),
        ],
        "steps": [("no new label", "background", one) for one in _lengths()],
        "steps-all": [("everything labelled", "background", one) for one in _lengths()],
        "noise": [
            (method, how, name)
            for name in NOISE
            for method, how in ((menu.BOUNDS[0], "background"), images[:2], ("U+CB boxes", policy))
        ],
        "frcnn": [
            *((name, "background", f"{recipe},frcnn") for name in (*menu.BOUNDS, "random images")),
            *(("random boxes", how, f"{recipe},frcnn") for how in (policy,)),
            *(("U+CB boxes", how, f"{recipe},frcnn") for how in ("background", "tspl", "soft0.05", policy)),
        ],
    }


def _lengths() -> list[str]:
    """One training of every number of steps: from scratch, and from the first model."""
    return [f"exact={count}{how},{AUGMENT}" for how in ("", ",warm") for count in STEPS]


FIRST_POLICIES = (
    *("background", "ignore", "hard", "task_hard", "soft0.3", "soft0.05"),
    *("dual", "dual0.5", "dual-answers", "noisy", "noisy-eq3"),
)
"""The set `policies`."""


def rows_of(text: str, policy: str, recipe: str, budgets: Iterable[str] = ("boxes",)) -> list[Row]:
    """The rows that `--rows` names, each once, with each budget; the bounds and what names its budget only once."""
    if ":" in text:
        found: list[Row] = [tuple(one.strip() for one in cell.split(":")) for cell in text.split(";")]  # type: ignore[misc]
    else:
        every = sets(policy, recipe)
        unknown = set(text.split(",")) - set(every)
        if unknown:
            known = ", ".join(every)
            sys.exit(f"--rows: unknown {', '.join(sorted(unknown))}; expected {known}, or METHOD:POLICY:RECIPE")
        found = [row for name in text.split(",") for row in every[name]]
    return list(dict.fromkeys((_spends(row[0], one), *row[1:]) for one in budgets for row in found))


def _spends(method: str, budget: str) -> str:
    """The method with its budget; boxes go without saying, and the bounds have none."""
    name, _, own = method.partition(" @")
    budget = own or budget
    return name if budget == menu.BUDGETS[0] or name in menu.BOUNDS else f"{name} @{budget}"


def is_possible(row: Row) -> bool:
    """Whether this labelwise has the row's policy and all of its recipe's new tokens; tells if not."""
    method, policy, recipe = row
    name, _, budget = method.partition(" @")
    if name not in menu.METHODS or policy.split("/")[0] not in menu.POLICIES or budget not in ("", *menu.BUDGETS):
        expected = "; ".join(", ".join(one) for one in (menu.METHODS, menu.POLICIES, menu.BUDGETS))
        sys.exit(f"--rows: {row}: expected {expected}")
    missing = menu.missing_tokens(recipe)
    if not menu.is_known(tuple(menu.policy_settings(policy)), tuple(menu.recipe_settings(recipe))):
        missing = [policy, *missing]
    if missing:
        print(f"left out: {' / '.join(row)} (this labelwise has no {', '.join(missing)})", flush=True)
    return not missing
