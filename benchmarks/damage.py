"""Damages a finished project in every way that we could think of, continues it, and compares with the undisturbed run.

    uv run python benchmarks/damage.py --flips 300

Every kind of damage is followed by `labelwise run` (of the ledger also by status, check, report and export). It ends in
the undisturbed result, or in one message that says what to do; then that is done, and the run must end so,
too. Disks that are full and folders that cannot be written need the rights to mount (root); without, they are left
out, and that is printed. Prints and writes benchmarks/results/damage.csv.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kill
import numpy as np
from typer.testing import CliRunner

from labelwise import loop
from labelwise.cli import app, health
from labelwise.errors import LabelwiseError
from labelwise.project import changes, opening
from labelwise.project.project_folder import LEDGER, OPENED

RESULTS = Path(__file__).parent / "results" / "damage.csv"
Expected = dict[str, object]

WHAT = ("files", "settings", "generation", "read-only", "disk", "ledger")

FILES = (
    "000/checkpoint.safetensors",
    "001/predictions/part-00001.parquet",
    "001/scores.parquet",
    "001/picks.parquet",
    "001/targets.safetensors",
    "002/metrics.json",
)


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip(path: Path, bit: int | None = None) -> None:
    """Flips one bit, in the middle unless told."""
    content = bytearray(path.read_bytes())
    at = len(content) * 4 + 3 if bit is None else bit
    content[at // 8] ^= 1 << (at % 8)
    path.write_bytes(content)


def copied(finished: Path, to: Path) -> Path:
    """A copy of a project; its images are the same files."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for path in finished.iterdir():
        if path.name == "data":
            (to / "data").symlink_to(path.resolve())
        elif path.is_dir():
            shutil.copytree(path, to / path.name)
        else:
            shutil.copy2(path, to / path.name)
    return to


def command(*words: object) -> str:
    """One command: "done", "message" or "traceback"."""
    OPENED.clear()
    error = CliRunner().invoke(app, [str(word) for word in words]).exception
    if error is None or isinstance(error, SystemExit):
        return "done"
    if isinstance(error, LabelwiseError) or (isinstance(error, Exception) and health.explains(error) is not None):
        return "message"
    traceback.print_exception(error)
    return "traceback"


def flipped_ledger(
    finished: Path, folder: Path, rng: np.random.Generator, expected: Expected, *, every_command: bool = True
) -> str:
    """Flips a random bit of the ledger (or of what SQLite keeps beside it): "right", "message" or what went wrong.

    After a message the copy is restored, and the run must end in the undisturbed result.
    """
    copied(finished, folder)
    beside = [folder / LEDGER, *(path for path in folder.glob(f"{LEDGER}-wal") if path.stat().st_size)]
    sizes = np.array([path.stat().st_size for path in beside])
    which = beside[int(rng.choice(len(beside), p=sizes / sizes.sum()))]
    flip(which, int(rng.integers(which.stat().st_size * 8)))
    out = folder.with_name(folder.name + "-out")
    looks: list[tuple[object, ...]] = [("status", "-p", folder)]
    if every_command:
        looks += [("check", folder), ("report", folder, "-o", out.with_suffix(".html"))]
        looks += [("export", "labels", "--to", "coco", "-p", folder, "-o", out)]
    for words in looks:
        shutil.rmtree(out, ignore_errors=True)
        if command(*words) == "traceback":
            return f"traceback of {words[0]}"
    ended = command("run", "-p", folder)
    if ended == "traceback":
        return "traceback of run"
    if ended == "message":
        health.restore(folder)
        if command("run", "-p", folder) != "done":
            return "restored, and does not run"
    if kill.fingerprint(folder) != expected:
        return "another result"
    return "right" if ended == "done" else "message"


def damaged_files(finished: Path, folder: Path, expected: Expected) -> Iterator[tuple[str, str]]:
    for name in FILES:
        for harm in (delete, cut, flip):
            harm(copied(finished, folder) / "rounds" / name)
            ended = command("run", "-p", folder)
            yield f"{name[4:].split('/')[0]} {harm.__name__}", _compared(folder, expected, ended)


def _compared(folder: Path, expected: Expected, ended: str) -> str:
    if ended != "done":
        return ended
    return "right" if kill.fingerprint(folder) == expected else "another result"


@contextmanager
def mounted(*arguments: object) -> Iterator[None]:
    """Mounts, and takes it away again.

    Raises:
        PermissionError: who runs this may not.
    """
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise PermissionError("only root can mount")
    target = str(arguments[-1])
    subprocess.run(["mount", *map(str, arguments)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", target], check=True)


def read_only(finished: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """A folder that cannot be written: what looks at it works, what changes it says why not."""
    target, out = folder.with_name("read-only"), folder.with_name("out")
    target.mkdir(exist_ok=True)
    with mounted("--bind", finished, target):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(target)], check=True)
        looks = [("status", "-p", target), ("check", target), ("report", target, "-o", folder.with_name("r.html"))]
        looks += [("export", "labels", "--to", "coco", "-p", target, "-o", out)]
        for words in looks:
            yield f"read-only folder: {words[0]}", "right" if command(*words) == "done" else "not shown"
        for words in [
            ("run", "-p", target, "-s", "seed=1"),
            ("redo", 1, "train", "-p", target),
            ("train", "-p", target),
        ]:
            yield f"read-only folder: {words[0]}", command(*words)


def full_disk(folder: Path, expected: Expected) -> Iterator[tuple[str, str]]:
    """A disk that is full in every stage: a message; when there is space again, the stage goes on."""
    disk = folder.with_name("disk")
    disk.mkdir(exist_ok=True)
    with mounted("-t", "tmpfs", "-o", "size=48m", "tmpfs", disk):
        project, filler = disk / "p", disk / "filler"

        def leave(size: int) -> None:
            filler.unlink(missing_ok=True)
            filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - size)))

        leave(300_000)
        yield "full disk: data", _message(lambda: opening.start(project, "demo", kill.SMALL))
        filler.unlink()
        opening.start(project, "demo", kill.SMALL)
        for round_number in range(3):
            for name in loop.STAGES:
                said = set()
                for size in (4096, 40_000, 160_000):
                    leave(size)
                    said.add(_message(lambda: _stage(project, round_number, name)))  # noqa: B023
                filler.unlink()
                _stage(project, round_number, name)
                yield f"full disk: {name}", "traceback" if "traceback" in said else "message"
        yield "full disk: after all", _compared(project, expected, "done")


def _stage(project: Path, round_number: int, name: str) -> None:
    opened = opening.start(project, None)
    with opened.project.lock():
        loop.begin(opened)
        loop.run_stage(opened, round_number, name)


def _message(act: Callable[[], Any]) -> str:
    try:
        act()
    except LabelwiseError as error:
        return "message" if "disk full" in str(error) else str(error)
    except Exception:
        traceback.print_exc()
        return "traceback"
    return "done"


def killed_generation(
    folder: Path, expected: Expected, rng: np.random.Generator, kills: int
) -> Iterator[tuple[str, str]]:
    """Kills while data are generated; the next run removes what is left, and ends as ever."""
    for number in range(kills):
        shutil.rmtree(folder, ignore_errors=True)
        process = kill.start(folder)
        began = time.monotonic()
        while not list(folder.glob(".data.*")) and process.poll() is None and time.monotonic() < began + 120:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.3)))
        left = bool(list(folder.glob(".data.*")))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        last = number == kills - 1
        ended = command("run", "-p", folder) if last else _message(lambda: opening.start(folder, None))
        tidy = not list(folder.glob(".data.*"))
        good = _compared(folder, expected, ended) if last else "right" if ended == "done" else ended
        yield f"kill in data generation{'' if left else ' (it was done)'}", good if tidy else "left something"


def edited(finished: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """run.toml is edited after two rounds: told, marked, and what was before stays as it was."""
    before = copied(finished, folder)
    said = CliRunner().invoke(
        app, ["run", "-p", str(before), "-s", "budget.per_round=[6, 6, 6]", "-s", "train.lr=0.004"]
    )
    told = "settings have changed: train.lr" in said.output
    opened = opening.start(before, None)
    marked = list(changes.by_round(opened)) == [3]
    same = all(
        (before / "rounds" / name).read_bytes() == (finished / "rounds" / name).read_bytes()
        for name in (f"{round_number:03d}/checkpoint.safetensors" for round_number in range(3))
    )
    yield "run.toml edited", "right" if told and marked and same and said.exit_code == 0 else "not told or not marked"


STOP = """
import os, signal, sys
from pathlib import Path
from labelwise import loop
from labelwise.project import opening
opened = opening.start(Path(sys.argv[1]), "demo", sys.argv[2:])
with opened.project.lock():
    loop.begin(opened)
    for round in range(3):
        for name in loop.STAGES:
            loop.run_stage(opened, round, name)
            if (round, name) == (2, "label"):
                os.kill(os.getpid(), signal.SIGKILL)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10, help="while data are generated")
    parser.add_argument("--what", nargs="*", choices=WHAT, default=list(WHAT))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    outcomes: dict[str, Counter[str]] = {}

    def count(found: Iterator[tuple[str, str]]) -> None:
        try:
            for kind, outcome in found:
                outcomes.setdefault(kind, Counter())[outcome] += 1
                print(f"{kind}: {outcome}", flush=True)
        except PermissionError as error:
            print(f"left out: {error}", flush=True)
        write(outcomes)

    with tempfile.TemporaryDirectory() as scratch:
        calm, folder, stopped = (Path(scratch) / name for name in ("calm", "damaged", "stopped"))
        opened = opening.start(calm, "demo", kill.SMALL)
        list(loop.run(opened))
        opened.project.close()  # else the rows lie in the -wal
        expected = kill.fingerprint(calm)
        parts = {
            "files": lambda: damaged_files(calm, folder, expected),
            "settings": lambda: edited(calm, folder),
            "generation": lambda: killed_generation(folder, expected, rng, given.kills),
            "read-only": lambda: read_only(calm, folder),
            "disk": lambda: full_disk(folder, expected),
        }
        for what in given.what:
            if what in parts:
                count(parts[what]())
        if "ledger" not in given.what:
            return
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", STOP, str(stopped), *kill.SMALL], env=environment, check=False)
        assert (stopped / "ledger.sqlite").exists(), "the stopped run made no project"
        for name, base, number in (
            ("ledger", calm, given.flips * 9 // 10),
            ("ledger and its -wal", stopped, given.flips - given.flips * 9 // 10),
        ):
            count(
                (f"bit flipped: {name}", flipped_ledger(base, folder, rng, expected, every_command=k % 10 == 0))
                for k in range(number)
            )


def write(outcomes: dict[str, Counter[str]]) -> None:
    """One row per kind; those of an earlier call that this one did not repeat stay."""
    head = "damage,cases,right,message_and_mended,tracebacks,otherwise"
    before = RESULTS.read_text().splitlines()[1:] if RESULTS.exists() else []
    lines = [head, *(line for line in before if line.split(",")[0] not in outcomes)]
    for kind, found in outcomes.items():
        tracebacks = sum(number for name, number in found.items() if name.startswith("traceback"))
        good = found["right"], found["message"]
        total = sum(found.values())
        lines.append(",".join(map(str, (kind, total, *good, tracebacks, total - sum(good) - tracebacks))))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
