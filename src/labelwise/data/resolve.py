"""The one resolver of paths: which image an annotation file means by what it writes.

Tried in this order, from each of the reader's folders: as written; with `/` for `\\`; URL-decoded; in another Unicode
form (NFC, NFD) or in other case; below the root by the longest matching end of the path (absolute paths of another
machine). Every way but the first is told once, with its count. Several images that fit equally well are a problem
(`ambiguous image`), never a guess; neither is an image in another folder or split than the one that is written, where
that one is there.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from labelwise.data import split_names
from labelwise.data.listing import Listing
from labelwise.types import Problem

_TOLD = {
    "backslash": ("path with backslashes", "read with / in their place"),
    "url": ("path as of a URL", "read decoded"),
    "spelling": ("path spelled otherwise", "found by its letters: upper and lower case and Unicode form do not count"),
    "end": ("path of another place", "found below the data folder by the end of the path"),
}


class Resolver:
    """Finds images below the folder of a listing. `files`: those that may be meant; None: all."""

    def __init__(self, listing: Listing, files: Iterable[str] | None = None) -> None:
        self.root = listing.root
        self.files = tuple(listing.files if files is None else files)
        self._exact = frozenset(self.files)
        self._ends: dict[int, dict[str, list[str]]] = {}
        self._stems: dict[str, list[str]] | None = None
        self._plain: dict[str, list[str]] | None = None
        self._count: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._ambiguous: list[Problem] = []

    def find(self, reference: str, folders: Sequence[str] = ("",), where: str = "", split: str = "") -> str | None:
        """The file that a path means, relative to the root; None: it is not there, or several fit.

        `folders`: the places (relative to the root) that the path may count from, the likeliest first; `where`: the
        place of the path, for messages; `split`: the split it is of, so that no image of another one is taken.
        """
        reference = reference.replace("\0", "")
        for how, spelled in _spellings(reference):
            for folder in folders:
                name = posixpath.normpath(posixpath.join(folder, spelled)) if spelled else ""
                if name in self._exact or (name := self._outside(name)):
                    return self._say(how, reference, where, name)
        for _, spelled in _spellings(reference):
            for folder in folders:
                same = self._by_letters.get(_letters(posixpath.normpath(posixpath.join(folder, spelled))), [])
                if len(same) == 1:
                    return self._say("spelling", reference, where, same[0])
        return self._by_end(reference, where, split)

    def find_stem(self, stem: str, folders: Sequence[str] = ("",)) -> str | None:
        """The only file whose path without its suffix is this one, from one of the folders."""
        if self._stems is None:
            self._stems = {}
            for name in self.files:
                self._stems.setdefault(posixpath.splitext(name)[0], []).append(name)
        for folder in folders:
            found = self._stems.get(posixpath.normpath(posixpath.join(folder, stem)), [])
            if len(found) == 1:
                return found[0]
        return None

    def problems(self) -> list[Problem]:
        """Which ways had to be gone, each once with its count, and every path that several images fit."""
        found = []
        for how, n in self._count.items():
            kind, handling = _TOLD[how]
            found.append(Problem(kind, self._first[how], f"{n} {'path' if n == 1 else 'paths'}", handling, n))
        return found + self._ambiguous

    def _say(self, how: str, reference: str, where: str, name: str) -> str:
        if how != "as written":
            self._count[how] += 1
            self._first.setdefault(how, f"{where}: {reference}" if where else reference)
        return name

    def _outside(self, name: str) -> str:
        """A file that does not lie below the root, where it is there; else nothing."""
        if not name.startswith(("../", "/")):
            return ""
        path = Path(self.root) / name
        try:
            return Path(os.path.relpath(path, self.root)).as_posix() if path.is_file() else ""
        except (OSError, ValueError):
            return ""

    @property
    def _by_letters(self) -> dict[str, list[str]]:
        if self._plain is None:
            self._plain = {}
            for name in self.files:
                self._plain.setdefault(_letters(name), []).append(name)
        return self._plain

    def _by_end(self, reference: str, where: str, split: str) -> str | None:
        """The file that shares most of the path's last parts."""
        decoded = reference.replace("\\", "/")
        for said in dict.fromkeys((decoded, unquote(decoded))):
            parts = [part for part in _letters(said).split("/") if part not in ("", ".", "..")]
            for k in range(min(len(parts), self._depth), 0, -1):
                found = self._ends_of(k).get("/".join(parts[-k:]), [])
                if split:
                    named = [(name, split_names.of_path(name)) for name in found]
                    found = [name for name, one in named if not one or split_names.same(one, split)]
                if not found:
                    continue
                if len(parts) > k and parts[-k - 1] in self._folder_names:
                    return None  # it should lie in that folder, and does not
                if len(found) == 1:
                    return self._say("end", reference, where, found[0])
                what = f"{reference} may be {found[0]} or {found[1]}" + (", ..." if len(found) > 2 else "")
                self._ambiguous.append(Problem("ambiguous image", where or reference, what, "left out"))
                return None
        return None

    @cached_property
    def _folder_names(self) -> frozenset[str]:
        """Names of all folders that hold a file."""
        return frozenset(part for name in self._by_letters for part in name.split("/")[:-1])

    @cached_property
    def _depth(self) -> int:
        return max((name.count("/") + 1 for name in self.files), default=0)

    def _ends_of(self, k: int) -> dict[str, list[str]]:
        """Files by their last `k` parts."""
        if k not in self._ends:
            self._ends[k] = {}
            for letters, names in self._by_letters.items():
                parts = letters.split("/")
                if len(parts) >= k:
                    self._ends[k].setdefault("/".join(parts[-k:]), []).extend(names)
        return self._ends[k]


def _spellings(reference: str) -> list[tuple[str, str]]:
    found = [("as written", reference)]
    if reference != reference.strip():
        found.append(("as written", reference := reference.strip()))
    if "\\" in reference:
        found.append(("backslash", reference.replace("\\", "/")))
    if "%" in reference or reference.startswith("file:"):
        found.append(("url", unquote(re.sub("^file:(//)?", "", reference)).replace("\\", "/")))
    return found


def _letters(name: str) -> str:
    """A path without what file systems and programs write differently.

    >>> _letters("A/E\\u0301.JPG") == _letters("a/\\u00e9.jpg")
    True
    """
    return unicodedata.normalize("NFC", name).casefold()
