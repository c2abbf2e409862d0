"""What a report of two runs opens with: one sentence, so many questions instead of so many, and one picture.

Both runs have the same start and the same rounds; one asks by a score, the other at random. The level is what the
random one has after its last round. What it cost to reach that level is read off a curve that is straight between its
rounds (`reach.first_reach`); what both had spent before the first question by a method is left out.

One run of each is no evidence: `evidence` names the benchmark of many seeds, and is shown beside it.
Source: none of the documents.
Fails when: the score never reaches the level, or later than the random run, or both began with it: then the sentence
says that no question was saved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labelwise.report.reach import first_reach
from labelwise.report.results import RunResult
from labelwise.report.svg import MUTED, SERIES, as_jpeg, drawing, inline
from labelwise.report.wording import duration, plural, points

THUMB_PX = 84
GAP_PX = 6
PER_ROW = 12


@dataclass(frozen=True, slots=True, eq=False)
class FirstPick:
    """An image that was asked about, and the objects that the answer showed: xyxy in pixels of `image`."""

    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float32[np.ndarray, "k 4"]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A run and the first questions of its first round."""

    run: RunResult
    picks: Sequence[FirstPick] = ()


@dataclass(frozen=True, slots=True)
class Strip:
    """The first questions of a run in a row."""

    title: str
    pictures: Markup


@dataclass(frozen=True, slots=True)
class Showcase:
    """What stands at the top of the page."""

    sentence: str
    details: Sequence[str]
    chart: Markup
    strips: Sequence[Strip]


@dataclass(frozen=True, slots=True)
class Saving:
    """What each run spent until the level: infinite where it never got there."""

    level: float
    asked: float
    at_random: float

    @property
    def saves(self) -> bool:
        """Whether the score needed less. Where nothing had to be asked, random questions taught nothing: no saving."""
        return 0 < self.asked < self.at_random


def saving(score: RunResult, chance: RunResult, cost: str) -> Saving:
    """What the level of `chance` after its last round cost both; `cost`: a field of `RoundResult`.

    A round of four questions: from 10 to 30 AP50 by the score, to 20 at random; 20 are reached halfway, after two.

    >>> from labelwise.report.results import RoundResult
    >>> def run(*qualities):
    ...     rows = enumerate(qualities)
    ...     return RunResult("r", 0, (), [RoundResult(i, 0, 10 + 4 * i, 0, 0.0, quality=q) for i, q in rows])
    >>> found = saving(run(0.1, 0.3), run(0.1, 0.2), "cost_queries")
    >>> found.level, round(found.asked, 6), found.at_random
    (0.2, 2.0, 4.0)
    """
    level = chance.rounds[-1].quality
    if level is None:
        return Saving(math.nan, math.nan, math.nan)
    spent, heights = _curve(score, cost)
    reached = float(first_reach(spent[None], heights[None], np.array([level]))[0])
    return Saving(level, reached, _spent(chance, cost, -1))


def showcase(score: Side, chance: Side, *, evidence: str) -> Showcase:
    """The opening of the page about a run by a score beside one at random; both have the rounds of one budget."""
    questions = saving(score.run, chance.run, "cost_queries")
    seconds = saving(score.run, chance.run, "cost_seconds")
    return Showcase(
        sentence(score.run, chance.run, questions),
        [_found(score.run, chance.run), _time(score.run, questions, seconds), evidence],
        Markup(_chart(score.run, chance.run, questions, seconds)),
        [_strip(side) for side in (chance, score)],
    )


def sentence(score: RunResult, chance: RunResult, found: Saving) -> str:
    """So many questions instead of so many; or that nothing was saved."""
    metric, asked = score.metric, f"{found.at_random:,.0f} questions"
    if not math.isfinite(found.level):
        return f"{metric} was not measured, so that nothing can be said of what questions are saved."
    level = f"{points(found.level)} {metric}"
    if not found.saves:
        end = score.rounds[-1].quality
        text = f"{score.name} ends at {points(_quality(end))} {metric}, {chance.name} at {level}"
        began = f"; both began with {points(_quality(score.rounds[0].quality))}"
        return f"No question was saved in this run: after {asked} {text}{began}."
    return (
        f"{_whole(found.asked)} questions instead of {found.at_random:,.0f}: asking by {score.name}, the detector "
        f"is as good ({level}) as after {asked} about images at {chance.name}, the common start not counted."
    )


def _found(score: RunResult, chance: RunResult) -> str:
    """What the last rounds hold, and what they found."""
    parts = []
    for run in (score, chance):
        first, last = run.rounds[0], run.rounds[-1]
        objects = plural(last.cost_boxes - first.cost_boxes, "object")
        parts.append(f"{run.name} found {objects} and ends at {points(_quality(last.quality))} {run.metric}")
    return f"With all of its {_spent(chance, 'cost_queries', -1):,.0f} questions, " + "; ".join(parts) + "."


def _time(score: RunResult, questions: Saving, seconds: Saving) -> str:
    """An image full of objects takes longer to annotate than an empty one: the same in annotation time."""
    if not questions.saves:
        return ""
    if not math.isfinite(seconds.asked):
        return f"In annotation time, where every object has to be drawn, {score.name} did not get there."
    word = "Less annotation time, too, although" if seconds.saves else "But no annotation time is saved, as"
    spent = f"{duration(seconds.asked)} instead of {duration(seconds.at_random)}"
    return f"{word} every object has to be drawn: {spent}."


def _whole(spent: float) -> str:
    """The least whole number that is enough."""
    return f"{math.ceil(spent - 1e-6):,}"


def _quality(value: float | None) -> float:
    return math.nan if value is None else value


def _spent(run: RunResult, cost: str, number: int) -> float:
    """What a run had spent by a round, without its first."""
    return float(getattr(run.rounds[number], cost)) - float(getattr(run.rounds[0], cost))


def _curve(run: RunResult, cost: str) -> tuple[np.ndarray, np.ndarray]:
    spent = [_spent(run, cost, k) for k in range(len(run.rounds))]
    return np.array(spent), np.array([_quality(found.quality) for found in run.rounds])


def _chart(score: RunResult, chance: RunResult, questions: Saving, seconds: Saving) -> str:
    """Both curves against questions and against annotation time, with what the level cost each."""
    with drawing():
        figure = Figure(figsize=(10.4, 3.4), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        names = ("questions asked", "annotation time [min]")
        kinds = zip(axes, names, ("cost_queries", "cost_seconds"), (questions, seconds), (1.0, 60.0), strict=True)
        for ax, name, cost, found, scale in kinds:
            for run, colour, style in ((chance, SERIES[1], "s--"), (score, SERIES[0], "o-")):
                spent, heights = _curve(run, cost)
                ax.plot(spent / scale, 100 * heights, style, color=colour, lw=2.2, label=run.name)
            _mark(ax, found, scale)
            ax.set_xlabel(name)
            ax.margins(x=0.05, y=0.1)
        axes[0].set_ylabel(f"{score.metric} on the test images")
        axes[0].legend(loc="upper left", handlelength=3.2)
        label = f"{score.metric} of {score.name} and {chance.name} against questions and annotation time."
        return inline(figure, key="showcase", label=label)


def _mark(ax: Axes, found: Saving, scale: float) -> None:
    """An arrow from what the level cost at random to what it cost by the score."""
    if not found.saves:
        return
    height, left, right = 100 * found.level, found.asked / scale, found.at_random / scale
    ax.annotate("", (left, height), (right, height), arrowprops={"arrowstyle": "->", "color": MUTED, "lw": 1.4})
    ax.vlines([left, right], 0, height, color=MUTED, lw=1, linestyles=":")
    for x in (left, right):
        ax.annotate(_whole(x), (x, 0), (3, 4), textcoords="offset points", color=MUTED)


def _strip(side: Side) -> Strip:
    """The first questions as small pictures; what the answers showed is framed."""
    rows = -(-len(side.picks) // PER_ROW)
    step = THUMB_PX + GAP_PX
    parts = [_thumb(pick, k % PER_ROW * step, k // PER_ROW * step) for k, pick in enumerate(side.picks)]
    hits = sum(len(pick.boxes) > 0 for pick in side.picks)
    title = f"{side.run.name}: {hits} of its first {plural(len(side.picks), 'question')} show an object"
    width, height = PER_ROW * step, max(rows, 1) * step
    # what goes in is numbers and data URIs of our own making, and the escaped title
    head = f'<svg class="firsts" role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}">'
    return Strip(title, Markup(head + "".join(parts) + "</svg>"))


def _thumb(pick: FirstPick, x: int, y: int) -> str:
    height, width = pick.image.shape[:2]
    scale = THUMB_PX / max(height, width)
    w, h = width * scale, height * scale
    out = f'<image href="{as_jpeg(pick.image, 2 * THUMB_PX)}" x="{x}" y="{y}" width="{w:.1f}" height="{h:.1f}"/>'
    for x1, y1, x2, y2 in (pick.boxes * scale).tolist():
        place = f'x="{x + x1:.1f}" y="{y + y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"'
        out += f'<rect class="hit" {place}/>'
    return out
