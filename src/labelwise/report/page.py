"""The report: one static HTML file that needs nothing from outside it.

`write` is a pure function of the runs: the same runs give the same bytes. Everything that comes from data is escaped by
the template, and a content policy in the file forbids scripts and requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from labelwise.report import curves, histograms, informativeness, outlook, tables, unit_split
from labelwise.report.contrast import contrast
from labelwise.report.efficiency import Efficiency, efficiency
from labelwise.report.filmstrip import strips
from labelwise.report.gallery import galleries
from labelwise.report.headline import headline
from labelwise.report.headroom import EVERYTHING_LABELLED, headroom, without_bounds
from labelwise.report.reliability import reliabilities
from labelwise.report.results import RunResult
from labelwise.report.showcase import Showcase
from labelwise.report.spread import Group, groups, spread, values
from labelwise.report.unit_verdict import UnitVerdict
from labelwise.report.wording import EFFECT, duration, join_words, plural, points
from labelwise.types import LabelwiseError
from labelwise.types.disk import in_one_step

HERE = Path(__file__).parent

MOST_PICTURES = 4
"""Methods up to which the forecast of each has a picture and a table, not a sentence alone."""
MOST_CONCLUSIONS = 12
"""Methods whose conclusions are told in the summary."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """The class figure of one name, with the numbers behind it."""

    name: str
    chart: Markup
    caption: str
    tables: Sequence[tables.Table]


def write(
    path: Path,
    runs: Sequence[RunResult],
    *,
    title: str,
    baseline: str | None = None,
    units: UnitVerdict | None = None,
    effect: float = EFFECT,
    first: Showcase | None = None,
) -> None:
    """Writes the page; runs of one name are averaged over their seeds, names are compared with `baseline`. An interval
    wider than `effect` points calls no difference one.
    """
    path = Path(path)
    text = html(runs, title=title, baseline=baseline, units=units, effect=effect, first=first)
    document = text.encode("utf-8", "backslashreplace")
    try:
        with in_one_step(path) as partial:
            partial.write_bytes(document)
    except OSError as error:
        raise LabelwiseError(
            f"report {path}: cannot be written ({error.strerror}); expected a folder that exists, with free space"
        ) from error


def html(
    runs: Sequence[RunResult],
    *,
    title: str,
    baseline: str | None = None,
    units: UnitVerdict | None = None,
    effect: float = EFFECT,
    first: Showcase | None = None,
) -> str:
    """The page as text; `units`: which unit of a question pays; `first`: what opens the page, before all else."""
    found = groups(runs)
    whole = next((g for g in found if g.is_all_data), None) if len(found) > 1 else None
    found = [g for g in found if g is not whole]
    room, bounds = headroom(found), [g for g in found if g not in without_bounds(found)]
    found = without_bounds(found) or found
    decides = room is None or room.is_enough  # else no method is called better or worse
    versus = contrast(found, baseline, effect)  # refuses a baseline that is none of the runs
    versus = versus if decides else None
    gains = efficiency(found, versus.baseline) if versus is not None else None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    full = next((g for g in bounds if g.name == EVERYTHING_LABELLED), whole)
    chart = curves.learning_curves(found, full)
    told = [*(sentences(found) if decides else sentences(found)[:1]), *_conclusions(gains)]
    outcome = told[min(1, len(told) - 1)] if room is None or decides else room.sentence
    against = versus.baseline if versus is not None else None
    return environment.get_template("page.html.j2").render(
        title=title,
        first=first,
        headline=None if first else headline(found, against, full, outcome),
        style=Markup((HERE / "style.css").read_text("utf-8")),
        sentences=told,
        tiles=tiles(found[0]) if len(found) == 1 else [],
        overview=tables.overview(found, bounds) if len(found) > 1 else None,
        relative=whole and tables.relative(found, whole),
        skipped=tables.skipped(found),
        curves=chart and Markup(chart),
        band=any(len(g.runs) > 1 for g in found),
        rare=rare_classes(found),
        outlooks=[outlook.outlook(g, picture=len(found) <= MOST_PICTURES) for g in found if g.rounds],
        headroom=room,
        units=units,
        contrast=versus,
        efficiency=gains,
        histograms=[h for i, g in enumerate(found) if (h := _histogram(g, i))],
        reliabilities=reliabilities(found),
        galleries=galleries(found),
        films=strips([film for group in found for film in next((r.films for r in group.runs if r.films), ())]),
        number_tables=[tables.rounds(g) for g in found if g.rounds],
        class_table=tables.per_class(found),
        analyses=_analyses(found),
        answers=tables.answers(found),
        unit_split=unit_split.table(found),
        stages=tables.stages(found),
        changes=tables.changes(found),
        settings=tables.settings(found),
        versions=tables.versions(found),
    )


def conclusions(runs: Sequence[RunResult], baseline: str) -> list[str]:
    """How much of the baseline's budget each method needs, a sentence each; or that the headroom decides nothing."""
    found = [g for g in groups(runs) if not g.is_all_data]
    if (room := headroom(found)) is not None and not room.is_enough:
        return [room.sentence]
    found = without_bounds(found)
    return _conclusions(efficiency(found, baseline)) if any(g.name == baseline for g in found) else []


def _conclusions(gains: Efficiency | None) -> list[str]:
    """How much of the baseline's budget each method needs, of the first metric."""
    lines = list(gains.parts[0].sentences) if gains else []
    return [f"{line}." for line in lines[:MOST_CONCLUSIONS]]


def _analyses(found: Sequence[Group]) -> list[informativeness.Analysis]:
    """Of classifiers whose pool has ground truth: how wrong the model is about what it asks."""
    several = [informativeness.by_score(found)]
    several += [informativeness.by_dispersion(group, f"dispersion{i}") for i, group in enumerate(found)]
    return [one for one in several if one is not None]


def _histogram(group: Group, i: int) -> Histogram | None:
    number = histograms.shown_round(group)
    if number is None or not group.classes:
        return None
    shown = histograms.distributions_of(group, number)
    chart = Markup(histograms.class_histograms(group, number, key=f"classes{i}"))
    of_seeds = f" Counts are means of {len(group.runs)} seeds." if len(group.runs) > 1 else ""
    hidden = len(group.classes) - histograms.MOST_CLASSES
    left_out = f" The {hidden} classes with fewest boxes are only in the table." if hidden > 0 else ""
    caption = f"{group.name}, round {number}.{of_seeds}{left_out}"
    return Histogram(
        group.name, chart, caption, [tables.balance(group, shown), tables.class_counts(group, number, shown)]
    )


def sentences(found: Sequence[Group]) -> list[str]:
    """The summary in plain words: what ran, what came out, what it cost."""
    runs = [run for g in found for run in g.runs]
    if not runs:
        return ["No run was given, so there is nothing to report."]
    data = join_words(list(dict.fromkeys(run.data for run in runs if run.data)))
    units = join_words(list(dict.fromkeys(run.budget_unit for run in runs)))
    first = plural(len(runs), "run") + (f" of {plural(len(found), 'recipe')}" if len(found) > 1 else "")
    first += (f" on {data}" if data else "") + f". The budget was counted in {units}."
    return [first, _outcome(found[0]) if len(found) == 1 else _best(found)]


def _best(found: Sequence[Group]) -> str:
    """Highest and lowest of the last values; whether that is more than chance, the comparison says."""
    last = sorted(((_last(g, "quality"), g) for g in found if g.rounds), key=lambda pair: -pair[0][0])
    last = [(value, g) for value, g in last if math.isfinite(value[0])]
    if not last:
        return f"{found[0].metric} was not measured after the last round."
    (high, best), (low, worst) = last[0], last[-1]
    text = f"After its last round, {found[0].metric} is highest for {best.name} ({points(*high)})"
    text += f" and lowest for {worst.name} ({points(*low)})" if worst is not best else ""
    return text + ". Which differences are more than chance is told under Comparison."


def _outcome(group: Group) -> str:
    seeds = f" ({plural(len(group.runs), 'seed')})" if len(group.runs) > 1 else f" (seed {group.seeds[0]})"
    if not group.rounds:
        return f"{group.name}{seeds}: no round has finished yet."
    boxes, queries, seconds = tables.final(group, "cost_boxes", "cost_queries", "cost_seconds")
    cost = f"{boxes:,.0f} labelled boxes, {queries:,.0f} questions and {duration(seconds)} of annotation time"
    after = f"{group.name}{seeds}: after round {group.rounds[-1]}"
    mean, std = _last(group, "quality")
    if not math.isfinite(mean):
        return f"{after}, {cost} were spent; {group.metric} was not measured there."
    start, _, _ = spread(values(group, "quality"))
    began = f" (it began at {points(float(start[0]))})" if len(start) > 1 and math.isfinite(start[0]) else ""
    return f"{after} {group.metric} is {points(mean, std)}{began}, for {cost}."


def _last(group: Group, quantity: str) -> tuple[float, float]:
    mean, std, _ = spread(values(group, quantity)[:, -1:])
    return float(mean[0]), float(std[0])


def tiles(group: Group) -> list[tuple[str, str]]:
    """Four numbers at a glance, for a page about one name."""
    if not group.rounds:
        return []
    boxes, queries, seconds = tables.final(group, "cost_boxes", "cost_queries", "cost_seconds")
    return [
        (points(*_last(group, "quality")), f"{group.metric} at the end"),
        (f"{boxes:,.0f}", "boxes labelled"),
        (f"{queries:,.0f}", "questions asked"),
        (duration(seconds), "annotation time"),
    ]


def rare_classes(found: Sequence[Group]) -> str:
    """The names behind "rare-class AP50", or nothing; of many the first few."""
    names = list(dict.fromkeys(c for g in found for run in g.runs for c in run.rare_classes))
    return join_words(names if len(names) <= 12 else [*names[:10], f"{len(names) - 10} more"])
