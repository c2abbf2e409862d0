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
from labelwise.types import LabelwiseError, Pool

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
        "a.json": labelme([shape("cat", "rectangle", [100, 70], [20, 10]), shape("cat", "rectangle", [1, None])]),
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
            {"classTitle": "cat", "geometryType": "rectangle", "points": {"exterior": [[20, 10], [100, 70]]}},
            {"classTitle": "cat", "geometryType": "rectangle", "points": {"exterior": [[20, "x"], [1, 7]]}}]},
        "p/ds/ann/b.jpg.json": {"description": "", "tags": [], "size": {"height": 100, "width": 200}, "objects": []},
    }),
    "vott asset": ("json_per_image", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "01-asset.json": {"asset": {"name": "a.jpg", "size": {"width": 200, "height": 100}, "state": 2},
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
                                    "1": {"shape_attributes": RECT | {"x": "?"}, "region_attributes": {"name": "c"}}}},
            "b.jpg99": {"fileref": "", "size": 99, "filename": "b.jpg", "file_attributes": {}, "regions": {}}},
    }),
    "via 3": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "via.json": {"project": {"pid": "x"}, "config": {}, "attribute": {
            "1": {"aname": "kind", "type": 4, "options": {"0": "cat", "1": "dog"}}},
            "file": {"1": {"fid": "1", "fname": "a.jpg", "src": "a.jpg"}, "2": {"fid": "2", "fname": "b.jpg"}},
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
            {"image": "http://localhost:8080/data/a.jpg?token=1", "id": 1, "annotation_id": 1, "label": [
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
            {"filepath": "/x/fiftyone/data/b.jpg", "ground_truth": {"_cls": "Detections", "detections": []}},
            {"filepath": "data/c.jpg", "ground_truth": None}]},
    }),
    "fiftyone labels": ("json_list", {
        "data/a.jpg": None, "data/b.jpg": None, "data/c.jpg": None,
        "labels.json": {"classes": ["dog", "cat"], "labels": {
            "a": [{"label": 1, "bounding_box": SHARES}, {"label": "cat", "bounding_box": [0.1]}], "b": [], "c": None}},
    }),
    "cloud annotations": ("json_list", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "_annotations.json": {"version": "1.0", "type": "localization", "labels": ["cat"], "annotations": {
            "a.jpg": [{"x": 0.1, "y": 0.1, "x2": 0.5, "y2": 0.7, "label": "cat"}, {"x": 0.1, "label": "cat"}],
            "b.jpg": []}},
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
            {"ID": "1", "Labeled Data": "https://x/y.jpg", "External ID": "a.jpg", "Label": {"objects": [
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
            {"file_name": "a.jpg", "objects": [
                {"bbox": [20, 10, 80, 60], "category": "cat"}, {"bbox": 3, "category": "cat"}]},
            {"file_name": "b.jpg", "objects": []}),
    }),
    "tt100k": ("json_list", {
        "train/a.jpg": None, "train/b.jpg": None, "train/c.jpg": None,
        "annotations.json": {"types": ["cat", "dog"], "imgs": {
            "a": {"path": "train/a.jpg", "id": "a", "objects": [
                {"category": "cat", "bbox": {"xmin": 20, "ymin": 10, "xmax": 100, "ymax": 70}},
                {"category": "cat", "bbox": {"xmin": 20, "ymin": 10}}]},
            "b": {"path": "train/b.jpg", "id": "b", "objects": []}}},
    }),
    "crowdhuman": ("json_lines", {
        "images/a.jpg": None, "images/b.jpg": None, "images/c.jpg": None,
        "annotation.odgt": lines(
            {"ID": "a", "gtboxes": [
                {"tag": "cat", "fbox": [20, 10, 80, 60], "vbox": [20, 10, 8, 6], "extra": {"box_id": 0}},
                {"tag": "mask", "fbox": [1, 2, 3, 4], "extra": {"ignore": 1}},
                {"tag": "cat", "fbox": [1, 2, None, 4]}]},
            {"ID": "b", "gtboxes": []}),
    }),
    "vertex": ("json_lines", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "export.jsonl": lines(
            {"imageGcsUri": "gs://bucket/a.jpg", "boundingBoxAnnotations": [
                {"displayName": "cat", "xMin": "0.1", "yMin": 0.1, "xMax": 0.5, "yMax": "0.7"},
                {"displayName": "cat"}]},
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
            for name, found in (("a.jpg", [{"name": "cat", "bounding_box": CORNER},
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
    assert kinds(pool).pop("picture of a mask", 0) == (tool == "supervisely")
    assert set(kinds(pool)) <= {
        "picture of a mask",
        BAD,
        "image without labels",
        "path of another place",
        "path with backslashes",
        "path as of a URL",
    }


def read(root: Path, files: Layout, split: str | None = None) -> Pool:
    return find.read(make(root, files), split)


def test_shapes_of_labelme_are_boxes(tmp_path: Path) -> None:
    shapes = [
        shape("circle", "circle", [50, 50], [53, 54]),
        shape("mask", "mask", [10, 20], [19, 29]),
        shape("polygon", "polygon", [1, 2], [30, 5], [4, 40]),
        shape("turned", "rotation", [20, 10], [30, 20], [20, 30], [10, 20]),
        shape("corners", "rectangle", [1, 1], [9, 1], [9, 8], [1, 8]),
        {"label": "old", "points": [[5, 6], [15, 6], [15, 16]]},
        shape("point", "point", [1, 1]),
        shape("line", "linestrip", [1, 1], [2, 2]),
        shape(None, "rectangle", [1, 1], [2, 2]),
        "no shape",
    ]
    pool = read(tmp_path, {"a.jpg": None, "a.json": labelme(shapes)})
    assert {name: box for _, name, box in boxes(pool)} == {
        "circle": [45, 45, 55, 55], "mask": [10, 20, 20, 30], "polygon": [1, 2, 30, 40], "turned": [10, 10, 30, 30],
        "corners": [1, 1, 9, 8], "old": [5, 6, 15, 16],
    }  # fmt: skip
    assert kinds(pool) == {"ellipse": 1, "mask": 1, "polygon": 2, "rotated box": 1, "no box": 2,
                           "object without class": 1, "broken entry": 1}  # fmt: skip


def test_image_beside_its_file_counts_whatever_the_file_says(tmp_path: Path) -> None:
    found = [shape("cat", "rectangle", [20, 10], [100, 70])]
    pool = read(tmp_path, {"a.jpg": None, "b.jpg": None, "a.json": labelme([]), "b.json": labelme(found, "a.jpg")})
    assert boxes(pool) == [("b.jpg", "cat", BOX)] and kinds(pool) == {}


def test_masks_and_unlisted_classes_of_supervisely(tmp_path: Path) -> None:
    found = [
        {"classTitle": "cat", "geometryType": "bitmap", "bitmap": {"data": bitmap(80, 60), "origin": [20, 10]}},
        {"classTitle": "dog", "geometryType": "polygon", "points": {"exterior": [[1, 2], [30, 5], [4, 40]]}},
        {"classTitle": "cat", "geometryType": "point", "points": {"exterior": [[1, 2]]}},
        {"classTitle": "cat", "geometryType": "bitmap", "bitmap": {"data": "eJwBZgOZ", "origin": [20, 10]}},
    ]
    pool = read(tmp_path, {
        "meta.json": {"classes": [{"title": "zebra"}, {"title": "cat"}]}, "train/img/a.png": None,
        "train/ann/a.png.json": {"size": {"width": 200, "height": 100}, "objects": found},
    })  # fmt: skip
    assert boxes(pool) == [("train/img/a.png", "cat", BOX), ("train/img/a.png", "dog", [1, 2, 30, 40])]
    assert pool.classes == ("zebra", "cat", "dog") and find.splits(tmp_path) == ("train",)
    assert kinds(pool) == {"mask": 1, "polygon": 1, "no box": 1, BAD: 1, "unknown class": 1}


def via(*regions: tuple[Any, Any]) -> Any:
    listed = [{"shape_attributes": at, "region_attributes": said} for at, said in regions]
    return {"a.jpg9": {"filename": "a.jpg", "size": 9, "regions": listed, "file_attributes": {}}}


def test_shapes_and_classes_of_via(tmp_path: Path) -> None:
    pool = read(tmp_path, {"a.jpg": None, "via.json": via(
        (RECT, {"type": {"cat": True}, "note": "x"}),
        ({"name": "circle", "cx": 50, "cy": 50, "r": 5}, {"type": "circle", "note": ""}),
        ({"name": "ellipse", "cx": 50, "cy": 50, "rx": 10, "ry": 5, "theta": 1.5707963267948966}, {"type": "ellipse"}),
        ({"name": "polygon", "all_points_x": [1, 30, 4], "all_points_y": [2, 5, 40]}, {"type": "polygon", "note": "y"}),
        ({"name": "polyline", "all_points_x": [1, 30], "all_points_y": [2, 5]}, {"type": "line"}),
        (RECT, {"note": "z"}),
    )})  # fmt: skip
    assert [(name, box) for _, name, box in boxes(pool)] == [
        ("cat", BOX), ("circle", [45, 45, 55, 55]), ("ellipse", [45, 40, 55, 60]), ("polygon", [1, 2, 30, 40]),
    ]  # fmt: skip
    assert kinds(pool) == {"several attributes": 1, "ellipse": 2, "polygon": 1, "no box": 1, "object without class": 1}


def test_via_without_attributes_has_one_class(tmp_path: Path) -> None:
    pool = read(tmp_path, {"a.jpg": None, "via.json": via((RECT, {}))})
    assert boxes(pool) == [("a.jpg", "object", BOX)] and kinds(pool) == {"object without class": 1}


def test_splits_of_lists_are_folders_or_names_of_files(tmp_path: Path) -> None:
    one = [{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": COORDINATES}]}]
    make(tmp_path / "folders", {
        "train/a.jpg": None, "train/_annotations.createml.json": one,
        "valid/a.jpg": None, "valid/_annotations.createml.json": [{"image": "a.jpg", "annotations": []}],
    })  # fmt: skip
    assert find.splits(tmp_path / "folders") == ("train", "valid")
    assert boxes(find.read(tmp_path / "folders", "train")) == [("train/a.jpg", "cat", BOX)]
    assert boxes(find.read(tmp_path / "folders", "val")) == []
    make(tmp_path / "files", {
        "images/a.jpg": None, "images/b.jpg": None, "train.json": one,
        "labels_val.json": [{"image": "b.jpg", "annotations": [{"label": "dog", "coordinates": COORDINATES}]}],
    })  # fmt: skip
    assert find.splits(tmp_path / "files") == ("train", "val")
    assert boxes(find.read(tmp_path / "files", "val")) == [("images/b.jpg", "dog", BOX)]
    assert find.read(tmp_path / "files", "train").classes == ("cat", "dog")
    make(tmp_path / "tags", {"data/a.jpg": None, "data/b.jpg": None, "samples.json": {"samples": [
        {"filepath": f"data/{name}.jpg", "tags": [split], "found": {"_cls": "Detections", "detections": [
            {"label": "cat", "bounding_box": SHARES, "confidence": 0.4}]},
         "people": {"_cls": "Detections", "detections": [{"label": name, "bounding_box": SHARES}]}}
        for name, split in (("a", "train"), ("b", "test"))]}})  # fmt: skip
    pool = find.read(tmp_path / "tags", "test")
    assert boxes(pool) == [("data/b.jpg", "b", BOX)] and kinds(pool) == {"second field of boxes": 1}
    make(tmp_path / "lines", {"a.jpg": None, "b.jpg": None, "x.jsonl": lines(*(
        {"imageGcsUri": f"gs://x/{name}", "boundingBoxAnnotations": [], "dataItemResourceLabels": {
            "aiplatform.googleapis.com/ml_use": use}}
        for name, use in (("a.jpg", "training"), ("b.jpg", "validation"))))})  # fmt: skip
    assert find.splits(tmp_path / "lines") == ("train", "val")


def test_datumaro_subsets_and_shapes(tmp_path: Path) -> None:
    labels = {"label": {"labels": [{"name": "dog"}, {"name": "cat"}]}}
    found = [
        {"type": "bbox", "label_id": 1, "bbox": [20, 10, 80, 60], "attributes": {"rotation": 0.0}},
        {"type": "bbox", "label_id": 1, "bbox": [40, 40, 40, 20], "attributes": {"rotation": 90.0}},
        {"type": "polygon", "label_id": 0, "points": [1, 2, 30, 5, 4, 40]},
        {"type": "bbox", "label_id": 0, "bbox": [2, 3, 4, 5], "attributes": {"is_crowd": True}, "difficult": False},
        {"type": "bbox", "label_id": 7, "bbox": [2, 3, 4, 5]},
        {"type": "mask", "label_id": 0, "rle": {"counts": "x", "size": [100, 200]}},
        {"type": "label", "label_id": 0},
    ]
    item = {"id": "x/a", "annotations": found, "image": {"path": "x/a.jpg", "size": [100, 200]}}
    empty = {"id": "b", "annotations": [], "image": {"path": "b.jpg", "size": [100, 200]}}
    make(tmp_path, {
        "images/train/x/a.jpg": None, "images/test/b.jpg": None,
        "annotations/train.json": {"info": {}, "categories": labels, "items": [item]},
        "annotations/test.json": {"info": {}, "categories": labels, "items": [empty]},
    })  # fmt: skip
    assert find.splits(tmp_path) == ("train", "test") and boxes(find.read(tmp_path, "test")) == []
    pool = find.read(tmp_path, "train")
    assert [(name, box) for _, name, box in boxes(pool)] == [
        ("cat", BOX), ("cat", [50, 30, 70, 70]), ("dog", [1, 2, 30, 40]),
    ]  # fmt: skip
    assert pool.crowd is not None and pool.crowd.xyxy.tolist() == [[2, 3, 6, 8]] and pool.classes == ("dog", "cat")
    assert kinds(pool) == {"rotated box": 1, "polygon": 1, "unknown class id": 1, "mask without box": 1, "no box": 1}


def task(*annotations: Any, image: str = "a.jpg") -> Any:
    return {"id": 1, "data": {"pic": image, "text": "x"}, "annotations": list(annotations)}


def annotation(*results: Any, **more: Any) -> Any:
    return {"result": list(results), "was_cancelled": False} | more


def test_label_studio_takes_the_latest_annotation_that_counts(tmp_path: Path) -> None:
    early, late = {"updated_at": "2024-01-01T00:00:00Z"}, {"updated_at": "2024-01-02T00:00:00Z"}
    cases = {
        "order": [annotation(rectangle("dog")), annotation(rectangle("cat"))],
        "date": [annotation(rectangle("cat"), **late), annotation(rectangle("dog"), **early)],
        "truth": [annotation(rectangle("cat"), ground_truth=True, **early), annotation(rectangle("dog"), **late)],
    }
    for name, drawn in cases.items():
        pool = read(tmp_path / name, {"a.jpg": None, "x.json": [task(*drawn)]})
        assert boxes(pool) == [("a.jpg", "cat", BOX)] and kinds(pool) == {"several annotations": 1}
    cancelled = annotation(rectangle("dog"), was_cancelled=True)
    pool = read(tmp_path / "cancelled", {"a.jpg": None, "x.json": [task(cancelled, annotation(rectangle("cat")))]})
    assert boxes(pool) == [("a.jpg", "cat", BOX)] and kinds(pool) == {}
    pool = read(tmp_path / "skipped", {"a.jpg": None, "x.json": [task(cancelled)]})
    assert pool.complete is not None and not pool.complete.any() and boxes(pool) == []


def test_shapes_of_label_studio(tmp_path: Path) -> None:
    def drawn(kind: str, value: Any, number: str = "x") -> Any:
        return {"type": kind, "value": value, "id": number, "original_width": 200, "original_height": 100}

    place = {"x": 10, "y": 10, "width": 40, "height": 60, "rotation": 0}
    results = [
        drawn("polygonlabels", {"points": [[1, 2], [30, 5], [4, 40]], "polygonlabels": ["polygon"]}),
        drawn("ellipselabels", {"x": 50, "y": 50, "radiusX": 5, "radiusY": 10, "ellipselabels": ["ellipse"]}),
        rectangle("turned", x=50, y=0, width=10, height=50, rotation=90),
        drawn("rectangle", place, "r"),
        drawn("labels", place | {"labels": ["cat", "dog"]}, "r"),
        drawn("brushlabels", {"format": "rle", "rle": [1, 2], "brushlabels": ["cat"]}),
        drawn("rectangle", place, "lonely"),
        drawn("choices", {"choices": ["sharp"]}),
        rectangle("unclear") | {"image_rotation": 90},
    ]
    pool = read(tmp_path, {"a.jpg": None, "x.json": [task(annotation(*results))]})
    assert {name: box for _, name, box in boxes(pool)} == {
        "polygon": [2, 2, 60, 40], "ellipse": [90, 40, 110, 60], "turned": [50, 0, 100, 20], "cat": BOX,
    }  # fmt: skip
    assert kinds(pool) == {"polygon": 1, "ellipse": 1, "rotated box": 1, "several classes": 1, "mask without box": 1,
                           "object without class": 1, "no box": 1, "rotated image": 1}  # fmt: skip


def test_rows_of_hugging_face(tmp_path: Path) -> None:
    pool = read(tmp_path, {"train/a.jpg": None, "train/metadata.jsonl": lines(
        {"file_name": "a.jpg", "objects": {"id": [8], "bbox": [[20, 10, 80, 60]], "category": [3]}},
        {"file_name": "gone.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "category": [3]}},
        "{broken", [1], {"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "category": []}},
    )}, "train")  # fmt: skip
    assert boxes(pool) == [("train/a.jpg", "3", BOX)]
    assert kinds(pool) == {"class of a number": 2, "missing image": 1, "broken entry": 3, "image listed twice": 1}
    places = {problem.where for problem in pool.problems if problem.kind == "broken entry"}
    assert places == {f"train/metadata.jsonl:{k}" for k in (3, 4, 5)}


def test_lines_of_classes_say_what_to_do(tmp_path: Path) -> None:
    make(tmp_path, {"a.jpg": None, "metadata.jsonl": lines({"file_name": "a.jpg", "label": "cat"})})
    with pytest.raises(LabelwiseError, match="Write them as a table"):
        find.read(tmp_path)
    make(tmp_path / "captions", {"a.jpg": None, "metadata.jsonl": lines({"file_name": "a.jpg", "text": "a cat"})})
    assert not json_lines.detect(tmp_path / "captions")


def test_a_broken_file_is_told_and_the_rest_read(tmp_path: Path) -> None:
    found = labelme([shape("cat", "rectangle", [20, 10], [100, 70])])
    pool = read(
        tmp_path, {"a.jpg": None, "b.jpg": None, "a.json": found, "b.json": '{"shapes": [\n1,', "x.json": "[1]"}
    )
    assert boxes(pool) == [("a.jpg", "cat", BOX)]
    assert kinds(pool) == {"broken annotation": 1, "image without labels": 1}
    assert pool.sources == {"a.json", "b.json"}


def test_one_file_may_be_the_data_set(tmp_path: Path) -> None:
    make(tmp_path, {"a.jpg": None, "b.jpg": None, "x.json": via((RECT, {"label": "cat"})), "y.json": []})
    pool = find.read(tmp_path / "x.json")
    assert boxes(pool) == [("a.jpg", "cat", BOX)] and pool.names == ("a.jpg",) and pool.root == tmp_path


def test_coco_is_none_of_these(tmp_path: Path) -> None:
    coco = {"images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 80, 60], "segmentation": []}],
            "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    make(tmp_path, {"a.jpg": None, "_annotations.coco.json": coco, "notes.json": {"shapes": 3, "objects": []}})
    assert [name for name, one in READERS.items() if one.detect(tmp_path)] == []


def test_many_files_are_told_apart_by_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, {f"{k}.json": {"x": k} for k in range(100)})
    asked: list[Path] = []
    monkeypatch.setattr("labelwise.data.text_files.head", lambda path, n: asked.append(path) or b"{}")
    assert not any(one.detect(tmp_path) for one in (json_per_image, json_list)) and len(asked) < 30


def test_regions_without_their_image_are_told(tmp_path: Path) -> None:
    via3 = json.loads(json.dumps(LAYOUTS["via 3"][1]["via.json"]))
    via3["metadata"]["1_x"]["vid"] = "9"
    pool = read(tmp_path / "via", {"a.jpg": None, "b.jpg": None, "via.json": via3})
    assert boxes(pool) == [] and kinds(pool)["label without image"] == 1
    value = rectangle("cat")["value"]
    pool = read(tmp_path / "min", {"a.jpg": None, "x.json": [{"id": 1, "image": "a.jpg", "label": [value, "x"]}]})
    assert boxes(pool) == [("a.jpg", "cat", BOX)] and kinds(pool) == {"broken entry": 1}
