"""What a person notices of live updates, in a real Chromium: key to paint, and from an answer to the new queue.

    LABELWISE_DATA=data python benchmarks/live_page.py --answers 100 --pairs 2      # --seeds, --runs, --features
    LABELWISE_DATA=data python benchmarks/live_page.py --answers 300 --seeds 0 1 2 3 4 --pairs 1 --think 0.3

A scripted person who knows the truth answers box questions on runway debris (`fod_a_frozen`, 60 frames at the start,
the least sure boxes first), by keys, `--think` seconds after each question is on the screen. All is as users have it:
`labelwise serve --live`, or (way "rounds") `labelwise serve` with `labelwise run` beside it and a round every 100
answers; from the same first model. In benchmarks/results/live_page.csv (of 300 answers live_page_300.csv) a row for
each run; a row that is there is kept, so what was killed goes on. Differences, paired by seed, are told at the end.

paint: milliseconds from the key to the frame that shows the next question. reply: of the request that stores the
answer. queue: seconds from an answer's arrival in the ledger to the queue that a model has ranked which knows it;
newest: of the last answer before each update. update: seconds from the begin of an update to that. ap50_100 and so on:
on the test images, of the model that knows 100 answers and the start. load: of the machine over a minute, at the end.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from claims import note_of, write
from playwright.sync_api import Page as Window
from playwright.sync_api import sync_playwright
from taught import paired

from labelwise import loop
from labelwise.files.round_files import STAGES
from labelwise.ledger import live_updates
from labelwise.ledger import schema as t
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types import Query
from labelwise.types.overlap import iou_matrix

HERE = Path(__file__).parent
SETTINGS = ("labels.policy=ignore", "query.score=margin", "query.select=top", "budget.unit=queries")
WATCH = """() => {
  window.paints = [];
  let key = 0;
  document.addEventListener("keydown", (event) => { key = event.timeStamp; }, true);
  new MutationObserver(() => requestAnimationFrame(() => {
    const shown = new MessageChannel(), begun = key;
    shown.port1.onmessage = () => { if (begun) window.paints.push(performance.now() - begun); };
    shown.port2.postMessage(0);
    key = 0;
  })).observe(document.querySelector("#file"), { childList: true, characterData: true, subtree: true });
}"""
REPLIES = """() => performance.getEntriesByType("resource").filter((one) => one.name.endsWith("/api/answers"))
  .map((one) => one.duration)"""


KEYS = ("pair", "way", "seed", "answers", "think_s")
"""The columns that tell one run from another."""


def begin(folder: Path, seed: int, given: argparse.Namespace) -> None:
    """A project whose first round the oracle has answered, and whose next ones people will."""
    partial = folder.with_name(f"{folder.name}_partial")
    shutil.rmtree(partial, ignore_errors=True)
    rounds = [given.each] * (given.answers // given.each)
    settings = [f"seed={seed}", f"features.folder={given.features}", *SETTINGS, f"budget.per_round={rounds}"]
    opened = opening.start(partial, "fod_a_frozen+box_random_ignore", settings)
    for name in STAGES:
        loop.run_next(opened, name)
    opened.project.close()
    partial.rename(folder)


def kept(path: Path) -> list[dict[str, Any]]:
    """The rows of a run that was ended before."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [dict(row) for row in csv.DictReader(lines)]


def differences(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Live minus rounds of the same seed and pair, mean with its interval of 95 % (t)."""
    by = {(row["seed"], row["pair"], row["way"]): row for row in ({k: str(v) for k, v in row.items()} for row in rows)}
    both = [(by[seed, pair, "rounds"], row) for (seed, pair, way), row in by.items()
            if way == "live" and (seed, pair, "rounds") in by]  # fmt: skip
    for name in dict.fromkeys(key for row in rows for key in row if key.startswith(("ap50_", "paint_", "reply_"))):
        pairs = [(float(base[name]), float(row[name])) for base, row in both if base.get(name) and row.get(name)]
        if len(pairs) > 1:
            mean, low, high = paired(*np.array(pairs).T[::-1])
            yield f"{name}: live - rounds {mean:.2f} ({low:.2f} to {high:.2f}), {len(pairs)} pairs"


def set_priority(server: int, nice: int) -> None:
    """Of the live run, a child of the server, among the sessions of this machine (Linux, autogroup)."""
    for children in Path(f"/proc/{server}/task").glob("*/children"):
        for child in children.read_text().split():
            Path(f"/proc/{child}/autogroup").write_text(str(nice))


@contextmanager
def served(folder: Path, way: str, nice: int | None) -> Iterator[str]:
    """The commands that a user gives; the owner's link."""
    if way == "rounds":
        opening.start(folder, None, ["ask.who=people"]).project.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "labelwise", "serve", "-p", str(folder), "--port", str(port), "--no-browser"]
    processes = [
        subprocess.Popen([*command, *(["--live"] if way == "live" else [])], stdout=subprocess.PIPE, text=True)
    ]
    if way == "rounds":
        processes.append(subprocess.Popen([sys.executable, "-m", "labelwise", "run", "-p", str(folder)]))
    try:
        assert processes[0].stdout is not None
        link = next(found[0] for line in processes[0].stdout if (found := re.search(r"http://\S+", line)))
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)
        if nice is not None:
            time.sleep(1)
            set_priority(processes[0].pid, nice)
        yield link
    finally:
        for process in processes:
            process.terminate()
            process.wait()


class Person:
    """Answers box questions by keys, as the truth has it."""

    def __init__(self, window: Window, opened: Context) -> None:
        self.window, self.opened, self.found = window, opened, set[int]()

    def shown(self) -> Query:
        """The question on the screen."""
        text = self.window.locator("#file").inner_text()
        found = re.search(r"round (\d+), rank (\d+)$", text)
        assert found is not None, text
        number, rank = int(found[1]), int(found[2]) - 1
        return next(one for one in self.opened.project.ledger.queries(number) if one.rank == rank)

    def answer(self, query: Query) -> None:
        pool, window = self.opened.pool, self.window
        assert pool.truth is not None
        rows = np.arange(*pool.truth.offsets[pool.number_of[query.image] :][:2])
        iou = iou_matrix(np.array([query.box], np.float64), pool.truth.xyxy[rows].astype(np.float64))[0]
        if not len(rows) or iou.max() < 0.5:
            return window.keyboard.press("r")
        row = int(rows[iou.argmax()])
        if row in self.found:
            return window.keyboard.press("d")
        self.found.add(row)
        label = int(pool.truth.labels[row])
        if label == query.label:
            return window.keyboard.press("a")
        window.keyboard.press("c")
        window.keyboard.type(pool.classes[label])
        return window.keyboard.press("Enter")


def answered(folder: Path, way: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One row: so many answers in one way."""
    with served(folder, way, given.nice) as link, sync_playwright() as started:
        opened = opening.start(folder, None)
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1366, "height": 768})
        window.set_default_timeout(300_000)
        window.goto(link)
        window.locator("#file").filter(has_text="rank").wait_for()
        window.evaluate(WATCH)
        person, begun, before = Person(window, opened), time.perf_counter(), ""
        for k in range(given.answers):
            gone = re.compile(f"{re.escape(before)}$" if before else "(?!)")
            window.locator("#file").filter(has_text="rank").filter(has_not_text=gone).wait_for()
            before = window.locator("#file").inner_text()
            window.wait_for_timeout(1000 * given.think)
            person.answer(person.shown())
            if given.picture and k == given.answers // 2:
                window.wait_for_timeout(200)
                window.screenshot(path=given.picture)
        until = time.time() + 300
        while opened.project.ledger.stage_done(opened.run.rounds - 1, "evaluate") is None and time.time() < until:
            time.sleep(0.5)
        minutes = (time.perf_counter() - begun) / 60
        paints, replies = window.evaluate("() => window.paints"), window.evaluate(REPLIES)
        browser.close()
    row = {
        "way": way,
        "seed": seed,
        "answers": given.answers,
        "think_s": given.think,
        "minutes": round(minutes, 1),
    }
    row |= spread("paint_ms", np.array(paints), 1) | spread("reply_ms", np.array(replies), 1)
    row |= of_updates(opened) | {"load": round(os.getloadavg()[0], 1)}
    opened.project.close()
    return row


def spread(name: str, values: np.ndarray, digits: int) -> dict[str, Any]:
    if not len(values):
        return {f"{name}_{what}": "" for what in ("p50", "p95", "max")}
    at = {"p50": np.quantile(values, 0.5), "p95": np.quantile(values, 0.95), "max": values.max()}
    return {f"{name}_{what}": round(float(value), digits) for what, value in at.items()}


def of_updates(opened: Context) -> dict[str, Any]:
    """How soon the queue knew each answer, and what the model reached."""
    ledger = opened.project.ledger
    with ledger.read() as connection:
        select = sa.select(t.answers.c.id, t.answers.c.created).join(t.queries).where(t.queries.c.round > 0)
        answers = {row[0]: datetime.fromisoformat(row[1]).timestamp() for row in connection.execute(select)}
    waits, newest, took = list[float](), list[float](), list[float]()
    reached = {round(sum(one.queries for k, one in ledger.cost_by_round().items() if 0 < k <= number)):
               Round(opened, number).metrics.get("ap50") for number in range(1, opened.run.rounds)}  # fmt: skip
    known = 0
    for one in live_updates.every(ledger):
        if one.round:
            at = datetime.fromisoformat(one.created).timestamp()
            mine = [when for k, when in answers.items() if known < k <= one.seen.answers]
            known = one.seen.answers
            waits += [at - when for when in mine]
            newest += [at - max(mine)] if mine else []
            took.append(one.seconds)
    found: dict[str, Any] = {"updates": len(took)}
    found |= spread("update_s", np.array(took), 2) | spread("newest_s", np.array(newest), 2)
    found |= spread("queue_s", np.array(waits), 2)
    return found | {f"ap50_{k}": round(100 * value, 2) for k, value in reached.items() if value is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--each", type=int, default=100, help="answers of a round; --answers is a multiple of it")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--think", type=float, default=1.0, help="seconds")
    parser.add_argument("--runs", type=Path, default=Path("runs/live_page"))
    parser.add_argument("--features", type=Path, help="where kept features are; none: below --runs")
    parser.add_argument("--nice", type=int, help="of the live run's session, where other sessions leave 10 nothing")
    parser.add_argument("--picture", type=Path, help="a screenshot in the middle of a run")
    parser.add_argument("--out", type=Path, help="none: results/live_page.csv, with the answers where not 100")
    given = parser.parse_args()
    given.features = (given.features or given.runs / "_features").absolute()
    own = "" if given.answers == 100 else f"_{given.answers}"
    out = given.out or HERE / "results" / f"live_page{own}.csv"
    rows = kept(out)
    done = {tuple(str(row[key]) for key in KEYS) for row in rows}
    told = f"--answers {given.answers} --seeds {' '.join(map(str, given.seeds))} --pairs {given.pairs}"
    told += f" --think {given.think:g}" + ("" if given.nice is None else f" --nice {given.nice}")
    note = note_of("live_page", None, given.seeds)
    note = note.replace(f"claims.py live_page --seeds {len(given.seeds)}", f"live_page.py {told}")
    for seed, pair, way in itertools.product(given.seeds, range(given.pairs), ("rounds", "live")):
        if (str(pair), way, str(seed), str(given.answers), str(given.think)) in done:
            continue
        start = given.runs.absolute() / f"start_{seed}_{given.answers}"
        if not start.exists():
            begin(start, seed, given)
        folder = given.runs.absolute() / f"{way}_{seed}_{pair}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        rows.append({"pair": pair} | answered(folder, way, seed, given))
        print(rows[-1], flush=True)
        write(out, rows, note)
    print(*differences(rows), sep="\n")


if __name__ == "__main__":
    main()
