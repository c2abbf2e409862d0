"""XML: Pascal VOC in every layout of folders and with every fault that is common, ImageNet's frames, CVAT."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.data import coco, cvat_xml, find, recognise, voc
from labelwise.data.check import check
from labelwise.types import Boxes, LabelwiseError, Pool

Row = tuple[str, str, float, float, float, float]
CAT = "<object><name>cat</name><bndbox><xmin>21</xmin><ymin>11</ymin><xmax>60</xmax><ymax>40</ymax></bndbox></object>"
BOX = (20.0, 10.0, 60.0, 40.0)


def picture(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def xml(path: Path, filename: str = "", objects: str = CAT, more: str = "", encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    named = f"<filename>{filename}</filename>" if filename else ""
    path.write_bytes(f"<annotation>{named}{more}{objects}</annotation>".encode(encoding))


def bounds(x1: float, y1: float, x2: float, y2: float, name: str = "cat") -> str:
    box = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def rows(pool: Pool) -> list[Row]:
    """(image, class, x1, y1, x2, y2) of every box."""
    assert pool.truth is not None
    found = zip(pool.truth.image.tolist(), pool.truth.labels.tolist(), pool.truth.xyxy.tolist(), strict=True)
    return [(pool.names[i], pool.classes[k], *(round(v, 3) for v in box)) for i, k, box in found]


def kinds(pool: Pool) -> dict[str, int]:
    found: dict[str, int] = {}
    for problem in pool.problems:
        found[problem.kind] = found.get(problem.kind, 0) + problem.count
    return found


LAYOUTS = {
    "devkit": ("VOC2007/JPEGImages/a.png", "VOC2007/Annotations/a.xml", "all"),
    "labelImg": ("a.png", "a.xml", "all"),
    "labelImg below": ("day/a.png", "day/a.xml", "all"),
    "images, annotations": ("images/a.png", "annotations/a.xml", "all"),
    "images, annots": ("Images/a.png", "annots/a.xml", "all"),
    "IMAGES, xmls": ("IMAGES/a.png", "xmls/a.xml", "all"),
    "Roboflow": ("train/a.png", "train/a.xml", "train"),
    "folders inside": ("JPEGImages/x/y/a.png", "Annotations/x/y/a.xml", "all"),
    "folders of images alone": ("JPEGImages/x/a.png", "Annotations/a.xml", "all"),
    "folders of XML alone": ("JPEGImages/a.png", "Annotations/x/a.xml", "all"),
    "split folders": ("valid/images/a.png", "valid/annotations/a.xml", "valid"),
    "splits inside": ("images/test/a.png", "annotations/test/a.xml", "test"),
    "XML in images' folder": ("images/a.png", "images/xml/a.xml", "all"),
    "train_images": ("train_images/a.png", "train_annots/a.xml", "all"),
    "images below XML": ("images/a.png", "a.xml", "all"),
    "ImageNet": ("Data/CLS-LOC/train/n01/n01_5.png", "Annotations/CLS-LOC/train/n01/n01_5.xml", "train"),
    "without suffix": ("Images/n02-dog/n02_7.png", "Annotation/n02-dog/n02_7", "all"),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("filename", ["with suffix", "without", "none", "%s"])
def test_layouts(tmp_path: Path, name: str, filename: str) -> None:
    image, annotation, split = LAYOUTS[name]
    picture(tmp_path / image)
    said = {"with suffix": Path(image).name, "without": Path(image).stem, "none": "", "%s": "%s"}[filename]
    xml(tmp_path / annotation, said)
    assert find.name(tmp_path) == "voc" and find.splits(tmp_path) == (split,)
    pool = find.read(tmp_path)
    assert rows(pool) == [(image, "cat", *BOX)] and pool.sources == {annotation}
    assert set(kinds(pool)) <= {"path of another place"} and pool.complete is not None and pool.complete.all()
    assert "unread annotation file" not in {problem.kind for problem in check(tmp_path, full=False)}


def test_the_file_name_in_the_xml_is_the_link(tmp_path: Path) -> None:
    for name in ("img_1", "img_2", "b", "c", "d"):
        picture(tmp_path / "JPEGImages" / f"{name}.png")
    place = tmp_path / "Annotations"
    xml(place / "0001.xml", "img_1.png", bounds(2, 2, 9, 9))  # by filename alone
    xml(place / "b.xml", "img_1.png", bounds(3, 3, 9, 9))  # a copied filename: img_1 has a file, b has none
    xml(place / "c.xml", "d.png", bounds(4, 4, 9, 9))  # two that are exchanged
    xml(place / "d.xml", "c.png", bounds(5, 5, 9, 9))
    xml(place / "img_2.xml", "IMG_2.JPG", bounds(6, 6, 9, 9))  # a suffix that is another
    pool = find.read(tmp_path)
    assert {Path(row[0]).stem: row[2] for row in rows(pool)} == {"img_1": 1, "b": 2, "d": 3, "c": 4, "img_2": 5}
    assert kinds(pool) == {"file name differs": 2}


def test_paths_and_folders_in_the_xml_lead_to_the_image(tmp_path: Path) -> None:
    for name in ("cats/1.png", "dogs/1.png", "dogs/2.png"):
        picture(tmp_path / name)
    xml(tmp_path / "notes" / "p.xml", "1.png", bounds(2, 2, 9, 9), "<path>C:\\data\\cats\\1.png</path>")
    xml(tmp_path / "notes" / "q.xml", "1.png", bounds(3, 3, 9, 9), "<folder>dogs</folder>")
    xml(tmp_path / "notes" / "r.xml", "1.png", bounds(4, 4, 9, 9))
    pool = find.read(tmp_path)
    assert [(row[0], row[2]) for row in rows(pool)] == [("cats/1.png", 1), ("dogs/1.png", 2)]
    assert kinds(pool) == {"path of another place": 1, "ambiguous image": 1, "image without labels": 1}


def test_an_image_of_another_split_is_not_taken(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "images" / "a.png")
    picture(tmp_path / "valid" / "images" / "b.png")
    for split in ("train", "valid"):
        xml(tmp_path / split / "annotations" / "a.xml", "a.png")
    assert rows(find.read(tmp_path, "train")) == [("train/images/a.png", "cat", *BOX)]
    valid = find.read(tmp_path, "valid")
    assert rows(valid) == [] and valid.complete is not None and not valid.complete.any()
    assert kinds(valid) == {"label without image": 1, "image without labels": 1}


def test_images_of_one_name_in_several_folders_are_not_guessed(tmp_path: Path) -> None:
    for folder in ("train_image", "valid_image"):
        picture(tmp_path / folder / "1.png")
    xml(tmp_path / "valid_annot" / "1.xml", "1.png")
    assert [row[0] for row in rows(find.read(tmp_path))] == ["valid_image/1.png"]
    (tmp_path / "valid_annot").rename(tmp_path / "annotations")
    pool = find.read(tmp_path)
    assert rows(pool) == [] and kinds(pool) == {"ambiguous image": 1, "image without labels": 2}
    (tmp_path / "train_image").rename(tmp_path / "images")
    assert [row[0] for row in rows(find.read(tmp_path))] == ["images/1.png"]


def test_two_files_of_one_image(tmp_path: Path) -> None:
    picture(tmp_path / "JPEGImages" / "a.png")
    xml(tmp_path / "Annotations" / "a.xml", "a.png", bounds(2, 2, 9, 9))
    xml(tmp_path / "Annotations" / "old" / "a.xml", "a.png", bounds(2, 2, 9, 9) + bounds(12, 12, 29, 29))
    pool = find.read(tmp_path)
    assert [row[2:] for row in rows(pool)] == [(1, 1, 9, 9), (11, 11, 29, 29)]
    assert kinds(pool) == {"image annotated twice": 1}


def test_a_copied_file_name_gives_no_image_the_boxes_of_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "JPEGImages" / f"{name}.png")
        xml(tmp_path / "Annotations" / f"{name}.xml", "a.png")
    xml(tmp_path / "Annotations" / "gone.xml", "a.png", bounds(5, 5, 9, 9))
    pool = find.read(tmp_path)
    assert rows(pool) == [(f"JPEGImages/{name}.png", "cat", *BOX) for name in ("a", "b")]
    assert kinds(pool) == {"label without image": 1, "file name differs": 1}


def test_texts_that_are_no_lists(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    xml(tmp_path / "annotations" / "a.xml")
    (tmp_path / "test.txt").write_text("This was a test.\nOf nothing\n")
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    pool = find.read(tmp_path)
    assert rows(pool) == [("images/a.png", "cat", *BOX)] and pool.problems == ()
    assert pool.sources == {"annotations/a.xml"}


def test_an_image_that_nobody_has_looked_at_is_written_as_such(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / "v" / f"{name}.png")
    xml(tmp_path / "v" / "a.xml")
    xml(tmp_path / "v" / "b.xml", objects="")
    voc.write(find.read(tmp_path / "v"), tmp_path / "out", "train")
    assert sorted(path.name for path in (tmp_path / "out" / "Annotations").iterdir()) == ["a.xml", "b.xml"]
    back = find.read(tmp_path / "out")
    assert back.complete is not None and back.complete.tolist() == [True, True, False]


def test_lists(tmp_path: Path) -> None:
    for name in ("my a", "b", "c.v2", "d 1", "e", "f", "sub/g"):
        picture(tmp_path / "JPEGImages" / f"{name}.png")
        xml(tmp_path / "Annotations" / f"{name}.xml")
    picture(tmp_path / "JPEGImages" / "pic.png")
    xml(tmp_path / "Annotations" / "0007.xml", "pic.png")
    picture(tmp_path / "SegmentationClass" / "b.png")
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    main.joinpath("train.txt").write_text("\ufeffmy a\r\nb.png\r\nc.v2  1\r\nd 1\r\n\r\n", encoding="utf-8")
    main.joinpath("val.txt").write_text("e -1\nJPEGImages/f.png\n0007\nghost\nsub/g.xml\n")
    main.joinpath("cat_val.txt").write_text("e -1\n")
    (tmp_path / "ImageSets" / "Layout").mkdir()
    (tmp_path / "ImageSets" / "Layout" / "test.txt").write_text("b 1\n")
    assert find.splits(tmp_path) == ("train", "val")
    train, val = find.read(tmp_path, "train"), find.read(tmp_path, "val")
    assert [Path(name).stem for name in train.names] == ["my a", "b", "c.v2", "d 1"]
    assert [Path(name).stem for name in val.names] == ["e", "f", "pic", "g"] and len(rows(val)) == 4
    assert [(p.kind, p.where) for p in val.problems] == [("missing image", "ImageSets/Main/val.txt:4")]
    main.joinpath("val.txt").write_text("e\n")
    assert kinds(find.read(tmp_path, "val")) == {"image in no list": 3}, "masks are no images of the set"


def test_lists_of_pairs_and_a_list_of_labels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.png")
        xml(tmp_path / "annotations" / f"{name}.xml", objects=bounds(2, 2, 9, 9, "dog") + bounds(2, 2, 9, 9, "emu"))
    (tmp_path / "train.txt").write_text("./images/a.png ./annotations/a.xml\n")
    (tmp_path / "valid.txt").write_text("images\\b.png annotations\\b.xml\n")
    (tmp_path / "label_list.txt").write_text("dog\nemu\n")
    pool = find.read(tmp_path, "valid")
    assert rows(pool) == [("images/b.png", "dog", 1, 1, 9, 9), ("images/b.png", "emu", 1, 1, 9, 9)]
    assert pool.problems == () and {"valid.txt", "label_list.txt"} <= pool.sources


def test_images_that_nobody_has_looked_at_and_files_that_are_broken(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / "JPEGImages" / f"{name}.png")
    xml(tmp_path / "Annotations" / "a.xml", objects="")
    xml(tmp_path / "Annotations" / "e.xml", "e.jpg")
    (tmp_path / "Annotations" / "b.xml").write_text("<annotation>\n<object>\n</annotation>")
    (tmp_path / "Annotations" / "c.xml").write_text("")
    pool = find.read(tmp_path)
    assert pool.complete is not None and pool.complete.tolist() == [True, False, False, False]
    assert [(p.kind, p.where, p.count) for p in pool.problems] == [
        ("malformed annotation", "Annotations/b.xml:3", 1),
        ("malformed annotation", "Annotations/c.xml:1", 1),
        ("label without image", "Annotations/e.xml", 1),
        ("image without labels", "JPEGImages/b.png", 3),
    ]
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation>")
    (tmp_path / "Annotations" / "e.xml").unlink()
    with pytest.raises(LabelwiseError, match=r"a\.xml:1: broken XML"):
        find.read(tmp_path)


def test_objects_that_are_broken_are_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    broken = ("<bndbox><xmin/><ymin/></bndbox>", "<bndbox><xmin>x</xmin></bndbox>", "", "<bndbox>9</bndbox>")
    objects = "".join(f"<object><name>cat</name>{one}</object>" for one in broken)
    objects += bounds("nan", 1, 5, 5) + bounds(1, "1e999", 5, 5) + bounds("1_0", 5, 20, 20)  # type: ignore[arg-type]
    objects += bounds(3, 3, 9, 9, " ") + bounds(31, 40, 12, 11) + bounds(4, 4, 9, 9, "  cat\n")
    xml(tmp_path / "a.xml", "a.png", f"<objects>{objects}</objects>")
    pool = find.read(tmp_path)
    assert rows(pool) == [("a.png", "cat", 11, 10, 31, 40), ("a.png", "cat", 3, 3, 9, 9)]
    assert kinds(pool) == {"box without numbers": 7, "object without class": 1, "corners swapped": 1}
    assert pool.problems[0].where == "a.xml: object 1"


SHAPES = {
    "RectLabel": ("<polygon><x1>21</x1><y1>11</y1><x2>60</x2><y2>11</y2><x3>60</x3><y3>40</y3></polygon>", "polygon"),
    "LabelMe": ("<polygon><pt><x>21</x><y>11</y></pt><pt><x>60</x><y>40</y></pt></polygon>", "polygon"),
    "FAIR1M": ("<points><point>21,11</point><point>60,11</point><point>60.0,40</point></points>", "polygon"),
    "roLabelImg": (
        "<robndbox><cx>40</cx><cy>25</cy><w>30</w><h>40</h><angle>1.5707963</angle></robndbox>",
        "rotated box",
    ),
    "degrees": ("<robndbox><cx>40</cx><cy>25</cy><w>30</w><h>40</h><angle>90</angle></robndbox>", "rotated box"),
    "DIOR": (
        "<robndbox><x_left_top>40</x_left_top><y_left_top>10</y_left_top><x_right_top>60</x_right_top>"
        "<y_right_top>25</y_right_top><x_lower>20</x_lower><y_lower>40</y_lower></robndbox>",
        "rotated box",
    ),
    "four corners": (
        "<bndbox><x0>40</x0><y0>10</y0><x1>60</x1><y1>25</y1><x2>40</x2><y2>40</y2><x3>20</x3><y3>25</y3></bndbox>",
        "rotated box",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_become_their_hull_and_are_told(tmp_path: Path, name: str) -> None:
    shape, kind = SHAPES[name]
    label = "<possibleresult><name>cat</name></possibleresult>" if name == "FAIR1M" else "<name>cat</name>"
    picture(tmp_path / "a.png")
    xml(tmp_path / "a.xml", "a.png", f"<object>{label}{shape}</object>" * 2)
    pool = find.read(tmp_path)
    assert rows(pool) == [("a.png", "cat", *BOX)] and kinds(pool) == {kind: 2, "box twice": 1}


def test_deleted_objects_of_labelme_are_none(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    shape = "<polygon><pt><x>21</x><y>11</y></pt><pt><x>60</x><y>40</y></pt></polygon>"
    objects = f"<object><name>cat</name><deleted>{{}}</deleted>{shape}</object>"
    xml(tmp_path / "a.xml", "\na.png\n", objects.format(1) + objects.format(0))
    pool = find.read(tmp_path)
    assert len(rows(pool)) == 1 and kinds(pool) == {"deleted object": 1, "polygon": 1}


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "GBK", "Big5", "Shift_JIS"])
def test_encodings(tmp_path: Path, encoding: str, declared: bool) -> None:
    name, label = {"Shift_JIS": ("写真の一枚目", "ねことしろいいぬ")}.get(encoding, ("這是圖片文件", "白色小貓"))
    picture(tmp_path / "JPEGImages" / f"{name}.png")
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n' if declared else ""
    content = f"{head}<annotation><filename>{name}.png</filename>{bounds(21, 11, 60, 40, label)}</annotation>"
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "1.xml").write_bytes(content.encode(encoding))
    assert rows(find.read(tmp_path)) == [(f"JPEGImages/{name}.png", label, *BOX)]


def test_namespaces(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(f'<?xml version="1.0"?><annotation xmlns="http://x.org/v">{CAT}</annotation>')
    assert rows(find.read(tmp_path)) == [("a.png", "cat", *BOX)]
    prefixed = CAT.replace("</", "</n:").replace("<", "<n:").replace("<n:/n:", "</n:")
    (tmp_path / "a.xml").write_text(f'<n:annotation xmlns:n="http://x.org/v">{prefixed}</n:annotation>')
    assert rows(find.read(tmp_path)) == [("a.png", "cat", *BOX)]


def zero_based(root: Path, objects: str) -> Path:
    for split in ("train", "valid"):
        picture(root / split / f"{split}.png")
        xml(root / split / f"{split}.xml", objects=objects if split == "train" else bounds(5, 5, 63, 47))
    return root


def test_pixels_from_zero_are_recognised_in_the_set_and_told(tmp_path: Path) -> None:
    root = zero_based(tmp_path, bounds(0, 7, 30, 30) + bounds(1, 9, 20, 20))
    valid = find.read(root, "valid")
    assert rows(valid) == [("valid/valid.png", "cat", 5, 5, 63, 47)], "what one split says holds for all"
    (problem,) = valid.problems
    assert (problem.kind, problem.where, problem.count) == ("pixels from 0", "train/train.xml: object 1", 1)
    assert "first_pixel = 0" in problem.handling and "data.first_pixel=1" in problem.handling
    assert rows(find.read(root, "valid", first_pixel=1)) == [("valid/valid.png", "cat", 4, 4, 63, 47)]
    assert find.read(root, "valid", first_pixel=0).problems == ()


def test_a_slip_to_zero_does_not_shift_a_set_that_counts_from_one(tmp_path: Path) -> None:
    border = "".join(bounds(1, 1, 20 + k, 20) for k in range(3))
    pool = find.read(zero_based(tmp_path, bounds(0, 7, 30, 30) + border), "train")
    assert rows(pool)[0][2:] == (0, 6, 30, 30) and rows(pool)[1][2:] == (0, 0, 20, 20)
    assert kinds(pool) == {"pixels from 0": 1, "out-of-image box": 1}


def test_first_pixel_is_of_voc_alone_and_looks_keep_it(tmp_path: Path) -> None:
    root = zero_based(tmp_path / "v", bounds(0, 0, 30, 30))
    found = recognise.look(root, first_pixel=1)
    again = found.read(root, "valid", "voc", first_pixel=1)
    assert again is found.pools["valid"] and rows(again)[0][2:] == (4, 4, 63, 47)
    assert rows(found.read(root, "valid", "voc"))[0][2:] == (5, 5, 63, 47)
    coco.write(find.read(root, "valid"), tmp_path / "c", "train")
    with pytest.raises(LabelwiseError, match=r"data\.first_pixel is of VOC"):
        find.read(tmp_path / "c", "train", first_pixel=0)


def test_frames_of_imagenet_vid_are_clips(tmp_path: Path) -> None:
    for clip, count in (("v_2", 2), ("v_10", 11)):
        for k in range(count):
            picture(tmp_path / "Data" / "VID" / "train" / clip / f"{k:06d}.JPEG")
            objects = CAT.replace("<object>", "<object><trackid>0</trackid>") if k == 1 else ""
            place = tmp_path / "Annotations" / "VID" / "train" / clip / f"{k:06d}.xml"
            xml(place, f"{k:06d}", objects, f"<folder>{clip}</folder>")
    picture(tmp_path / "Data" / "VID" / "test" / "v_3" / "000000.JPEG")
    assert find.splits(tmp_path) == ("train", "test")
    pool = find.read(tmp_path, "train")
    assert pool.clips is not None and pool.clips.names == ("Data/VID/train/v_10", "Data/VID/train/v_2")
    assert pool.clips.frame.tolist() == [*range(11), 0, 1] and pool.clips.video.tolist() == [0] * 11 + [1] * 2
    assert [row[0] for row in rows(pool)] == [f"Data/VID/train/{clip}/000001.JPEG" for clip in ("v_10", "v_2")]
    assert pool.problems == () and pool.complete is not None and pool.complete.all()
    assert find.read(tmp_path, "test").clips is not None


def test_odd_names_come_back(tmp_path: Path) -> None:
    names = ("my a.png", " b .png", "c 1.png", "d.e.f.png", "-1.png", "é&<.png", "train.png", "x\ty.png")
    for name in names:
        picture(tmp_path / "s" / name)
    n = len(names)
    truth = Boxes.from_rows(np.arange(n), np.array([[5.0, 5, 6 + i, 6] for i in range(n)]), np.zeros(n, np.int64), n)
    pool = Pool(tmp_path / "s", ("a cat",), names, np.full(n, 64), np.full(n, 48), truth=truth)
    voc.write(pool, tmp_path / "out", "train")
    voc.write(pool, tmp_path / "out", "test")
    back = find.read(tmp_path / "out", "train")
    assert [(Path(row[0]).name, *row[1:]) for row in rows(back)] == [
        (name, "a cat", 5, 5, 6 + i + (i == 0) * 0.001, 6) for i, name in enumerate(names)
    ], "a box of one pixel is none of no area"
    assert back.problems == ()
    bad = Pool(tmp_path / "s", ("a\ncat",), names, np.full(n, 64), np.full(n, 48), truth=truth)
    with pytest.raises(LabelwiseError, match="cannot be written to XML"):
        voc.write(bad, tmp_path / "other", "train")


# ------------------------------------------------------------------------------------------------------------- CVAT

NAMES = ("<name>dog</name>", "<name>cat</name>", "<name>day</name><type>tag</type>")
LABELS = "<labels>" + "".join(f"<label>{name}</label>" for name in NAMES) + "</labels>"
RECT = '<box label="cat" xtl="20" ytl="10" xbr="60" ybr="40" occluded="1"/>'


def cvat(path: Path, content: str, meta: str = LABELS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"<annotations><version>1.1</version><meta><task>{meta}</task></meta>{content}</annotations>"
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}', encoding="utf-8")


def test_cvat_images(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "c.png"):
        picture(tmp_path / "images" / name)
    cvat(
        tmp_path / "annotations.xml",
        f'<image id="0" name="a.png" width="64" height="48">{RECT}</image><image id="1" name="sub/b.png"/>'
        '<image id="2" name="gone.png"><box label="cat"/></image>',
    )
    assert find.name(tmp_path) == "cvat_xml" and find.splits(tmp_path) == ()
    pool = find.read(tmp_path)
    assert rows(pool) == [("images/a.png", "cat", *BOX)] and pool.classes == ("dog", "cat")
    assert pool.complete is not None and dict(zip(pool.names, pool.complete.tolist(), strict=True)) == {
        "images/a.png": True,
        "images/sub/b.png": True,
        "images/c.png": False,
    }
    assert kinds(pool) == {"missing image": 1, "image without labels": 1}
    assert pool.sources == {"annotations.xml"}


CVAT_SHAPES = {
    "polygon": ('<polygon label="cat" points="20,10;60.0,20;30,40"/>', BOX),
    "mask": ('<mask label="cat" rle="1,2" left="20" top="10" width="40" height="30"/>', BOX),
    "ellipse": ('<ellipse label="cat" cx="40" cy="25" rx="15" ry="20" rotation="90"/>', BOX),
    "rotated box": ('<box label="cat" xtl="25" ytl="5" xbr="55" ybr="45" rotation="-90"/>', BOX),
    "cuboid": (
        '<cuboid label="cat" xtl1="20" ytl1="10" xbl1="20" ybl1="40" xtr1="60" ytr1="10" xbr1="60" ybr1="40" '
        'xtl2="30" ytl2="20" xbl2="30" ybl2="30" xtr2="40" ytr2="20" xbr2="40" ybr2="30"/>',
        BOX,
    ),
    "polyline": ('<polyline label="cat" points="20,10;60,40"/>', None),
    "points": ('<points label="cat" points="20,10"/>', None),
    "skeleton": ('<skeleton label="cat"><points label="1" points="20,10"/></skeleton>', None),
    "image tag": ('<tag label="day"/>', None),
    "object without class": ('<box xtl="20" ytl="10" xbr="60" ybr="40"/>', None),
    "box without numbers": ('<box label="cat" xtl="" ytl="10" xbr="nan" ybr="40"/>', None),
}


@pytest.mark.parametrize("kind", CVAT_SHAPES)
def test_cvat_shapes(tmp_path: Path, kind: str) -> None:
    shape, box = CVAT_SHAPES[kind]
    picture(tmp_path / "a.png")
    cvat(tmp_path / "annotations.xml", f'<image id="0" name="a.png">{shape}</image>')
    pool = find.read(tmp_path)
    assert rows(pool) == ([("a.png", "cat", *box)] if box else []) and kinds(pool) == {kind: 1}


def test_cvat_subsets_and_several_files(tmp_path: Path) -> None:
    for name in ("images/train/a.png", "images/val/a.png", "two/images/b.png"):
        picture(tmp_path / name)
    cvat(
        tmp_path / "annotations.xml",
        f'<image id="0" name="a.png" subset="train">{RECT}</image><image id="1" name="a.png" subset="val"/>',
    )
    label = "<labels><label><name>emu</name></label></labels>"
    cvat(tmp_path / "two" / "annotations.xml", f'<image name="b.png" subset="train">{RECT}</image>', label)
    cvat(tmp_path / "two" / "job2.xml", f'<image name="b.png" subset="train">{RECT}{RECT.replace("60", "61")}</image>')
    assert find.splits(tmp_path) == ("train", "val")
    train = find.read(tmp_path, "train")
    assert train.classes == ("dog", "cat", "emu") and len(rows(train)) == 3 == len(set(rows(train)))
    assert {row[0] for row in rows(train)} == {"images/train/a.png", "two/images/b.png"}
    assert kinds(train) == {"image annotated twice": 1}
    assert find.read(tmp_path, "val").names == ("images/val/a.png",)


def key(frame: int, x: float, outside: int = 0) -> str:
    return f'<box frame="{frame}" outside="{outside}" keyframe="1" xtl="{x}" ytl="10" xbr="{x + 20}" ybr="40"/>'


TRACKS = (
    f'<track id="0" label="cat">{key(1, 20)}{key(3, 24)}{key(4, 0, outside=1)}</track>'
    '<track id="1" label="dog"><polygon frame="0" outside="0" points="1,1;9,1;9,9"/></track>'
    f'<track id="2" label="dog">{key(77, 20)}</track>'
)
SIZE = f"<size>5</size><mode>interpolation</mode><start_frame>0</start_frame><stop_frame>4</stop_frame>{LABELS}"


def test_cvat_tracks_over_images(tmp_path: Path) -> None:
    for k in range(6):
        picture(tmp_path / "images" / f"frame_{k:06d}.PNG")
    cvat(tmp_path / "annotations.xml", TRACKS, SIZE)
    pool = find.read(tmp_path)
    assert pool.clips is not None and pool.clips.names == ("images",) and pool.clips.frame.tolist() == [*range(6)]
    assert [(int(row[0][-10:-4]), *row[1:4], row[4]) for row in rows(pool)] == [
        (0, "dog", 1, 1, 9),
        (1, "cat", 20, 10, 40),
        (2, "cat", 22, 10, 42),
        (3, "cat", 24, 10, 44),
    ]
    assert pool.complete is not None and pool.complete.tolist() == [True] * 5 + [False]
    assert kinds(pool) == {
        "polygon": 1,
        "box between key frames": 1,
        "label without image": 1,
        "image without labels": 1,
    }


def test_cvat_tracks_without_meta_and_of_every_second_frame(tmp_path: Path) -> None:
    for k in (10, 12, 14, 16):
        picture(tmp_path / "one" / "images" / f"frame_{k:06d}.png")
    track = f'<track id="0" label="cat">{key(10, 20)}{key(14, 28)}</track>'
    step = "<start_frame>10</start_frame><stop_frame>16</stop_frame><frame_filter>step=2</frame_filter>"
    cvat(tmp_path / "one" / "annotations.xml", track, step)
    pool = find.read(tmp_path / "one")
    assert [row[2] for row in rows(pool)] == [20, 24, 28] and pool.complete is not None and pool.complete.all()
    (tmp_path / "one" / "annotations.xml").write_text(f"<annotations>{track}</annotations>")
    bare = find.read(tmp_path / "one")
    assert len(rows(bare)) == 3 and bare.complete is not None
    assert bare.complete.tolist() == [True, True, True, False], "behind the last that is named nobody is known to look"


def test_cvat_tracks_over_images_of_other_names(tmp_path: Path) -> None:
    for name in ("p2", "p10", "p9"):
        picture(tmp_path / f"{name}.png")
    cvat(tmp_path / "annotations.xml", f'<track id="0" label="cat">{key(2, 20)}</track>', "<size>3</size>" + LABELS)
    pool = find.read(tmp_path)
    assert [row[0] for row in rows(pool)] == ["p10.png"] and pool.problems == ()
    assert pool.names == ("p2.png", "p9.png", "p10.png")
    cvat(tmp_path / "annotations.xml", f'<track id="0" label="cat">{key(2, 20)}</track>', "<size>9</size>" + LABELS)
    assert kinds(find.read(tmp_path)) == {"frames by their order": 1}


def film(path: Path, n: int = 6) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(n):
            image = np.full((48, 64, 3), 20 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_cvat_tracks_over_a_video_file(tmp_path: Path) -> None:
    film(tmp_path / "train" / "clip.mp4")
    film(tmp_path / "test" / "a.mp4")
    film(tmp_path / "test" / "b.mp4")
    cvat(tmp_path / "train" / "annotations.xml", TRACKS, SIZE)
    cvat(tmp_path / "test" / "b.xml", f'<track id="0" label="cat">{key(0, 20)}</track>', "")
    assert find.name(tmp_path) == "cvat_xml" and find.splits(tmp_path) == ("train", "test")
    pool = find.read(tmp_path, "train")
    assert pool.names[0] == "train/clip.mp4#000000" and len(pool) == 6 and pool.frames is not None
    assert pool.clips is not None and np.allclose(pool.clips.time_s, np.arange(6) / 10)
    assert abs(int(pool.frames(3)[20, 20, 0]) - 60) < 8
    assert [(int(row[0][-6:]), row[1], row[2]) for row in rows(pool)] == [
        (0, "dog", 1),
        (1, "cat", 20),
        (2, "cat", 22),
        (3, "cat", 24),
    ]
    assert pool.complete is not None and pool.complete.tolist() == [True] * 5 + [False]
    assert kinds(pool)["label without image"] == 1 and kinds(pool)["image without labels"] == 1
    test = find.read(tmp_path, "test")
    assert test.clips is not None and test.clips.names == ("test/b.mp4",)
    assert find.read(tmp_path, "train+test").clips is not None
    shutil.copy(tmp_path / "train" / "annotations.xml", tmp_path / "test" / "c.xml")
    assert kinds(find.read(tmp_path, "train"))["video without images"] == 1


def test_cvat_files_that_are_broken(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    cvat(tmp_path / "annotations.xml", f'<image name="a.png">{RECT}</image>')
    (tmp_path / "b.xml").write_text("<annotations><image name=")
    pool = find.read(tmp_path)
    assert len(rows(pool)) == 1 and kinds(pool) == {"malformed annotation": 1}
    (tmp_path / "annotations.xml").unlink()
    with pytest.raises(LabelwiseError, match=r"b\.xml:1: broken XML"):
        find.read(tmp_path, format_name="cvat_xml")
    with pytest.raises(LabelwiseError, match="no XML file of CVAT"):
        cvat_xml.read(tmp_path / "absent")


def test_cvat_is_written_and_read(tmp_path: Path) -> None:
    names = ("my a.png", " b .png", "c 1.png", "é&<.png", "a%20b.png")
    for name in names:
        picture(tmp_path / "s" / name)
    n = len(names)
    truth = Boxes.from_rows(np.arange(n), np.array([[5.0, 5, 6.5, 6]] * n), np.zeros(n, np.int64), n)
    pool = Pool(tmp_path / "s", ("a cat", "dog"), names, np.full(n, 64), np.full(n, 48), truth=truth)
    cvat_xml.write(pool, tmp_path / "out", "depot")
    assert find.splits(tmp_path / "out") == ("depot",)
    back = find.read(tmp_path / "out")
    assert back.problems == () and back.classes == pool.classes and len(rows(back)) == n
    assert {Path(row[0]).name for row in rows(back)} == set(names)
