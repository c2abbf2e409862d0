"""Writers that come at the same time share a transaction: one wait for the disk instead of one for each of them.

One thread writes. It runs all that wait in one transaction, those of a kind by one call, and commits once; nobody hears
of a result before it is on the disk. If one of them fails, all of it is taken back and every one is run again in a
transaction of its own, so that it fails alone: what is asked for must bear to be run twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

import sqlalchemy as sa

from labelwise.ledger.ledger import Ledger

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Task:
    """What one caller wants done."""

    item: Any
    serve: Callable[[sa.Connection, Sequence[Any]], Sequence[Any]]
    future: Future[Any] = field(default_factory=Future)


def _each(connection: sa.Connection, steps: Sequence[Callable[[sa.Connection], Any]]) -> list[Any]:
    return [step(connection) for step in steps]


class GroupCommit:
    """The shared transactions of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[_Task] = []
        self._list = threading.Lock()
        self._writer = ThreadPoolExecutor(1, "ledger")

    def do(self, step: Callable[[sa.Connection], Result]) -> Result:
        """Runs a step; returns its result when that is committed, or raises its error."""
        result: Result = self.submit(step, _each).result()
        return result

    def submit(self, item: Item, serve: Callable[[sa.Connection, Sequence[Item]], Sequence[Result]]) -> Future[Result]:
        """The result of `serve` for this item, among others that wait for the same; it is there when committed."""
        task = _Task(item, serve)
        task.future.set_running_or_notify_cancel()  # a caller that goes away takes nothing back
        with self._list:
            self._waiting.append(task)
            first = len(self._waiting) == 1
        if first:
            self._writer.submit(self._commit)
        return task.future

    def _commit(self) -> None:
        with self._list:
            tasks, self._waiting = self._waiting, []
        self._run(tasks)

    def _run(self, tasks: Sequence[_Task]) -> None:
        results: list[Any] = []
        try:
            with self._ledger.write() as connection:
                for serve, same in groupby(tasks, key=lambda task: task.serve):
                    results += serve(connection, [task.item for task in same])
        except BaseException as error:
            if len(tasks) == 1:
                tasks[0].future.set_exception(error)
                return
            for task in tasks:
                self._run([task])
        else:
            for task, result in zip(tasks, results, strict=True):
                task.future.set_result(result)
