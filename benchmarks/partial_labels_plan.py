"""Which step of `partial_labels.py` waits for which, and what is begun when the time runs out.

Data of a bed -> first model of a seed -> predictions -> picks of a method -> cells. Of what could begin the lowest seed
comes first, so that whole seeds are finished when the time is up.
"""

from __future__ import annotations

import heapq
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import partial_labels_cells as cells
from partial_labels_cells import Place
from partial_labels_menu import OWN_PREDICTIONS, Cell

GRACE_S = 50.0
"""So long after the limit what still runs is killed; the next run begins it anew."""
RANK = {"data": 0, "start": 1, "predicted": 2, "picks": 3, "cell": 4}
Result = tuple[Any, str, float]


def work(step: Callable[[Place, Any], Any], place: Place, what: Any) -> Result:
    """One step in a process of the pool, and its seconds; an error comes back as text, so that the others go on."""
    began = time.perf_counter()
    try:
        return step(place, what), "", time.perf_counter() - began
    except Exception:
        return None, traceback.format_exc(), time.perf_counter() - began


def end_with_parent() -> None:
    """A worker ends when the benchmark is killed, so that the next run finds its projects free."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@dataclass(order=True)
class Step:
    """One step, ordered by what comes first."""

    seed: int
    rank: int
    number: int
    kind: str = field(compare=False)
    cell: Cell = field(compare=False)
    followers: list[Step] = field(compare=False, default_factory=list)

    @property
    def like(self) -> tuple[str, ...]:
        """Steps that are alike take as long as each other."""
        return (self.cell.bed, self.kind, self.cell.recipe if self.kind == "cell" else self.cell.view)

    def call(self) -> tuple[Callable[[Place, Any], Any], Any]:
        """What is done, and on what."""
        steps: dict[str, Callable[[Place, Any], Any]] = {
            "data": cells.make_data, "start": cells.make_start, "predicted": cells.make_predicted,
            "picks": cells.make_picks, "cell": cells.measure,
        }  # fmt: skip
        return steps[self.kind], self.cell.bed if self.kind == "data" else self.cell


def chain(cell: Cell) -> list[tuple[str, ...]]:
    """The keys of the steps that come before a cell, in their order; each begins with its kind."""
    seed, own = str(cell.seed), cell.name in OWN_PREDICTIONS
    keys = [("data", cell.bed), ("start", cell.bed, seed, cell.model)]
    if cell.rounds == 1:
        keys += [] if own else [("predicted", cell.bed, seed, cell.view)]
        keys += [("picks", cell.bed, seed, cell.view, cell.method)]
    return keys


class Plan:
    """The steps of all cells, each of the shared ones once."""

    def __init__(
        self,
        pool: ProcessPoolExecutor,
        place: Place,
        todo: Sequence[Cell],
        done: Callable[[Cell, Any], None],
        jobs: int,
    ):
        self.pool, self.place, self.done, self.jobs = pool, place, done, jobs
        self.running: dict[Future[Result], Step] = {}
        self.ready: list[Step] = []
        self.seconds: dict[tuple[str, ...], list[float]] = {}
        self.failed: list[str] = []
        self.not_begun = 0
        shared: dict[tuple[str, ...], Step] = {}
        for number, cell in enumerate(todo):
            before = None
            for key in chain(cell):
                if key not in shared:
                    shared[key] = Step(cell.seed, RANK[key[0]], number, key[0], cell)
                    self._after(before, shared[key])
                before = shared[key]
            self._after(before, Step(cell.seed, RANK["cell"], number, "cell", cell))

    def _after(self, before: Step | None, step: Step) -> None:
        if before is None:
            heapq.heappush(self.ready, step)
        else:
            before.followers.append(step)

    def run(self, end: float) -> None:
        """Until nothing is left or the clock `time.monotonic` shows `end`; what runs then has `GRACE_S` to end."""
        while self.running or self.ready:
            self._begin(end)
            if not self.running:
                continue
            ended, _ = wait(self.running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ended:
                self._follow(self.running.pop(future), future)
            if time.monotonic() > end + GRACE_S and self.running:
                print(f"killed at the limit: {len(self.running)} steps", flush=True)
                for child in multiprocessing.active_children():
                    child.kill()
                return

    def _begin(self, end: float) -> None:
        """Hands over as much as there are processes; what would not end in time is not begun."""
        while self.ready and len(self.running) < self.jobs:
            step = heapq.heappop(self.ready)
            left = end - time.monotonic()
            if left <= 0 or self.expected_s(step) > left:
                self.not_begun += 1
                continue
            call, what = step.call()
            self.running[self.pool.submit(work, call, self.place, what)] = step

    def expected_s(self, step: Step) -> float:
        """The mean of steps that are alike, else of the bed's steps of this kind; 0 where none has ended yet."""
        own = self.seconds.get(step.like)
        if own is None:
            own = [s for like, every in self.seconds.items() if like[:2] == step.like[:2] for s in every]
        return sum(own) / len(own) if own else 0.0

    def _follow(self, step: Step, future: Future[Result]) -> None:
        """Books what has ended; what waited for it may begin."""
        try:
            result, error, seconds = future.result()
        except BrokenProcessPool as broken:
            result, error, seconds = None, str(broken), 0.0
        if error:
            self.failed.append(f"{step.kind} {step.cell}:\n{error}")
            print(self.failed[-1], flush=True)
            return
        self.seconds.setdefault(step.like, []).append(seconds)
        if step.kind == "cell":
            self.done(step.cell, result)
        for one in step.followers:
            heapq.heappush(self.ready, one)
