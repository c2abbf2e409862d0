"""Classification data: class folders, CIFAR, Tiny ImageNet, arrays; long-tailed subsets; pixels held in memory."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labelwise.data import arrays, cifar, classes, find, image_reader, long_tail, tiny_imagenet
from labelwise.data.check import TWO_LABELS, check
from labelwise.types import Boxes, LabelwiseError, Pool, Rects

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 32, 32, 3), np.uint8)


def picture(path: Path, i: int = 0, size: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IMAGES[i, :size, :size]).save(path)
    return path


def labels(pool: Pool) -> list[int]:
    assert pool.truth is not None and pool.one_class_per_image
    return pool.truth.labels.tolist()


def class_folders(root: Path) -> Path:
    for i, name in enumerate(("train/cat/0.png", "train/cat/deep/er/1.png", "train/dog/0.png", "test/dog/9.png")):
        picture(root / name, i)
    picture(root / "test" / "cat" / "8.png", 9)
    return root


# --- folders of classes


def test_class_folders_with_splits(tmp_path: Path) -> None:
    root = class_folders(tmp_path)
    (root / "train" / "emu").mkdir()
    (root / "train" / ".hidden").mkdir()
    picture(root / "train" / "loose.png")
    assert classes.splits(root) == find.splits(root, "classes") == ("train", "test")
    pool = classes.read(root, "train")
    assert pool.classes == ("cat", "dog", "emu") == classes.read(root, "test").classes
    assert pool.names == ("train/cat/0.png", "train/cat/deep/er/1.png", "train/dog/0.png")
    assert labels(pool) == [0, 0, 1] and pool.pixels is None
    assert pool.truth is not None and pool.truth.xyxy.tolist() == [[0, 0, 32, 32]] * 3
    found = {p.kind: (p.where, p.handling) for p in pool.problems}
    assert found == {
        "image without class": ("train/loose.png", "left out"),
        "class without images": ("train/emu", "the class is kept"),
    }


def test_class_folders_without_splits(tmp_path: Path) -> None:
    for name in ("b/0.png", "a/1.png", "a/0.png"):
        picture(tmp_path / name)
    pool = find.read(tmp_path)
    assert pool.names == ("a/0.png", "a/1.png", "b/0.png") and labels(pool) == [0, 0, 1]
    assert find.read(tmp_path, format_name="folder").truth is None, "they may be cameras or days"
    (tmp_path / "classes.txt").write_text("b\n")
    pool = find.read(tmp_path)
    assert pool.classes == ("b",) and labels(pool) == [0]
    assert [(p.kind, p.where) for p in pool.problems] == [("unknown class", "a")]


def test_a_class_named_train_is_a_class(tmp_path: Path) -> None:
    for name in ("car/0.png", "train/0.png", "plane/0.png"):
        picture(tmp_path / name)
    assert find.read(tmp_path, format_name="classes").classes == ("car", "plane", "train")


def test_an_unreadable_image_is_a_problem_and_left_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path)
    (root / "train" / "dog" / "1.png").write_bytes(b"nonsense")
    pool = find.read(root, "train")
    assert labels(pool) == [0, 0, 1] and [p.kind for p in pool.problems] == ["unreadable image"]
    whole = picture(root / "train" / "dog" / "2.png", 5).read_bytes()
    (root / "train" / "dog" / "2.png").write_bytes(whole[:-900])  # good header, truncated pixels
    assert labels(find.read(root, "train")) == [0, 0, 1, 1]
    assert "unreadable image" in {p.kind for p in check(root) if p.where == "train/dog/2.png"}


def test_class_folders_errors(tmp_path: Path) -> None:
    with pytest.raises(LabelwiseError, match="no class folder here; expected CLASS/"):
        classes.read(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(LabelwiseError, match="no image in any of its class folders"):
        classes.read(tmp_path)
    with pytest.raises(LabelwiseError, match="no class folder here"):
        classes.read(picture(tmp_path / "file.png"))


def yolo_layout(root: Path) -> None:
    picture(root / "train" / "images" / "a.png")
    (root / "train" / "labels").mkdir()
    (root / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (root / "data.yaml").write_text("train: train/images\nnames: [cat]\n")


def voc_layout(root: Path) -> None:
    picture(root / "JPEGImages" / "a.png")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "a.xml").write_text("<annotation/>")


def coco_layout(root: Path) -> None:
    for day in ("monday", "friday"):
        picture(root / "train" / day / "a.png")
    (root / "annotations").mkdir()
    content = '{"images": [{"id": 1, "file_name": "monday/a.png"}], "categories": [], "annotations": []}'
    (root / "annotations" / "instances_train.json").write_text(content)


def bare_layout(root: Path) -> None:
    picture(root / "train" / "a.png")
    picture(root / "test" / "b.png")


def tiny_layout(root: Path) -> None:
    for i, wnid in enumerate(("n02", "n01")):
        picture(root / "train" / wnid / "images" / f"{wnid}_0.JPEG", i)
        picture(root / "val" / "images" / f"val_{i}.JPEG", i)
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius\nn02\ttench, Tinca\nn03\tother\n")
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t0\t9\t9\nval_1.JPEG\tn02\t0\t0\t9\t9\n")


def npz_layout(root: Path) -> None:
    np.savez(root / "digits.npz", train_x=IMAGES[:4, :, :, 0], train_y=[0, 1, 1, 0], x_test=IMAGES[:2], y_test=[2, 0])


def cifar_layout(root: Path) -> None:
    make_ten(root / "cifar-10-batches-py")


def jpeg_layout(root: Path) -> None:
    make_archive(root / "images.tar.xz", "w:xz")


LAYOUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "yolo": (yolo_layout, "yolo"),
    "voc": (voc_layout, "voc"),
    "coco": (coco_layout, "coco"),
    "bare": (bare_layout, "folder"),
    "classes": (class_folders, "classes"),
    "tiny": (tiny_layout, "tiny_imagenet"),
    "npz": (npz_layout, "arrays"),
    "cifar": (cifar_layout, "cifar"),
    "jpeg": (jpeg_layout, "cifar"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_found_by_its_own_reader(tmp_path: Path, name: str) -> None:
    make, expected = LAYOUTS[name]
    make(tmp_path)
    assert find.reader(tmp_path) is find.formats()[expected]


# --- Tiny ImageNet


def test_tiny_imagenet(tmp_path: Path) -> None:
    tiny_layout(tmp_path / "tiny-imagenet-200")
    pool, test = (find.read(tmp_path, split) for split in ("train", "valid"))
    assert find.splits(tmp_path) == ("train", "val")
    assert pool.classes == test.classes == ("tench", "goldfish")
    assert labels(pool) == [0, 1] and labels(test) == [1, 0] and pool.problems == ()
    assert pool.names[0] == "tiny-imagenet-200/train/n02/images/n02_0.JPEG" and pool.path(0).exists()
    with pytest.raises(LabelwiseError, match=r"no labels. Test on val"):
        tiny_imagenet.read(tmp_path, "test")


def test_tiny_imagenet_problems(tmp_path: Path) -> None:
    tiny_layout(tmp_path)
    (tmp_path / "words.txt").write_text("n01\tfish, Carassius\nn02\tfish, Tinca\n")
    listing = tmp_path / "val" / "val_annotations.txt"
    listing.write_text("val_0.JPEG\tn01\nval_1.JPEG\tn99\ngone.JPEG\tn01\n")
    pool = find.read(tmp_path, "val")
    assert pool.classes == ("fish (n02)", "fish (n01)") and labels(pool) == [1]
    assert sorted(p.kind for p in pool.problems) == ["class without images", "missing image", "unknown class id"]
    listing.write_text("val_0.JPEG n01\n")
    with pytest.raises(LabelwiseError, match=r"val_annotations.txt:1: .*tab-separated"):
        find.read(tmp_path, "val")


# --- CIFAR


def write_pickle(path: Path, content: object, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def rows(some: np.ndarray) -> np.ndarray:
    """As CIFAR stores images: red, green and blue plane, one row each."""
    return np.ascontiguousarray(some.transpose(0, 3, 1, 2)).reshape(len(some), -1)


def make_ten(folder: Path, protocol: int = 2, **changes: object) -> Path:
    write_pickle(folder / "batches.meta", {b"label_names": [b"cat", b"dog"]}, protocol)
    for i in range(6):
        batch: dict[Any, object] = {b"data": rows(IMAGES[4 * i : 4 * i + 4]), b"labels": [i % 2, 1, 0, 1]}
        batch |= {key.encode(): value for key, value in changes.items()}
        write_pickle(folder / (f"data_batch_{i + 1}" if i < 5 else "test_batch"), batch, protocol)
    return folder


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_cifar_10_batches(tmp_path: Path, protocol: int) -> None:
    folder = make_ten(tmp_path / "cifar-10-batches-py", protocol)
    (tmp_path / "archive").mkdir()
    with tarfile.open(tmp_path / "archive" / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, "cifar-10-batches-py")
    pools = [find.read(root, "train") for root in (folder, tmp_path, tmp_path / "archive")]
    pools.append(find.read(tmp_path / "archive" / "cifar-10-python.tar.gz", "train"))
    for pool in pools:
        assert pool.pixels is not None and np.array_equal(pool.pixels, IMAGES[:20])
        assert pool.classes == ("cat", "dog") and labels(pool) == [
            i % 2 if k == 0 else k % 2 for i in range(5) for k in (0, 1, 2, 3)
        ]
        assert pool.names[17] == "train/00017"
    test = find.read(folder, "test")
    assert (
        test.pixels is not None
        and np.array_equal(test.pixels, IMAGES[20:24])
        and find.splits(folder) == ("train", "test")
    )


def python_2_pickle() -> bytes:
    """Opcodes as Python 2's cPickle wrote them into CIFAR: texts are bytes, `align` of the dtype is 0."""
    data = rows(IMAGES[:1]).tobytes()
    return (
        b"\x80\x02}(U\x04data"
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + len(data).to_bytes(4, "little") + data + b"tb"
        + b"U\x06labels](K\x01eu."
    )  # fmt: skip


def test_cifar_as_python_2_wrote_it(tmp_path: Path) -> None:
    folder = make_ten(tmp_path)
    (folder / "test_batch").write_bytes(python_2_pickle())
    pool = find.read(folder, "test")
    assert pool.pixels is not None and np.array_equal(pool.pixels, IMAGES[:1]) and labels(pool) == [1]


def test_cifar_100_fine_and_coarse(tmp_path: Path) -> None:
    meta = {"fine_label_names": ["a", "b", "c"], "coarse_label_names": ["x", "y"]}
    write_pickle(tmp_path / "cifar-100-python" / "meta", meta)
    for i, split in enumerate(("train", "test")):
        batch = {"data": rows(IMAGES[i : i + 2]), "fine_labels": [2, i], "coarse_labels": [1, 0]}
        write_pickle(tmp_path / "cifar-100-python" / split, batch)
    fine, coarse = find.read(tmp_path, "test"), cifar.read(tmp_path, "test", coarse=True)
    assert (fine.classes, labels(fine)) == (("a", "b", "c"), [2, 1])
    assert (coarse.classes, labels(coarse)) == (("x", "y"), [1, 0])
    make_ten(tmp_path / "cifar-10-batches-py")
    with pytest.raises(LabelwiseError, match="holds cifar-10-batches-py, cifar-100-python; expected one"):
        find.read(tmp_path, "test")


class Evil:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "touch {there}"),
        Evil(eval, "open('{there}', 'w')"),
        Evil(getattr, Evil(__import__, "os"), "system"),
        np.array([Evil(os.system, "touch {there}")], dtype=object),
        np.zeros((1, 3072), np.float64),
        np.memmap,
    ],
    ids=["system", "eval", "import", "object array", "floats", "class"],
)
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path, evil: object) -> None:
    there = tmp_path / "there"
    for item in (evil, evil.ravel()[0] if isinstance(evil, np.ndarray) else evil):
        if isinstance(item, Evil):
            item.arguments = tuple(a.format(there=there) if isinstance(a, str) else a for a in item.arguments)
    for name in ("data_batch_1", "batches.meta"):
        folder = make_ten(tmp_path / name)
        write_pickle(folder / name, {b"data": evil, b"labels": [0], b"label_names": [b"a"]})
        with pytest.raises(LabelwiseError, match=rf"{name}: refused \(.*fetch the data set again"):
            find.read(folder, "train")
    assert not there.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1, 2, 0]}, "row 2 has label 2; expected 0 to 1"),
        ({"labels": [0, 1, -1, 0]}, "row 2 has label -1"),
        ({"labels": [0, 1]}, r"data of shape \(4, 3072\) and 2 labels"),
        ({"labels": None}, "and no labels"),
        ({"data": rows(IMAGES[:4])[:, :3000]}, r"shape \(4, 3000\).*expected \[n, 3072\]"),
        ({"data": [1]}, "data of shape None"),
    ],
)
def test_cifar_batches_that_disagree(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(LabelwiseError, match=rf"data_batch_1: .*{message}"):
        find.read(make_ten(tmp_path, **changes), "train")


def test_cifar_that_is_not_whole(tmp_path: Path) -> None:
    folder = make_ten(tmp_path / "a")
    (folder / "data_batch_3").unlink()
    with pytest.raises(LabelwiseError, match=r"no data_batch_3 here; expected batches.meta, data_batch_1"):
        find.read(folder, "train")
    assert len(find.read(folder, "test")) == 4
    (folder / "test_batch").write_bytes(b"\x80\x02}")
    with pytest.raises(LabelwiseError, match="test_batch: refused"):
        find.read(folder, "test")
    write_pickle(folder / "test_batch", [1])
    with pytest.raises(LabelwiseError, match="holds a list; expected a dict"):
        find.read(folder, "test")


# --- archives of image files


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def encoded(i: int, kind: str = "JPEG", size: int = 32) -> bytes:
    file = io.BytesIO()
    Image.fromarray(IMAGES[i, :size, :size]).save(file, kind)
    return file.getvalue()


FILES = ("train/cat/0.jpg", "train/dog/1.jpg", "test/dog/2.jpg", "train/cat/3.png", "test/emu/4.jpg")


def make_archive(path: Path, mode: Any = "w", prefix: str = "", **more: bytes) -> Path:
    with tarfile.open(path, mode) as archive:
        for i, name in enumerate(FILES):
            add(archive, prefix + name, encoded(i, "PNG" if name.endswith("png") else "JPEG"))
        add(archive, prefix + "train/cat/._0.jpg", b"mac")
        for name, content in more.items():
            add(archive, prefix + name.replace("__", "/").replace("_j", ".j"), content)
    return path


LONG = "a" * 120 + "/"


@pytest.mark.parametrize(
    ("mode", "name", "prefix"),
    [("w", "a.tar", ""), ("w:gz", "a.tar.gz", "./"), ("w:bz2", "a.tar.bz2", "top/"), ("w:xz", "a.tar.xz", LONG)],
)
def test_archive_of_images(tmp_path: Path, mode: str, name: str, prefix: str) -> None:
    path = make_archive(tmp_path / name, mode, prefix)
    for root in (path, tmp_path):
        pool, test = find.read(root, "train"), find.read(root, "test")
        assert find.splits(root) == ("train", "test") and pool.classes == test.classes == ("cat", "dog", "emu")
        where = "" if prefix == "./" else prefix
        assert pool.names == tuple(where + n for n in ("train/cat/0.jpg", "train/cat/3.png", "train/dog/1.jpg"))
        assert labels(pool) == [0, 0, 1] and labels(test) == [1, 2] and pool.problems == ()
        assert pool.pixels is not None
        for row, i in enumerate((0, 3, 1)):
            file = tmp_path / f"{i}.file"
            file.write_bytes(encoded(i, "PNG" if i == 3 else "JPEG"))
            assert np.array_equal(pool.pixels[row], image_reader.load(file)), "as from a file"
    assert [p for p in tmp_path.iterdir() if p.suffix != ".file"] == [path], "nothing is unpacked"


def test_archive_with_bad_images(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "a.tar", train__dog__0_jpg=b"nonsense", train__dog__9_jpg=encoded(7)[:400])
    pool = find.read(path, "train")
    assert labels(pool) == [0, 0, 1] and pool.pixels is not None and len(pool.pixels) == 3
    assert [(p.kind, p.where) for p in pool.problems] == [
        ("unreadable image", "train/dog/0.jpg"),
        ("unreadable image", "train/dog/9.jpg"),
    ]
    path = make_archive(tmp_path / "b.tar", train__dog__0_jpg=encoded(5, size=16))
    with pytest.raises(LabelwiseError, match=r"train/dog/0.jpg is 16x16 px, the first 32x32; expected one size"):
        find.read(path, "train")


@pytest.mark.parametrize("mode", ["w", "w:xz", "w:gz"])
def test_truncated_archive(tmp_path: Path, mode: str) -> None:
    path = make_archive(tmp_path / "a.tar", mode)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if mode != "w" else content[: 512 * 5 + 100])
    with pytest.raises(LabelwiseError, match=r"broken archive .*Fetch it again"):
        cifar._read_files(path, path, "train")


# --- arrays


def save(path: Path, **content: object) -> Path:
    np.savez(path, **content)  # type: ignore[arg-type]
    return path


def test_arrays(tmp_path: Path) -> None:
    npz_layout(tmp_path)
    pool, test = find.read(tmp_path, "train"), find.read(tmp_path / "digits.npz", "test")
    assert find.splits(tmp_path) == ("train", "test") and pool.classes == test.classes == ("0", "1", "2")
    assert labels(pool) == [0, 1, 1, 0] and labels(test) == [2, 0]
    assert pool.names[3] == "train/00003" and (pool.width_px[0], pool.height_px[0]) == (32, 32)
    assert pool.pixels is not None and np.array_equal(pool.pixels, np.repeat(IMAGES[:4, :, :, :1], 3, axis=3))
    assert test.pixels is not None and np.array_equal(test.pixels, IMAGES[:2])
    one = save(tmp_path / "one.npz", Images=IMAGES[:3, :20, :10], labels=np.array([[1], [0], [1]]), classes=["x", "y"])
    pool = find.read(one)
    assert pool.names[0] == "all/00000" and pool.classes == ("x", "y") and labels(pool) == [1, 0, 1]
    assert (pool.width_px[0], pool.height_px[0]) == (10, 20) and find.splits(one) == ()
    with pytest.raises(LabelwiseError, match=r"holds digits.npz, one.npz; expected one"):
        find.read(tmp_path)


@given(
    st.sampled_from(["uint8", "int16", "int64", "float32", "float64"]), st.sampled_from([(), (1,), (3,)]), st.booleans()
)
def test_pixels_of_any_type_come_out_the_same(dtype: str, channels: tuple[int, ...], unit: bool) -> None:
    values = IMAGES[:5, :4, :6, : (channels or (1,))[0]].reshape(5, 4, 6, *channels)
    given_ = values.astype(dtype)
    if unit and dtype.startswith("float"):
        given_ = given_ / np.array(255, dtype)
    found = arrays._pixels(given_, "x")
    expected = values if channels == (3,) else np.repeat(values.reshape(5, 4, 6, 1), 3, axis=3)
    assert found.dtype == np.uint8 and np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": [1], "b": [2]}, "holds a, b; expected an .npz file with train_x"),
        ({"x": IMAGES[:3], "y": [0, 1]}, "x has 3 images, y has 2 labels"),
        ({"x": IMAGES[:3], "y": [0, -1, 1]}, "y: row 1 has label -1; expected 0 to 1"),
        ({"x": IMAGES[:3], "y": [0, 2, 1], "classes": ["a", "b"]}, "row 1 has label 2; expected 0 to 1.*or classes"),
        ({"x": IMAGES[:3], "y": [0.0, 1.0, 1.0]}, "y holds float64; expected whole numbers"),
        ({"x": IMAGES[:3], "y": np.eye(3)}, r"y has shape \(3, 3\); expected \[n\]"),
        ({"x": IMAGES[:2].transpose(0, 3, 1, 2), "y": [0, 1]}, "expected .*Move the channels to the end"),
        ({"x": IMAGES[0, 0], "y": [0]}, r"x has shape \(32, 3\); expected \[n, h, w\]"),
        ({"x": IMAGES[:2, :, :, :2], "y": [0, 1]}, r"x has shape \(2, 32, 32, 2\)"),
        ({"x": IMAGES[:2, :0], "y": [0, 1]}, r"x has shape \(2, 0, 32, 3\)"),
        ({"x": IMAGES[:2] / 127.5 - 1, "y": [0, 1]}, "image 0 has values outside 0 to 255.*Undo the normalisation"),
        ({"x": np.array([[[0.5]], [[np.nan]]]), "y": [0, 1]}, "image 1 has values outside 0 to 255, or NaN"),
        ({"x": np.array([[[1]], [[256]]]), "y": [0, 1]}, "image 1 has values outside"),
        ({"x": np.array([[["a"]]]), "y": [0]}, "holds <U1; expected numbers"),
        ({"x": np.array([[[None]]], object), "y": [0]}, "can't be read .*not objects"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        find.read(save(tmp_path / "a.npz", **content))


def test_arrays_degenerate(tmp_path: Path) -> None:
    pool = find.read(save(tmp_path / "a.npz", x=IMAGES[:0], y=np.zeros(0, int), class_names=["a"]))
    assert len(pool) == 0 and pool.classes == ("a",)
    whole = save(tmp_path / "b.npz", x=IMAGES[:3], y=[0, 0, 0]).read_bytes()
    (tmp_path / "b.npz").write_bytes(whole[:200])
    with pytest.raises(LabelwiseError, match=r"not an .npz file"):
        find.read(tmp_path / "b.npz", format_name="arrays")


# --- long tail and subsets


@given(
    st.lists(st.integers(0, 4), max_size=60),
    st.sampled_from([0.0, 0.1, 0.3, 0.55, 1.0]),
    st.integers(0, 5),
    st.integers(0, 9),
)
def test_long_tail_keeps_what_it_says(row_labels: list[int], factor: float, reserve: int, seed: int) -> None:
    some = np.array(row_labels, np.int64)
    thinned = [1, 3]
    kept, again, more = (
        long_tail.keep(some, 5, factor=f, classes=thinned, rng=np.random.default_rng(seed), reserve_per_class=reserve)
        for f in (factor, factor, min(1.0, factor + 0.2))
    )
    assert np.array_equal(kept, again) and set(kept) <= set(more) and kept.tolist() == sorted(set(kept.tolist()))
    for c in range(5):
        n, left = int((some == c).sum()), int((some[kept] == c).sum())
        assert left == (n if c not in thinned else min(n, reserve + round(factor * n)))


def test_long_tail_as_in_the_thesis() -> None:
    some = np.repeat(np.arange(10), 500)
    kept = long_tail.keep(some, 10, factor=0.1, rng=np.random.default_rng(1), reserve_per_class=50)
    counts = np.bincount(some[kept], minlength=10)
    assert sorted(counts.tolist()) == [100] * 5 + [500] * 5
    other = long_tail.keep(some, 10, factor=0.1, rng=np.random.default_rng(2), reserve_per_class=50)
    assert np.bincount(some[other], minlength=10).tolist() != counts.tolist(), "the classes are drawn"
    one = long_tail.keep(np.zeros(4, np.int64), 1, factor=0.5, rng=np.random.default_rng(0))
    assert one.tolist() == [0, 1, 2, 3], "half of one class is none"
    assert not len(long_tail.keep(np.zeros(0, np.int64), 4, factor=0.5, rng=np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": 1.5}, "factor is 1.5"),
        ({"factor": float("nan")}, "factor is nan"),
        ({"reserve_per_class": -1}, "reserve_per_class is -1"),
        ({"classes": [2]}, r"classes \[2\]; expected each once, 0 to 1"),
        ({"classes": [0, 0]}, r"classes \[0, 0\]"),
        ({"n_classes": 1}, "row 1 has label 1; expected 0 to 0"),
    ],
)
def test_long_tail_errors(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"n_classes": 2, "factor": 0.5, "rng": np.random.default_rng(0)} | changes
    with pytest.raises(LabelwiseError, match=message):
        long_tail.keep(np.array([0, 1]), **settings)


@given(st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_subset_takes_all_that_belongs_to_an_image(per_image: list[list[int]], random: Any) -> None:
    n = len(per_image)
    images = np.array([i for i, some in enumerate(per_image) for _ in some], np.int64)
    xyxy = np.array([[k, 0, k + 1, 2] for k in range(len(images))], np.float32).reshape(-1, 4)
    truth = Boxes.from_rows(images, xyxy, np.array([c for some in per_image for c in some], np.int64), n)
    size = np.arange(n) + 5, np.arange(n) + 9
    names = tuple(f"{i}.png" for i in range(n))
    pool = Pool(
        Path("r"), ("a", "b", "c"), names, *size, truth, Rects.from_rows(images, xyxy, n), pixels=IMAGES[:n, :4, :4]
    )
    chosen = random.sample(range(n), random.randint(0, n))
    part = long_tail.subset(pool, np.array(chosen, np.int64))
    assert part.names == tuple(names[i] for i in chosen) and part.classes == pool.classes
    assert part.width_px.tolist() == [i + 5 for i in chosen] and part.height_px.tolist() == [i + 9 for i in chosen]
    assert part.truth is not None and part.crowd is not None and part.pixels is not None
    assert np.array_equal(part.pixels, IMAGES[chosen, :4, :4].reshape(-1, 4, 4, 3))
    for new, old in enumerate(chosen):
        ours, theirs = slice(*part.truth.offsets[new : new + 2]), slice(*truth.offsets[old : old + 2])
        assert part.truth.labels[ours].tolist() == per_image[old]
        assert np.array_equal(part.truth.xyxy[ours], truth.xyxy[theirs])
        assert np.array_equal(part.crowd.of(new), xyxy[theirs])


def test_subset_of_a_pool_without_truth_and_a_row_that_is_not_there() -> None:
    pool = Pool(Path("r"), (), ("a", "b"), np.array([4, 5]), np.array([4, 5]))
    part = long_tail.subset(pool, np.array([1]))
    assert part.names == ("b",) and part.truth is None and part.pixels is None
    with pytest.raises(LabelwiseError, match="row 2; expected 0 to 1"):
        long_tail.subset(pool, np.array([2]))


# --- pixels in memory


def held(tmp_path: Path, labels_: list[int], some: np.ndarray) -> Pool:
    return find.read(save(tmp_path / "a.npz", x=some, y=labels_))


@pytest.mark.parametrize("shape", [(20, 32), (32, 20), (32, 32)])
def test_images_of_a_pool_in_memory_are_those_of_the_same_files(tmp_path: Path, shape: tuple[int, int]) -> None:
    some = IMAGES[:3, : shape[0], : shape[1]]
    pool = held(tmp_path, [0, 1, 0], some)
    for i in range(3):
        Image.fromarray(some[i]).save(tmp_path / f"{i}.png")
    files = find.read(tmp_path, format_name="folder")
    for size_px in (7, 32, 50):
        ours, theirs = image_reader.Images(pool, size_px), image_reader.Images(files, size_px)
        assert ours.warm([0, 1, 2]) == []
        for i in range(3):
            for a, b in ((ours[i], theirs[i]), (ours.crop(i, (1, 2, 17, 12)), theirs.crop(i, (1, 2, 17, 12)))):
                assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
                assert a[0].flags.c_contiguous and not a[0].flags.writeable and a[0].dtype == np.uint8
        if size_px == 32:
            assert np.array_equal(ours[0][0], some[0].transpose(2, 0, 1)) and ours[0][1].tolist() == [1, 1]
    assert pool.pixels is not None and pool.pixels.flags.writeable, "the pool's own array stays as it was"


def test_splits_in_memory_are_joined(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", train_x=IMAGES[:3], train_y=[0, 1, 2], test_x=IMAGES[3:5], test_y=[1, 1])
    both = find.read(path, "train+test")
    assert both.pixels is not None and np.array_equal(both.pixels, IMAGES[:5]) and labels(both) == [0, 1, 2, 1, 1]
    path = save(tmp_path / "b.npz", train_x=IMAGES[:3, :9], train_y=[0, 1, 2], test_x=IMAGES[3:5], test_y=[1, 1])
    with pytest.raises(LabelwiseError, match="the splits hold 32x9 px, 32x32 px; expected images of one size"):
        find.read(path, "train+test")


def test_duplicates_and_two_labels_in_memory(tmp_path: Path) -> None:
    train, test = IMAGES[[0, 1, 0, 2, 1]], IMAGES[[2, 5]]
    path = save(tmp_path / "a.npz", train_x=train, train_y=[0, 1, 0, 1, 0], test_x=test, test_y=[1, 0])
    found = [(p.kind, p.where) for p in check(path)]
    assert found == [
        ("duplicate image", "train/00002 (train)"),
        (TWO_LABELS, "train/00004 (train)"),
        ("duplicate image", "test/00000 (test)"),
    ]
    noise = next(p for p in check(path) if p.kind == TWO_LABELS)
    assert noise.what == "same pixels as train/00001 (train); '1' there, '0' here"
    assert "both kept; find out which label is right" in noise.handling
    assert check(path, full=False) == ()


def test_duplicates_and_two_labels_in_folders(tmp_path: Path) -> None:
    class_folders(tmp_path)
    picture(tmp_path / "train" / "cat" / "again.png", 0)
    picture(tmp_path / "train" / "dog" / "also.png", 0)
    found = [(p.kind, p.where, p.what) for p in check(tmp_path)]
    assert found == [
        ("duplicate image", "train/cat/again.png (train)", "same bytes as train/cat/0.png (train)"),
        (TWO_LABELS, "train/dog/also.png (train)", "same bytes as train/cat/0.png (train); 'cat' there, 'dog' here"),
    ]


# --- real data


def test_real_cifar_10(shared_data: Path) -> None:
    if not (shared_data / "cifar10").is_dir():
        pytest.skip("no real data: ../shared/data/cifar10 is not there")
    pool = find.read(shared_data / "cifar10", "test")
    assert len(pool) == 10_000 and pool.classes[0] == "airplane" and pool.classes[9] == "truck"
    assert np.bincount(labels(pool)).tolist() == [1000] * 10 and pool.problems == ()
    assert pool.pixels is not None and pool.pixels.shape == (10_000, 32, 32, 3)


def test_real_mnist(shared_data: Path) -> None:
    if not (shared_data / "mnist").is_dir():
        pytest.skip("no real data: ../shared/data/mnist is not there")
    pool = find.read(shared_data / "mnist", "test")
    assert len(pool) == 10_000 and pool.classes == tuple("0123456789")
    assert np.bincount(labels(pool))[:3].tolist() == [980, 1135, 1032]
