"""Files of a data set that nothing was read from: a count by suffix, and those that a user would want to know of.

| kind of problem | what it is |
|---|---|
| unread annotation file | XML, TXT, JSON, CSV and their like that the format has no use for |
| image without mention | an image below the folder that no annotation and no list of the format names |
| image of a kind that is not read | HEIC, camera raw and their like |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from labelwise.data.image_reader import SUFFIXES
from labelwise.data.listing import Listing, suffix_of
from labelwise.types import Pool, Problem

ANNOTATIONS = frozenset(
    (".xml", ".txt", ".json", ".csv", ".tsv", ".jsonl", ".ndjson", ".yaml", ".yml", ".manifest", ".odgt")
)
_OTHER_IMAGES = frozenset(
    (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf")
)
_OF_PEOPLE = re.compile(r"(readme|license|licence|requirements|changelog|citation|authors|notice)\b", re.IGNORECASE)


def unused(listing: Listing, pools: Iterable[Pool]) -> list[str]:
    """Files that are no image, no video and no source of a pool, relative to the root; none beside a video that is a
    data set by itself.
    """
    used: set[str] = set()
    for pool in pools:
        used.update(pool.names)
        used |= pool.sources
        if pool.clips is not None:
            if listing.given in pool.clips.names:
                return []
            used.update(pool.clips.names)
    return [name for name in listing.files if name not in used]


def by_suffix(names: Iterable[str]) -> dict[str, int]:
    """How many files have each suffix (lower case; empty: none), the most frequent first.

    >>> by_suffix(["a.TXT", "b.txt", "README"])
    {'.txt': 2, '': 1}
    """
    return dict(Counter(suffix_of(name) for name in names).most_common())


def problems(names: Sequence[str], format_name: str, told: Iterable[Problem]) -> list[Problem]:
    """What of unused files should be told, once for each kind and suffix; `told`: problems that name files already."""
    places = {problem.where.split(":", 1)[0] for problem in told}
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        suffix = suffix_of(name)
        kind = ""
        if suffix in ANNOTATIONS and not _OF_PEOPLE.match(PurePosixPath(name).name):
            kind = "unread annotation file"
        elif suffix in _OTHER_IMAGES:
            kind = "image of a kind that is not read"
        elif suffix in SUFFIXES:
            kind = "image without mention"
        if kind and name not in places:
            groups.setdefault((kind, suffix), []).append(name)
    found = []
    for (kind, suffix), files in groups.items():
        what = f"{len(files)} {suffix} file{'s' if len(files) > 1 else ''} not used by the format {format_name}"
        found.append(Problem(kind, files[0], what, _HANDLING[kind].format(suffix), len(files)))
    return found


_HANDLING = {
    "unread annotation file": "not read; if it holds the labels, name its format with --format",
    "image of a kind that is not read": "not read; `pip install labelwise[heic]` reads HEIC, convert others to JPEG",
    "image without mention": "not in the pool; no annotation and no list names it",
}
