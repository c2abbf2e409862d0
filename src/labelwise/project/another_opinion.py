"""Whether the next answers are better spent on new questions or on another opinion (advice; nothing is asked by it)."""

from __future__ import annotations

import numpy as np

from labelwise import files
from labelwise.files.round_files import RoundFolder
from labelwise.ledger import several_answers
from labelwise.merge._another_opinion import worth
from labelwise.merge._items import items_of, with_model
from labelwise.project import consensus
from labelwise.project.context import Context
from labelwise.targets.open_detections import candidates

ANSWERS = 100
"""So many next answers the advice is about."""


def shares(context: Context, answers: int = ANSWERS) -> tuple[int, int] | None:
    """Of the next `answers`, if each goes where it is worth most: other opinions, and new questions. None: too little
    is known (no question with several answers, or no predictions).
    """
    project, pool, one_class = context.project, context.pool, context.run.classifies
    rounds = [k for k in range(context.run.rounds) if RoundFolder(project.round_folder(k)).predictions().exists()]
    said = several_answers.read(project.ledger, least=1)
    if not rounds or not len(said.queries):
        return None
    items = items_of(said, len(pool.classes))
    probs = consensus.of_model(project, pool, items, one_class)
    found = files.read_detections(RoundFolder(project.round_folder(rounds[-1])).predictions(), ())
    found = found.of_images(len(pool)).of_classes(len(pool.classes))
    rows = candidates(found, context.known(), threshold=0.0 if one_class else context.run.query.threshold)
    new = np.zeros((int(rows.sum()), items.opinions.classes))
    new[:, : len(pool.classes)] = found.probs[rows] * (1 if one_class else found.scores[rows, None])
    if new.shape[1] > len(pool.classes):
        new[:, len(pool.classes)] = 1 - new[:, : len(pool.classes)].sum(axis=1)
    both = worth(with_model(items, probs), new)
    if both is None:
        return None
    again = np.zeros(len(said.queries))
    np.maximum.at(again, items.query, both[0])  # a question is asked as a whole
    best = np.argsort(-np.concatenate([both[1], again]), kind="stable")[:answers]
    return int((best >= len(new)).sum()), int((best < len(new)).sum())


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
