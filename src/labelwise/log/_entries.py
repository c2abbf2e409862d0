"""What a logger is given (machinery of the loggers)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelwise.types import LabelwiseError

QUALITY = "quality/"
"""How the names of what a round is judged by begin: these are drawn against what was spent, too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one stage of one round left.

    `place`: the number of the stage in its round; `ended_s`: seconds since 1970; `values`: finite numbers by name;
    `spent`: boxes, queries, images and seconds of people until then, for a stage that measures; else empty.
    """

    round: int
    stage: str
    place: int
    ended_s: float
    values: Mapping[str, float]
    spent: Mapping[str, float]

    def points(self) -> list[tuple[str, int, float]]:
        """Name, step and value of everything to draw: all values by round, the quality also by what was spent.

        >>> one = Entry(2, "evaluate", 6, 0.0, {"quality/AP50": 0.5, "seconds/evaluate": 3.0}, {"boxes": 40})
        >>> one.points()
        [('quality/AP50', 2, 0.5), ('seconds/evaluate', 2, 3.0), ('by boxes/AP50', 40, 0.5)]
        """
        found = [(name, self.round, value) for name, value in self.values.items()]
        for unit, spent in self.spent.items():
            quality = [(name, value) for name, value in self.values.items() if name.startswith(QUALITY)]
            found += [(f"by {unit}/{name.removeprefix(QUALITY)}", round(spent), value) for name, value in quality]
        return found


@dataclass(frozen=True, slots=True)
class About:
    """The run: a `key` of its own that stays, its name, a folder for files, its settings by their dotted keys."""

    key: str
    name: str
    folder: Path
    settings: Mapping[str, str]


def load(module: str, logger: str, install: str) -> Any:
    """A package that a logger needs.

    Raises:
        LabelwiseError: it is not installed; the message says what to install.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except ImportError as error:
        raise LabelwiseError(
            f'log.to = ["{logger}"] needs the package {package} ({error}): pip install "{install}", '
            f"or take {logger} out of log.to"
        ) from None
