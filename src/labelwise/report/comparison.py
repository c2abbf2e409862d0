"""Is one way better than another? Paired differences over seeds, with Student's t confidence intervals.

Runs of one seed share the start set and the order of chance, so they are compared pair by pair: what is left is the
spread of the differences, not of the runs. Unit: that of the values given (the report gives AP50 in points).
Differs from the paper: 000 Table 1 gives means and standard deviations of three runs, no test.
Fails when: there are fewer than two pairs; and with two or three, an interval is wide and rests on normal differences.
Nothing is corrected for many comparisons: of 20 intervals without any difference, one excludes zero by chance.

Two rounds, three seeds. Round 1: differences 1, 2, 3: mean 2, standard deviation 1, standard error 1/sqrt(3) = 0.5774,
t(0.975; 2) = 4.3027, so 2 -+ 2.484. Round 2: 4, 4, 4. Averaged over rounds, per seed: 2.5, 3, 3.5: 3 -+ 1.242.

>>> a, b = np.array([[51.0, 64.0], [52.0, 64.0], [53.0, 64.0]]), np.array([[50.0, 60.0]] * 3)
>>> p = pair(a, b)
>>> p.rounds.mean.tolist(), p.rounds.low.round(3).tolist(), p.rounds.high.round(3).tolist()
([2.0, 4.0], [-0.484, 4.0], [4.484, 4.0])
>>> verdict(p, "CB", "U", "AP50")
'CB against U: mean +3.0 AP50, 95 % CI +1.8 to +4.2 (3 seeds); no verdict below 8 paired seeds'

Nine seeds, three times these:

>>> verdict(pair(np.tile(a, (3, 1)), np.tile(b, (3, 1))), "CB", "U", "AP50")
'CB is 3.0 AP50 better than U, 95 % CI 2.7 to 3.3 (9 seeds)'
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

from labelwise.report.wording import EFFECT, why_no_verdict
from labelwise.types import LabelwiseError


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """Mean difference a - b and the ends of its confidence interval, one entry per round (or one in all)."""

    mean: Float64[np.ndarray, " k"]
    low: Float64[np.ndarray, " k"]
    high: Float64[np.ndarray, " k"]


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """`rounds`: one entry per round; `overall`: one entry, of every seed's mean over its rounds; `n`: pairs."""

    n: int
    confidence: float
    rounds: Interval
    overall: Interval


def pair(
    values_a: Float64[np.ndarray, "seeds rounds"],
    values_b: Float64[np.ndarray, "seeds rounds"],
    *,
    confidence: float = 0.95,
) -> Paired:
    """Row i of both arrays is the same seed, column j the same round (the same budget)."""
    a, b = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
    if a.ndim != 2 or a.shape != b.shape or a.shape[1] < 1:
        raise LabelwiseError(
            f"paired comparison: got shapes {a.shape} and {b.shape}; expected both [seeds, rounds] with >= 1 round. "
            "Keep only the seeds and rounds that both have."
        )
    if len(a) < 2:
        raise LabelwiseError(
            f"paired comparison: got {len(a)} pair(s) of seeds; expected at least 2, or no interval can be given. "
            "Run both with more seeds."
        )
    bad = np.argwhere(~(np.isfinite(a) & np.isfinite(b)))
    if len(bad):
        raise LabelwiseError(
            f"paired comparison: the value at seed row {bad[0][0]}, round column {bad[0][1]} is not finite; "
            "expected a number in both. Leave out that seed or that round."
        )
    if not 0 < confidence < 1:
        raise LabelwiseError(f"paired comparison: got confidence {confidence}; expected a share between 0 and 1")
    difference = a - b
    return Paired(
        n=len(a),
        confidence=confidence,
        rounds=_interval(difference, confidence),
        overall=_interval(difference.mean(axis=1, keepdims=True), confidence),
    )


def _interval(difference: Float64[np.ndarray, "seeds k"], confidence: float) -> Interval:
    n = len(difference)
    mean = difference.mean(axis=0)
    half = stats.t.ppf((1 + confidence) / 2, df=n - 1) * difference.std(axis=0, ddof=1) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def verdict(comparison: Paired, a: str, b: str, metric: str = "AP50", effect: float = EFFECT) -> str:
    """The overall difference in plain words: "better" or "worse" where the interval excludes zero, "no difference"
    where it does not; neither below `wording.ENOUGH_PAIRS` seeds or with an interval wider than `effect` points.
    """
    (mean,), (low,), (high,) = comparison.overall.mean, comparison.overall.low, comparison.overall.high
    share, seeds = f"{comparison.confidence * 100:g} % CI", f"({comparison.n} seeds)"
    why = why_no_verdict(comparison.n, high - low, effect)
    if why:
        return f"{a} against {b}: mean {sign(mean)} {metric}, {share} {sign(low)} to {sign(high)} {seeds}; {why}"
    if low <= 0 <= high:
        inner = f"mean {sign(mean)} {metric}, {share} {sign(low)} to {sign(high)}"
        return f"{a} against {b}: no difference that {comparison.n} seeds can show ({inner})"
    word, ends = ("better", (low, high)) if mean > 0 else ("worse", (-high, -low))
    interval = f"{share} {ends[0]:.1f} to {ends[1]:.1f}"
    return f"{a} is {abs(mean):.1f} {metric} {word} than {b}, {interval} {seeds}"


def sign(value: float) -> str:
    """One decimal, always with a sign; the minus is a true one.

    >>> sign(1.25), sign(-0.31), sign(-0.01)
    ('+1.2', '−0.3', '0.0')
    """
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
