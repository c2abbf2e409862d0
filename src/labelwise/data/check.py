"""What is wrong in a data set, over all of its splits, and how each thing is handled.

Beyond what the readers find (see `clean.py`), the full check decodes every image (a truncated file has a good header)
and compares their bytes: a duplicate within a split wastes labels, one across splits spoils the test, and one with
another class is label noise. Of an archive or an array that was decoded when it was read, the pixels are compared; of
a video those of frames with one number: a video that is there twice shows, one that stands still does not. Images that
look the same are counted on the way (`redundancy.py`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labelwise.data import bars, image_reader, image_store, listing, recognise, redundancy, unread
from labelwise.data.recognise import Found
from labelwise.errors import of_image
from labelwise.types import LabelwiseError, Pool, Problem

TWO_LABELS = "one image, two labels"


class Kind(NamedTuple):
    """All problems of one kind."""

    name: str
    number: int
    examples: tuple[Problem, ...]


@dataclass(frozen=True)
class Report:
    """A data set as it was read, all that is wrong in it, how many files of each suffix were not used, and by split how
    many of its images look the same (none of a check that is not full).
    """

    found: Found
    problems: tuple[Problem, ...]
    unused: Mapping[str, int]
    alike: tuple[redundancy.Alike, ...] = ()

    def named(self, root: str, given: str) -> Report:
        """The same where texts call a mirror, `root`, by the URL that was given; of a folder on disk, as it is."""
        if not image_store.is_url(given):
            return self
        given = given.rstrip("/")
        told = (replace(p, where=p.where.replace(root, given), what=p.what.replace(root, given)) for p in self.problems)
        broken = {split: why.replace(root, given) for split, why in self.found.broken.items()}
        return replace(self, problems=tuple(told), found=replace(self.found, broken=broken))

    def as_json(self, examples: int | None = 20) -> dict[str, object]:
        """For other programs; of a kind with more problems than `examples` the rest is one entry with its count."""
        pools = self.found.pools
        rows: list[dict[str, object]] = []
        for kind in summarise(self.problems, examples or len(self.problems)):
            for one in kind.examples:
                row = {"kind": one.kind, "count": one.count, "where": one.where, "what": one.what}
                rows.append(row | {"handling": one.handling})
            rest = kind.number - sum(one.count for one in kind.examples)
            if rest:
                last = kind.examples[-1]
                row = {"kind": kind.name, "count": rest, "where": "", "what": f"{rest} more; --all shows each"}
                rows.append(row | {"handling": last.handling})
        return {
            "format": self.found.format,
            "splits": {
                name or "all": {"images": len(pool), "boxes": self.found.boxes(pool)} for name, pool in pools.items()
            },
            "classes": self.found.classes,
            "problems": rows,
            "unused": dict(self.unused),
            "alike": [one.as_json(examples) for one in self.alike],
        }


def look(
    root: Path,
    format_name: str | None = None,
    full: bool = True,
    progress: Callable[[int], None] | None = None,
    first_pixel: int | None = None,
) -> Report:
    """Reads every split of a data set as `labelwise init` does, and says what is wrong. `full=False` reads annotations
    and image headers only. `progress(1)` per image; `first_pixel`: as for `find.read`.

    Raises:
        LabelwiseError: no known format, several, or no split that can be read.
    """
    with listing.once():
        found = recognise.look(root, format_name, most=None, first_pixel=first_pixel)
        below = listing.below(root)
    pools = {name or "all": pool for name, pool in found.pools.items()}
    told = [
        Problem("malformed annotation", split or str(root), why, "the split can't be read")
        for split, why in found.broken.items()
    ]
    told += [problem for pool in pools.values() for problem in pool.problems]
    left = unread.unused(below, pools.values())
    told += unread.problems(left, found.format, told)
    told += _empty(found)
    told += _shared(pools)
    alike: tuple[redundancy.Alike, ...] = ()
    if full:
        wrong, thumbnails = _contents(pools, progress)
        told += wrong
        alike = redundancy.alike([(split, pool.names) for split, pool in pools.items()], thumbnails)
    problems = tuple(dict.fromkeys(told))  # train lies within trainval: each once
    return Report(found, problems, unread.by_suffix(left), alike)


def check(root: Path, format_name: str | None = None, full: bool = True) -> tuple[Problem, ...]:
    """Every problem of a data set: those of `look`."""
    return look(root, format_name, full).problems


def _empty(found: Found) -> list[Problem]:
    """Splits that are annotated, and have not one box."""
    return [
        Problem(
            "split without a box",
            name or str(found.root),
            f"{len(pool)} images and not one box",
            "kept; are these the labels?",
        )
        for name, pool in found.pools.items()
        if pool.truth is not None and not found.boxes(pool) and not found.classifies
    ]


def summarise(problems: Iterable[Problem], examples: int = 3) -> tuple[Kind, ...]:
    """By kind, most frequent first, with the first few of each.

    >>> a, b = (Problem("zero-size box", where, "no area", "left out") for where in ("a.txt:1", "a.txt:2"))
    >>> [(kind.name, kind.number, len(kind.examples)) for kind in summarise([a, b], examples=1)]
    [('zero-size box', 2, 1)]
    """
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    rows = (Kind(name, sum(one.count for one in all_), tuple(all_[:examples])) for name, all_ in kinds.items())
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


def _contents(
    pools: dict[str, Pool], progress: Callable[[int], None] | None
) -> tuple[list[Problem], dict[str, np.ndarray]]:
    """Images that don't decode, and images with the same bytes or pixels; and thumbnails of the others, or of a sample
    of them, by name.
    """
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
    thumbnails: dict[str, np.ndarray] = {}
    wanted = redundancy.sample(len(places)).tolist()
    jobs = [(*place, small) for place, small in zip(places.values(), wanted, strict=True)]
    far = any(image_store.of(pool.root / "image") is not None for pool in pools.values())
    with bars.late("check", len(jobs)) as advance:
        for name, (digest, message, small) in zip(places, image_reader.each(_content, jobs, fetch=far), strict=True):
            if small is not None:
                thumbnails[name] = small
            if message is not None:
                found.append(Problem("unreadable image", name, message, "skipped, and named, in every round"))
            same[digest].append(name)
            (progress or advance)(1)
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
    return found, thumbnails


def _content(place: tuple[Pool, int, bool]) -> tuple[str, str | None, np.ndarray | None]:
    """What tells an image from others, why it cannot be read, and its thumbnail where that is wanted."""
    pool, i, wanted = place

    def small(pixels: np.ndarray) -> np.ndarray | None:
        return redundancy.thumbnail(pixels) if wanted else None

    if pool.pixels is not None:  # they were decoded by the reader; the shape, because the bytes alone don't tell it
        digest = hashlib.sha256(repr(pool.pixels.shape[1:]).encode() + pool.pixels[i].tobytes()).hexdigest()
        return digest, None, small(pool.pixels[i])
    if pool.frames is not None:
        number = str(i if pool.clips is None else pool.clips.frame[i])
        try:
            pixels = pool.frames(i)
        except LabelwiseError as error:
            return pool.names[i], str(error), None
        return hashlib.sha256(f"{number} {pixels.shape}".encode() + pixels.tobytes()).hexdigest(), None, small(pixels)
    try:
        content = image_store.content(pool.path(i))
    except LabelwiseError as error:  # it was there a moment ago
        return pool.names[i], of_image(error), None
    digest = hashlib.sha256(content).hexdigest()
    try:
        pixels = image_reader.decode(content, image_store.where(pool.path(i)))
    except LabelwiseError as error:
        return digest, str(error), None
    return digest, None, small(pixels)
