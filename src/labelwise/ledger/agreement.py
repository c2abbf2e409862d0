"""How far people agree on queries that several of them answered ([ask] overlap), per class and per person.

Of every query all pairs of its answers are compared: their objects are matched one to one, greedily by IoU, with the
same class and IoU >= 0.5. The measure is the share of objects on which both agree, 2m / (n1 + n2) for m matches among
n1 and n2 objects (Dice; for a class it is the proportion of specific agreement). Two answers without any object agree
wholly where they say the same (no object, duplicate, looked at and empty), else not at all; a skipped query says
nothing and an answer that was taken back is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, groupby
from typing import Any

import numpy as np
import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.current_answers import answer_of
from labelwise.ledger.ledger import Ledger
from labelwise.types import Answer
from labelwise.types.overlap import iou_matrix

LEAST_IOU = 0.5
_a = t.answers.c


def agreement(ledger: Ledger) -> dict[str, Any]:
    """`queries` with several answers, and per class (its number) and per person the `share` they agree on, 0 to 1.

    `by_class`: [{"label", "objects", "share"}], objects counted in both answers of each pair; `by_person`: [{"who",
    "pairs", "share"}], the mean over the pairs of answers of which one is this person's.
    """
    valid = ~sa.exists().where(t.withdrawn.c.answer_id == _a.id).correlate(t.answers)
    given = (_a.verdict != "skipped") & valid
    about = sa.func.coalesce(t.asked_again.c.source_id, _a.query_id).label("about")
    joined = t.answers.outerjoin(t.asked_again, t.asked_again.c.query_id == _a.query_id)
    each = sa.select(about, _a.who).select_from(joined).where(given).subquery()
    several = sa.select(each.c.about).group_by(each.c.about).having(sa.func.count(each.c.who.distinct()) > 1)
    select = sa.select(t.answers, about).select_from(joined).where(given & about.in_(several)).order_by(about, _a.id)
    with ledger.read() as connection:
        answers = [replace(answer_of(row), query=row["about"]) for row in connection.execute(select).mappings()]
    return compare_answers(answers)


def compare_answers(answers: Iterable[Answer]) -> dict[str, Any]:
    """`agreement` of these answers, which stand query by query; of one person's two the first is taken.

    >>> dog, cat = Answer(1, "object", [(0, 0, 9, 9)], [0], "Ada"), Answer(1, "object", [(0, 0, 9, 9)], [1], "Bo")
    >>> compare_answers([dog, cat, Answer(1, "object", [(0, 0, 9, 8)], [0], "Cy")])["by_class"]
    [{'label': 0, 'objects': 4, 'share': 0.5}, {'label': 1, 'objects': 2, 'share': 0.0}]
    """
    by_class: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    by_person: dict[str, list[float]] = defaultdict(list)
    queries = 0
    for _query, group in groupby(answers, key=lambda answer: answer.query):
        first: dict[str, Answer] = {}
        for answer in group:
            first.setdefault(answer.who, answer)
        queries += len(first) > 1
        for one, other in combinations(first.values(), 2):
            same = _matches(one, other)
            for label in (*one.labels, *other.labels):
                by_class[label][0] += 1
            for label in same:
                by_class[label][1] += 2
            objects = len(one.labels) + len(other.labels)
            share = 2 * len(same) / objects if objects else float(one.verdict == other.verdict)
            by_person[one.who].append(share)
            by_person[other.who].append(share)
    return {
        "queries": queries,
        "by_class": [{"label": k, "objects": n, "share": m / n} for k, (n, m) in sorted(by_class.items())],
        "by_person": [{"who": who, "pairs": len(v), "share": sum(v) / len(v)} for who, v in sorted(by_person.items())],
    }


def says_the_same(one: Answer, other: Answer) -> bool:
    """Whether two answers have the same verdict and the same objects."""
    return one.verdict == other.verdict and 2 * len(_matches(one, other)) == len(one.labels) + len(other.labels)


def _matches(one: Answer, other: Answer) -> list[int]:
    """The classes of the objects that both answers have, each object matched once, the best pairs first."""
    a, b = (np.array(answer.boxes, np.float64).reshape(-1, 4) for answer in (one, other))
    pairs = [(-iou, i, j) for (i, j), iou in np.ndenumerate(iou_matrix(a, b)) if one.labels[i] == other.labels[j]]
    found, used, taken = [], set[int](), set[int]()
    for minus_iou, i, j in sorted(pairs):
        if -minus_iou >= LEAST_IOU and i not in used and j not in taken:
            used.add(i)
            taken.add(j)
            found.append(one.labels[i])
    return found
