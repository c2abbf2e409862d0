"""`labelwise init` on any folder: what it chooses, that a failed one leaves nothing, the part held back to test on."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from labelwise import catalog, cli, config, loop
from labelwise.cli import console
from labelwise.config import Run, keys, run_file
from labelwise.data import coco, hold_back, recognise, roles, voc, yolo
from labelwise.data.long_tail import subset
from labelwise.generated import scenes
from labelwise.project import detector_size, frozen_weights, opening, starter
from labelwise.types import Boxes, Clips, LabelwiseError, Pool

SMALL = ["train.epochs=1", "train.min_steps=2", "train.max_steps=2", "model.weights=none", 'predict.views=["flip"]']
SMALL += ["data.image_size_px=64", "data.cache_gb=0.1"]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console on which no line breaks, whatever the terminal of who runs the tests; weights are nowhere at hand."""
    monkeypatch.setattr(console.out, "_width", 300)
    monkeypatch.setattr(frozen_weights, "at_hand", lambda _name: None)
    monkeypatch.setattr(detector_size, "has_gpu", lambda: False)


def call(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "300"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def picture(path: Path, seed: int = 0, side: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)


def drawn(root: Path, train: int = 16, test: int = 6) -> Path:
    """COCO, with the splits train and test."""
    scenes.write(root, train=train, test=test, size_px=64, digits=(1, 3), scale=(0.3, 0.5), classes=3)
    path = root / "annotations" / "instances_test.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for image in content["images"]:  # VOC keeps all splits in one folder
        (root / "test" / image["file_name"]).rename(root / "test" / f"t{image['file_name']}")
        image["file_name"] = f"t{image['file_name']}"
    path.write_text(json.dumps(content), encoding="utf-8")
    return root


def test_the_size_of_the_detector_follows_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare(tmp_path / "d")
    classes(tmp_path / "c")

    def made(machine: str | None, data: str = "d") -> Run:
        folder = tmp_path / f"{machine} {data} {detector_size.has_gpu()}"
        return starter.make(folder, tmp_path / data, None, ["a"] if data == "d" else [], machine=machine).run

    small, large = made(None), made("gpu")
    assert small.model.settings["backbone"] == "shufflenet_v2_x0_5" and small.data.image_size_px == 320
    assert large.model.settings["backbone"] == "resnet50" and large.model.settings["weights"] == "coco"
    assert large.data.image_size_px == 640 and large.train.precision == "bf16-mixed"
    assert large.query.score == small.query.score and large.labels == small.labels
    classifier = made("gpu", "c")
    assert classifier.classifies and classifier.model == made("cpu", "c").model
    monkeypatch.setattr(detector_size, "has_gpu", lambda: True)
    assert made(None).model == large.model and made("cpu").model == small.model
    with pytest.raises(LabelwiseError, match="--for tpu: expected cpu or gpu"):
        made("tpu")
    with pytest.raises(LabelwiseError, match=r"RECIPE\+gpu"):
        starter.make(tmp_path / "r", tmp_path / "d", "bccd", machine="gpu")


def test_the_size_of_the_detector_gives_way_to_the_users_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare(tmp_path / "d")
    classes(tmp_path / "c")
    monkeypatch.setattr(detector_size, "has_gpu", lambda: True)

    def made(*settings: str, machine: str | None = None, data: str = "d", **how: str) -> starter.NewProject:
        names = ["a"] if data == "d" else []
        return starter.make(tmp_path / "p", tmp_path / data, None, names, settings, machine=machine, **how)

    assert made("model.name=faster_rcnn").run.model.name == "faster_rcnn"
    assert made("model.backbone=resnet18").run.data.image_size_px == 320
    for said in "model.name=faster_rcnn", "model.backbone=resnet18":
        with pytest.raises(LabelwiseError, match=f"{said} does not go with: leave --for gpu out"):
            made(said, machine="gpu")
    other = made("model.backbone=resnet18", "model.weights=imagenet", "data.image_size_px=512", machine="gpu")
    [size] = [line for line in other.messages if line.startswith("Size")]
    assert "retinanet, backbone resnet18, weights imagenet, at 512 px" in size
    whole = made('model={name="faster_rcnn", weights="coco", backbone="resnet50"}', machine="gpu")
    assert whole.run.model.name == "faster_rcnn" and whole.run.train.precision == "bf16-mixed"
    with pytest.raises(LabelwiseError, match=r"--for gpu .* --model frozen"):
        made(machine="gpu", model="frozen")
    assert any(
        "the classifier is the same for a CPU and a GPU" in one for one in made(machine="gpu", data="c").messages
    )
    assert not any("Size" in one for one in made(data="c").messages)


# ---------------------------------------------------------------------------------------------------- kinds of folder


def bare(root: Path) -> None:
    for k in range(12):
        picture(root / f"{k}.png", k)


def classes(root: Path) -> None:
    for k in range(30):
        picture(root / ("cat", "dog", "emu")[k % 3] / f"{k}.png", k)


def coco_instances(root: Path) -> None:
    drawn(root)
    for split, other in (("train", "train2017"), ("test", "val2017")):
        (root / split).rename(root / other)
        (root / "annotations" / f"instances_{split}.json").rename(root / "annotations" / f"instances_{other}.json")


def coco_roboflow(root: Path) -> None:
    source = drawn(root.parent / "source")
    for split, other in (("train", "train"), ("test", "valid")):
        shutil.copytree(source / split, root / other)
        text = (source / "annotations" / f"instances_{split}.json").read_text(encoding="utf-8")
        (root / other / "_annotations.coco.json").write_text(text, encoding="utf-8")


def written(write: Callable[..., None], *splits: tuple[str, str]) -> Callable[[Path], None]:
    """Another format, written from the drawn set: (its split, the one it is made of)."""

    def make(root: Path) -> None:
        source = drawn(root.parent / "source")
        for name, of in splits:
            write(coco.read(source, of), root, name)

    return make


def voc_bare(root: Path) -> None:
    written(voc.write, ("trainval", "train"))(root)
    shutil.rmtree(root / "ImageSets")
    (root / "classes.txt").unlink()


def voc_beside(root: Path) -> None:
    voc_bare(root)
    for folder in ("Annotations", "JPEGImages"):
        for path in (root / folder).iterdir():
            path.rename(root / path.name)
        (root / folder).rmdir()


def frames(root: Path) -> None:
    for clip in ("clip_a", "clip_b"):
        for k in range(8):
            picture(root / clip / f"{k:06d}.png", k)


def videos(root: Path) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    root.mkdir()
    rng = np.random.default_rng(0)
    labels: dict[str, Any] = {}
    for name in ("a", "b", "c", "d"):
        with av.open(str(root / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for k in range(6):
                image = rng.integers(0, 99, (64, 64, 3), dtype=np.uint8)
                image[10 + k : 30 + k, 10:30] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        boxes = [[["CAR", 11, 11 + k, 20, 20]] for k in range(6)]
        labels[name] = {"file": f"{name}.mp4", "width": 64, "height": 64, "fps": 25, "frames": 6, "labels": boxes}
    (root / "labels.json").write_text(json.dumps(labels), encoding="utf-8")


def bare_videos(root: Path) -> None:
    videos(root)
    (root / "labels.json").unlink()


def cifar(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = rng.integers(0, 255, (12, 3072), dtype=np.uint8)
        batch = {b"data": data, b"labels": [(k + i) % 3 for i in range(12)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [b"cat", b"dog", b"emu"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def arrays(root: Path) -> None:
    root.mkdir()
    rng = np.random.default_rng(0)
    parts = {"train": 40, "test": 12}
    x = {f"{name}_x": rng.integers(0, 255, (n, 12, 12), dtype=np.uint8) for name, n in parts.items()}
    y = {f"{name}_y": np.arange(n) % 3 for name, n in parts.items()}
    np.savez(root / "set.npz", **x, **y)


KINDS: dict[str, tuple[Callable[[Path], None], str, str | None, str | None]] = {  # and its format, pool, test split
    "bare images": (bare, "folder", None, None),
    "a folder of classes": (classes, "classes", None, None),
    "COCO": (coco_instances, "coco", "train2017", "val2017"),
    "COCO of Roboflow": (coco_roboflow, "coco", "train", "valid"),
    "YOLO": (written(yolo.write, ("train", "train"), ("val", "test")), "yolo", "train", "val"),
    "VOC": (written(voc.write, ("trainval", "train"), ("test", "test")), "voc", "trainval", "test"),
    "VOC without ImageSets": (voc_bare, "voc", "all", None),
    "XML beside images": (voc_beside, "voc", "all", None),
    "one split of another name": (written(coco.write, ("depot", "train")), "coco", "depot", None),
    "YOLO of one split of another name": (written(yolo.write, ("depot", "train")), "yolo", "depot", None),
    "frame folders": (frames, "frames", None, None),
    "videos": (videos, "video", "train", "test"),
    "videos without labels": (bare_videos, "video", None, None),
    "CIFAR": (cifar, "cifar", "train", "test"),
    "arrays": (arrays, "arrays", "train", "test"),
}
PEOPLE = {"bare images", "frame folders", "videos without labels"}
CLASSIFY = {"a folder of classes", "CIFAR", "arrays"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_folder_becomes_a_project(kind: str, tmp_path: Path) -> None:
    make, format_name, pool, test = KINDS[kind]
    make(tmp_path / "d")
    said = ["--classes", "cat,dog"] if kind in PEOPLE else []
    shown = call("init", str(tmp_path / "p"), "--data", str(tmp_path / "d"), *said)
    text = (tmp_path / "p" / "run.toml").read_text(encoding="utf-8")
    run = config.load(tmp_path / "p" / "run.toml")
    assert (run.data.format, run.data.pool_split, run.data.test_split) == (format_name, pool, test)
    assert (run.ask.who == "people", run.classifies) == (kind in PEOPLE, kind in CLASSIFY)
    assert (run.data.test_share > 0) == (kind not in PEOPLE and test is None)
    opened = opening.start(tmp_path / "p", None)
    assert opened.pool.classes and 0 < opened.first_images <= len(opened.pool) / 3 + 1
    assert (opened.test is None) == (kind in PEOPLE)
    assert opened.test is None or not set(opened.pool.names) & set(opened.test.names)
    assert opened.project.ledger.stages() == []
    assert f"{len(opened.pool)} images in the pool" in shown and f"d: {format_name}" in shown
    assert all(key in shown for key in ("budget.start_images", "budget.per_round", "Test: "))
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    assert 10 <= len(lines) <= 32 and sum("  # " in line for line in lines) >= len(lines) - 1


@pytest.mark.parametrize("kind", ["a folder of classes", "VOC without ImageSets", "frame folders", "videos"])
def test_the_first_round_runs(kind: str, tmp_path: Path) -> None:
    KINDS[kind][0](tmp_path / "d")
    said = SMALL if kind not in CLASSIFY else [x for x in SMALL if "views" not in x]
    made = starter.make(tmp_path / "p", tmp_path / "d", None, ["a"] if kind in PEOPLE else [], said)
    opened = opening.start(tmp_path / "p", None)
    if kind in PEOPLE:
        loop.begin(opened)
        assert all(loop.run_stage(opened, 0, name) for name in ("predict", "score", "select"))
        assert made.run.rounds == 4
        return
    assert next(loop.run(opened)) == 0
    assert opened.project.ledger.cost().images == opened.first_images


# ------------------------------------------------------------------------------------------------ what may go wrong


def nothing(root: Path) -> None:
    root.mkdir()


def unreadable(root: Path) -> None:
    root.mkdir()
    for k in range(3):
        (root / f"{k}.jpg").write_bytes(b"no image")


def other_files(root: Path) -> None:
    root.mkdir()
    (root / "notes.txt").write_text("nothing", encoding="utf-8")


def two_formats(root: Path) -> None:
    written(coco.write, ("train", "train"))(root)
    yolo.write(coco.read(root, "train"), root / "y", "val")
    (root / "y" / "data.yaml").rename(root / "data.yaml")


def other_classes(root: Path) -> None:
    coco_instances(root)
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["categories"][0]["name"] = "zebra"
    path.write_text(json.dumps(content), encoding="utf-8")


WRONG: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "no folder": (lambda root: None, [], "no such folder. Give the folder"),
    "an empty folder": (nothing, [], "is empty. Give a folder with images"),
    "nothing that can be read": (unreadable, [], r"not one of its images can be read. First: .*0\.jpg"),
    "other files": (other_files, [], "no data set in a known format"),
    "two formats": (two_formats, [], "could be coco or yolo. Say which one: .*data.format=coco"),
    "a test split without annotations": (
        bare,
        ["data.test_share=0.3"],
        "no annotations to test on. Set data.test_share",
    ),
    "a setting that is none": (bare, ["train.epocs=3"], "Did you mean 'epochs'"),
    "a split that is none": (
        coco_instances,
        ["data.pool_split=nowhere"],
        "no split 'nowhere'; expected one of train2017",
    ),
    "an expression that is none": (classes, ["data.group=("], "no regular expression"),
    "a ledger that is none": (bare, ["ledger=sqlite:////nowhere/at/all/x.db"], r"nowhere/at/all/x\.db"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_failed_init_says_what_to_do_and_leaves_nothing(what: str, tmp_path: Path) -> None:
    make, said, message = WRONG[what]
    make(tmp_path / "d")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LabelwiseError, match=message):
        starter.make(tmp_path / "p", tmp_path / "d", settings=said)
    assert sorted(tmp_path.rglob("*")) == before


def test_classes_of_all_splits_are_one_list(tmp_path: Path) -> None:
    other_classes(tmp_path / "d")
    made = starter.make(tmp_path / "p", tmp_path / "d")
    assert made.test is not None and made.pool.classes == made.test.classes
    assert made.pool.classes.count("zebra") == 1 and len(made.pool.classes) > 1


def test_a_project_never_lies_in_its_data(tmp_path: Path) -> None:
    bare(tmp_path / "d")
    for folder in (tmp_path / "d", tmp_path / "d" / "p"):
        with pytest.raises(LabelwiseError, match=r"own data folder.*Name a project folder outside"):
            starter.make(folder, tmp_path / "d")
    assert len(list((tmp_path / "d").iterdir())) == 12


def test_a_test_split_without_annotations_is_not_chosen(tmp_path: Path) -> None:
    coco_instances(tmp_path / "d")
    path = tmp_path / "d" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text(encoding="utf-8")) | {"annotations": []}
    path.write_text(json.dumps(content), encoding="utf-8")
    made = starter.make(tmp_path / "p", tmp_path / "d")
    assert (made.run.data.test_split, made.run.data.test_share) == (None, 0.2)
    with pytest.raises(LabelwiseError, match=r"val2017 has no annotations.*data\.test_share"):
        starter.make(tmp_path / "q", tmp_path / "d", settings=["data.test_split=val2017"])
    assert not (tmp_path / "q").exists()


def test_a_split_that_cannot_be_read_is_told_and_left_out(tmp_path: Path) -> None:
    coco_instances(tmp_path / "d")
    (tmp_path / "d" / "annotations" / "instances_val2017.json").write_text("{", encoding="utf-8")
    shown = call("init", str(tmp_path / "p"), "--data", str(tmp_path / "d"))
    assert "cannot be read" in shown and "broken JSON" in shown and "data.test_share" in shown


def test_init_may_be_repeated_until_a_stage_begins(tmp_path: Path) -> None:
    bare(tmp_path / "a")
    classes(tmp_path / "b")
    starter.make(tmp_path / "p", tmp_path / "a", classes=["cat"])
    opened = opening.start(tmp_path / "p", None)
    loop.begin(opened)  # the images stand in the ledger; a run may be stopped here
    opened.project.close()
    made = starter.make(tmp_path / "p", tmp_path / "b", settings=["train.epochs=3"])
    opened = opening.start(tmp_path / "p", None)
    assert opened.run == made.run and opened.run.train.epochs == 3
    loop.begin(opened)
    assert opened.project.ledger.classes() == ("cat", "dog", "emu")
    text = (tmp_path / "p" / "run.toml").read_text(encoding="utf-8")
    with pytest.raises(LabelwiseError, match="no such folder"):
        starter.make(tmp_path / "p", tmp_path / "nowhere")
    opened.project.ledger.mark_started(0, "predict")
    opened.project.close()
    with pytest.raises(LabelwiseError, match=r"its first round has begun.*labelwise run --project"):
        starter.make(tmp_path / "p", tmp_path / "a", classes=["cat"])
    assert (tmp_path / "p" / "run.toml").read_text(encoding="utf-8") == text


def test_classes_of_a_bare_folder_may_be_added_before_the_first_run(tmp_path: Path) -> None:
    bare(tmp_path / "d")
    shown = call("init", str(tmp_path / "p"), "--data", str(tmp_path / "d"))
    assert "add-class NAME --project" in shown and "--classes" in shown
    with pytest.raises(LabelwiseError, match=r"no classes are known.*add-class NAME --project.*classes = \["):
        call("run", "--project", str(tmp_path / "p"))
    call("add-class", "cat", "--project", str(tmp_path / "p"))
    call("add-class", "dog", "--project", str(tmp_path / "p"))
    opened = opening.start(tmp_path / "p", None)
    loop.begin(opened)
    assert opened.pool.classes == opened.project.ledger.classes() == ("cat", "dog")
    opened.project.close()
    with pytest.raises(LabelwiseError, match="classes were added"):
        starter.make(tmp_path / "p", tmp_path / "d")


def test_a_recipe_of_the_users_own_keeps_its_method_and_budget(tmp_path: Path) -> None:
    drawn(tmp_path / "d")
    made = starter.make(tmp_path / "p", tmp_path / "d", "bccd+random", settings=["model.weights=none"])
    assert (made.run.data.pool_split, made.run.data.test_split, made.run.data.format) == ("train", "test", "coco")
    assert (made.run.query.score.name, made.run.budget.per_round) == ("random", (60, 60, 60, 60))
    generated = starter.make(tmp_path / "q", tmp_path / "d", "scenes+random")
    assert generated.run.data.scenes is None and opening.start(tmp_path / "q", None).run == generated.run


# ------------------------------------------------------------------------------------------------ choosing, guessing


def empty(names: str, *, truth: bool = True) -> Pool:
    n = len(names)
    size = np.full(n, 9)
    boxes = Boxes.of_images(np.zeros(n, np.int64), size, size) if truth else None
    return Pool(Path(), ("cat",), tuple(names), size, size, truth=boxes)


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": "ab", "val": "cd", "trainval": "abcd", "test": "ef"}, ("trainval", "test")),
        ({"train": "ab", "val": "cd", "trainval": "abcd"}, ("train", "val")),
        ({"default": "ab"}, ("default", None)),
        ({"test": "ab"}, ("test", None)),
        ({"Train-2017": "ab", "VAL2017": "c"}, ("Train-2017", "VAL2017")),
        ({"north": "a", "south": "bc"}, ("south", None)),
        ({"south": "bc", "valid": "a"}, ("south", "valid")),
    ],
)
def test_pool_and_test_split_are_chosen(splits: dict[str, str], expected: tuple[str, str | None]) -> None:
    assert roles.choose({name: empty(images) for name, images in splits.items()}) == expected


def test_only_what_has_annotations_tests_and_a_pool_may_be_given() -> None:
    pools = {"train": empty("ab"), "val": empty("cd", truth=False), "test": empty("ef")}
    assert roles.choose(pools) == ("train", "test")
    assert roles.choose(pools, "test") == ("test", None)
    assert roles.choose(pools | {"extra": empty("gh")}, "extra") == ("extra", "test")


@pytest.mark.parametrize(
    ("folders", "files", "expected"),
    [
        (("cat", "dog"), "numbers", "classes"),
        (("cat",), "numbers", "folder"),
        (("0", "1", "2"), "numbers", "classes"),
        (("clip_a", "clip_b"), "numbers", "frames"),
        (("clip_a", "clip_b"), "words", "classes"),
        (("MVI_20011", "MVI_20012"), "numbers", "frames"),
        (("seq1",), "numbers", "frames"),
        (("001.Albatross", "002.Auklet"), "gaps", "classes"),
        (("camera_1", "camera_2"), "gaps", "folder"),
        (("2024-05-01", "2024-05-02"), "gaps", "folder"),
    ],
)
def test_folders_of_images_are_told_apart(folders: tuple[str, ...], files: str, expected: str, tmp_path: Path) -> None:
    names = {"numbers": ["0001", "0002", "0003"], "words": ["a", "b", "c"], "gaps": ["x_3", "x_17", "x_90"]}[files]
    for k, folder in enumerate(folders):
        for name in names:
            picture(tmp_path / folder / f"{name}.png", k, 16)
    found = recognise.look(tmp_path)
    assert found.format == expected
    others = {"frames", "classes", "folder"} - {expected}
    assert not found.note or all(f"data.format={name}" in found.note for name in others)
    assert recognise.look(tmp_path, "folder").format == "folder"


# ------------------------------------------------------------------------------------------- the part that is held back


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Images of up to 4 classes in groups `gNN`; some of them in clips."""
    groups = draw(st.lists(st.integers(0, 40), min_size=12, max_size=120))
    n = len(groups)
    names = tuple(f"g{group:02d}_{k}.jpg" for k, group in enumerate(sorted(groups)))
    labels = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), np.int64)
    size = np.full(n, 9)
    clips = None
    if draw(st.booleans()):
        video = np.unique(np.array(sorted(groups)), return_inverse=True)[1].astype(np.int64)
        listed = tuple(f"g{group:02d}" for group in sorted(set(groups)))
        clips = Clips(listed, video, np.arange(n), np.arange(n) / 25)
    return Pool(Path(), ("a", "b", "c", "d"), names, size, size, truth=Boxes.of_images(labels, size, size), clips=clips)


GROUP = r"^g\d\d"


def part(pool: Pool, share: float, seed: int, group: str = GROUP) -> set[str]:
    try:
        back = hold_back.held_back(pool, share, seed=seed, group=group)
    except LabelwiseError:  # none or all of so few groups; the message is tested below
        return set()
    return {name for name, yes in zip(pool.names, back, strict=True) if yes}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pools(), st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 199), st.data())
def test_the_part_is_stable_and_never_splits_a_group(pool: Pool, share: float, seed: int, data: st.DataObject) -> None:
    back = part(pool, share, seed)
    assert back == part(pool, share, seed)
    for group in {name[:3] for name in pool.names}:
        assert len({name in back for name in pool.names if name.startswith(group)}) == 1
    fewer = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(pool))), min_size=1))), np.int64)
    smaller = subset(pool, fewer)  # before the others were added
    assert part(smaller, share, seed) in (back & set(smaller.names), set())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9), st.lists(st.integers(20, 80), min_size=2, max_size=5), st.sampled_from([0.1, 0.2, 0.3]))
def test_the_seed_is_chosen_so_that_every_class_keeps_its_share(salt: int, counts: list[int], share: float) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    n = len(labels)
    size = np.full(n, 9)
    names = tuple(f"{salt}/{k}.jpg" for k in range(n))
    truth = Boxes.of_images(labels, size, size)
    pool = Pool(Path(), tuple("abcde"[: len(counts)]), names, size, size, truth=truth)
    seed = hold_back.seed(pool, share)
    assert seed == hold_back.seed(pool, share) and 0 <= seed < hold_back.SEEDS
    back = hold_back.held_back(pool, share, seed=seed)
    of_class = np.bincount(labels[back], minlength=len(counts)) / counts
    assert (np.abs(of_class - share) < 0.12).all() and abs(back.mean() - share) < 0.06


def test_a_part_of_nothing_is_an_error(tmp_path: Path) -> None:
    pool = subset(empty("abcdef"), np.arange(1))
    with pytest.raises(LabelwiseError, match=r"none of 1 images|all of 1 images"):
        hold_back.held_back(pool, 0.2, seed=0)


def test_the_ledger_never_holds_the_test_part_also_when_images_are_added(tmp_path: Path) -> None:
    classes(tmp_path / "d")
    starter.make(tmp_path / "p", tmp_path / "d", settings=["data.group=^[a-z]+/(\\d)"])
    opened = opening.start(tmp_path / "p", None)
    loop.begin(opened)
    assert opened.test is not None
    before, pool = set(opened.test.names), set(opened.pool.names)
    assert before and not {name.split("/")[1][0] for name in before} & {name.split("/")[1][0] for name in pool}
    opened.project.close()
    for k in range(100, 140):
        picture(tmp_path / "d" / ("cat", "dog")[k % 2] / f"{k}.png", k)
    again = opening.start(tmp_path / "p", None, ["seed=5"])
    loop.begin(again)  # an image that left the pool would be refused here
    assert again.test is not None
    assert before <= set(again.test.names) and pool <= set(again.pool.names)
    assert not set(again.test.names) & set(again.pool.names)


def test_copies_by_roboflow_stay_together(tmp_path: Path) -> None:
    for k in range(24):
        picture(tmp_path / "d" / ("cat", "dog")[k % 2] / f"im{k // 3}_jpg.rf.{k:032x}.png", k)
    made = starter.make(tmp_path / "p", tmp_path / "d")
    assert made.run.data.group and made.test is not None
    stems = [{name.split("/")[-1].split(".rf.")[0] for name in pool.names} for pool in (made.pool, made.test)]
    shown = {(name.split("/")[0], name.split("/")[-1].split(".rf.")[0]) for name in made.pool.names}
    held = {(name.split("/")[0], name.split("/")[-1].split(".rf.")[0]) for name in made.test.names}
    assert stems[1] and not shown & held


# ------------------------------------------------------------------------------------------------ run.toml and config


def test_every_field_is_in_the_table_of_settings_with_a_meaning() -> None:
    said = {one.key: one for one in keys.settings()}
    assert all(one.meaning and one.type != "" for one in said.values())
    dumped = tomllib.loads(config.dump(config.load(catalog.recipe_files("scenes+u_cb"))))
    for section, value in dumped.items():
        named = [section] if section in ("model",) or not isinstance(value, dict) else [f"{section}.{k}" for k in value]
        assert all(key in said for key in named), named
    assert said["train.epochs"].default == "12" and said["train.epochs"].type == "integer"
    assert said["ask.who"].type == "oracle or people" and "labels.teacher.share" in said
    shown = call("config")
    assert all(key in shown for key in said)


def test_config_shows_a_part_and_the_values_of_a_project(tmp_path: Path) -> None:
    bare(tmp_path / "d")
    call("init", str(tmp_path / "p"), "--data", str(tmp_path / "d"), "--classes", "cat", "-s", "train.epochs=7")
    shown = call("config", "train", "--project", str(tmp_path / "p"))
    assert re.search(r"train\.epochs.*integer.*12.*7.*gone through", shown) and "budget.unit" not in shown
    assert "train.lr" in call("config", "train.lr") and "train.epochs" not in call("config", "train.lr")
    with pytest.raises(LabelwiseError, match=r"unknown setting 'epochs'; there is train\.epochs"):
        call("config", "epochs")
    with pytest.raises(LabelwiseError, match="Did you mean"):
        call("config", "trian")


def test_a_changed_setting_leaves_the_rest_of_the_file_as_it_is(tmp_path: Path) -> None:
    bare(tmp_path / "d")
    starter.make(tmp_path / "p", tmp_path / "d", classes=["cat #1", 'a "b"'])
    path = tmp_path / "p" / "run.toml"
    before = path.read_text(encoding="utf-8").replace("[train]", "# my own words\n[train]")
    path.write_text(before, encoding="utf-8")
    said = [
        "train.epochs=3",
        "query.select.sigma=0.5",
        "seed=4",
        "tracks.frames=2",
        "train.lr=0.1",
        'data.classes=["x#y"]',
    ]
    opened = opening.start(tmp_path / "p", None, said)
    after = path.read_text(encoding="utf-8")
    assert config.load(path) == opened.run and opened.run.train.epochs == 3 and opened.run.seed == 4
    assert opened.run.query.select[0].settings == {"sigma": 0.5} and opened.run.data.classes == ("x#y",)
    kept = set(before.splitlines()) & set(after.splitlines())
    assert len(kept) >= len(set(before.splitlines())) - 4 and "# my own words" in kept
    assert re.search(r"^epochs = 3 +# How often", after, re.MULTILINE)
    assert re.search(r'^classes = \["x#y"\] +# Names', after, re.MULTILINE)


def test_a_file_that_cannot_be_changed_by_lines_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'data = { root = "x" }\n[predict]\nviews = ["flip"]\n[query]\n[query.score]\nname = "consistency"\nbeta = 1.2\n'
        "[budget]\nper_round = [\n 3,\n 4]\n",
        encoding="utf-8",
    )
    for said in (["query.score.beta=1.1"], ["budget.per_round=[7]"], ["data.image_size_px=99"]):
        expected = config.load(path, said)
        path.write_text(run_file.change(path, said), encoding="utf-8")
        assert config.load(path) == expected
