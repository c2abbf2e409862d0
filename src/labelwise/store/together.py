"""Many threads that write at once share a transaction: one wait for the disk instead of one for each of them.

A step is what would else be a transaction of its own. Whoever gets the turn runs the steps of all who wait, each in a
savepoint, and commits once; nobody hears of a result before it is on the disk. A step that fails takes back its own
work alone. An error of the database fails all of them, and nothing of any of them is kept.
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
                for step in steps:
                    self._run(connection, step, alone=len(steps) == 1)
        except BaseException as error:
            for step in steps:
                step.error = error
        for step in steps:
            step.done = True

    @staticmethod
    def _run(connection: sa.Connection, step: _Step, *, alone: bool) -> None:
        if alone:
            step.result = step.do(connection)
            return
        try:
            with connection.begin_nested():
                step.result = step.do(connection)
        except sa.exc.DBAPIError:
            raise  # the whole transaction may be gone
        except Exception as error:
            step.error = error
