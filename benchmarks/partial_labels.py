"""What a label policy, a method and a recipe of training are worth where images are known in part: the ablation.

    python benchmarks/partial_labels.py --beds bccd-15 --seeds 8 --rows core --jobs 16
    python benchmarks/partial_labels.py --beds bccd-4 --seeds 8 --rows oracle --policy dual
    python benchmarks/partial_labels.py --beds bccd-15 --rows "random images:background:steps=240,warm"
    python benchmarks/partial_labels.py --summary

One jump (`--rounds 1`): start images, first model, its predictions and the picks are the same for all rows of a bed
and seed; each row trains on them in its own way, all rows of one recipe at equal steps. With `--rounds N` every row is
a run of its own from the common start. `no new label` and `everything labelled` are trained as the other rows are;
every row says which share of that headroom it reaches, and a bed with less than 10 AP50 of it gives no verdict.
`--rows`: sets, by commas (core, policies, recipes, oracle), or cells METHOD:POLICY:RECIPE by semicolons.

A run that is killed goes on: finished cells stand in the table, begun projects in `--work`. Each cell has one torch
thread on the CPU, so that cells are alike on every machine (`--set train.accelerator=auto` takes a GPU). The data are
looked for under LABELWISE_DATA. Of labelwise's dependencies these are not on a bare machine with PyTorch: pydantic,
pydantic-core, annotated-types, typing-inspection, sqlalchemy, greenlet, faster-coco-eval, tomli-w, lightning-fabric.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import partial_labels_cells as cells
import partial_labels_menu as menu
from partial_labels_cells import Place
from partial_labels_menu import Cell
from partial_labels_oracle import EDITS
from partial_labels_table import read, summary

RESULTS = Path(__file__).parent / "results" / "partial_labels.csv"
BOUNDS = [(name, "background", "sane") for name in menu.BOUNDS]
CORE = [
    *BOUNDS,
    ("random images", "background", "sane"),
    ("entropy-sum images", "background", "sane"),
    ("core-set images", "background", "sane"),
    ("random boxes", "background", "sane"),
    ("random boxes", "dual", "sane"),
    ("U boxes", "dual", "sane"),
    ("U+CB boxes", "background", "sane"),
    ("U+CB boxes", "soft0.05", "sane"),
    ("U+CB boxes", "dual", "sane"),
]
Row = tuple[str, str, str]


def rows_of(text: str, policy: str, recipe: str) -> list[Row]:
    """The rows that `--rows` names, each once."""
    if ":" in text:
        return [tuple(one.strip() for one in cell.split(":")) for cell in text.split(";")]  # type: ignore[misc]
    sets: dict[str, list[Row]] = {
        "core": [(method, how, recipe) for method, how, _ in CORE],
        "policies": [(method, how, recipe) for method in ("random boxes", "U+CB boxes") for how in menu.POLICIES],
        "recipes": [
            (method, policy if "boxes" in method else "background", name)
            for name in menu.RECIPES
            for method in (*menu.BOUNDS, "random images", "U+CB boxes")
        ],
        "oracle": [
            *((name, "background", recipe) for name in (*menu.BOUNDS, "random images")),
            ("U+CB boxes", policy, recipe),
            *(("U+CB boxes", f"{policy}/{edit}", recipe) for edit in EDITS),
        ],
    }
    unknown = set(text.split(",")) - set(sets)
    if unknown:
        sys.exit(f"--rows: unknown {', '.join(sorted(unknown))}; expected {', '.join(sets)}, or METHOD:POLICY:RECIPE")
    return list(dict.fromkeys(row for name in text.split(",") for row in sets[name]))


def possible(row: Row) -> bool:
    """Whether this labelwise has the row's policy; tells if not."""
    method, policy, _ = row
    if method not in menu.METHODS or policy.split("/")[0] not in menu.POLICIES:
        sys.exit(f"--rows: {row}: expected {', '.join(menu.METHODS)}; {', '.join(menu.POLICIES)}")
    return menu.is_known(tuple(menu.policy_settings(policy)))


# -------------------------------------------------------------------------------------------------------- the work


def work(step: Callable[[Place, Any], Any], place: Place, what: Any) -> tuple[Any, str]:
    """One step in a process of the pool; an error comes back as text, so that the others go on."""
    try:
        return step(place, what), ""
    except Exception:
        return None, traceback.format_exc()


def end_with_parent() -> None:
    """A worker ends when the benchmark is killed, so that the next run finds its projects free."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Plan:
    """Which step waits for which: data, first model, predictions, picks, cells; first models come first."""

    def __init__(
        self, pool: ProcessPoolExecutor, place: Place, todo: Sequence[Cell], done: Callable[[Cell, Any], None]
    ):
        self.pool, self.place, self.done = pool, place, done
        self.running: dict[Future[tuple[Any, str]], tuple[str, Any]] = {}
        self.failed: list[str] = []
        self.is_over = False
        self.left: dict[tuple[str, ...], list[Cell]] = {}
        for cell in todo:
            self.left.setdefault((cell.bed,), []).append(cell)
        for (bed,) in list(self.left):
            self.submit("data", cells.make_data, bed)

    def submit(self, kind: str, step: Callable[[Place, Any], Any], what: Any) -> None:
        self.running[self.pool.submit(work, step, self.place, what)] = (kind, what)

    def run(self, limit_s: float) -> None:
        """Until nothing is left, or the time is up: then nothing is begun any more."""
        end = time.monotonic() + limit_s
        while self.running:
            ended, _ = wait(self.running, timeout=1, return_when=FIRST_COMPLETED)
            self.is_over = time.monotonic() > end
            for future in [one for one in self.running if self.is_over and one.cancel()]:
                self.running.pop(future)
            for future in ended - set(filter(Future.cancelled, ended)):
                kind, what = self.running.pop(future)
                result, error = future.result()
                if error:
                    self.failed.append(f"{kind} {what}:\n{error}")
                    print(self.failed[-1], flush=True)
                else:
                    self.follow(kind, what, result)

    def follow(self, kind: str, what: Any, result: Any) -> None:
        """What was waiting for a step that has ended."""
        if kind == "cell":
            self.done(what, result)
        if kind == "cell" or self.is_over:
            return
        bed = what if kind == "data" else what.bed
        waiting = self.left[(bed,)]
        if kind == "data":
            for seed in dict.fromkeys(cell.seed for cell in waiting):
                self.submit("start", cells.make_start, next(cell for cell in waiting if cell.seed == seed))
            return
        own = [cell for cell in waiting if cell.seed == what.seed]
        if kind == "picks":
            own = [cell for cell in own if cell.rounds == 1 and cell.method == what.method]
        elif kind == "start":
            self.submit("predicted", cells.make_predicted, what)
            own = [cell for cell in own if cell.rounds > 1]
        else:
            for cell in {cell.method: cell for cell in own if cell.rounds == 1}.values():
                self.submit("picks", cells.make_picks, cell)
            return
        for cell in own:
            self.submit("cell", cells.measure, cell)


def _git(*arguments: str) -> str:
    """What git says of this checkout; nothing where there is none."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def facts(command: str) -> dict[str, Any]:
    """What stands in every row about the machine and the code."""
    import torch

    commit = _git("rev-parse", "--short", "HEAD") or os.environ.get("LABELWISE_COMMIT", "unknown")
    commit += "+" if _git("status", "--porcelain", "-uno") else ""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torchvision"))
    return {
        "commit": commit,
        "machine": f"{platform.machine()} {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "libraries": libraries,
        "command": command,
    }


def add(path: Path, rows: list[dict[str, Any]]) -> None:
    """Appends rows to the table in one write; a table with other columns is refused."""
    new = not path.exists() or not path.stat().st_size
    if not new:
        with path.open(newline="", encoding="utf-8") as file:
            names = next(csv.reader(file))
        if names != list(rows[0]):
            sys.exit(f"{path} has other columns; give another --output")
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()


def main() -> None:
    args = arguments()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if not args.summary:
        run(args)
    text = summary(read(args.output))
    print(text)
    args.output.with_suffix(".md").write_text(text, encoding="utf-8")


def run(args: argparse.Namespace) -> None:
    """Measures every cell that is not in the table yet."""
    place = Place(args.work.resolve(), args.weights, args.first, tuple(args.set))
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    rows = [row for row in rows_of(args.rows, args.policy, args.recipe) if possible(row)]
    every = [Cell(bed, seed, *row, args.rounds) for seed in seeds for bed in args.beds.split(",") for row in rows]
    known = {tuple(row[name] for name in menu.KEY) for row in read(args.output)}
    todo = [cell for cell in every if (*cell.key, *menu.settings_of(cell)) not in known]
    for recipe in dict.fromkeys(cell.recipe for cell in todo):
        print(f"{recipe}: {' '.join(menu.recipe_settings(recipe))}", flush=True)
    print(f"{len(every)} cells, {len(every) - len(todo)} of them in {args.output} already", flush=True)
    about, began = facts(args.note or " ".join(["benchmarks/partial_labels.py", *sys.argv[1:]])), time.perf_counter()
    count = 0

    def done(cell: Cell, result: list[dict[str, Any]]) -> None:
        nonlocal count
        count += 1
        load = round(os.getloadavg()[0], 1)
        add(args.output, [{**row, "first": args.first, "load": load, **about} for row in result])
        last = result[-1]
        print(f"{time.perf_counter() - began:6.0f} s {count}/{len(todo)} {' / '.join(cell.key)}: AP50 {last['ap50']}, "
              f"{last['boxes']} boxes, {last['seconds']} s, CPU {last['cpu_s']} s", flush=True)  # fmt: skip

    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # of the workers
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=context, initializer=end_with_parent) as pool:
        plan = Plan(pool, place, [replace(cell) for cell in todo], done)
        plan.run(args.limit_s)
    if plan.failed:
        print(f"{len(plan.failed)} steps failed; the first:\n{plan.failed[0]}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beds", default="bccd-15", help=f"by commas: {', '.join(menu.BEDS)}")
    parser.add_argument("--rows", default="core")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--policy", default="dual", help="of boxes, in the sets recipes and oracle")
    parser.add_argument(
        "--recipe", default="sane", help=f"of the sets core, policies, oracle: {', '.join(menu.RECIPES)}, or tokens"
    )
    parser.add_argument("--first", default=menu.FIRST, help="the first model's recipe")
    parser.add_argument("--weights", default=cells.WEIGHTS, help="of the body; below LABELWISE_DATA, or a path")
    parser.add_argument("--set", action="append", default=[], help="a setting of every project")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit-s", type=float, default=1e9, help="begins nothing after so many seconds")
    parser.add_argument("--work", type=Path, default=Path("runs/partial_labels"), help="where the projects are")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--note", help="stands in the table as the command")
    parser.add_argument("--summary", action="store_true", help="only the summary of the table that is there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
