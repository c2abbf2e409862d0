"""What a label policy, a method and a recipe of training are worth where images are known in part: the ablation.

    python benchmarks/partial_labels.py --beds bccd-15 --seeds 8 --rows core --jobs 16
    python benchmarks/partial_labels.py --beds bccd-4 --seeds 8 --rows oracle --policy dual
    python benchmarks/partial_labels.py --beds bccd-15 --rows "random images:background:steps=240,warm"
    python benchmarks/partial_labels.py --summary

One jump (`--rounds 1`): start images, first model, its predictions and the picks are the same for all rows of a bed
and seed; each row trains on them in its own way, all rows of one recipe at equal steps. With `--rounds N` every row is
a run of its own from the common start. `no new label` and `everything labelled` are trained as the other rows are;
every row says which share of that headroom it reaches, and a bed with less than 10 AP50 of it gives no verdict.
`--rows`: sets, by commas (`partial_labels_rows.py`), or cells METHOD:POLICY:RECIPE by semicolons. `--budget`: every
method spends the bed's boxes, the seconds that these cost as random images, or as many questions ("METHOD @seconds").

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
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import partial_labels_cells as cells
import partial_labels_menu as menu
from partial_labels_cells import Place
from partial_labels_menu import Cell
from partial_labels_plan import GRACE_S, Plan, end_with_parent
from partial_labels_rows import is_possible, rows_of, sets
from partial_labels_table import read, summary

RESULTS = Path(__file__).parent / "results" / "partial_labels.csv"


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
    end = time.monotonic() + args.limit_s
    place = Place(args.work.resolve(), args.weights, args.first, tuple(args.set))
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    budgets = args.budget.split(",")
    if set(budgets) - set(menu.BUDGETS):
        sys.exit(f"--budget {args.budget}: expected {', '.join(menu.BUDGETS)}")
    rows = [row for row in rows_of(args.rows, args.policy, args.recipe, budgets) if is_possible(row)]
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
        add(args.output, [{**row, "first": place.first_of(cell), "load": load, **about} for row in result])
        last = result[-1]
        print(f"{time.perf_counter() - began:6.0f} s {count}/{len(todo)} {' / '.join(cell.key)}: AP50 {last['ap50']}, "
              f"{last['boxes']} boxes, {last['seconds']} s, CPU {last['cpu_s']} s", flush=True)  # fmt: skip

    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # of the workers
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=context, initializer=end_with_parent) as pool:
        plan = Plan(pool, place, todo, done, args.jobs)
        plan.run(end)
    if plan.not_begun:
        print(f"{count} of {len(todo)} cells measured; no time for the others: the same command goes on", flush=True)
    if plan.failed:
        print(f"{len(plan.failed)} steps failed; the first:\n{plan.failed[0]}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beds", default="bccd-15", help=f"by commas: {', '.join(menu.BEDS)}")
    parser.add_argument("--rows", default="core", help=f"by commas: {', '.join(sets('dual', 'sane'))}; or cells")
    parser.add_argument("--budget", default="boxes", help=f"of every method, by commas: {', '.join(menu.BUDGETS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--policy", default="dual", help="of boxes, in the sets that vary something else")
    parser.add_argument("--recipe", default="sane", help=f"of most sets: {', '.join(menu.RECIPES)}, or tokens")
    parser.add_argument("--first", default=menu.FIRST, help="the first model's recipe")
    parser.add_argument("--weights", default=cells.WEIGHTS, help="of the body; below LABELWISE_DATA, or a path")
    parser.add_argument("--set", action="append", default=[], help="a setting of every project, before all others")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--limit-s",
        type=float,
        default=1e9,
        help=f"begins nothing after so many seconds, and nothing that would last longer; all ends {GRACE_S:g} s later",
    )
    parser.add_argument("--work", type=Path, default=Path("runs/partial_labels"), help="where the projects are")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--note", help="stands in the table as the command")
    parser.add_argument("--summary", action="store_true", help="only the summary of the table that is there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
