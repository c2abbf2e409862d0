"""Which text files of a data set are worth a look: a data set may have as many as images."""

from __future__ import annotations

from labelwise.data import text_files
from labelwise.data.listing import Listing

_MANY = 20


def lists(listing: Listing) -> list[str]:
    """Text files that may speak of many images: of folders with few of them."""
    found: list[str] = []
    for names in by_folder(listing, ".txt", ".dat", ".lst").values():
        found += names if len(names) <= _MANY else []
    return sorted(found)


def by_folder(listing: Listing, *suffixes: str) -> dict[str, list[str]]:
    """Files with one of these suffixes, by their folder."""
    found: dict[str, list[str]] = {}
    for name in listing.of(*suffixes):
        found.setdefault(name.rpartition("/")[0], []).append(name)
    return found


def first_lines(listing: Listing, name: str, n: int = 30) -> list[str]:
    """The first lines of a text file that are not empty, from its head alone; none where it is no text."""
    raw = text_files.head(listing.root / name, 1 << 14)
    if b"\0" in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return []
    raw = raw if len(raw) < 1 << 14 else raw.rpartition(b"\n")[0]
    return [line for line in map(str.strip, text_files.decode(raw).splitlines()) if line][:n] if raw else []
