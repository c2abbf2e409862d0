"""JSON of annotation tools: every tool's own layout with boxes that were reckoned by hand, and one bad row each."""

from __future__ import annotations

import base64
import json
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labelwise.data import find, json_lines, json_list, json_per_image
from labelwise.types import Pool

READERS = {"json_per_image": json_per_image, "json_list": json_list, "json_lines": json_lines}
SIZE = (200, 100)
BOX = [20.0, 10.0, 100.0, 70.0]
Layout = dict[str, Any]


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE, kind: str = "JPEG") -> bytes:
    file = BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


JPEG = picture()


def make(root: Path, files: Layout) -> Path:
    """Images of 200 x 100, JSON of what is no text."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.write_bytes(JPEG)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def boxes(pool: Pool) -> list[tuple[str, str, list[float]]]:
    assert pool.truth is not None
    rows = zip(pool.truth.image.tolist(), pool.truth.labels.tolist(), pool.truth.xyxy.tolist(), strict=True)
    return [(pool.names[i], pool.classes[k], [round(v, 2) for v in box]) for i, k, box in rows]


def kinds(pool: Pool) -> dict[str, int]:
    found: dict[str, int] = {}
    for problem in pool.problems:
        found[problem.kind] = found.get(problem.kind, 0) + problem.count
    return found


def labelme(shapes: list[Any], image: str = "a.jpg") -> Any:
    return {"version": "5.0.1", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": "iVBOR" * 20_000,
            "imageHeight": 100, "imageWidth": 200}  # fmt: skip


def shape(label: Any, kind: str, *points: Any) -> Any:
    return {"label": label, "points": list(points), "group_id": None, "shape_type": kind, "flags": {}}


def bitmap(width: int, height: int) -> str:
    return base64.b64encode(zlib.compress(picture("1", (width, height), "PNG"))).decode()


def rectangle(label: str, **more: Any) -> Any:
    at = {"x": 10.0, "y": 10.0, "width": 40.0, "height": 60.0, "rotation": 0, "rectanglelabels": [label]} | more
    return {"original_width": 200, "original_height": 100, "image_rotation": 0, "value": at, "id": "r1",
            "from_name": "label", "to_name": "image", "type": "rectanglelabels"}  # fmt: skip


def sagemaker(image: str, found: list[Any]) -> Any:
    return {"source-ref": f"s3://bucket/x/{image}",
            "boxes": {"image_size": [{"width": 200, "height": 100, "depth": 3}], "annotations": found},
            "boxes-metadata": {"class-map": {"0": "cat"}, "type": "groundtruth/object-detection"}}  # fmt: skip


COORDINATES = {"x": 60, "y": 40, "width": 80, "height": 60}
CORNER = {"left": 20, "top": 10, "width": 80, "height": 60}
ENDS = {"x1": 20, "y1": 10, "x2": 100, "y2": 70}
RECT = {"name": "rect", "x": 20, "y": 10, "width": 80, "height": 60}
SHARES = [0.1, 0.1, 0.4, 0.6]
BAD = "box without numbers"

LAYOUTS: dict[str, tuple[str, Layout]] = {
    "labelme": ("json_per_image", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "a.json": labelme([shape("cat", "rectangle", [100, 70], [20, 10]), shape("cat", "rectangle", [1, None], [3, 4])]),
        "b.json": labelme([], "..\\old\\b.jpg"),
    }),
    "labelme, images elsewhere": ("json_per_image", {
        "images/a.jpg": None, "images/b.jpg": None, "images/c.jpg": None,
        "labels/a.json": labelme([shape("cat", "rectangle", [20, 10], [100, 70]), shape("cat", "rectangle", [1])]),
        "labels/b.json": labelme([], "C:\\x\\b.jpg"),
    }),
    "supervisely": ("json_per_image", {
        "p/meta.json": {"classes": [{"title": "cat", "shape": "rectangle", "color": "#FF0000"}], "tags": []},
        "p/ds/img/a.jpg": None, "p/ds/img/b.jpg": None, "p/ds/img/c.jpg": None, "p/ds/masks_human/a.png": None,
        "p/ds/ann/a.jpg.json": {"description": "", "tags": [], "size": {"height": 100, "width": 200}, "objects": [
            {"classTitle": "cat", "geometryType": "rectangle", "points": {"exterior": [[20, 10], [100, 70]], "interior": []}},
            {"classTitle": "cat", "geometryType": "rectangle", "points": {"exterior": [[20, "x"], [1, 7]]}}]},
        "p/ds/ann/b.jpg.json": {"description": "", "tags": [], "size": {"height": 100, "width": 200}, "objects": []},
    }),
    "vott asset": ("json_per_image", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "01-asset.json": {"asset": {"name": "a.jpg", "path": "file:/x/a.jpg", "size": {"width": 200, "height": 100}, "state": 2},
                          "regions": [{"type": "RECTANGLE", "tags": ["cat"], "boundingBox": CORNER},
                                      {"type": "RECTANGLE", "tags": ["cat"], "boundingBox": {"left": 4}}]},
        "02-asset.json": {"asset": {"name": "b.jpg", "state": 1}, "regions": []},
    }),
    "superannotate": ("json_per_image", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None, "classes/classes.json": [{"name": "cat", "id": 1}],
        "a.jpg___objects.json": {"metadata": {"name": "a.jpg", "width": 200, "height": 100, "status": "Completed"},
                                 "instances": [{"type": "bbox", "className": "cat", "points": ENDS},
                                               {"type": "bbox", "className": "cat", "points": {"x1": 3}}]},
        "b.jpg___objects.json": {"metadata": {"name": "b.jpg", "status": "Completed"}, "instances": []},
    }),
    "darwin": ("json_per_image", {
        "images/a.jpg": None, "images/b.jpg": None, "images/c.jpg": None,
        "annotations/a.json": {"version": "2.0", "item": {"name": "a.jpg", "path": "/", "slots": [
            {"file_name": "a.jpg", "width": 200, "height": 100}]}, "annotations": [
            {"name": "cat", "bounding_box": {"x": 20, "y": 10, "w": 80, "h": 60}},
            {"name": "cat", "bounding_box": {"x": 20}}]},
        "annotations/b.json": {"version": "2.0", "item": {"name": "b.jpg"}, "annotations": []},
    }),
    "bdd frame": ("json_per_image", {
        "images/a.jpg": None, "images/b.jpg": None, "images/c.jpg": None,
        "labels/a.json": {"name": "a", "frames": [{"timestamp": 1, "objects": [
            {"category": "cat", "id": 0, "box2d": ENDS}, {"category": "cat", "id": 1, "box2d": {"x1": [1]}}]}]},
        "labels/b.json": {"name": "b", "frames": [{"timestamp": 1, "objects": []}]},
    }),
    "cityscapes": ("json_per_image", {
        "leftImg8bit/q/a_leftImg8bit.png": None, "leftImg8bit/q/b_leftImg8bit.png": None,
        "leftImg8bit/q/c_leftImg8bit.png": None,
        "gtBboxCityPersons/q/a_gtBboxCityPersons.json": {"imgHeight": 100, "imgWidth": 200, "objects": [
            {"instanceId": 1, "bbox": [20, 10, 80, 60], "label": "cat"}, {"bbox": [20, 10, 80, {}], "label": "cat"}]},
        "gtBboxCityPersons/q/b_gtBboxCityPersons.json": {"imgHeight": 100, "imgWidth": 200, "objects": []},
    }),
    "via 2 project": ("json_list", {
        "img/a.jpg": None, "img/b.jpg": None, "img/c.jpg": None,
        "via_project_1Jan.json": {"_via_settings": {"core": {}}, "_via_img_metadata": {
            "a.jpg99": {"filename": "a.jpg", "size": 99, "file_attributes": {}, "regions": [
                {"shape_attributes": RECT, "region_attributes": {"label": "cat"}},
                {"shape_attributes": {"name": "rect", "x": 1}, "region_attributes": {"label": "cat"}}]},
            "b.jpg9": {"filename": "b.jpg", "size": 9, "file_attributes": {}, "regions": []}}, "_via_attributes": {}},
    }),
    "via 1 export": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "via_region_data.json": {
            "a.jpg99": {"fileref": "", "size": 99, "filename": "a.jpg", "base64_img_data": "", "file_attributes": {},
                        "regions": {"0": {"shape_attributes": RECT, "region_attributes": {"name": "cat"}},
                                    "1": {"shape_attributes": RECT | {"x": "?"}, "region_attributes": {"name": "cat"}}}},
            "b.jpg99": {"fileref": "", "size": 99, "filename": "b.jpg", "file_attributes": {}, "regions": {}}},
    }),
    "via 3": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "via.json": {"project": {"pid": "x"}, "config": {}, "attribute": {
            "1": {"aname": "kind", "type": 4, "options": {"0": "cat", "1": "dog"}}},
            "file": {"1": {"fid": "1", "fname": "a.jpg", "type": 2, "src": "a.jpg"}, "2": {"fid": "2", "fname": "b.jpg"}},
            "metadata": {"1_x": {"vid": "1", "flg": 0, "z": [], "xy": [2, 20, 10, 80, 60], "av": {"1": "0"}},
                         "1_y": {"vid": "1", "flg": 0, "z": [], "xy": [2, 20, "?", 80, 60], "av": {"1": "0"}}},
            "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}}},
    }),
    "vott": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "vott-json-export/x-export.json": {"name": "x", "tags": [{"name": "cat", "color": "#fff"}], "assets": {
            "1": {"asset": {"name": "a.jpg", "size": {"width": 200, "height": 100}, "state": 2}, "regions": [
                {"type": "RECTANGLE", "tags": ["cat"], "boundingBox": CORNER}, {"tags": ["cat"], "boundingBox": {}}]},
            "2": {"asset": {"name": "b.jpg", "state": 1}, "regions": []},
            "3": {"asset": {"name": "c.jpg", "state": 0}, "regions": []}}},
    }),
    "createml": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "_annotations.createml.json": [
            {"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": COORDINATES},
                                               {"label": "cat", "coordinates": COORDINATES | {"x": True}}]},
            {"image": "b.jpg", "annotations": []}],
    }),
    "createml of Apple": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "annotations.json": [
            {"imagefilename": "a.jpg", "annotation": [{"coordinates": COORDINATES, "label": "cat"},
                                                      {"coordinates": {}, "label": "cat"}]},
            {"imagefilename": "b.jpg", "annotation": []}],
    }),
    "label studio": ("json_list", {
        "images/a.jpg": None, "images/b.jpg": None, "images/c.jpg": None,
        "project-1-at-2026.json": [
            {"id": 1, "annotations": [{"id": 1, "was_cancelled": True, "result": []}, {"id": 2, "was_cancelled": False,
             "result": [rectangle("cat"), rectangle("cat", x="left")]}], "file_upload": "0123abcd-a.jpg",
             "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "predictions": []},
            {"id": 2, "annotations": [{"result": [], "was_cancelled": False}],
             "data": {"image": "/data/local-files/?d=images%2Fb.jpg"}},
            {"id": 3, "annotations": [], "predictions": [{"result": [rectangle("dog")]}], "data": {"image": "c.jpg"}}],
    }),
    "label studio min": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "min.json": [
            {"image": "http://localhost:8080/data/a.jpg?token=1", "id": 1, "annotator": 1, "annotation_id": 1, "label": [
                rectangle("cat")["value"] | {"original_width": 200, "original_height": 100},
                rectangle("cat")["value"] | {"width": None}]},
            {"image": "b.jpg", "id": 2, "annotator": 1, "annotation_id": 2}],
    }),
    "datumaro": ("json_list", {
        "images/default/a.jpg": None, "images/default/b.jpg": None, "images/default/c.jpg": None,
        "annotations/default.json": {"info": {}, "categories": {"label": {"labels": [{"name": "cat", "parent": ""}]}},
            "items": [{"id": "a", "image": {"path": "", "size": [100, 200]}, "annotations": [
                {"id": 0, "type": "bbox", "label_id": 0, "bbox": [20, 10, 80, 60]},
                {"id": 1, "type": "bbox", "label_id": 0, "bbox": [20, 10, 80, "w"]}]},
                {"id": "b", "image": {"path": "b.jpg", "size": [100, 200]}, "annotations": []}]},
    }),
    "bdd": ("json_list", {
        "images/100k/a.jpg": None, "images/100k/b.jpg": None, "images/100k/c.jpg": None,
        "labels/bdd100k.json": [
            {"name": "a.jpg", "attributes": {"weather": "clear"}, "labels": [
                {"category": "cat", "box2d": ENDS}, {"category": "cat", "box2d": {"x1": 1}}]},
            {"name": "b.jpg", "attributes": {}, "labels": []}],
    }),
    "scalabel": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "labels.json": {"config": {"categories": [{"name": "cat"}]}, "frames": [
            {"name": "a.jpg", "labels": [{"category": "cat", "box2d": ENDS}, {"category": "cat", "box2d": {}}]},
            {"name": "b.jpg", "labels": []}]},
    }),
    "fiftyone": ("json_list", {
        "data/a.jpg": None, "data/b.jpg": None, "data/c.jpg": None, "metadata.json": {"name": "x", "sample_fields": []},
        "samples.json": {"samples": [
            {"_id": {"$oid": "1"}, "filepath": "data/a.jpg", "tags": ["x"], "_media_type": "image",
             "metadata": {"_cls": "ImageMetadata", "width": 200, "height": 100},
             "ground_truth": {"_cls": "Detections", "detections": [
                 {"_cls": "Detection", "label": "cat", "bounding_box": SHARES},
                 {"_cls": "Detection", "label": "cat", "bounding_box": [0.1, 0.1, 0.4, None]}]}},
            {"filepath": "/home/x/fiftyone/data/b.jpg", "ground_truth": {"_cls": "Detections", "detections": []}},
            {"filepath": "data/c.jpg", "ground_truth": None}]},
    }),
    "fiftyone labels": ("json_list", {
        "data/a.jpg": None, "data/b.jpg": None, "data/c.jpg": None,
        "labels.json": {"classes": ["dog", "cat"], "labels": {
            "a": [{"label": 1, "bounding_box": SHARES}, {"label": "cat", "bounding_box": [0.1]}], "b": [], "c": None}},
    }),
    "edge impulse": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "bounding_boxes.labels": {"version": 1, "type": "bounding-box-labels", "boundingBoxes": {
            "a.jpg": [{"label": "cat", "x": 20, "y": 10, "width": 80, "height": 60}, {"label": "cat", "x": 20}],
            "b.jpg": []}},
    }),
    "labelbox": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "export.json": [
            {"ID": "1", "DataRow ID": "1", "Labeled Data": "https://x/y.jpg", "External ID": "a.jpg", "Label": {"objects": [
                {"title": "cat", "value": "cat", "bbox": CORNER}, {"title": "cat", "bbox": {"top": 1}}]}},
            {"ID": "2", "External ID": "b.jpg", "Label": {"objects": []}},
            {"ID": "3", "External ID": "c.jpg", "Label": "Skip"}],
    }),
    "scale": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "tasks.json": [
            {"task_id": "1", "params": {"attachment": "https://x/y/a.jpg"}, "response": {"annotations": [
                {"label": "cat", "type": "box", **CORNER}, {"label": "cat", "type": "box"}]}},
            {"task_id": "2", "params": {"attachment": "https://x/y/b.jpg"}, "response": {"annotations": []}}],
    }),
    "hugging face": ("json_lines", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "metadata.jsonl": lines(
            {"file_name": "a.jpg", "objects": {"bbox": [[20, 10, 80, 60], [20, 10, 80]], "categories": ["cat", "cat"]}},
            {"file_name": "b.jpg", "objects": {"bbox": [], "categories": []}}, {"file_name": "c.jpg"}),
    }),
    "hugging face, rows": ("json_lines", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "metadata.jsonl": lines(
            {"file_name": "a.jpg", "objects": [{"bbox": [20, 10, 80, 60], "category": "cat"}, {"bbox": 3, "category": "cat"}]},
            {"file_name": "b.jpg", "objects": []}),
    }),
    "vertex": ("json_lines", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "export.jsonl": lines(
            {"imageGcsUri": "gs://bucket/a.jpg", "boundingBoxAnnotations": [
                {"displayName": "cat", "xMin": "0.1", "yMin": 0.1, "xMax": 0.5, "yMax": "0.7"}, {"displayName": "cat"}]},
            {"imageGcsUri": "gs://bucket/b.jpg", "boundingBoxAnnotations": []}),
    }),
    "azure": ("json_lines", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "annotations.jsonl": lines(
            {"image_url": "AmlDatastore://x/a.jpg", "image_details": {"format": "jpg", "width": "200px"}, "label": [
                {"label": "cat", "topX": 0.1, "topY": 0.1, "bottomX": 0.5, "bottomY": 0.7}, {"label": "cat"}]},
            {"image_url": "AmlDatastore://x/b.jpg", "label": []}),
    }),
    "sagemaker": ("json_lines", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "output.manifest": lines(
            sagemaker("a.jpg", [{"class_id": 0, **CORNER}, {"class_id": 0}]), sagemaker("b.jpg", []),
            {"source-ref": "s3://bucket/x/c.jpg"}),
    }),
    "labelbox lines": ("json_lines", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "export.ndjson": lines(*(
            {"data_row": {"id": "1", "external_id": name}, "media_attributes": {"height": 100, "width": 200},
             "projects": {"p": {"name": "x", "labels": [{"annotations": {"objects": found}}]}}}
            for name, found in (("a.jpg", [{"name": "cat", "annotation_kind": "ImageBoundingBox", "bounding_box": CORNER},
                                           {"name": "cat", "bounding_box": {"top": 1}}]), ("b.jpg", [])))),
    }),
}  # fmt: skip
"""Tool: reader and files. Every one says: `a` has one cat in BOX and one bad row, `b` was looked at, `c` was not."""


@pytest.mark.parametrize("tool", LAYOUTS)
def test_boxes_of_every_tool(tmp_path: Path, tool: str) -> None:
    reader, files = LAYOUTS[tool]
    make(tmp_path, files)
    assert find.name(tmp_path) == reader
    (split,) = find.splits(tmp_path) or (None,)
    pool = find.read(tmp_path, split)
    assert boxes(pool) == [(pool.names[0], "cat", BOX)] and "cat" in pool.classes
    assert [Path(name).stem[0] for name in pool.names] == ["a", "b", "c"]
    assert pool.complete is not None and pool.complete.tolist() == [True, True, False]
    assert kinds(pool)[BAD] == 1 and kinds(pool)["image without labels"] == 1
    assert set(pool.sources) == {name for name, content in files.items() if content is not None}
    assert set(kinds(pool)) <= {
        BAD,
        "image without labels",
        "path of another place",
        "path with backslashes",
        "path as of a URL",
    }
