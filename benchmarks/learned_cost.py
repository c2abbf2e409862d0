"""How far off are predicted hours after 200 answers: by the published table, and by the table learnt from them?

    uv run python benchmarks/learned_cost.py

Simulated people: 3, each with a speed of their own (log-normal factor of spread 0.35 around a project's factor drawn
between 0.4 and 2.5) and each action with one of its own; an answer takes its actions' seconds times log-normal noise
(spread 0.5, mean 1), and 3 % of answers hold a pause of 5 to 40 minutes. After N answers, split evenly, the hours of
work (pauses apart) of each person's next 1,000 answers are predicted. Three mixes: whole images of a dense set (14
boxes on average), of a sparse one (1.5), box questions. Error: |predicted - worked| / worked of the team, mean of SEEDS
runs, and of a single person.
Rows: published table; learnt (the product); learnt without the last scaling (medians alone); the plain mean of all that
was measured, pauses in it.

Results: benchmarks/results/learned_cost.csv.
"""

from __future__ import annotations

import csv
import platform
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

from labelwise.ask.cost import CostTable, expected_seconds
from labelwise.ask.learned_cost import ACTIONS, STRENGTH, Timing, learn

SEEDS = 40
PEOPLE, AHEAD, NOISE, PAUSES = ("ann", "ben", "cem"), 1000, 0.5, 0.03
AMOUNTS = (20, 50, 100, 200, 400)
MIXES = ("images, dense", "images, sparse", "boxes")


def work(mix: str, n: int, rng: np.random.Generator) -> list[dict[str, int]]:
    """What n answers consist of."""
    if mix == "boxes":
        kinds = [{"verify": 1}, {"verify": 1, "adjust": 1}, {"reject": 1}, {"duplicate": 1}]
        return [kinds[k] for k in rng.choice(4, n, p=[0.35, 0.2, 0.4, 0.05])]
    boxes = rng.poisson(14 if mix.endswith("dense") else 1.5, n)
    return [{"inspect": 1, "draw": int(k)} for k in boxes]


def seconds(done: list[dict[str, int]], table: CostTable, rng: np.random.Generator) -> np.ndarray:
    """How long they take, pauses apart."""
    noise = np.exp(rng.normal(-(NOISE**2) / 2, NOISE, len(done)))
    return np.array([expected_seconds(one, table) for one in done]) * noise


def errors(mix: str, n: int, seed: int) -> dict[str, tuple[float, float]]:
    """Relative error of the team's hours, and the mean one of a person's, of each way to predict."""
    rng, published = np.random.default_rng([seed, n, MIXES.index(mix)]), CostTable()
    project = np.exp(rng.uniform(np.log(0.4), np.log(2.5)))
    truth = {}
    for who in PEOPLE:
        own = np.exp(rng.normal(0, [0.25] * len(ACTIONS))) * np.exp(rng.normal(0, 0.35)) * project
        truth[who] = CostTable(**{f.name: getattr(published, f.name) * own[k] for k, f in enumerate(fields(CostTable))})
    timings = []
    for k, who in enumerate(PEOPLE):
        done = work(mix, n // len(PEOPLE) + (k < n % len(PEOPLE)), rng)
        taken = seconds(done, truth[who], rng)
        taken += np.where(rng.random(len(done)) < PAUSES, rng.uniform(300, 2400, len(done)), 0)
        timings += [Timing(who, one, float(s)) for one, s in zip(done, taken, strict=True)]
    learned = learn(timings, published)
    medians = learn(timings, published, scale=False)
    mean = float(np.mean([one.seconds for one in timings]))
    found: dict[str, list[float]] = {"published table": [], "learnt": [], "medians alone": [], "mean, with pauses": []}
    worked = []
    for who in PEOPLE:
        done = work(mix, AHEAD, rng)
        worked.append(float(seconds(done, truth[who], rng).sum()))
        tables = {"published table": published, "learnt": learned.table(who), "medians alone": medians.table(who)}
        for name, table in tables.items():
            found[name].append(sum(expected_seconds(one, table) for one in done))
        found["mean, with pauses"].append(mean * AHEAD)
    team = {name: abs(sum(each) - sum(worked)) / sum(worked) for name, each in found.items()}
    alone = {n: float(np.mean(np.abs(np.array(e) - worked) / np.array(worked))) for n, e in found.items()}
    return {name: (team[name], alone[name]) for name in found}


def main() -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    more = {"seeds": SEEDS, "strength": STRENGTH, "command": "benchmarks/learned_cost.py"}
    more |= {"commit": commit.stdout.strip(), "machine": f"{platform.machine()}, 2 cores"}
    more |= {"versions": f"python {platform.python_version()}, numpy {np.__version__}"}
    rows = []
    for mix in MIXES:
        for n in AMOUNTS:
            each = [errors(mix, n, seed) for seed in range(SEEDS)]
            for name in each[0]:
                team, alone = 100 * np.array([one[name] for one in each]).T
                half = 1.96 * team.std(ddof=1) / SEEDS**0.5
                row = {"mix": mix, "answers": n, "by": name, "team_error_percent": round(float(team.mean()), 1)}
                row |= {"plus_minus": round(float(half), 1), "person_error_percent": round(float(alone.mean()), 1)}
                rows.append(row | more)
            sys.stdout.write(f"{[list(row.values())[:6] for row in rows[-4:]]}\n")
    with (Path(__file__).parent / "results" / "learned_cost.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
