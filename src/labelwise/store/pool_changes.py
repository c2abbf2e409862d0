"""What may not change between two runs on one project: the class list, an image's size, an image that is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labelwise.types import LabelwiseError, Pool

_SHOWN = 10


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


def refuse_changed_images(known: Mapping[str, tuple[int, int]], pool: Pool, where: str) -> None:
    """Refuses a pool in which a known image has another size or is gone; new images are welcome."""
    sizes = dict(zip(pool.names, zip(pool.width_px.tolist(), pool.height_px.tolist(), strict=True), strict=True))
    gone = [name for name in known if name not in sizes]
    if gone:
        raise LabelwiseError(
            f"{len(gone)} images of the ledger {where} are no longer in the data at {pool.root}: {_some(gone)}. "
            "Put them back, or start a new project"
        )
    changed = [
        f"{name} was {width} x {height}, is {sizes[name][0]} x {sizes[name][1]}"
        for name, (width, height) in known.items()
        if sizes[name] != (width, height)
    ]
    if changed:
        raise LabelwiseError(
            f"{len(changed)} images at {pool.root} have another size (in pixels) than in the ledger {where}: "
            f"{_some(changed)}. Their labels would no longer fit: put the old files back, or start a new project"
        )


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return "; ".join(items[:_SHOWN]) + more
