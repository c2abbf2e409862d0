"""What `model_choice` found, in plain words: the verdict, its reason, when to look again, and a table.

>>> from labelwise.study.model_choice import Evidence, decide
>>> recall = {10: Estimate(0.32, 0.2, 0.45, 200), 100: Estimate(0.89, 0.8, 0.95, 200)}
>>> found = Evidence(15, 200, "images", "frozen", "retinanet", recall, 100, 100, 0.8, Estimate(0.43, 0.3, 0.56, 5), 0.4,
...     Estimate(0.78, 0.7, 0.86, 5), Estimate(0.35, 0.2, 0.5, 5))
>>> print("\\n".join(sentences(found, decide(found))))
Take the trained detector (retinanet) now: on images held back it has 35.0 [20.0, 50.0] points of AP50 more than the \
frozen one, 78.0 against 43.0.
Its proposals limit the frozen one to about 80.0: the best 100 hold 89 % [80, 95] of the objects (32 % within 10), and \
what is not proposed no label lets it find. From half as many images it has 40.0.
To change over, set model.name = retinanet in run.toml, then `labelwise redo ROUND train` for the last round and \
`labelwise run`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from labelwise.report.tables import Table
from labelwise.report.wording import DASH, plural, points
from labelwise.study.model_choice import Evidence, Verdict, is_promising
from labelwise.study.unit_choice import Estimate
from labelwise.study.unit_text import interval


def sentences(found: Evidence, verdict: Verdict) -> list[str]:
    """Which detector to take and why; the ceiling of the frozen one; when to look again."""
    names = {"frozen": "the frozen detector", "trained": f"the trained detector ({found.name})"}
    take = names[verdict.take]
    if found.trained is None or found.gain is None:
        first = f"{_by_recall(found, take)} That is expected and not measured: add --train, one training a fold."
    elif verdict.because == "equal":
        first = (
            f"Stay with {take}: on {found.apart} held back the two cannot be told apart, frozen "
            f"{points(found.frozen.value)} and trained {points(found.trained.value)} AP50 (difference "
            f"{_signed(found.gain)})."
        )
    else:
        better, sign = ("trained", 1) if verdict.take == "trained" else ("frozen", -1)
        gain = _points(found.gain if sign > 0 else _negative(found.gain))
        values = {"trained": points(found.trained.value), "frozen": points(found.frozen.value)}
        other = "frozen" if better == "trained" else "trained"
        first = (
            f"Take {take} now: on {found.apart} held back it has {gain} points of AP50 more than the {other} one, "
            f"{values[better]} against {values[other]}."
        )
    return [first, _ceiling(found), *_again(found, verdict), *_wanted(found, verdict)]


def _by_recall(found: Evidence, take: str) -> str:
    few, most = min(found.recall), max(found.recall)
    said = f"the best {few} proposals hold {interval(found.recall[few], 100)} of the objects"
    if is_promising(found.recall, found.wanted):
        return f"Take {take} now: {said}, so they are few and salient."
    if found.wanted > few:
        return (
            f"Take {take} now: {said} where the best {most} hold {interval(found.recall[most], 100)}: they stand dense."
        )
    return f"Take {take} now: {said}, and more proposals hold no more: the frozen detector does not see the rest."


def _ceiling(found: Evidence) -> str:
    few = min(found.recall)
    at = min((count for count in found.recall if count >= found.kept), default=max(found.recall))
    beside = "" if at == few else f" ({100 * found.recall[few].value:.0f} % within {few})"
    hold = f"the best {found.kept} hold {interval(found.recall[at], 100)} of the objects{beside}"
    line = (
        f"Its proposals limit the frozen one to about {points(found.ceiling)}: {hold}, and what is not proposed "
        "no label lets it find."
    )
    if points(found.ceiling) == points(1.0):
        line = f"Proposals do not limit the frozen one: {hold}."
    if math.isfinite(found.half):
        line += f" From half as many images it has {points(found.half)}."
    return line


def _again(found: Evidence, verdict: Verdict) -> list[str]:
    if verdict.again is None:
        return []
    return [
        f"Look again after {plural(verdict.again, 'further labelled image')} ({found.images + verdict.again} in all): "
        "change over when the trained one is above the frozen one by more than the interval of the difference."
    ]


def _wanted(found: Evidence, verdict: Verdict) -> list[str]:
    """How the project is changed over, and how many proposals the frozen detector should have."""
    lines, redo = [], "then `labelwise redo ROUND train` for the last round and `labelwise run`"
    most = "" if found.wanted == min(found.recall) else f", features.objects_most = {found.wanted}"
    if found.has != verdict.take and verdict.because == "measured":
        model = found.name if verdict.take == "trained" else f"frozen, features.body and features.objects{most}"
        lines.append(f"To change over, set model.name = {model} in run.toml, {redo}.")
    elif found.has != verdict.take and verdict.take == "frozen":
        lines.append(f"A new project with it: `labelwise init FOLDER --data DATA --model frozen`{most}.")
    if found.has == "frozen" and found.wanted > found.kept:
        more = f"More proposals hold more objects: --set features.objects_most={found.wanted}"
        lines.append(f"{more} (this project has {found.kept}).")
    return lines


def table(found: Evidence) -> Table:
    """What was measured."""
    rows = [
        [f"Objects among the best {count} proposals", interval(one, 100), plural(one.n, "object")]
        for count, one in found.recall.items()
    ]
    held = f"{plural(found.frozen.n, 'fold')} of {found.apart}"
    rows.append(
        ["Ceiling of the frozen detector's AP50", points(found.ceiling), f"recall within {found.kept}, by class"]
    )
    rows.append(["AP50 of the frozen detector", _points(found.frozen), held])
    rows.append(["- from half as many images", points(found.half), held])
    if found.trained is not None and found.gain is not None:
        rows.append([f"AP50 of the trained detector ({found.name})", _points(found.trained), held])
        rows.append(["- more than the frozen one", _signed(found.gain), "fold by fold"])
    caption = f"What {plural(found.images, 'labelled image')} show, in points"
    return Table(caption, ["", "Value [95 % interval]", "Seen in"], rows, text=True)


def for_init(images: int, recall: Mapping[int, Estimate], wanted: int, name: str, *, frozen: bool) -> str:
    """One line: which detector a new project has, and what the recall of the proposals says of it.

    >>> sure = {10: Estimate(0.98, 0.93, 1.0, 60), 30: Estimate(1.0, 0.95, 1.0, 60), 100: Estimate(1.0, 0.95, 1.0, 60)}
    >>> for_init(32, sure, 10, "retinanet", frozen=False)  # doctest: +ELLIPSIS
    'Detector: retinanet, which is trained. 98 % [93, 100] of the objects of 32 images are among the best 10 ...'
    """
    few = min(recall)
    seen = (
        f"{interval(recall[few], 100)} of the objects of {plural(images, 'image')} are among the best {few} proposals"
    )
    if wanted > few:
        seen += f" of a frozen detector, {interval(recall[wanted], 100)} among the best {wanted}"
    else:
        seen += " of a frozen detector"
    if is_promising(recall, wanted):
        advice = "so that it works from few labels" + ("" if frozen else " (--model frozen takes it)")
    else:
        advice = "so that it misses many" + (" (without --model frozen one is trained)" if frozen else "")
    if frozen and wanted > few:
        advice += f"; --set features.objects_most={wanted} finds more"
    head = "frozen, as --model says." if frozen else f"{name}, which is trained."
    return f"Detector: {head} {seen}, {advice}"


def _points(estimate: Estimate) -> str:
    """A share in points, with its interval where there is one."""
    if not math.isfinite(estimate.value):
        return DASH
    if not math.isfinite(estimate.low):
        return f"{points(estimate.value)} (no interval)"
    return f"{points(estimate.value)} [{points(estimate.low)}, {points(estimate.high)}]"


def _signed(estimate: Estimate) -> str:
    return ("+" if estimate.value > 0 else "") + _points(estimate)


def _negative(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n)
