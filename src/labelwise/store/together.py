"""Many threads that write at once share a transaction: one wait for the disk instead of one for each of them.

A step is what would else be a transaction of its own. Whoever gets the turn runs the steps of all who wait and commits
once; nobody hears of a result before it is on the disk. If one of them fails, all of it is taken back and every step is
run again in a transaction of its own, so that it fails alone: a step must bear to be run twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from labelwise.store.ledger import Ledger

Result = TypeVar("Result")


class _Step:
    """What one thread wants done, and what became of it."""

    def __init__(self, do: Callable[[sa.Connection], Any]) -> None:
        self.do = do
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Together:
    """The shared transactions of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[_Step] = []
        self._list, self._turn = threading.Lock(), threading.Lock()

    def do(self, step: Callable[[sa.Connection], Result]) -> Result:
        """Runs a step; returns its result when that is committed, or raises its error."""
        mine = _Step(step)
        with self._list:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                self._commit()
        if mine.error is not None:
            raise mine.error
        result: Result = mine.result
        return result

    def _commit(self) -> None:
        with self._list:
            steps, self._waiting = self._waiting, []
        try:
            with self._ledger._write() as connection:
                results = [step.do(connection) for step in steps]
        except BaseException as error:
            for step in steps:
                if len(steps) > 1 and isinstance(error, Exception):
                    self._alone(step)
                else:
                    step.error = error
        else:
            for step, result in zip(steps, results, strict=True):
                step.result = result
        for step in steps:
            step.done = True

    def _alone(self, step: _Step) -> None:
        try:
            with self._ledger._write() as connection:
                step.result = step.do(connection)
        except BaseException as error:
            step.error = error
