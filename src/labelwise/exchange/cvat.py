"""CVAT XML 1.1: for images, and one file of tracks per video for frames; each query a box with attributes.

The attributes `query`, `answer` and `fix_class` (see `_shapes`) must be declared for the labels of the CVAT task:
`labels.json` is the text to paste there ("Raw"). Images are known by their name in the pool, frames by their number in
the video. The class of a candidate is corrected by `fix_class`: changing the label itself may clear the attributes.

A file holds the asked images alone; CVAT cannot tell "looked at and empty" from "not looked at" otherwise.

Fails when: the task was made without these attributes: CVAT drops what it does not know, and nothing comes back (the
import says so).
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from labelwise.exchange._questions import REGION, size_of
from labelwise.exchange._reader import REFUSED, begins
from labelwise.exchange._shapes import ATTRIBUTES, NEW, Shape, answers, refuse_classes, shapes, words
from labelwise.types import Answer, Boxes, Clips, LabelwiseError, Pool, Problem, Query

CANNOT_CARRY = (
    "classes of whole images (use Label Studio or JSON)",
    "who answered and in how many seconds: give --who; the cost table counts the time",
    "why something was skipped",
    "the score and its parts",
    "pixels beyond two decimals: CVAT rounds when it exports",
)
FRAMES_OF_VIDEO = True
"""CVAT has the videos themselves: their frames are not written as images."""
FILE = "annotations.xml"
_SIZE = re.compile("[0-9]{1,9}")


def detect(content: bytes) -> bool:
    """XML."""
    return begins(content, b"<")


def _labels(pool: Pool, answer_words: Sequence[str]) -> str:
    """The labels of the CVAT task with their attributes, as JSON for the "Raw" tab."""
    made = [{"name": name, "type": "rectangle", "attributes": _specs(answer_words)} for name in (*pool.classes, REGION)]
    return json.dumps(made, indent=1, ensure_ascii=False)


def write(
    queries: Sequence[Query], pool: Pool, project: str, known: Boxes | None = None, one_class: bool = False
) -> dict[str, bytes]:
    """The labels, and the files to upload as annotations: one for images, or one per video that is asked about."""
    refuse_classes(one_class, "cvat")
    made = shapes(queries, pool, known, project, "CVAT")
    answer_words = words(queries)
    files = {"labels.json": _labels(pool, answer_words).encode()}
    if pool.clips is None:
        return files | {FILE: _images(made, pool, answer_words)}
    number = pool.number_of
    videos = sorted({int(pool.clips.video[number[shape.image]]) for shape in made})
    for video in videos:
        here = [shape for shape in made if pool.clips.video[number[shape.image]] == video]
        stem = PurePosixPath(pool.clips.names[video]).stem or "video"
        files[f"{video:03d}_{stem}.xml"] = _tracks(here, pool, answer_words, pool.clips, number)
    return files


def read(
    content: bytes,
    queries: Sequence[Query],
    pool: Pool,
    project: str,
    *,
    who: str = "cvat",
    unfinished: bool = False,
) -> tuple[list[Answer], list[Problem]]:
    """The answers in an XML file that came back (CVAT for images 1.1, CVAT for video 1.1), and all that is wrong."""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise LabelwiseError("the CVAT file declares entities; CVAT writes none. Export the file again")
    try:
        root = ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise LabelwiseError(f"the CVAT file: broken XML ({error}). Export it again") from error
    doubts: list[Problem] = []
    given = list(_from_images(root, doubts))
    tracked = list(_from_tracks(root, doubts))
    if tracked:
        given += _in_video(tracked, queries, pool, doubts)
    if not any(shape.query for shape in given):
        what = "no box has the attribute `query`: the task has no such attribute, or this is another file"
        doubts.append(Problem("no reference", "the CVAT file", what, REFUSED))
    found, problems = answers(given, queries, pool, project=project, who=who, unfinished=unfinished)
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
    root, sizes = _file(pool, answer_words), size_of(pool)
    for k, name in enumerate(dict.fromkeys(shape.image for shape in made)):
        width, height = sizes[name]
        image = ET.SubElement(root, "image", id=str(k), name=name, width=str(width), height=str(height))
        for shape in made:
            if shape.image == name:
                _box(image, shape, label=shape.label, source="manual")
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
        track = ET.SubElement(root, "track", id=str(k), label=shape.label, source="manual")
        frame = int(clips.frame[number[shape.image]])
        _box(track, shape, frame=str(frame), outside="0", keyframe="1")
        _box(track, shape, frame=str(frame + 1), outside="1", keyframe="1")
    return _bytes(root)


def _shape(
    box: ET.Element, image: str, label: str, where: str, doubts: list[Problem], size: tuple[int, int] | None = None
) -> Shape:
    """A box element; coordinates that are no numbers stay text, which the reader refuses."""
    attributes = {element.get("name", ""): (element.text or "").strip() for element in box.iter("attribute")}
    corners: list[object] = []
    for key in ("xtl", "ytl", "xbr", "ybr"):
        try:
            corners.append(float(box.get(key, "")))
        except ValueError:
            corners.append(box.get(key))
    if box.get("rotation", "0") not in ("0", "0.0", "0.00"):
        doubts.append(
            Problem("rotated box", where, f"rotation {box.get('rotation')}; expected an upright box", REFUSED)
        )
    query, answer, fix = (attributes.get(name, "") for name in ATTRIBUTES)
    return Shape(image, label, corners, query, answer or NEW, fix, where, size)


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
            if element.tag == "box":
                yield _shape(element, name, element.get("label", ""), where, doubts, size)
            else:
                doubts.append(Problem("no box", where, f"a {element.tag}; expected a box", "left out"))


def _from_tracks(root: ET.Element, doubts: list[Problem]) -> Iterator[tuple[int, Shape]]:
    """(frame, box) of every frame in which a track is there."""
    for k, track in enumerate(root.iter("track"), start=1):
        for element in track:
            where = f"track {track.get('id', k)}, frame {element.get('frame')}"
            if element.tag != "box":
                doubts.append(Problem("no box", where, f"a {element.tag}; expected a box", "left out"))
            elif element.get("outside") != "1":
                frame = element.get("frame", "")
                if not (frame.isascii() and frame.isdigit() and len(frame) < 12):
                    doubts.append(Problem("no frame", where, "expected the number of a frame", REFUSED))
                    continue
                yield int(frame), _shape(element, "", track.get("label", ""), where, doubts)


def _in_video(
    tracked: Sequence[tuple[int, Shape]], queries: Sequence[Query], pool: Pool, doubts: list[Problem]
) -> list[Shape]:
    """The boxes of one video with the names of their frames; only asked frames count.

    Which video it is, the references tell. A question that the tool carried into other frames counts in its own alone.
    """
    clips, number = pool.clips, pool.number_of
    if clips is None:
        doubts.append(Problem("no video", "the CVAT file", "tracks of a video; this pool holds images", REFUSED))
        return []
    of_id = {str(query.id): query for query in queries if query.image in number}
    asked = [of_id.get(shape.query.partition("-")[2].partition("-")[0]) for _, shape in tracked if shape.query]
    videos = sorted({int(clips.video[number[query.image]]) for query in asked if query is not None})
    if len(videos) > 1:
        named = ", ".join(clips.names[video] for video in videos)
        doubts.append(Problem("several videos", "the CVAT file", f"it asks about {named}; expected one", REFUSED))
        return []
    frames = {int(clips.frame[k]): pool.names[k] for k in np.flatnonzero(np.isin(clips.video, videos))}
    names = {query.image for query in asked if query is not None}
    made = []
    for frame, shape in tracked:
        name = frames.get(frame, "")
        home = of_id.get(shape.query.partition("-")[2].partition("-")[0]) if shape.query else None
        if (home is not None and home.image != name) or (not shape.query and name not in names):
            continue
        made.append(Shape(name, shape.label, shape.box, shape.query, shape.answer, shape.fix_class, shape.where))
    return made
