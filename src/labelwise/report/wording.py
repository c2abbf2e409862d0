"""Numbers as people read them. A missing number (None, NaN) is a dash, never a zero.

>>> points(0.6184), points(float("nan")), points(0.6184, 0.0123), count(1234.0), count(12.5, 0.7)
('61.8', '–', '61.8 ± 1.2', '1,234', '12.5 ± 0.7')
>>> duration(42), duration(4380), duration(float("nan")), plural(1, "box", "boxes"), plural(0, "seed")
('42 s', '1 h 13 min', '–', '1 box', '0 seeds')
"""

from __future__ import annotations

import math

DASH = "–"


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
