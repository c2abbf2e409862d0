"""FiftyOne: samples as JSON (its `FiftyOneDataset` layout), each query a detection with attributes (see `_shapes`).

Only asked images are samples. FiftyOne tells "not labelled" (no field) from "labelled, nothing there" (no detections);
here the answer of an area says so, with `answer = "complete"` on the detection `labelwise_region`.

Fails when: samples are exported without the dynamic attributes of their detections (then nothing comes back, and the
import says so). Not tested against FiftyOne itself, which wants a MongoDB server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from labelwise.exchange._geometry import is_number
from labelwise.exchange._questions import size_of
from labelwise.exchange._reader import REFUSED, AnswerReader, has_key, parse, shown, text_of
from labelwise.exchange._shapes import ATTRIBUTES, NEW, Shape, answers, refuse_classes, shapes
from labelwise.exchange._shapes import CANNOT_CARRY as CANNOT_CARRY
from labelwise.types import Answer, Boxes, LabelwiseError, Pool, Problem, Query
from labelwise.types.disk import to_json

FIELD = "labelwise"


def detect(content: bytes) -> bool:
    """An object with the list `samples`."""
    return has_key(content, "samples")


def write(
    queries: Sequence[Query], pool: Pool, project: str, known: Boxes | None = None, one_class: bool = False
) -> dict[str, bytes]:
    """The file `samples.json`; `filepath` is the name of the image in the pool."""
    refuse_classes(one_class, "fiftyone")
    made, sizes = shapes(queries, pool, known, project, "FiftyOne"), size_of(pool)
    samples, by_image = [], dict[str, list[Shape]]()
    for shape in made:
        by_image.setdefault(shape.image, []).append(shape)
    for name in dict.fromkeys(query.image for query in queries):
        width, height = sizes[name]
        detections = []
        for shape in by_image.get(name, []):
            x1, y1, x2, y2 = shape.corners
            box = [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
            row = {"_cls": "Detection", "label": shape.label, "bounding_box": box, "tags": [], "attributes": {}}
            detections.append(row | shape.attributes)
        metadata = {"_cls": "ImageMetadata", "width": width, "height": height}
        sample = {"filepath": name, "tags": ["labelwise"], "metadata": metadata, "labelwise_image": name}
        samples.append(sample | {FIELD: {"_cls": "Detections", "detections": detections}})
    return {"samples.json": to_json({"samples": samples}, 1).encode()}


def read(
    content: bytes,
    queries: Sequence[Query],
    pool: Pool,
    project: str,
    *,
    who: str = "fiftyone",
    unfinished: bool = False,
    rename: Mapping[str, str] | None = None,
    unanswered: Collection[int] | None = None,
) -> tuple[list[Answer], list[Problem]]:
    """The answers in a `samples.json` that came back, and all that is wrong in it."""
    raw = parse(content, "the FiftyOne samples")
    if not isinstance(raw, dict) or not isinstance(raw.get("samples"), list):
        raise LabelwiseError("the FiftyOne samples: expected an object with the list `samples`")
    sizes, given, doubts, images = size_of(pool), [], [], set()
    for k, sample in enumerate(raw["samples"], start=1):
        where, field = f"sample {k}", sample.get(FIELD) if isinstance(sample, dict) else None
        name = _name(sample, sizes) if isinstance(sample, dict) else None
        if name is None or not isinstance(field, dict) or not isinstance(field.get("detections"), list):
            what = f"expected a sample with labelwise_image and {FIELD}.detections"
            doubts.append(Problem("no sample", where, what, REFUSED))
            continue
        images.add(name)
        by_file = _size(sample)
        size = sizes.get(name) or (by_file if by_file and all(map(is_number, by_file)) else (1, 1))
        for j, row in enumerate(field["detections"], start=1):
            given.append(_shape(row, name, size, by_file, f"{where} ({shown(name)}), detection {j}"))
    reader = AnswerReader.of(queries, pool, project, unfinished, rename)
    found, problems = answers(given, reader, who, images, unanswered)
    if not any(shape.query for shape in given):
        what = "no detection has the attribute `query`: it was dropped, or this is another file"
        doubts.append(Problem("no reference", "the FiftyOne samples", what, REFUSED))
    return found, doubts + problems


def _name(sample: dict[str, Any], sizes: Collection[str]) -> str | None:
    """The image's name in the pool: FiftyOne makes `filepath` absolute, so ours stands beside it."""
    names = [name for name in (sample.get("labelwise_image"), sample.get("filepath")) if isinstance(name, str)]
    return next((name for name in names if name in sizes), names[0] if names else None)


def _size(sample: dict[str, Any]) -> tuple[object, object] | None:
    """The size of the image by the sample's metadata."""
    metadata = sample.get("metadata")
    both = isinstance(metadata, dict) and {"width", "height"} <= metadata.keys()
    return (metadata["width"], metadata["height"]) if both and isinstance(metadata, dict) else None


def _shape(row: Any, image: str, size: Sequence[Any], by_file: tuple[object, object] | None, where: str) -> Shape:
    """A detection; what is none becomes a shape that the reader refuses."""
    raw = row if isinstance(row, dict) else {}
    box: Any = raw.get("bounding_box")
    if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)):
        x, y, w, h = box
        box = [x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1]]
    query, answer, fix = (text_of(raw.get(key) or "") for key in ATTRIBUTES)
    return Shape(image, text_of(raw.get("label", "")), box, query, answer or NEW, fix, where, by_file)
