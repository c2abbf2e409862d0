"""From what an annotation file says to a `Pool` that can be trusted: every reader ends here.

The images are probed (header only), the boxes are checked against them. What is wrong is repaired or left out in one
documented way, and always told as a `Problem`; nothing is dropped silently. Kinds and handling:

| kind | handling |
|---|---|
| missing image, unreadable image | the image is left out, with its boxes |
| annotation says 0x0, size differs | the size of the file counts; boxes stay as written |
| boxes of the unturned image (the said size is that of the pixels before EXIF turns them) | turned with the image |
| palette / RGBA / 16-bit / CMYK / EXIF-rotated / multi-page image | converted when loaded (see `image_reader.py`) |
| box without numbers, zero-size box | left out |
| corners swapped (x1 > x2 or y1 > y2) | put right |
| box twice (one image, class and place) | one is kept |
| out-of-image box | wholly outside: left out; partly: clipped to the image |

An overhang of at most `ROUNDING_PX` is rounding in the file (YOLO writes fractions with six digits), not a problem.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.data import bars, image_store, kept_headers
from labelwise.data import image_reader as files
from labelwise.errors import of_image
from labelwise.types import Boxes, LabelwiseError, Pool, Problem, Rects

ROUNDING_PX = 0.05
MIN_SIDE_PX = 0.01

_SAME_SPLIT = ({"val", "valid", "validation"},)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Boxes as a file gives them: `image` counts in the reader's names; `where(row)` names one for a message."""

    image: Int64[np.ndarray, " n"]
    xyxy: Float64[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    where: Callable[[int], str]

    @staticmethod
    def of(rows: Iterable[tuple[int, Sequence[float], int, bool]], where: Sequence[str] | Callable[[int], str]) -> Rows:
        """From (image, box, class, crowd) tuples."""
        image, box, label, crowd = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
        return Rows(
            np.array(image, np.int64),
            np.array(box, np.float64).reshape(-1, 4),
            np.array(label, np.int64),
            np.array(crowd, bool),
            where if callable(where) else where.__getitem__,
        )


def pool(
    root: Path,
    classes: Sequence[str],
    names: Sequence[str],
    rows: Rows | None,
    problems: Sequence[Problem] = (),
    *,
    said_px: Int64[np.ndarray, "images 2"] | None = None,
    normalised: bool = False,
    size_px: Int64[np.ndarray, "images 2"] | None = None,
    complete: Bool[np.ndarray, " images"] | None = None,
    sources: frozenset[str] = frozenset(),
) -> Pool:
    """The checked pool. `rows` None: no ground truth. `said_px`: width and height by the annotation, -1 if it is
    silent. `normalised`: boxes are fractions of the image. `size_px`: width and height, where the images are no files
    of their own; then nothing is probed. `complete`, `sources`: those of the `Pool`.
    """
    found = list(problems)
    keep = np.ones(len(names), bool)
    turn, unturned = np.ones(len(names), np.int64), np.zeros(len(names), bool)
    if size_px is None:
        headers = _headers(root, names, found)
        keep = np.array([header is not None for header in headers], bool)
        size_px = np.array([h[:2] if h else (0, 0) for h in headers], np.int64).reshape(-1, 2)
        turn = np.array([h.turn if h else 1 for h in headers], np.int64)
    if said_px is not None:
        unturned = keep & (turn >= 5) & (said_px == size_px[:, ::-1]).all(axis=1) & (said_px[:, 0] != said_px[:, 1])
        found += _sizes(names, keep & ~unturned, size_px, said_px)
    truth, crowd = None, None
    if rows is not None:
        stored_px = np.where(unturned[:, None], size_px[:, ::-1], size_px)
        if normalised:
            rows = replace(rows, xyxy=rows.xyxy * np.tile(stored_px[rows.image], 2))
        if unturned.any():
            rows = _turn(rows, np.where(unturned, turn, 1), stored_px, names, found)
        rows = _boxes(rows, keep, size_px, found)
        number = np.cumsum(keep) - 1
        solid = ~rows.crowd
        n = int(keep.sum())
        truth = Boxes.from_rows(number[rows.image[solid]], rows.xyxy[solid], rows.labels[solid], n)
        crowd = Rects.from_rows(number[rows.image[~solid]], rows.xyxy[~solid], n) if rows.crowd.any() else None
    kept = tuple(name for name, yes in zip(names, keep, strict=True) if yes)
    return Pool(
        root,
        tuple(classes),
        kept,
        size_px[keep, 0],
        size_px[keep, 1],
        truth=truth,
        crowd=crowd,
        problems=tuple(found),
        complete=None if complete is None else complete[keep],
        sources=sources,
    )


def _turn(rows: Rows, turn: np.ndarray, stored_px: np.ndarray, names: Sequence[str], found: list[Problem]) -> Rows:
    """Boxes of stored pixels in the image as it is displayed (EXIF orientations 5 to 8)."""
    x1, y1, x2, y2 = rows.xyxy.T
    width, height = stored_px[rows.image].T
    how = turn[rows.image]
    turned = {
        5: (y1, x1, y2, x2),
        6: (height - y2, x1, height - y1, x2),
        7: (height - y2, width - x2, height - y1, width - x1),
        8: (y1, width - x2, y2, width - x1),
    }
    xyxy = rows.xyxy.copy()
    for orientation, box in turned.items():
        here = how == orientation
        xyxy[here] = np.stack(box, axis=1)[here]
    count = np.bincount(rows.image, minlength=len(names))
    for i in np.flatnonzero(turn >= 5).tolist():
        size = "x".join(map(str, stored_px[i].tolist()))
        what = f"annotation says {size} px, the stored pixels; EXIF orientation {turn[i]} turns them"
        found.append(Problem("boxes of the unturned image", names[i], what, f"{count[i]} boxes turned with the image"))
    return replace(rows, xyxy=xyxy)


def _headers(root: Path, names: Sequence[str], found: list[Problem]) -> list[files.Header | None]:
    header_of = kept_headers.probe_below(root)

    def probe(name: str) -> files.Header | Problem:
        try:
            return header_of(name)
        except LabelwiseError as error:
            kind = "missing image" if image_store.status(root / name) is None else "unreadable image"
            return Problem(kind, name, of_image(error), "the image is left out, with its boxes")

    headers: list[files.Header | None] = []
    far = image_store.of(root / "image") is not None
    with bars.late("read headers", len(names)) as advance:
        for name, header in zip(names, files.each(probe, names, fetch=far), strict=True):
            advance(1)
            if isinstance(header, Problem):
                found.append(header)
                headers.append(None)
                continue
            headers.append(header)
            for flag in header.flags:
                found.append(Problem(f"{flag} image", name, f"the file is a {flag} image", _CONVERSION[flag]))
    return headers


_CONVERSION = {
    "palette": "colours looked up when loaded",
    "RGBA": "composited on white when loaded",
    "16-bit": "scaled to 8 bit when loaded",
    "CMYK": "converted to RGB when loaded",
    "multi-page": "the first page is read",
    "EXIF-rotated": "turned as displayed when loaded; boxes are read as of the displayed image",
}


def _sizes(names: Sequence[str], keep: np.ndarray, size_px: np.ndarray, said_px: np.ndarray) -> list[Problem]:
    zero = keep & (said_px == 0).any(axis=1)
    other = keep & (said_px > 0).all(axis=1) & (said_px != size_px).any(axis=1)
    found = []
    for i in np.flatnonzero(zero | other).tolist():
        kind = "annotation says 0x0" if zero[i] else "size differs"
        said, real = "x".join(map(str, said_px[i])), "x".join(map(str, size_px[i]))
        what = f"annotation says {said} px, the image is {real} px"
        if other[i] and (said_px[i] == size_px[i][::-1]).all():
            what += " (turned by 90 degrees: the boxes may belong to the unturned image)"
        found.append(Problem(kind, names[i], what, "the size of the file is used; boxes stay as written"))
    return found


def _boxes(rows: Rows, keep: np.ndarray, size_px: np.ndarray, found: list[Problem]) -> Rows:
    number = np.isfinite(rows.xyxy).all(axis=1)
    box = np.where(number[:, None], rows.xyxy, 0.0)
    right = np.concatenate([np.minimum(box[:, :2], box[:, 2:]), np.maximum(box[:, :2], box[:, 2:])], axis=1)
    clipped = np.clip(right, 0, np.tile(size_px[rows.image], 2).astype(np.float64))
    here = keep[rows.image]
    zero = here & number & ((right[:, 2:] - right[:, :2]) <= MIN_SIDE_PX).any(axis=1)
    outside = here & number & ~zero & ((clipped[:, 2:] - clipped[:, :2]) <= MIN_SIDE_PX).any(axis=1)
    kept = here & number & ~zero & ~outside
    again = _again(rows, clipped, kept)
    for mask, kind, what, handling in (
        (here & ~number, "box without numbers", "is not made of finite numbers", "left out"),
        (zero, "zero-size box", "has no area", "left out"),
        (outside, "out-of-image box", "lies outside the image", "left out"),
        (kept & (right != box).any(axis=1), "corners swapped", "begins behind its end", "put right"),
        (kept & (np.abs(clipped - right) > ROUNDING_PX).any(axis=1), "out-of-image box", "reaches beyond the image",
         "clipped to the image"),
        (again, "box twice", "is there twice, with one class", "one is kept"),
    ):  # fmt: skip
        for row in np.flatnonzero(mask).tolist():
            said, (width, height) = _text(rows.xyxy[row]), size_px[rows.image[row]]
            found.append(Problem(kind, rows.where(row), f"box {said} {what} ({width}x{height} px)", handling))
    rest = np.flatnonzero(kept & ~again)
    return Rows(rows.image[rest], clipped[rest], rows.labels[rest], rows.crowd[rest], lambda r: rows.where(rest[r]))


def _again(rows: Rows, xyxy: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Rows that say what an earlier one has said."""
    all_ = np.column_stack([rows.image, rows.labels, rows.crowd, np.round(xyxy, 3)])
    index = np.flatnonzero(kept)
    order = index[np.lexsort(all_[index].T)]  # a stable sort: of equal rows the first comes first
    again = np.zeros(len(kept), bool)
    again[order[1:]] = (all_[order[1:]] == all_[order[:-1]]).all(axis=1)
    return again


def _text(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:.6g}" for v in box) + "]"


def choose(root: Path, splits: Sequence[str], split: str | None) -> str | None:
    """The split that is meant: `None` is the only one there is; `val`, `valid` and `validation` are one, and case does
    not count where no split has the very name.
    """
    if split is None:
        if len(splits) > 1:
            raise LabelwiseError(f"{root}: holds the splits {', '.join(splits)}. Say which one to read.")
        return splits[0] if splits else None
    plain = split.lower()
    same = next((group for group in _SAME_SPLIT if plain in group), {plain})
    for name in (*(one for one in splits if one == split), *splits):
        if name == split or name.lower() in same:
            return name
    raise LabelwiseError(f"{root}: no split {split!r}; expected one of {', '.join(splits) or '(it has no splits)'}.")


def images_under(folder: Path) -> list[Path]:
    """Every image file below a folder, sorted by path."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [path for path in (Path(where) / name for name in names) if files.is_image(path)]
    return sorted(found)


def relative(path: Path, root: Path) -> str:
    """The name of an image in a pool: its path relative to the root, with forward slashes."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # Windows
        raise LabelwiseError(f"{path} lies on another drive than {root}: move one of them, or link to it") from None


def spellings(file: str) -> tuple[str, ...]:
    """How the path of a file that another program wrote may be meant: as it is, or as Windows writes paths."""
    return (file, file.replace("\\", "/")) if "\\" in file else (file,)
