"""labelwise decides what to label next and trains on what came back.

`labelwise.open` is the way in for an own detector (see `labelwise.api`); every method is a function on plain arrays
(`labelwise.score.entropy.score`).
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from labelwise.api import Project as Project
    from labelwise.api import open as open  # noqa: A004 (the public name)


def __getattr__(name: str) -> Any:
    """`open` and `Project`, imported when they are asked for: a score alone needs none of their imports."""
    if name in ("open", "Project"):
        from labelwise import api

        return getattr(api, name)
    raise AttributeError(f"module 'labelwise' has no attribute {name!r}")
