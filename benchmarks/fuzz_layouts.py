"""One small data set in every layout that labelwise reads: two images, three boxes. What `fuzz.py` damages.

`a.jpg` (64x48 px) has a cat [10, 5, 40, 30] and a dog [20, 10, 60, 45], `b.jpg` a cat [4, 6, 20, 40].
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

Files = dict[str, bytes]

WIDTH, HEIGHT = 64, 48
BOXES: dict[str, list[tuple[str, tuple[int, int, int, int]]]] = {
    "a": [("cat", (10, 5, 40, 30)), ("dog", (20, 10, 60, 45))],
    "b": [("cat", (4, 6, 20, 40))],
}
NUMBER = {"cat": 0, "dog": 1}


def image(seed: int) -> bytes:
    """A JPEG file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg")
    return file.getvalue()


def _images(pattern: str = "{}.jpg") -> Files:
    return {pattern.format(name): image(i) for i, name in enumerate(BOXES)}


def _text(content: str) -> bytes:
    return content.encode()


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _per_image(write: Callable[[str, list[Any]], bytes], pattern: str) -> Files:
    return {pattern.format(name): write(name, boxes) for name, boxes in BOXES.items()}


def _voc(name: str, boxes: list[Any]) -> bytes:
    objects = "".join(
        f"<object><name>{c}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for c, (x1, y1, x2, y2) in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return _text(f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>")


def _shares(box: tuple[int, int, int, int]) -> list[float]:
    x1, y1, x2, y2 = box
    return [(x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT]


def _yolo(name: str, boxes: list[Any]) -> bytes:
    return _text("".join(f"{NUMBER[c]} " + " ".join(map(str, _shares(box))) + "\n" for c, box in boxes))


def _coco(with_box: bool = True) -> bytes:
    rows: list[dict[str, Any]] = []
    for i, boxes in enumerate(BOXES.values()):
        for c, (x1, y1, x2, y2) in boxes:
            row: dict[str, Any] = {"id": len(rows) + 1, "image_id": i + 1, "category_id": NUMBER[c] + 1, "iscrowd": 0}
            row["segmentation"] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            rows.append(row | ({"bbox": [x1, y1, x2 - x1, y2 - y1]} if with_box else {}))
    sizes = {"width": WIDTH, "height": HEIGHT}
    images = [{"id": i + 1, "file_name": f"{name}.jpg"} | sizes for i, name in enumerate(BOXES)]
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return _json({"images": images, "annotations": rows, "categories": names})


def _cvat_images() -> bytes:
    found = []
    for i, (name, boxes) in enumerate(BOXES.items()):
        inside = "".join(
            f'<box label="{c}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"></box>'
            for c, (x1, y1, x2, y2) in boxes
        )
        found.append(f'<image id="{i}" name="{name}.jpg" width="{WIDTH}" height="{HEIGHT}">{inside}</image>')
    labels = "".join(f"<label><name>{name}</name></label>" for name in NUMBER)
    meta = f"<meta><task><size>2</size><labels>{labels}</labels></task></meta>"
    return _text(f"<annotations><version>1.1</version>{meta}{''.join(found)}</annotations>")


def _cvat_video() -> bytes:
    tracks = []
    for i, boxes in enumerate(BOXES.values()):
        for c, (x1, y1, x2, y2) in boxes:
            place = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
            shown = f'<box frame="{i}" outside="0" occluded="0" keyframe="1" {place}></box>'
            gone = f'<box frame="{i + 1}" outside="1" occluded="0" keyframe="1" {place}></box>'
            tracks.append(f'<track id="{len(tracks)}" label="{c}">{shown}{gone}</track>')
    labels = "".join(f"<label><name>{name}</name></label>" for name in NUMBER)
    size = f"<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>"
    meta = f"<meta><task><size>2</size><mode>interpolation</mode><labels>{labels}</labels>{size}</task></meta>"
    return _text(f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>")


def _labelme(name: str, boxes: list[Any]) -> bytes:
    shapes = [
        {"label": c, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle", "group_id": None, "flags": {}}
        for c, (x1, y1, x2, y2) in boxes
    ]
    head = {"version": "5.0.1", "flags": {}, "imagePath": f"{name}.jpg", "imageData": None}
    return _json(head | {"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH})


def _supervisely(name: str, boxes: list[Any]) -> bytes:
    objects = [
        {"classTitle": c, "geometryType": "rectangle", "points": {"exterior": [[x1, y1], [x2, y2]], "interior": []}}
        for c, (x1, y1, x2, y2) in boxes
    ]
    return _json({"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects})


def _via() -> bytes:
    def region(c: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
        x1, y1, x2, y2 = box
        shape = {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
        return {"shape_attributes": shape, "region_attributes": {"class": c}}

    return _json(
        {
            f"{name}.jpg123": {
                "filename": f"{name}.jpg",
                "size": 123,
                "regions": [region(c, box) for c, box in boxes],
                "file_attributes": {},
            }
            for name, boxes in BOXES.items()
        }
    )


def _vott() -> bytes:
    assets = {}
    for name, boxes in BOXES.items():
        regions = [
            {
                "id": str(i),
                "type": "RECTANGLE",
                "tags": [c],
                "boundingBox": {"height": y2 - y1, "width": x2 - x1, "left": x1, "top": y1},
                "points": [],
            }
            for i, (c, (x1, y1, x2, y2)) in enumerate(boxes)
        ]
        asset = {"id": name, "name": f"{name}.jpg", "path": f"file:/x/{name}.jpg"}
        assets[name] = {"asset": asset | {"size": {"width": WIDTH, "height": HEIGHT}}, "regions": regions}
    return _json({"name": "p", "version": "2.1.0", "tags": [{"name": c} for c in NUMBER], "assets": assets})


def _createml() -> bytes:
    def row(c: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
        x1, y1, x2, y2 = box
        where = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1}
        return {"label": c, "coordinates": where}

    return _json([{"image": f"{n}.jpg", "annotations": [row(c, b) for c, b in boxes]} for n, boxes in BOXES.items()])


def _label_studio() -> bytes:
    def result(c: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
        x1, y1, x2, y2 = box
        value = {"x": 100 * x1 / WIDTH, "y": 100 * y1 / HEIGHT, "width": 100 * (x2 - x1) / WIDTH}
        value |= {"height": 100 * (y2 - y1) / HEIGHT, "rotation": 0}
        sizes = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
        names = {"type": "rectanglelabels", "from_name": "label", "to_name": "image"}
        return {"id": c, "value": value | {"rectanglelabels": [c]}} | sizes | names

    return _json(
        [
            {
                "id": i + 1,
                "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.jpg"},
                "annotations": [{"id": i, "was_cancelled": False, "result": [result(c, b) for c, b in boxes]}],
            }
            for i, (name, boxes) in enumerate(BOXES.items())
        ]
    )


def _datumaro() -> bytes:
    def one(i: int, c: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
        x1, y1, x2, y2 = box
        return {"id": i, "type": "bbox", "label_id": NUMBER[c], "group": 0, "bbox": [x1, y1, x2 - x1, y2 - y1]}

    items = [
        {
            "id": name,
            "annotations": [one(i, c, box) for i, (c, box) in enumerate(boxes)],
            "image": {"path": f"{name}.jpg", "size": [HEIGHT, WIDTH]},
        }
        for name, boxes in BOXES.items()
    ]
    labels = [{"name": c, "parent": "", "attributes": []} for c in NUMBER]
    return _json({"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": items})


def _bdd() -> bytes:
    def row(c: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
        return {"category": c, "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}

    return _json([{"name": f"{n}.jpg", "labels": [row(c, b) for c, b in boxes]} for n, boxes in BOXES.items()])


def _fiftyone() -> bytes:
    labels = {
        name: [
            {"label": NUMBER[c], "bounding_box": [x1 / WIDTH, y1 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT]}
            for c, (x1, y1, x2, y2) in boxes
        ]
        for name, boxes in BOXES.items()
    }
    return _json({"classes": list(NUMBER), "labels": labels})


def _metadata() -> bytes:
    rows = []
    for name, boxes in BOXES.items():
        found = [[x1, y1, x2 - x1, y2 - y1] for _, (x1, y1, x2, y2) in boxes]
        objects = {"bbox": found, "categories": [c for c, _ in boxes]}
        rows.append(json.dumps({"file_name": f"{name}.jpg", "objects": objects}) + "\n")
    return _text("".join(rows))


def _rows(line: Callable[[str, str, tuple[int, int, int, int]], str], head: str = "") -> bytes:
    return _text(head + "".join(line(n, c, b) for n, boxes in BOXES.items() for c, b in boxes))


def _kitti(name: str, boxes: list[Any]) -> bytes:
    return _text("".join(f"{c} 0.0 0 0.0 {x1} {y1} {x2} {y2} 1 1 1 0 0 0 0\n" for c, (x1, y1, x2, y2) in boxes))


def _dota(name: str, boxes: list[Any]) -> bytes:
    rows = "".join(f"{x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2} {c} 0\n" for c, (x1, y1, x2, y2) in boxes)
    return _text("imagesource:x\ngsd:0.1\n" + rows)


def _wider() -> bytes:
    lines = []
    for name, boxes in BOXES.items():
        lines += [f"{name}.jpg", str(len(boxes))]
        lines += [f"{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 0 0 0" for _, (x1, y1, x2, y2) in boxes]
    return _text("\n".join(lines) + "\n")


def _keras_txt() -> bytes:
    rows = [
        f"images/{n}.jpg " + " ".join(f"{x1},{y1},{x2},{y2},{NUMBER[c]}" for c, (x1, y1, x2, y2) in boxes)
        for n, boxes in BOXES.items()
    ]
    return _text("\n".join(rows) + "\n")


def _tensorflow(n: str, c: str, box: tuple[int, int, int, int]) -> str:
    return f"{n}.jpg,{WIDTH},{HEIGHT},{c},{box[0]},{box[1]},{box[2]},{box[3]}\n"


def _open_images(n: str, c: str, box: tuple[int, int, int, int]) -> str:
    x1, y1, x2, y2 = box
    return f"{n},xclick,/m/{NUMBER[c]},1,{x1 / WIDTH},{x2 / WIDTH},{y1 / HEIGHT},{y2 / HEIGHT},0,0,0,0,0\n"


def _mot(n: int, c: str, box: tuple[int, int, int, int]) -> str:
    x1, y1, x2, y2 = box
    return f"{n},1,{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},1,{NUMBER[c] + 1},1\n"


def _npz() -> bytes:
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    images, labels = rng.integers(0, 255, (4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1])
    np.savez(file, x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])
    return file.getvalue()


_NAMES = _text("cat\ndog\n")
_YAML = _text("path: .\ntrain: train/images\nval: val/images\nnames: {0: cat, 1: dog}\n")
_META = _json({"classes": [{"title": c, "shape": "rectangle"} for c in NUMBER]})
_TENSORFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
_OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)


def layouts() -> Mapping[str, Files]:
    """Every layout by name: its files."""
    flat = _images()
    return {
        "voc": _images("JPEGImages/{}.jpg")
        | _per_image(_voc, "Annotations/{}.xml")
        | {"ImageSets/Main/train.txt": b"a\nb\n"},
        "voc, flat": flat | _per_image(_voc, "{}.xml"),
        "voc, Roboflow": _images("train/{}.jpg") | _per_image(_voc, "train/{}.xml"),
        "yolo": _images("train/images/{}.jpg") | _per_image(_yolo, "train/labels/{}.txt") | {"data.yaml": _YAML},
        "yolo, labelImg": flat | _per_image(_yolo, "{}.txt") | {"classes.txt": _NAMES},
        "yolo, darknet": _images("obj_train_data/{}.jpg")
        | _per_image(_yolo, "obj_train_data/{}.txt")
        | {
            "obj.names": _NAMES,
            "obj.data": b"classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
            "train.txt": b"data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n",
        },
        "coco": _images("train/{}.jpg") | {"annotations/instances_train.json": _coco()},
        "coco, Roboflow": _images("train/{}.jpg") | {"train/_annotations.coco.json": _coco()},
        "coco, polygons": _images("images/{}.jpg") | {"annotations/instances_train.json": _coco(with_box=False)},
        "cvat, images": _images("images/{}.jpg") | {"annotations.xml": _cvat_images()},
        "cvat, video": {f"images/frame_{i:06d}.jpg": image(i) for i in range(2)} | {"annotations.xml": _cvat_video()},
        "labelme": flat | _per_image(_labelme, "{}.json"),
        "supervisely": _images("ds0/img/{}.jpg")
        | _per_image(_supervisely, "ds0/ann/{}.jpg.json")
        | {"meta.json": _META},
        "via": flat | {"via_export.json": _via()},
        "vott": flat | {"vott-json-export/x-export.json": _vott()},
        "createml": flat | {"_annotations.createml.json": _createml()},
        "label studio": flat | {"project-1.json": _label_studio()},
        "datumaro": _images("images/train/{}.jpg") | {"annotations/train.json": _datumaro()},
        "bdd100k": _images("images/{}.jpg") | {"labels/det_train.json": _bdd()},
        "fiftyone": _images("data/{}.jpg") | {"labels.json": _fiftyone()},
        "metadata.jsonl": _images("train/{}.jpg") | {"train/metadata.jsonl": _metadata()},
        "tensorflow csv": _images("train/{}.jpg") | {"train/_annotations.csv": _rows(_tensorflow, _TENSORFLOW)},
        "open images": _images("train/{}.jpg")
        | {
            "train-annotations-bbox.csv": _rows(_open_images, _OPEN_IMAGES),
            "class-descriptions-boxable.csv": b"/m/0,cat\n/m/1,dog\n",
        },
        "keras csv": _images("images/{}.jpg")
        | {
            "annotations.csv": _rows(lambda n, c, b: f"images/{n}.jpg,{b[0]},{b[1]},{b[2]},{b[3]},{c}\n"),
            "classes.csv": b"cat,0\ndog,1\n",
        },
        "kaggle csv": _images("train/{}.jpg")
        | {
            "train.csv": _rows(
                lambda n, c, b: f'{n},{WIDTH},{HEIGHT},"[{b[0]}, {b[1]}, {b[2] - b[0]}, {b[3] - b[1]}]",{c}\n',
                "image_id,width,height,bbox,source\n",
            )
        },
        "wider face": _images("WIDER_train/images/{}.jpg") | {"wider_face_split/wider_face_train_bbx_gt.txt": _wider()},
        "kitti": _images("training/image_2/{}.jpg") | _per_image(_kitti, "training/label_2/{}.txt"),
        "keras txt": _images("images/{}.jpg") | {"train.txt": _keras_txt(), "classes.txt": _NAMES},
        "dota": _images("train/images/{}.jpg") | _per_image(_dota, "train/labelTxt/{}.txt"),
        "mot": {f"train/s/img1/{k}.jpg": image(k) for k in range(1, 3)}
        | {
            "train/s/gt/gt.txt": _text("".join(_mot(k, c, b) for k, v in enumerate(BOXES.values(), 1) for c, b in v)),
            "train/s/gt/labels.txt": _NAMES,
        },
        "class folders": {
            f"{split}/{c}/{i}.jpg": image(i) for split in ("train", "test") for c in NUMBER for i in range(2)
        },
        "class table": flat | {"labels.csv": b"image,label\na.jpg,cat\nb.jpg,dog\n"},
        "npz": {"set.npz": _npz()},
        "folder": dict(flat),
    }
