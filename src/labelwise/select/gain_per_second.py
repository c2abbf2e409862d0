"""Gain per second: questions of any kind in one ranking, by what their objects add to coverage in a second; unit: 1/s.

Of a wanted object x, which counts w(x), a labelled object s covers the part k(x, s) = exp(-|x - s|^2 / width^2), and a
box b that is asked about the part p(b) k(x, b), p(b) being how likely it is an object. The coverage of a set is the sum
over x of w(x) times the largest of these parts. A question gains what all its boxes together add, and for each object
that it is expected to find beside them what an object of the pool adds on average, as far as anything is left to cover.
It takes `look_seconds`, and `object_seconds` for each of its boxes that is an object. The question of the largest gain
per second comes first; its boxes are then settled: another question that holds them finds less there, and takes less
time. So an image whose objects are known well loses to a question about the one box that is not, and an image full of
new things wins where one look pays for all of them.

Wanted are the open boxes: w(x) is how likely x is an object, times the mean of (n + 1) to the power of `-rarity` over
its class distribution, n being how many objects of a class are labelled.

Source: Matsuo et al., Instance-wise Supervision-level Optimization in Active Learning, CVPR 2025 (arXiv 2503.06517):
what is labelled and by which kind of label is chosen together, by value over cost and by diversity. The coverage is
that of `select/herding` (arXiv 2407.12212).
Differs from the paper: the paper has two kinds of label, an image's fine class and its coarse one; it values each by an
uncertainty times the improvement that such labels brought so far, and spreads the picks by the volume that they span.
Here kinds are questions about boxes, regions and images; what each may find is in its boxes, calibrated on answers, and
coverage is both value and spread.
Fails when: the features do not show the classes, or the chances of being an object are far off (few answers; and what
covers most is least like all that is labelled, and an object less often than its confidence says); or the model learns
less of a box that was asked about alone than of one in an image that was looked over, background included: that is not
weighed (docs/results.md, "Which kind of question?").

By hand, on a circle: boxes at (1, 0) and (0, 1) surely are objects, with |x - s|^2 = 2 between them. Each alone
gains 1 + exp(-2) = 1.1353 in 2 + 7 = 9 s, the image of both gains 2 in 10 + 2 * 7 = 24 s. Box 0 comes first; then box 1
adds 1 - exp(-2) = 0.8647 in 9 s, as the image does, in 10 + 7; then nothing is left to find in its 10 s.

>>> x, sure, none = np.eye(2), np.ones(4), np.zeros(3)
>>> offsets, number = np.array([0, 1, 2, 4]), np.array([0, 1, 0, 1])
>>> look, each = np.array([2, 2, 10.0]), np.full(3, 7.0)
>>> given = offsets, number, x[number], np.ones((4, 1)), sure, none, look, each, x[:0], np.array([0])
>>> rows, why = select(none, *given, np.inf, 3, explain=True)
>>> rows.tolist(), why["gain"].round(4).tolist(), why["seconds"].tolist()
([0, 1, 2], [1.1353, 0.8647, 0.0], [9.0, 9.0, 10.0])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from labelwise.select._order import check, significant
from labelwise.select._product import dots, product
from labelwise.types import LabelwiseError

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

AT_A_TIME = 32
"""Questions whose gain is computed again together."""

ROWS = 4096
"""Rows of a block of the kernel."""

NUMBERS = 1 << 22
"""Numbers of the kernel that are looked at together."""

SPARE = 2.0
"""Times the round's seconds that are ranked with regard to one another: an answer may cost less than expected."""


def select(
    scores: Float[np.ndarray, " n"],
    box_offsets: Int64[np.ndarray, " n+1"],
    box_numbers: Int[np.ndarray, " boxes"],
    box_features: Float[np.ndarray, "boxes D"],
    box_probs: Float[np.ndarray, "boxes C"],
    box_objects: Float[np.ndarray, " boxes"],
    unseen: Float[np.ndarray, " n"],
    look_seconds: Float[np.ndarray, " n"],
    object_seconds: Float[np.ndarray, " n"],
    labelled_box_features: Float[np.ndarray, "m D"],
    counts: Int[np.ndarray, " C"],
    budget_seconds: float,
    budget: int,
    *,
    width: float = 1.0,
    rarity: float = 0.5,
    reference: int = 1000,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, first what brings most per second; equal to 12 digits: the lower row.

    What lies beyond twice the round's seconds follows by what it brought alone.

    Args:
        scores: not looked at, beyond that they are finite.
        box_offsets: the boxes of candidate i are the rows `box_offsets[i]:box_offsets[i + 1]` of what is of boxes.
        box_numbers: a box that several candidates hold has one number.
        box_features: one row per box; all rows are brought to length 1.
        box_probs: class distribution.
        box_objects: how likely a box is an object.
        unseen: objects that an answer is expected to bring beside its boxes, of which the model learns.
        look_seconds: of an answer none of whose boxes is an object.
        object_seconds: for each of its boxes that is one.
        labelled_box_features: of labelled objects, which cover from the start; may be none.
        counts: labelled objects of every class.
        budget_seconds: of the round; may be infinite.
        budget: how many rows to pick.
        width: of the Gaussian kernel, on rows of length 1.
        rarity: how much classes with few labels count; 0: as all others.
        reference: where there are more boxes, so many of them, drawn evenly by w(x), stand for all of them as x.
        explain: return "gain", "seconds" and their ratio, "score", too.

    Raises:
        LabelwiseError: a value that is not finite or below 0, columns that disagree, a setting out of range.
    """
    k = check(scores, budget)
    if not (width > 0 and np.isfinite(width) and rarity >= 0 and reference >= 1):
        raise LabelwiseError(
            f"gain_per_second: width is {width}, rarity {rarity}, reference {reference}; expected a number above 0, a "
            "number from 0 and a whole number from 1"
        )
    _check(len(scores), box_offsets, unseen, look_seconds, object_seconds, box_objects, box_features, box_probs, counts)
    _, first, box = np.unique(box_numbers, return_index=True, return_inverse=True)
    chance = box_objects[first].astype(np.float64)
    wanted = chance * dots(box_probs[first].astype(np.float64), np.power(counts + 1.0, -rarity))
    coverage = _Coverage.of(_unit(box_features[first]), wanted, _unit(labelled_box_features), chance, width, reference)
    asked = _Questions(box_offsets, box.reshape(-1), unseen, look_seconds, object_seconds, coverage)
    rows, gain, seconds = _greedy(asked, k, SPARE * budget_seconds)
    return (rows, {"score": gain / seconds, "gain": gain, "seconds": seconds}) if explain else rows


def explain(gain: Float64[np.ndarray, " k"], seconds: Float64[np.ndarray, " k"]) -> list[str]:
    """How long it takes, and that nothing else brings more in that time; nothing of what brings nothing."""
    return [
        f"Of all kinds of question this one brings most per second; it takes about {took:.0f} s." if brings > 0 else ""
        for brings, took in zip(gain.tolist(), seconds.tolist(), strict=True)
    ]


@dataclass
class _Coverage:
    """How far the reference is covered. `part` [boxes, m]: what each open box would cover of each of its rows, `weight`
    [m] what these count, `covered` [m] the part that is. `typical`: what an object adds on average, at the start.
    """

    part: Float[np.ndarray, "boxes m"]
    weight: Float64[np.ndarray, " m"]
    covered: Float[np.ndarray, " m"]
    chance: Float64[np.ndarray, " boxes"]
    typical: float = 0.0
    at_start: float = 1.0

    @classmethod
    def of(
        cls, x: np.ndarray, wanted: np.ndarray, labelled: np.ndarray, chance: np.ndarray, width: float, reference: int
    ) -> _Coverage:
        """The coverage by labelled rows alone."""
        total, stand, weight = float(wanted.sum()), x, wanted
        if len(x) > reference:
            m = reference if total > 0 else 0
            at = np.searchsorted(np.cumsum(wanted), (np.arange(m) + 0.5) * total / max(m, 1))
            stand, weight = x[np.minimum(at, len(x) - 1)], np.full(m, total / max(m, 1))
        m = len(stand)
        part = np.zeros((len(x), m), np.float32)
        for rows in _blocks(len(x)):
            part[rows] = _kernel(x[rows], stand, width) * chance[rows, None].astype(np.float32)
        covered = np.zeros(m, np.float32)
        for rows in _blocks(len(labelled)):
            covered = np.maximum(covered, _kernel(labelled[rows], stand, width).max(axis=0, initial=0))
        made = cls(part, weight, covered, chance)
        made.at_start = made.left
        gain = sum(float((chance[rows] * made.added(part[rows])).sum()) for rows in _blocks(len(x)))
        made.typical = gain / max(float(chance.sum()), 1e-9)
        return made

    def added(self, part: Float[np.ndarray, "n m"]) -> Float64[np.ndarray, " n"]:
        """What covering these parts adds, each alone."""
        found: np.ndarray = product(np.maximum(part - self.covered, 0), self.weight.astype(np.float32))
        return found.astype(np.float64)

    @property
    def left(self) -> float:
        """What is not covered."""
        return float(((1 - self.covered) * self.weight).sum())

    @property
    def unseen_gain(self) -> float:
        """What an object that no box shows is expected to add now."""
        return self.typical * self.left / self.at_start if self.at_start > 0 else 0.0


class _Questions:
    """The candidates, and which of their boxes are settled."""

    def __init__(
        self,
        offsets: np.ndarray,
        box: np.ndarray,
        unseen: np.ndarray,
        look: np.ndarray,
        each: np.ndarray,
        coverage: _Coverage,
    ) -> None:
        self.offsets, self.box, self.coverage = offsets, box, coverage
        self.unseen, self.look, self.each = (one.astype(np.float64) for one in (unseen, look, each))
        self.chance, self.settled = coverage.chance.copy(), np.zeros(len(coverage.chance), np.bool_)
        self.holder = np.repeat(np.arange(len(look)), np.diff(offsets))[np.argsort(box, kind="stable")]
        self.held = np.concatenate([[0], np.cumsum(np.bincount(box, minlength=len(self.chance)))])

    def __len__(self) -> int:
        return len(self.look)

    def worth(self, rows: Int64[np.ndarray, " k"]) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """Gain and seconds of these candidates."""
        count = np.diff(self.offsets)[rows]
        ends = np.cumsum(count)
        box = self.box[np.arange(count.sum()) + np.repeat(self.offsets[rows] - (ends - count), count)]
        gain, objects, some = np.zeros(len(rows)), self.unseen[rows], np.flatnonzero(count)
        if len(some):
            starts = (ends - count)[some]
            part = np.where(self.settled[box, None], 0, self.coverage.part[box])
            gain[some] = self.coverage.added(np.maximum.reduceat(part, starts, axis=0))
            objects[some] += np.add.reduceat(self.chance[box], starts)
        gain += self.unseen[rows] * self.coverage.unseen_gain
        return gain, np.maximum(self.look[rows] + self.each[rows] * objects, 1e-6)

    def ask(self, row: int) -> Int64[np.ndarray, " k"]:
        """Settles the boxes of a candidate; which others hold any of them."""
        box = np.unique(self.box[self.offsets[row] : self.offsets[row + 1]])
        box = box[~self.settled[box]]
        if len(box):
            self.coverage.covered = np.maximum(self.coverage.covered, self.coverage.part[box].max(axis=0))
        self.chance[box], self.settled[box] = 0, True
        others: np.ndarray = np.concatenate(
            [self.holder[:0], *(self.holder[self.held[b] : self.held[b + 1]] for b in box)]
        )
        return np.setdiff1d(others, [row])


def _greedy(asked: _Questions, k: int, most_seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, gains and seconds. A candidate whose boxes are open as before gains no more than before, and takes as long:
    its ratio is a bound, and only those of the highest bounds are computed again.
    """
    n = len(asked)
    gain, seconds, ratio, fresh = np.zeros(n), np.ones(n), np.zeros(n), np.ones(n, bool)

    def look(rows: np.ndarray) -> None:
        gain[rows], seconds[rows] = asked.worth(rows)
        ratio[rows], fresh[rows] = significant(gain[rows] / seconds[rows]), True

    sizes = np.maximum(np.diff(asked.offsets), 1) * max(len(asked.coverage.covered), 1)
    for rows in np.split(np.arange(n), np.flatnonzero(np.diff(np.cumsum(sizes) // NUMBERS)) + 1):
        look(rows)
    picked: list[tuple[int, float, float]] = []
    spent, alone = 0.0, ratio.copy()
    while len(picked) < k and spent < most_seconds:
        best = int(ratio.argmax())
        while not fresh[best]:
            top = np.argpartition(-ratio, min(AT_A_TIME, n - 1))[:AT_A_TIME]
            look(np.union1d(top[~fresh[top] & (ratio[top] > -np.inf)], best))
            best = int(ratio.argmax())
        if not ratio[best] > 0:
            break
        picked.append((best, float(gain[best]), float(seconds[best])))
        spent += seconds[best]
        others = asked.ask(best)
        fresh[:] = False
        ratio[best], alone[best] = -np.inf, -np.inf
        others = others[ratio[others] > -np.inf]
        if len(others):
            look(others)
    rest = np.argsort(-alone, kind="stable")[: k - len(picked)]
    first, gains, times = (np.array([one[i] for one in picked]) for i in range(3))
    rows = np.concatenate([first, rest]).astype(np.int64)
    return rows, np.concatenate([gains, gain[rest]]), np.concatenate([times, seconds[rest]])


def _unit(rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
    wide = rows.astype(np.float32)
    found: np.ndarray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return found


def _kernel(x: Float[np.ndarray, "n D"], stand: Float[np.ndarray, "m D"], width: float) -> Float[np.ndarray, "n m"]:
    norm, other = (np.einsum("nd,nd->n", one, one) for one in (x, stand))
    found: np.ndarray = np.exp(-np.maximum(norm[:, None] + other - 2 * product(x, stand.T), 0) / width**2)
    return found


def _blocks(n: int) -> Iterator[slice]:
    return (slice(first, first + ROWS) for first in range(0, n, ROWS))


def _check(n: int, offsets: np.ndarray, *columns: np.ndarray) -> None:
    """Refuses columns that do not fit n candidates and their boxes."""
    names = ("unseen", "look_seconds", "object_seconds", "box_objects", "box_features", "box_probs", "counts")
    boxes = int(offsets[-1]) if len(offsets) == n + 1 else -1
    if boxes < 0 or bool((np.diff(offsets) < 0).any()):
        raise LabelwiseError(f"box_offsets: expected {n + 1} whole numbers, never falling, got {offsets.shape}")
    classes = columns[5].shape[1]
    for name, column, rows in zip(names, columns, (n, n, n, boxes, boxes, boxes, classes), strict=True):
        if len(column) != rows:
            raise LabelwiseError(f"{name}: expected {rows} rows, got {len(column)}")
        good = np.isfinite(column) & ((column >= 0) | (name == "box_features"))
        bad = np.flatnonzero(~(good if column.ndim == 1 else good.all(axis=1)))
        if len(bad):
            raise LabelwiseError(f"{name}: row {bad[0]} is {column[bad[0]]!r:.80}; expected finite numbers from 0")
