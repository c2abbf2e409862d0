"""Tables of Hugging Face `datasets` on disk, by pyarrow alone: images and objects (machinery of `datasets`).

A table is a file of Arrow record batches that is mapped into memory: what is not looked at is not read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64, UInt8

from labelwise.data import image_reader
from labelwise.types import LabelwiseError

BOXES = ("bbox", "bboxes", "boxes", "box")
CLASSES = ("category", "categories", "category_id", "label", "labels", "class", "classes")
CROWDS = ("iscrowd", "is_crowd", "crowd", "difficult")


def table_of(path: Path) -> pa.Table:
    """The table of a file.

    Raises:
        LabelwiseError: it is none.
    """
    try:
        with pa.memory_map(str(path)) as mapped:
            head = mapped.read(6)
            mapped.seek(0)
            opened = pa.ipc.open_file if head == b"ARROW1" else pa.ipc.open_stream
            return opened(mapped).read_all()
    except (OSError, pa.ArrowException) as error:
        raise LabelwiseError(f"{path}: cannot be read as an Arrow file ({error}). Save the data set again.") from None


class Pictures:
    """`Pool.frames` of images inside tables: `pictures(i)` is image i, RGB as displayed.

    `row[i]` is its row in file `file[i]`. Threads and processes may share it; each process maps the files itself.
    """

    def __init__(self, files: Sequence[Path], column: str, file: np.ndarray, row: np.ndarray) -> None:
        self.files, self.column, self.file, self.row = tuple(files), column, file, row
        self._tables: dict[int, pa.ChunkedArray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.row)

    def __call__(self, image: int) -> UInt8[np.ndarray, "height width 3"]:
        content, where = self.content(image)
        return image_reader.load(where) if content is None else image_reader.decode(content, where)

    def content(self, image: int) -> tuple[bytes | None, Path]:
        """The bytes of an image's file, or None where it lies elsewhere; and what to call it."""
        k, row = int(self.file[image]), int(self.row[image])
        with self._lock:
            if k not in self._tables:
                self._tables[k] = table_of(self.files[k])[self.column]
            column = self._tables[k]
        said = column[row].as_py() or {}
        path = Path(said.get("path") or f"{self.files[k].name}#{row:06d}")
        if said.get("bytes") is None:
            return None, path if path.is_absolute() else self.files[k].parent / path
        return said["bytes"], self.files[k].parent / f"{self.files[k].name}#{row:06d}"

    def header(self, image: int) -> image_reader.Header:
        """Size and kind of an image."""
        content, where = self.content(image)
        return image_reader.probe(where) if content is None else image_reader.header_of(content, where)

    def take(self, images: np.ndarray) -> Pictures:
        """Of these images alone."""
        return Pictures(self.files, self.column, self.file[images], self.row[images])

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Pictures, (self.files, self.column, self.file, self.row)


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a table: `image` is the row that each is in, `box` x, y, width, height (NaN: no four numbers),
    `seen` which rows have a list of objects at all.
    """

    image: Int64[np.ndarray, " n"]
    box: Float64[np.ndarray, "n 4"]
    category: list[Any]
    crowd: Bool[np.ndarray, " n"]
    seen: Bool[np.ndarray, " rows"]
    uneven: Int64[np.ndarray, " rows_uneven"]
    """Rows with another number of classes than of boxes; their objects are left out."""


def objects_of(
    table: pa.Table, place: tuple[str, ...], boxes: str, classes: str, crowds: str | None, *, where: Path
) -> Objects:
    """The objects of all rows; `place`: the column that holds their fields, none where they are columns themselves;
    `where`: the file of the table.

    Raises:
        LabelwiseError: a column holds something else than lists of boxes, of classes or of crowd flags.
    """
    expected = {boxes: _BOX, classes: _CLASS, **({} if crowds is None else {crowds: _CROWD})}
    fields: dict[str, pa.Array] = {}
    for name, kind in expected.items():
        what = f"{where}: the column {'.'.join([*place, name])!r}"
        fields[name] = _checked(_lists(table, place, name, what), kind, what)
    length = {name: pc.list_value_length(column).to_numpy(zero_copy_only=False) for name, column in fields.items()}
    there = {name: np.where(np.isnan(n.astype(float)), -1, n).astype(np.int64) for name, n in length.items()}
    uneven = np.any([n != there[boxes] for n in there.values()], axis=0)
    seen = (there[boxes] >= 0) & ~uneven
    flat = {name: pc.list_flatten(pc.if_else(pa.array(seen), column, None)) for name, column in fields.items()}
    image = np.repeat(np.arange(len(seen)), np.where(seen, there[boxes], 0))
    crowd = np.zeros(len(image), np.bool_)
    if crowds is not None:
        crowd = np.array([bool(value) for value in flat[crowds].to_pylist()], np.bool_)
    return Objects(image, _four(flat[boxes]), _plain(flat[classes]), crowd, seen, np.flatnonzero(uneven))


class _Kind(NamedTuple):
    """What the list of an image holds: in words, by its type, and as which type where it holds nothing at all."""

    words: str
    fits: Callable[[pa.DataType], bool]
    empty: pa.DataType


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


_BOX = _Kind(
    "a list of boxes, each a list of four numbers: x, y, width and height in pixels",
    lambda kind: _is_list(kind) and (_is_number(kind.value_type) or pa.types.is_null(kind.value_type)),
    pa.list_(pa.float64()),
)
_CLASS = _Kind(
    "a list of classes, each a number or a text",
    lambda kind: _is_number(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind),
    pa.int64(),
)
_CROWD = _Kind("a list of flags, each 0 or 1", _is_number, pa.int64())


def _checked(column: pa.Array, kind: _Kind, what: str) -> pa.Array:
    """The lists of a column, which must be of that kind; of lists that are all empty or missing nobody knows it."""
    if pa.types.is_null(column.type) or (_is_list(column.type) and pa.types.is_null(column.type.value_type)):
        return column.cast(pa.list_(kind.empty))
    if not _is_list(column.type) or not kind.fits(column.type.value_type):
        raise LabelwiseError(
            f"{what} holds {column.type} for an image; expected {kind.words}. Bring it into that form "
            "(dataset.map), or remove the column, to have boxes drawn: dataset.remove_columns(...)"
        )
    return column


def _plain(classes: pa.Array) -> list[Any]:
    """Classes as Python's values; whole numbers as such (a table with gaps has 1.0 for 1, NaN for none)."""
    said: list[Any] = classes.to_pylist()
    if not pa.types.is_floating(classes.type):
        return said
    return [None if one is None or one != one else int(one) if one.is_integer() else one for one in said]


def _lists(table: pa.Table, place: tuple[str, ...], name: str, what: str) -> pa.Array:
    """A field of the objects as one list per row: of a struct of lists, a list of structs, or a column of lists."""
    outer = place[0] if place else name
    if outer not in table.column_names:
        raise LabelwiseError(f"{what} is not there; its columns are {', '.join(table.column_names)}. Save it again.")
    column = _whole(table[outer])
    if not place or pa.types.is_null(column.type):
        return _plain_lists(column)
    struct = column.type.value_type if _is_list(column.type) else column.type
    if not pa.types.is_struct(struct) or struct.get_field_index(name) < 0:
        raise LabelwiseError(
            f"{what} is not there: {outer!r} holds {column.type} for an image; expected a struct of lists, or a list "
            "of structs. Save the data set again."
        )
    if pa.types.is_struct(column.type):
        return pc.if_else(pc.is_valid(column), _plain_lists(pc.struct_field(column, name)), None)
    values = _plain_lists(pc.struct_field(pc.list_flatten(column), name))
    length = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(length)]).astype(np.int64))
    return pc.if_else(pc.is_valid(column), pa.LargeListArray.from_arrays(offsets, values), None)


def _plain_lists(column: pa.Array) -> pa.Array:
    """Lists of a type of their own (`datasets.Array2D`, which pyarrow knows once `datasets` is imported) as lists."""
    return column.storage if isinstance(column.type, pa.BaseExtensionType) else column


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _four(boxes: pa.Array) -> Float64[np.ndarray, "n 4"]:
    """Lists of four numbers as rows; NaN where there are not four."""
    found = np.full((len(boxes), 4), np.nan)
    length = pc.list_value_length(boxes).to_numpy(zero_copy_only=False).astype(float)
    four = length == 4
    values = pc.list_flatten(boxes.filter(pa.array(four)))
    found[four] = values.to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, 4)
    return found
