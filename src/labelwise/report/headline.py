"""What opens a report: one sentence, and one chart of the method beside the baseline and everything labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from labelwise.report import curves, reach
from labelwise.report.spread import Group, spread, values
from labelwise.report.wording import duration, plural, share_needed, why_no_verdict

TIME = "cost_seconds"


@dataclass(frozen=True, slots=True)
class Headline:
    """`chart` is None where nothing was measured."""

    sentence: str
    chart: Markup | None


@dataclass(frozen=True, slots=True)
class _Saved:
    """The share of the baseline's annotation time that a method needs to be as good (`level`, points) as that ends."""

    group: Group
    share: float
    low: float
    high: float
    pairs: int
    level: float
    total_s: float


def headline(found: Sequence[Group], baseline: str | None, full: Group | None, otherwise: str) -> Headline:
    """Of the method that needs least of the baseline's time; `otherwise` is said where there is nothing to compare."""
    base = next((g for g in found if g.name == baseline), None)
    if base is None:
        return Headline(otherwise, _chart(found, full, None))
    saved = [one for g in found if g is not base and (one := _saved(g, base)) is not None]
    if not saved:
        return Headline(otherwise, _chart(found, full, None))
    best = min(saved, key=lambda one: one.share)
    return Headline(_sentence(best, base, len(saved)), _chart([best.group, base], full, best))


def _saved(group: Group, base: Group) -> _Saved | None:
    pair = reach.pairing(group, base, TIME, "quality")
    if pair is None:
        return None
    share = reach.share_needed(pair.own, pair.base)
    total = float(spread(values(base, TIME)[:, -1:])[0][0])
    return _Saved(group, share.value, share.low, share.high, len(pair.seeds), reach.level_of(pair.base), total)


def _sentence(best: _Saved, base: Group, methods: int) -> str:
    of = f", the best of {methods} methods," if methods > 1 else ""
    aim = f"{base.name} at its end ({base.metric} {best.level:.1f})"
    if not np.isfinite(best.share):
        return f"{best.group.name}{of} did not get as good as {aim}."
    left = (1 - best.share) * best.total_s
    gain = f": {duration(left)} saved" if left > 0 else ": no time is saved"
    why = why_no_verdict(best.pairs, 0.0)
    shown = share_needed(best.share, best.low, best.high)
    doubt = f" ({plural(best.pairs, 'paired seed')}: {why})" if why else ""
    return f"{best.group.name}{of} is as good as {aim} after {shown} of {base.name}'s annotation time{gain}{doubt}."


def _chart(shown: Sequence[Group], full: Group | None, best: _Saved | None) -> Markup | None:
    span = None
    if best is not None and np.isfinite(best.share) and best.share < 1:
        span = best.share * best.total_s, best.total_s, best.level
    drawing = curves.one_curve(shown, full, span)
    return None if drawing is None else Markup(drawing)
