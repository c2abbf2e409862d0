"""What one COCO file says, as columns: its images and categories, and what is wrong with them, entry by entry."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labelwise.data import _coco_region as region
from labelwise.types import Problem

MOST_PX = 2**31

_PATHS = ("file_name", "filename", "path", "coco_url", "url")
_VIDEO = ("video_id", "frame_id", "frame_index", "frame_number")
_FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")


@dataclass(slots=True)
class Category:
    """`top`: it is what others name as their super category, and has none itself."""

    id: Any
    name: str
    top: bool = False
    used: bool = False


@dataclass(slots=True)
class Columns:
    """A file. `image` and `category` of a box count in `images` and `categories`.

    Fields:
        path: of the file, relative to the root.
        ids: what the file calls each image, None where that names several.
        said_px: width and height, -1 where it is silent.
        references: every path that an image has, the likeliest first.
        extra: fields of each image that are not read here (frames of videos).
        unsure: images of which not every object is annotated, or nobody can tell.
        labels: ids of the annotations, for messages.
        labelled: whether it has annotations at all (`image_info` files have none).
        folder: where a labelwise export says that its images lie.
    """

    path: str
    ids: list[Any] = field(default_factory=list)
    references: list[tuple[str, ...]] = field(default_factory=list)
    extra: list[dict[str, Any]] = field(default_factory=list)
    said_px: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    unsure: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    categories: list[Category] = field(default_factory=list)
    image: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    category: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    labels: list[Any] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    videos: Any = None
    labelled: bool = True
    folder: str = ""

    def where(self, row: int) -> str:
        """The place of a box, for messages."""
        return f"{self.path}: annotation id {shown(self.labels[row])}"

    def tell(self, kind: str, where: str, what: str, handling: str, count: int = 1) -> None:
        self.problems.append(Problem(kind, f"{self.path}: {where}" if where else self.path, what, handling, count))


def shown(value: Any) -> str:
    """A value for a message, short."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def add_images(made: Columns, entries: list[Any], unsure: bool) -> None:
    sizes: list[tuple[int, int]] = []
    not_sure: list[bool] = []
    federated = 0
    first: dict[Any, int] = {}
    keys = {key for entry in entries if isinstance(entry, dict) for key in entry}  # of 100,000 images: what none has
    paths, video = [name for name in _PATHS if name in keys], [name for name in _VIDEO if name in keys]
    lvis = not keys.isdisjoint(_FEDERATED)
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or (key := plain_id(entry.get("id"))) is None:
            what = f"{shown(entry)}; expected an object with id and file_name"
            made.tell("malformed image entry", f"images[{i}]", what, "left out, with its boxes")
            continue
        said = tuple(text for name in paths if isinstance(text := entry.get(name), str) and text.strip())
        if not said:
            made.tell("malformed image entry", f"image id {shown(key)}", "has no file_name", "left out, with its boxes")
            continue
        doubt, shared = unsure, key in first
        if shared and made.references[first[key]] != said:
            what = f"{said[0]} and {made.references[first[key]][0]} have one id"
            handling = "both are kept, but no box of that id"
            made.tell("duplicate id", f"image id {shown(key)}", what, handling)
            doubt = not_sure[first[key]] = True
            made.ids[first[key]] = None
        elif shared:
            made.tell("image listed twice", f"image id {shown(key)}", said[0], "read as one")
            continue
        first.setdefault(key, len(made.ids))
        if lvis and not entry.keys().isdisjoint(_FEDERATED):
            federated += 1
            doubt = True
        made.ids.append(None if shared else key)
        made.references.append(said)
        made.extra.append({name: entry[name] for name in video if name in entry})
        sizes.append((_pixels(entry.get("width")), _pixels(entry.get("height"))))
        not_sure.append(doubt)
    made.said_px = np.array(sizes, np.int64).reshape(-1, 2)
    made.said_px[(made.said_px < 0).any(axis=1)] = -1
    made.unsure = np.array(not_sure, bool)
    if federated:
        what = f"{federated} images say which classes were looked for (LVIS): of the others nothing is known"
        made.tell("federated labels", "", what, "the images do not count as wholly looked at", federated)


def plain_id(value: Any) -> Any:
    """An id that others may refer to: 1.0 is 1; None where it is no number and no text.

    >>> plain_id(1.0), plain_id("a"), plain_id([1]), plain_id(float("nan"))
    (1, 'a', None, None)
    """
    if type(value) is int:  # as nearly all are
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) else None
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _pixels(value: Any) -> int:
    """A side of an image; -1 where it is no number of pixels."""
    if type(value) is int:
        return value if 0 <= value < MOST_PX else -1
    if isinstance(value, str):
        value = text_number(value)
    return int(value) if region.is_number(value) and 0 <= value < MOST_PX and value == int(value) else -1


def text_number(text: str) -> float | None:
    """The number that a text is; None where it is none, or not finite."""
    try:
        value = float(text) if len(text) < 40 else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def add_categories(made: Columns, entries: list[Any]) -> None:
    found: dict[Any, Category] = {}
    shared: set[Any] = set()
    supers: dict[Any, str] = {}
    for i, entry in enumerate(entries):
        key = plain_id(entry.get("id")) if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if key is None or isinstance(name, bool) or not isinstance(name, str | int | float) or not str(name).strip():
            what = f"{shown(entry)}; expected an object with id and name"
            made.tell("malformed category", f"categories[{i}]", what, "left out, with its boxes")
            continue
        name = str(name)
        if key in found and found[key].name != name:
            what = f"category id {shown(key)} is {found[key].name!r} and {name!r}"
            made.tell("duplicate id", f"categories[{i}]", what, "the boxes of that id are left out")
            shared.add(key)
            made.categories.append(Category(None, name))
            continue
        if key not in found:
            found[key] = Category(key, name)
            supers[key] = str(entry.get("supercategory") or "none")
    above = {(supers[key], key) for key in found}
    for key, one in found.items():
        one.top = supers[key] == "none" and any(name == one.name and other != key for name, other in above)
        if key in shared:
            one.id = None
    listed = list(found.values())
    if all(isinstance(key, int) for key in found):
        listed = [found[key] for key in sorted(found)]
    made.categories = listed + made.categories
