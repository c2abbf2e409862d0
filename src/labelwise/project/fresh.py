"""A project of which no stage has begun may be made anew, of other images and settings."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.project.project_folder import CONFIG, Project
from labelwise.types import LabelwiseError

_POOL = ("classes", "created")


def refuse_begun(folder: Path, ledger_url: str | None) -> None:
    """Refuses a project in which anything has been asked or trained, or whose class list was made longer."""
    project = Project.open(folder, ledger_url)
    try:
        with project.ledger.read() as connection:
            begun = [table.name for table in (t.stages, t.queries, t.added_classes) if _any(connection, table)]
    finally:
        project.close()
    if begun:
        what = "classes were added to it" if begun == [t.added_classes.name] else "its first round has begun"
        raise LabelwiseError(
            f"{folder} is a project already, and {what}: `init` would lose that. Change its settings with `labelwise "
            f"run --project {folder} --set KEY=VALUE` or in {folder / CONFIG}, or name another folder"
        )


def forget_pool(folder: Path, ledger_url: str | None) -> None:
    """Takes the images and classes of a project that has not begun out of its ledger; the next run enters its own."""
    project = Project.open(folder, ledger_url)
    try:
        with project.lock(), project.ledger.write() as connection:
            for table in (t.unavailable, t.image_files, t.images):
                connection.execute(sa.delete(table))
            connection.execute(sa.delete(t.meta).where(t.meta.c.key.in_(_POOL)))
    finally:
        project.close()


def _any(connection: sa.Connection, table: sa.Table) -> bool:
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() > 0
