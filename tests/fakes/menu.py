"""Arrays for every input of a folder's menu, made from its rows: a new input comes to the contract tests unasked."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelwise.config.inputs import INPUTS, Input

SIZES = {"D": 6, "V": 3, "T": 6, "m": 8, "k": 3, "h": 8, "w": 8, "images": 12}
"""How many of what, beside n, C and boxes."""


def made(folder: str, n: int, classes: int = 5, seed: int = 0, **sizes: int) -> dict[str, Any]:
    """What a method of the folder may name: n boxes (of a selector: n candidates, with three boxes each)."""
    rng = np.random.default_rng(seed)
    given = {**SIZES, "n": n, "C": classes, "boxes": 3 * n, **sizes}
    return {name: _value(row, given, rng) for name, row in INPUTS[folder].items()}


def _value(row: Input, sizes: dict[str, int], rng: np.random.Generator) -> Any:
    if row.name == "rng":
        return rng
    shape = [int(axis) if axis.isdigit() else sizes[axis] for axis in row.shape.split() if "+" not in axis]
    match row.values:
        case "distribution":
            return distributions(rng, *shape)
        case "share":
            return rng.random(shape, dtype=np.float32) * (rng.random(shape) > 0.2)
        case "amount" if not shape:
            return float(sizes["n"])
        case "amount":
            return (rng.permutation(np.prod(shape)).reshape(shape) + 1) / max(np.prod(shape), 1)
        case "number":
            return rng.random(shape, dtype=np.float32)
        case "class":
            return rng.integers(0, sizes["C"], shape)
        case "count" if shape:
            return rng.integers(0, 5, shape)
        case "count":
            return sizes["n"]
        case "position":
            return rng.permutation(sizes["images"])[: shape[0]]
        case "offsets":
            of, boxes = sizes[row.shape.removesuffix("+1")], sizes["n" if row.axis == "images" else "boxes"]
            inside = (1, of - 1) if of > 2 else (0, max(of, 1))  # the first and the last hold nothing
            owner = np.sort(rng.integers(*inside, boxes))
            return np.searchsorted(owner, np.arange(of + 1)).astype(np.int64)
    raise AssertionError(f"tests/fakes/menu.py makes no {row.values!r} values yet: input {row.name!r}")


def distributions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Peaked and flat rows, some with exact zeros."""
    raw = rng.random(shape, dtype=np.float32) ** rng.choice([1, 8], (*shape[:-1], 1)) * (rng.random(shape) > 0.2)
    raw[..., 0] += 1e-3
    return (raw / raw.sum(-1, keepdims=True)).astype(np.float32)
