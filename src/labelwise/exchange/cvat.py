"""CVAT XML 1.1: for images, and one file of tracks per video for frames; each query a box with attributes.

The attributes `query`, `answer` and `fix_class` (see `_shapes`) must be declared for the labels of the CVAT task:
`labels.json` is the text to paste there ("Raw"). Images are known by their name in the pool, frames by their number in
the video. The class of a candidate is corrected by `fix_class`: changing the label itself may clear the attributes.

What the model found where everything is asked for goes into a second file, `suggested.xml` (`..._suggested.xml` of a
video), which holds the same boxes and its own besides (`source="auto"`, `answer` is `suggested`): upload either. A
suggestion is an object when its `answer` is `accept`; deleted, it is none; one that is left as it was leaves its query
unfinished.

A file holds the asked images alone; CVAT cannot tell "looked at and empty" from "not looked at" otherwise.

Fails when: the task was made without these attributes: CVAT drops what it does not know, and nothing comes back (the
import says so).
"""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from labelwise.data import text_files
from labelwise.exchange._geometry import turned
from labelwise.exchange._questions import REGION, Suggested, query_id, size_of
from labelwise.exchange._reader import REFUSED, AnswerReader, begins
from labelwise.exchange._shapes import (
    ATTRIBUTES,
    NEW,
    SUGGESTED,
    Shape,
    answers,
    refuse_classes,
    shapes,
    suggestions,
    words,
)
from labelwise.types import Answer, Boxes, Clips, Pool, Problem, Query

CANNOT_CARRY = (
    "classes of whole images (use Label Studio or JSON)",
    "who answered and in how many seconds: give --who; the cost table counts the time",
    "why something was skipped",
    "the score and its parts",
    "pixels beyond two decimals: CVAT rounds when it exports",
    "how sure the model is of a suggestion, and which suggestions were mended or deleted",
)
FRAMES_OF_VIDEO = True
"""CVAT has the videos themselves: their frames are not written as images."""
FILE, SUGGESTED_FILE = "annotations.xml", "suggested.xml"
_SIZE = re.compile("[0-9]{1,9}")


def detect(content: bytes) -> bool:
    """XML."""
    return begins(content, b"<")


def _labels(pool: Pool, answer_words: Sequence[str]) -> str:
    """The labels of the CVAT task with their attributes, as JSON for the "Raw" tab."""
    made = [{"name": name, "type": "rectangle", "attributes": _specs(answer_words)} for name in (*pool.classes, REGION)]
    return json.dumps(made, indent=1, ensure_ascii=False)


def write(
    queries: Sequence[Query],
    pool: Pool,
    project: str,
    known: Boxes | None = None,
    one_class: bool = False,
    suggested: Mapping[int, Suggested] | None = None,
) -> dict[str, bytes]:
    """The labels, and the files to upload as annotations: one for images, or one per video that is asked about; where
    anything is suggested, another of each that holds this, too.
    """
    refuse_classes(one_class, "cvat")
    made = shapes(queries, pool, known, project, "CVAT")
    more = suggestions(queries, pool, suggested or {})
    answer_words = words(queries, *([SUGGESTED] if more else []))
    files = {"labels.json": _labels(pool, answer_words).encode()}
    if pool.clips is None:
        files[FILE] = _images(made, pool, answer_words)
        return files | ({SUGGESTED_FILE: _images([*made, *more], pool, answer_words)} if more else {})
    number = pool.number_of
    videos = sorted({int(pool.clips.video[number[shape.image]]) for shape in made})
    for video in videos:
        here = [shape for shape in made if pool.clips.video[number[shape.image]] == video]
        stem = PurePosixPath(pool.clips.names[video]).stem or "video"
        files[f"{video:03d}_{stem}.xml"] = _tracks(here, pool, answer_words, pool.clips, number)
        also = [shape for shape in more if pool.clips.video[number[shape.image]] == video]
        if also:
            content = _tracks([*here, *also], pool, answer_words, pool.clips, number)
            files[f"{video:03d}_{stem}_{SUGGESTED_FILE}"] = content
    return files


def read(
    content: bytes,
    queries: Sequence[Query],
    pool: Pool,
    project: str,
    *,
    who: str = "cvat",
    unfinished: bool = False,
    rename: Mapping[str, str] | None = None,
    unanswered: Collection[int] | None = None,
) -> tuple[list[Answer], list[Problem]]:
    """The answers in an XML file that came back (CVAT for images 1.1, CVAT for video 1.1), and all that is wrong."""
    root = text_files.xml_from(content, "the CVAT file")
    doubts: list[Problem] = []
    given = list(_from_images(root, doubts))
    images = {image.get("name", "") for image in root.iter("image")}
    tracked = list(_from_tracks(root, doubts))
    if tracked:
        in_video, frames = _in_video(tracked, queries, pool, doubts, _part(root))
        given, images = given + in_video, images | frames
    if not any(shape.query for shape in given):
        what = "no box has the attribute `query`: the task has no such attribute, or this is another file"
        doubts.append(Problem("no reference", "the CVAT file", what, REFUSED))
    reader = AnswerReader.of(queries, pool, project, unfinished, rename)
    found, problems = answers(given, reader, who, images, unanswered)
    return found, doubts + problems


def _specs(answer_words: Sequence[str]) -> list[dict[str, object]]:
    """The attributes as CVAT declares them; each may differ from frame to frame."""
    text = {"mutable": True, "input_type": "text", "default_value": "", "values": []}
    select = {"mutable": True, "input_type": "select", "default_value": NEW, "values": list(answer_words)}
    return [{"name": name} | (select if name == "answer" else text) for name in ATTRIBUTES]


def _file(pool: Pool, answer_words: Sequence[str]) -> ET.Element:
    """A file with its head: version and labels."""
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for name in (*pool.classes, REGION):
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "type").text = "rectangle"
        attributes = ET.SubElement(label, "attributes")
        for spec in _specs(answer_words):
            attribute = ET.SubElement(attributes, "attribute")
            for key, value in spec.items():
                written = "\n".join(value) if isinstance(value, list) else str(value)
                ET.SubElement(attribute, key).text = written
    return root


def _bytes(root: ET.Element) -> bytes:
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _box(parent: ET.Element, shape: Shape, **more: str) -> None:
    corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(repr, shape.corners), strict=True))
    order = "-1" if shape.label == REGION else "0"  # below the candidates, so that a click finds these
    element = ET.SubElement(parent, "box", {**more, "occluded": "0", **corners, "z_order": order})
    for name, value in shape.attributes.items():
        ET.SubElement(element, "attribute", name=name).text = value


def _images(made: Sequence[Shape], pool: Pool, answer_words: Sequence[str]) -> bytes:
    root, sizes, images = _file(pool, answer_words), size_of(pool), dict[str, ET.Element]()
    for shape in made:
        if shape.image not in images:
            width, height = map(str, sizes[shape.image])
            about = {"id": str(len(images)), "name": shape.image, "width": width, "height": height}
            images[shape.image] = ET.SubElement(root, "image", about)
        _box(images[shape.image], shape, label=shape.label, source=shape.source)
    return _bytes(root)


def _tracks(
    made: Sequence[Shape], pool: Pool, answer_words: Sequence[str], clips: Clips, number: Mapping[str, int]
) -> bytes:
    """A track per box: there in its frame, gone in the next."""
    root = _file(pool, answer_words)
    task = root.find("meta/task")
    first = number[made[0].image]
    if task is not None:
        ET.SubElement(task, "mode").text = "interpolation"
        size = ET.SubElement(task, "original_size")
        ET.SubElement(size, "width").text = str(pool.width_px[first])
        ET.SubElement(size, "height").text = str(pool.height_px[first])
    for k, shape in enumerate(made):
        track = ET.SubElement(root, "track", id=str(k), label=shape.label, source=shape.source)
        frame = int(clips.frame[number[shape.image]])
        _box(track, shape, frame=str(frame), outside="0", keyframe="1")
        _box(track, shape, frame=str(frame + 1), outside="1", keyframe="1")
    return _bytes(root)


def _corners(element: ET.Element, where: str, doubts: list[Problem]) -> object:
    """The corners of a box, or of the hull of a polygon, an ellipse or a mask; what has none stays text, which the
    reader refuses: left out, an image would be covered that has an object more.
    """
    try:
        if element.tag == "box":
            x1, y1, x2, y2 = (float(element.get(key, "")) for key in ("xtl", "ytl", "xbr", "ybr"))
        elif element.tag == "polygon":
            points = [point.split(",") for point in element.get("points", "").split(";")]
            xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
            x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
        elif element.tag == "ellipse":
            cx, cy, rx, ry = (float(element.get(key, "")) for key in ("cx", "cy", "rx", "ry"))
            x1, y1, x2, y2 = cx - rx, cy - ry, cx + rx, cy + ry
        elif element.tag == "mask":
            x1, y1, w, h = (float(element.get(key, "")) for key in ("left", "top", "width", "height"))
            x2, y2 = x1 + w, y1 + h
        else:
            return f"a {element.tag}"
        degrees = float(element.get("rotation", "0"))
    except ValueError:
        return f"a {element.tag} whose coordinates are no numbers"
    if degrees and math.isfinite(degrees):
        doubts.append(Problem("rotated box", where, f"rotation {degrees:g}", "its hull box is used"))
        return turned((x1, y1, x2, y2), degrees, about=((x1 + x2) / 2, (y1 + y2) / 2))
    if element.tag != "box":
        doubts.append(Problem("no box", where, f"a {element.tag}", "its hull box is used"))
    return x1, y1, x2, y2


def _shape(
    element: ET.Element, image: str, label: str, where: str, doubts: list[Problem], size: tuple[int, int] | None = None
) -> Shape:
    """A shape of the file as a box."""
    attributes = {one.get("name", ""): (one.text or "").strip() for one in element.iter("attribute")}
    query, answer, fix = (attributes.get(name, "") for name in ATTRIBUTES)
    return Shape(image, label, _corners(element, where, doubts), query, answer or NEW, fix, where, size)


def _from_images(root: ET.Element, doubts: list[Problem]) -> Iterator[Shape]:
    seen: set[str] = set()
    for image in root.iter("image"):
        name = image.get("name", "")
        if name in seen:
            doubts.append(Problem("duplicate id", f"image {name}", "it stands in the file twice", REFUSED))
        seen.add(name)
        texts = image.get("width", ""), image.get("height", "")
        size = (int(texts[0]), int(texts[1])) if all(map(_SIZE.fullmatch, texts)) else None
        for k, element in enumerate(image, start=1):
            where = f"image {name}, shape {k}"
            if element.tag == "tag":
                doubts.append(Problem("no box", where, "a tag of the whole image", "left out"))
            else:
                yield _shape(element, name, element.get("label", ""), where, doubts, size)


def _from_tracks(root: ET.Element, doubts: list[Problem]) -> Iterator[tuple[int, Shape]]:
    """(frame, box) of every frame in which a track is there."""
    for k, track in enumerate(root.iter("track"), start=1):
        for element in track:
            where = f"track {track.get('id', k)}, frame {element.get('frame')}"
            if element.get("outside") != "1":
                frame = element.get("frame", "")
                if not (frame.isascii() and frame.isdigit() and len(frame) < 12):
                    doubts.append(Problem("no frame", where, "expected the number of a frame", REFUSED))
                    continue
                yield int(frame), _shape(element, "", track.get("label", ""), where, doubts)


def _part(root: ET.Element) -> range:
    """The frames that the file is about: a job of CVAT has a part of its task."""
    first, last = (root.findtext(f"meta/*/{key}", "").strip() for key in ("start_frame", "stop_frame"))
    whole = all(map(_SIZE.fullmatch, (first, last)))
    return range(int(first), int(last) + 1) if whole else range(10**12)


def _in_video(
    tracked: Sequence[tuple[int, Shape]], queries: Sequence[Query], pool: Pool, doubts: list[Problem], part: range
) -> tuple[list[Shape], set[str]]:
    """The boxes of one video with the names of their frames, and its frames; only asked frames count.

    Which video it is, the references tell. A question that the tool carried into other frames counts in its own alone.
    """
    clips, number = pool.clips, pool.number_of
    if clips is None:
        doubts.append(Problem("no video", "the CVAT file", "tracks of a video; this pool holds images", REFUSED))
        return [], set()
    of_id = {query.id: query for query in queries if query.image in number}
    asked = [of_id.get(query_id(shape.query)) for _, shape in tracked if shape.query]
    videos = sorted({int(clips.video[number[query.image]]) for query in asked if query is not None})
    if len(videos) > 1:
        named = ", ".join(clips.names[video] for video in videos)
        doubts.append(Problem("several videos", "the CVAT file", f"it asks about {named}; expected one", REFUSED))
        return [], set()
    frames = {int(clips.frame[k]): pool.names[k] for k in np.flatnonzero(np.isin(clips.video, videos))}
    names = {query.image for query in asked if query is not None}
    made = []
    for frame, shape in tracked:
        name = frames.get(frame, "")
        home = of_id.get(query_id(shape.query)) if shape.query else None
        if (home is not None and home.image != name) or (not shape.query and name not in names):
            continue
        made.append(replace(shape, image=name))
    return made, {name for frame, name in frames.items() if frame in part}
