"""What training on a mended set gives: faults put into labels, the most doubtful ones looked at, a detector trained.

    LABELWISE_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/mended.py bccd aquarium
    LABELWISE_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/mended.py bccd --detector trained --seeds 0 1 2 \\
        --arms faulty clean mended_faults --set data.image_size_px=192 train.steps=160

The faults are those of `review.py`: a tenth of the boxes, a third each removed, moved, swapped (of bccd without the 12
images in which no red cell is boxed). Of the ranking of `review/` the first so many are looked at by somebody who knows
the truth: a faulty label gets its true box and class; where a detection is of an object without a label, or beside its
label, the object is drawn (of a moved one the wrong label then goes, once it is looked at itself). `doubts`: the
ranking is of the frozen detector (out of fold), or of the recipe's detector (`--doubts trained`, 3 folds).

Arms: `faulty`, `clean`; `mended_N`: the first N looked at, `mended_faults`: as many as there are faults;
`random_faults`: the same number of labels at random. `found`: the share of the faults that are mended. AP50 on the test
split, of the frozen detector or of the recipe's. Rows are added to what --out has.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
import review
from taught import Bed, labels_of, paired, read, write

from labelwise.review._in_turn import in_turn
from labelwise.types.overlap import iou_matrix


def bed_rows(bed: Bed) -> np.ndarray:
    """The images whose labels are taken for clean."""
    pool = bed.frozen.pool
    if bed.name != "bccd":
        return np.arange(len(pool))
    red = pool.truth.labels == pool.classes.index("RBC")
    return np.flatnonzero(np.bincount(pool.truth.image[red], minlength=len(pool)))


class Case:
    """Faulty labels of one seed, and what becomes of them as they are looked at."""

    def __init__(self, bed: Bed, seed: int) -> None:
        pool, self.images = bed.frozen.pool, bed_rows(bed)
        size, rng = np.stack([pool.width_px, pool.height_px], axis=1), np.random.default_rng([seed, 3])
        given, keep, wrong, removed, moved = review.faulty(pool.truth, size, len(pool.classes), rng)
        some = np.isin(given.image, self.images)
        self.pool, self.truth, self.given = pool, pool.truth, given
        self.row, self.wrong = np.where(some, keep, -1), wrong & some
        self.lost = np.concatenate([removed, moved])
        self.lost = self.lost[np.isin(pool.truth.image[self.lost], self.images)]
        self.moved = np.isin(np.arange(len(pool.truth)), moved)
        self.faults = int(self.wrong.sum()) + int((~self.moved[self.lost]).sum())

    def labels(self, rows: np.ndarray, extra: np.ndarray):
        """The labels `rows` as given, and the true objects `extra`."""
        image = np.append(self.given.image[rows], self.truth.image[extra])
        xyxy = np.concatenate([self.given.xyxy[rows], self.truth.xyxy[extra]])
        return labels_of(
            self.pool, image, xyxy, np.append(self.given.labels[rows], self.truth.labels[extra]), self.images
        )

    def faulty(self):
        return self.labels(np.flatnonzero(self.row >= 0), np.zeros(0, np.int64))

    def clean(self):
        return self.labels(np.zeros(0, np.int64), np.flatnonzero(np.isin(self.truth.image, self.images)))

    def mended(self, found, kind: np.ndarray, row: np.ndarray):
        """The labels once these doubts (kind, row of labels or of detections) were looked at, and the faults mended."""
        gone, drawn = set(), set()
        for what, k in zip(kind.tolist(), row.tolist(), strict=True):
            if what == 0:
                here = self.lost[self.truth.image[self.lost] == found.image[k]]
                iou = iou_matrix(found.boxes[[k]].astype(float), self.truth.xyxy[here].astype(float))[0]
                drawn |= {int(here[iou.argmax()])} if len(here) and iou.max() >= 0.5 else set()
            elif self.wrong[k]:
                gone.add(k)
                drawn.add(int(self.row[k]))
        rows = np.setdiff1d(np.flatnonzero(self.row >= 0), np.array(sorted(gone), np.int64))
        return self.labels(rows, np.array(sorted(drawn), np.int64)), len(drawn)

    def ranking(self, found) -> tuple[np.ndarray, np.ndarray]:
        """Kind and row of all that is doubtful, a label once."""
        doubts, _ = review.doubts_of(self.given, found)
        kind, row = in_turn([np.where(np.isin((found if k == 0 else self.given).image, self.images), doubts[name], 0)
                             for k, name in enumerate(review.KINDS)])  # fmt: skip
        key = np.where(kind == 0, -1 - np.arange(len(row)), row)
        once = np.sort(np.unique(key, return_index=True)[1])
        return kind[once], row[once]


def rows_of(bed: Bed, detector: str, doubts: str, seed: int, looks: list[int], wanted: list[str]) -> list[dict]:
    case, began = Case(bed, seed), time.process_time()
    found = bed.held_back(case.faulty(), seed) if doubts == "frozen" else bed.trained_held_back(case.faulty(), seed)
    (kind, row), n = case.ranking(found), case.faults
    pick = np.random.default_rng([seed, 8]).permutation(np.flatnonzero(case.row >= 0))[:n]
    arms = {"faulty": (0, case.faulty(), 0), "clean": (0, case.clean(), n)}
    for many in [*looks, n]:
        arms["mended_faults" if many == n else f"mended_{many}"] = (many, *case.mended(found, kind[:many], row[:many]))
    arms["random_faults"] = (n, *case.mended(found, np.ones(n, np.int64), pick))
    seconds, made = time.process_time() - began, []
    for name, (many, known, mended) in arms.items():
        if wanted and name not in wanted:
            continue
        ap50 = bed.frozen_ap50(known) if detector == "frozen" else bed.trained_ap50(known, seed)
        made.append({
            "bed": bed.name, "detector": detector, "doubts": doubts, "seed": seed, "labels": name, "looked_at": many,
            "faults": n, "found": f"{100 * mended / n:.1f}", "ap50": f"{ap50:.2f}", "doubts_cpu_s": f"{seconds:.1f}",
        })  # fmt: skip
        print(made[-1], flush=True)
    return made


def table(rows: list[dict]) -> None:
    """Means, and paired differences with the faulty labels."""
    for key in dict.fromkeys((r["bed"], r["detector"], r["doubts"]) for r in rows):
        some = [r for r in rows if (r["bed"], r["detector"], r["doubts"]) == key]
        reached = {name: {r["seed"]: float(r["ap50"]) for r in some if r["labels"] == name}
                   for name in dict.fromkeys(r["labels"] for r in some)}  # fmt: skip
        for name, own in reached.items():
            both = sorted(own.keys() & reached["faulty"].keys())
            mean, low, high = paired([own[k] for k in both], [reached["faulty"][k] for k in both])
            found = np.mean([float(r["found"]) for r in some if r["labels"] == name])
            line = f"{name:14} faults found {found:5.1f} AP50 {np.mean(list(own.values())):5.2f}"
            print(*key, line, f"- faulty {mean:+.2f} ({low:+.2f} to {high:+.2f}), {len(both)} seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("beds", nargs="*", choices=list(review.SETS), help="none: only the table of what --out has")
    parser.add_argument("--detector", choices=("frozen", "trained"), default="frozen")
    parser.add_argument("--doubts", choices=("frozen", "trained"), default="frozen")
    parser.add_argument("--arms", nargs="*", default=[], help="none: all")
    parser.add_argument("--looks", type=int, nargs="*", default=[100])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--set", nargs="+", default=[], help="settings of the detector that is trained")
    parser.add_argument("--work", type=Path, default=Path("runs/taught"), help="where projects and features are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mended.csv"))
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    for name in args.beds:
        bed = Bed(name, args.work, tuple(args.set))
        for seed in args.seeds:
            rows = rows_of(bed, args.detector, args.doubts, seed, args.looks, args.arms)
            own = ("bed", "detector", "doubts", "seed", "labels")
            new = {tuple(str(r[k]) for k in own) for r in rows}
            write(args.out, [r for r in read(args.out) if tuple(r[k] for k in own) not in new] + rows)
    table(read(args.out))


if __name__ == "__main__":
    main()
