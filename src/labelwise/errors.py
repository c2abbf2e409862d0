"""The error for users; it imports nothing heavy, so that it is there before anything else is loaded."""

from __future__ import annotations

from pathlib import Path


class LabelwiseError(Exception):
    """An error that a user can act on: what, where, what was expected, what to do. The CLI prints it and exits 1."""


def no_project(folder: Path) -> LabelwiseError:
    """What is said of a folder that is no project."""
    return LabelwiseError(
        f"{folder} is not a project (no run.toml). Make one with `labelwise init {folder} --data FOLDER`, "
        "or run a recipe: `labelwise run RECIPE --project FOLDER`"
    )
