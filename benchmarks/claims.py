"""The experiments behind docs/claims.md that a machine without a GPU does in minutes: heads on frozen features.

    LABELWISE_DATA=data uv run python benchmarks/claims.py low                  # all its seeds; killed, it continues
    LABELWISE_DATA=data uv run python benchmarks/claims.py teacher shares --seeds 2
    uv run python benchmarks/claims.py low --summary                            # only the tables, from what is there
    LABELWISE_DATA=data uv run python benchmarks/claims.py lambdas --seeds 3    # λ of every class-balanced method
    uv run python benchmarks/claims.py --list

Each set (`claims_sets.py`) is one comparison, as `labelwise compare` makes it, under runs/claims/SET. In
benchmarks/results: claims_SET_runs.csv (a line per method, seed and round) and claims_SET.csv (a line per method,
baseline, quantity and round: mean, standard deviation, paired difference with Student's t and bootstrap intervals at
95 %). Nothing is corrected for many comparisons.

λ is chosen by the document's rule (001, section 4.5.1: the smallest after which the L1 loss does not diminish further)
on round 1 of seeds from 1000 on, at IF 0.1, without a look at any test image; then it is fixed for all sets.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from claims_sets import SETS, Set

from labelwise.files import read_json
from labelwise.project import opening
from labelwise.project.kept_pools import KeptPools
from labelwise.project.round import Round
from labelwise.report.bootstrap import bootstrap
from labelwise.report.comparison import pair
from labelwise.report.reach import pairing, share_needed
from labelwise.report.results import SHARES, RunResult
from labelwise.report.spread import Group, groups, l1_score, spread, values
from labelwise.select import balance_kcenter
from labelwise.select._balance_target import TOLERANCE, target
from labelwise.stages import classification
from labelwise.study import history
from labelwise.study.compare import Comparison, Way

HERE = Path(__file__).parent
CHOICE_SEED = 1000
"""Seeds from here on choose λ; no set uses them."""
TOP = 0.1
"""Share of the pool with the highest scores that the model is asked about (001, Fig. 3.5)."""
QUANTITIES = ("accuracy", "rare_accuracy", "labelled_l1", "picks_l1", "right_of_top")


def comparison(name: str, one: Set, runs: Path, seeds: Sequence[int]) -> Comparison:
    """The comparison of a set; all sets share the frozen features."""
    methods, folder = tuple(way.name for way in one.ways), runs.absolute()
    settings = (*one.settings, f"features.folder={folder / '_features'}")
    return Comparison(folder / name, one.data, methods, tuple(seeds), settings, one.all_data, ways=one.ways)


More = dict[tuple[str, int, int], dict[str, float]]
"""By method, seed and round: what only metrics.json and the stage train know."""


def results(made: Comparison) -> tuple[list[RunResult], More]:
    """Every finished run, and what is known beside."""
    kept, found, more = KeptPools(), list[RunResult](), More()
    for folder in made.projects():
        opened = opening.start(folder, None, kept=kept)
        if opened.project.ledger.stage_done(opened.run.rounds - 1, "evaluate") is not None:
            run = history.run_result(opened, gallery=0)
            found.append(run)
            for one in run.rounds:
                info = opened.project.ledger.stage_done(one.round, "train") or {}
                metrics = read_json(Round(opened, one.round).folder.metrics)
                known = {key: info.get(key) for key in ("pseudo_labels", "pseudo_right")}
                known["teacher_accuracy"] = metrics.get("teacher_accuracy")
                more[run.name, run.seed, one.round] = {k: float(v) for k, v in known.items() if v is not None}
        opened.project.close()
    return found, more


def lines(runs: Sequence[RunResult], more: More) -> Iterator[dict[str, object]]:
    """One line per method, seed and round; shares in per cent."""
    for group in groups(runs):
        tables = {q: table(group, q) for q in QUANTITIES}
        for row, run in enumerate(group.runs):
            for column, one in enumerate(run.rounds):
                line: dict[str, object] = {"row": run.name, "seed": run.seed, "round": one.round}
                line["labels"] = int(sum(one.class_counts_truth.values()))
                line |= {q: rounded(tables[q][row, column]) for q in QUANTITIES}
                own = more.get((run.name, run.seed, one.round), {})
                line["pseudo_labels"] = rounded(own.get("pseudo_labels", np.nan))
                line["pseudo_right"] = rounded(100 * own.get("pseudo_right", np.nan))
                line["teacher_accuracy"] = rounded(100 * own.get("teacher_accuracy", np.nan))
                line["machine_s"] = rounded(sum(one.stage_seconds.values()))
                yield line


def table(group: Group, quantity: str) -> np.ndarray:
    """[seeds, rounds] of a quantity, shares in per cent; NaN where there is none."""
    names = {"accuracy": "quality", "rare_accuracy": "rare_quality"}
    if quantity in names:
        return 100 * values(group, names[quantity])
    out = np.full((len(group.runs), len(group.rounds)), np.nan)
    for row, run in enumerate(group.runs):
        for column, one in enumerate(run.rounds):
            if quantity.endswith("_l1"):
                counts = one.class_counts_picks if quantity == "picks_l1" else one.class_counts_truth
                out[row, column] = l1_score(counts.get(c, 0.0) for c in run.classes)
        if quantity == "right_of_top":
            for found in run.informativeness:
                out[row, group.rounds.index(found.round)] = 100 * found.accuracy[SHARES.index(TOP)]
    return out


def summarise(runs: Sequence[RunResult], more: More, one: Set) -> Iterator[dict[str, object]]:
    """One line per method, baseline, quantity and round, and for the mean of the rounds after the first."""
    by_name = {group.name: group for group in groups(runs)}
    asked = [(way.name, base) for base in one.against for way in one.ways if way.name != base]
    asked += [couple for couple in one.pairs if couple not in asked]
    for name, group in by_name.items():
        own = [base for row, base in asked if row == name and base in by_name]
        for base in own or [""]:
            for quantity in QUANTITIES:
                yield from differences(group, by_name.get(base), quantity)
        if any("teacher_accuracy" in more.get((name, run.seed, 1), {}) for run in group.runs):
            yield from over_teacher(group, more)


def differences(group: Group, base: Group | None, quantity: str) -> Iterator[dict[str, object]]:
    """The lines of one method, one baseline and one quantity, over the seeds that both have."""
    seeds = [s for s in group.seeds if base is None or s in base.seeds]
    a = table(group, quantity)[[group.seeds.index(s) for s in seeds]]
    b = None if base is None else table(base, quantity)[[base.seeds.index(s) for s in seeds]]
    labels = spread(np.array([[sum(r.class_counts_truth.values()) for r in run.rounds] for run in group.runs]))[0]
    for line, columns in by_round(a, b, group.rounds):
        about = {"row": group.name, "against": "" if base is None else base.name, "quantity": quantity}
        if base is not None and quantity == "accuracy" and line["round"] == "mean":
            both = pairing(group, base, "cost_queries")
            share = None if both is None else share_needed(both.own, both.base)
            if share is not None:
                line |= {"share_needed": rounded(share.value), "share_low": rounded(share.low)}
                line |= {"share_high": rounded(share.high)}
        yield about | {"labels": rounded(labels[columns].mean())} | line


def over_teacher(group: Group, more: More) -> Iterator[dict[str, object]]:
    """How far the model with pseudo labels (B) is above its own teacher (A, trained on the answers alone)."""
    own = table(group, "accuracy")[:, 1:]
    known = [
        [more[run.name, run.seed, r].get("teacher_accuracy", np.nan) for r in group.rounds[1:]] for run in group.runs
    ]
    for line, _ in by_round(own, 100 * np.array(known), group.rounds[1:]):
        yield {"row": group.name, "against": "its teacher", "quantity": "accuracy", "labels": ""} | line


def by_round(
    a: np.ndarray, b: np.ndarray | None, rounds: Sequence[int]
) -> Iterator[tuple[dict[str, object], list[int]]]:
    """Mean of a [seeds, rounds], and its paired difference to b; per round, and over the rounds after round 0."""
    there = [k for k in range(len(rounds)) if np.isfinite(a[:, k]).all() and (b is None or np.isfinite(b[:, k]).all())]
    later = [k for k in there if rounds[k]]
    for number, columns in [*((str(rounds[k]), [k]) for k in there), *([("mean", later)] if len(later) > 1 else [])]:
        mine = a[:, columns].mean(axis=1)
        line: dict[str, object] = {"round": number, "seeds": len(mine), "mean": rounded(mine.mean())}
        line["std"] = rounded(mine.std(ddof=1)) if len(mine) > 1 else ""
        if b is not None and len(mine) > 1:
            found = pair(a[:, columns], b[:, columns]).overall
            gap = (a - b)[:, columns].mean(axis=1)
            drawn = bootstrap(lambda rows, gap=gap: gap[rows].mean(axis=1), len(gap))
            line |= {"minus": rounded(found.mean[0]), "t_low": rounded(found.low[0]), "t_high": rounded(found.high[0])}
            line |= {"bootstrap_low": rounded(drawn.low), "bootstrap_high": rounded(drawn.high)}
        yield line, columns


def rounded(value: float) -> float | str:
    """Three decimals; nothing for what is not known."""
    return "" if np.isnan(value) else round(float(value), 3)


def write(path: Path, found: Sequence[dict[str, object]], note: str) -> None:
    """A CSV with its note."""
    columns = list(dict.fromkeys(key for line in found for key in line))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(note)
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(found)


def note_of(name: str, one: Set | None, seeds: Sequence[int]) -> str:
    """What a CSV's figures hold for: command, commit, seeds, machine, versions."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
    )
    cpus = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    cpu = cpus[0].split(":")[-1].strip() if cpus else "unknown CPU"
    out = [f"command: benchmarks/claims.py {name} --seeds {len(seeds)}", f"commit: {commit.stdout.strip()}"]
    if one is not None:
        out += [f"claims: {one.claims}", f"data: {one.data}", f"settings: {'; '.join(one.settings) or 'none'}"]
        out += [f"method {way.name}: {way.recipe} {' '.join(way.settings)}".rstrip() for way in one.ways]
    out += [f"seeds: {', '.join(map(str, seeds))}", f"date: {time.strftime('%Y-%m-%d')}"]
    out += [f"machine: {cpu}, {os.cpu_count()} cores, one thread per run"]
    out += [f"versions: {', '.join(f'{k} {v}' for k, v in history.versions().items())}"]
    return "".join(f"# {line}\n" for line in out)


def markdown(found: Sequence[dict[str, object]], quantity: str = "accuracy") -> str:
    """The table of a set for a page: means per round, and the mean difference to every baseline."""
    chosen = [line for line in found if line["quantity"] == quantity]
    rows = list(dict.fromkeys(str(line["row"]) for line in chosen))
    bases = [b for b in dict.fromkeys(str(line["against"]) for line in chosen) if b]
    numbers = [n for n in dict.fromkeys(str(line["round"]) for line in chosen) if n != "mean"]
    first = [line for line in chosen if line["row"] == rows[0] and line["round"] != "mean"]
    labels = {str(line["round"]): f"{float(str(line['labels'])):.0f}" for line in first}
    out = ["| " + " | ".join(["method", *(labels[n] for n in numbers), *(f"minus {b}" for b in bases)]) + " |"]
    out += ["|---" * (1 + len(numbers) + len(bases)) + "|"]
    for row in rows:
        own = [line for line in chosen if line["row"] == row]
        cells = [next((f"{line['mean']:.2f}" for line in own if line["round"] == n), "") for n in numbers]
        for base in bases:
            line = next((x for x in own if x["against"] == base and x["round"] == "mean" and "minus" in x), None)
            ends = "" if line is None else f"{line['minus']:+.2f} ({line['t_low']:.2f} to {line['t_high']:.2f})"
            cells.append(ends)
        out.append("| " + " | ".join([row, *cells]) + " |")
    return "\n".join(out)


def lambdas(runs: Path, seeds: int, jobs: int) -> None:
    """Prints and writes what λ does in round 1 for each class-balanced method, and the proposed one."""
    names = {"entropy": "entropy_image", "bald": "bald_image", "vaal": "vaal", "kcenter": "coreset_image"}
    ways = tuple(Way(name, name, ("budget.per_round=[300]",)) for name in names.values())
    settings = tuple(x for x in SETS["balance_0.1"].settings if "per_round" not in x)
    chosen = range(CHOICE_SEED, CHOICE_SEED + seeds)
    fixed = Set("λ by the rule of 001, section 4.5.1", "cifar10_frozen", ways, settings, seeds)
    made = comparison("lambdas", fixed, runs, chosen)
    made.run(jobs, lambda _: None)
    found: list[dict[str, object]] = []
    for score, name in names.items():
        for seed in chosen:
            now = Round(opening.start(made.project(name, seed), None), 1)
            if score == "kcenter":
                lams, distance, proposed = kcenter_lambdas(now)
            else:
                said = classification.lambdas(now)
                lams, distance, proposed = said.lams, said.distance, said.proposed
            found += [
                {"score": score, "seed": seed, "lam": lam, "distance": rounded(d), "proposed": proposed}
                for lam, d in zip(lams.tolist(), distance.tolist(), strict=True)
            ]
            print(f"{score}, seed {seed}: λ = {proposed:g}", flush=True)
    write(HERE / "results" / "claims_lambdas.csv", found, note_of("lambdas", fixed, chosen))


def kcenter_lambdas(now: Round) -> tuple[np.ndarray, np.ndarray, float]:
    """The same rule for the greedy algorithm (001, Algorithm 2), whose λ is in units of distance."""
    lams = np.array([0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0])
    detections, features = now.detections(), now.context.features("pool")
    rows = now.scores["image"]
    probs = detections.probs[detections.offsets[rows]]
    annotated = now.ledger.annotation_rows(until_round=now.number - 1)["label"]
    budget = int(now.budget)
    wanted = target(np.bincount(annotated, minlength=len(now.pool.classes)), budget)
    open_, known = features.of(np.asarray(rows)), features.of(np.setdiff1d(np.arange(len(now.pool)), rows))

    def far(lam: float) -> float:
        picks = balance_kcenter.select(open_, known, probs, wanted, budget, lam=lam)
        return float(np.abs(wanted - probs[picks].sum(axis=0)).sum())

    distance, plain = np.array([far(lam) for lam in lams]), far(0.0)
    enough = distance <= distance.min() + TOLERANCE * max(plain - distance.min(), 0)
    return lams, distance, float(lams[np.argmax(enough)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", choices=[*SETS, "lambdas", []])
    parser.add_argument("--seeds", type=int, help="how many, from 0 on [default: the set's own number]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs" / "claims")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--list", action="store_true", help="name the sets")
    given = parser.parse_args()
    if given.list or not given.sets:
        for name, one in SETS.items():
            print(f"{name}: {one.claims}; {len(one.ways)} methods, {one.seeds} seeds")
    for name in given.sets:
        if name == "lambdas":
            lambdas(given.runs, given.seeds or 3, given.jobs)
            continue
        one, began = SETS[name], time.perf_counter()
        made = comparison(name, one, given.runs, range(given.seeds or one.seeds))
        if not given.summary:
            made.run(given.jobs, lambda _: None)
        ran = time.perf_counter()
        runs, more = results(made)
        found = list(summarise(runs, more, one))
        note = note_of(name, one, made.seeds) + ("" if given.summary else f"# wall time: {ran - began:.0f} s\n")
        write(HERE / "results" / f"claims_{name}_runs.csv", list(lines(runs, more)), note)
        write(HERE / "results" / f"claims_{name}.csv", found, note)
        took = f"{ran - began:.0f} s, {time.perf_counter() - ran:.0f} s to read"
        print(f"\n{name}: {one.claims}; {len(made.seeds)} seeds; {took}\n\n{markdown(found)}", flush=True)


if __name__ == "__main__":
    main()
