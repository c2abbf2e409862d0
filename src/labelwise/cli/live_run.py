"""The run beside the page of `labelwise serve --live`: a process of its own (`live_child`) of low priority.

It may be killed at any instant, as any run; then it is started again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from labelwise.cli.console import tell

ANSWERS = 5
"""`ask.live_answers` of a project that says nothing of it."""
NICE = 10
"""Its priority: low, and still its share of a machine that is busy with other things."""
AGAIN_S = 1.0
MOST_KILLED = 5
"""Killed so often within a minute, it is not started again."""


def settings_of(folder: Path) -> list[str]:
    """What a project needs to be run live, as settings for its run.toml."""
    from labelwise import config

    run = config.load(folder / "run.toml")
    wanted = [] if run.ask.who == "people" else ["ask.who=people"]
    return wanted if run.ask.live_answers is not None else [*wanted, f"ask.live_answers={ANSWERS}"]


class LiveRun:
    """The process, and a thread that looks after it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stopped, self._turn = folder, False, threading.Lock()
        self._begun: list[float] = []
        self.process = self._start()
        self._watch = threading.Thread(target=self._look_after, name="live run", daemon=True)
        self._watch.start()

    @property
    def running(self) -> bool:
        """Whether it works or waits for answers."""
        return self.process.poll() is None

    def stop_watching(self) -> None:
        """It is not started again."""
        with self._turn:
            self._stopped = True

    def stop(self) -> None:
        """Ends it; what it was doing is done again by the next run."""
        self.stop_watching()
        self.process.terminate()
        self._watch.join()
        self._let_go()

    def _start(self) -> subprocess.Popen[bytes]:
        self._begun.append(time.monotonic())
        threads = str(max(1, (os.cpu_count() or 1) // 2))
        command = [sys.executable, "-m", "labelwise.cli.live_child", str(self._folder)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, env={"OMP_NUM_THREADS": threads, **os.environ}
        )
        _give_way(process.pid)
        return process

    def _let_go(self) -> None:
        """Closes what it listened to."""
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _is_stopped(self) -> bool:
        with self._turn:
            return self._stopped

    def _look_after(self) -> None:
        while (code := self.process.wait()) < 0 and not self._is_stopped():
            recent = [begun for begun in self._begun if begun > time.monotonic() - 60]
            if len(recent) > MOST_KILLED:
                tell(f"The live run was killed {len(recent)} times within a minute (memory?): it stays away.")
                return
            self._let_go()
            time.sleep(AGAIN_S)
            with self._turn:
                if not self._stopped:
                    self.process = self._start()
        if not self._is_stopped():
            tell("All rounds are done." if code == 0 else "The live run has ended; answers are stored all the same.")


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[LiveRun]:
    """Runs a project as long as something else is done."""
    run = LiveRun(folder)
    try:
        yield run
    finally:
        run.stop()


def _give_way(process: int) -> None:
    """A low priority, also where every session of processes has one of its own (Linux, autogroup)."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, process, NICE)
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text(str(NICE), encoding="ascii")
