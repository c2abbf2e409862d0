"""The summary of `partial_labels.py`: means, share of the headroom, paired differences with bootstrap intervals."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from partial_labels_spread import is_apart, sections

ENOUGH = 10.0
"""AP50 of headroom from which a bed decides anything."""
DRAWS, SEED = 10_000, 0
Row = Mapping[str, str]
NO_LABEL, ALL_LABELS, IMAGES = "no new label", "everything labelled", "random images"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interval(difference: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean over seeds; of one seed there is none (NaN)."""
    if len(difference) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(SEED)
    means = difference[rng.integers(0, len(difference), (DRAWS, len(difference)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def summary(rows: Sequence[Row]) -> str:
    """One section per bed and number of rounds."""
    parts = ["# Partial labels: the ablation\n", _legend()]
    for bed, rounds in dict.fromkeys((row["bed"], row["rounds"]) for row in rows):
        parts.append(_bed(bed, rounds, [row for row in rows if (row["bed"], row["rounds"]) == (bed, rounds)]))
    return "\n".join(parts)


def _legend() -> str:
    return (
        "AP50 in points, mean over seeds (of every seed's mean over its rounds). Headroom share: (AP50 - no new label) "
        "/ (everything labelled - no new label), both trained by the row's recipe, or where it has none by the recipe "
        "before its first comma or plus. Minus random images: at the same budget (METHOD @BUDGET; boxes where none is "
        f"named). Differences: paired by seed, [95 % bootstrap interval over seeds, {DRAWS} draws]; nothing is "
        "corrected for many comparisons.\n"
    )


def _bed(bed: str, rounds: str, rows: Sequence[Row]) -> str:
    value: dict[tuple[str, str, str], dict[str, float]] = {}
    cost: dict[tuple[str, str, str], list[Row]] = {}
    own = [row for row in rows if not is_apart(row["recipe"])]
    for key in dict.fromkeys((_recipe(row), row["method"], row["policy"]) for row in own):
        like = [row for row in own if (_recipe(row), row["method"], row["policy"]) == key]
        seeds = dict.fromkeys(row["seed"] for row in like)
        value[key] = {s: float(np.mean([float(row["ap50"]) for row in like if row["seed"] == s])) for s in seeds}
        cost[key] = [row for row in like if row["round"] == rounds]
    out = [f"\n## {bed}, {'one jump' if rounds == '1' else f'{rounds} rounds'}\n"]
    for recipe in dict.fromkeys(key[0] for key in value):
        here = {key[1:]: value[key] for key in sorted(value, key=_place) if key[0] == recipe}
        beside = _beside(recipe, value)
        out += [f"### recipe {recipe}\n", _headroom(beside), ""]
        head = ["method", "policy", "seeds", "AP50", "headroom share", "minus no new label", "minus random images"]
        head += ["boxes", "questions", "annotation s", "pseudo recall / precision", "CPU s"]
        out += [_line(head), _line(["---"] * len(head))]
        out += [_line(_cells(key, here[key], beside, cost[(recipe, *key)])) for key in here]
        out.append(_short_part(here))
    return "\n".join(out + sections(rows))


def _beside(
    recipe: str, value: Mapping[tuple[str, str, str], dict[str, float]]
) -> dict[tuple[str, str], dict[str, float]]:
    """What a recipe's rows are compared with: bounds and random images of its own, else of the recipe it is made of."""
    name = recipe.partition(": ")[0]
    origin = re.split("[,+]", name)[0]
    out = {key[1:]: seeds for key, seeds in value.items() if key[0].partition(": ")[0] == origin}
    own = {key[1:]: seeds for key, seeds in value.items() if key[0] == recipe}
    return own if {NO_LABEL, ALL_LABELS} & {method for method, _ in own} else out | own


def _place(key: tuple[str, str, str]) -> tuple[int, str, str]:
    """The bounds first, images before boxes."""
    method = key[1]
    first = [NO_LABEL, ALL_LABELS, IMAGES]
    name = method.partition(" @")[0]
    return (first.index(name) if name in first else 3 + name.endswith("boxes"), method, key[2])


def _recipe(row: Row) -> str:
    return f"{row['recipe']}: {row['recipe_settings']}"


def _line(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _bound(here: Mapping[tuple[str, str], dict[str, float]], name: str) -> dict[str, float]:
    return next((seeds for (method, _), seeds in here.items() if method == name), {})


def _headroom(here: Mapping[tuple[str, str], dict[str, float]]) -> str:
    low, high = _bound(here, NO_LABEL), _bound(here, ALL_LABELS)
    seeds = sorted(set(low) & set(high))
    if not seeds:
        return "Headroom unknown: one of the rows *no new label* and *everything labelled* is missing."
    room = np.array([high[s] - low[s] for s in seeds])
    text = f"Headroom {room.mean():.1f} AP50 ({len(seeds)} seeds)."
    if room.mean() < ENOUGH:
        text += f" **Less than {ENOUGH:g}: this bed decides nothing about methods.**"
    return text


def _cells(
    key: tuple[str, str], own: dict[str, float], beside: Mapping[tuple[str, str], dict[str, float]], rows: Sequence[Row]
) -> list[str]:
    low, high = _bound(beside, NO_LABEL), _bound(beside, ALL_LABELS)
    _, at, budget = key[0].partition(" @")
    seeds = sorted(set(own) & set(low) & set(high))
    share = "–"
    if seeds:
        room = np.mean([high[s] - low[s] for s in seeds])
        gain = np.mean([own[s] - low[s] for s in seeds])
        share = f"{100 * gain / room:.0f} %" if room > 0 else "–"
    spread = f" ({np.std(list(own.values()), ddof=1):.1f})" if len(own) > 1 else ""
    mean = [_mean(rows, name) for name in ("boxes", "questions", "annotation_s")]
    pseudo = f"{_mean(rows, 'pseudo_recall', 2)} / {_mean(rows, 'pseudo_precision', 2)}"
    return [
        *key, str(len(own)), f"{np.mean(list(own.values())):.1f}{spread}", share,
        _difference(own, low), _difference(own, _bound(beside, IMAGES + at + budget)), *mean, pseudo,
        _mean(rows, "cpu_s"),
    ]  # fmt: skip


def _mean(rows: Sequence[Row], name: str, digits: int = 0) -> str:
    values = [float(row[name]) for row in rows if row[name] not in ("", "nan")]
    return f"{np.mean(values):.{digits}f}" if values else "–"


def _difference(own: Mapping[str, float], other: Mapping[str, float]) -> str:
    seeds = sorted(set(own) & set(other))
    if not seeds or own is other:
        return "–"
    return _signed(np.array([own[s] - other[s] for s in seeds]))


def _signed(difference: np.ndarray) -> str:
    low, high = interval(difference)
    return f"{difference.mean():+.1f}" + ("" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}]")


def _short_part(here: Mapping[tuple[str, str], dict[str, float]]) -> str:
    """Which part of the pseudo boxes is short: what each edit of the oracle gains over them as they are."""
    out = []
    for method, policy in [key for key in here if "/" in key[1]]:
        plain = here.get((method, policy.split("/")[0]), {})
        seeds = sorted(set(plain) & set(here[(method, policy)]))
        if seeds:
            gain = np.array([here[(method, policy)][s] - plain[s] for s in seeds])
            own, part = policy.split("/")
            out.append((float(gain.mean()), f"{method}, {own}: with {part} {_signed(gain)}"))
    if not out:
        return ""
    ordered = [text for _, text in sorted(out, reverse=True)]
    return (
        "\nThe oracle ablation (AP50 against the policy's own pseudo boxes), the largest first:\n\n- "
        + "\n- ".join(ordered)
        + "\n"
    )
