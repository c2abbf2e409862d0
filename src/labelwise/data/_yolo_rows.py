"""The rows of YOLO label files as one table, whatever task they were written for.

| columns | meaning |
|---|---|
| 5 | class, centre and size |
| 6 or 7 | the same with a confidence, a track number or both |
| 5 + those of `kpt_shape` (or all rows have one length, and key points in their box) | box and key points |
| 7 or more | class and points of a polygon, of which the hull counts; a confidence and a track number may follow |

Where every wide row has four points the boxes are rotated ones (OBB).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelwise.data import text_files
from labelwise.types import LabelwiseError, Problem

MOST_BYTES = 50_000_000
SHARE_LIMIT = 1.5
"""A coordinate above it is no share of an image, not even of an object that reaches beyond it."""

_EXPECTED = "expected: class cx cy width height"
_HUGE = 1e9
_MOST_CLASS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One entry per row that is a row; `first` and `hull` are in the units of the file.

    Fields:
        file: number of the label file; rows of a file stand together, files in their order.
        box: centre and size, or for `hull` rows x1, y1, x2, y2.
        extra: a confidence or a track number follows. keypoints: key points follow.
        rotated: all hulls are of four points.
        problems: of a file, by its number. unreadable: files nothing is known of.
    """

    file: np.ndarray
    line: np.ndarray
    label: np.ndarray
    box: np.ndarray
    hull: np.ndarray
    extra: np.ndarray
    keypoints: np.ndarray
    rotated: bool
    problems: dict[int, Problem]
    unreadable: frozenset[int]

    @property
    def above_one(self) -> np.ndarray:
        """Rows with a number that is no share of an image."""
        return np.asarray((np.abs(np.nan_to_num(self.box)) > SHARE_LIMIT).any(axis=1))


def table(root: Path, files: Sequence[str], n_keypoints: int = 0) -> Table:
    """All rows of label files. `n_keypoints`: how many numbers the key points of an object have, where that is said."""
    values = array("d")
    width, file_of, line_of = array("q"), array("q"), array("q")
    problems: dict[int, Problem] = {}
    unreadable = set()
    for number, name in enumerate(files):
        try:
            said = _content(root / name)
        except LabelwiseError as error:
            problems[number] = Problem("broken entry", name, str(error), "left out: nobody has looked at the image")
            unreadable.add(number)
            continue
        bad: list[tuple[int, str]] = []
        rows: Sequence[str | bytes] = said.splitlines()
        for line, row in enumerate(rows, start=1):
            numbers = _numbers(row)
            if numbers is None:
                bad.append((line, _text(row)))
            elif numbers:
                values.extend(numbers)
                width.append(len(numbers))
                file_of.append(number)
                line_of.append(line)
        if bad:
            what = f"{bad[0][1].strip()[:80]!r}; {_EXPECTED}"
            problems[number] = Problem("broken entry", f"{name}:{bad[0][0]}", what, "left out", len(bad))
    columns = [np.array(one, np.int64) for one in (width, file_of, line_of)]
    return _shaped(np.array(values), columns, n_keypoints, problems, frozenset(unreadable))


def plausible(raw: bytes) -> bool | None:
    """Whether the beginning of a file looks like rows of shares; None: it says nothing.

    >>> plausible(b"0 0.5 0.5 0.1 0.2"), plausible(b"a photo of a cat"), plausible(b"3 17 4 20 20"), plausible(b"\\n")
    (True, False, False, None)
    """
    try:
        said = raw if raw.isascii() else text_files.decode(raw)
    except LabelwiseError:
        return False
    rows = [row for row in said.splitlines() if row.strip()]
    if len(raw) >= 4096:
        rows = rows[:-1]
    if not rows:
        return None if len(raw) < 4096 else False
    good = 0
    for row in rows:
        numbers = _numbers(row)
        if not numbers or not 0 <= numbers[0] < _MOST_CLASS or all(v.is_integer() for v in numbers[1:]):
            continue
        good += all(-0.1 <= v <= 1.1 for v in numbers[1:5]) and (len(numbers) > 6 or min(numbers[3:5]) > 0)
    return 2 * good > len(rows)


def _content(path: Path) -> str | bytes:
    raw = text_files.content(path)
    if len(raw) > MOST_BYTES:
        raise LabelwiseError(f"{len(raw)} bytes; the labels of an image are below {MOST_BYTES}")
    if raw.isascii():
        return raw.replace(b"_", b"?")  # float() takes 1_000 for a number
    return text_files.decode(raw).replace("_", "?")


def _numbers(row: str | bytes) -> list[float] | None:
    """The numbers of a row, none in an empty one; None: it is no row."""
    cells: Sequence[str | bytes] = row.split()
    try:
        numbers = list(map(float, cells))
    except ValueError:
        numbers = _with_commas(_text(row))
    if numbers and (len(numbers) < 5 or not numbers[0].is_integer()):
        return None
    return numbers if numbers or not cells else None


def _text(row: str | bytes) -> str:
    return row if isinstance(row, str) else row.decode("ascii")


def _with_commas(row: str) -> list[float]:
    """The numbers of a row whose commas separate them, or are those of the decimals; none: they are neither."""
    cells = row.split()
    decimal = len(cells) >= 5 and all(cell.count(",") <= 1 and not cell.endswith(",") for cell in cells)
    try:
        return [float(cell) for cell in (row.replace(",", ".") if decimal else row.replace(",", " ")).split()]
    except ValueError:
        return []


def _shaped(
    values: np.ndarray,
    columns: list[np.ndarray],
    n_keypoints: int,
    problems: dict[int, Problem],
    unreadable: frozenset[int],
) -> Table:
    width, file, line = columns
    values = np.where(np.abs(values) < _HUGE, values, np.nan)  # false for NaN too
    start = np.cumsum(width) - width
    label = np.where(np.isnan(values[start]), -1, values[start]).astype(np.int64) if len(width) else width
    box = values[start[:, None] + np.arange(1, 5)] if len(width) else np.zeros((0, 4))
    keypoints = _with_keypoints(values, width, n_keypoints)
    n = width - 1
    extra = np.where(keypoints, 0, n % 2)
    wide = np.flatnonzero((width > 6) & ~keypoints)
    tracked = wide[_tracked(values, start[wide], width[wide])]
    extra[tracked] = 1 + (n[tracked] - 1) % 2
    extra[width == 6] = 1
    if n_keypoints:
        extra[keypoints] = width[keypoints] - 5 - n_keypoints
    hull = (width > 6) & ~keypoints & (n - extra > 4)
    rows = np.flatnonzero(hull)
    rotated = False
    if len(rows):
        count = (n - extra)[rows]
        rotated = bool((count == 8).all())
        inside = np.repeat(start[rows] + 1 - (np.cumsum(count) - count), count) + np.arange(count.sum())
        points = values[inside].reshape(-1, 2)
        first = (np.cumsum(count) - count) // 2
        box[rows, :2], box[rows, 2:] = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)
    return Table(file, line, label, box, hull, extra > 0, keypoints, rotated, problems, unreadable)


def _tracked(values: np.ndarray, start: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Wide rows of shares that end with a whole number above 1, which is no share: a track number."""
    if not len(start):
        return np.zeros(0, bool)
    last = values[start + width - 1]
    count = width - 2
    inside = np.repeat(start + 1 - (np.cumsum(count) - count), count) + np.arange(count.sum())
    most = np.maximum.reduceat(np.nan_to_num(values[inside]), np.cumsum(count) - count)
    return np.asarray((last > SHARE_LIMIT) & (np.nan_to_num(last) % 1 == 0) & (most <= SHARE_LIMIT))


def _with_keypoints(values: np.ndarray, width: np.ndarray, n_keypoints: int) -> np.ndarray:
    """Rows of a box and key points."""
    if n_keypoints:
        return (width >= 5 + n_keypoints) & (width <= 7 + n_keypoints)
    one = len(width) > 0 and width[0] >= 8 and bool((width == width[0]).all())
    if not one or width[0] == 9:
        return np.zeros(len(width), bool)
    rows = values.reshape(len(width), -1)
    if (width[0] - 5) % 3 == 0 and np.isin(rows[:, 7::3], (0, 1, 2)).all():
        return np.ones(len(width), bool)
    if (width[0] - 5) % 2 or width[0] < 11 or len(width) < 3:
        return np.zeros(len(width), bool)
    points = rows[:, 5:].reshape(len(rows), -1, 2)
    reach = np.abs(points - rows[:, None, 1:3]) <= rows[:, None, 3:5] / 2 + 0.02
    inside = reach.all(axis=2) | (points <= 0).all(axis=2)
    return np.full(len(width), bool(inside.all()))
