"""Projects that an earlier labelwise began: finished by it and by this one, they must end the same, bit for bit.

    uv run python benchmarks/old_projects.py --before ../labelwise-0.9 --keep /tmp/old_projects

`--before` is a checkout of an earlier commit. Its code makes small projects of several kinds and stops each at several
points; of every one there are two copies, and one is finished by each of the two codes. Compared are the rows of the
ledger (but for times), the files of all rounds, the settings, what `status` says before and after, the exports of open
queries and of labels. `whole` is never stopped: each code does it alone. With `--keep` the earlier code's part is kept
in that folder and not done again. Prints and writes benchmarks/results/old_projects.csv, one row per stop.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import pkgutil
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from old_projects_kinds import KINDS, draw_classes, labelwise, open_queries

HERE = Path(__file__).resolve()
RESULTS = HERE.parent / "results" / "old_projects.csv"

# ---- comparing ------------------------------------------------------------------------------------------------------

TIMES = {
    *("started", "ended", "created", "since", "time", "mtime_ns", "secret", "issued", "expires"),
    *("wall_s", "record_s", "graph_s", "track_s", "images_per_s", "waiting_share"),
}
"""Columns and keys of what is of the moment."""

SUMS = {"answers", "annotations", "withdrawn", "added_classes"}
"""Tables with moments in their rows: a record's sums of them are, too."""

MOMENT = rb"\d{4}-\d\d-\d\d(T[\d:.+]+)?|\d{10}\.\d+"


def timeless(value: Any) -> Any:
    """Without what is of the moment."""
    if isinstance(value, dict):
        left_out = TIMES | (SUMS if isinstance(value.get("queries"), int) and "time" not in value else set())
        return {key: timeless(one) for key, one in value.items() if key not in left_out}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def rows_of(folder: Path) -> dict[str, list[Any]]:
    """All rows of the ledger, by table; of JSON the content."""
    connection = sqlite3.connect(folder / "ledger.sqlite")
    connection.row_factory = sqlite3.Row
    names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table' order by name")]
    found = {}
    for name in names:
        rows = [timeless(dict(row)) for row in connection.execute(f'select * from "{name}"')]
        rows = [row for row in rows if row.get("key") != "created"]  # of the project
        for row in rows:
            for key in ("value", "info", "reason", "boxes", "labels"):
                if isinstance(row.get(key), str):
                    row[key] = timeless(json.loads(row[key]))
            if str(row.get("key")).endswith(" ask"):
                row["value"].pop("seen", None)  # of people: how many had answered when the stage was begun again
        found[name] = sorted(json.dumps(row, sort_keys=True) for row in rows)
    connection.close()
    return found


def identity(folder: Path) -> bytes:
    """What tells a project from any other: exports name it."""
    connection = sqlite3.connect(folder / "ledger.sqlite")
    [created] = connection.execute("select value from meta where key = 'created'").fetchone()
    connection.close()
    return hashlib.sha256(str(json.loads(created)).encode()).hexdigest()[:12].encode()


def files_of(folder: Path, project: bytes) -> dict[str, bytes]:
    """The files of a folder, without moments; not the ledger and its copy, nor the report, which tells seconds."""
    left_out = re.compile(r"ledger\.|\.lock|report|cache/")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    found = {name: path.read_bytes() for name, path in names.items() if not left_out.match(name)}
    for name in found:
        if name.endswith((".md", ".json")):
            found[name] = re.sub(MOMENT, b"MOMENT", found[name]).replace(project, b"PROJECT")
    return found


def all_files(place: Path) -> dict[str, bytes]:
    """The files of a project, and of what commands showed of it."""
    project, parts = identity(place / "p"), ("p", "shown_before", "shown_after")
    return {f"{part}/{name}": content for part in parts for name, content in files_of(place / part, project).items()}


def shown(folder: Path, out: Path) -> None:
    """What commands show of a project, into the folder `out`."""
    out.mkdir(parents=True)
    os.chdir(folder)  # else its path is part of what is shown
    (out / "status.txt").write_text(labelwise("status"))
    waiting = [number for number, answers in open_queries(folder) if not answers]
    for to in ("json", "label_studio", "cvat", "coco") if waiting else ():
        labelwise("export", "queries", "--to", to, "-p", folder, "-o", out / to)
    if (folder / "rounds").exists() and list((folder / "rounds").glob("*/targets.safetensors")):
        labelwise("export", "labels", "--to", "coco", "-p", folder, "-o", out / "labels")


def work() -> None:
    """The part of a checkout's code: everything is imported once, every job is a process of its own."""
    import torch

    import labelwise as package

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(package.__path__, "labelwise."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    print(package.__file__, flush=True)
    for line in sys.stdin:
        what, kind, stop, folder, seed = json.loads(line)
        process = multiprocessing.get_context("fork").Process(target=job, args=(what, kind, stop, Path(folder), seed))
        process.start()
        process.join()
        print(process.exitcode, flush=True)


def job(what: str, kind: str, stop: str, folder: Path, seed: int) -> None:
    if what == "begin":
        KINDS[kind].begin(folder, stop, KINDS[kind], seed)
        return
    if stop != "whole":
        shown(folder, folder.with_name("shown_before"))
    KINDS[kind].finish(folder, stop)
    shown(folder, folder.with_name("shown_after"))


class Code:
    """The code of a checkout, in processes of its own."""

    def __init__(self, checkout: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout / "src")}
        words = [sys.executable, str(HERE), "--work"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.checkout = checkout
        self.process = subprocess.Popen(words, env=environment, **pipes)
        assert self._said().startswith(str(checkout)), "another labelwise is in the way of this checkout's"

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __call__(self, what: str, kind: str, stop: str, folder: Path, seed: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([what, kind, stop, str(folder), seed]) + "\n")
        self.process.stdin.flush()
        code = self._said()
        if code != "0" and not (what == "begin" and stop.endswith("asking") and code == str(-signal.SIGKILL)):
            raise RuntimeError(f"{self.checkout}: {kind}, {stop}: {what} ended with {code}, see above")


def made(before: Code, kind: str, stop: str, place: Path, seed: int) -> None:
    """The project as the earlier code left it (`start`) and finished it (`before`); not again if it is there."""
    if (place / "done").exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    (place / "before").mkdir(parents=True)
    if stop != "whole":
        (place / "start").mkdir()
        before("begin", kind, stop, place / "start" / "p", seed)
        shutil.copytree(place / "start", place / "before", dirs_exist_ok=True)
    else:
        before("begin", kind, stop, place / "before" / "p", seed)
    before("finish", kind, stop, place / "before" / "p", seed)
    (place / "done").touch()


def compared(after: Code, kind: str, stop: str, place: Path, seed: int) -> tuple[int, int, list[str]]:
    """Numbers of files and of rows, and what differs."""
    shutil.rmtree(place / "after", ignore_errors=True)
    if stop != "whole":
        shutil.copytree(place / "start", place / "after")
    else:
        (place / "after").mkdir()
        after("begin", kind, stop, place / "after" / "p", seed)
    after("finish", kind, stop, place / "after" / "p", seed)
    folders = [place / "before", place / "after"]
    old, new = map(all_files, folders)
    rows, again = (rows_of(one / "p") for one in folders)
    differ = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    differ += [f"table {name}" for name in sorted(rows.keys() | again.keys()) if rows.get(name) != again.get(name)]
    return len(old), sum(map(len, rows.values())), differ


HEAD = "kind,stop,files,rows,same,differs,seconds,seed,before,after,command,machine,python,torch,numpy"


def commit_of(checkout: Path) -> str:
    words = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--after", type=Path, default=HERE.parents[1], help="the checkout to test [default: this one]")
    parser.add_argument("--what", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--keep", type=Path, help="keeps the projects here, and takes those that are here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work()
        return
    if given.before is None:
        parser.error("--before is needed: a checkout of an earlier commit")
    checkouts = given.before.resolve(), given.after.resolve()
    commits = [commit_of(one) for one in checkouts]
    words = [Path(word).name if "/" in word else word for word in sys.argv]
    versions = (platform.python_version(), version("torch"), version("numpy"))
    about = (given.seed, *commits, " ".join(words), f"{platform.machine()} {os.cpu_count()} cores", *versions)
    before, after = map(Code, checkouts)
    rows, wrong = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        root = (given.keep or Path(scratch)).resolve() / f"{commits[0]}_{given.seed}"
        if not (root / "data").exists():
            draw_classes(root / "data" / "classes", given.seed)
        for kind, stop in [(name, stop) for name in given.what for stop in KINDS[name].stops]:
            began, place = time.monotonic(), root / kind / stop
            try:
                made(before, kind, stop, place, given.seed)
                n_files, n_rows, differ = compared(after, kind, stop, place, given.seed)
            except RuntimeError as error:
                n_files, n_rows, differ = 0, 0, [str(error).replace(",", ";")]
            wrong += bool(differ)
            found = (kind, stop, n_files, n_rows, not differ, " ".join(differ[:4]), round(time.monotonic() - began))
            rows.append(",".join(map(str, (*found, *about))))
            print(rows[-1], flush=True)
    RESULTS.write_text("\n".join([HEAD, *rows]) + "\n")
    print(f"{len(rows)} stops, {wrong} differ")


if __name__ == "__main__":
    main()
