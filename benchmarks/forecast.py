"""Do the intervals of a forecast hold, and what does each stop rule save or lose? A replay over stored curves.

    uv run python benchmarks/forecast.py

Every run of a study in benchmarks/results with four rounds or more is cut after 3, 4, ... rounds and forecast; the
rounds that were cut off, up to three times the cost, tell whether the interval holds. Costs are annotation seconds
where the study has them, else labels. Of a study at most MOST forecasts are drawn (seed 0); a study counts as one.

Nothing is reported on the curves that it was set on: a family of studies (one data set and kind of model) is forecast
with the prior of all the other families (PRIORS; `--tune` sets them anew). The prior of the product is that of all but
"roads", which were not there yet when it was set: they are forecast with it. Tried: a prior of AP50 alone (of the other
families with AP50, `--tune`, 60 steps): bccd's ranges, too narrow already, held in 49 and 69 %.
`--families`: only these; the rows of the others are what the CSV files have.
Beside it: least squares with the rounds drawn again (residual bootstrap), of the same curves.

Stop rules: a forecast's `trend` below a gain with a confidence; beside it patience: the last one or two rounds each
raised the measured quality by less. `too_early`: of the stops, those whose next round would have raised the mean of all
seeds by the gain or more. Simulated runs that level off show what stored runs of 4 to 8 rounds cannot.

Results: forecast.csv (coverage; interval: runs drawn again), forecast_stop.csv (stop rules).
"""

from __future__ import annotations

import argparse
import csv
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import scipy
from scipy import optimize

from labelwise.report import forecast, outlook
from labelwise.report.forecast import ENOUGH, FURTHEST, Prior

RESULTS = Path(__file__).parent / "results"
FAMILIES = {
    "cifar10, frozen features": (
        *("claims_low_runs", "claims_middle_runs", "claims_threshold_runs", "claims_teacher_runs"),
        *("claims_cold_runs", "claims_tail_runs", "claims_balance_0.1_runs"),
    ),
    "cifar10, trained": (
        *("images_cifar10", "features_scratch_cifar10", "features_simsiam_cifar10"),
        *("balance_if0.1_cifar10", "balance_if0.3_cifar10"),
    ),
    "fod_a": ("fod_a_frozen_runs",),
    "bccd": ("methods_bccd", "ablation_bccd"),
    "scenes": ("methods_scenes", "ablation_scenes"),
    "patrol": ("patrol",),
    "roads": ("video_curves",),
}
"""Studies of one data set and kind of model: what is set on one of them is not reported on another."""
PRIORS = {
    "cifar10, frozen features": Prior(0.088, 0.059, 0.012, 0.021, 1.0),
    "cifar10, trained": Prior(0.085, 0.061, 0.011, 0.023, 1.0),
    "fod_a": Prior(0.08, 0.06, 0.011, 0.024, 1.0),
    "bccd": Prior(0.08, 0.065, 0.01, 0.016, 1.0),
    "scenes": Prior(0.094, 0.051, 0.0097, 0.023, 1.0),
    "patrol": Prior(0.073, 0.053, 0.0082, 0.021, 1.0),
    "roads": forecast.PRIOR,
}
"""By `--tune`: the prior for each family, set on all the others."""
MOST = 400
SEEDS_OF_MEAN = 4
LEVELS = (0.8, 0.95)
GAINS, CONFIDENCES = (0.25, 0.5, 1.0, 2.0), (0.8, 0.9, 0.95)
Curve = tuple[np.ndarray, np.ndarray]


@cache
def curves(study: str) -> dict[tuple[str, str], Curve]:
    """Cost and quality (a fraction) of every run with more rounds than a forecast needs."""
    lines = (RESULTS / f"{study}.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    quality = next(name for name in ("AP50", "ap50", "accuracy") if name in rows[0])
    cost = next(name for name in ("labels", "annotation_s", "seconds") if name in rows[0])
    found = defaultdict(list)
    for row in rows:
        found[row["row"], row["seed"]].append((float(row[cost]), float(row[quality]) / 100))
    kept = {}
    for key, points in found.items():
        x, y = np.array(sorted(points)).T
        rising = np.append(True, np.diff(x) > 0)  # a round that asked nothing is none
        if rising.sum() > ENOUGH:
            kept[key] = x[rising], y[rising]
    return kept


def cuts(curve: Curve) -> Iterator[tuple[int, int]]:
    """How many rounds are known, and which later one is forecast."""
    x = curve[0]
    for n in range(ENOUGH, len(x)):
        yield from ((n, k) for k in range(n, len(x)) if x[k] <= FURTHEST * x[n - 1])


@dataclass(frozen=True)
class Outcome:
    """One forecast: which run it is of, how many rounds ahead, the truth, the middle, and the two intervals."""

    run: object
    ahead: int
    truth: float
    middle: float
    intervals: tuple[tuple[float, float], ...]


def own(prior: Prior):
    def method(x: np.ndarray, y: np.ndarray, at: float) -> tuple[float, ...]:
        value = forecast.fitted(x, y, prior).value(at)
        return value.quantile(0.5), *(value.interval(level) for level in LEVELS)  # type: ignore[return-value]

    return method


def least_squares(x: np.ndarray, y: np.ndarray, at: float) -> tuple[float, ...]:
    """The shape of least squared error, fitted to resampled residuals 400 times, plus a residual."""
    u = np.append(x, at) / x[-1]
    designs = np.stack([np.ones((len(forecast.shapes(u)), len(u))), forecast.shapes(u)], axis=2)
    solve = np.linalg.pinv(designs[:, :-1])
    fit = np.einsum("sij,sjk,k->si", designs[:, :-1], solve, y)
    best = int(((fit - y) ** 2).sum(axis=1).argmin())
    rest = (y - fit[best]) * np.sqrt(len(y) / (len(y) - 2))
    rng = np.random.default_rng(0)
    drawn = fit[best] + rng.choice(rest, (400, len(y)))
    weights = np.einsum("sij,bj->bsi", solve, drawn)
    errors = ((np.einsum("sij,bsj->bsi", designs[:, :-1], weights) - drawn[:, None]) ** 2).sum(axis=2)
    row = errors.argmin(axis=1)
    ahead = np.einsum("bj,bj->b", designs[row, -1], weights[np.arange(400), row]) + rng.choice(rest, 400)
    ends = [tuple(np.quantile(ahead, [(1 - level) / 2, (1 + level) / 2])) for level in LEVELS]
    return float(np.median(ahead)), *ends  # type: ignore[return-value]


def some(outcomes: list[tuple], rng: np.random.Generator) -> list[tuple]:
    return [outcomes[k] for k in rng.permutation(len(outcomes))[:MOST]]


def of_runs(study: str, method) -> list[Outcome]:
    """Forecasts of single runs: what will be measured."""
    found, rng = curves(study), np.random.default_rng(0)
    out = []
    for key, n, k in some([(key, n, k) for key, curve in found.items() for n, k in cuts(curve)], rng):
        x, y = found[key]
        middle, *ends = method(x[:n], y[:n], float(x[k]))
        out.append(Outcome(key, k - n + 1, float(y[k]), middle, tuple(ends)))
    return out


def tables(study: str) -> dict[str, Curve]:
    """Per row cost [rounds] and quality [seeds, rounds] of the seeds that have all rounds."""
    by_row = defaultdict(list)
    for (row, _), curve in curves(study).items():
        by_row[row].append(curve)
    out = {}
    for row, listed in by_row.items():
        rounds = max(len(x) for x, _ in listed)
        whole = [one for one in listed if len(one[0]) == rounds]
        out[row] = np.mean([x for x, _ in whole], axis=0), np.stack([y for _, y in whole])
    return out


def of_means(study: str, prior: Prior) -> list[Outcome]:
    """Forecasts of the mean of SEEDS_OF_MEAN seeds, as `compare` reports it."""
    rng, tasks = np.random.default_rng(0), []
    for row, (x, y) in tables(study).items():
        for first in range(0, len(y) - SEEDS_OF_MEAN + 1, SEEDS_OF_MEAN):
            tasks += [(row, x, y[first : first + SEEDS_OF_MEAN], n, k) for n, k in cuts((x, y[0]))]
    out = []
    for row, x, y, n, k in [tasks[i] for i in rng.permutation(len(tasks))[: MOST // 8]]:
        rounds = outlook.Rounds("boxes", np.tile(x[:n], (len(y), 1)), y[:, :n])
        value = outlook.mixed([fit.value(float(x[k])) for fit in rounds.fits(prior)])
        ends = tuple(value.interval(level) for level in LEVELS)
        out.append(Outcome(row, k - n + 1, float(y[:, k].mean()), value.quantile(0.5), ends))
    return out


def of_gains(study: str, prior: Prior, which: str = "gain") -> list[Outcome]:
    """The gain of the curve itself: forecast from one run, held against the mean of at least 8 seeds of its row."""
    rng, tasks = np.random.default_rng(0), []
    for row, (x, y) in tables(study).items():
        if len(y) >= 8:
            tasks += [(row, x, y, seed, n, k) for seed in range(len(y)) for n, k in cuts((x, y[0]))]
    out = []
    for row, x, y, seed, n, k in some(tasks, rng):
        gain = getattr(forecast.fitted(x[:n], y[seed, :n], prior), which)(float(x[k]))
        ends = tuple(gain.interval(level) for level in LEVELS)
        truth = float((y[:, k] - y[:, n - 1]).mean())
        out.append(Outcome((row, seed), k - n + 1, truth, gain.quantile(0.5), ends))
    return out


def coverage(outcomes: list[Outcome]) -> dict[str, float]:
    """Shares of the intervals that hold, in per cent; of the 80 % one with an interval, the runs drawn again."""
    holds = np.array([[low <= one.truth <= high for low, high in one.intervals] for one in outcomes])
    names = sorted({one.run for one in outcomes}, key=str)
    run = np.array([names.index(one.run) for one in outcomes])
    rng, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[run]
        drawn.append(np.average(holds[:, 0], weights=times) if times.any() else np.nan)
    low, high = 100 * np.nanquantile(drawn, [0.025, 0.975])
    width = np.mean([one.intervals[0][1] - one.intervals[0][0] for one in outcomes])
    error = np.mean([abs(one.truth - one.middle) for one in outcomes])
    found = {"forecasts": len(outcomes), "runs": len(names), "holds_80": 100 * holds[:, 0].mean(), "low": low}
    found |= {"high": high, "holds_95": 100 * holds[:, 1].mean(), "width_80": 100 * width, "error": 100 * error}
    return {name: round(float(value), 1) for name, value in found.items()}


def stops(curve: Curve, rule) -> int:
    """After how many rounds a run stops; all of them if it never does."""
    x, y = curve
    return next((n for n in range(ENOUGH, len(x)) if rule(x[: n + 1], y[:n])), len(x))


@cache
def _below(x: tuple[float, ...], y: tuple[float, ...], prior: Prior) -> dict[float, float]:
    gain = forecast.fitted(np.array(x[:-1]), np.array(y), prior).trend(x[-1])
    return {least: gain.below(least / 100) for least in GAINS}


def by_forecast(gain_below: float, confidence: float, prior: Prior):
    def rule(x: np.ndarray, y: np.ndarray) -> bool:
        return bool(x[-1] <= FURTHEST * x[-2]) and _below(tuple(x), tuple(y), prior)[gain_below] >= confidence

    return rule


def by_patience(gain_below: float, patience: int):
    """Stops when the last `patience` rounds each raised the measured quality by less."""
    return lambda x, y: bool((100 * np.diff(y)[-patience:] < gain_below).all()) and len(y) > patience


def replay(study: str, prior: Prior) -> Iterator[dict[str, object]]:
    """What every rule would have saved and lost; losses are held against the mean of the row's seeds."""
    found, means = curves(study), {row: y.mean(axis=0) for row, (_, y) in tables(study).items()}
    rules = {f"forecast {c:g}": {g: by_forecast(g, c, prior) for g in GAINS} for c in CONFIDENCES}
    rules |= {f"patience {p}": {g: by_patience(g, p) for g in GAINS} for p in (1, 2)}
    rng = np.random.default_rng(0)
    keys = [key for key, (x, _) in found.items() if len(x) == len(means[key[0]])]
    keys = [keys[k] for k in rng.permutation(len(keys))[: MOST // 4]]
    for name, of_gain in rules.items():
        for gain, rule in of_gain.items():
            ends = {key: stops(found[key], rule) for key in keys}
            stopped = [key for key in keys if ends[key] < len(found[key][0])]
            saved = [1 - found[key][0][ends[key] - 1] / found[key][0][-1] for key in keys]
            lost = [100 * (means[key[0]][-1] - means[key[0]][ends[key] - 1]) for key in keys]
            early = [100 * np.diff(means[key[0]])[ends[key] - 1] >= gain for key in stopped]
            losses = [loss for loss, key in zip(lost, keys, strict=True) if key in stopped]
            yield {
                "rule": name,
                "gain_below": gain,
                "runs": len(keys),
                "stopped": round(100 * len(stopped) / len(keys), 1),
                "saved": round(100 * float(np.mean(saved)), 1),
                "lost_points": round(float(np.mean(lost)), 2),
                "lost_points_if_stopped": round(float(np.mean(losses)), 2) if stopped else "",
                "too_early": round(100 * float(np.mean(early)), 1) if stopped else "",
            }


def log_score(study: str, prior: Prior, amount: int = 30) -> float:
    """Mean logarithm of the density at what was measured."""
    found, rng = curves(study), np.random.default_rng(0)
    tasks = [(key, n, k) for key, curve in found.items() for n, k in cuts(curve)]
    each = []
    for key, n, k in [tasks[i] for i in rng.permutation(len(tasks))[:amount]]:
        x, y = found[key]
        value = forecast.fitted(x[:n], y[:n], prior).value(float(x[k]))
        each.append(np.log(value.weight @ (np.exp(-0.5 * ((y[k] - value.mean) / value.std) ** 2) / value.std) + 1e-12))
    return float(np.mean(each))


def tune(names: list[str]) -> None:
    """For these families (the empty name: for none) the prior with the best log score on all others, each as one."""
    for held in names:
        families = [listed for name, listed in FAMILIES.items() if name != held]

        def loss(v: np.ndarray, families: list[tuple[str, ...]] = families) -> float:
            prior = Prior(float(v[0]), *map(float, np.exp(v[1:])))
            return -float(np.mean([np.mean([log_score(study, prior, 20) for study in listed]) for listed in families]))

        start = np.array([0.08, *np.log([0.058, 0.012, 0.02, 1.0])])
        simplex = np.concatenate([start[None], start + np.diag([0.02, 0.3, 0.5, 0.5, 0.3])])
        options = {"maxfev": 60, "initial_simplex": simplex}
        found = optimize.minimize(loss, start, method="Nelder-Mead", options=options)
        prior = [float(f"{v:.2g}") for v in (found.x[0], *np.exp(found.x[1:]))]
        sys.stdout.write(f"    {held!r}: Prior{tuple(prior)},  # log score {-found.fun:.3f}\n")
        sys.stdout.flush()


def write(name: str, rows: list[dict[str, object]]) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    command = " ".join(["benchmarks/forecast.py", *sys.argv[1:]])
    more = {"seed": 0, "command": command, "commit": commit.stdout.strip()}
    more |= {"machine": f"{platform.machine()}, 2 cores", "versions": about}
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in more]
    with (RESULTS / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, *more], restval="")
        writer.writeheader()
        writer.writerows([more | row for row in rows])


def before(name: str, families: list[str]) -> list[dict[str, object]]:
    """The rows of a CSV file that are of other families; none where all are computed."""
    if set(families) == set(FAMILIES):
        return []
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file) if row["family"] in set(FAMILIES) - set(families)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*FAMILIES, ""]
    parser.add_argument("--tune", nargs="*", choices=names, help="set the priors for these (all) anew, and print them")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    args = parser.parse_args()
    if args.tune is not None:
        tune(args.tune or names)
        return
    rows, of_others = list[dict[str, object]](), before("forecast.csv", args.families)
    for kind, make in KINDS.items():
        kept = [row for row in of_others if row["what"] == kind]
        for family in FAMILIES:
            if family in args.families:
                rows += of_family(family, kind, make)
            rows += [row for row in kept if row["family"] == family]
        of_families = [row for row in rows if row["what"] == kind and row["study"] == "mean of its studies"]
        mean = mean_of([{name: float(str(row[name])) for name in MEANS} for row in of_families])
        rows.append({"family": "mean of the families", "study": "", "what": kind, "horizon": "all"} | mean)
        sys.stdout.write(f"{rows[-1]}\n")
    write("forecast.csv", rows)
    write_stops(args.families)


KINDS = {
    "labelwise": lambda s, prior: of_runs(s, own(prior)),
    "least squares, bootstrap over rounds": lambda s, _: of_runs(s, least_squares),
    f"labelwise, mean of {SEEDS_OF_MEAN} seeds": of_means,
    "labelwise, gain": of_gains,
    "labelwise, trend (a stop looks at it)": lambda s, prior: of_gains(s, prior, "trend"),
}
MEANS = ("forecasts", "runs", "holds_80", "holds_95", "width_80", "error")


def of_family(family: str, kind: str, make) -> list[dict[str, object]]:
    """The coverage of every study, and their mean."""
    rows, each = list[dict[str, object]](), []
    for study in FAMILIES[family]:
        outcomes = make(study, PRIORS[family])
        parts = {"all": outcomes, "next round": [one for one in outcomes if one.ahead == 1]}
        name = {"family": family, "study": study, "what": kind}
        rows += [name | {"horizon": horizon} | coverage(part) for horizon, part in parts.items() if part]
        each += [coverage(outcomes)] if outcomes else []
    mean = {"family": family, "study": "mean of its studies", "what": kind, "horizon": "all"}
    return rows + ([mean | mean_of(each)] if each else [])


def mean_of(parts: list[dict[str, float]]) -> dict[str, object]:
    """The mean of coverages, and the sum of what they are of."""
    names = ("holds_80", "holds_95", "width_80", "error")
    found: dict[str, object] = {name: sum(one[name] for one in parts) for name in ("forecasts", "runs")}
    return found | {name: round(float(np.mean([one[name] for one in parts])), 1) for name in names}


def plateaus() -> list[dict[str, object]]:
    """Runs of 24 equal rounds that rise by 50 points and level off (exponentially, over 2 or 4 rounds; 40 seeds)."""
    found = []
    for noise, pace in ((0.002, 2), (0.005, 2), (0.005, 4), (0.01, 4)):
        x = 60.0 * np.arange(1, 25)
        true = 0.8 - 0.5 * np.exp(-np.arange(1, 25) / pace)
        drawn = [true + np.random.default_rng(seed).normal(0, noise, 24) for seed in range(40)]
        rules = {"forecast 0.95": by_forecast(0.5, 0.95, forecast.PRIOR), "patience 2": by_patience(0.5, 2)}
        for name, rule in rules.items():
            ends = np.array([stops((x, y), rule) for y in drawn])
            row = {"family": "simulated", "study": f"levels off over {pace} rounds, noise {100 * noise:g} points"}
            row |= {"rule": name, "gain_below": 0.5, "runs": 40, "stopped": round(100 * float((ends < 24).mean()), 1)}
            row |= {"saved": round(100 * float((1 - ends / 24).mean()), 1)}
            row |= {"lost_points": round(100 * float((true[-1] - true[ends - 1]).mean()), 2)}
            early = 100 * np.diff(true)[ends[ends < 24] - 1] >= 0.5
            found.append(row | {"too_early": round(100 * float(early.mean()), 1) if len(early) else ""})
    return found


def write_stops(families: list[str]) -> None:
    found = plateaus()
    sys.stdout.write("\n".join(map(str, found)) + "\n")
    found += before("forecast_stop.csv", families)
    for family in families:
        for study in FAMILIES[family]:
            found += [{"family": family, "study": study} | row for row in replay(study, PRIORS[family])]
    rules = [(str(row["rule"]), float(str(row["gain_below"]))) for row in found]
    real = [key for key, row in zip(rules, found, strict=True) if row["family"] != "simulated"]
    for key in dict.fromkeys(real):
        parts = [row for row, one in zip(found, rules, strict=False) if one == key]
        mean: dict[str, object] = {"family": "mean of the families", "study": "", "rule": key[0], "gain_below": key[1]}
        for name in ("runs", "stopped", "saved", "lost_points", "lost_points_if_stopped", "too_early"):
            by_family = [[float(r[name]) for r in parts if r["family"] == f and r[name] != ""] for f in FAMILIES]
            known = [np.sum(one) if name == "runs" else np.mean(one) for one in by_family if one]
            mean[name] = round(float(np.sum(known) if name == "runs" else np.mean(known)), 2) if known else ""
        found.append(mean)
        sys.stdout.write(f"{mean}\n")
    write("forecast_stop.csv", found)


if __name__ == "__main__":
    main()
