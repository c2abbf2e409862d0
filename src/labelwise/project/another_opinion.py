"""Whether the next answers are better spent on new questions or on another opinion: as advice, and for `ask.again`."""

from __future__ import annotations

import numpy as np

from labelwise.ledger import several_answers
from labelwise.ledger.several_answers import Said
from labelwise.merge._another_opinion import worth
from labelwise.merge._items import Items, items_of, with_model
from labelwise.project import consensus
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.targets.open_detections import candidates
from labelwise.types import Detections, Query

ANSWERS = 100
"""So many next answers the advice is about."""


def shares(context: Context, answers: int = ANSWERS) -> tuple[int, int] | None:
    """Of the next `answers`, if each goes where it is worth most: other opinions, and new questions. None: too little
    is known (no question with several answers, or no predictions).
    """
    one_class = context.run.classifies
    rounds = [now for k in range(context.run.rounds) if (now := Round(context, k)).model_looked]
    said = several_answers.read(context.project.ledger, least=1)
    if not rounds or not len(said.queries):
        return None
    found = rounds[-1].detections().of_classes(len(context.pool.classes))
    rows = candidates(found, context.known(), threshold=0.0 if one_class else context.run.query.threshold)
    both, _, _ = _worth(context, said, found.take(np.flatnonzero(rows)))
    if both is None:
        return None
    again, new = both
    best = np.argsort(-np.concatenate([new, again]), kind="stable")[:answers]
    return int((best >= len(new)).sum()), int((best < len(new)).sum())


def worth_again(now: Round) -> tuple[list[Query], np.ndarray, np.ndarray | None] | None:
    """The answered questions of a round's kind that may be asked again, what another opinion on each is worth, and what
    an answer to a new question about each of the round's detections is. None in place of that: nobody has answered what
    somebody else has; then each is worth what the model does not believe of its first answer.

    None: nothing is answered yet.
    """
    context, pool = now.context, now.pool
    said = several_answers.read(now.ledger, context.seen, least=1)
    images, kind = set(pool.unavailable), now.unit_names[0]
    rows = [
        k
        for k, query in enumerate(said.queries)
        if query.unit == kind and query.rank >= 0 and pool.number_of[query.image] not in images
    ]
    if not rows:
        return None
    both, items, probs = _worth(context, said, now.detections().of_classes(len(pool.classes)))
    queries = [said.queries[k] for k in rows]
    if both is not None:
        return queries, both[0][rows], both[1]
    opinions, doubt = items.opinions, np.zeros(len(said.queries))
    first = np.unique(opinions.item, return_index=True)[1]
    item = opinions.item[first]
    np.maximum.at(doubt, items.query[item], np.nan_to_num(1 - probs[item, opinions.label[first]]))
    return queries, doubt[rows], None


def _worth(
    context: Context, said: Said, found: Detections
) -> tuple[tuple[np.ndarray, np.ndarray] | None, Items, np.ndarray]:
    """What another opinion on each query is worth (its doubtful item counts: it is asked as a whole) and an answer to a
    new one about each detection; and the items with what the model says of them.
    """
    pool, one_class = context.pool, context.run.classifies
    items = items_of(said, len(pool.classes))
    probs = consensus.of_model(context.project, pool, items, one_class)
    new = np.zeros((len(found), items.opinions.classes))
    new[:, : len(pool.classes)] = found.probs * (1 if one_class else found.scores[:, None])
    if new.shape[1] > len(pool.classes):
        new[:, len(pool.classes)] = 1 - new[:, : len(pool.classes)].sum(axis=1)
    both = worth(with_model(items, probs), new)
    if both is None:
        return None, items, probs
    again = np.zeros(len(said.queries))
    np.maximum.at(again, items.query, both[0])
    return (again, both[1]), items, probs


def lines(context: Context) -> list[str]:
    """The advice in words; nothing where too little is known."""
    found = shares(context)
    if found is None or not sum(found):
        return []
    again, new = found
    return [
        f"Of the next {again + new} answers {again} would be worth more as another opinion on an answered question, "
        f"{new} as a new question (ActiveLab)"
    ]
