"""The line that no order of questions may be expected to pass: a greedy oracle on the frozen features of CIFAR-10.

    LABELWISE_DATA=data python benchmarks/oracle_line.py --seeds 3 --runs runs/claims

For each seed the pool of 3,000, the first image and the test part are those of the set `cold` of `claims.py`, whose
projects must be there (--runs). The oracle knows the pool's labels, chooses on a held-back part of the *pool*, and is
evaluated on the test part (`study/greedy_oracle`). About 2 CPU minutes a seed; in benchmarks/results/oracle_line.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from claims import HERE, comparison, note_of, rounded, write
from claims_sets import SETS

from labelwise.project import opening
from labelwise.study.greedy_oracle import logistic, oracle_curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--runs", type=Path, default=Path("runs/claims"))
    given = parser.parse_args()
    one, seeds, found = SETS["cold"], range(given.seeds), list[dict[str, object]]()
    made = comparison("cold", one, given.runs, seeds)
    for seed in seeds:
        context = opening.start(made.project("random_image", seed), None)
        pool, test = context.pool, context.test
        if pool.truth is None or test is None or test.truth is None:
            raise SystemExit("the oracle needs annotated images")
        parts = [
            (context.features(which).of(np.arange(len(of))).astype(float), of.truth.labels)
            for which, of in (("pool", pool), ("test", test))
        ]
        start = np.flatnonzero(np.isin(pool.names, [q.image for q in context.project.ledger.queries(0)]))
        budgets = [int(amount) for amount in context.run.budget.per_round]
        head = logistic(float(context.run.model.settings.get("c", 10.0)))
        curve = oracle_curve(
            *parts, start, budgets, head, candidates=given.candidates, rng=np.random.default_rng([seed, 9])
        )
        for labels, accuracy in zip(curve.labels.tolist(), curve.accuracy.tolist(), strict=True):
            found.append({"seed": seed, "labels": labels, "accuracy": rounded(100 * accuracy)})
        print(f"seed {seed}: {[line['accuracy'] for line in found if line['seed'] == seed]}", flush=True)
        note = note_of("oracle_line", one, range(seed + 1)).replace("claims.py oracle_line", "oracle_line.py")
        write(HERE / "results" / "oracle_line.csv", found, note)


if __name__ == "__main__":
    main()
