"""Answers to queries as opinions on items, and what was concluded as objects (machinery).

A query about one object is one item: its outcome is a class, "no object" or "annotated before". A query about whatever
there is has an item for every object that somebody drew: who did not draw it says that there is no object. Where the
answer of a query is known, its items are settled, and no label follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from labelwise import units
from labelwise.ledger.several_answers import Said
from labelwise.merge._same_objects import mean_boxes, same_objects
from labelwise.types import Opinions
from labelwise.types.columns import offsets_of


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """`opinions` on items of queries (`query`); class C is "no object", C + 1 "annotated before".

    `item`, `answer`: per box of `said` its item and its object (boxes of one query about one object may be of several).
    """

    said: Said
    opinions: Opinions
    query: Int64[np.ndarray, " items"]
    item: Int64[np.ndarray, " b"]
    object: Int64[np.ndarray, " b"]
    n_classes: int

    @property
    def where(self) -> Float64[np.ndarray, "items 4"]:
        """The rectangle of every item: the candidate that was asked about, else the mean of the boxes."""
        found = mean_boxes(self.item, self.said.xyxy, np.ones(len(self.item)), len(self.query))
        asked = [self.said.queries[k].box for k in self.query.tolist()]
        single = _single(self.said)[self.query]
        candidates = np.array([box if box is not None else (np.nan,) * 4 for box in asked]).reshape(-1, 4)
        return np.where(single[:, None] & ~np.isnan(candidates), candidates, found)


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """What several people's answers come to. Per object its query, box, class and how sure that class is; the queries
    whose candidate is no object; and those in whose rectangle all objects are annotated.
    """

    query: Int64[np.ndarray, " n"]
    xyxy: Float64[np.ndarray, "n 4"]
    label: Int64[np.ndarray, " n"]
    trust: Float32[np.ndarray, " n"]
    background: Int64[np.ndarray, " m"]
    covered: Int64[np.ndarray, " k"]


def items_of(said: Said, n_classes: int) -> Items:
    """The items of these answers, and everybody's opinion on each."""
    queries = len(said.queries)
    start = offsets_of(said.query, queries)
    turn = np.arange(len(said.query)) - start[said.query]
    of_box = said.query[said.owner]
    single = _single(said)
    found = same_objects(of_box, turn[said.owner], said.xyxy, said.label)
    first = np.unique(found, return_index=True)[1]
    of_object = of_box[first] if len(first) else np.zeros(0, np.int64)
    drawn = np.flatnonzero(~single[of_object])
    drawn = drawn[np.argsort(of_object[drawn], kind="stable")]
    asked = np.flatnonzero(single)
    query = np.concatenate([asked, of_object[drawn]])
    item_of_query, item_of_object = np.full(queries, -1), np.full(len(first), -1)
    item_of_query[asked], item_of_object[drawn] = np.arange(len(asked)), len(asked) + np.arange(len(drawn))
    item = np.where(single[of_box], item_of_query[of_box], item_of_object[found] if len(found) else 0)

    count = np.diff(start)[query]  # every item beside all answers to its query
    number = np.repeat(np.arange(len(query)), count)
    answer = np.arange(len(number)) + np.repeat(start[query] - (np.cumsum(count) - count), count)
    label = np.full(len(number), n_classes)
    before = _annotated_before(said)
    label[single[query[number]] & before[answer]] = n_classes + 1
    key = number * max(len(said.query), 1) + answer
    at = np.searchsorted(key, item * max(len(said.query), 1) + said.owner)
    label[at] = said.label
    n = n_classes + 2 if single.any() else (n_classes + 1 if (label == n_classes).any() else n_classes)
    person, truth = said.person[answer], np.full(len(query), -1)
    right = person == len(said.people)
    truth[number[right]] = label[right]
    others = ~right
    opinions = Opinions(
        number[others], person[others], label[others], len(query), len(said.people), max(n, 1),
        truth if right.any() else None,
    )  # fmt: skip
    return Items(said, opinions, query, item, found, n_classes)


def conclude(items: Items, posterior: Float64[np.ndarray, "items C"], right: Float64[np.ndarray, " people"]) -> Merged:
    """Objects of the likeliest class; a box is the mean of the boxes, each weighted by how often its author is right.

    Of a query about one object only the boxes of that class are averaged, of one object if there are several.
    """
    said, best = items.said, posterior.argmax(axis=1)
    weight = np.append(np.nan_to_num(right, nan=0.5), 1.0)[said.person[said.owner]]
    known = np.zeros(len(said.queries), np.bool_)
    known[said.query[said.person == len(said.people)]] = True
    single = _single(said)
    agrees = ~single[said.query[said.owner]] | (said.label == best[items.item])
    weight = np.where(agrees, np.maximum(weight, 1e-6), 0.0)
    n = len(items.query)
    pair, index = np.unique(np.stack([items.item, items.object]), axis=1, return_inverse=True)
    total = np.bincount(index, weight, minlength=pair.shape[1])
    order = np.lexsort((pair[1], -total, pair[0]))
    chosen = np.zeros(pair.shape[1], np.bool_)
    chosen[order[np.unique(pair[0][order], return_index=True)[1]]] = True
    keep = chosen[index] & (weight > 0) if len(index) else np.zeros(0, np.bool_)
    xyxy = mean_boxes(items.item[keep], said.xyxy[keep], weight[keep], n)
    rows = np.flatnonzero((best < items.n_classes) & ~np.isnan(xyxy).any(axis=1) & ~known[items.query])
    trust = posterior[rows, best[rows]].clip(0, 1).astype(np.float32)
    aware = ~known
    np.logical_and.at(aware, said.query, said.aware)
    nothing = items.query[(best == items.n_classes) & single[items.query]]
    covers = np.array([_meaning(said, k).covers for k in range(len(said.query))], np.bool_)
    covered = np.unique(said.query[covers]) if len(covers) else nothing[:0]
    return Merged(items.query[rows], xyxy[rows], best[rows], trust, nothing[aware[nothing]], covered[aware[covered]])


def with_model(items: Items, probs: Float64[np.ndarray, "items C"]) -> Opinions:
    """The opinions with what a model says of each item [items, C] as one more; a row of NaN: nothing."""
    return replace(items.opinions, probs=probs)


def _single(said: Said) -> Bool[np.ndarray, " queries"]:
    """Which queries are about one object."""
    return np.array([units.find(query.unit).CLASS for query in said.queries], np.bool_)


def _meaning(said: Said, answer: int) -> units.Meaning:
    unit = said.queries[int(said.query[answer])].unit
    return units.find(unit).VERDICTS[said.verdict[answer]]


def _annotated_before(said: Said) -> Bool[np.ndarray, " a"]:
    meanings = [_meaning(said, k) for k in range(len(said.query))]
    return np.array([one.boxes == "none" and not one.background for one in meanings], np.bool_)
