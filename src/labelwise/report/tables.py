"""The tables of a report: every number that a figure shows, and what the runs were made with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.report.curves import metrics_of
from labelwise.report.histograms import DISTRIBUTIONS, order
from labelwise.report.spread import (
    Group,
    entropy_nats,
    imbalance,
    l1_score,
    mean_counts,
    results_of,
    seed_counts,
    spread,
    values,
)
from labelwise.report.wording import DASH, count, duration, points

MOST_SKIPPED = 200
Cells = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` start with their row header; `strong` are (row, column) of cells to stress; `text` tables align left."""

    caption: str
    columns: Sequence[str]
    rows: Cells
    note: str = ""
    strong: frozenset[tuple[int, int]] = frozenset()
    text: bool = False
    spans: Sequence[tuple[str, int]] = ()
    """A row of headings above the columns, each over that many of them."""

    @property
    def has_missing(self) -> bool:
        return any(cell == DASH for row in self.rows for cell in row)


def _column(group: Group, quantity: str) -> list[str]:
    mean, std, _ = spread(values(group, quantity))
    write = count if quantity.startswith("cost_") else points
    return [write(float(m), float(s)) for m, s in zip(mean, std, strict=True)]


def rounds(group: Group) -> Table:
    """Costs and accuracy of every round."""
    names = {
        "cost_boxes": "Boxes",
        "cost_queries": "Queries",
        "cost_images": "Images",
        "cost_seconds": "Seconds",
    }
    shown = ["quality", *(("ap", "ap75") if group.metric == "AP50" else ())]
    shown += ["rare_quality"] if "rare_quality" in metrics_of([group]) else []
    names |= {quantity: group.name_of(quantity) for quantity in shown}
    columns = [_column(group, quantity) for quantity in names]
    rows = [[str(number), *(c[i] for c in columns)] for i, number in enumerate(group.rounds)]
    n = len(group.runs)
    spread_note = f" Mean ± standard deviation of {n} seeds." if n > 1 else ""
    note = f"Costs add up over the rounds; seconds are annotation time.{spread_note}"
    incomplete = [
        f"seed {r.seed} has {len(r.rounds)} of {len(group.rounds)} rounds"
        for r in group.runs
        if len(r.rounds) < len(group.rounds)
    ]
    if incomplete:
        note += f" Incomplete: {'; '.join(incomplete)}."
    return Table(f"{group.name}: numbers of every round", ["Round", *names.values()], rows, note)


def overview(groups: Sequence[Group], bounds: Sequence[Group] = ()) -> Table:
    """The quality by name and round (000, Table 1) and what it cost in all; the best mean of a round is stressed, among
    the methods: `bounds` (everything labelled) are rows as well.
    """
    numbers = sorted({r for g in groups for r in g.rounds})
    means = np.full((len(groups), len(numbers)), np.nan)
    rows = []
    for i, group in enumerate([*groups, *bounds]):
        mean, _, _ = spread(values(group, "quality"))
        own = dict(zip(group.rounds, _column(group, "quality"), strict=True))
        for r, m in zip(group.rounds, mean, strict=True):
            if i < len(groups):
                means[i, numbers.index(r)] = m
        cost = [count(round(v)) if math.isfinite(v) else DASH for v in final(group, "cost_boxes", "cost_queries")]
        time = duration(final(group, "cost_seconds")[0])
        rows.append([group.name, str(len(group.runs)), *(own.get(r, DASH) for r in numbers), *cost, time])
    best = np.where(np.isfinite(means), means, -np.inf).max(axis=0, initial=-np.inf)
    is_best = np.isfinite(means) & (means == best)
    is_best &= ~is_best.all(axis=0)
    strong = frozenset((int(i), int(j) + 2) for i, j in np.argwhere(is_best))
    note = "Mean ± standard deviation over the seeds. Bold: the highest mean of the round."
    heads = ["Run", "Seeds", *(f"Round {r}" for r in numbers), "Boxes", "Queries", "Annotation time"]
    metric = groups[0].metric if groups else "AP50"
    spans = [("", 2), (metric, len(numbers)), ("Cost in all, mean", 3)] if numbers else []
    return Table(f"{_capital(metric)} by round, and its cost", heads, rows, note, strong, spans=spans)


def relative(groups: Sequence[Group], whole: Group) -> Table:
    """Share of the quality of a model of all data, at each share of the images (001, Table 2.2: "Rel.")."""
    most = final(whole, "quality")[0]
    numbers = sorted({r for g in groups for r in g.rounds})
    rows = []
    for group in groups:
        mean, std, _ = spread(values(group, "quality") / most) if most > 0 else 3 * [np.full(len(group.rounds), np.nan)]
        pool = group.runs[0].pool_images
        images = spread(values(group, "cost_images"))[0] / pool if pool else np.full(len(group.rounds), np.nan)
        cells = {
            number: f"{points(float(m), float(s))} % at {100 * float(share):.3g} %" if math.isfinite(m) else DASH
            for number, m, s, share in zip(group.rounds, mean, std, images, strict=True)
        }
        rows.append([group.name, *(cells.get(number, DASH) for number in numbers)])
    note = f"{_capital(whole.metric)} over the {points(most)} of a model of all images, and the share of the "
    note += "images that were labelled by then. Mean ± standard deviation over the seeds."
    heads = ["Run", *(f"Round {number}" for number in numbers)]
    return Table(f"Share of all data's {whole.metric}, at which share of the images", heads, rows, note)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def final(group: Group, *quantities: str) -> list[float]:
    """Means over the seeds at the last round; NaN where there is no round."""
    if not group.rounds:
        return [math.nan] * len(quantities)
    return [float(spread(values(group, q)[:, -1:])[0][0]) for q in quantities]


def per_class(groups: Sequence[Group]) -> Table | None:
    """The quality per class: by round for one name, of the last round for several."""
    if not groups:
        return None
    classes = list(dict.fromkeys(c for g in groups for c in g.classes))
    if len(groups) == 1:
        heads = [(f"Round {r}", groups[0], r) for r in groups[0].rounds]
        caption = f"{_capital(groups[0].metric)} per class and round"
    else:
        heads = [(g.name, g, g.rounds[-1]) for g in groups if g.rounds]
        caption = f"{_capital(groups[0].metric)} per class after the last round"
    columns = []
    for _, group, number in heads:
        found = [r.per_class for r in results_of(group, number)]
        table = [[math.nan if (v := f.get(c)) is None else v for c in classes] for f in found]
        mean, std, _ = spread(np.asarray(table, float).reshape(len(found), len(classes)))
        columns.append([points(float(m), float(s)) for m, s in zip(mean, std, strict=True)])
    if not any(cell != DASH for column in columns for cell in column):
        return None
    rows = [[c, *(column[i] for column in columns)] for i, c in enumerate(classes)]
    note = f"A class without ground truth in the test split has no {groups[0].metric}."
    return Table(caption, ["Class", *(head for head, _, _ in heads)], rows, note)


def class_counts(group: Group, number: int, shown: Sequence[str]) -> Table:
    """The numbers behind a class histogram."""
    columns = [mean_counts(group, number, d) for d in shown]
    rows = [[group.classes[c], *(count(column[c]) for column in columns)] for c in order(group, number)]
    heads = ["Class", *(DISTRIBUTIONS[d] for d in shown)]
    return Table(f"{group.name}: boxes per class, round {number}", heads, rows)


def balance(group: Group, shown: Sequence[str]) -> Table:
    """Imbalance factor, entropy and L1 score of every distribution in every round (001, Fig. 4.8-4.10)."""
    rows = []
    for number in group.rounds:
        row = [str(number)]
        for distribution in shown:
            row += _balance_cells(group, number, distribution)
        rows.append(row)
    heads = ["imbalance", "entropy", "L1 score"] * len(shown)
    spans = [("", 1), *((DISTRIBUTIONS[d], 3) for d in shown)]
    most = math.log(max(len(group.classes), 1))
    note = f"Entropy in nats; {most:.2f} if all {len(group.classes)} classes were equally frequent. "
    note += "L1 score: distance to equal counts, 0 to 1 (001, Eq. 4.10)."
    note += " Computed for every seed, then mean ± standard deviation." if len(group.runs) > 1 else ""
    return Table(f"{group.name}: class balance of every round", ["Round", *heads], rows, note, spans=spans)


def _balance_cells(group: Group, number: int, distribution: str) -> list[str]:
    """Imbalance and entropy, each computed per seed: counts pooled over seeds would look more even than any run was."""
    found = [[float(m.get(c, 0)) for c in group.classes] for m in seed_counts(group, number, distribution)]
    per_seed = [(*imbalance(c), entropy_nats(c), l1_score(c)) for c in found if sum(c) > 0]
    if not per_seed:
        return [DASH, DASH, DASH]
    mean, std, _ = spread(np.asarray(per_seed, float))
    absent = f" ({count(float(mean[1]))} absent)" if mean[1] > 0 else ""
    deviations = [f" ± {s:.2f}" if math.isfinite(s) else "" for s in std]
    l1 = f"{mean[3]:.2f}{deviations[3]}" if math.isfinite(mean[3]) else DASH
    return [f"{mean[0]:.2f}{deviations[0]}{absent}", f"{mean[2]:.2f}{deviations[2]}", l1]


def answers(groups: Sequence[Group]) -> Table | None:
    """How the questions were answered, mean per run."""
    kinds = list(dict.fromkeys(k for g in groups for run in g.runs for r in run.rounds for k in r.answers))
    if not kinds:
        return None
    rows = []
    for group in groups:
        totals = [sum(r.answers.get(k, 0) for run in group.runs for r in run.rounds) / len(group.runs) for k in kinds]
        rows.append([group.name, *(count(t) for t in totals)])
    note = "Mean per run. object: one box annotated; all: every box of an image; background and duplicate bring no box."
    return Table("Answers by kind", ["Run", *kinds], rows, note)


def stages(groups: Sequence[Group]) -> Table | None:
    """Machine time per stage, mean per round, and its share; score + select as a sum of their own."""
    everything = [r.stage_seconds for g in groups for run in g.runs for r in run.rounds]
    in_order = sorted(everything, key=len, reverse=True)
    names = list(dict.fromkeys(s for found in in_order for s in found))
    if not names:
        return None
    columns = []
    for group in groups:
        timed = [r.stage_seconds for run in group.runs for r in run.rounds if r.stage_seconds]
        mean = {s: sum(t.get(s, 0.0) for t in timed) / max(len(timed), 1) for s in names}
        mean["score + select"] = mean.get("score", 0.0) + mean.get("select", 0.0)
        total = sum(mean[s] for s in names)
        column = [f"{v:,.2f} s ({v / total:.1%})" if total > 0 else DASH for v in mean.values()]
        columns.append([*column, f"{total:,.1f} s" if timed else DASH])
    heads = [*names, "score + select", "whole round"]
    rows = [[head, *(c[i] for c in columns)] for i, head in enumerate(heads)]
    strong = frozenset((len(names) + k, j + 1) for k in (0, 1) for j in range(len(groups)))
    note = "Machine time per round, mean over rounds and seeds, with its share of the round."
    return Table("Time per stage", ["Stage", *(g.name for g in groups)], rows, note, strong)


def skipped(groups: Sequence[Group]) -> Table | None:
    """Images that could not be used, once each, with the reason."""
    places: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        for run in group.runs:
            for result in run.rounds:
                for image, message in result.skipped:
                    places.setdefault((image, message), []).append(f"{run.name}, seed {run.seed}, round {result.round}")
    if not places:
        return None
    rows = [
        [image, message, where[0] + (f" and {len(where) - 1} more" if len(where) > 1 else "")]
        for (image, message), where in places.items()
    ]
    left = len(rows) - MOST_SKIPPED
    note = f"The first {MOST_SKIPPED}; {left} more are in the metrics of the rounds." if left > 0 else ""
    return Table("Skipped images", ["Image", "Reason", "Met in"], rows[:MOST_SKIPPED], note, text=True)


def changes(groups: Sequence[Group]) -> Table | None:
    """Settings that changed while a run was under way."""
    rows = [
        [f"{run.name}, seed {run.seed}", str(result.round), line]
        for group in groups
        for run in group.runs
        for result in run.rounds
        for line in result.changed
    ]
    note = "A round in which settings changed has a ring in the learning curves."
    return Table("Settings that changed", ["Run", "Round", "What changed"], rows, note, text=True) if rows else None


def settings(groups: Sequence[Group]) -> Table | None:
    """One row per setting, those that differ between the names first and marked."""
    flat = [
        {"seeds": ", ".join(map(str, g.seeds)), "recipe": g.runs[0].recipe, "data": g.runs[0].data}
        | {"budget unit": g.runs[0].budget_unit}
        | _flatten(g.runs[0].settings)
        for g in groups
    ]
    keys = list(dict.fromkeys(k for f in flat for k in f))
    if not keys:
        return None
    differing = [k for k in keys if len({f.get(k, DASH) for f in flat}) > 1]
    rows = [[f"≠ {k}" if k in differing else k, *(f.get(k) or DASH for f in flat)] for k in differing]
    rows += [[k, *(f.get(k) or DASH for f in flat)] for k in keys if k not in differing]
    note = "≠ marks what differs between the runs. Settings are those of the first seed." if differing else ""
    return Table("Settings", ["Setting", *(g.name for g in groups)], rows, note, text=True)


def versions(groups: Sequence[Group]) -> Table | None:
    """Software and machine, every combination that occurred."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for run in group.runs:
            for name, version in run.versions.items():
                if version not in found.setdefault(name, []):
                    found[name].append(version)
    if not found:
        return None
    return Table("Versions", ["Software", "Version"], [[k, "; ".join(v)] for k, v in found.items()], text=True)


def _flatten(settings: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            out |= _flatten(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = str(value)
    return out
