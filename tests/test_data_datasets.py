"""Folders that Hugging Face `datasets` saved: read without the library, written so that the library reads them."""

from __future__ import annotations

import json
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from labelwise.data import coco, convert, datasets, find, image_reader, recognise
from labelwise.types import LabelwiseError, Pool

NAMES = ["cat", "dog"]
OBJECTS = [
    {"bbox": [[1, 2, 30, 20], [5, 5, 10, 10]], "category": [1, 0]},
    {"bbox": [], "category": []},
    None,
]
XYXY = [[1, 2, 31, 22], [5, 5, 15, 15]]


def png(k: int, size: tuple[int, int] = (64, 48)) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, (40 * k, 0, 0)).save(out, "PNG")
    return out.getvalue()


def value(kind: str) -> dict[str, Any]:
    return {"dtype": kind, "_type": "Value"}


def listed(feature: Any, kind: str = "List", **more: Any) -> dict[str, Any]:
    return {"feature": feature, "_type": kind, **more}


BOX = listed(value("float32"), length=4)
LABEL = {"names": NAMES, "_type": "ClassLabel"}
STRUCT = {"bbox": listed(BOX), "category": listed(LABEL)}


def save(folder: Path, features: dict[str, Any], rows: list[dict[str, Any]], n_files: int = 1) -> Path:
    """A split as the library lays it out."""
    folder.mkdir(parents=True)
    files = [f"data-{k:05d}-of-{n_files:05d}.arrow" for k in range(n_files)]
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    whole = pa.Table.from_pylist(rows)
    whole = whole.set_column(0, "image", pa.array([row["image"] for row in rows], picture))
    for k, name in enumerate(files):
        some = whole.slice(len(rows) * k // n_files, len(rows) * (k + 1) // n_files - len(rows) * k // n_files)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, some.schema) as stream:
            stream.write_table(some)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
    return folder


def picture(k: int) -> dict[str, Any]:
    return {"bytes": png(k), "path": f"{k}.png"}


def of_objects(objects: list[Any], kind: Any = STRUCT) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows = [{"image": picture(k), "objects": one} for k, one in enumerate(objects)]
    return {"image": {"_type": "Image"}, "objects": kind}, rows


def check(pool: Pool) -> None:
    assert pool.classes == ("cat", "dog") and len(pool) == 3 and pool.truth is not None
    assert pool.truth.xyxy.tolist() == XYXY and pool.truth.labels.tolist() == [1, 0]
    assert pool.truth.offsets.tolist() == [0, 2, 2, 2]
    assert pool.complete is not None and pool.complete.tolist() == [True, True, False]
    assert [p.kind for p in pool.problems] == ["image without labels"]
    for k in range(3):
        assert image_reader.pixels_of(pool, k)[0, 0].tolist() == [40 * k, 0, 0]
    assert pool.width_px.tolist() == [64] * 3 and pool.height_px.tolist() == [48] * 3


@pytest.mark.parametrize("n_files", [1, 2])
def test_struct_of_lists_list_of_structs_and_columns_are_one(tmp_path: Path, n_files: int) -> None:
    save(tmp_path / "a", *of_objects(OBJECTS), n_files=n_files)
    each = [one and [{"bbox": b, "category": c} for b, c in zip(*one.values(), strict=True)] for one in OBJECTS]
    inner = {"bbox": BOX, "category": LABEL}
    save(tmp_path / "b", *of_objects(each, listed(inner)), n_files=n_files)
    save(tmp_path / "c", *of_objects(each, [inner]), n_files=n_files)
    save(tmp_path / "d", *of_objects(OBJECTS, listed(inner, "Sequence")), n_files=n_files)
    rows = [{"image": picture(k), **(one or {"bbox": None, "category": None})} for k, one in enumerate(OBJECTS)]
    save(tmp_path / "e", {"image": {"_type": "Image"}, **STRUCT}, rows, n_files=n_files)
    for name in "abcde":
        assert find.name(tmp_path / name) == "datasets"
        check(find.read(tmp_path / name))


def test_splits_share_their_classes_and_text_is_a_class_too(tmp_path: Path) -> None:
    kind = {"bbox": listed(BOX), "label": listed(value("string"))}
    for split, names in (("train", ["dog", "hen"]), ("test", ["cat", "dog"])):
        said = [{"bbox": OBJECTS[0]["bbox"], "label": names}]  # type: ignore[index]
        save(tmp_path / split, *of_objects(said, kind))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["test", "train", "lost"]}))
    assert find.splits(tmp_path) == ("train", "test")
    train, test = (find.read(tmp_path, split) for split in ("train", "test"))
    assert train.classes == test.classes == ("cat", "dog", "hen")
    assert train.truth is not None and train.truth.labels.tolist() == [1, 2]
    joined = find.read(tmp_path, "train+test")
    assert joined.names == ("train/data-00000-of-00001.arrow#000000", "test/data-00000-of-00001.arrow#000000")
    assert image_reader.pixels_of(joined, 1).shape == (48, 64, 3)
    with pytest.raises(LabelwiseError, match="holds the splits train, test"):
        find.read(tmp_path)


def test_what_is_wrong_is_left_out_and_told(tmp_path: Path) -> None:
    kind = {
        "bbox": listed(listed(value("float32"))),
        "category": listed(value("int64")),
        "iscrowd": listed(value("int64")),
    }
    said = [
        {"bbox": [[1, 2, 30, 20], [1, 2, 3]], "category": [7, 7], "iscrowd": [0, 0]},
        {"bbox": [[0, 0, 9, 9], [5, 5, 500, 10]], "category": [None, 9], "iscrowd": [0, 1]},
        {"bbox": [[0, 0, 9, 9]], "category": [7, 9], "iscrowd": [0]},
        {"bbox": [[0, 0, 9, 9]], "category": [7], "iscrowd": [0]},
        {"bbox": [[0, 0, 9, 9]], "category": [7], "iscrowd": [0]},
    ]
    features, rows = of_objects(said, kind)
    rows[3]["image"] = {"bytes": b"no image", "path": "x.png"}
    rows[4]["image"] = {"bytes": None, "path": "gone.png"}
    save(tmp_path / "a", features, rows)
    pool = find.read(tmp_path / "a")
    assert pool.classes == ("7", "9") and len(pool) == 3
    assert pool.truth is not None and pool.truth.xyxy.tolist() == [[1, 2, 31, 22]]
    assert pool.crowd is not None and pool.crowd.of(1).tolist() == [[5, 5, 64, 15]]
    assert pool.complete is not None and pool.complete.tolist() == [True, True, False]
    kinds = sorted(problem.kind for problem in pool.problems)
    assert kinds == sorted(
        ["unreadable image"] * 2
        + ["box without numbers", "object without class", "number of classes differs"]
        + ["image without labels", "out-of-image box"]
    )


def test_images_alone_and_classes_of_whole_images(tmp_path: Path) -> None:
    rows = [{"image": picture(k), "label": k % 2} for k in range(3)]
    save(tmp_path / "bare", {"image": {"_type": "Image"}}, [{"image": row["image"]} for row in rows])
    bare = find.read(tmp_path / "bare")
    assert bare.truth is None and bare.classes == () and len(bare) == 3
    save(tmp_path / "classes", {"image": {"_type": "Image"}, "label": LABEL}, rows)
    with pytest.raises(LabelwiseError, match="'label' is a class of the whole image"):
        find.read(tmp_path / "classes")
    for name, boxes, column in (("boxes", listed(BOX), LABEL), ("box", BOX, LABEL), ("string", BOX, value("string"))):
        said = [{**row, "bbox": [[1, 2, 3, 4]] if name == "boxes" else [1, 2, 3, 4]} for row in rows]
        save(tmp_path / name, {"image": {"_type": "Image"}, "bbox": boxes, "label": column}, said)
        with pytest.raises(LabelwiseError, match="'label' is a class of the whole image, and no box has a class"):
            find.read(tmp_path / name)
    save(tmp_path / "text", {"image": value("string")}, rows)
    with pytest.raises(LabelwiseError, match=r"no column of images; its columns are image. .*cast_column"):
        find.read(tmp_path / "text")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("state.json", "{}", "names no files"),
        ("state.json", '{"_data_files": [{"filename": "../../a"}]}', "names no files"),
        ("dataset_info.json", "[]", "tells no features"),
        ("data-00000-of-00001.arrow", "no table", "cannot be read as an Arrow file"),
        ("data-00000-of-00001.arrow", "", "cannot be read as an Arrow file"),
    ],
)
def test_a_broken_folder_is_told(tmp_path: Path, file: str, content: str, message: str) -> None:
    folder = save(tmp_path / "a", *of_objects(OBJECTS))
    (folder / file).write_text(content)
    with pytest.raises(LabelwiseError, match=message):
        find.read(folder)


TWO = [[1.0, 2.0, 30.0, 20.0], [5.0, 5.0, 10.0, 10.0]]
ODD = {
    "one box": (
        {"bbox": TWO[0], "category": 1},
        "objects.bbox' holds list<.*double> for an image; expected a list of b",
    ),
    "boxes in a row": (
        {"bbox": TWO[0] + TWO[1], "category": [1, 0]},
        "objects.bbox' holds list<.*expected a list of b",
    ),
    "text": ({"bbox": ["1 2 3 4"], "category": [1]}, "objects.bbox' holds list<.*string>.*each a list of four numbers"),
    "words": ({"bbox": [["a", "b", "c", "d"]], "category": [1]}, "objects.bbox' holds .*string>>.*each a list of four"),
    "named corners": ({"bbox": [{"x": 1.0}], "category": [1]}, "objects.bbox' holds list<.*struct<x.*four numbers"),
    "boxes of boxes": ({"bbox": [TWO, TWO], "category": [1, 0]}, "objects.bbox' holds .*double>>> .*four numbers"),
    "classes of classes": ({"bbox": TWO, "category": [[1], [0]]}, "objects.category' holds .*each a number or a text"),
    "a class as a struct": ({"bbox": TWO, "category": [{"id": 1}] * 2}, "objects.category' .*each a number or a text"),
    "crowds in words": ({"bbox": TWO, "category": [1, 0], "iscrowd": ["0", "1"]}, "objects.iscrowd' .* each 0 or 1"),
    "one crowd": ({"bbox": TWO, "category": [1, 0], "iscrowd": 0}, "objects.iscrowd' holds int64 .* each 0 or 1"),
    "no struct": ("[]", "objects.bbox' is not there: 'objects' holds string for an image; expected a struct of lists"),
    "other fields": ({"box": TWO, "label": [1, 0]}, "objects.bbox' is not there: 'objects' holds struct<box"),
    "a list of structs with boxes": (
        [{"bbox": TWO, "category": 1}],
        "objects.bbox' holds .*each a list of four numbers",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_objects_that_are_no_boxes_are_an_error_that_says_what_they_are(name: str, tmp_path: Path) -> None:
    """Whatever `dataset_info.json` says of them; the other splits are read."""
    objects, says = ODD[name]
    crowds = {"iscrowd": listed(value("int64"))} if isinstance(objects, dict) and "iscrowd" in objects else {}
    save(tmp_path / "train", *of_objects([objects] * 2, {**STRUCT, **crowds}))
    save(tmp_path / "test", *of_objects(OBJECTS))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    with pytest.raises(LabelwiseError, match=f"train/data-.*arrow: the column '{says}"):
        find.read(tmp_path, "train")
    found = recognise.look(tmp_path)
    assert list(found.pools) == ["test"] and "the column" in found.broken["train"]


def test_objects_without_boxes_by_their_description_are_an_error(tmp_path: Path) -> None:
    """Not images without annotations."""
    for name, kind in {"masks": {"mask": listed(value("int64"))}, "nested": listed(listed(STRUCT))}.items():
        save(tmp_path / name, *of_objects([None, None], kind))
        with pytest.raises(
            LabelwiseError, match=r"'objects' tells no boxes .*expected a struct of lists.* bbox or bbox"
        ):
            find.read(tmp_path / name)
    features, rows = of_objects(OBJECTS)
    save(tmp_path / "less", {**features, "objects": value("string"), **STRUCT}, rows)
    with pytest.raises(LabelwiseError, match="the column 'bbox' is not there; its columns are image, objects"):
        find.read(tmp_path / "less")


@pytest.mark.parametrize(
    ("said", "classes"),
    [
        ([1.0, 0.0], ("0", "1")),
        ([True, False], ("False", "True")),
        (["dog", "cat"], ("cat", "dog")),
        ([7, -3], ("-3", "7")),
        ([2.5, 0.5], ("0.5", "2.5")),
    ],
)
def test_classes_are_numbers_or_texts(said: list[Any], classes: tuple[str, ...], tmp_path: Path) -> None:
    rows = [{"bbox": TWO, "category": said}, {"bbox": TWO[:1], "category": [None]}, {"bbox": [], "category": []}, None]
    save(tmp_path / "a", *of_objects(rows, {"bbox": listed(BOX), "category": listed(value("x"))}))
    pool = find.read(tmp_path / "a")
    assert pool.classes == classes and pool.truth is not None and pool.truth.labels.tolist() == [1, 0]
    assert [problem.kind for problem in pool.problems] == ["object without class", "image without labels"]


def test_names_of_a_class_label_may_be_said_by_name(tmp_path: Path) -> None:
    save(tmp_path / "a", *of_objects([{"bbox": TWO, "category": ["dog", "cat"]}]))
    pool = find.read(tmp_path / "a")
    assert pool.classes == ("cat", "dog") and pool.truth is not None and pool.truth.labels.tolist() == [1, 0]


def test_rows_without_anything_tell_no_type(tmp_path: Path) -> None:
    """All null: nobody has looked; all empty: nothing is there."""
    for name, objects in {"null": None, "fields": {"bbox": None, "category": None}}.items():
        save(tmp_path / name, *of_objects([objects] * 2))
        pool = find.read(tmp_path / name)
        assert pool.complete is not None and not pool.complete.any() and pool.classes == ("cat", "dog")
    save(tmp_path / "empty", *of_objects([{"bbox": [], "category": []}] * 2))
    empty = find.read(tmp_path / "empty")
    assert empty.complete is None and empty.truth is not None and not len(empty.truth)


def test_a_box_of_three_numbers_is_left_out_and_told(tmp_path: Path) -> None:
    boxes = [TWO[0][:3], TWO[1], [1.0, None, 3.0, 4.0], None, [1.0, 2.0, float("inf"), 4.0]]
    save(tmp_path / "a", *of_objects([{"bbox": boxes, "category": [0, 1, 0, 0, 0]}]))
    pool = find.read(tmp_path / "a")
    assert pool.truth is not None and pool.truth.xyxy.tolist() == [XYXY[1]] and pool.truth.labels.tolist() == [1]
    assert [problem.kind for problem in pool.problems] == ["box without numbers"] * 4


def test_pictures_go_to_other_processes_and_are_taken_in_part(tmp_path: Path) -> None:
    pool = find.read(save(tmp_path / "a", *of_objects(OBJECTS), n_files=2))
    assert pool.frames is not None
    again = pickle.loads(pickle.dumps(pool.frames))
    np.testing.assert_array_equal(again(2), pool.frames(2))


def test_what_is_written_keeps_images_byte_by_byte_or_names_them(tmp_path: Path) -> None:
    source = find.read(save(tmp_path / "a", *of_objects(OBJECTS)))
    datasets.write(source, tmp_path / "drawn", "train")
    check(find.read(tmp_path / "drawn", "train"))
    coco.write(source, tmp_path / "coco", "train")
    files = find.read(tmp_path / "coco", "train")
    for copy in (True, False):
        datasets.write(files, tmp_path / f"copy {copy}", "train", copy_images=copy)
        table = pa.ipc.open_stream(tmp_path / f"copy {copy}" / "train" / "data-00000-of-00001.arrow").read_all()
        held = [row["bytes"] for row in table["image"].to_pylist()]
        assert held == ([files.path(k).read_bytes() for k in range(len(files))] if copy else [None] * len(files))
        back = find.read(tmp_path / f"copy {copy}", "train")
        assert image_reader.pixels_of(back, 1)[0, 0].tolist() == [40, 0, 0]


def test_it_is_converted(tmp_path: Path) -> None:
    save(tmp_path / "a", *of_objects(OBJECTS))
    lost = convert.convert(recognise.look(tmp_path / "a"), "datasets", tmp_path / "b")
    assert lost == [] and find.splits(tmp_path / "b") == ("train",)
    check(find.read(tmp_path / "b", "train"))


# ---- with the library -----------------------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return pytest.importorskip("datasets", reason="the extra `datasets` is not installed (uv sync --extra datasets)")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_library_reads_what_is_written(library: Any, tmp_path: Path) -> None:
    source = find.read(save(tmp_path / "a", *of_objects(OBJECTS)))
    for split in ("train", "test"):
        datasets.write(source, tmp_path / "b", split)
    found = library.load_from_disk(str(tmp_path / "b"))
    assert set(found) == {"train", "test"} and len(found["test"]) == 3
    category = found["train"].features["objects"]["category"].feature
    assert category.names == NAMES and isinstance(found["train"].features["image"], library.Image)
    row = found["train"][0]
    assert row["objects"]["bbox"] == OBJECTS[0]["bbox"] and row["objects"]["category"] == [1, 0]  # type: ignore[index]
    assert (row["width"], row["height"], row["image"].size) == (64, 48, (64, 48))
    assert found["train"][1]["objects"]["bbox"] == [] and not (found["train"][2]["objects"] or {}).get("bbox")
    found["train"].select([0, 2]).save_to_disk(str(tmp_path / "again"))
    again = find.read(tmp_path / "again")
    assert again.truth is not None and again.truth.xyxy.tolist() == XYXY and again.classes == ("cat", "dog")
    assert again.complete is not None and again.complete.tolist() == [True, False]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_the_library_saves_is_read(library: Any, tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    objects = [one or {"bbox": [], "category": []} for one in OBJECTS]
    said = {"image": [str(tmp_path / f"{k}.png") for k in range(3)], "objects": objects}
    features = library.Features(
        {
            "image": library.Image(),
            "objects": {
                "bbox": library.List(library.List(library.Value("float32"), length=4)),
                "category": library.List(library.ClassLabel(names=NAMES)),
            },
        }
    )
    one = library.Dataset.from_dict(said, features=features)
    one.save_to_disk(str(tmp_path / "one"), num_shards=2)
    library.DatasetDict({"train": one, "validation": one.select([1])}).save_to_disk(str(tmp_path / "many"))
    pool = find.read(tmp_path / "one")
    assert pool.classes == ("cat", "dog") and pool.truth is not None and pool.truth.xyxy.tolist() == XYXY
    assert pool.complete is None and pool.problems == () and len(pool) == 3
    assert image_reader.pixels_of(pool, 2)[0, 0].tolist() == [80, 0, 0]
    assert find.splits(tmp_path / "many") == ("train", "validation")
    assert len(find.read(tmp_path / "many", "val")) == 1


@pytest.mark.parametrize("columns", [False, True])
def test_boxes_in_an_array_of_the_library_are_read(library: Any, columns: bool, tmp_path: Path) -> None:
    """In a process that has imported it, to which they are of a type of their own."""
    pictures = [Image.new("RGB", (64, 48), (40 * k, 0, 0)) for k in range(2)]
    lists = {"bbox": library.Array2D((None, 4), "float32"), "category": library.Sequence(library.Value("int64"))}
    said = [{"bbox": [[1, 2, 30, 20], [5, 5, 10, 10]], "category": [1, 0]}, {"bbox": [[0, 0, 4, 4]], "category": [1]}]
    features = {"image": library.Image(), **(lists if columns else {"objects": lists})}
    rows = [{"image": one, **(o if columns else {"objects": o})} for one, o in zip(pictures, said, strict=True)]
    library.Dataset.from_list(rows, features=library.Features(features)).save_to_disk(tmp_path / "saved")
    pool = find.read(tmp_path / "saved")
    assert pool.truth is not None and pool.truth.xyxy.tolist() == [*XYXY, [0, 0, 4, 4]]
    assert pool.truth.offsets.tolist() == [0, 2, 3]
