"""The images that tables and lists name: by a path, or by a name without suffix."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from labelwise.data import image_reader, split_names
from labelwise.data.listing import Listing, suffix_of
from labelwise.data.resolve import Resolver
from labelwise.types import Problem

_ONE = ({"train", "training"}, {"val", "valid", "validation", "validate", "dev"}, {"test", "testing"})


class NamedImages:
    """Finds images of a listing. What is not there is told once per file that names it, with its count."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.resolver = Resolver(listing, listing.images)
        self._found: dict[tuple[str, str, str], str | None] = {}
        self._folders: dict[tuple[str, str], list[str]] = {}
        self._stems: dict[str, list[str]] | None = None
        self._missing: dict[str, Counter[str]] = {}
        self._unclear: list[Problem] = []
        self._splits = {name for name in map(split_names.of_path, listing.images) if name}

    def split(self, said: str) -> str:
        """A split as the folders of images spell it: `validation` is `val` where there is a folder of that name."""
        if said in self._splits or not said:
            return said
        same = next((group for group in _ONE if said.lower() in group), {said.lower()})
        spelled = sorted(name for name in self._splits if name.lower() in same)
        return spelled[0] if len(spelled) == 1 else said.lower() if said.isupper() else said

    def find(self, reference: str, file: str, line: int, split: str = "") -> str | None:
        """The image that `file` names in a line, relative to the root; None: it is told."""
        key = (reference, file, split)
        if key not in self._found:
            unclear = len(self._unclear)
            before = len(self.resolver.problems())
            self._found[key] = self._search(reference, file, line, split)
            if self._found[key] is None and unclear == len(self._unclear):
                told = any(p.kind == "ambiguous image" for p in self.resolver.problems()[before:])
                if not told:
                    self._missing.setdefault(file, Counter())[reference] += 0
        found = self._found[key]
        if found is None and reference in self._missing.get(file, ()):
            self._missing[file][reference] += 1
        return found

    def look(self, name: str, file: str, split: str = "") -> str | None:
        """The image of this name, without suffix; None: it is not there, or not clear, and nothing is told."""
        unclear = len(self._unclear)
        found = self._search(name, file, 1, split)
        del self._unclear[unclear:]
        return found

    def problems(self) -> list[Problem]:
        """How images were found, and which were not."""
        found = [*self.resolver.problems(), *self._unclear]
        for file, names in self._missing.items():
            first = next(iter(names))
            n, rows = len(names), sum(names.values())
            what = f"it names {n} {'image that is' if n == 1 else 'images that are'} not there, such as {first[:200]}"
            found.append(Problem("missing image", file, what, f"left out, with {rows} of its rows", n))
        return found

    def _search(self, reference: str, file: str, line: int, split: str) -> str | None:
        folders = self._places(file, split)
        if suffix_of(reference) in image_reader.SUFFIXES:
            return self.resolver.find(reference, folders, f"{file}:{line}", split)
        for folder in folders:
            found = self.resolver.find_stem(reference, (folder,))
            if found is not None:
                return found
        if self._stems is None:
            self._stems = {}
            for name in self.listing.images:
                self._stems.setdefault(PurePosixPath(name).stem, []).append(name)
        same = self._stems.get(reference.replace("\\", "/").rpartition("/")[2], [])
        if split and len(same) > 1:
            same = [name for name in same if split_names.of_path(name) in ("", split)]
        if len(same) > 1:
            what = f"{reference} may be {same[0]} or {same[1]}" + (", ..." if len(same) > 2 else "")
            self._unclear.append(Problem("ambiguous image", f"{file}:{line}", what, "left out"))
        return same[0] if len(same) == 1 else None

    def _places(self, file: str, split: str) -> list[str]:
        """Folders that paths in a file may count from, the likeliest first."""
        key = (file, split)
        if key not in self._folders:
            folder, _, name = file.rpartition("/")
            above = folder.rpartition("/")[0]
            stem = name.rpartition(".")[0]
            places = [folder]
            for base in dict.fromkeys((folder, above, "")):
                places += [_joined(base, *parts) for parts in (
                    ("images",), ("images", split), (split,), (split, "images"), (stem,), ("JPEGImages",), ("imgs",),
                    ("img",), ("image_2",),
                )]  # fmt: skip
            places += [above, ""]
            self._folders[key] = [p for p in dict.fromkeys(places) if p in self.listing.folders]
        return self._folders[key]


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)
