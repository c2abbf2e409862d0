"""Which tool wrote a JSON file, by its first and last bytes (machinery of the readers of JSON).

The keys that a tool always writes tell it; every file is of one tool at most.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from labelwise.data import text_files
from labelwise.data.listing import Listing, kept

_N_BYTES = 65_536
_LOOKED_AT = 12
"""So many files of a folder are looked at to find out whether it holds a tool's files."""


def _keys(first: str, *keys: str) -> tuple[str, tuple[re.Pattern[str], ...]]:
    return first, tuple(re.compile(key) for key in keys)


_OBJECT, _LIST = r'"\s*:\s*\{', r'"\s*:\s*\['
PER_IMAGE = {
    "labelme": _keys("{", '"shapes' + _LIST),
    "vott_asset": _keys("{", '"asset' + _OBJECT, '"regions' + _LIST),
    "superannotate": _keys("{", '"instances' + _LIST, '"metadata' + _OBJECT),
    "darwin": _keys("{", '"(item|image)' + _OBJECT, '"annotations' + _LIST, '"(slots|item|original_filename)"'),
    "segment_anything": _keys("{", '"image' + _OBJECT, '"annotations' + _LIST, '"segmentation"', '"bbox"'),
    "bdd_frame": _keys("{", '"frames' + _LIST, '"objects' + _LIST),
    "supervisely": _keys("{", '"objects' + _LIST, r'"size"\s*:\s*\{|"classTitle"'),
    "cityscapes": _keys("{", '"objects' + _LIST, '"imgHeight"'),
}
LISTS = {
    "via": _keys("{", r'"(_via_img_metadata|region_attributes|file_attributes)"'),
    "via3": _keys("{", '"view' + _OBJECT, '"file' + _OBJECT, '"metadata' + _OBJECT),
    "datumaro": _keys("{", '"categories' + _OBJECT, '"label' + _OBJECT, '"labels' + _LIST),
    "fiftyone": _keys("{", r'\A\s*\{\s*"samples' + _LIST, '"filepath"'),
    "fiftyone_labels": _keys("{", '"labels' + _OBJECT, '"bounding_box"'),
    "vott": _keys("{", '"assets' + _OBJECT, '"(asset|regions|tags)"'),
    "cloud_annotations": _keys("{", '"type"\\s*:\\s*"localization"', '"annotations' + _OBJECT),
    "edge_impulse": _keys("{", '"boundingBoxes' + _OBJECT),
    "tt100k": _keys("{", '"types' + _LIST, '"imgs' + _OBJECT),
    "scalabel": _keys("{", '"frames' + _LIST, '"labels"', '"(box2d|config)"'),
    "label_studio": _keys("[", '"(annotations|completions)' + _LIST, r'"(result|data|was_cancelled)"\s*:'),
    "label_studio_min": _keys(
        "[", r'"original_width"|"(rectangle|polygon|ellipse|brush)labels"', r'\A(?!(?s:.)*"result")'
    ),
    "createml": _keys("[", r'"(image|imagefilename|image_filename)"\s*:\s*"', '"annotations?' + _LIST),
    "bdd": _keys("[", '"name"', r'"labels"\s*:\s*(\[|null)', '"(box2d|category|attributes)"'),
    "labelbox": _keys("[", '"Label"', '"(External ID|Labeled Data|DataRow ID)"'),
    "scale": _keys("[", '"task_id"', '"(response|params)"'),
}
_TOOLS = LISTS | PER_IMAGE


def tool(path: Path) -> str:
    """The tool that wrote a JSON file; empty where none is known."""
    return kept(("tool of JSON", path), lambda: _tool(path))


def _tool(path: Path) -> str:
    raw = text_files.head(path, _N_BYTES)
    if len(raw) == _N_BYTES:
        raw += _tail(path)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        said = text_files.decode(raw)
    else:  # keys are ASCII; half a character at the end of the head does no harm
        said = raw.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    said = said.lstrip("\ufeff \t\r\n")
    for name, (first, keys) in _TOOLS.items():
        if said.startswith(first) and all(key.search(said) for key in keys):
            return name
    return ""


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(-min(_N_BYTES, max(path.stat().st_size - _N_BYTES, 0)), 2)
            return file.read(_N_BYTES)
    except OSError:
        return b""


def found(listing: Listing, names: Iterable[str], of: Iterable[str]) -> tuple[str, list[str]]:
    """The tool of most files, with those, among the tools `of`. A few files of every folder are looked at first."""
    names, of = list(names), set(of)
    looked_at: Counter[str] = Counter()
    some = []
    for name in names:
        folder = name.rpartition("/")[0]
        looked_at[folder] += 1
        if looked_at[folder] <= _LOOKED_AT:
            some.append(name)
    if not any(tool(listing.root / name) in of for name in some):
        return "", []
    tools: dict[str, list[str]] = {}
    for name in names:
        tools.setdefault(tool(listing.root / name), []).append(name)
    best = max((one for one in tools if one in of), key=lambda one: len(tools[one]))
    return best, tools[best]
