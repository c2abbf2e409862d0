"""Lists that give the ids of classes names: `classes.csv` (name and id), `class-descriptions.csv` (id and name),
`classes.txt` (a name per line, from 0).
"""

from __future__ import annotations

import re

from labelwise.data import _headers, image_reader, text_files
from labelwise.data.listing import Listing, suffix_of

_FILE = re.compile(r"class|label|sign_?names|categor|obj\.names", re.IGNORECASE)
_LINES = ("classes.txt", "labels.txt", "class_names.txt", "_classes.txt", "obj.names")
_MOST_BYTES = 20_000_000
_ID = re.compile(r"\d{1,9}|/[mgt]/\w+")


def names_by_id(listing: Listing, sources: set[str]) -> dict[str, str]:
    """The name of every id, in the order of numbers; the file that was read joins `sources`, whose files are none."""
    for name in listing.of(".csv", ".tsv"):
        if name in sources:
            continue
        if _FILE.search(name.rpartition("/")[2]) and (listing.root / name).stat().st_size < _MOST_BYTES:
            found = _pairs(listing, name)
            if found:
                sources.add(name)
                return found
    for name in sorted(listing.of(".txt", ".names"), key=lambda name: name.count("/")):
        if name.rpartition("/")[2].lower() in _LINES:
            lines = [line for line in text_files.lines(listing.root / name) if line]
            if lines:
                sources.add(name)
                return {str(i): line for i, line in enumerate(lines)}
    return {}


def _pairs(listing: Listing, name: str) -> dict[str, str]:
    rows = _headers.first_rows(listing.root / name, 5)
    if not rows or any(len(row) != 2 for row in rows):
        return {}
    ids = [[_ID.fullmatch(row[column]) is not None for row in rows] for column in (0, 1)]
    column = next((c for c in (1, 0) if all(ids[c][1:]) and any(ids[c]) and not all(ids[1 - c])), None)
    names = {suffix_of(row[1 - column]) for row in rows} if column is not None else set()
    if column is None or names & image_reader.SUFFIXES:
        return {}
    found = {
        row[column]: row[1 - column]
        for _, row in text_files.table_of(listing.root / name)
        if len(row) == 2 and _ID.fullmatch(row[column])
    }
    return dict(
        sorted(found.items(), key=lambda pair: (not pair[0].isdigit(), int(pair[0]) if pair[0].isdigit() else 0))
    )
