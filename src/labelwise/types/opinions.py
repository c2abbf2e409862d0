"""What several people said of the same things, in columns, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.types.columns import check, check_column, check_finite


@dataclass(frozen=True, slots=True, eq=False)
class Opinions:
    """Row i: person `person[i]` said that item `item[i]` is of class `label[i]`; the first answer of an item first.

    The numbers are 0 to `items` - 1, `people` - 1, `classes` - 1. `truth`: the class of an item that is settled, -1
    where it is not. `probs`: what a model says of every item; a row of NaN: it says nothing. An item may have no
    opinion.
    """

    item: Int64[np.ndarray, " n"]
    person: Int64[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"]
    items: int
    people: int
    classes: int
    truth: Int64[np.ndarray, " items"] | None = None
    probs: Float64[np.ndarray, "items C"] | None = None

    def __post_init__(self) -> None:
        for name, most in (("item", self.items), ("person", self.people), ("label", self.classes)):
            column = getattr(self, name)
            check_column("Opinions", name, column, np.int64, (len(self.item),))
            inside = len(column) == 0 or (column.min() >= 0 and column.max() < most)
            check(inside, f"Opinions.{name}: expected numbers from 0 to {most - 1}")
        if self.truth is not None:
            check_column("Opinions", "truth", self.truth, np.int64, (self.items,))
            inside = self.items == 0 or (self.truth.min() >= -1 and self.truth.max() < self.classes)
            check(inside, f"Opinions.truth: expected classes from 0 to {self.classes - 1}, or -1")
        if self.probs is not None:
            check_column("Opinions", "probs", self.probs, np.float64, (self.items, self.classes))
            check_finite("Opinions", "probs", self.probs[self.modelled])

    @property
    def modelled(self) -> Bool[np.ndarray, " items"]:
        """Of which items the model says something."""
        if self.probs is None:
            return np.zeros(self.items, np.bool_)
        said: np.ndarray = ~np.isnan(self.probs).all(axis=1)
        return said

    @property
    def counts(self) -> Float64[np.ndarray, "items C"]:
        """How many people chose each class of each item."""
        cells = np.bincount(self.item * self.classes + self.label, minlength=self.items * self.classes)
        return cells.reshape(self.items, self.classes).astype(np.float64)

    @property
    def first(self) -> Int64[np.ndarray, " items"]:
        """The class that the first answer of each item gave; -1 where there is none."""
        found = np.full(self.items, -1)
        found[self.item[::-1]] = self.label[::-1]
        return found

    def settled(self, posterior: Float64[np.ndarray, "items C"]) -> Float64[np.ndarray, "items C"]:
        """A posterior in which the items whose class is settled have it for certain."""
        if self.truth is None:
            return posterior
        rows = np.flatnonzero(self.truth >= 0)
        out = posterior.copy()
        out[rows] = 0.0
        out[rows, self.truth[rows]] = 1.0
        return out
