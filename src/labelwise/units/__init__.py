"""What can be asked: one unit per file. Everything else asks the unit (`find`), and compares no unit's name.

A file says in constants and three functions what `Unit` lists; being in the folder is being a unit: `query.unit`
accepts it, the ledger takes its verdicts, `tests/test_units.py` checks it. A dotted name is a module of the user's own.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, cast

from labelwise import catalog
from labelwise.types import Answer, LabelwiseError, Query
from labelwise.units._candidates import NOWHERE as NOWHERE
from labelwise.units._candidates import Candidates as Candidates
from labelwise.units._candidates import Shard as Shard
from labelwise.units._contract import MEMBERS as MEMBERS
from labelwise.units._contract import SKIPPED as SKIPPED
from labelwise.units._contract import Meaning as Meaning
from labelwise.units._contract import Unit as Unit
from labelwise.units._objects import IN_REGION as IN_REGION

FIRST = "image"
"""The unit of the first round, which has no model: whole images at random."""
_OWN: dict[str, Unit] = {}
"""Units of the user's own that this process has looked up."""


def names() -> list[str]:
    """The units of the folder, by reading its files."""
    return catalog.names("units")


@functools.cache
def find(name: str) -> Unit:
    """The unit of that name; a dotted name is a module of the user's own.

    Raises:
        LabelwiseError: no such unit (with "did you mean"), or its file lacks something.
    """
    if "." not in name and name not in names():
        raise LabelwiseError(catalog.unknown("unit", name, names()))
    module: Any = importlib.import_module(catalog.find("units", name).module)
    missing = [member for member in MEMBERS if not hasattr(module, member)]
    if missing:
        raise LabelwiseError(f"unit {name!r}: {module.__file__} lacks {', '.join(missing)}; see units/_contract.py")
    unit = cast("Unit", module)
    if unit.OVERLAPS and not unit.RECTANGLE:
        raise LabelwiseError(
            f"unit {name!r}: OVERLAPS is of rectangles; set RECTANGLE = True in {module.__file__}, too"
        )
    if "." in name:
        _OWN[name] = unit
    return unit


def about_an_object() -> str:
    """The unit whose query is about one object of a class: "is this label right?" is such a question."""
    return next(name for name in names() if find(name).CLASS)


def meaning(query: Query, answer: Answer) -> Meaning:
    """What follows from an answer.

    Raises:
        LabelwiseError: a verdict that this query does not take.
    """
    known = find(query.unit).VERDICTS
    if answer.verdict not in known:
        where = f"the answer to query {query.id} (round {query.round}, image {query.image})"
        raise LabelwiseError(f"{where}: verdict {answer.verdict!r}; expected one of {', '.join(known)}")
    return known[answer.verdict]


def covering() -> tuple[str, ...]:
    """The verdicts after which nothing is left to ask in the query's rectangle, of all units."""
    return tuple(dict.fromkeys(word for word, meaning in meanings() if meaning.covers))


def marking() -> tuple[str, ...]:
    """The verdicts that mark the query's rectangle as background, of all units."""
    return tuple(dict.fromkeys(word for word, meaning in meanings() if meaning.background))


def verdicts() -> tuple[str, ...]:
    """The verdicts of all units."""
    return tuple(dict.fromkeys(word for word, _ in meanings()))


def meanings() -> list[tuple[str, Meaning]]:
    """The verdicts of all units with what follows from them."""
    every = [*map(find, names()), *_OWN.values()]
    return [pair for unit in every for pair in unit.VERDICTS.items()]
