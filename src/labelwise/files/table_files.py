"""Tables that need not fit into memory: written part after part, read by the column or by some rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelwise.files.round_files import again
from labelwise.types import LabelwiseError
from labelwise.types.disk import replacing

ROWS = 1 << 16
"""Rows that are written, or read, at a time."""


class TableWriter:
    """Writes columns of one length, part after part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: pq.ParquetWriter | None = None
        self._pending: list[pa.Table] = []

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Adds rows; every part has the same columns."""
        self._pending.append(pa.table({name: _array(column) for name, column in columns.items()}))
        if sum(map(len, self._pending)) >= ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes what was added so far."""
        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        self._pending = []
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema, compression="zstd", write_page_checksum=True)
        self._file.write_table(table, ROWS)

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            self._file.close()


def _array(column: np.ndarray) -> pa.Array:
    return pa.array(column, pa.string() if column.dtype == object else None)  # no text is text, too


@contextmanager
def writing(path: Path) -> Iterator[TableWriter]:
    """A writer whose file is in its place when the block ends well."""
    with replacing(path) as partial:
        writer = TableWriter(partial)
        try:
            yield writer
            writer.flush()
        finally:
            writer.close()


class TableFile(Mapping[str, np.ndarray]):
    """The columns of a Parquet file; each is read when it is first asked for, and kept. Text is Python strings.

    `path`: the file. `types`: what the values of every column are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._file() as file:
            about = file.metadata
            types: dict[str, Any] = {field.name: field.type.to_pandas_dtype() for field in file.schema_arrow}
        self.types: Mapping[str, np.dtype[Any]] = {name: np.dtype(one) for name, one in types.items()}
        sizes = [about.row_group(k).num_rows for k in range(about.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._kept: dict[str, np.ndarray] = {}
        self._block: tuple[int, dict[str, np.ndarray]] = 0, {}
        self._groups: tuple[Any, pa.Table] = None, None

    @property
    def n_rows(self) -> int:
        """How many rows it has."""
        return int(self._starts[-1])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._kept:
            self._kept[name] = self.column(name)
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.types)

    def __len__(self) -> int:
        return len(self.types)

    def column(self, name: str) -> np.ndarray:
        """A column, which is not kept."""
        found = np.empty(self.n_rows, self.types[name])
        for start, part in self.parts([name]):
            found[start : start + len(part[name])] = part[name]
        return found

    def parts(self, names: Sequence[str]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Some columns as they were written, part after part, each with the number of its first row."""
        with self._file() as file:
            for k, start in enumerate(self._starts[:-1].tolist()):
                table = file.read_row_group(k, columns=list(names))
                yield start, {name: table[name].to_numpy() for name in names}

    def take(self, rows: np.ndarray, *names: str) -> tuple[np.ndarray, ...]:
        """Some columns at some rows, in their order. A large table is read part after part, as far as it is needed."""
        if self.n_rows <= ROWS:
            return tuple(self[name][rows] for name in names)
        if 4 * len(rows) > self.n_rows:
            return tuple(self.column(name)[rows] for name in names)
        found = tuple(np.empty(len(rows), self.types[name]) for name in names)
        order = np.argsort(rows, kind="stable")
        cuts = np.searchsorted(rows, self._starts, sorter=order)
        with self._file() as file:
            for k in np.flatnonzero(np.diff(cuts)).tolist():
                here, part = order[cuts[k] : cuts[k + 1]], file.read_row_group(k, columns=list(names))
                for column, name in zip(found, names, strict=True):
                    column[here] = part[name].to_numpy()[rows[here] - self._starts[k]]
        return found

    def part(self, start: int, stop: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Some rows, without reading the others, where they were written in parts; the parts read last are kept."""
        first = max(0, int(np.searchsorted(self._starts, start, side="right")) - 1)
        last = min(max(first, int(np.searchsorted(self._starts, stop))), len(self._starts) - 1)
        if self._groups[0] != (first, last, names):
            self._groups = None, None
            with self._file() as file:
                table = file.read_row_groups(range(first, last), columns=None if names is None else list(names))
            self._groups = (first, last, names), table
        table = self._groups[1].slice(start - int(self._starts[first]), stop - start)
        return {name: table[name].to_numpy() for name in table.column_names}

    def row(self, number: int) -> dict[str, Any]:
        """One row; those beside it are kept, since they are asked for next."""
        start, block = self._block
        if not block or not start <= number < start + ROWS:
            start = number - number % ROWS
            block = self.part(start, min(start + ROWS, self.n_rows))
            self._block = start, block
        return {name: column[number - start] for name, column in block.items()}

    @contextmanager
    def _file(self) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                yield file
        except FileNotFoundError:
            raise LabelwiseError(f"{self.path} is missing: {again(self.path)}") from None
        except (pa.ArrowException, OSError) as error:
            raise LabelwiseError(f"{self.path} is damaged or cut short: {error}; {again(self.path)}") from error
