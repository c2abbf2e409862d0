"""What may not change between two runs on one project: the class list."""

from __future__ import annotations

from collections.abc import Sequence

from labelwise.types import LabelwiseError


def refuse_other_classes(before: Sequence[str], classes: Sequence[str], where: str) -> None:
    """Refuses a class list that differs from the one that the stored labels were made with."""
    if list(before) == list(classes):
        return
    gone = [name for name in before if name not in classes]
    new = [name for name in classes if name not in before]
    moved = [] if gone or new else [name for old, name in zip(before, classes, strict=True) if old != name]
    parts = [
        f"{what} {', '.join(names)}" for what, names in (("gone:", gone), ("new:", new), ("moved:", moved)) if names
    ]
    raise LabelwiseError(
        f"the class list has changed since the ledger {where} was made ({'; '.join(parts)}): expected "
        f"{', '.join(before)}; got {', '.join(classes)}. The stored labels would change their meaning: put the class "
        "list back, or start a new project"
    )
