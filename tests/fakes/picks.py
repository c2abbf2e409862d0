"""Prints the picks of every selector on many small pools, as JSON: tests/test_kernels.py runs it on other kernels."""

from __future__ import annotations

import json
import sys

import numpy as np

from labelwise import catalog
from labelwise.score import bald, enms, entropy, margin

KINDS = ("normal", "lattice", "duplicates", "far", "unit")
GAP = ("balance_program",)
"""Any choice within the solver's gap will do, so that kernels may differ (docs/same-picks.md)."""

DRAWN = ("badge", "kmeans_plusplus")
"""A draw falls between two kernels seldom: more pools."""


def features(kind: str, n: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((n, columns))
    if kind == "lattice":
        x = rng.integers(0, 3, (n, columns)).astype(float)
    if kind == "duplicates":
        x = x[rng.integers(0, n // 3, n)]
    if kind == "far":
        x += 1e4 * rng.integers(-1, 2, (n, 1))
    if kind == "unit":
        x /= np.sqrt((x**2).sum(axis=1, keepdims=True))
    return x.astype(np.float32)


def distributions(kind: str, n: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    """For lattice and duplicates few distributions, each with its classes in every order: equal scores."""
    p = rng.dirichlet(np.full(classes, 0.5), n)
    if kind in ("lattice", "duplicates"):
        p = rng.permuted(p[rng.integers(0, n // 10, n)], axis=1)
    return p.astype(np.float32)


def menu(kind: str, n: int, seed: int) -> dict[str, object]:
    """Every input of the selectors, for a pool of n candidates."""
    rng = np.random.default_rng(seed)
    columns, classes, labelled = int(rng.choice([1, 4, 5, 16, 33])), int(rng.choice([2, 5, 8])), int(rng.choice([0, 9]))
    both, p = features(kind, n + labelled, columns, rng), distributions(kind, n, classes, rng)
    sizes = rng.integers(0, 5, n)
    offsets = np.append(0, np.cumsum(sizes))
    boxes = int(offsets[-1])
    box_probs, box_features = distributions(kind, boxes, classes, rng), features(kind, boxes, columns, rng)
    views = np.stack([distributions(kind, n, classes, rng) for _ in range(3)])
    image_scores = enms.score(box_probs, box_features, offsets)
    scores = (entropy.score(p), margin.score(p), bald.score(p, views, np.ones((3, n))), image_scores)[seed % 4]
    counts = rng.integers(0, 20, classes)
    videos = np.sort(rng.integers(0, 4, n))
    return {
        "scores": scores, "features": both[labelled:], "labelled_features": both[:labelled], "probs": p,
        "labels": p if seed % 2 else p.argmax(axis=1), "counts": counts, "frequency": counts / max(counts.sum(), 1),
        "scale": rng.integers(1, 4, n).astype(float), "budget": n // 3, "rng": np.random.default_rng(seed),
        "box_offsets": offsets, "box_probs": box_probs, "box_features": box_features,
        "box_scores": box_probs.max(axis=1), "target": np.full(classes, n // 3 / classes),
        "image": np.arange(n), "videos": videos, "labelled_images": np.arange(labelled),
        "box_numbers": np.arange(boxes), "box_objects": box_probs.max(axis=1), "unseen": sizes / 4,
        "look_seconds": 2.0 + sizes, "object_seconds": np.full(n, 7.0), "budget_seconds": 20.0 * n,
        "labelled_box_features": box_features[:labelled],
    }  # fmt: skip


def main() -> None:
    out = {}
    for name in sorted(set(catalog.names("select")) - set(GAP)):
        for seed, kind in enumerate(KINDS * (40 if name in DRAWN else 4)):
            rows = catalog.find("select", name).call(menu(kind, 150, seed), {})
            out[f"{name}, {kind}, seed {seed}"] = rows.tolist()
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
