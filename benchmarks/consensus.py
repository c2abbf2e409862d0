"""What several people's answers come to under each rule of `ask.merge`, beside cleanlab and crowd-kit.

    LABELWISE_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/consensus.py --peers PYTHON

Five simulated people, of whom `opinions` answer each question: right in 95, 88 and 72 %, one who takes half of one
class for another (90 % right else), one who answers at random. Three beds: `cifar10`, the class of 1,000 images;
`bccd_boxes`, candidate boxes, a third of them without an object (class, or no object; people's boxes are off by 3 to
15 % of the sides); `bccd_images`, all objects of 60 images (objects are missed, invented, swapped). Of the first two
a model gives a distribution out of fold: logistic regression on frozen MobileNetV2 features (64 px, 64 components) on
the first answers. `right`: share of items whose class is the true one (of images F1 at IoU 0.5 and the right class).
`trained`: accuracy on true test labels of the same learner on the merged labels, weighted by their posterior
(CROWDLAB's: 1). `iou`: mean IoU of right objects with the truth. `off`, `held`: the largest error of a person's
estimated quality in points, and in how many of five the interval holds what they really had right; `noise`: who is
called noise (person 4 is). PYTHON is that of an environment with cleanlab and crowd-kit, never a dependency; theirs are
`cleanlab` (CROWDLAB, best_quality), `crowdkit_ds`, `crowdkit_mv`. `dawid_skene_model` is `dawid_skene` as it is set by
itself: the model is one more person. Pools: cifar10 train, bccd trainval; people and seeds were not tuned.
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

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np

PEOPLE = 5
SKILL = (0.95, 0.88, 0.90, 0.72, None)
BIASED, RANDOM = 2, 4
JITTER = (0.03, 0.05, 0.05, 0.08, 0.15)
RULES = (
    ("first", "first", {}),
    ("majority", "majority", {}),
    ("dawid_skene", "dawid_skene", {"model": False}),
    ("crowdlab", "crowdlab", {}),
    ("dawid_skene_model", "dawid_skene", {}),
)
SIDE_PX, COMPONENTS, ITEMS, IMAGES = 64, 64, 1000, 60


def peer(folder: Path) -> None:
    """Consensus labels of every case by cleanlab and crowd-kit, in their environment."""
    import importlib.metadata
    import warnings

    warnings.filterwarnings("ignore")
    import pandas as pd
    from cleanlab.multiannotator import get_label_quality_multiannotator
    from crowdkit.aggregation import DawidSkene, MajorityVote

    for path in sorted(folder.glob("case*.npz")):
        given = np.load(path)
        item, person, label, probs = (given[k] for k in ("item", "person", "label", "probs"))
        n, found = len(probs), {}
        wide = np.full((n, PEOPLE), np.nan)
        wide[item, person] = label
        began = time.process_time()
        quality = get_label_quality_multiannotator(wide, probs, verbose=False)["label_quality"]
        found["cleanlab"] = quality["consensus_label"].to_numpy()
        seconds = {"cleanlab": time.process_time() - began}
        table = pd.DataFrame({"task": item, "worker": person, "label": label})
        for name, method in (("crowdkit_ds", DawidSkene(n_iter=100)), ("crowdkit_mv", MajorityVote())):
            began = time.process_time()
            found[name] = method.fit_predict(table).reindex(np.arange(n)).to_numpy()
            seconds[name] = time.process_time() - began
        np.savez(path.with_name(f"peer_{path.name}"), **found, **{f"{k}_s": v for k, v in seconds.items()})
    names = ("cleanlab", "crowd-kit")
    print(json.dumps({name: importlib.metadata.version(name) for name in names}))


def answers(truth: np.ndarray, classes: int, opinions: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Item, person, label of everybody's answers."""
    n = len(truth)
    item = np.repeat(np.arange(n), opinions)
    person = rng.permuted(np.tile(np.arange(PEOPLE), (n, 1)), axis=1)[:, :opinions].ravel()
    said = truth[item].copy()
    skill = np.array([s if s is not None else 1 / classes for s in SKILL])
    wrong = rng.random(len(item)) >= skill[person]
    said[wrong] = (said[wrong] + rng.integers(1, classes, wrong.sum())) % classes
    one, other = rng.choice(classes, 2, replace=False)
    biased = (person == BIASED) & (truth[item] == one) & (rng.random(len(item)) < 0.5)
    said[biased] = other
    return item, person, said


def features(squares: np.ndarray, weights: Path) -> np.ndarray:
    """Frozen features of images uint8 [n, 3, h, w]."""
    import torch

    from labelwise.bodies import torchvision_nets

    body = torchvision_nets.build("mobilenet_v2", str(weights))
    found = []
    with torch.inference_mode():
        for part in np.array_split(squares, -(-len(squares) // 64)):
            found.append(body(torch.from_numpy(part).float() / 255).numpy())
    return np.concatenate(found)


def kept(path: Path, make: object) -> dict[str, np.ndarray]:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **make())  # type: ignore[operator]
    return dict(np.load(path))


def cifar10(root: Path) -> dict[str, np.ndarray]:
    import torch

    from labelwise.data import find

    found = {}
    for part, split, n in (("pool", "train", 2000), ("test", "test", 1000)):
        pool = find.read(root / "cifar10", split)
        rows = np.sort(np.random.default_rng(0).permutation(len(pool))[:n])
        pixels = np.stack([np.asarray(pool.pixels[i]) for i in rows])
        large = torch.nn.functional.interpolate(torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), size=SIDE_PX)
        x = features(large.to(torch.uint8).numpy(), root / "weights" / "mobilenet_v2-b0353104.pth")
        found |= {f"{part}_x": x, f"{part}_y": pool.truth.labels[rows]}
    return found


def bccd(root: Path) -> dict[str, np.ndarray]:
    """Crops of true boxes and of boxes without an object, the latter of class C."""
    from PIL import Image

    from labelwise.data import find
    from labelwise.types.overlap import iou_matrix

    found = {}
    for part, split in (("pool", "trainval"), ("test", "test")):
        pool, rng = find.read(root / "bccd", split), np.random.default_rng(0)
        image, boxes, labels = pool.truth.image, pool.truth.xyxy, pool.truth.labels
        keep = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:300] for c in range(len(pool.classes))])
        none_image, none = [], []
        while len(none) < len(keep) // 2:
            k = int(rng.integers(len(pool)))
            w, h = boxes[rng.integers(len(boxes))] @ np.array([[-1, 0], [0, -1], [1, 0], [0, 1]])
            x, y = rng.uniform(0, max(pool.width_px[k] - w, 1)), rng.uniform(0, max(pool.height_px[k] - h, 1))
            box = np.array([x, y, min(x + w, pool.width_px[k]), min(y + h, pool.height_px[k])], np.float32)
            if iou_matrix(box[None], boxes[image == k]).max(initial=0) < 0.3:
                none_image.append(k)
                none.append(box)
        where, xyxy = np.append(image[keep], none_image), np.concatenate([boxes[keep], np.stack(none)])
        crops = []
        for k, (x1, y1, x2, y2) in zip(where, xyxy, strict=True):
            grow = 0.2 * max(x2 - x1, y2 - y1)
            crop = Image.open(pool.path(int(k))).convert("RGB").crop((x1 - grow, y1 - grow, x2 + grow, y2 + grow))
            crops.append(np.asarray(crop.resize((SIDE_PX, SIDE_PX))).transpose(2, 0, 1))
        x = features(np.stack(crops), root / "weights" / "mobilenet_v2-b0353104.pth")
        y = np.append(labels[keep], np.full(len(none), len(pool.classes)))
        found |= {f"{part}_x": x, f"{part}_y": y, f"{part}_box": xyxy, f"{part}_image": where}
    return found


def learner():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=50, tol=1e-2))


def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None):
    return learner().fit(x, y, logisticregression__sample_weight=weight)


def out_of_fold(x: np.ndarray, y: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    fold, probs = rng.integers(0, 5, len(x)), np.full((len(x), classes), 1e-6)
    for k in range(5):
        model = fit(x[fold != k], y[fold != k])
        probs[np.ix_(fold == k, model.classes_)] = model.predict_proba(x[fold == k])
    return probs / probs.sum(axis=1, keepdims=True)


def judge(opinions, truth: np.ndarray, posterior: np.ndarray) -> dict[str, object]:
    from labelwise.merge._people import people

    judged = people(opinions, posterior)
    hit = np.bincount(opinions.person, opinions.label == truth[opinions.item], minlength=PEOPLE)
    real = hit / np.bincount(opinions.person, minlength=PEOPLE)
    held = (judged.low <= real) & (real <= judged.high)
    return {
        "off": f"{100 * np.abs(judged.right - real).max():.2f}",
        "held": int(held.sum()),
        "noise": " ".join(map(str, np.flatnonzero(judged.noise))),
    }


def classes_bed(name: str, table: dict[str, np.ndarray], n: int, seed: int, many: int, peers: list) -> list[dict]:
    """One seed of `cifar10` or `bccd_boxes` with so many opinions."""
    from labelwise import catalog
    from labelwise.ledger.several_answers import Said
    from labelwise.merge._items import conclude, items_of
    from labelwise.merge._people import people
    from labelwise.types import Opinions, Query
    from labelwise.types.overlap import iou_pairs

    rng = np.random.default_rng([seed, many])
    rows = np.sort(rng.permutation(len(table["pool_y"]))[:n])
    x, truth, classes = table["pool_x"][rows], table["pool_y"][rows], int(table["pool_y"].max()) + 1
    item, person, label = answers(truth, classes, many, rng)
    boxed = name == "bccd_boxes"
    opinions, items = Opinions(item, person, label, len(rows), PEOPLE, classes), None
    if boxed:
        true_box, jitter = table["pool_box"][rows].astype(float), np.array(JITTER)[person]
        side = np.tile(true_box[:, 2:] - true_box[:, :2], 2)[item]
        drawn = true_box[item] + rng.normal(size=side.shape) * jitter[:, None] * side
        drawn[:, 2:] = np.maximum(drawn[:, 2:], drawn[:, :2] + 1)
        has = label < classes - 1
        verdict = np.where(has, "object", "background").tolist()
        queries = [Query(1, k, "", "box", tuple(box), 0, id=k) for k, box in enumerate(true_box.tolist())]
        aware, names = np.ones(len(item), bool), list("abcde")
        said = Said(queries, names, item, person, verdict, aware, np.flatnonzero(has), drawn[has], label[has])
        items = items_of(said, classes - 1)
        opinions = items.opinions
    probs = out_of_fold(x, opinions.first, classes, rng)
    padded = np.pad(probs, ((0, 0), (0, opinions.classes - classes)))
    opinions = replace(opinions, probs=padded)
    found = {}
    for rule, method, settings in RULES:
        began = time.process_time()
        posterior = catalog.find("merge", method).call({"opinions": opinions}, settings)
        found[rule] = posterior.argmax(axis=1), posterior, time.process_time() - began
    peers.append((name, seed, many, item, person, label, probs))
    made = []
    for rule, (best, posterior, seconds) in found.items():
        best = np.minimum(best, classes - 1)
        weighs = rule != "crowdlab"  # as its file says
        model = fit(x, best, posterior.max(axis=1) if weighs else None)
        row = {"bed": name, "opinions": many, "seed": seed, "rule": rule, "items": len(rows)}
        row["right"] = f"{100 * (best == truth).mean():.2f}"
        row["trained"] = f"{100 * (model.predict(table['test_x']) == table['test_y']).mean():.2f}"
        row["iou"] = ""
        if items is not None:
            merged = conclude(items, posterior, people(opinions, posterior).right)
            good = merged.label == truth[merged.query]
            row["iou"] = f"{100 * iou_pairs(merged.xyxy, true_box[merged.query])[good].mean():.2f}"
        made.append(row | judge(opinions, truth, posterior) | {"cpu_ms": f"{1000 * seconds:.1f}"})
    for rule in ("cleanlab", "crowdkit_ds", "crowdkit_mv"):
        made.append({**dict.fromkeys(made[0], ""), "bed": name, "opinions": many, "seed": seed, "rule": rule})
        made[-1] |= {"items": len(rows), "_truth": truth, "_case": len(peers) - 1, "_x": x, "_table": table}
    return made


def annotated(pool, chosen: np.ndarray, many: int, rng: np.random.Generator):
    """What `many` of the people draw in each of some whole images, as `Said`."""
    from labelwise.ledger.several_answers import Said
    from labelwise.types import Query

    classes = len(pool.classes)
    query, person, owner, boxes, labels = [], [], [], [], []
    for q, image in enumerate(chosen):
        span = slice(pool.truth.offsets[image], pool.truth.offsets[image + 1])
        xyxy, label = pool.truth.xyxy[span].astype(float), pool.truth.labels[span]
        for p in rng.permutation(PEOPLE)[:many]:
            skill = SKILL[p] or 0.5
            seen = rng.random(len(xyxy)) < skill
            said = np.where(rng.random(len(xyxy)) < skill, label, rng.integers(0, classes, len(xyxy)))
            mine = xyxy[seen] + rng.normal(size=(seen.sum(), 4)) * JITTER[p] * np.tile(
                xyxy[seen, 2:] - xyxy[seen, :2], 2
            )
            invented = rng.binomial(len(xyxy), (1 - skill) / 2)
            corner = rng.uniform(0, [[pool.width_px[image] - 90, pool.height_px[image] - 90]], (invented, 2))
            mine = np.concatenate([mine, np.concatenate([corner, corner + rng.uniform(40, 90, (invented, 2))], axis=1)])
            mine[:, 2:] = np.maximum(mine[:, 2:], mine[:, :2] + 1)
            owner += [len(query)] * len(mine)
            boxes.append(mine)
            labels.append(np.append(said[seen], rng.integers(0, classes, invented)))
            query.append(q)
            person.append(p)
    queries = [Query(1, q, pool.names[image], "image", id=q) for q, image in enumerate(chosen)]
    return Said(
        queries, list("abcde"), np.array(query), np.array(person), ["all"] * len(query), np.ones(len(query), bool),
        np.array(owner), np.concatenate(boxes), np.concatenate(labels).astype(np.int64),
    )  # fmt: skip


def images_bed(root: Path, seed: int, many: int) -> list[dict]:
    """One seed of `bccd_images`: everybody annotates whole images."""
    from labelwise import catalog
    from labelwise.data import find
    from labelwise.merge._items import conclude, items_of
    from labelwise.merge._people import people
    from labelwise.types.overlap import iou_matrix

    rng, pool = np.random.default_rng([seed, many, 1]), find.read(root / "bccd", "trainval")
    classes, chosen = len(pool.classes), np.random.default_rng(seed).permutation(len(pool))[:IMAGES]
    items, made = items_of(annotated(pool, chosen, many, rng), classes), []
    for rule, method, settings in RULES[:-1]:  # without a model
        began = time.process_time()
        posterior = catalog.find("merge", method).call({"opinions": items.opinions}, settings)
        seconds = time.process_time() - began
        merged = conclude(items, posterior, people(items.opinions, posterior).right)
        hits, overlap, true = 0, [], 0
        for q, image in enumerate(chosen):
            span = slice(pool.truth.offsets[image], pool.truth.offsets[image + 1])
            rows = np.flatnonzero(merged.query == q)
            iou = iou_matrix(merged.xyxy[rows], pool.truth.xyxy[span].astype(float))
            iou[merged.label[rows][:, None] != pool.truth.labels[span][None]] = 0
            true += iou.shape[1]
            while iou.size and iou.max() >= 0.5:
                a, b = np.unravel_index(iou.argmax(), iou.shape)
                overlap.append(iou[a, b])
                iou[a], iou[:, b] = 0, 0
                hits += 1
        row = {"bed": "bccd_images", "opinions": many, "seed": seed, "rule": rule, "items": len(items.query)}
        row |= {"right": f"{200 * hits / (len(merged.query) + true):.2f}", "trained": ""}
        row |= {"iou": f"{100 * np.mean(overlap):.2f}", "off": "", "held": "", "noise": ""}
        made.append(row | {"cpu_ms": f"{1000 * seconds:.1f}"})
    return made


def ask_peers(python: str, cases: list, rows: list[dict]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k, (*_, item, person, label, probs) in enumerate(cases):
            np.savez(folder / f"case{k:04d}.npz", item=item, person=person, label=label, probs=probs)
        done = subprocess.run([python, __file__, "--peer", name], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the peers failed:\n{done.stderr}")
        for row in rows:
            if "_case" in row:
                said = np.load(folder / f"peer_case{row['_case']:04d}.npz")
                best = said[row["rule"]]
                model = fit(row["_x"], best)
                row["right"] = f"{100 * (best == row['_truth']).mean():.2f}"
                test = row["_table"]
                row["trained"] = f"{100 * (model.predict(test['test_x']) == test['test_y']).mean():.2f}"
                row["cpu_ms"] = f"{1000 * float(said[row['rule'] + '_s']):.1f}"
    return json.loads(done.stdout.splitlines()[-1])


def machine(versions: dict[str, str]) -> dict[str, str]:
    import scipy
    import sklearn

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    ours = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    ours |= {"scikit-learn": sklearn.__version__, **versions}
    told = sys.argv[1:]
    if "--peers" in told:
        told[told.index("--peers") + 1] = "PYTHON"
    return {
        "command": " ".join(["python benchmarks/consensus.py", *told]),
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": ", ".join(f"{k} {v}" for k, v in ours.items()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LABELWISE_DATA", "../shared/data")))
    parser.add_argument("--peers", help="the Python of an environment with cleanlab and crowd-kit")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--features", type=Path, default=Path("runs/consensus"), help="where features are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/consensus.csv"))
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer)
        return
    import torch

    torch.set_num_threads(1)
    from labelwise.types.disk import replacing

    tables = {
        "cifar10": (kept(args.features / "cifar10.npz", lambda: cifar10(args.data)), ITEMS),
        "bccd_boxes": (kept(args.features / "bccd.npz", lambda: bccd(args.data)), ITEMS),
    }
    for table, _ in tables.values():
        middle = table["pool_x"].mean(axis=0)
        axes = np.linalg.svd(table["pool_x"] - middle, full_matrices=False)[2][:COMPONENTS]
        table |= {k: (table[k] - middle) @ axes.T for k in ("pool_x", "test_x")}
    rows, cases = [], []
    for seed in range(args.seeds):
        for many in (2, 3, 5):
            for name, (table, n) in tables.items():
                rows += classes_bed(name, table, n, seed, many, cases)
            rows += images_bed(args.data, seed, many)
        print(f"seed {seed}", flush=True)
    versions = ask_peers(args.peers, cases, rows) if args.peers else {}
    rows = [{k: v for k, v in row.items() if k[0] != "_"} for row in rows if args.peers or "_case" not in row]
    about = machine(versions)
    with replacing(args.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)
    for bed in dict.fromkeys(row["bed"] for row in rows):
        for many in (2, 3, 5):
            for rule in dict.fromkeys(row["rule"] for row in rows):
                some = [r for r in rows if (r["bed"], r["opinions"], r["rule"]) == (bed, many, rule)]
                mean = {k: np.mean([float(r[k]) for r in some if r[k] != ""] or [np.nan]) for k in
                        ("right", "trained", "iou", "off", "held", "cpu_ms")}  # fmt: skip
                if some:
                    print(bed, many, f"{rule:12}", *(f"{k} {v:.2f}" for k, v in mean.items()))


if __name__ == "__main__":
    main()
