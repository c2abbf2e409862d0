"""`compare --units`: the units of a question side by side on one data recipe, at equal seconds of annotation.

Each unit is asked at random and by one score, with the same label policy in both:

| way             | recipe           | with                                  |
|-----------------|------------------|---------------------------------------|
| `random_image`  | `random_image`   |                                       |
| `entropy_image` | `entropy_image`  |                                       |
| `random_region` | `mural_coverage` | score `random`, select `top`          |
| `mural_region`  | `mural_coverage` |                                       |
| `random_box`    | `u_cb_tspl`      | score `random`, select `top`          |
| `u_cb_box`      | `u_cb_tspl`      |                                       |

The recipe `random` of document 000 takes what nobody drew for background; it would tell of that policy, and not of
the unit, so that random boxes have the soft pseudo labels of the clever ones. `--set labels.policy=...` sets all.

A round has the seconds that the data recipe's own budget of that round would cost as random whole images of its pool.
With n objects an image and prices c: b boxes are b * (c.inspect / n + c.draw) s, q images or questions (taken as whole
images) q * (c.inspect + n * c.draw) s, seconds are themselves. `--set budget.per_round=[...]` sets other seconds.

60 boxes, 12 objects an image: 60 * (7.8 / 12 + 7).

>>> seconds_of(60, "boxes", 12.0, CostTable()), seconds_of(2, "images", 12.0, CostTable())
(459.0, 183.6)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labelwise import catalog, config
from labelwise.ask.cost import CostTable
from labelwise.project import opening
from labelwise.project.context import Bar, silent
from labelwise.report.results import RunResult
from labelwise.report.unit_verdict import UnitVerdict, unit_verdict
from labelwise.study import unit_evidence, unit_text
from labelwise.study.compare import Comparison, Way
from labelwise.study.unit_choice import choose
from labelwise.types import LabelwiseError
from labelwise.units import find

AT_RANDOM = ("query.score=random", "query.select=top")
WAYS = (
    Way("random_image", "random_image"),
    Way("entropy_image", "entropy_image"),
    Way("random_region", "mural_coverage", AT_RANDOM),
    Way("mural_region", "mural_coverage"),
    Way("random_box", "u_cb_tspl", AT_RANDOM),
    Way("u_cb_box", "u_cb_tspl"),
)
BASELINE = WAYS[0].name
FIXED = ("query.unit", "query.score", "query.select", "budget.unit")
"""What tells the ways apart, or makes them equal: not to be set for all."""


def comparison(folder: Path, data: str, seeds: Sequence[int], settings: Sequence[str], bar: Bar = silent) -> Comparison:
    """The comparison of the units, with its budget in seconds; for that the pool is read, but nothing is run.

    Raises:
        LabelwiseError: a data recipe of classification; data without annotations; a setting that is the ways' own.
    """
    own = [s for s in settings if s.partition("=")[0].strip() in FIXED]
    if own:
        raise LabelwiseError(
            f"compare --units: {own[0]} would make the ways of asking alike, or unequal in seconds; leave it out. "
            "Methods of your own are compared without --units"
        )
    plain = config.load(catalog.recipe_files(data), list(settings))
    if plain.classifies:
        raise LabelwiseError(
            f"compare --units: {data} classifies images, where an image is the only unit; compare methods instead "
            "(`labelwise compare --help`)"
        )
    names = tuple(way.name for way in WAYS)
    fixed = ("budget.unit=seconds", *settings)
    made = Comparison(folder, data, names, tuple(seeds), fixed, bounds=True, ways=WAYS)
    if any(s.partition("=")[0].strip() == "budget.per_round" for s in settings):
        return made
    made.config(names[0], seeds[0])  # a faulty setting is an error before anything is written
    per_round = default_seconds(made, plain, bar)
    given = ("budget.unit=seconds", f"budget.per_round=[{', '.join(f'{s:g}' for s in per_round)}]", *settings)
    return replace(made, settings=given)


def default_seconds(made: Comparison, plain: config.Run, bar: Bar = silent) -> list[int]:
    """The seconds of every round: what the data recipe's own budget costs as random whole images."""
    context = opening.start(made.begin(made.seeds[0]), None, (), bar)
    pool = context.pool
    context.project.close()
    if pool.truth is None:
        raise LabelwiseError(f"compare --units: {pool.root} has no annotations, so that nobody can answer; add them")
    objects = max(len(pool.truth), 1) / max(len(pool), 1)
    return [max(1, round(seconds_of(one, plain.budget.unit, objects, plain.cost))) for one in plain.budget.per_round]


def seconds_of(amount: float, counted: str, objects: float, table: CostTable) -> float:
    """What a budget in `counted` costs as random whole images with so many objects each."""
    image = table.inspect + objects * table.draw
    each = {"boxes": image / objects, "images": image, "queries": image, "seconds": 1.0}[counted]
    return round(amount * each, 6)


def verdict(made: Comparison, results: Sequence[RunResult]) -> UnitVerdict:
    """Which unit pays, by the results of all projects, and why, by what the answers in them show."""
    unit_of = {name: made.config(name, made.seeds[0]).query.unit for name in made.methods}
    contexts = {
        name: [opening.start(made.project(name, seed), None) for seed in made.seeds]
        for name in made.methods
        if name == BASELINE or find(unit_of[name]).CLASS
    }
    seen = {name: unit_evidence.join([unit_evidence.observe(c) for c in own]) for name, own in contexts.items()}
    boxes = unit_evidence.join([one for name, one in seen.items() if name != BASELINE])
    first = contexts[BASELINE][0].run
    scales = next(made.config(name, made.seeds[0]).query.scales for name in made.methods if find(unit_of[name]).SCALES)
    found = unit_evidence.found(unit_evidence.with_boxes_of(seen[BASELINE], boxes), first.cost, scales)
    for context in [one for own in contexts.values() for one in own]:
        context.project.close()
    choice = choose(found.evidence, found.prices)
    reasons = ["What the answers alone let one expect: " + unit_text.sentences(found, choice)[0]]
    tables = [unit_text.units_table(choice), unit_text.evidence_table(found)]
    return unit_verdict(results, unit_of, BASELINE, reasons, tables)
