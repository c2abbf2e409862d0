"""Kills commands with SIGKILL at random moments, starts them again, and compares the end with an undisturbed one.

    uv run python benchmarks/kill.py --kills 20
    uv run python benchmarks/kill.py --kills 10 --what serve import

Of `run` labels, picks, answers, metrics and weights must be equal bit for bit, and no query asked twice; of `compare`
the same for each of its runs; of exports the files; of imports and of the server the answers. Prints and writes
benchmarks/results/kill.csv, one row per command.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelwise.project import opening
from labelwise.types import Answer

SMALL = [
    "data.scenes={train=40, test=12, seed=3, size_px=128}",
    "data.image_size_px=128",
    "model.head_convs=1",
    "model.fpn_channels=16",
    "train.epochs=3",
    "train.min_steps=18",
    "train.checkpoint_every_s=0",
    "train.threads=1",
    "predict.views=['flip', 'cutout']",
    "predict.shard_images=16",
    "budget.start_images=8",
    "budget.per_round=[6, 6]",
    "query.threshold=0.01",
    "labels.threshold=0.01",
    "predict.min_score=0.01",
    "model.score_threshold=0.01",
]
"""A run of 3 rounds that takes seconds."""

TEACHER = [
    "train.teacher=ema",
    "train.warm_start=true",
    "train.whole_share=0.5",
    "train.min_steps=0",
    "train.max_steps=none",
    "train.steps=300",
    "labels.policy=dual",
    "labels.class_thresholds=counts",
]
"""A training with an online teacher and thresholds that follow it."""


def start(folder: Path, more: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "labelwise", "run", "demo", "-p", str(folder)]
    for setting in (*SMALL, *more):
        command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )


def fingerprint(folder: Path) -> dict[str, object]:
    """All that must not depend on when a run was killed."""
    opened = opening.start(folder, None)
    ledger = opened.project.ledger
    labels = ledger.labels(opened.pool)
    tables = (labels.annotations.xyxy, labels.annotations.labels, labels.annotations.offsets)
    picks = [(q.round, q.rank, q.image, q.box, q.label, q.score) for q in ledger.queries()]
    verdicts = [v for r in range(opened.run.rounds) for v in ledger.verdicts(r).values()]
    folders = [opened.project.round_folder(r) for r in range(opened.run.rounds)]
    metrics = [(one / "metrics.json").read_text() for one in folders]
    weights = [(one / "checkpoint.safetensors").read_bytes() for one in folders]
    background = (labels.background.xyxy, labels.coverage.xyxy)
    opened.project.close()
    return {
        "labels": [t.tobytes() for t in (*tables, *background)],
        "picks": picks,
        "answers": verdicts,
        "metrics": metrics,
        "weights": weights,
    }


def asked_twice(folder: Path) -> int:
    """Queries with more than one answer, or the same box asked again."""
    ledger = opening.start(folder, None).project.ledger
    queries = ledger.queries()
    answers = sum(cost.queries for cost in ledger.cost_by_round().values())
    ledger.close()
    return (answers - len(queries)) + (len(queries) - len({(q.image, q.box) for q in queries}))


def kill_and_restart(folder: Path, kills: int, rng: np.random.Generator, undisturbed_s: float) -> int:
    """Restarts until the run is complete; kills the first `kills` starts. Returns how many kills hit a living run."""
    hits = 0
    for _ in range(kills):
        process = start(folder)
        time.sleep(float(rng.uniform(0.1, 0.9) * undisturbed_s))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            hits += 1
        process.communicate()
    process = start(folder)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(output.decode())
    return hits


def python(*words: object) -> subprocess.Popen[bytes]:
    """A command of labelwise, the first of a group of processes of its own: a comparison starts others."""
    command = [sys.executable, "-m", "labelwise", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload,no-any-return]


def killed(
    words: tuple[object, ...], kills: int, rng: np.random.Generator, undisturbed_s: float, made: Path | None = None
) -> int:
    """Starts a command, kills it (and what it started) at a random moment, `kills` times; then lets it end.

    A folder that a command makes in one step is `made` when it is there: then it is refused a second time. Returns how
    many kills hit a living process.
    """
    hits = 0
    for _ in range(kills):
        if made is not None and made.exists():
            return hits
        process = python(*words)
        time.sleep(float(rng.uniform(0.3, 1.0) * undisturbed_s))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            hits += 1
        process.communicate()
    if made is not None and made.exists():
        return hits
    process = python(*words)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(output.decode())
    return hits


def contents(folder: Path) -> dict[str, bytes]:
    """All that an export wrote, but for the day on its card."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name != "DATA_CARD.md"}


def of_run(scratch: Path, kills: int, rng: np.random.Generator) -> tuple[int, bool]:
    calm, folder = scratch / "calm", scratch / "killed"
    began = time.monotonic()
    kill_and_restart(calm, 0, rng, 0)
    hits = kill_and_restart(folder, kills, rng, time.monotonic() - began)
    return hits, fingerprint(folder) == fingerprint(calm) and not asked_twice(folder)


def of_teacher(scratch: Path, kills: int, rng: np.random.Generator) -> tuple[int, bool]:
    """While a training with an online teacher is under way, in rounds 1 and 2 alike."""
    calm, folder, hits = scratch / "calm", scratch / "killed", 0
    start(calm, TEACHER).communicate()
    for number in range(kills):
        at = folder / "rounds" / f"{1 + 2 * number // kills:03d}" / "training.safetensors"
        before = at.stat().st_mtime_ns if at.exists() else 0
        process = start(folder, TEACHER)
        while not (at.exists() and at.stat().st_mtime_ns > before) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.4)))
        hits += at.exists() and process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    start(folder, TEACHER).communicate()
    return hits, fingerprint(folder) == fingerprint(calm) and not asked_twice(folder)


def of_generation(scratch: Path, kills: int, rng: np.random.Generator) -> tuple[int, bool]:
    """While the images of a run are drawn; what is left of them is gone in the end."""
    calm, folder, hits = scratch / "calm", scratch / "killed", 0
    kill_and_restart(calm, 0, rng, 0)
    for _ in range(kills):
        process = start(folder)
        while not list(folder.glob(".data.*")) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.2)))
        hits += bool(list(folder.glob(".data.*")))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        shutil.rmtree(folder / "data", ignore_errors=True)  # if it was whole already
    kill_and_restart(folder, 0, rng, 0)
    return hits, fingerprint(folder) == fingerprint(calm) and not list(folder.glob(".data.*"))


def of_export(scratch: Path, kills: int, rng: np.random.Generator) -> tuple[int, bool]:
    calm = scratch / "calm"
    kill_and_restart(calm, 0, rng, 0)
    same, hits = True, 0
    for to in ("coco", "yolo"):
        words = ("export", "labels", "--to", to, "-p", calm, "-o")
        began = time.monotonic()
        killed((*words, scratch / f"calm_{to}"), 0, rng, 0)
        seconds = time.monotonic() - began
        for number in range(-(-kills // 4)):
            folder = scratch / f"{to}{number}"
            hits += killed((*words, folder), 2, rng, seconds, folder)
            same &= contents(folder) == contents(scratch / f"calm_{to}")
            same &= [p.name for p in scratch.iterdir() if p.name.startswith(f".{folder.name}.")] == []
    return hits, same


def of_import(scratch: Path, kills: int, rng: np.random.Generator) -> tuple[int, bool]:
    """Answers of a file to 300 open queries: all are there in the end, none twice."""
    import serve_load

    from labelwise.exchange import json as json_files
    from labelwise.ledger import import_export

    serve_load.make(scratch, 300, 1)
    opened = opening.start(scratch / "project", None)
    queries = opened.project.ledger.open_queries(1)
    given = [(q, Answer(q.id, "background" if q.rank % 2 else "duplicate", who="ann")) for q in queries]
    answers = json_files.write_answers(given, opened.pool, import_export.project_id(opened.project.ledger))
    (scratch / "answers.json").write_bytes(answers)
    opened.project.close()
    hits, same, expected, seconds = 0, True, None, 0.0
    for number in range(1 + -(-kills // 3)):
        folder = scratch / f"p{number}"
        shutil.copytree(scratch / "project", folder)
        words = ("import", scratch / "answers.json", "--from", "json", "-p", folder)
        began = time.monotonic()
        hits += killed(words, 3 if number else 0, rng, seconds)
        seconds = seconds or time.monotonic() - began
        ledger = opening.start(folder, None).project.ledger
        found = (sorted(ledger.verdicts(1).items()), ledger.cost_by_round())
        expected = expected or found
        same &= found == expected and len(found[0]) == 300
        ledger.close()
    return hits, same


def of_compare(scratch: Path, kills: int, rng: np.random.Generator) -> tuple[int, bool]:
    settings = [part for setting in SMALL if not setting.startswith("query") for part in ("-s", setting)]
    settings += ["-s", "budget.per_round=[6]", "-s", "model.weights=none"]
    words = ("compare", "random", "entropy", "--data", "scenes", "--seeds", 1, *settings, "--folder")
    began = time.monotonic()
    killed((*words, scratch / "calm"), 0, rng, 0)
    hits = killed((*words, scratch / "killed"), kills, rng, time.monotonic() - began)
    names = ("random_seed0", "entropy_seed0")
    return hits, all(fingerprint(scratch / "killed" / n) == fingerprint(scratch / "calm" / n) for n in names)


def of_serve(scratch: Path, kills: int, rng: np.random.Generator) -> tuple[int, bool]:
    """While answers come in by HTTP: what was acknowledged is there, nothing is answered twice or left open."""
    import serve_load

    given = argparse.Namespace(queries=60 * kills, people=4, think=0.2, kills=kills, ledger=None)
    given.seed = int(rng.integers(1000))
    found, _, _ = serve_load.load(scratch, given)
    said = [one for answers, _ in found for one in answers]
    kept = serve_load.check(scratch, said, given.queries)
    return kills, not (kept["lost"] or kept["answered_twice"] or kept["unanswered"])


WHAT = {
    "run": of_run,
    "teacher": of_teacher,
    "generation": of_generation,
    "serve": of_serve,
    "import": of_import,
    "export": of_export,
    "compare": of_compare,
}


HEAD = "command,kills,hit_a_living_process,same_end,seconds,seed,commit,machine,python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--what", nargs="*", choices=list(WHAT), default=list(WHAT))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    path = Path(__file__).parent / "results" / "kill.csv"
    rows = path.read_text().splitlines()[1:] if path.exists() else []
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    about = f"{given.seed},{commit.strip()},{platform.machine()} {os.cpu_count()} cores,{platform.python_version()}"
    for what in given.what:
        with tempfile.TemporaryDirectory() as scratch:
            began = time.monotonic()
            hits, same = WHAT[what](Path(scratch), given.kills, np.random.default_rng(given.seed))
            rows.append(f"{what},{given.kills},{hits},{same},{time.monotonic() - began:.0f},{about}")
            print(rows[-1], flush=True)
        path.write_text("\n".join([HEAD, *rows]) + "\n")


if __name__ == "__main__":
    main()
