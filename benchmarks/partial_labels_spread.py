"""Two sections of the ablation's summary: when a training has converged, and the spread of one training alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

ENOUGH = 1.0
"""AP50 by which twice the steps may still change a training that has converged."""
Row = Mapping[str, str]
LENGTH = re.compile(r"\bexact=(\d+),?")
AGAIN = re.compile(r",(?:retrain=\d+|threads=\d+)")


def is_apart(recipe: str) -> bool:
    """Whether a recipe's rows belong to these sections alone."""
    return bool(LENGTH.search(recipe) or AGAIN.search(recipe))


def sections(rows: Sequence[Row]) -> list[str]:
    """Of one bed's rows; a section without rows is left out."""
    return [*_convergence(rows), *_noise(rows)]


def _values(rows: Sequence[Row]) -> dict[str, float]:
    """Seed -> AP50, the mean over its rounds."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return {s: float(np.mean([float(row["ap50"]) for row in rows if row["seed"] == s])) for s in seeds}


def _convergence(rows: Sequence[Row]) -> list[str]:
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    cpu: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        match = LENGTH.search(row["recipe"])
        if match:
            key, steps = (row["method"], LENGTH.sub("", row["recipe"])), int(match[1])
            found.setdefault(key, {}).setdefault(steps, {})[row["seed"]] = float(row["ap50"])
            cpu.setdefault((*key, steps), []).append(float(row["cpu_s"]))
    if not found:
        return []
    out = ["### Steps\n", f"Converged: twice the steps change the mean AP50 by less than {ENOUGH:g}.\n"]
    out += ["| method | recipe | steps | seeds | AP50 | twice the steps | CPU s |", "|---|---|---|---|---|---|---|"]
    for (method, recipe), lengths in found.items():
        for steps, own in sorted(lengths.items()):
            twice = lengths.get(2 * steps, {})
            shared = sorted(set(own) & set(twice))
            change = float(np.mean([twice[s] - own[s] for s in shared])) if shared else float("nan")
            said = "–" if np.isnan(change) else f"{change:+.1f}" + (", converged" if abs(change) < ENOUGH else "")
            mean, seconds = np.mean(list(own.values())), np.mean(cpu[(method, recipe, steps)])
            out.append(f"| {method} | {recipe} | {steps} | {len(own)} | {mean:.1f} | {said} | {seconds:.0f} |")
    return [*out, ""]


def _noise(rows: Sequence[Row]) -> list[str]:
    """Standard deviations: of trainings that differ in their seed alone, pooled over data seeds; over data seeds."""
    again = [row for row in rows if AGAIN.search(row["recipe"])]
    out = []
    for method, policy, recipe in dict.fromkeys((r["method"], r["policy"], AGAIN.sub("", r["recipe"])) for r in again):
        like = [row for row in rows if (row["method"], row["policy"]) == (method, policy)]
        plain = _values([row for row in like if row["recipe"] == recipe])
        trainings: dict[str, list[float]] = {seed: [value] for seed, value in plain.items()}
        threads = []
        for row in like:
            rest = row["recipe"].removeprefix(recipe)
            if row["recipe"].startswith(recipe) and row["seed"] in plain and ",threads=" in rest:
                threads.append(abs(float(row["ap50"]) - plain[row["seed"]]))
            elif row["recipe"].startswith(recipe) and row["seed"] in plain and ",retrain=" in rest:
                trainings[row["seed"]].append(float(row["ap50"]))
        groups = [np.array(values) for values in trainings.values() if len(values) > 1]
        freedom = sum(len(group) - 1 for group in groups)
        within = (
            float(np.sqrt(sum(((group - group.mean()) ** 2).sum() for group in groups) / freedom))
            if freedom
            else np.nan
        )
        across = float(np.std(list(plain.values()), ddof=1)) if len(plain) > 1 else np.nan
        most = f"{np.mean(threads):.1f} / {max(threads):.1f} ({len(threads)})" if threads else "–"
        out.append(
            f"| {method} | {policy} | {recipe} | {_sd(within)} ({freedom}) | {_sd(across)} ({len(plain)}) | {most} |"
        )
    if not out:
        return []
    return [
        "### Noise of one training\n",
        "Standard deviation of AP50 where only the training's seed differs (degrees of freedom), and over seeds of "
        "start, picks and training together (seeds); mean and largest change by 2 threads in place of 1 (pairs).\n",
        "| method | policy | recipe | training alone | seeds | 2 threads |",
        "|---|---|---|---|---|---|",
        *out,
        "",
    ]


def _sd(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"
