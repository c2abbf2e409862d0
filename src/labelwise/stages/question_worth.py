"""What a selector may name of a question's worth: how likely its boxes are objects, what else it finds, its seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from labelwise.project import prices
from labelwise.project.round import Round
from labelwise.stages import answered as answers
from labelwise.stages.answered import Answered
from labelwise.units import Candidates

Chosen = Callable[[np.ndarray], tuple[Candidates, np.ndarray]]
"""Some of the scored candidates, and at which place of these each row is."""


def makers(now: Round, chosen: Chosen) -> dict[str, Callable[[np.ndarray], Any]]:
    """These inputs, made for some rows of the scored candidates."""
    scored = now.scores

    @cache
    def answered() -> Answered:
        found = answers.learn(now)
        now.info["answers"], now.info["unseen"] = found.answers, round(found.unseen, 4)
        now.info["distinct"] = round(found.distinct, 4)
        now.info["chance_of_half"] = round(float(found.curve.chance(np.array([0.5]))[0]), 4)
        return found

    def unit_of(rows: np.ndarray) -> np.ndarray:
        return scored.take(rows, "unit")[0] if "unit" in scored else np.zeros(len(rows), np.int64)

    looks = np.array([any(one.covers for one in unit.VERDICTS.values()) for unit in now.units])

    def beside(rows: np.ndarray) -> np.ndarray:
        """Objects of an image that its detections leave out, of a region its share of that, of a box none."""
        found: np.ndarray = answered().unseen * looks[unit_of(rows)]
        inside = np.array([unit.RECTANGLE for unit in now.units])[unit_of(rows)]
        x1, y1, x2, y2, image = scored.take(rows, "x1", "y1", "x2", "y2", "image")
        whole = now.pool.width_px[image] * now.pool.height_px[image]
        found *= np.where(inside, (x2 - x1) * (y2 - y1) / whole, 1.0)
        return found

    @cache
    def seconds() -> np.ndarray:
        return np.array([prices.expected(now.context, name) for name in now.unit_names])

    def each(rows: np.ndarray) -> np.ndarray:
        """Seconds for a detection that is right: several may be of one object, which is drawn once."""
        found: np.ndarray = seconds()[unit_of(rows), 1] * np.where(looks, answered().distinct, 1.0)[unit_of(rows)]
        return found

    def numbers(rows: np.ndarray) -> np.ndarray:
        found, at = chosen(rows)
        assert found.numbers is not None
        of_members: np.ndarray = found.numbers[found.members_of(at)[1]]
        return of_members

    def objects(rows: np.ndarray) -> np.ndarray:
        found, at = chosen(rows)
        return answered().curve.chance(found.column("scores")[found.members_of(at)[1]])

    return {
        "box_numbers": numbers,
        "box_objects": objects,
        "unseen": lambda rows: np.zeros(len(rows)) if now.run.reads_objects else beside(rows),
        "look_seconds": lambda rows: seconds()[unit_of(rows), 0] + seconds()[unit_of(rows), 1] * beside(rows),
        "object_seconds": each,
        "budget_seconds": lambda _: now.budget if now.budget_unit == "seconds" else float("inf"),
    }
