"""The section on pseudo labels: precision and recall over the rounds and per class, confidence against share right.

Seeds of a name are added up before shares are taken. Intervals are Wilson's, 95 %, and count boxes as independent;
those of one image are not, so that the truth lies outside them more often than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from labelwise.report.curves import DASHES, MARKERS
from labelwise.report.results import BINS, Calibration, share
from labelwise.report.spread import Group, results_of
from labelwise.report.svg import MUTED, SERIES, drawing, inline
from labelwise.report.tables import Table
from labelwise.report.wording import DASH, count, plural, points

TRUTH, ANSWERS = "ground truth", "answers"
HARDER = (
    "Answered boxes are chosen by the method and thus harder than the average: the precision of all pseudo boxes is "
    "likely higher than that of the answered ones. Recall is of images and regions that somebody looked over wholly."
)


class Reliability(NamedTuple):
    """What the page shows of one name; no chart where only the growth of sure boxes is known."""

    name: str
    sentences: list[str]
    chart: Markup | None
    caption: str
    tables: list[Table]


def reliabilities(groups: Sequence[Group]) -> list[Reliability]:
    """One of every name whose runs have pseudo labels, or whose training noted its sure boxes."""
    several = [_of_group(group, f"reliability{i}") for i, group in enumerate(groups)]
    return [one for one in several if one is not None]


def _of_group(group: Group, key: str) -> Reliability | None:
    by_source = {source: sums(group, source) for source in (TRUTH, ANSWERS)}
    growth = {number: grown for number in group.rounds if (grown := sure_boxes(group, number)) is not None}
    if not (by_source[TRUTH] or by_source[ANSWERS] or growth):
        return None
    source = TRUTH if by_source[TRUTH] else ANSWERS
    shown = by_source[source]
    tables = [_rounds(group, by_source, growth)]
    sentences = [_growth(growth)] if growth else []
    if not shown:
        return Reliability(group.name, sentences, None, "", tables)
    last = max(shown)
    tables += [_classes(group, last, shown[last]), _bins(group, last, shown[last])]
    caption = (
        f"{group.name}, by {source}. Left: precision and recall of the pseudo labels that each round's model was "
        f"trained on. Right: round {last}, share right of the boxes of like confidence, with its 95 % interval; on the "
        "dotted line confidence is the probability of being right, above it the model is too modest, below it too sure."
    )
    sentences = [_outcome(last, shown[last]), *([HARDER] if by_source[ANSWERS] else []), *sentences]
    return Reliability(group.name, sentences, Markup(_chart(shown, key)), caption, tables)


def sums(group: Group, source: str) -> dict[int, Calibration]:
    """The counts of all seeds of every round that has some by this source, in the order of the name's classes."""
    out: dict[int, Calibration] = {}
    place = {name: k for k, name in enumerate(group.classes)}
    for run in group.runs:
        rows = np.array([place[name] for name in run.classes], np.int64)
        for result in run.rounds:
            for one in result.calibration:
                if one.source == source:
                    before = out.get(result.round) or _nothing(source, len(place))
                    out[result.round] = _sum(before, one, rows)
    return dict(sorted(out.items()))


def _nothing(source: str, n: int) -> Calibration:
    one, table = np.zeros(n, np.int64), np.zeros((n, BINS), np.int64)
    return Calibration(source, one, table, table, table.astype(np.float64), one, one)


def _sum(before: Calibration, one: Calibration, rows: Int64[np.ndarray, " C"]) -> Calibration:
    """Both together; class k of the second is class rows[k] of the first."""
    columns = {}
    for name in ("boxes", "checks", "right", "confidence", "objects", "hits"):
        columns[name] = getattr(before, name).copy()
        np.add.at(columns[name], rows, getattr(one, name))
    return Calibration(
        before.source, **columns, answers=before.answers + one.answers, weights=before.weights + one.weights
    )


def sure_boxes(group: Group, number: int) -> tuple[float, float] | None:
    """Sure boxes of an image in the first and the last tenth of a round's training, mean of the seeds that noted it."""
    noted = [result.sure_boxes for result in results_of(group, number) if result.sure_boxes is not None]
    if not noted:
        return None
    first, last = np.mean(noted, axis=0)
    return float(first), float(last)


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; NaN where there is nothing.

    z = 1.96, 3 of 4: centre (0.75 + 0.480) / 1.960 = 0.628, half width 0.328.

    >>> [round(value, 2) for value in interval(3, 4)]
    [0.3, 0.95]
    """
    if not of:
        return np.nan, np.nan
    found = stats.binomtest(right, of).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def total(one: Calibration) -> tuple[int, int, int, int]:
    """Of all classes: boxes right, boxes checked, objects hit, objects."""
    return int(one.right.sum()), int(one.checks.sum()), int(one.hits.sum()), int(one.objects.sum())


def calibration_error(one: Calibration) -> float:
    """How far confidence and share right lie apart, mean over the boxes (expected calibration error)."""
    checks, right, confidence = (table.sum(axis=0) for table in (one.checks, one.right, one.confidence))
    return float(np.abs(right - confidence).sum() / checks.sum()) if checks.sum() else np.nan


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


def _with_interval(right: int, of: int) -> str:
    low, high = interval(right, of)
    return f"{points(right / of)} ({points(low)} to {points(high)})" if of else DASH


def _outcome(number: int, one: Calibration) -> str:
    right, checks, hits, objects = total(one)
    expected = float(one.expectation().sum())
    text = f"Round {number}, by {one.source}: {right:,} of {plural(checks, 'pseudo box', 'pseudo boxes')} were right"
    text += f" ({points(_ratio(right, checks))} %)" if checks else ""
    text += f"; by their confidence it would have been {expected:,.0f}"
    if objects:
        text += f". Of {objects:,} objects that nobody had annotated they hit {hits:,} ({points(hits / objects)} %)"
    return text + "."


def _growth(growth: dict[int, tuple[float, float]]) -> str:
    number = max(growth)
    first, last = growth[number]
    word = "more" if last > first else "not more"
    return (
        f"In round {number} the online teacher was sure of {first:.1f} boxes an image in the first tenth of the "
        f"training and of {last:.1f} in the last: {word} than at its beginning. What grows beyond the objects that "
        "there are is its own errors, confirmed. The shares here are of the boxes of the model before, which the "
        "teacher replaces during the training."
    )


def _rounds(
    group: Group, by_source: dict[str, dict[int, Calibration]], growth: dict[int, tuple[float, float]]
) -> Table:
    truth, answers = by_source[TRUTH], by_source[ANSWERS]
    columns, spans = ["Round", "Pseudo boxes"], [("", 2)]
    if truth:
        columns, spans = [*columns, "Precision", "Recall"], [*spans, ("By ground truth", 2)]
    if answers:
        columns = [*columns, "Answers", "Boxes checked", "Precision (95 %)", "Recall"]
        spans.append(("By later answers", 4))
    if growth:
        columns, spans = [*columns, "First tenth", "Last tenth"], [*spans, ("Sure boxes an image", 2)]
    rows = []
    for number in sorted({*truth, *answers, *growth}):
        any_source = truth.get(number) or answers.get(number)
        cells = [str(number), count(float(any_source.boxes.sum())) if any_source else DASH]
        if truth:
            right, checks, hits, objects = total(truth[number]) if number in truth else (0, 0, 0, 0)
            cells += [points(_ratio(right, checks)), points(_ratio(hits, objects))]
        if answers:
            right, checks, hits, objects = total(answers[number]) if number in answers else (0, 0, 0, 0)
            said = answers[number].answers if number in answers else 0
            cells += [count(said), count(checks), _with_interval(right, checks), points(_ratio(hits, objects))]
        if growth:
            cells += [f"{value:.1f}" for value in growth[number]] if number in growth else [DASH, DASH]
        rows.append(cells)
    note = "Shares × 100. A pseudo box is right where it hits an object of its class that nobody had annotated"
    note += " (IoU ≥ 0.5)."
    note += " What is said in later rounds tells of the pseudo labels of a round." if answers else ""
    note += f" Sums over {len(group.runs)} seeds." if len(group.runs) > 1 else ""
    lost = sum(one.weights for one in {**answers, **truth}.values())
    note += f" Of {plural(lost, 'box', 'boxes')} no confidence is stored; the weight stands for it." if lost else ""
    return Table(f"{group.name}: pseudo labels of every round", columns, rows, note, spans=spans)


def _classes(group: Group, number: int, one: Calibration) -> Table:
    columns = ["Class", "Pseudo boxes", "Checked", "Right", "Expected by confidence"]
    columns += ["Precision", "Objects nobody annotated", "Hit", "Recall"]
    right, checks, expected = one.right.sum(axis=1), one.checks.sum(axis=1), one.expectation()
    counts = np.stack([one.boxes, checks, right, expected, one.objects, one.hits], axis=1).astype(np.float64)
    named = [("all", counts.sum(axis=0)), *zip(group.classes, counts, strict=True)]
    rows = []
    for name, (boxes, checked, good, sure, objects, hits) in named:
        cells = [count(boxes), count(checked), count(good), f"{sure:,.1f}"]
        cells += [points(_ratio(good, checked)), count(objects), count(hits), points(_ratio(hits, objects))]
        rows.append([name, *cells])
    return Table(f"{group.name}: pseudo labels per class, round {number}, by {one.source}", columns, rows)


def _bins(group: Group, number: int, one: Calibration) -> Table:
    checks, right, confidence = (table.sum(axis=0) for table in (one.checks, one.right, one.confidence))
    rows = []
    for k in np.flatnonzero(checks).tolist():
        cells = [count(float(checks[k])), points(float(confidence[k] / checks[k]))]
        rows.append([f"{k / BINS:.1f}–{(k + 1) / BINS:.1f}", *cells, _with_interval(int(right[k]), int(checks[k]))])
    columns = ["Confidence", "Boxes", "Mean confidence", "Share right (95 %)"]
    error = calibration_error(one)
    note = f"Confidence and share right lie {points(error)} points apart, mean over the boxes (calibration error)."
    note += " Intervals count boxes as independent; those of one image are not."
    return Table(f"{group.name}: confidence of the pseudo labels, round {number}, by {one.source}", columns, rows, note)


def _chart(shown: dict[int, Calibration], key: str) -> str:
    """Precision and recall over the rounds, and the reliability of the last one."""
    counts = np.array([total(one) for one in shown.values()], np.float64)
    with drawing():
        figure = Figure(figsize=(9.4, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.45, 1))
        numbers = list(shown)
        _lines(left, numbers, share(counts[:, 0], counts[:, 1]), share(counts[:, 2], counts[:, 3]))
        _reliability(right, shown[max(shown)])
        label = "Precision and recall of the pseudo labels, confidence against share right. Numbers are in the tables."
        return inline(figure, key=key, label=label)


def _lines(ax: Axes, numbers: list[int], *values: Float64[np.ndarray, " rounds"]) -> None:
    for i, (name, line) in enumerate(zip(("precision", "recall"), values, strict=True)):
        ax.plot(numbers, 100 * line, color=SERIES[i], marker=MARKERS[i], linestyle=DASHES[i], markersize=5, label=name)
    ax.set_xticks(numbers if len(numbers) <= 12 else numbers[:: -(-len(numbers) // 12)])
    ax.set_ylim(0, 104)
    ax.set_xlabel("round")
    ax.set_ylabel("share [%]")
    ax.legend(loc="best", handlelength=3.2)


def _reliability(ax: Axes, one: Calibration) -> None:
    checks, right, confidence = (table.sum(axis=0) for table in (one.checks, one.right, one.confidence))
    rows = np.flatnonzero(checks)
    x, y = 100 * confidence[rows] / checks[rows], 100 * right[rows] / checks[rows]
    ends = 100 * np.array([interval(int(right[k]), int(checks[k])) for k in rows]).reshape(-1, 2)
    ax.plot([0, 100], [0, 100], color=MUTED, lw=1, linestyle=(0, (1.5, 1.5)))
    ax.vlines(x, ends[:, 0], ends[:, 1], color=SERIES[2], lw=1.2)
    ax.plot(x, y, color=SERIES[2], marker="o", markersize=5, lw=1.4)
    ax.set_xlim(0, 104)
    ax.set_ylim(0, 104)
    ax.set_xlabel("confidence [%]")
    ax.set_ylabel("share right [%]")
