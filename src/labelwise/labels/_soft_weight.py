"""Checks and the soft weight that label policies share (machinery, not a policy)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64

from labelwise.types import LabelwiseError

Weighed = tuple[Bool[np.ndarray, " n"], Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]
"""What a policy returns per candidate: kept, weight of the classification loss, weight of the localisation loss."""


def soft(value: np.ndarray, tau: tuple[float, float]) -> Float64[np.ndarray, " n"]:
    """Eq. 5 of 000: 1 where value >= tau[0]; the value itself between; 0 where value <= tau[1]."""
    value = value.astype(np.float64)
    return np.where(reaches(value, tau[0]), 1.0, np.where(reaches(tau[1], value), 0.0, value))


def reaches(value: np.ndarray | float, threshold: np.ndarray | float) -> np.ndarray:
    """Whether value >= threshold in float32, the type of confidences: a stored 0.8 reaches a set 0.8."""
    return np.asarray(np.asarray(value, np.float32) >= np.asarray(threshold, np.float32))


def check_values(policy: str, name: str, values: np.ndarray | None, n: int | None = None) -> np.ndarray:
    """The values, if they are numbers in [0, 1], one per candidate."""
    if values is None:
        raise LabelwiseError(f"{policy} needs the {name} of the candidates over views (Eq. 4). Let predict make views")
    if values.ndim != 1 or (n is not None and len(values) != n):
        raise LabelwiseError(f"{policy}: {name} has shape {values.shape}; expected ({'n' if n is None else n},)")
    bad = np.flatnonzero(~((values >= 0) & (values <= 1 + 1e-5)))
    if len(bad):
        raise LabelwiseError(f"{policy}: {name} of row {bad[0]} is {values[bad[0]]}; expected a number in [0, 1]")
    return values


def upper_of(policy: str, class_threshold: np.ndarray | None, tau: float, n: int) -> np.ndarray | float:
    """The threshold of every candidate: that of its class where answers show one (not NaN), else `tau`."""
    if class_threshold is None:
        return tau
    found = np.where(np.isnan(class_threshold), tau, class_threshold)
    return check_values(policy, "thresholds by class", found, n)


def check_threshold(policy: str, name: str, *tau: float) -> None:
    """Refuses thresholds outside [0, 1] or out of order (upper first)."""
    if not all(0 <= t <= 1 for t in tau) or list(tau) != sorted(tau, reverse=True):
        order = " with the upper one first" if len(tau) > 1 else ""
        raise LabelwiseError(f"{policy}: {name} is {tau if len(tau) > 1 else tau[0]}; expected [0, 1]{order}")
