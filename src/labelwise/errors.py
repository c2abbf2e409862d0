"""The error for users; it imports nothing heavy, so that it is there before anything else is loaded."""

from __future__ import annotations

from pathlib import Path


class LabelwiseError(Exception):
    """An error that a user can act on: what, where, what was expected, what to do. The CLI prints it and exits 1."""


class Unreachable(LabelwiseError):
    """Storage cannot be reached at all: no fault of one image, so that nothing goes on without it."""


def of_image(error: LabelwiseError) -> str:
    """What is said of an image that cannot be read, which a run goes on without.

    Raises:
        Unreachable: the error is no fault of the image.
    """
    if isinstance(error, Unreachable):
        raise error
    return str(error)


def no_project(folder: Path) -> LabelwiseError:
    """What is said of a folder that is no project."""
    return LabelwiseError(
        f"{folder} is not a project (no run.toml). Make one with `labelwise init {folder} --data FOLDER`, "
        "or run a recipe: `labelwise run RECIPE --project FOLDER`"
    )
