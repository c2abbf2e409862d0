"""The checks of foreign predictions, row by row: every message names the row, its image and what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from labelwise import catalog
from labelwise.api import heads
from labelwise.types import LabelwiseError, Pool
from labelwise.types.disk import to_json
from labelwise.types.queries import plain_number, shown

SUM_TOLERANCE = 1e-3


class Rows:
    """The rows of a table of boxes: `image` [n] is the pool number of each; `head`: what their class scores are."""

    def __init__(self, where: str, image: Any, pool: Pool, per_image: bool = False, head: str = heads.SOFTMAX) -> None:
        self.where, self.pool, self.per_image, self.head = where, pool, per_image, head
        self.image = self._numbers(image)

    def __len__(self) -> int:
        return len(self.image)

    def at(self, row: int) -> str:
        """Where a row stands, for a message."""
        name = self.pool.names[int(self.image[row])]
        if not self.per_image:
            return f"{self.where}, row {row} (image {name})"
        before = int((self.image[:row] == self.image[row]).sum())
        return f"{self.where} of image {name}, box {before}"

    def _numbers(self, image: Any) -> Int64[np.ndarray, " n"]:
        image = listed(image, self.where, "image")
        number_of = self.pool.number_of
        found = np.empty(len(image), np.int64)
        for row, value in enumerate(image):
            if isinstance(value, str) and value in number_of:
                found[row] = number_of[value]
            elif isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= value < len(self.pool):
                found[row] = value
            elif isinstance(value, str):
                near = catalog.unknown("image", value, [])
                close = catalog.unknown("image", value, list(number_of)).partition(" Did you mean ")[2]
                hint = f" Did you mean {close}" if close else ""
                raise LabelwiseError(f"{self.where}, row {row}: {near.partition(';')[0]} (not in the pool).{hint}")
            else:
                raise LabelwiseError(
                    f"{self.where}, row {row}: image {shown(value)}; expected a name in the pool, or a number from "
                    f"0 to {len(self.pool) - 1}"
                )
        return found

    def _refuse(self, bad: Any, what: str, values: np.ndarray, expected: str) -> None:
        """Names the first row of `bad` (bool [n]), if there is one."""
        if bad.any():
            row = int(bad.argmax())
            more = f"; {int(bad.sum())} such rows" if bad.sum() > 1 else ""
            raise LabelwiseError(f"{self.at(row)}: {what} {_text(values[row])}; expected {expected}{more}")

    def _shape(self, name: str, values: np.ndarray, shape: tuple[int | str, ...]) -> None:
        fits = values.ndim == len(shape) and all(
            isinstance(s, str) or s == a for s, a in zip(shape, values.shape, strict=True)
        )
        if not fits or values.dtype.kind not in "fiub":
            wanted = f"({', '.join(map(str, shape))})"
            raise LabelwiseError(f"{self.where}: {name} is {values.dtype} {values.shape}; expected numbers {wanted}")

    def boxes(self, values: np.ndarray, overhang_px: float) -> Float32[np.ndarray, "n 4"]:
        """Corners in pixels, clipped where they overhang by rounding."""
        values = values.reshape(-1, 4) if values.size == 0 else values
        self._shape("boxes", values, (len(self), 4))
        self._refuse(~np.isfinite(values).all(axis=1), "box", values, "finite numbers")
        size = np.stack([self.pool.width_px, self.pool.height_px], axis=1)[self.image]
        self._refuse((values[:, 2:] <= values[:, :2]).any(axis=1), "box", values, "x1 < x2 and y1 < y2, in pixels")
        outside: np.ndarray = (values[:, :2] < -overhang_px).any(axis=1) | (values[:, 2:] > size + overhang_px).any(
            axis=1
        )
        if outside.any():
            width, height = size[outside.argmax()]
            self._refuse(outside, "box", values, f"a box inside the image of {width} x {height} pixels")
        clipped: np.ndarray = np.clip(values, 0, np.tile(size, 2)).astype(np.float32)
        self._refuse((clipped[:, 2:] <= clipped[:, :2]).any(axis=1), "box", values, "a box with area in the image")
        return clipped

    def distributions(
        self, values: np.ndarray, n_classes: int, name: str = "probs", which: np.ndarray | None = None
    ) -> tuple[Float32[np.ndarray, "n C"], Float32[np.ndarray, " n"]]:
        """Distributions over the classes, and the largest number that the head gave; only the rows of `which` are
        looked at, the others become even.
        """
        values = values.reshape(0, n_classes) if values.size == len(self) == 0 else values
        self._shape(name, values, (len(self), n_classes))
        which = np.ones(len(self), bool) if which is None else which
        self._refuse(which & ~np.isfinite(values).all(axis=1), name, values, "finite numbers")
        self._refuse(which & (values < 0).any(axis=1), name, values, "no negative probability")
        if self.head == heads.SIGMOID:
            self._refuse(which & (values > 1 + 1e-6).any(axis=1), name, values, "sigmoids, 0 to 1")
            found = heads.distribution(np.where(which[:, None], values, 0))
            return found, np.minimum(values, 1).max(axis=1, initial=0).astype(np.float32)
        total = values.sum(axis=1)
        off = which & (np.abs(total - 1) > SUM_TOLERANCE)
        if off.any():
            wrong = f"{name} (they sum to {total[off.argmax()]:.4g})"
            expected = "a distribution over the classes that sums to 1, without background"
            self._refuse(off, wrong, values, f'{expected} (of a head of sigmoids: open(..., head="sigmoid"))')
        even = 1 / max(n_classes, 1)
        found = np.where(which[:, None], values / np.where(which, total, 1)[:, None], even).astype(np.float32)
        return found, found.max(axis=1, initial=0)

    def shares(self, name: str, values: np.ndarray, *, views: bool = False) -> Float32[np.ndarray, "*V n"]:
        """Numbers in [0, 1], one per row (of `views` V per row, as [V, n])."""
        values = values.astype(np.float64) if values.size == 0 else values
        self._shape(name, values, ("V", len(self)) if views else (len(self),))
        flat = values.T.reshape(len(self), -1) if len(self) else values.reshape(0, 1)
        self._refuse(~((flat >= 0) & (flat <= 1 + 1e-6)).all(axis=1), name, flat, "numbers in [0, 1]")
        return np.asarray(np.minimum(values, 1), np.float32)

    def numbers(self, name: str, values: Any, ndim: int) -> Float32[np.ndarray, "n D"] | None:
        """Finite numbers, or None where there are none."""
        if values is None:
            return None
        values = array(values)
        self._shape(name, values, (len(self), *"D" * (ndim - 1)))
        found = to_float32(values)
        self._refuse(~np.isfinite(found).all(axis=1), name, values, "finite numbers")
        return found

    def classes(self, labels: Any) -> Int64[np.ndarray, " n"]:
        """Class numbers, of numbers or names."""
        labels = listed(labels, self.where, "labels")
        if len(labels) != len(self):
            raise LabelwiseError(f"{self.where}: {len(labels)} labels for {len(self)} boxes")
        return np.array(
            [class_number(label, self.pool.classes, lambda r=row: self.at(r)) for row, label in enumerate(labels)],
            np.int64,
        )

    def same_labels(self, labels: np.ndarray, probs: np.ndarray) -> None:
        """Refuses a label that its own distribution contradicts."""
        own = probs[np.arange(len(labels)), labels]
        self._refuse(own < probs.max(axis=1) - 1e-6, "label", labels, "the class of the largest probability")


def class_number(label: Any, classes: Sequence[str], where: Any) -> int:
    """The number of a class that is given by number or name; `where` is called for the message."""
    if isinstance(label, str):
        if label in classes:
            return classes.index(label)
        raise LabelwiseError(f"{where()}: {catalog.unknown('class', label, list(classes))}")
    number = plain_number(label)
    if number is None or not number.is_integer() or not 0 <= number < len(classes):
        raise LabelwiseError(f"{where()}: class {shown(label)}; expected 0 to {len(classes) - 1}, or a name")
    return int(number)


def array(value: Any, where: str = "predictions") -> np.ndarray:
    """A column as NumPy array; a torch tensor is taken from its device."""
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LabelwiseError(f"{where}: cannot make an array of {type(value).__name__}: {error}") from None


def to_float32(values: np.ndarray) -> np.ndarray:
    """Numbers as float32; those beyond its range become infinite, without a word."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def listed(values: Any, where: str, name: str) -> list[Any]:
    """A column as a list of plain values."""
    try:
        found = values.tolist() if hasattr(values, "tolist") else list(values)
    except TypeError:
        found = None
    if not isinstance(found, list) or isinstance(values, str | bytes):
        raise LabelwiseError(f"{where}: {name} is {shown(values)}; expected a list or array with one entry per box")
    return found


def whole_number(value: Any, name: str) -> int:
    """A number of questions, 1 or more."""
    number = plain_number(value)
    if number is None or not number.is_integer() or not 1 <= number < 2**31:
        raise LabelwiseError(f"{name} is {shown(value)}; expected a number of questions, 1 or more")
    return int(number)


def check_metrics(metrics: Any) -> None:
    """Refuses metrics of a model that a report could not show."""
    if metrics is None:
        return
    per_class = metrics.get("per_class_ap50", {}) if isinstance(metrics, Mapping) else None
    if not isinstance(per_class, Mapping):
        raise LabelwiseError(
            f"metrics: {shown(metrics)}; expected {{'ap50': 0.5, ...}}, per_class_ap50 as {{class: value}}"
        )
    said = {name: metrics[name] for name in ("ap50", "ap", "ap75") if name in metrics}
    for name, value in [*said.items(), *((f"per_class_ap50 of {shown(k)}", v) for k, v in per_class.items())]:
        number = plain_number(value)
        if number is None or not 0 <= number <= 1:
            raise LabelwiseError(f"metrics: {name} is {shown(value)}; expected a number in [0, 1]")
    try:
        to_json(dict(metrics)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LabelwiseError(f"metrics: cannot be stored: {error}") from None


def corners(boxes: Any, where: str) -> list[tuple[float, ...]]:
    """Boxes of an answer as tuples of four numbers.

    Raises:
        LabelwiseError: they are no numbers, or not four each.
    """
    found = array(boxes, where)
    empty = found.size == 0 and found.ndim in (1, 2)
    if not empty and not (found.ndim in (1, 2) and found.shape[-1] == 4 and found.dtype.kind in "fiub"):
        raise LabelwiseError(f"{where}: boxes are {shown(boxes)}; expected [k, 4] numbers, xyxy in pixels")
    return [tuple(map(float, box)) for box in found.reshape(-1, 4).tolist()]


def _text(value: Any) -> str:
    numbers = np.atleast_1d(value)
    shown = ", ".join(f"{v:.6g}" for v in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
    return f"[{shown}]" if np.ndim(value) else shown
