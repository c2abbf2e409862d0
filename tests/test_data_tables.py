"""Boxes and classes in tables and text lists: the layouts in the wild, exact boxes, what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from labelwise.data import find
from labelwise.types import LabelwiseError, Pool

Box = tuple[str, str, float, float, float, float]


def make(root: Path, images: str, **files: str) -> Path:
    """Images of 100x80, and files by their names."""
    for name in images.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(root / name, "PNG")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.replace("    ", ""), encoding="utf-8")
    return root


def boxes(pool: Pool) -> list[Box]:
    assert pool.truth is not None
    return [
        (pool.names[i], pool.classes[c], *(round(float(v), 3) for v in box))
        for i, c, box in zip(pool.truth.image, pool.truth.labels, pool.truth.xyxy, strict=True)
    ]


def kinds(pool: Pool) -> dict[str, int]:
    found: dict[str, int] = {}
    for problem in pool.problems:
        found[problem.kind] = found.get(problem.kind, 0) + problem.count
    return found


A = ("a.jpg", "cat", 10.0, 20.0, 40.0, 60.0)
B = ("a.jpg", "dog", 50.0, 5.0, 90.0, 70.0)
C = ("b.jpg", "cat", 0.0, 0.0, 30.0, 30.0)
LAYOUTS: dict[str, tuple[str, str, list[Box]]] = {
    "TensorFlow": (
        "labels.csv",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,100,80,cat,10,20,40,60\na.jpg,100,80,dog,50,5,90,70\n"
        "b.jpg,100,80,cat,0,0,30,30\n",
        [A, B, C],
    ),
    "other words, tabs": (
        "x.tsv",
        "Image Name\tLabel\tX_Min\tY_Min\tWidth\tHeight\na.jpg\tcat\t10\t20\t30\t40\nb.jpg\tcat\t0\t0\t30\t30\n",
        [A, C],
    ),
    "semicolons and decimal commas": (
        "x.csv",
        "file;left;top;right;bottom;name\na.jpg;10,0;20,0;40,0;60,0;cat\n",
        [A],
    ),
    "Kaggle, box as text, no suffix, no class": (
        "train_boxes.csv",
        'image_id,width,height,bbox,source\na,100,80,"[10.0, 20.0, 30.0, 40.0]",x\nb,100,80,"[0, 0, 30, 30]",x\n',
        [("a.jpg", "object", *A[2:]), ("b.jpg", "object", *C[2:])],
    ),
    "corners as text": (
        "x.csv",
        'image,label,bbox\na.jpg,cat,"[10, 20, 40, 60]"\na.jpg,dog,"50 5 90 70"\n',
        [A, B],
    ),
    "centres in shares": ("x.csv", "image,class,x_center,y_center,width,height\na.jpg,cat,.25,.5,.3,.5\n", [A]),
    "keras-retinanet": ("x.csv", "b.jpg,,,,,\na.jpg,10,20,40,60,cat\na.jpg,50,5,90,70,dog\n", [A, B]),
    "GTSRB": (
        "GT-00000.csv",
        "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\na.jpg;100;80;10;20;40;60;7\n",
        [("a.jpg", "7", *A[2:])],
    ),
    "AutoML": (
        "x.csv",
        "UNASSIGNED,gs://bucket/dir/a.jpg,cat,0.1,0.25,,,0.4,0.75,,\n"
        "UNASSIGNED,gs://bucket/dir/a.jpg,dog,.5,.0625,.9,.0625,.9,.875,.5,.875\nUNASSIGNED,gs://bucket/b.jpg,,,,,,,,,\n",
        [A, B],
    ),
    "VGG Image Annotator": (
        "via_region_data.csv",
        "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        'a.jpg,99,"{}",2,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":30,""height"":40}","{""name"":""cat""}"\n'
        'a.jpg,99,"{}",2,1,"{""name"":""polygon"",""all_points_x"":[50,90,60],""all_points_y"":[5,9,70]}",'
        '"{""kind"":{""dog"":true}}"\nb.jpg,9,"{}",0,0,"{}","{}"\n',
        [A, B],
    ),
    "polygons as text": (
        "x.csv",
        'image_id,class,geometry\na.jpg,cat,"[(10, 20), (40, 20), (40, 60), (10, 60)]"\n',
        [A],
    ),
    "SKU-110K": (
        "annotations_train.csv",
        "a.jpg,10,20,40,60,cat,100,80\na.jpg,50,5,90,70,dog,100,80\nb.jpg,0,0,30,30,cat,100,80\n",
        [A, B, C],
    ),
    "LISA": (
        "allAnnotations.csv",
        "Filename;Annotation tag;Upper left corner X;Upper left corner Y;Lower right corner X;Lower right corner Y;"
        "Occluded,On another road\na.jpg;cat;10;20;40;60;0,0\nb.jpg;cat;0;0;30;30;1,0\n",
        [A, C],
    ),
    "Global Wheat 2021": (
        "competition_train.csv",
        "image_name,BoxesString,domain\na.jpg,10 20 40 60;50 5 90 70,x\nb.jpg,no_box,y\n",
        [("a.jpg", "object", *A[2:]), ("a.jpg", "object", *B[2:])],
    ),
    "lists of boxes": (
        "x.csv",
        "image,annotations\na.jpg,\"[{'x': 10, 'y': 20, 'width': 30, 'height': 40}]\"\nb.jpg,[]\n",
        [("a.jpg", "object", *A[2:])],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_its_boxes(tmp_path: Path, name: str) -> None:
    file, text, expected = LAYOUTS[name]
    make(tmp_path, "a.jpg b.jpg", **{file: text})
    assert find.name(tmp_path) == "box_table"
    pool = find.read(tmp_path)
    assert boxes(pool) == expected and len(pool) == 2 and pool.sources == {file}
    assert find.read(tmp_path / file).names == pool.names
    assert not set(kinds(pool)) - {"no column of classes", "path of another place", "polygon", "boxes as corners",
                                   "image without labels"}  # fmt: skip


def test_an_empty_row_says_that_nothing_is_there(tmp_path: Path) -> None:
    pool = find.read(make(tmp_path, "a.jpg b.jpg c.jpg", **{"x.csv": "b.jpg,,,,,\na.jpg,10,20,40,60,cat\n"}))
    assert pool.complete is not None
    assert dict(zip(pool.names, pool.complete.tolist(), strict=True)) == {"b.jpg": True, "a.jpg": True, "c.jpg": False}


def test_ids_get_the_names_of_a_list(tmp_path: Path) -> None:
    files = {"x.csv": "a.jpg,10,20,40,60,1\na.jpg,50,5,90,70,0\nb.jpg,0,0,30,30,7\n", "classes.csv": "dog,0\ncat,1\n"}
    pool = find.read(make(tmp_path / "a", "a.jpg b.jpg", **files))
    assert boxes(pool) == [A, B] and pool.classes == ("dog", "cat")
    assert pool.sources == {"x.csv", "classes.csv"} and kinds(pool) == {"unknown class id": 1}
    files = {
        "train-annotations-bbox.csv": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"
        "a,x,/m/01yrx,1,0.1,0.4,0.25,0.75,0,0\na,x,/m/0bt9lr,1,0.5,0.9,0.0625,0.875,0,0\n",
        "validation-annotations-bbox.csv": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
        "b,x,/m/01yrx,1,0,0.3,0,0.375,1\n",
        "class-descriptions-boxable.csv": "/m/01yrx,cat\n/m/0bt9lr,dog\n/m/0c,unused\n",
    }
    root = make(tmp_path / "b", "train/a.jpg validation/b.jpg", **files)
    assert find.splits(root) == ("train", "validation")
    train, val = find.read(root, "train"), find.read(root, "val")
    assert boxes(train) == [("train/a.jpg", *A[1:]), ("train/a.jpg", *B[1:])] and train.problems == ()
    assert boxes(val) == [] and val.crowd is not None and val.crowd.xyxy.tolist() == [[0, 0, 30, 30]]


def test_splits_by_table_folder_and_column(tmp_path: Path) -> None:
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    row = "{},100,80,cat,10,20,40,60\n"
    by_name = {"data/train_labels.csv": head + row.format("a.jpg"), "data/test_labels.csv": head + row.format("b.jpg")}
    root = make(tmp_path / "name", "images/a.jpg images/b.jpg", **by_name)
    assert find.splits(root) == ("train", "test") and find.read(root, "test").names == ("images/b.jpg",)
    assert find.read(root, "test").problems == ()
    by_folder = {f"{split}/_annotations.csv": head + row.format("a.jpg") for split in ("train", "valid")}
    root = make(tmp_path / "folder", "train/a.jpg valid/a.jpg", **by_folder)
    assert find.splits(root) == ("train", "valid") and find.read(root, "val").names == ("valid/a.jpg",)
    text = "TRAIN,gs://x/a.jpg,cat,.1,.25,,,.4,.75,,\nVALIDATION,gs://x/b.jpg,cat,.1,.25,,,.4,.75,,\n"
    root = make(tmp_path / "column", "a.jpg b.jpg", **{"x.csv": text})
    assert find.splits(root) == ("train", "validation") and find.read(root, "train").names == ("a.jpg",)
    both = {"Train.csv": head + row.format("a.jpg"), "all.csv": head + row.format("a.jpg") + row.format("b.jpg")}
    root = make(tmp_path / "both", "Train/a.jpg b.jpg", **both)
    pool = find.read(root, "Train")
    assert boxes(pool) == [("Train/a.jpg", *A[1:])] and kinds(pool)["image in two tables"] == 1


def test_bad_rows_are_left_out_and_told(tmp_path: Path) -> None:
    text = (
        "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,10,20,40,60\n,cat,1,2,3,4\na.jpg,,1,2,3,4\na.jpg,cat,x,2,3,4\n"
        "a.jpg,cat,nan,2,3,4\na.jpg,cat,1,2\ngone.jpg,cat,1,2,3,4\ngone.jpg,cat,1,2,3,5\na.jpg,cat,9e999,1,2,3\n"
        "a.jpg,dog,90,70,50,5\n"
    )
    pool = find.read(make(tmp_path, "a.jpg", **{"x.csv": text}))
    assert boxes(pool) == [A, B]
    assert kinds(pool) == {
        "broken row": 1, "box without class": 1, "box without numbers": 4, "missing image": 1, "corners swapped": 1,
    }  # fmt: skip
    assert {p.where for p in pool.problems} >= {"x.csv:3", "x.csv:4", "x.csv:5"}


def test_shares_and_pixels_in_one_folder(tmp_path: Path) -> None:
    head = "filename,class,xmin,ymin,xmax,ymax\n"
    files = {"x.csv": head + "a.jpg,cat,10,20,40,60\n", "y.csv": head + "b.jpg,cat,0,0,.3,.375\n"}
    assert boxes(find.read(make(tmp_path, "a.jpg b.jpg", **files))) == [A, C]


def test_a_table_of_predictions_counts_only_alone(tmp_path: Path) -> None:
    truth = "image,class,x1,y1,x2,y2\na.jpg,cat,10,20,40,60\n"
    said = "image,class,x1,y1,x2,y2,score\na.jpg,dog,50,5,90,70,.9\n"
    assert boxes(find.read(make(tmp_path / "1", "a.jpg", **{"a.csv": truth, "b.csv": said}))) == [A]
    assert boxes(find.read(make(tmp_path / "2", "a.jpg", **{"b.csv": said}))) == [B]


CLASSES = {
    "image and label": ("labels.csv", "image,label\na.jpg,cat\nb.jpg,dog\n"),
    "ids": ("train.csv", "id,breed\na,cat\nb,dog\n"),
    "Hugging Face": ("metadata.csv", "file_name,text,label\na.jpg,x,cat\nb.jpg,y,dog\n"),
    "one column per class": ("_classes.csv", "filename, cat, dog\na.jpg, 1, 0\nb.jpg, 0, 1\n"),
    "floats": ("x.csv", "image,cat,dog\na,1.0,0.0\nb,0.0,1.0\n"),
    "no header": ("x.csv", "a.jpg,cat\nb.jpg,dog\n"),
    "other words": ("x.csv", "picture;animal\na.jpg;cat\nb.jpg;dog\n"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_in_a_table(tmp_path: Path, name: str) -> None:
    file, text = CLASSES[name]
    make(tmp_path, "a.jpg b.jpg", **{file: text})
    assert find.name(tmp_path) == "class_table" and find.classifies(tmp_path)
    pool = find.read(tmp_path)
    assert pool.one_class_per_image and pool.problems == ()
    assert [box[:2] for box in boxes(pool)] == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_classes_in_a_table_with_faults(tmp_path: Path) -> None:
    text = "image,label\na.jpg,0\na.jpg,0\nb.jpg,0\nb.jpg,1\nc.jpg,\n,1\ngone.jpg,1\nd.jpg,1\n"
    pool = find.read(make(tmp_path, "a.jpg b.jpg c.jpg d.jpg e.jpg", **{"x.csv": text, "classes.txt": "cat\ndog\n"}))
    assert [box[:2] for box in boxes(pool)] == [("a.jpg", "cat"), ("d.jpg", "dog")] and pool.one_class_per_image
    assert kinds(pool) == {
        "image listed twice": 1, "image with several classes": 1, "image without class": 2, "broken row": 1,
        "missing image": 1,
    }  # fmt: skip
    text = "filename,cat,dog\na.jpg,1,1\nb.jpg,0,0\nc.jpg,1,0\n"
    pool = find.read(make(tmp_path / "hot", "a.jpg b.jpg c.jpg", **{"x.csv": text}))
    assert pool.names == ("c.jpg",) and kinds(pool) == {"image with several classes": 1, "image without class": 1}


def test_a_table_that_names_no_image_of_the_folder_is_none(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg b.jpg", **{"prices.csv": "id,label\n1,x\n", "sample_submission.csv": "id,label\na,cat\n"})
    assert find.name(tmp_path) == "folder"
    make(tmp_path, "", **{"x.csv": "a,b\n\x00\x01,\n"})
    assert find.name(tmp_path) == "folder"
    with pytest.raises(LabelwiseError, match="no table of boxes"):
        find.read(tmp_path, format_name="box_table")


LISTS: dict[str, tuple[str, dict[str, str], str, list[Box]]] = {
    "Keras": (
        "a.jpg b.jpg",
        {"train.txt": "a.jpg 10,20,40,60,1 50,5,90,70,0\nb.jpg\n", "classes.txt": "dog\ncat\n"},
        "box_lists",
        [A, B],
    ),
    "Keras of Roboflow": (
        "train/a.jpg",
        {"train/_annotations.txt": "a.jpg 10,20,40,60,1 50,5,90,70,0\n", "train/_classes.txt": "dog\ncat\n"},
        "box_lists",
        [("train/a.jpg", *A[1:]), ("train/a.jpg", *B[1:])],
    ),
    "WIDER": (
        "images/0--x/a.jpg images/0--x/b.jpg images/0--x/c.jpg",
        {
            "wider_face.txt": "0--x/a.jpg\n2\n10 20 30 40 0 0 0 0 0 0 \n50 5 40 65 0 0 0 1 0 0\n0--x/b.jpg\n0\n"
            "0 0 0 0 0 0 0 0 0 0\n0--x/c.jpg\n1\n0 0 30 30 0 0 0 0 0 0\n"
        },
        "box_lists",
        [("images/0--x/a.jpg", "face", *A[2:]), ("images/0--x/c.jpg", "face", *C[2:])],
    ),
    "OpenCV": (
        "img/a.jpg img/b.jpg",
        {"info.dat": "img/a.jpg  2  10 20 30 40   50 5 40 65\nimg/b.jpg 0\n"},
        "box_lists",
        [("img/a.jpg", "object", *A[2:]), ("img/a.jpg", "object", *B[2:])],
    ),
    "table called txt": (
        "a.jpg",
        {"gt.txt": "a.jpg;10;20;40;60;11\na.jpg;50;5;90;70;4\n"},
        "box_table",
        [("a.jpg", "11", *A[2:]), ("a.jpg", "4", *B[2:])],
    ),
    "KITTI": (
        "training/image_2/0.png training/image_2/1.png training/image_3/0.png",
        {
            "training/label_2/0.txt": "cat 0.00 0 -1.57 10 20 40 60 1.6 1.6 3.2 1 2 3 0.1\n"
            "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10\n",
            "training/label_2/1.txt": "",
        },
        "box_texts",
        [("training/image_2/0.png", *A[1:])],
    ),
    "DOTA": (
        "images/P1.png",
        {
            "labelTxt/P1.txt": "imagesource:GoogleEarth\ngsd:0.14\n10 30 25 20 40 50 25 60 cat 0\n"
            "50 5 90 5 90 70 50 70 dog 0\n"
        },
        "box_texts",
        [("images/P1.png", *A[1:]), ("images/P1.png", *B[1:])],
    ),
    "ICDAR": (
        "img_1.jpg",
        {"gt_img_1.txt": "10,20,40,20,40,60,10,60,Hello, you\n50,5,90,5,90,70,50,70,###\n"},
        "box_texts",
        [("img_1.jpg", "text", *A[2:])],
    ),
    "VisDrone": (
        "images/x.jpg",
        {"annotations/x.txt": "10,20,30,40,1,4,0,0\n50,5,40,65,0,0,0,0,\n"},
        "box_texts",
        [("images/x.jpg", "car", *A[2:])],
    ),
    "OIDv4": (
        "train/Cat/a.jpg",
        {"train/Cat/Label/a.txt": "Big cat 10.0 20.0 40 60\n"},
        "box_texts",
        [("train/Cat/a.jpg", "Big cat", *A[2:])],
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_boxes_in_text_files(tmp_path: Path, name: str) -> None:
    images, files, expected, found = LISTS[name]
    make(tmp_path, images, **files)
    assert find.name(tmp_path) == expected
    pool = find.read(tmp_path)
    assert boxes(pool) == found and pool.sources == set(files)
    crowds = {"WIDER": 1, "KITTI": 1, "ICDAR": 1, "VisDrone": 1}
    assert (0 if pool.crowd is None else len(pool.crowd.xyxy)) == crowds.get(name, 0)
    assert not set(kinds(pool)) - {"image without labels", "path of another place", "rotated box"}


def test_faults_of_text_files_are_told(tmp_path: Path) -> None:
    text = "a.jpg 10,20,40,60,0 1,2,3 x,2,3,4,0\nnonsense\ngone.jpg 1,2,3,4,0\n"
    make(tmp_path / "keras", "a.jpg", **{"x.txt": "a.jpg 10,20,40,60,0\n" * 40 + text})
    assert kinds(find.read(tmp_path / "keras")) == {
        "box twice": 40, "broken row": 2, "box without numbers": 1, "missing image": 1,
    }  # fmt: skip
    make(tmp_path / "wider", "a.jpg", **{"x.txt": "a.jpg\n3\n10 20 30 40\nx y\n"})
    pool = find.read(tmp_path / "wider")
    assert [box[2:] for box in boxes(pool)] == [A[2:]]
    assert kinds(pool) == {"number of boxes differs": 1, "broken row": 1}
    files = {"labelTxt/a.txt": "10 20 40 20 40 60 10 60 cat 0\n1 2 3\n", "labelTxt/b.txt": "1 2 3 4 5 6 7 8 cat 0\n"}
    pool = find.read(make(tmp_path / "dota", "images/a.jpg images/c.jpg", **files))
    assert kinds(pool) == {"broken row": 1, "rotated box": 1, "label without image": 1, "image without labels": 1}


def test_rows_of_yolo_are_nobody_elses(tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg", **{"labels/a.txt": "0 0.5 0.5 0.1 0.1\n1 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n"})
    make(tmp_path, "", **{"train.txt": "./images/a.jpg\n", "classes.txt": "cat\ndog\n"})
    formats = find.formats()
    assert not [
        name for name in ("box_table", "box_lists", "box_texts", "class_table") if formats[name].detect(tmp_path)
    ]


def test_a_quote_that_is_never_closed_costs_its_own_row(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    rows = ("a.png,64,48,cat,1,2,30,40", 'a.png,64,48,"cat,2,3,30,40', "a.png,64,48,cat,5,6,30,40")
    head = "filename,width,height,class,xmin,ymin,xmax,ymax"
    (tmp_path / "_annotations.csv").write_text("\n".join((head, *rows)) + "\n")
    pool = find.read(tmp_path)
    assert pool.truth is not None and pool.truth.xyxy.tolist() == [[1, 2, 30, 40], [5, 6, 30, 40]]
    (problem,) = pool.problems
    assert problem.where == "_annotations.csv:3" and problem.handling == "left out"
