"""What training on each merge of several people's answers gives: AP50 on bccd, accuracy on CIFAR-10.

    LABELWISE_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/consensus_training.py bccd_frozen cifar10_frozen
    LABELWISE_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/consensus_training.py bccd_retinanet \\
        --opinions 2 --seeds 0 1 2 --arms first:hard dawid_skene_model:soft truth:hard \\
        --set data.image_size_px=192 train.steps=160

The people, their errors and the rules are those of `consensus.py`. All arms of a seed and of a number of opinions have
the same answers. As many answers are bought whatever their number is: with 2 opinions half as many images as with one.

`bccd_*`: everybody annotates whole images (trainval without the 12 images that have no red cell boxed); the model that
CROWDLAB and `dawid_skene_model` listen to is the frozen detector, out of fold, on the first answers. Trained: the
frozen detector (recipe bccd+frozen), or the recipe's RetinaNet from the start. AP50 on the test split.
`cifar10_frozen`: 2,000 answers on classes of images; logistic regression (`models/head.py`, c = 10) on the features of
`consensus.py` (frozen MobileNetV2 at 64 px, here 128 components of length 1), accuracy on 1,000 test images.

Rules: `first`: as if nobody else had been asked; `majority`, `dawid_skene` (people alone), `dawid_skene_model`,
`crowdlab`; `truth`: what is true of the same images; `first_more`: the same number of answers, each on an image of its
own (of bccd at most all there are), `truth_more`: what is true of these. `weights`: `soft`, a class weighs as much in
training as its posterior says (`w_cls`), or `hard`, 1; of CIFAR-10 also `scaled`, the same with a mean of 1, since
smaller weights regularise more. Rows are added to what --out has.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import consensus
import numpy as np
from taught import Bed, labels_of, paired, read, write

from labelwise import catalog
from labelwise.merge._existence import calibrated
from labelwise.merge._items import conclude, items_of
from labelwise.merge._people import people
from labelwise.project import consensus as merging
from labelwise.types import Labels, Opinions

ANSWERS, COLUMNS = 280, 128
BEDS = ("bccd_frozen", "bccd_retinanet", "cifar10_frozen")
QUALITY = ("dawid_skene", {})
KEY = ("bed", "opinions", "rule", "weights")


def first_answers(pool, said, chosen: np.ndarray) -> Labels:
    """What the first answer to every image says."""
    first = np.unique(said.query, return_index=True)[1]
    keep = np.isin(said.owner, first)
    return labels_of(pool, chosen[said.query[said.owner[keep]]], said.xyxy[keep], said.label[keep], chosen)


def true_labels(pool, chosen: np.ndarray) -> Labels:
    """What is true of some images."""
    keep = np.isin(pool.truth.image, chosen)
    return labels_of(pool, pool.truth.image[keep], pool.truth.xyxy[keep], pool.truth.labels[keep], chosen)


def boxes_arms(bed: Bed, seed: int, many: int) -> dict[tuple[str, str], Labels]:
    """Per (rule, weights) the labels of one seed."""
    pool = bed.frozen.pool
    rng, red = np.random.default_rng([seed, many, 2]), pool.classes.index("RBC")
    there = np.flatnonzero(np.bincount(pool.truth.image[pool.truth.labels == red], minlength=len(pool)))
    drawn = np.random.default_rng([seed, 5]).permutation(there)[:ANSWERS]
    chosen = drawn[: len(drawn) // many]
    said = consensus.annotated(pool, chosen, many, rng)
    first = first_answers(pool, said, chosen)
    more = consensus.annotated(pool, drawn, 1, np.random.default_rng([seed, many, 3]))
    arms = {("first", "hard"): first, ("truth", "hard"): true_labels(pool, chosen)}
    arms |= {("first_more", "hard"): first_answers(pool, more, drawn), ("truth_more", "hard"): true_labels(pool, drawn)}
    items, found = items_of(said, len(pool.classes)), bed.held_back(first, seed)
    probs = merging.of_detections(items, chosen[items.query], np.arange(len(items.query)), found, False)
    opinions = calibrated(replace(items.opinions, probs=probs), len(pool.classes))
    right = people(opinions, catalog.find("merge", QUALITY[0]).call({"opinions": opinions}, QUALITY[1])).right
    for rule, method, settings in consensus.RULES[1:]:
        merged = conclude(items, catalog.find("merge", method).call({"opinions": opinions}, settings), right)
        for weights in ("soft", "hard"):
            trust = merged.trust if weights == "soft" else None
            arms[rule, weights] = labels_of(pool, chosen[merged.query], merged.xyxy, merged.label, chosen, trust)
    return arms


def f1(known: Labels, truth) -> float:
    """Of labels at IoU 0.5 and the right class, in %, against the truth of the same images."""
    from labelwise.types.overlap import iou_matrix

    hits, whole = 0, np.flatnonzero(known.answered)
    for image in whole.tolist():
        a, b = (slice(*table.offsets[image : image + 2]) for table in (known.annotations, truth))
        iou = iou_matrix(known.annotations.xyxy[a].astype(float), truth.xyxy[b].astype(float))
        iou[known.annotations.labels[a][:, None] != truth.labels[b][None]] = 0
        while iou.size and iou.max() >= 0.5:
            row, column = np.unravel_index(iou.argmax(), iou.shape)
            iou[row], iou[:, column] = 0, 0
            hits += 1
    return 200 * hits / (len(known.annotations) + int(np.isin(truth.image, whole).sum()))


def boxes_rows(bed: Bed, name: str, seed: int, many: int, wanted: list[str]) -> list[dict]:
    made = []
    for (rule, weights), known in boxes_arms(bed, seed, many).items():
        if wanted and f"{rule}:{weights}" not in wanted:
            continue
        began = time.process_time()
        reached = bed.frozen_ap50(known) if name == "bccd_frozen" else bed.trained_ap50(known, seed)
        made.append({
            "bed": name, "opinions": many, "seed": seed, "rule": rule, "weights": weights,
            "items": int(known.answered.sum()), "right": f"{f1(known, bed.frozen.pool.truth):.2f}",
            "trained": f"{reached:.2f}", "cpu_s": f"{time.process_time() - began:.1f}",
        })  # fmt: skip
        print(made[-1], flush=True)
    return made


def class_rows(root: Path, work: Path, seed: int, many: int, wanted: list[str]) -> list[dict]:
    """One seed of `cifar10_frozen`."""
    from labelwise.models import head

    table = consensus.kept(work / "cifar10.npz", lambda: consensus.cifar10(root))
    middle = table["pool_x"].mean(axis=0)
    axes = np.linalg.svd(table["pool_x"] - middle, full_matrices=False)[2][:COLUMNS]
    x, test_x = (_of_length_1((table[k] - middle) @ axes.T) for k in ("pool_x", "test_x"))
    y, test_y, classes = table["pool_y"], table["test_y"], 10
    drawn = np.random.default_rng([seed, 6]).permutation(len(x))
    chosen = drawn[: len(drawn) // many]

    def reached(which: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
        model = head.build(classes, x.shape[1], c=10.0)
        model.solve(x[which], label, weight)
        logits = test_x @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()
        return 100 * float((logits.argmax(axis=1) == test_y).mean())

    rng = np.random.default_rng([seed, many, 2])
    item, person, label = consensus.answers(y[chosen], classes, many, rng)
    one = consensus.answers(y[drawn], classes, 1, np.random.default_rng([seed, many, 3]))[2]
    opinions = Opinions(item, person, label, len(chosen), consensus.PEOPLE, classes)
    opinions = replace(opinions, probs=_out_of_fold(x[chosen], opinions.first, classes, seed))
    sure = np.ones(len(chosen))
    arms = {("first", "hard"): (chosen, opinions.first, sure), ("truth", "hard"): (chosen, y[chosen], sure)}
    arms |= {("first_more", "hard"): (drawn, one, np.ones(len(drawn)))}
    arms |= {("truth_more", "hard"): (drawn, y[drawn], np.ones(len(drawn)))}
    for rule, method, settings in consensus.RULES[1:]:
        posterior = catalog.find("merge", method).call({"opinions": opinions}, settings)
        best = posterior.argmax(axis=1)
        weight = posterior.max(axis=1).clip(0, 1)
        for weights, some in (("soft", weight), ("hard", sure), ("scaled", weight / weight.mean())):
            arms[rule, weights] = (chosen, best, some)
    arms = {key: arm for key, arm in arms.items() if not wanted or ":".join(key) in wanted}
    return [{
        "bed": "cifar10_frozen", "opinions": many, "seed": seed, "rule": rule, "weights": weights, "items": len(which),
        "right": f"{100 * (said == y[which]).mean():.2f}", "trained": f"{reached(which, said, weight):.2f}",
    } for (rule, weights), (which, said, weight) in arms.items()]  # fmt: skip


def _of_length_1(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _out_of_fold(x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> np.ndarray:
    from labelwise.study.label_review import out_of_fold

    return out_of_fold(x, y, classes, [str(k) for k in range(len(x))], seed)


def table(rows: list[dict]) -> None:
    """Means, and paired differences with the first answer and between the weights."""

    def of(bed: str, many: str, rule: str, weights: str) -> dict[str, float]:
        key = (bed, many, rule, weights)
        return {r["seed"]: float(r["trained"]) for r in rows if tuple(r[k] for k in KEY) == key}

    def difference(a: dict[str, float], b: dict[str, float]) -> str:
        both = sorted(a.keys() & b.keys())
        mean, low, high = paired([a[k] for k in both], [b[k] for k in both])
        return f"{mean:+.2f} ({low:+.2f} to {high:+.2f}, {len(both)} seeds)"

    for bed, many, rule, weights in dict.fromkeys(tuple(r[k] for k in KEY) for r in rows):
        own = of(bed, many, rule, weights)
        key = (bed, many, rule, weights)
        right = np.mean([float(r["right"]) for r in rows if tuple(r[k] for k in KEY) == key])
        line = f"{bed:15} {many} {rule:18} {weights:4} right {right:5.1f} trained {np.mean(list(own.values())):5.2f}"
        line += f"  - first {difference(own, of(bed, many, 'first', 'hard'))}"
        line += f"  - first_more {difference(own, of(bed, many, 'first_more', 'hard'))}" if bed != BEDS[1] else ""
        if weights != "hard":
            line += f"  - hard {difference(own, of(bed, many, rule, 'hard'))}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("beds", nargs="*", choices=BEDS, help="none: only the table of what --out has")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LABELWISE_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--arms", nargs="*", default=[], help="rule:weights; none: all")
    parser.add_argument("--opinions", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--set", nargs="+", default=[], help="settings of the detector that is trained")
    parser.add_argument("--work", type=Path, default=Path("runs/taught"), help="where projects and features are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/consensus_training.csv"))
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    for name in args.beds:
        bed = Bed("bccd", args.work, tuple(args.set))
        for seed in args.seeds:
            for many in args.opinions:
                if name.startswith("cifar10"):
                    rows = class_rows(args.data, args.work, seed, many, args.arms)
                else:
                    rows = boxes_rows(bed, name, seed, many, args.arms)
                new = {(r["bed"], str(r["seed"]), str(r["opinions"]), r["rule"], r["weights"]) for r in rows}
                own = ("bed", "seed", "opinions", "rule", "weights")
                write(args.out, [r for r in read(args.out) if tuple(r[k] for k in own) not in new] + rows)
    table(read(args.out))


if __name__ == "__main__":
    main()
