"""What other libraries call a result: `Results` of Ultralytics and `supervision.Detections`, known by their attributes.

Neither library is imported. Of each box they keep one confidence and one class, no distribution: `predictions.spread`
makes the one that these stand for, so that entropy and margin rank by confidence. What `supervision.Detections` carry
in `data` under the name of a column (`probs`, `features`, ...) is taken as that column. Masks and track numbers are not
looked at.

A class is known by its name where the object has names (`names`; `data["class_name"]`), and they are more than the
class numbers themselves; else by its number in the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labelwise.api.checks import array
from labelwise.types import LabelwiseError

NAMES_OF_SUPERVISION = "class_name"


def columns(entry: Any, extra: frozenset[str], where: str) -> Any:
    """The columns of such an object as a dict; anything else as it is. `extra`: columns that `data` may hold."""
    if isinstance(entry, Mapping):
        return entry
    if hasattr(entry, "boxes") and hasattr(entry, "names"):
        return _ultralytics(entry, where)
    if all(hasattr(entry, name) for name in ("xyxy", "confidence", "class_id")):
        return _supervision(entry, extra, where)
    return entry


def _ultralytics(entry: Any, where: str) -> dict[str, Any]:
    boxes = entry.boxes
    if boxes is None:
        raise LabelwiseError(
            f"{where}: these Results hold no boxes (they are of a model that classifies, or that turns its boxes); "
            "expected those of a detector"
        )
    labels = _labels(array(boxes.cls), entry.names)
    return {"boxes": array(boxes.xyxy), "scores": array(boxes.conf), "labels": labels}


def _supervision(entry: Any, extra: frozenset[str], where: str) -> dict[str, Any]:
    data = getattr(entry, "data", None) or {}
    boxes = array(entry.xyxy)
    said: dict[str, Any] = {"boxes": boxes, **{name: data[name] for name in extra & set(data)}}
    names, numbers = data.get(NAMES_OF_SUPERVISION), entry.class_id
    if entry.confidence is not None:
        said["scores"] = array(entry.confidence)
    if "probs" in said:
        return said
    if "scores" not in said or (numbers is None and names is None):
        if not len(boxes):
            return {"boxes": boxes, "scores": [], "labels": []}
        lacking = "confidence" if "scores" not in said else "class_id"
        raise LabelwiseError(
            f'{where}: these Detections have no {lacking}; a box needs its class and confidence, or data["probs"], '
            "its distribution over the classes"
        )
    numbers = np.arange(len(boxes)) if numbers is None else array(numbers)
    by_number = None if names is None else dict(zip(numbers.tolist(), np.asarray(names).tolist(), strict=True))
    return {**said, "labels": _labels(numbers, by_number)}


def _labels(numbers: np.ndarray, names: Any) -> list[int | str]:
    """The names of the classes, or their numbers where they have no other names than these."""
    whole = [int(number) for number in numbers.tolist()]
    known = dict(enumerate(names)) if isinstance(names, list | tuple) else dict(names or {})
    if all(str(name) == str(number) for number, name in known.items()):
        return list(whole)
    return [str(known[number]) if number in known else number for number in whole]
