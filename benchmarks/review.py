"""How well doubtful labels are found: faults put into clean data, labels ranked by `review/`, beside cleanlab.

    LABELWISE_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/review.py --peers PYTHON

A tenth of all boxes is made faulty, a third of these each: removed, moved (by 30 to 60 % of its sides), swapped to
another class. The frozen detector (proposals of YOLOX-nano, MobileNetV2 on their crops, a linear head) learns the
faulty labels in 5 folds and predicts what was held back. Every kind of doubt ranks detections or labels; `all` is the
three together, in turn (theirs too). A hit is a label with a fault, or a detection of IoU >= 0.5 with a removed box, or
with the true place of a moved one; every fault is a hit once. `precision_50`, `precision_100`: hits among the first
so many; `recall_100`, `recall_faults`: share of the faults among the first 100, and among the first as many as there
are faults. PYTHON is that of an environment with cleanlab, whose three scores per box rank the same labels and
detections (confidence >= 0.05; a smaller score is more doubtful); `cleanlab_low` has thresholds 0.5 and 0.1 in place
of its own 0.95 and 0.5, which a weak detector hardly reaches. Beds that end in `_sharp` have a simulated detector in
place of the trained one: true boxes off by 4 % of their sides, confidence mostly above 0.95, 92 % with the right class,
5 % missed, and a false alarm of low confidence for every tenth object. Faults that the data sets have
anyway count as misses, for all alike. Of bccd the 12 images of trainval in which no red cell is boxed are left out;
bed `bccd_unboxed` has them and no other fault: hits are these images, by the sum of their overlooked detections
(`overlooked`), or by the share of their detections' sum (`sparsely_labelled`).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np

SHARE = 0.1
KINDS = ("overlooked", "badly_located", "swapped")
SETS = {"bccd": ("trainval", 60), "aquarium": ("train", 40)}
LEAST = 0.05
LOW = (0.5, 0.1)
"""Thresholds of `cleanlab_low` in place of its own 0.95 and 0.5."""


def peer(folder: Path) -> None:
    """Cleanlab's scores of every case, in its environment."""
    import importlib.metadata

    from cleanlab.object_detection import rank

    for path in sorted(folder.glob("case*.npz")):
        given = np.load(path)
        n, classes = len(given["label_offsets"]) - 1, int(given["classes"])
        labels, predictions = [], []
        for k in range(n):
            span = slice(*given["label_offsets"][k : k + 2])
            labels.append({"bboxes": given["label_boxes"][span], "labels": given["labels"][span]})
            span = slice(*given["offsets"][k : k + 2])
            rows = np.concatenate([given["boxes"][span], given["scores"][span, None]], axis=1)
            predictions.append([rows[given["said"][span] == c] for c in range(classes)])
        began = time.process_time()
        auxiliary = rank._get_valid_inputs_for_compute_scores(0.9, labels, predictions)
        columns = {}
        for end, high, low in (("", None, None), ("_low", *LOW)):
            above, beyond = {"high_probability_threshold": high}, {"low_probability_threshold": low}
            found = {
                "overlooked": rank.compute_overlooked_box_scores(auxiliary_inputs=auxiliary, **above),
                "badly_located": rank.compute_badloc_box_scores(auxiliary_inputs=auxiliary, **beyond),
                "swapped": rank.compute_swap_box_scores(auxiliary_inputs=auxiliary, **above),
            }
            for name, values in found.items():
                values = np.concatenate(values)
                columns[name + end] = np.where(np.isnan(values), -1.0, 1 - values)
        seconds = (time.process_time() - began) / 2
        order = [np.flatnonzero(given["said"][s:e] == c) + s for s, e in zip(given["offsets"], given["offsets"][1:],
                 strict=False) for c in range(classes)]  # fmt: skip
        for name in ("overlooked", "overlooked_low"):  # theirs go class by class
            by_row = np.empty(len(given["said"]))
            by_row[np.concatenate(order)] = columns[name]
            columns[name] = by_row
        np.savez(path.with_name(f"peer_{path.name}"), **columns, seconds=seconds)
    print(json.dumps({"cleanlab": importlib.metadata.version("cleanlab")}))


def objects_of(root: Path, name: str, kept: Path):
    """The pool, and its proposals with their features, computed once."""
    from labelwise.data import find
    from labelwise.project import frozen_weights
    from labelwise.project.context import silent
    from labelwise.project.objects import FrozenObjects
    from labelwise.study import model_folds

    split, most = SETS[name]
    pool = find.read(root / name, split)
    if not kept.is_file():
        rule = frozen_weights.needed().model_copy(update={"objects_most": most, "objects_crop_px": 64})
        context = SimpleNamespace(run=SimpleNamespace(features=None), device="cpu", bar=silent)
        found = model_folds.objects_in(context, SimpleNamespace(pool=pool), rule)
        kept.parent.mkdir(parents=True, exist_ok=True)
        columns = ("offsets", "boxes", "objectness", "features")
        np.savez(kept, **{k: getattr(found, k) for k in columns})
    table = np.load(kept)
    return pool, FrozenObjects(*(table[k] for k in ("offsets", "boxes", "objectness", "features")), {})


def faulty(truth, size_px: np.ndarray, classes: int, rng: np.random.Generator):
    """Labels with faults; per label the true row it came from and whether it is faulty; the rows removed or moved."""
    from labelwise.types import Boxes, offsets_of

    chosen = rng.permutation(len(truth))[: round(SHARE * len(truth))]
    removed, moved, swapped = np.array_split(chosen, 3)
    xyxy, labels = truth.xyxy.copy(), truth.labels.copy()
    side = xyxy[moved, 2:] - xyxy[moved, :2]
    shift = rng.uniform(0.3, 0.6, side.shape) * side * rng.choice([-1, 1], side.shape)
    limit = np.tile(size_px[truth.image[moved]], 2)
    there = np.clip(xyxy[moved] + np.tile(shift, 2), 0, limit).astype(np.float32)
    good = ((there[:, 2:] - there[:, :2]) > 2).all(axis=1)
    moved = moved[good]
    xyxy[moved] = there[good]
    labels[swapped] = (labels[swapped] + rng.integers(1, classes, len(swapped))) % classes
    keep = np.setdiff1d(np.arange(len(truth)), removed)
    image = truth.image[keep]
    made = Boxes(offsets_of(image, len(truth.offsets) - 1), xyxy[keep], labels[keep])
    return made, keep, np.isin(keep, np.concatenate([moved, swapped])), removed, moved


def detections(pool, objects, labels, classes: int, seed: int):
    """Out of fold, by a detector that learnt the labels as they are."""
    from labelwise.study import model_folds
    from labelwise.types import Detections, Labels, Rects

    n = len(pool)
    size = np.stack([pool.width_px, pool.height_px], axis=1).astype(np.float32)
    cover = Rects(np.arange(n + 1), np.concatenate([np.zeros_like(size), size], axis=1))
    known = Labels(labels, cover, Rects.empty(n), np.ones(n, bool))
    seen = model_folds.seen_of(replace(pool, truth=labels), known, "", seed)
    targets = model_folds.targets_of(seen, known, "ignore")
    parts = model_folds.frozen_held(seen, objects, targets, {}).parts
    image = np.concatenate([part.image for part in parts])
    boxes, probs, scores = (np.concatenate([getattr(p, k) for p in parts]) for k in ("boxes", "probs", "scores"))
    order = np.lexsort((-scores, image))
    order = order[scores[order] >= LEAST]
    offsets = np.searchsorted(image[order], np.arange(n + 1)).astype(np.int64)
    return Detections(offsets, boxes[order], probs[order], scores[order], np.zeros((len(order), 0), np.float32))


def sharp(pool, seed: int):
    """What a good detector would say, simulated."""
    from labelwise.types import Detections

    rng, truth, classes = np.random.default_rng([seed, 4]), pool.truth, len(pool.classes)
    rows = np.flatnonzero(rng.random(len(truth)) >= 0.05)
    false = rng.permutation(len(truth))[: len(truth) // 10]
    side = np.tile(truth.xyxy[:, 2:] - truth.xyxy[:, :2], 2)
    boxes = truth.xyxy + rng.normal(0, 0.04, side.shape) * side
    away = rng.uniform(0.5, 1.5, (len(false), 2)) * side[false, :2] * rng.choice([-1, 1], (len(false), 2))
    boxes = np.concatenate([boxes[rows], truth.xyxy[false] + np.tile(away, 2)])
    boxes = np.clip(boxes, 0, None).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    image, said = np.append(truth.image[rows], truth.image[false]), np.append(truth.labels[rows], truth.labels[false])
    wrong = rng.random(len(said)) < 0.08
    said[wrong] = (said[wrong] + rng.integers(1, classes, wrong.sum())) % classes
    sure = np.where(wrong, rng.beta(4, 2, len(said)), rng.beta(60, 1.5, len(said)))
    probs = np.full((len(said), classes), 1.0) * ((1 - sure) / (classes - 1))[:, None]
    probs[np.arange(len(said)), said] = sure
    scores = np.append(rng.beta(40, 1.2, len(rows)), rng.beta(1, 3, len(false)))
    order = np.lexsort((-scores, image))
    order = order[scores[order] >= LEAST]
    offsets = np.searchsorted(image[order], np.arange(len(pool) + 1)).astype(np.int64)
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    nothing = np.zeros((len(order), 0), np.float32)
    return Detections(offsets, boxes[order], probs[order], scores[order].astype(np.float32), nothing)


def hits_of(case: dict, doubts: dict[str, np.ndarray], kinds: tuple[str, ...], most: int) -> tuple[np.ndarray, int]:
    """Which of the first `most` of a ranking are hits; every fault counts once."""
    from labelwise.review._in_turn import in_turn
    from labelwise.types.overlap import iou_matrix

    turn, row = in_turn([doubts[kind] for kind in kinds])
    what = np.array([KINDS.index(kind) for kind in kinds])[turn]
    found, truth, out, done = case["found"], case["truth"], [], set()
    lost = np.concatenate([case["removed"], case["moved"]])
    seen = set()
    for k in range(len(row)):
        if what[k] == 0:
            image = found.image[row[k]]
            here = lost[truth.image[lost] == image]
            iou = iou_matrix(found.boxes[[row[k]]].astype(float), truth.xyxy[here].astype(float))[0]
            fault = int(here[iou.argmax()]) if len(here) and iou.max() >= 0.5 else None
        else:
            if row[k] in seen:  # a label is looked at once
                continue
            seen.add(row[k])
            fault = int(case["keep"][row[k]]) if case["faulty"][row[k]] else None
        out.append(fault is not None and fault not in done)
        done.add(fault)
        if len(out) == most:
            break
    return np.array(out), len(lost) + int(case["faulty"].sum()) - len(case["moved"])


def rows_of(case: dict, doubts: dict[str, np.ndarray], method: str, cpu: float) -> list[dict]:
    made = []
    for kinds in (KINDS, *((kind,) for kind in KINDS)):
        hit, faults = hits_of(case, doubts, kinds, max(100, case["faults"]))
        made.append({
            "bed": case["bed"], "seed": case["seed"], "method": method, "kind": "all" if len(kinds) > 1 else kinds[0],
            "labels": len(case["keep"]), "faults": faults, "precision_50": f"{2 * hit[:50].sum():.1f}",
            "precision_100": f"{hit[:100].sum():.1f}", "recall_100": f"{100 * hit[:100].sum() / faults:.1f}",
            "recall_faults": f"{100 * hit[:faults].sum() / faults:.1f}", "cpu_ms": f"{1000 * cpu:.1f}",
        })  # fmt: skip
    return made


def doubts_of(labels, found) -> tuple[dict[str, np.ndarray], float]:
    from labelwise import catalog

    began = time.process_time()
    menu = {"labels": labels, "found": found}
    doubts = {kind: catalog.find("review", kind).call(menu, {}) for kind in KINDS}
    return doubts, time.process_time() - began


def ask_peer(python: str, cases: list[dict]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as name:
        for k, case in enumerate(cases):
            labels, found = case["given"], case["found"]
            columns = {"label_offsets": labels.offsets, "label_boxes": labels.xyxy, "labels": labels.labels}
            columns |= {"offsets": found.offsets, "boxes": found.boxes, "scores": found.scores, "said": found.labels}
            np.savez(Path(name) / f"case{k:04d}.npz", **columns, classes=case["classes"])
        done = subprocess.run([python, __file__, "--peer", name], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the peer failed:\n{done.stderr}")
        for k, case in enumerate(cases):
            case["theirs"] = dict(np.load(Path(name) / f"peer_case{k:04d}.npz"))
    return json.loads(done.stdout.splitlines()[-1])


def machine(versions: dict[str, str]) -> dict[str, str]:
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    ours = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__, **versions}
    told = sys.argv[1:]
    if "--peers" in told:
        told[told.index("--peers") + 1] = "PYTHON"
    return {
        "command": " ".join(["python benchmarks/review.py", *told]),
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": ", ".join(f"{k} {v}" for k, v in ours.items()),
    }


def taken(pool, objects, rows: np.ndarray):
    from labelwise.data.long_tail import subset
    from labelwise.project.objects import FrozenObjects

    count = np.diff(objects.offsets)[rows]
    index = np.concatenate([np.arange(*objects.offsets[k : k + 2]) for k in rows])
    columns = (objects.boxes[index], objects.objectness[index], objects.features[index])
    return subset(pool, rows), FrozenObjects(np.append(0, np.cumsum(count)).astype(np.int64), *columns, {})


def unboxed(pool, objects) -> list[dict]:
    """The images of bccd in which no red cell is boxed, among those with the most overlooked detections, and among
    those with the largest share of these.
    """
    from labelwise.review import sparsely_labelled

    red = pool.classes.index("RBC")
    without = np.flatnonzero(np.bincount(pool.truth.image[pool.truth.labels == red], minlength=len(pool)) == 0)
    found = detections(pool, objects, pool.truth, len(pool.classes), 0)
    doubts, cpu = doubts_of(pool.truth, found)
    of_images = {"overlooked": np.bincount(found.image, doubts["overlooked"], minlength=len(pool))}
    of_images["sparsely_labelled"] = sparsely_labelled.doubt(pool.truth, found)
    n = len(without)
    hits = {kind: np.isin(np.argsort(-doubt)[:n], without) for kind, doubt in of_images.items()}
    return [{
        "bed": "bccd_unboxed", "seed": 0, "method": "labelwise", "kind": kind, "labels": len(pool.truth),
        "faults": n, "precision_50": "", "precision_100": "", "recall_100": "",
        "recall_faults": f"{100 * hit.mean():.1f}", "cpu_ms": f"{1000 * cpu:.1f}",
    } for kind, hit in hits.items()]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LABELWISE_DATA", "../shared/data")))
    parser.add_argument("--peers", help="the Python of an environment with cleanlab")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--features", type=Path, default=Path("runs/review"), help="where features are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/review.csv"))
    parser.add_argument("--unboxed", action="store_true", help="only the images without a red cell boxed; no file")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer)
        return
    import torch

    torch.set_num_threads(1)
    from labelwise.types.disk import replacing

    rows, cases = [], []
    for name in args.sets:
        pool, objects = objects_of(args.data, name, args.features / f"objects_{name}.npz")
        if name == "bccd":
            rows += unboxed(pool, objects)
            if args.unboxed:
                print(*rows, sep="\n")
                return
            red = pool.classes.index("RBC")
            boxed = np.bincount(pool.truth.image[pool.truth.labels == red], minlength=len(pool)) > 0
            pool, objects = taken(pool, objects, np.flatnonzero(boxed))
        size = np.stack([pool.width_px, pool.height_px], axis=1)
        for seed in args.seeds:
            rng = np.random.default_rng([seed, 3])
            given, keep, wrong, removed, moved = faulty(pool.truth, size, len(pool.classes), rng)
            found = detections(pool, objects, given, len(pool.classes), seed)
            cases.append({"bed": name, "seed": seed, "given": given, "keep": keep, "faulty": wrong, "removed": removed,
                          "moved": moved, "found": found, "truth": pool.truth, "classes": len(pool.classes),
                          "faults": len(removed) + int(wrong.sum())})  # fmt: skip
            rows += rows_of(cases[-1], *_second(doubts_of(given, found)))
            print(rows[-4], flush=True)
            cases.append(cases[-1] | {"bed": f"{name}_sharp", "found": sharp(pool, seed)})
            rows += rows_of(cases[-1], *_second(doubts_of(given, cases[-1]["found"])))
    versions = ask_peer(args.peers, cases) if args.peers else {}
    for case in cases if args.peers else []:
        seconds = float(case["theirs"].pop("seconds"))
        for end in ("", "_low"):
            theirs = {kind: case["theirs"][kind + end] for kind in KINDS}
            rows += rows_of(case, theirs, f"cleanlab{end}", seconds)
    about = machine(versions)
    with replacing(args.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)
    for key in dict.fromkeys((r["bed"], r["method"], r["kind"]) for r in rows):
        some = [r for r in rows if (r["bed"], r["method"], r["kind"]) == key]
        names = ("precision_50", "precision_100", "recall_100", "recall_faults", "cpu_ms")
        print(*key, *(f"{k} {np.mean([float(r[k]) for r in some if r[k]] or [np.nan]):.1f}" for k in names))


def _second(both: tuple[dict[str, np.ndarray], float]) -> tuple[dict[str, np.ndarray], str, float]:
    return both[0], "labelwise", both[1]


if __name__ == "__main__":
    main()
