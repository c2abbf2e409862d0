"""A logger that keeps what it is told, or fails when it is told so."""

from __future__ import annotations

from typing import Any

TOLD: list[Any] = []


def log(entries: Any, about: Any, *, after: int = 1000) -> None:
    if len(entries) > after:
        raise ConnectionError("the store is gone")
    TOLD.append((list(entries), about))
