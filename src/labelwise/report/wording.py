"""Numbers as people read them. A missing number (None, NaN) is a dash, never a zero.

>>> points(0.6184), points(float("nan")), points(0.6184, 0.0123), count(1234.0), count(12.5, 0.7)
('61.8', '–', '61.8 ± 1.2', '1,234', '12.5 ± 0.7')
>>> duration(42), duration(4380), duration(float("nan")), plural(1, "box", "boxes"), plural(0, "seed")
('42 s', '1 h 13 min', '–', '1 box', '0 seeds')
"""

from __future__ import annotations

import math

DASH = "–"

ENOUGH_PAIRS = 8
"""Paired seeds from which a difference may be called one. With three, one and the same method comes out better and
worse than random (CDALBench, NeurIPS 2024).
"""

EFFECT = 10.0
"""Points; an interval that is wider calls nothing better, worse or equal. As wide as the least headroom that tells
methods apart (`headroom.ENOUGH`): one that is wider places a method nowhere in it. `compare --effect` states another.
"""


def why_no_verdict(pairs: int, width: float, effect: float = EFFECT) -> str:
    """Why a difference is not called one; empty where it may be. `width` of its 95 % interval and `effect` in points.

    >>> why_no_verdict(8, 6.0), why_no_verdict(7, 1.0), why_no_verdict(9, 12.5)
    ('', 'no verdict below 8 paired seeds', 'no verdict: the interval is 12.5 points wide, more than the effect of 10')
    """
    if pairs < ENOUGH_PAIRS:
        return f"no verdict below {ENOUGH_PAIRS} paired seeds"
    if not width <= effect:
        return f"no verdict: the interval is {width:.1f} points wide, more than the effect of {effect:g}"
    return ""


def share_needed(value: float, low: float, high: float) -> str:
    """A share of a budget with its interval, in per cent; an end at which nothing was reached has no number.

    >>> share_needed(0.52, 0.45, 0.6), share_needed(0.9, 0.7, math.inf), share_needed(0.5, math.nan, math.nan)
    ('52 % (45 to 60)', '90 % (70 to not reached)', '50 %')
    """
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "not reached" + (f" (from {100 * low:.0f} %)" if math.isfinite(low) else "")
    if math.isnan(low):
        return f"{100 * value:.0f} %"
    end = f"{100 * high:.0f}" if math.isfinite(high) else "not reached"
    return f"{100 * value:.0f} % ({100 * low:.0f} to {end})"


def points(mean: float, std: float = math.nan) -> str:
    """A fraction as points (times 100), with its standard deviation where there is one."""
    if not math.isfinite(mean):
        return DASH
    return f"{mean * 100:.1f}" + (f" ± {std * 100:.1f}" if math.isfinite(std) else "")


def count(mean: float, std: float = math.nan) -> str:
    """A count or a mean of counts; one decimal only where it is not whole."""
    if not math.isfinite(mean):
        return DASH
    text = f"{mean:,.0f}" if abs(mean - round(mean)) < 0.05 else f"{mean:,.1f}"
    return text + (f" ± {std:,.1f}" if math.isfinite(std) and std > 0 else "")


def duration(seconds: float) -> str:
    """Seconds in the two units that fit."""
    if not math.isfinite(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def plural(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def join_words(words: list[str]) -> str:
    """Words with commas and a last "and".

    >>> join_words(["a", "b", "c"]), join_words(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
