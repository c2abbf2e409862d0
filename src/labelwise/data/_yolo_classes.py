"""The classes of a YOLO data set: which number in a row is which name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from labelwise.data import text_files
from labelwise.data.listing import Listing
from labelwise.types import LabelwiseError, Problem

_FILES = ("classes.txt", "obj.names", "class.txt", "classes.names", "predefined_classes.txt", "_darknet.labels")
_NUMBERED = re.compile(r"(\d{1,6})\s*[:=,\t]\s*(\S.*)")


class Classes(NamedTuple):
    """`number` is the place in `names` of a class id. `origin`: the file that says so, relative to the root."""

    names: tuple[str, ...]
    number: dict[int, int]
    origin: str
    problems: tuple[Problem, ...] = ()
    sources: frozenset[str] = frozenset()

    @property
    def span(self) -> str:
        """The ids, for a message: `0 to 3`."""
        ids = sorted(self.number)
        return f"{ids[0]} to {ids[-1]}" if ids else "none"


def is_list(name: str) -> bool:
    """Whether a file has the name of a list of classes."""
    file = PurePosixPath(name)
    return file.name.lower() in _FILES or file.suffix.lower() == ".names"


def of_files(listing: Listing) -> Classes | None:
    """The classes that a file of names lists; None: there is none."""
    files = [name for name in listing.of(".txt", ".names", ".labels") if is_list(name)]
    files += [name for name in listing.of(".json") if PurePosixPath(name).name.lower() == "notes.json"]
    files.sort(key=lambda name: (name.count("/"), name))
    chosen: Classes | None = None
    problems: list[Problem] = []
    read = set()
    for name in files:
        try:
            found = of_file(listing, name)
        except LabelwiseError as error:
            problems.append(Problem("class list not read", name, str(error), "passed over"))
            continue
        if not found.names:
            continue
        read.add(name)
        if chosen is None:
            chosen = found
        elif found.number and [*found.names] != [*chosen.names]:
            longer, shorter = (chosen, found) if len(chosen.names) >= len(found.names) else (found, chosen)
            if longer.names[: len(shorter.names)] == shorter.names:
                chosen = longer
                continue
            what = f"names other classes than {chosen.origin} ({', '.join(found.names[:4])})"
            problems.append(Problem("class lists differ", name, what, f"{chosen.origin} counts"))
    if chosen is None:
        return None
    return chosen._replace(problems=(*problems, *chosen.problems), sources=frozenset(read))


def of_file(listing: Listing, name: str) -> Classes:
    """The classes of one file: a line each, or the categories of Label Studio's notes.json."""
    if name.lower().endswith(".json"):
        content = text_files.json_of(listing.root / name)
        rows = content.get("categories") if isinstance(content, dict) else None
        said: Any = {}
        for place, row in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(row, dict):
                said[row.get("id", place)] = row.get("name")
        return of_value(said, name)
    lines = text_files.lines(listing.root / name)
    while lines and not lines[-1]:
        lines.pop()
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        return of_value({int(match[1]): match[2] for match in numbered if match}, name)
    return of_value({i: line for i, line in enumerate(lines) if line}, name)


def of_value(said: Any, origin: str) -> Classes:
    """The classes of what `names` holds: a list, or a dict of ids (or from names to ids).

    Raises:
        LabelwiseError: it is neither.
    """
    if isinstance(said, str):
        said = [part.strip() for part in said.strip("[]").split(",") if part.strip()]
    pairs = list(enumerate(said)) if isinstance(said, list) else _pairs(said)
    if pairs is None:
        shown = str(said)[:80]
        raise LabelwiseError(f"{origin}: names is {shown}; expected a list of classes, or 0: a, 1: b, ...")
    problems = []
    place: dict[str, int] = {}
    number: dict[int, int] = {}
    for key, name in sorted(pairs, key=lambda pair: pair[0]):
        called = name if isinstance(name, str) else str(name) if isinstance(name, int | float) else str(key)
        if not isinstance(name, str) and (isinstance(name, bool) or not isinstance(name, int)):
            what = f"the name of class {key} is {str(name)[:40]}, no text"
            problems.append(Problem("class name that is no text", origin, what, f"called {called!r}; put it in quotes"))
        if called in place:
            first = next(id_ for id_, at in number.items() if at == place[called])
            what = f"classes {first} and {key} are both called {called!r}"
            problems.append(Problem("class name twice", origin, what, "taken as one class"))
        number[key] = place.setdefault(called, len(place))
    if number and (gap := len(range(max(number) + 1)) - len(number)):
        missing = next(id_ for id_ in range(len(number) + 1) if id_ not in number)
        what = f"class {missing} has no name" + (f", nor have {gap - 1} others below {max(number)}" if gap > 1 else "")
        problems.append(Problem("class id without name", origin, what, "boxes of such a class are left out", gap))
    return Classes(tuple(place), number, origin, tuple(problems), frozenset((origin,) if origin else ()))


def stand_ins(where: str, ids: Sequence[int]) -> Classes:
    """Classes called by the numbers that rows have, where no file names them."""
    found = sorted({one for one in ids if one >= 0})
    what = "no file names the classes: no data.yaml with names, no classes.txt, no obj.names"
    told = Problem("classes without names", where, what, "called by their numbers; add classes.txt, a name per line")
    return Classes(tuple(map(str, found)), {one: i for i, one in enumerate(found)}, "", (told,))


def _pairs(said: Any) -> list[tuple[int, Any]] | None:
    if not isinstance(said, dict):
        return None
    found = [(_id(key), name) for key, name in said.items()]
    if any(key is None for key, _ in found):  # cat: 0, dog: 1
        found = [(_id(value) if isinstance(key, str) else None, key) for key, value in said.items()]
    whole = [(key, name) for key, name in found if key is not None]
    return whole if len(whole) == len(said) else None


def _id(value: Any) -> int | None:
    """A class id, below the largest one that any data set has.

    >>> _id(3), _id("3"), _id(3.0), _id("cat"), _id(True), _id(-1)
    (3, 3, 3, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    said = str(value).strip().removesuffix(".0")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 9 else None
