"""What a model says of boxes and images, in words that a person would say: the parts of "why is this asked?"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

CLOSE = 0.6
"""A class is named beside the likeliest if it is this share of it as likely."""
MOST_NAMED = 3


def percent(share: float) -> str:
    """A share in percent, whole above 1 %.

    >>> percent(0.423), percent(0.004), percent(0.0), percent(0.9999)
    ('42 %', '0.4 %', '0 %', '100 %')
    """
    found = 100 * float(share)
    return f"{found:.1f} %" if 0.05 <= found < 1 else f"{found:.0f} %"


def several(number: float, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> several(1, "box", "boxes"), several(3, "box", "boxes"), several(0, "image")
    ('1 box', '3 boxes', '0 images')
    """
    return f"{number:g} {one if number == 1 else many or one + 's'}"


def joined(parts: Sequence[str]) -> str:
    """Parts of a list as one: commas, and "and" before the last.

    >>> joined(["a", "b", "c"]), joined(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def hesitation(probs: Float[np.ndarray, "n C"], classes: Sequence[str]) -> list[str]:
    """Between which classes the model hesitates, per row.

    >>> hesitation(np.array([[0.42, 0.39, 0.19], [0.9, 0.1, 0]]), ["WBC", "RBC", "platelet"])[0]
    'The model hesitates between WBC (42 %) and RBC (39 %).'
    """
    order = np.argsort(-probs, axis=1, kind="stable")[:, :MOST_NAMED]
    near = (probs >= CLOSE * probs.max(axis=1, keepdims=True, initial=0)).sum(axis=1)
    found = []
    for row, best, close in zip(probs, order, near, strict=True):
        named = [f"{classes[c]} ({percent(row[c])})" for c in best]
        if close > MOST_NAMED:
            found.append(f"The model hesitates between {close} classes; {joined(named[:2])} come first.")
        elif close > 1:
            found.append(f"The model hesitates between {joined(named[:close])}.")
        elif len(named) > 1 and row[best[1]] >= 0.05:
            found.append(f"The model takes it for {named[0]}, but it could be {named[1]}.")
        else:
            found.append(f"The model takes it for {named[0]}.")
    return found


def confidence(scores: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: Sequence[str]) -> list[str]:
    """How sure the model is of its class, per row.

    >>> confidence(np.array([0.43]), np.array([0]), ["WBC"])
    ['The model is 43 % sure that this is WBC.']
    """
    return [
        f"The model is {percent(s)} sure that this is {classes[label]}."
        for s, label in zip(scores, labels, strict=True)
    ]


def votes(
    probs: Float[np.ndarray, "n C"],
    view_probs: Float[np.ndarray, "V n C"],
    view_iou: Float[np.ndarray, "V n"],
    classes: Sequence[str],
) -> list[str]:
    """What the model said over the untouched pass and the views, per row: the classes by how often each came first.

    >>> p, q = np.array([[0.6, 0.4]]), np.array([[[0.3, 0.7]], [[0, 0]]])
    >>> votes(p, q, np.array([[0.9], [0.0]]), ["WBC", "RBC"])
    ['WBC in 1 of 3 looks, RBC in 1, nothing in 1']
    """
    label = np.where(view_iou > 0, view_probs.argmax(axis=2), -1)
    every = np.concatenate([probs.argmax(axis=1)[None], label]).T.tolist()
    found = []
    for said in every:
        first, *rest = sorted(Counter(said).items(), key=lambda one: -one[1])
        names = [(classes[c] if c >= 0 else "nothing", times) for c, times in (first, *rest)]
        parts = [f"{names[0][0]} in {names[0][1]} of {len(said)} looks"]
        found.append(", ".join(parts + [f"{name} in {times}" for name, times in names[1:]]))
    return found


def rarity(
    labels: Int[np.ndarray, " n"] | Float[np.ndarray, "n C"],
    weight: Float[np.ndarray, " C"] | Int[np.ndarray, " C"],
    classes: Sequence[str],
    of: str = "the labels",
) -> list[str]:
    """Of each row's class how rare it is, if it is: less than its even share of `weight`; else nothing.

    Of class shares, as an image has them, the rarest class that makes up a tenth or more.

    >>> rarity(np.array([0, 1]), np.array([30, 70]), ["WBC", "RBC"])
    ['WBC is rare: 30 % of the labels.', '']
    """
    total = float(weight.sum())
    share = weight / total if total else np.zeros(len(weight))
    if labels.ndim == 2:
        held = labels >= 0.1
        labels = np.where(held.any(axis=1), np.where(held, share, np.inf).argmin(axis=1), -1)
    found = []
    for c in labels.tolist():
        if c < 0 or not total or share[c] >= 1 / len(share):
            found.append("")
        elif share[c] == 0:
            found.append(f"{classes[c]} is rare: none of {of} so far.")
        else:
            found.append(f"{classes[c]} is rare: {percent(share[c])} of {of}.")
    return found


def unlike(nearest: Sequence[str]) -> list[str]:
    """That nothing labelled is like it, and the labelled image that is nearest, by name, where one is given.

    >>> unlike(["a.jpg", ""])
    ['Unlike anything labelled so far; the nearest labelled image is a.jpg.', 'Unlike anything labelled so far.']
    """
    return [
        f"Unlike anything labelled so far; the nearest labelled image is {name}."
        if name
        else "Unlike anything labelled so far."
        for name in nearest
    ]
