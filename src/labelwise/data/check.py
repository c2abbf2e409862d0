"""What is wrong in a data set, over all of its splits, and how each thing is handled.

Beyond what the readers find (see `clean.py`), the full check decodes every image (a truncated file has a good header)
and compares their bytes: a duplicate within a split wastes labels, one across splits spoils the test, and one with
another class is label noise. Of an archive or an array that was decoded when it was read, the pixels are compared; of
a video those of frames with one number: a video that is there twice shows, one that stands still does not.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from labelwise.data import find, image_reader
from labelwise.types import LabelwiseError, Pool, Problem

TWO_LABELS = "one image, two labels"


class Kind(NamedTuple):
    """All problems of one kind."""

    name: str
    number: int
    examples: tuple[Problem, ...]


def check(
    root: Path, format_name: str | None = None, full: bool = True, progress: Callable[[int], None] | None = None
) -> tuple[Problem, ...]:
    """Every problem of a data set. `full=False` reads annotations and image headers only. `progress(1)` per image."""
    one = find.reader(root, format_name)
    found: list[Problem] = []
    pools: dict[str, Pool] = {}
    for split in one.splits(root) or (None,):
        try:
            pools[split or "all"] = one.read(root, split)
        except LabelwiseError as error:
            found.append(Problem("malformed annotation", split or str(root), str(error), "the split can't be read"))
    found += [problem for pool in pools.values() for problem in pool.problems]
    found += _shared(pools)
    if full:
        found += _contents(pools, progress)
    return tuple(dict.fromkeys(found))  # VOC's train lies within trainval: each problem once


def summarise(problems: Iterable[Problem], examples: int = 3) -> tuple[Kind, ...]:
    """By kind, most frequent first, with the first few of each.

    >>> a, b = (Problem("zero-size box", where, "no area", "left out") for where in ("a.txt:1", "a.txt:2"))
    >>> [(kind.name, kind.number, len(kind.examples)) for kind in summarise([a, b], examples=1)]
    [('zero-size box', 2, 1)]
    """
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    rows = (Kind(name, len(all_), tuple(all_[:examples])) for name, all_ in kinds.items())
    return tuple(sorted(rows, key=lambda kind: -kind.number))


def _shared(pools: dict[str, Pool]) -> list[Problem]:
    """Images that two splits name, unless one split holds the other (train within trainval)."""
    found = []
    for (a, first), (b, second) in combinations(pools.items(), 2):
        names = set(first.names), set(second.names)
        both = names[0] & names[1]
        if len(both) < min(len(names[0]), len(names[1])):
            what = f"in the splits {a} and {b}"
            found += [
                Problem("image in two splits", name, what, "kept in both; use one of them") for name in sorted(both)
            ]
    return found


def _contents(pools: dict[str, Pool], progress: Callable[[int], None] | None) -> list[Problem]:
    """Images that don't decode, and images with the same bytes or pixels."""
    splits: dict[str, list[str]] = defaultdict(list)
    places: dict[str, tuple[Pool, int]] = {}
    label: dict[str, str] = {}
    for split, pool in pools.items():
        labels = pool.truth.labels.tolist() if pool.truth is not None and pool.one_class_per_image else []
        for i, name in enumerate(pool.names):
            splits[name].append(split)
            places[name] = pool, i
        label.update((name, pool.classes[k]) for name, k in zip(pool.names, labels, strict=False))
    found = []
    same: dict[str, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(image_reader.THREADS) as threads:
        for name, (digest, message) in zip(places, threads.map(_content, places.values()), strict=True):
            if message is not None:
                found.append(Problem("unreadable image", name, message, "skipped, and named, in every round"))
            same[digest].append(name)
            if progress is not None:
                progress(1)
    for first, *others in same.values():
        for name in others:
            held = places[name][0].pixels is not None or places[name][0].frames is not None
            what = f"same {'pixels' if held else 'bytes'} as {first} ({'/'.join(splits[first])})"
            across = not set(splits[name]) & set(splits[first])
            where = f"{name} ({'/'.join(splits[name])})"
            what += "; across splits, so that it is trained and tested on" if across else ""
            kind, handling = "duplicate image", "kept; remove one of them"
            if label.get(name) != label.get(first):
                kind, handling = TWO_LABELS, "both kept; find out which label is right"
                what += f"; {label.get(first)!r} there, {label.get(name)!r} here"
            found.append(Problem(kind, where, what, handling))
    return found


def _content(place: tuple[Pool, int]) -> tuple[str, str | None]:
    pool, i = place
    if pool.pixels is not None:  # they were decoded by the reader; the shape, because the bytes alone don't tell it
        return hashlib.sha256(repr(pool.pixels.shape[1:]).encode() + pool.pixels[i].tobytes()).hexdigest(), None
    if pool.frames is not None:
        number = str(i if pool.clips is None else pool.clips.frame[i])
        try:
            pixels = pool.frames(i)
        except LabelwiseError as error:
            return pool.names[i], str(error)
        return hashlib.sha256(f"{number} {pixels.shape}".encode() + pixels.tobytes()).hexdigest(), None
    digest = hashlib.sha256(pool.path(i).read_bytes()).hexdigest()
    try:
        image_reader.load(pool.path(i))
    except LabelwiseError as error:
        return digest, str(error)
    return digest, None
