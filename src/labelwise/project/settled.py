"""Questions whose answer is settled: from people who agree, from an owner, from labels that came with the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from labelwise import units
from labelwise.ledger import known_questions, several_answers
from labelwise.ledger.known_questions import Known
from labelwise.project import consensus
from labelwise.project.context import Context
from labelwise.types import Answer, Query
from labelwise.units import Unit

SURE = 0.95
"""Posterior from which people's answers settle a question."""
MOST_IMAGES = 64
"""Images with labels of their own that are looked at at a time."""


def questions(context: Context, unit_name: str, rng: np.random.Generator) -> list[Known]:
    """Settled questions of a unit, each with its answer, in a random order; none twice. `shown_rank` is 0.

    A box that came with its image is asked about with its own class or, as often, with another one.
    """
    unit = units.find(unit_name)
    found = [
        *_agreed(context, unit_name, unit),
        *_of_owners(context, unit_name),
        *_given(context, unit_name, unit, rng),
    ]
    once = list({(one.query.image, one.query.box): one for one in reversed(found)}.values())
    return [once[k] for k in rng.permutation(len(once)).tolist()]


def _verdict(unit: Unit, boxes: str, *, background: bool = False) -> str | None:
    """The word for so many boxes, and for no object."""
    words = [word for word, means in unit.VERDICTS.items() if means.boxes == boxes and means.background is background]
    return next((word for word in words if word != units.SKIPPED), None)


def _agreed(context: Context, unit_name: str, unit: Unit) -> Iterator[Known]:
    run = context.run
    rule = consensus.QUALITY if run.ask.merge.name == consensus.FIRST else run.ask.merge
    found = consensus.consensus(context.project, context.pool, rule, one_class=run.classifies)
    if found is None:
        return
    queries, merged = found.items.said.queries, found.merged
    sure = np.ones(len(queries))
    np.minimum.at(sure, found.items.query, found.posterior.max(axis=1))
    settled = [k for k, query in enumerate(queries) if query.unit == unit_name and sure[k] >= SURE and query.rank >= 0]
    nothing, covered = set(merged.background.tolist()), set(merged.covered.tolist())
    for k in settled:
        rows = np.flatnonzero(merged.query == k)
        boxes = [(b[0], b[1], b[2], b[3]) for b in merged.xyxy[rows].tolist()]
        if unit.CLASS and k not in nothing and len(rows) != 1:
            continue  # annotated before
        word = _verdict(unit, "one" if unit.CLASS and len(rows) else "none" if unit.CLASS else "any",
                        background=k in nothing)  # fmt: skip
        if word is not None and (unit.CLASS or k in covered):
            yield _known(queries[k], word, boxes, merged.label[rows].tolist())


def _of_owners(context: Context, unit_name: str) -> Iterator[Known]:
    with context.project.ledger.read() as connection:
        said = several_answers.of_owners(connection, unit_name)
    meanings = units.find(unit_name).VERDICTS
    for query, answer in said:
        means = meanings[answer.verdict]
        if means.boxes != "none" or means.background:
            yield _known(query, answer.verdict, answer.boxes, answer.labels)


def _known(
    query: Query, verdict: str, boxes: Sequence[tuple[float, float, float, float]], labels: Sequence[int]
) -> Known:
    return Known(replace(query, id=None), Answer(0, verdict, boxes, labels, ""), query.id, 0)


def _given(context: Context, unit_name: str, unit: Unit, rng: np.random.Generator) -> Iterator[Known]:
    pool = context.pool
    if context.given is None or (unit.RECTANGLE and not unit.CLASS):
        return
    names = [pool.names[k] for k in rng.permutation(np.flatnonzero(pool.available))[:MOST_IMAGES].tolist()]
    with context.project.ledger.read() as connection:
        given = known_questions.given_labels_of(connection, names)
    word = _verdict(unit, "one" if unit.CLASS else "any")
    if word is None:
        return
    for image, (whole, objects) in given.items():
        if not unit.CLASS:
            if whole:
                boxes, labels = [box for box, _ in objects], [label for _, label in objects]
                yield Known(Query(0, 0, image, unit_name), Answer(0, word, boxes, labels, ""), None, 0)
            continue
        for box, label in objects:
            other = (label + int(rng.integers(1, max(len(pool.classes), 2)))) % len(pool.classes)
            query = Query(0, 0, image, unit_name, box, label if rng.random() < 0.5 else other)
            yield Known(query, Answer(0, word, [box], [label], ""), None, 0)
