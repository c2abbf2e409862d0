"""A YOLO data set as its files say it: splits, label files, rows and classes, all splits at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelwise.data import _yolo_classes as yolo_classes
from labelwise.data import _yolo_config as yolo_config
from labelwise.data import _yolo_layout as yolo_layout
from labelwise.data import _yolo_pairs as yolo_pairs
from labelwise.data import _yolo_rows as yolo_rows
from labelwise.data import entries, listing, split_names, text_files
from labelwise.data._yolo_classes import Classes
from labelwise.data._yolo_config import Config
from labelwise.data._yolo_layout import Layout
from labelwise.data._yolo_pairs import Pairs
from labelwise.data.listing import Listing
from labelwise.types import LabelwiseError, Problem

_HEADS = 200
_NON_EMPTY = 20


@dataclass(frozen=True, slots=True, eq=False)
class YoloSet:
    """`label_files` in the order that the table numbers them; `problems` are those of no split."""

    root: Path
    layout: Layout
    pairs: Pairs
    label_files: tuple[str, ...]
    table: yolo_rows.Table
    classes: Classes
    problems: tuple[Problem, ...]
    sources: frozenset[str]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split_names.in_order({split for split in self.layout.splits if split}))


def load(root: Path) -> YoloSet | None:
    """The data set below a folder, or that of a file; None: there is none.

    Raises:
        LabelwiseError: the file that describes it is broken, or names no classes where it should.
    """
    return listing.kept(("yolo set", root), lambda: _load(root))


def recognise(root: Path) -> bool:
    """Whether there is a file that describes such a data set, or label files with rows of shares beside images."""
    if not root.exists():
        return False
    files = listing.below(root)
    try:
        if (config := yolo_config.at_root(files, root)) is not None and config.places:
            return True
    except LabelwiseError as error:
        return "broken YAML" in str(error)
    if root.is_file() or not files.images:
        return False
    return _deeper(files) is not None or _has_labels(files)


def _load(root: Path) -> YoloSet | None:
    files = listing.below(root)
    config = yolo_config.at_root(files, root)
    if root.is_file() and config is None:
        return None
    problems: list[Problem] = []
    if config is None and (found := _deeper(files)) is not None:
        config = found
        handling = f"its paths count from {config.folder}/"
        problems.append(Problem("data set file in a subfolder", config.file, "it describes this data set", handling))
    if config is None or not config.places:
        lists = yolo_config.lists(files)
        config = lists if config is None or lists is None else config._replace(places=lists.places)
    layout = yolo_layout.by_config(files, config) if config is not None and config.places else None
    outside = [name for found in (layout.splits.values() if layout else ()) for name in found if name.startswith("../")]
    pairs = _pairs(files, (*files.images, *outside), layout.lists if layout else set())
    if config is None and not pairs.label_of:
        return None
    if layout is None:
        layout = yolo_layout.by_folders(files, set(pairs.label_of))
    label_files = tuple(dict.fromkeys(pairs.label_of.values()))
    table = yolo_rows.table(files.root, label_files, config.n_keypoints if config else 0)
    classes = (yolo_config.classes(files, config) if config else None) or yolo_classes.of_files(files)
    if classes is None:
        classes = yolo_classes.stand_ins(root.name, table.label.tolist())
    problems += entries.classes_alike(root, classes.names)
    problems += [*layout.common, *classes.problems, *pairs.problems]
    stray = _stray(files, pairs)
    if stray:
        what = f"no image is called {Path(stray[0]).stem}.*"
        problems.append(Problem("label without image", stray[0], what, "left out", len(stray)))
    sources = {*layout.lists, *classes.sources, *label_files, *stray}
    if config is not None and config.file:
        sources.add(config.file)
        if further := yolo_config.further(files, config):
            what = f"describes a data set too, beside {config.file}"
            problems.append(Problem("second data set file", further[0], what, "not read", len(further)))
    return YoloSet(files.root, layout, pairs, label_files, table, classes, tuple(problems), frozenset(sources))


def _deeper(files: Listing) -> Config | None:
    """The file in a subfolder whose places are there."""
    return listing.kept(("yolo deeper", files.root), lambda: _first_that_fits(files))


def _first_that_fits(files: Listing) -> Config | None:
    """As a copy of a trainer's own files names data sets that are not here, there must be labels too."""
    found = [config for config in yolo_config.deeper(files) if config.places]
    if not found or not files.images:
        return None
    labelled = _pairs(files, files.images, set()).label_of
    for config in found:
        layout = yolo_layout.by_config(files, config)
        if layout.n_found and any(name in labelled for images in layout.splits.values() for name in images):
            return config
    return None


def _pairs(files: Listing, images: Sequence[str], lists: set[str]) -> Pairs:
    texts = [name for name in files.of(".txt") if name not in lists and not yolo_classes.is_list(name)]
    return yolo_pairs.pair(files.root, tuple(dict.fromkeys(images)), texts)


def _has_labels(files: Listing) -> bool:
    """Whether most of the first label files hold rows of shares."""
    if not files.of(".txt"):
        return False
    lists = yolo_config.lists(files)
    pairs = _pairs(files, files.images, {name for said in lists.places.values() for name in said} if lists else set())
    found = list(dict.fromkeys(pairs.label_of.values()))
    said: list[bool] = []
    for name in found[:: max(1, len(found) // _HEADS)]:
        one = yolo_rows.plausible(text_files.head(files.root / name))
        if one is not None:
            said.append(one)
        if len(said) == _NON_EMPTY:
            break
    if not said:
        return bool(found) and yolo_classes.of_files(files) is not None
    return 2 * sum(said) > len(said)


def _stray(files: Listing, pairs: Pairs) -> list[str]:
    """Label files of no image: by their folder, or by their rows."""
    return [
        name
        for name in pairs.unused
        if yolo_pairs.in_label_folder(name) or yolo_rows.plausible(text_files.head(files.root / name))
    ]
