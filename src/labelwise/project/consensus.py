"""What is known with several people's answers merged (`ask.merge`): a view, computed from the ledger each time.

The ledger keeps every answer; the labels of queries that several people answered are replaced here by what their
answers come to, and nothing is written. How sure a merged class is becomes the annotation's weight in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from labelwise import catalog, files
from labelwise.config.choice import Choice
from labelwise.files.round_files import RoundFolder
from labelwise.ledger import records, several_answers
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import Ledger
from labelwise.merge._existence import calibrated
from labelwise.merge._items import Items, Merged, conclude, items_of, with_model
from labelwise.merge._people import People, people
from labelwise.project.project_folder import Project
from labelwise.types import Boxes, Detections, Labels, Opinions, Pool, Rects, offsets_of
from labelwise.types.overlap import nearest

FIRST = "first"
"""The rule by which the labels are those that the ledger made when the answers came."""
QUALITY = Choice(name="dawid_skene")
"""The rule by which people are judged, however labels are merged: only its posteriors are probabilities."""
UNSEEN = 0.05
"""What a model thinks of an object that it does not see."""


@dataclass(frozen=True)
class Consensus:
    """Everybody's opinions on items, what they come to, and how good everybody is."""

    items: Items
    posterior: Float64[np.ndarray, "items C"]
    people: People
    merged: Merged


def consensus(
    project: Project, pool: Pool, rule: Choice, *, one_class: bool, seen: Instant | None = None
) -> Consensus | None:
    """The opinions of the queries that several people answered, merged by `rule`; None where there are none."""
    said = several_answers.read(project.ledger, seen)
    if not len(said.queries):
        return None
    items = items_of(said, len(pool.classes))
    found = with_model(items, of_model(project, pool, items, one_class))
    found = found if one_class else calibrated(found, items.n_classes)
    believed = _merge(QUALITY, found)
    judged = people(found, believed)
    posterior = believed if rule == QUALITY else _merge(rule, found)
    merged = conclude(items, posterior, judged.right)
    if not catalog.find("merge", rule.name).constant("WEIGHS", True):
        merged = replace(merged, trust=np.ones_like(merged.trust))
    return Consensus(items, posterior, judged, merged)


def _merge(rule: Choice, opinions: Opinions) -> Float64[np.ndarray, "items C"]:
    found: np.ndarray = catalog.find("merge", rule.name).call({"opinions": opinions}, rule.settings)
    return found


def labels(project: Project, pool: Pool, rule: Choice, *, one_class: bool, seen: Instant | None = None) -> Labels:
    """All that is known of the pool (or was, at an instant), with several people's answers merged by `rule`."""
    found = of_rule(project, pool, rule, one_class=one_class, seen=seen)
    return project.ledger.labels(pool, seen) if found is None else _replaced(project.ledger, pool, found, seen)


def of_rule(
    project: Project, pool: Pool, rule: Choice, *, one_class: bool, seen: Instant | None = None
) -> Consensus | None:
    """What replaces labels under this rule; None: nothing does."""
    return None if rule.name == FIRST else consensus(project, pool, rule, one_class=one_class, seen=seen)


def annotation_rows(rows: list[dict[str, Any]], found: Consensus | None) -> list[dict[str, Any]]:
    """Current annotations as the ledger has them, with those of merged queries replaced: of origin "merged"."""
    if found is None:
        return rows
    said, merged = found.items.said, found.merged
    asked = {query.id for query in said.queries if query.rank >= 0}
    who = [", ".join(said.people[k] for k in said.person[said.query == q].tolist()) for q in range(len(said.queries))]
    rows = [row for row in rows if row["query_id"] not in asked]
    for k, number in enumerate(merged.query.tolist()):
        query = said.queries[number]
        row = dict(zip(("x1", "y1", "x2", "y2"), merged.xyxy[k].tolist(), strict=True))
        row |= {"image": query.image, "label": int(merged.label[k]), "round": query.round, "query_id": query.id}
        rows.append({**row, "origin": "merged", "who": who[number], "created": None})
    return rows


def _replaced(ledger: Ledger, pool: Pool, found: Consensus, seen: Instant | None) -> Labels:
    base, merged = ledger.labels(pool, seen, several_answers.several(seen)), found.merged
    queries = found.items.said.queries
    image = np.array([pool.number_of[query.image] for query in queries], np.int64)
    whole = np.stack([np.zeros(len(pool)), np.zeros(len(pool)), pool.width_px, pool.height_px], axis=1)
    rect = np.array([query.box or whole[k] for query, k in zip(queries, image, strict=True)], np.float64)
    n, old = len(pool), base.annotations
    where = np.concatenate([old.image, image[merged.query]])
    xyxy = np.concatenate([old.xyxy, merged.xyxy.astype(np.float32)])
    order = np.argsort(where, kind="stable")
    labels = np.concatenate([old.labels, merged.label])[order]
    trust = np.concatenate([np.ones(len(old), np.float32), merged.trust])[order]

    def with_rows(rects: Rects, rows: np.ndarray) -> Rects:
        own = np.repeat(np.arange(n), np.diff(rects.offsets))
        return Rects.from_rows(np.append(own, image[rows]), np.concatenate([rects.xyxy, rect[rows]]), n)

    return Labels(
        Boxes(offsets_of(where[order], n), xyxy[order], labels),
        with_rows(base.coverage, merged.covered),
        with_rows(base.background, merged.background),
        base.answered,
        trust,
    )


def of_model(project: Project, pool: Pool, items: Items, one_class: bool) -> Float64[np.ndarray, "items C"]:
    """What the model of the round in which an item was asked had said of it: it had not seen the answers.

    A row of NaN: there was no model, or the boxes were proposed (`predict.proposals`), which is no model's word. Of an
    object that it did not see it says that there is none.
    """
    classes = items.opinions.classes
    probs = np.full((len(items.query), classes), np.nan)
    queries = items.said.queries
    rounds = np.array([queries[k].round for k in items.query.tolist()], np.int64)
    image = np.array([pool.number_of[queries[k].image] for k in items.query.tolist()], np.int64)
    for number in np.unique(rounds).tolist():
        path = RoundFolder(project.round_folder(number)).predictions()
        if path.exists() and not _proposed(project, number):
            said = files.read_detections(path, ()).of_images(len(pool)).of_classes(len(pool.classes))
            rows = np.flatnonzero(rounds == number)
            probs[rows] = of_detections(items, image, rows, said, one_class)
    return probs


def _proposed(project: Project, number: int) -> bool:
    """Whether a round's boxes are those of `predict.proposals` (`Round.proposed`), by the settings of then."""
    if not number:
        return True  # before there is any model
    ledger = project.ledger
    used = records.kept(ledger, records.of_stage(ledger, number, "predict").get("settings", "")) or {}
    rule, before = used.get("predict", {}), RoundFolder(project.round_folder(number - 1)).checkpoint()
    return rule.get("proposals") is not None and (number <= rule.get("proposal_rounds", 1) or not before.exists())


def of_detections(
    items: Items, image: Int64[np.ndarray, " items"], rows: Int64[np.ndarray, " k"], said: Detections, one_class: bool
) -> Float64[np.ndarray, "k C"]:
    """What detections say of some items, `image` being the number of each item's image in them."""
    order = np.argsort(image[rows], kind="stable")
    placed, back = rows[order], np.argsort(order, kind="stable")
    boxes, n = Rects(said.offsets, said.boxes), items.n_classes
    row, overlap = nearest(offsets_of(image[placed], said.n_images), items.where[placed], boxes)
    hit, columns = overlap >= 0.5, items.opinions.classes
    probs = np.full((len(rows), max(columns, n + (not one_class))), np.nan if one_class else 0.0)
    if one_class:
        probs[hit, : said.probs.shape[1]] = said.probs[row[hit]]
        return probs[back]
    probs[:, n] = 1 - UNSEEN
    probs[:, :n] = UNSEEN / n
    sure = said.scores[row[hit]].astype(np.float64)
    probs[hit, n] = 1 - sure
    probs[hit, :n] = said.probs[row[hit]] * sure[:, None]
    if columns == n:  # nobody said of an object that there is none
        probs = probs[:, :n] / probs[:, :n].sum(axis=1, keepdims=True)
    return probs[back]


def quality(project: Project, pool: Pool, *, one_class: bool) -> list[dict[str, Any]]:
    """How good everybody is, for the owner alone: `who`, `answers` that others gave, too, how often they are `right`
    with its interval of 95 % (`low`, `high`), answers to questions whose answer was known (`known`), and whether the
    answers are `noise`, hardly better than guessing.
    """
    found = consensus(project, pool, QUALITY, one_class=one_class)
    if found is None:
        return []
    names, judged = found.items.said.people, found.people
    columns = ("answers", "right", "low", "high", "known", "noise")
    rows: list[Mapping[str, Any]] = [
        {"who": names[k], **{name: getattr(judged, name)[k].item() for name in columns}} for k in range(len(names))
    ]
    return [dict(row) for row in rows if row["answers"]]


def told(rows: list[dict[str, Any]]) -> list[str]:
    """What the owner is told of people, in words; nothing where nobody has answered what others have, too."""
    lines = []
    for row in rows:
        share = f"{100 * row['right']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f} %)"
        known = f", {row['known']} of them known questions" if row["known"] else ""
        lines.append(f"{row['who']} is right in {share} of {row['answers']} answers that can be compared{known}")
        if row["noise"]:
            lines[-1] += ": hardly better than guessing. The answers stay; look at some, or ask somebody else"
    return lines
