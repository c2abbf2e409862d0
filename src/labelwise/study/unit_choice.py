"""Which unit of a question pays for a data set: a whole image, a region with coverage, or a box.

All that is asked is what an answer costs, how many clean boxes it brings, and what it leaves unknown in its image:

* An image of n objects costs inspect + n * draw and brings n boxes. Nothing stays unknown.
* A region brings the objects in it at the same prices. Those outside stay unknown.
* A box question hits an object with the hit rate h, and brings h boxes for h * (price of a hit) + (1 - h) * (price of
  a miss). Of its image n minus the hits stay unknown.

What is unknown is filled by pseudo boxes: the share 1 - recall is missed, and of every right one there are
(1 - precision) / precision false. The net gain counts clean boxes less `harm` times those errors. How much an error
undoes of a clean box nobody knows, so `harm` is drawn between 0 (nothing) and 1 (all of it), like every figure that is
an estimate; the interval of a difference holds all of that. No unit pays while it includes 0.

Source: our own; the prices are those of `ask.cost.CostTable`.
Differs from the paper: 000, 002 and 003 count boxes or questions, and nothing of what stays unknown.
Fails when: it matters which box is asked (rare classes, hard ones): only their number is counted here, and
`labelwise compare --units` measures the rest. Estimates are taken as independent, and figures of the model are those of
the rounds so far. Objects are taken as evenly spread where no region was asked.

By hand: 14 objects cost 7.8 + 14 * 7 = 105.8 s, 132.3 boxes per 1,000 s. Boxes of hit rate 0.75 at 9 and 2 s cost
7.25 s, 103.4 per 1,000 s. One question an image leaves 13.25 unknown; with recall 0.8 and precision 0.5 2.65 are missed
and 10.6 false, 13.25 errors for 0.75 boxes: 17.7 a box, so that the net gain at `harm` 1 is 103.4 * (1 - 17.7).

>>> prices = Prices(inspect=7.8, draw=7.0, hit=9.0, miss=2.0)
>>> found = choose(Evidence(exact(14.0), exact(0.8), exact(0.5), exact(0.75), 1.0, exact(0.25)), prices, harm=(1, 1))
>>> [(rate.unit, round(rate.per_1000_s.value, 1)) for rate in found.rates]
[('image', 132.3), ('region', 108.4), ('box', 103.4)]
>>> round(found.rates[2].unknown, 2), round(found.rates[2].errors, 1), round(found.rates[2].net.value)
(13.25, 17.7, -1724)
>>> found.best
{'boxes': 'image', 'questions': 'image', 'seconds': 'image'}

In a sparse pool, 0.3 objects an image, and boxes taken as they are (2 s): 30.3 boxes per 1,000 s against 375.

>>> sparse = Evidence(exact(0.3), exact(0.9), exact(0.9), exact(0.75), 1.0, exact(0.25))
>>> found = choose(sparse, Prices(inspect=7.8, draw=7.0, hit=2.0, miss=2.0), harm=(1, 1))
>>> round(found.rates[0].per_1000_s.value, 1), found.rates[2].per_1000_s.value, found.best["seconds"]
(30.3, 375.0, 'box')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy import stats

CONFIDENCE = 0.95
DRAWS = 4_000
"""Of every estimate: enough for the ends of an interval to 2 %."""
STRATA = 10
"""Strata of equal width in which the precision of a confidence is told."""
LEAST_PRECISION = 0.02
"""Below it a precision says that all but nothing is right; a number of false boxes would mean nothing."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the ends of its 95 % interval, and how many observations it rests on; NaN: nothing is known."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a data set and of the model on it.

    Attributes:
        objects: of an image of the pool.
        recall: share of the objects that pseudo boxes find.
        precision: share of the pseudo boxes that are right.
        hit_rate: share of box questions that an object answers.
        questions: box questions in an image of which any was asked.
        region: share of an image's objects that lie in one region.
    """

    objects: Estimate
    recall: Estimate
    precision: Estimate
    hit_rate: Estimate
    questions: float
    region: Estimate


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds: to look over an image or region, to draw a box in it, a box question that hits, and one that misses."""

    inspect: float
    draw: float
    hit: float
    miss: float


@dataclass(frozen=True, slots=True)
class Rate:
    """What a unit brings.

    Attributes:
        unit: its name.
        plural: its name in a sentence.
        boxes: clean boxes of a question.
        seconds: of a question.
        per_1000_s: clean boxes per 1,000 s of annotation.
        unknown: objects of a touched image that nobody drew.
        errors: missed objects and false boxes per clean box.
        net: clean boxes less errors, per 1,000 s.
    """

    unit: str
    plural: str
    boxes: float
    seconds: float
    per_1000_s: Estimate
    unknown: float
    errors: float
    net: Estimate


@dataclass(frozen=True, slots=True)
class Choice:
    """`best`: the unit that pays by what a budget counts ("boxes", "questions", "seconds"); None: it cannot be told."""

    rates: tuple[Rate, ...]
    best: Mapping[str, str | None]


def exact(value: float) -> Estimate:
    """A value without doubt."""
    return Estimate(value, value, value, 0)


def share(hits: int, n: int) -> Estimate:
    """A share of n independent trials, with Wilson's interval; of none, anything from 0 to 1.

    >>> share(0, 0)
    Estimate(value=nan, low=0.0, high=1.0, n=0)
    >>> found = share(5, 10)
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.5, 0.237, 0.763)
    """
    if not n:
        return Estimate(np.nan, 0.0, 1.0, 0)
    found = stats.binomtest(int(hits), int(n)).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(hits / n, float(found.low), float(found.high), int(n))


def ratio(part: Float[np.ndarray, " m"] | Int64[np.ndarray, " m"], whole: np.ndarray) -> Estimate:
    """Sum of `part` over sum of `whole`, entries being images: Student's t interval of the linearised ratio.

    A mean, with a whole of ones: 2 and 4 objects are 3 an image; one image alone tells no interval.

    >>> found = ratio(np.array([2, 4]), np.ones(2))  # 3 -+ 12.71 * sqrt(2) / sqrt(2)
    >>> found.value, round(found.low, 2), round(found.high, 2), found.n
    (3.0, -9.71, 15.71, 2)
    >>> ratio(np.array([2]), np.ones(1))
    Estimate(value=2.0, low=-inf, high=inf, n=1)
    """
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    total, n = float(whole.sum()), len(part)
    if total <= 0:
        return Estimate(np.nan, -np.inf, np.inf, n)
    value = float(part.sum()) / total
    if n < 2:
        return Estimate(value, -np.inf, np.inf, n)
    spread = np.sqrt(float(((part - value * whole) ** 2).sum()) * n / (n - 1)) / total
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df=n - 1)) * spread
    return Estimate(value, float(value - half), float(value + half), n)


def mean(count: Float[np.ndarray, " m"] | Int64[np.ndarray, " m"]) -> Estimate:
    """The mean of counts, whose interval does not fall below 0.

    It reaches up to 3 / n at least: what n counts of 0 leave possible (the rule of three).
    """
    found = ratio(count, np.ones(len(count)))
    return Estimate(found.value, max(found.low, 0.0), max(found.high, 3 / max(len(count), 1)), found.n)


def share_by_image(part: Int64[np.ndarray, " m"], whole: Int64[np.ndarray, " m"]) -> Estimate:
    """A share of things that come in images, which are alike within one: the wider of the two intervals at each end.

    >>> found = share_by_image(np.array([3, 3]), np.array([4, 4]))  # every image alike: Wilson of 6 in 8
    >>> found.value, round(found.low, 3), round(found.high, 3), found.n
    (0.75, 0.409, 0.929, 8)
    """
    single, clustered = share(int(part.sum()), int(whole.sum())), ratio(part, whole)
    if not single.n:
        return single
    low, high = max(0.0, min(single.low, clustered.low)), min(1.0, max(single.high, clustered.high))
    return Estimate(single.value, low, high, single.n)


def precision_of(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " p"]
) -> Estimate:
    """The precision of predictions with the given `scores`, by answered boxes: right as often as those as sure as they.

    The boxes that are asked are not like those that are not; so every stratum of confidence has a precision of its own,
    (right + 1) / (answered + 2), and one without answers that of the nearest which has some. Nothing answered: 0 to 1.

    Two of two right above 0.9, none of two below 0.1; three scores above and one below: (3 * 3/4 + 1/4) / 4.

    >>> sure, right = np.array([0.95, 0.95, 0.05, 0.05]), np.array([True, True, False, False])
    >>> precision_of(sure, right, np.array([0.95, 0.95, 0.95, 0.02])).value
    0.625
    """
    if not len(confidence) or not len(scores):
        return Estimate(np.nan, 0.0, 1.0, 0)
    at, of = (np.clip((np.asarray(x) * STRATA).astype(np.int64), 0, STRATA - 1) for x in (confidence, scores))
    n, k = np.bincount(at, minlength=STRATA), np.bincount(at, right, STRATA)
    known = np.flatnonzero(n)
    nearest = known[np.abs(np.arange(STRATA)[:, None] - known).argmin(axis=1)]
    weight = np.bincount(nearest[of], minlength=STRATA) / len(of)
    rate = (k + 1) / (n + 2)
    value = float((weight * rate).sum())
    half = 1.96 * float(np.sqrt((weight**2 * rate * (1 - rate) / (n + 3)).sum()))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), len(right))


def recall_of(pseudo: Int64[np.ndarray, " images"], precision: Estimate, objects: Estimate) -> Estimate:
    """The recall where no image shows it: right pseudo boxes an image over objects an image.

    8 pseudo boxes an image of which 3 in 4 are right, 12 objects: half of them are found.

    >>> recall_of(np.array([8, 8]), exact(0.75), exact(12.0)).value
    0.5
    """
    each = mean(pseudo)
    if not (np.isfinite(each.value) and np.isfinite(precision.value) and objects.value > 0):
        return Estimate(np.nan, 0.0, 1.0, 0)
    value = min(1.0, each.value * precision.value / objects.value)
    parts = [(e.high - e.low) / 2 / e.value for e in (each, precision, objects) if e.value > 0]
    half = value * float(np.sqrt(np.square(parts).sum()))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), precision.n)


def near_duplicates(features: Float[np.ndarray, "images D"], *, same: float = 0.9) -> float:
    """Share of the images that another one resembles: cosine of their centred features >= `same`.

    >>> near_duplicates(np.array([[1.0, 0.0], [1.0, 0.01], [-1.0, 2.0], [-1.0, -2.0]]))
    0.5
    """
    unit = features - features.mean(axis=0)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    alike = 0
    for first in range(0, len(unit), 1024):
        cosine = unit[first : first + 1024] @ unit.T
        cosine[np.arange(len(cosine)), np.arange(first, first + len(cosine))] = -1
        alike += int((cosine.max(axis=1) >= same).sum())
    return alike / max(len(unit), 1)


def choose(evidence: Evidence, prices: Prices, *, harm: tuple[float, float] = (0.0, 1.0)) -> Choice:
    """What every unit brings, and which one pays.

    Args:
        evidence: the estimates; an unknown share is drawn from its whole interval.
        prices: of the answers.
        harm: from and to how much a missed object or a false box undoes of a clean one.
    """
    rng = np.random.default_rng(0)
    objects = _draws(evidence.objects, rng, 0.0, np.inf)
    recall, precision, hit, part = (
        _draws(e, rng, 0.0, 1.0) for e in (evidence.recall, evidence.precision, evidence.hit_rate, evidence.region)
    )
    undone = rng.uniform(*harm, DRAWS)
    wrong = (1 - recall) + recall * (1 / np.maximum(precision, LEAST_PRECISION) - 1)
    inside, touched = objects * part, max(evidence.questions, 1.0)
    nothing = np.zeros(DRAWS)
    rows = [
        _Question("image", "whole images", objects, prices.inspect + prices.draw * objects, nothing),
        _Question("region", "regions with coverage", inside, prices.inspect + prices.draw * inside, objects - inside),
        _Question(
            "box", "boxes", hit, prices.miss + (prices.hit - prices.miss) * hit, objects - touched * hit, touched
        ),
    ]
    rates: list[Rate] = []
    net: dict[str, list[np.ndarray]] = {"boxes": [], "questions": [], "seconds": []}
    for row in rows:
        seconds, unknown = np.maximum(row.seconds, 1e-9), np.maximum(row.unknown, 0)
        lost = unknown * wrong / row.touched  # errors of a question
        gained = row.boxes - undone * lost
        net["boxes"].append(gained / np.maximum(row.boxes, 1e-9))
        net["questions"].append(gained)
        net["seconds"].append(1000 * gained / seconds)
        n_boxes, n_seconds, n_lost, n_unknown = (float(np.mean(x)) for x in (row.boxes, seconds, lost, unknown))
        gain, errors = _estimate(1000 * row.boxes / seconds), n_lost / max(n_boxes, 1e-9)
        rates.append(
            Rate(row.unit, row.plural, n_boxes, n_seconds, gain, n_unknown, errors, _estimate(net["seconds"][-1]))
        )
    is_known = bool(np.isfinite(evidence.objects.value))
    names = [rate.unit for rate in rates]
    best = {counted: _best(names, values) if is_known else None for counted, values in net.items()}
    return Choice(tuple(rates), best)


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Draws of what a question brings, costs and leaves unknown in its image; `touched`: questions in an image."""

    unit: str
    plural: str
    boxes: Float64[np.ndarray, " draws"]
    seconds: Float64[np.ndarray, " draws"]
    unknown: Float64[np.ndarray, " draws"]
    touched: float = 1.0


def _draws(estimate: Estimate, rng: np.random.Generator, least: float, most: float) -> Float64[np.ndarray, " draws"]:
    """Values that an estimate allows: two halves of normals, or even where it has no value; an open end is twice."""
    if not np.isfinite(estimate.value):
        low, high = max(estimate.low, least), min(estimate.high, most)
        return rng.uniform(low, high if np.isfinite(high) else max(2 * low, 1.0), DRAWS)
    value = estimate.value
    low, high = (end if np.isfinite(end) else value * factor for end, factor in ((estimate.low, 0), (estimate.high, 2)))
    away = rng.standard_normal(DRAWS) / stats.norm.ppf((1 + CONFIDENCE) / 2)
    reach = np.where(away < 0, max(value - low, 0.0), max(high - value, 0.0))
    drawn: np.ndarray = np.clip(value + away * reach, least, most)
    return drawn


def _estimate(values: np.ndarray) -> Estimate:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def _best(names: list[str], values: list[np.ndarray]) -> str | None:
    """The one whose gain is above that of every other in all but the outer 2.5 % of the draws."""
    order = np.argsort([-float(v.mean()) for v in values], kind="stable")
    first = int(order[0])
    others = [int(k) for k in order[1:]]
    sure = all(float(np.quantile(values[first] - values[k], (1 - CONFIDENCE) / 2)) > 0 for k in others)
    return names[first] if sure else None
