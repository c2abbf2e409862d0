"""The processes of a comparison: each runs many projects, one after the other.

A worker is a fresh interpreter (`python -m labelwise.study.workers`) that reads a line of JSON per project and answers
with lines of JSON. It has one thread for arithmetic, keeps the pools that it has read (`project.kept_pools`), and ends
at once when whoever started it is gone. One that dies takes only its project with it: another takes its place.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.study.compare import Comparison, Task

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What libraries read the number of their threads from."""

LOOK_S = 0.3
"""How often finished rounds are told."""


class Worker:
    """The near end of a worker process."""

    def __init__(self, comparison: str, threads: str) -> None:
        environment = {**os.environ, **dict.fromkeys(THREADS, threads)}
        command = [sys.executable, "-m", "labelwise.study.workers"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, encoding="utf-8"
        )
        self.knows = False
        self.comparison = comparison

    def run(self, task: Task, round_done: Callable[[], None]) -> None:
        """Runs one project to its end.

        Raises:
            LabelwiseError: it failed, or the process died.
        """
        where = ""
        try:
            self._say(self.comparison if not self.knows else "")
            self.knows = True
            self._say(json.dumps(asdict(task)))
            while True:
                said = json.loads(self._hear())
                where = said.get("folder", where)
                if "round" in said:
                    round_done()
                elif "error" in said:
                    raise LabelwiseError(said["error"])
                elif "done" in said:
                    return
        except (OSError, EOFError, ValueError):
            code = self.process.wait()
            what = where or f"{task.kind} {task.name} of seed {task.seed}"
            log = f"; its log {where}.log may say why" if where else ""
            raise LabelwiseError(
                f"{what}: its process ended (exit code {code}; -9: killed, often for want of memory){log}. The same "
                "command does it again, with what was done before"
            ) from None

    def _say(self, line: str) -> None:
        if line and self.process.stdin is not None:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def _hear(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            raise EOFError
        return line

    def close(self) -> None:
        """Closes what connects it, once it has ended."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what it no longer took
                    pipe.close()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


class Workers:
    """As many worker processes as run at a time, made when they are needed."""

    def __init__(self, comparison: str, threads: str) -> None:
        self.comparison, self.threads = comparison, threads
        self.idle: list[Worker] = []
        self.every: list[Worker] = []
        self.rounds = 0
        self.ends = False
        self.lock = threading.Lock()

    def run(self, task: Task) -> None:
        """Runs one project in an idle worker, or in a new one."""
        with self.lock:
            if self.ends:
                return
            worker = self.idle.pop() if self.idle else None
            if worker is None:
                worker = Worker(self.comparison, self.threads)
                self.every.append(worker)
        try:
            worker.run(task, self._count)
        finally:
            with self.lock:
                if worker.is_alive and not self.ends:
                    self.idle.append(worker)

    def _count(self) -> None:
        with self.lock:
            self.rounds += 1

    def close(self) -> None:
        """Ends all of them."""
        with self.lock:
            self.ends = True
        for worker in self.every:
            if worker.is_alive:
                worker.process.terminate()
        for worker in self.every:
            worker.process.wait()
            worker.close()


def run(
    comparison: str,
    tasks: tuple[Sequence[Task], Sequence[Task]],
    jobs: int,
    progress: Callable[[int], None],
    threads: str = "1",
) -> None:
    """Runs all tasks, `jobs` at a time; those of the second list after the task of their seed in the first.

    Args:
        comparison: `Comparison.as_json`.
        tasks: the starts, one per seed, and what begins from them.
        jobs: processes at a time.
        progress: gets the rounds done since last.
        threads: of each process, for arithmetic.

    Raises:
        LabelwiseError: some failed; the others were run to their end.
    """
    workers, before = Workers(comparison, threads), 0
    with ThreadPoolExecutor(jobs) as pool:
        starts = {task.seed: pool.submit(workers.run, task) for task in tasks[0]}

        def after_start(task: Task) -> None:
            starts[task.seed].result()
            workers.run(task)

        waiting: set[Future[None]] = {pool.submit(after_start, task) for task in tasks[1]}
        runs = list(waiting)
        try:
            while waiting:
                waiting = wait(waiting, timeout=LOOK_S).not_done
                progress(workers.rounds - before)
                before = workers.rounds
        except BaseException:  # Ctrl-C: the stages in progress are rolled back
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            workers.close()
    failed = [str(error) for done in runs if (error := done.exception()) is not None]
    if failed:
        raise LabelwiseError(f"{len(failed)} of {len(runs)} runs failed; the first: {failed[0]}")


# ------------------------------------------------------------------------------------------------------- the far end


def main() -> None:
    """The worker process: projects by lines of standard input, until that ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints before there is a log is no answer
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, lines), daemon=True).start()

    from labelwise.project.kept_pools import KeptPools
    from labelwise.study.compare import Comparison, Task
    from labelwise.types.disk import without_force

    def say(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")

    comparison, kept = Comparison.from_json(lines.get()), KeptPools()
    with without_force():
        while True:
            task = Task(**json.loads(lines.get()))
            try:
                _run(comparison, task, kept, say)
            except KeyboardInterrupt:
                os._exit(130)


def _listen(source: IO[str], lines: queue.SimpleQueue[str]) -> None:
    """Hands over what is asked; the end of it is the end of the process, in the middle of a stage too."""
    for line in source:
        lines.put(line)
    os._exit(0)


def _run(comparison: Comparison, task: Task, kept: Any, say: Callable[..., None]) -> None:
    """Runs one project; its log gets what is told and where it failed."""
    from labelwise.study.compare import is_finished

    try:
        folder = comparison.prepare(task)
    except LabelwiseError as error:
        say(error=str(error))
        return
    say(folder=str(folder))
    if is_finished(folder):
        say(done=True)
        return
    log = folder.with_name(folder.name + ".log")
    _redirect(log)
    try:
        _rounds(folder, kept, say)
        say(done=True)
    except Exception as error:
        traceback.print_exc()
        what = str(error) if isinstance(error, LabelwiseError) else f"{type(error).__name__}: {error}"
        say(error=f"{folder} stopped: {what}. Its log {log} says more; the same command continues")


def _rounds(folder: Path, kept: Any, say: Callable[..., None]) -> None:
    from labelwise import loop
    from labelwise.project import opening
    from labelwise.study.compare import FINISHED

    context = opening.start(folder, None, kept=kept)
    context.tell = _note
    is_start = folder.name.startswith(("_start_", "_all_"))
    try:
        for number in loop.run(context):
            _note(f"round {number} done")
            if number or is_start:
                say(round=number)
    finally:
        context.project.close()
    (folder / FINISHED).touch()


def _note(line: str) -> None:
    """A line of the log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _redirect(log: Path) -> None:
    """What is printed from now on, by libraries too, goes to the log."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


if __name__ == "__main__":
    main()
