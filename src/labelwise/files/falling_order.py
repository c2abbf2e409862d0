"""A table in falling order of one of its columns, of which only a part is in memory at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np

from labelwise.files import table_files
from labelwise.files.table_files import TableFile

MOST_FILES = 64
"""Files into which rows are dealt out by their value, each sorted by itself: of `table_files.ROWS` rows, or more."""

SAMPLE = 256
"""Values of each file that are looked at beforehand, to make all of one size."""


def falling(table: TableFile, by: str, names: Sequence[str], first: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Some columns, part after part: the rows `first` in their order, then all others, those of the highest `by` first;
    equal ones in the order of the table.

    The rows are dealt out into temporary files beside the table, by their value; then one file after the other is
    sorted. Many rows of one value have a file of their own, which needs no sorting and is read in parts.
    """
    edges, alike = _edges(table, by)
    kind = np.dtype([(name, table.types[name]) for name in dict.fromkeys([*names, by])])
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=table.path.parent)) for _ in range(len(edges) + 1)]
        ahead, numbers = np.empty(len(first), kind), np.sort(first)
        for start, columns in table.parts(kind.names or ()):
            rows = np.empty(len(columns[by]), kind)
            for name, column in columns.items():
                rows[name] = column
            a, b = np.searchsorted(numbers, (start, start + len(rows))).tolist()
            ahead[a:b] = rows[numbers[a:b] - start]
            rows = np.delete(rows, numbers[a:b] - start)
            where = np.searchsorted(edges, -rows[by])
            rows = rows[np.argsort(where, kind="stable")]
            ends = np.cumsum(np.bincount(where, minlength=len(files)))
            for file, one in zip(files, np.split(rows, ends[:-1]), strict=True):
                file.write(one.tobytes())
        yield {name: ahead[name][np.searchsorted(numbers, first)] for name in names}
        for file, same in zip(files, alike, strict=True):
            file.seek(0)
            while len(rows := np.fromfile(file, kind, table_files.ROWS if same else -1)):
                rows = rows[np.argsort(-rows[by], kind="stable")]
                for start in range(0, len(rows), table_files.ROWS):
                    yield {name: rows[name][start : start + table_files.ROWS] for name in names}


def _edges(table: TableFile, by: str) -> tuple[np.ndarray, np.ndarray]:
    """The greatest `-by` of every file but the last, rising; and which files hold one value alone, that is more than a
    file's share.
    """
    n_files = min(MOST_FILES, -(-table.n_rows // table_files.ROWS))
    if n_files < 2:
        return np.zeros(0), np.zeros(1, np.bool_)
    step = max(1, table.n_rows // (n_files * SAMPLE))
    sample = np.sort(np.concatenate([-column[by][::step] for _, column in table.parts([by])]).astype(np.float64))
    edges = sample[np.arange(1, n_files) * len(sample) // n_files]
    many = edges[1:][edges[1:] == edges[:-1]]
    edges = np.unique(np.concatenate([edges, np.nextafter(many, -np.inf)]))
    return edges, np.append(np.isin(edges, many), False)
