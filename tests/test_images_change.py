"""Images that go, come back, are cut short or replaced between two runs: the flow goes on, labels stay or are held."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from labelwise import cli, files, loop
from labelwise.data.known_order import in_known_order
from labelwise.generated import scenes
from labelwise.ledger import image_files
from labelwise.ledger.import_export import current_annotations
from labelwise.project import availability, opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.stages import training_export
from labelwise.study import history
from labelwise.types import Boxes, Clips, LabelwiseError, Pool, Problem

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kill

TINY = [s for s in kill.SMALL if not s.startswith(("data.", "budget", "train.", "predict.views"))]
TINY += ["train.epochs=1", "train.threads=1", "budget.start_images=6", "query.score=confidence"]
TINY += ["labels.policy=ignore", "query.unit=image", "budget.unit=images", "data.image_size_px=64"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "data"
    scenes.write(folder, train=20, test=4, seed=3, size_px=96)
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def opened(data: Path, *settings: str, rounds: int = 1) -> Context:
    """The project beside the data, made where there is none."""
    folder = data.parent / "project"
    if not folder.exists():
        return opening.start(folder, str(base_of(data)), [*TINY, f"budget.per_round={[4] * rounds}", *settings])
    return opening.start(folder, None, [f"budget.per_round={[4] * rounds}", *settings])


def run(data: Path, *settings: str, rounds: int = 1) -> tuple[Context, list[str]]:
    """Runs to the end; the project opened anew, and what was told."""
    context = opened(data, *settings, rounds=rounds)
    told: list[str] = []
    context.tell = told.append
    list(loop.run(context))
    assert loop.next_stage(context) is None
    return context, told


def labelled(context: Context) -> list[str]:
    """Images with whole labels, of the first round."""
    known = context.project.ledger.labels(context.pool)
    return [context.pool.names[i] for i in np.flatnonzero(np.diff(known.coverage.offsets))]


def asked(context: Context, round_number: int) -> set[str]:
    return {query.image for query in context.project.ledger.queries(round_number)}


def boxes_of(context: Context, name: str) -> int:
    return int((context.project.ledger.annotation_rows()["image"] == name).sum())


def rewrite(path: Path, size: tuple[int, int] | None = None) -> None:
    """Another picture under the same name."""
    with Image.open(path) as image:
        old = image.size
    noise = np.random.default_rng(1).integers(0, 255, (*(size or old)[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


# ---- gone ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("had_labels", [True, False])
def test_an_image_that_is_gone_is_told_not_asked_and_back_when_it_is_back(data: Path, had_labels: bool) -> None:
    first, told = run(data, rounds=0)
    assert told == []
    name = labelled(first)[0] if had_labels else next(n for n in first.pool.names if n not in labelled(first))
    before, path, names = boxes_of(first, name), data / name, first.pool.names
    aside = path.rename(data.parent / "aside.jpg")
    gone, told = run(data, rounds=1)
    assert gone.pool.names == names  # it keeps its place
    assert [line for line in told if "gone" in line and name in line]
    assert boxes_of(gone, name) == before
    assert name not in asked(gone, 1)
    assert name in dict(history.round_result(gone, 1).skipped)
    assert availability.messages(opened(data, rounds=1)) == told
    history.run_result(gone)  # the report can be drawn without it
    aside.rename(path)
    back, told = run(data, rounds=2)
    assert told == []
    assert not back.pool.unavailable
    assert boxes_of(back, name) >= before
    assert name not in dict(history.round_result(back, 2).skipped)


def test_gone_and_back_before_the_next_round_leaves_no_trace(data: Path, tmp_path: Path) -> None:
    calm = Path(shutil.copytree(data, tmp_path / "calm" / "data"))
    run(data, rounds=0)
    path = data / opened(data, rounds=0).pool.names[3]
    path.rename(tmp_path / "aside")
    run(data, rounds=0)
    (tmp_path / "aside").rename(path)
    run(data, rounds=1)
    run(calm, rounds=0)
    run(calm, rounds=1)
    expected, got = (kill.fingerprint(where.parent / "project") for where in (calm, data))
    assert got == expected


def test_an_image_that_sorts_first_and_one_that_goes_leave_stored_numbers_alone(data: Path) -> None:
    """Killed between predict and score; then the folder changes: the stored predictions still mean the same images."""
    run(data, rounds=0)
    context = opened(data, rounds=1)
    with context.project.lock():
        loop.begin(context)
        assert loop.run_stage(context, 1, "predict")
    seen = files.read_detections(Round(context, 1).folder.predictions(), columns=()).offsets
    names = context.pool.names
    add_first(data, "000_new.jpg")
    gone = next(n for n in names if n not in labelled(context))
    (data / gone).rename(data.parent / "aside")
    after, told = run(data, rounds=1)
    assert after.pool.names == (*names, "train/000_new.jpg")
    assert [line for line in told if gone in line]
    assert gone not in asked(after, 1)
    scored = files.read_table(Round(after, 1).folder.scores)
    assert set(scored["image"].tolist()) <= set(range(len(names)))
    assert len(seen) == len(names) + 1  # the new one was not predicted in this round, and is a candidate of the next
    last, _ = run(data, rounds=2)
    scored = files.read_table(Round(last, 2).folder.scores)
    assert len(names) in scored["image"], "it sorts first and stands last"
    for round_number in (0, 1, 2):
        last.project.ledger.labels(last.pool)
        history.round_result(last, round_number)
    history.run_result(last)


def add_first(data: Path, name: str) -> None:
    """An image that sorts before all others, also in the annotation file."""
    path = next((data / "annotations").glob("*train*.json"))
    content = json.loads(path.read_text())
    entry = content["images"][0]
    source = next((data / "train").rglob(Path(entry["file_name"]).name))
    shutil.copy(source, source.with_name(name))
    content["images"].insert(
        0, {**entry, "id": 10_000, "file_name": Path(entry["file_name"]).with_name(name).as_posix()}
    )
    path.write_text(json.dumps(content))


# ---- cut, replaced, touched ---------------------------------------------------------------------------------------


def test_an_image_cut_short_is_not_asked_and_its_labels_stay(data: Path) -> None:
    first, _ = run(data, rounds=0)
    name = max(labelled(first), key=lambda n: boxes_of(first, n))
    before, content = boxes_of(first, name), (data / name).read_bytes()
    other = next(n for n in first.pool.names if n not in labelled(first))
    for cut in (name, other):
        (data / cut).write_bytes((data / cut).read_bytes()[:-200])
    second, told = run(data, rounds=1)
    assert not [line for line in told if "changed" in line]
    assert [line for line in told if "unreadable" in line and name in line]
    assert boxes_of(second, name) == before > 0
    assert other not in asked(second, 1)
    assert {name, other} <= dict(history.round_result(second, 1).skipped).keys()
    (data / name).write_bytes(content)
    third, told = run(data, rounds=2)
    assert not [line for line in told if name in line]
    assert boxes_of(third, name) == before


def test_an_image_that_was_always_unreadable_is_not_asked_in_the_first_round(data: Path) -> None:
    calm = opening.start(data.parent / "calm", str(base_of(data)), [*TINY, "budget.per_round=[]"])
    list(loop.run(calm))
    name = labelled(calm)[0]
    (data / name).write_bytes((data / name).read_bytes()[:-200])
    context, _ = run(data, rounds=0)
    assert name not in asked(context, 0)
    assert len(labelled(context)) == len(labelled(calm)) == 6  # another one was drawn in its place


def test_a_touched_image_stays(data: Path) -> None:
    first, _ = run(data, rounds=0)
    name = labelled(first)[0]
    os.utime(data / name, ns=(1, 1))
    second, told = run(data, rounds=0)
    assert told == []
    assert image_files.files(second.project.ledger, [name])[name].mtime_ns == 1
    rewrite(data / name)  # size and time differ again: the hash that was kept is still that of what was labelled
    _, told = run(data, rounds=0)
    assert [line for line in told if "changed" in line and name in line]


@pytest.mark.parametrize("size", [None, (120, 110)], ids=["same size", "larger"])
def test_a_replaced_image_is_told_and_its_labels_are_held_back_until_they_are_kept(
    data: Path, size: tuple[int, int] | None
) -> None:
    first, _ = run(data, rounds=0)
    name = max(labelled(first), key=lambda n: boxes_of(first, n))
    before = boxes_of(first, name)
    rewrite(data / name, size)
    second, told = run(data, rounds=1)
    assert [line for line in told if "changed" in line and name in line and "--keep" in line]
    assert boxes_of(second, name) == 0 < before
    number = second.pool.names.index(name)
    assert number not in files.read_targets(Round(second, 1).folder.targets).images
    assert name not in asked(second, 1)
    assert not [row for row in current_annotations(second.project.ledger) if row["image"] == name]
    _, told = run(data, rounds=1)
    assert told  # told again until the owner says so
    third = opened(data, rounds=1)
    availability.keep(third, [name], "owner")
    assert boxes_of(third, name) == before
    fourth, told = run(data, rounds=2)
    assert told == []
    assert boxes_of(fourth, name) >= before


def test_a_replaced_image_whose_labels_are_forgotten_may_be_asked_again(data: Path) -> None:
    first, _ = run(data, rounds=0)
    name = max(labelled(first), key=lambda n: boxes_of(first, n))
    rewrite(data / name, (40, 40))
    second, _ = run(data, rounds=1)
    with pytest.raises(LabelwiseError, match="some of its labels lie outside"):
        availability.keep(second, [name], "owner")
    spent = second.project.ledger.cost()
    had = availability.forget(second, [name], "owner")
    assert had[name] > 0
    assert boxes_of(second, name) == 0
    assert name not in labelled(second)
    assert second.project.ledger.cost().seconds == spent.seconds  # what was paid stays paid
    third, told = run(data, f"budget.per_round=[4, {len(second.pool)}]", rounds=2)
    assert told == []
    assert name in asked(third, 2)
    assert name in labelled(third)


def test_an_image_put_back_as_it_was_needs_no_word(data: Path) -> None:
    first, _ = run(data, rounds=0)
    name = labelled(first)[0]
    content, before = (data / name).read_bytes(), boxes_of(first, name)
    rewrite(data / name)
    held, told = run(data, rounds=0)
    assert told and boxes_of(held, name) == 0
    (data / name).write_bytes(content)
    back, told = run(data, rounds=0)
    assert told == []
    assert boxes_of(back, name) == before


def test_another_content_without_labels_is_taken_as_it_is(data: Path) -> None:
    first, _ = run(data, rounds=0)
    name = next(n for n in first.pool.names if n not in labelled(first))
    rewrite(data / name, (70, 60))
    second, told = run(data, rounds=0)
    assert told == []
    assert (name, 70, 60) in image_files.known(second.project.ledger)
    last, _ = run(data, f"budget.per_round=[{len(second.pool)}]", rounds=1)
    assert name in labelled(last)


def test_labels_held_back_in_the_middle_of_a_round_are_no_dead_end(data: Path) -> None:
    """Scored with them, selected without: the candidates are predicted and scored again."""
    first, _ = run(data, rounds=0)
    context = opened(data, rounds=1)
    with context.project.lock():
        loop.begin(context)
        for stage in ("predict", "score"):
            assert loop.run_stage(context, 1, stage)
    held, forgotten = labelled(first)[:2]
    for name in (held, forgotten):
        rewrite(data / name)
    context = opened(data, rounds=1)
    with context.project.lock():
        loop.begin(context)
    availability.forget(context, [forgotten], "owner")
    last, told = run(data, rounds=1)
    assert [line for line in told if "changed" in line and held in line]
    scored = {last.pool.names[i] for i in files.read_table(Round(last, 1).folder.scores)["image"]}
    assert forgotten in scored, "it was predicted and scored again, with what is known now"
    assert held not in scored


def test_labels_of_an_image_that_is_gone_are_exported_and_those_of_a_changed_one_are_not(data: Path) -> None:
    context, _ = run(data, rounds=0)
    gone, changed, *_ = labelled(context)
    (data / gone).unlink()
    rewrite(data / changed)
    after, _ = run(data, rounds=0)
    said = training_export.write_set(after, "coco", data.parent / "coco")
    assert [line for line in said if gone in line and "are written" in line]
    assert [line for line in said if changed in line and "held back" in line]
    listed = json.loads((data.parent / "coco/annotations/instances_train.json").read_text())["images"]
    assert gone in [image["file_name"] for image in listed]
    assert changed not in [image["file_name"] for image in listed]
    said = training_export.write_set(after, "yolo", data.parent / "yolo")
    assert [line for line in said if gone in line and "left out" in line]
    assert len(list((data.parent / "yolo").rglob("*.jpg"))) == 4


def test_the_command_lists_and_takes_the_owners_word(data: Path) -> None:
    context, _ = run(data, rounds=0)
    gone, kept, forgotten, also, *_ = labelled(context)
    had = {name: boxes_of(context, name) for name in (kept, forgotten, also)}
    project = str(data.parent / "project")

    def says(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli.app, ["images", project, *words], catch_exceptions=code == 1)
        assert result.exit_code == code, result.output
        return " ".join((result.output + str(result.exception or "")).split())

    assert "Every image of the pool is there" in says()
    (data / gone).rename(data.parent / "aside.jpg")
    for name in (kept, forgotten, also):
        rewrite(data / name)
    assert "1 image gone" in says(), "nothing is written by looking"
    assert "is to be kept and to be forgotten" in says("--keep", kept, "--forget", kept, code=1)
    assert "Withdrew" in says("--forget", forgotten)
    assert "Kept the labels of 1 image" in says("--keep", kept)
    after = says()
    assert "1 image gone" in after and "1 image changed since labelled" in after
    assert "Kept the labels of 1 image" in says("--keep-all")
    (data.parent / "aside.jpg").rename(data / gone)
    last, told = run(data, rounds=0)
    assert told == []
    assert {name: boxes_of(last, name) for name in had} == {**had, forgotten: 0}
    shown = CliRunner().invoke(cli.app, ["status", "--project", project])
    assert "gone" not in shown.output


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_mounted_is_one_error(data: Path) -> None:
    first, _ = run(data, rounds=0)
    n = len(first.pool)
    for path in data.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(
        LabelwiseError, match=rf"none of the images .* {n} images below data.root .*--set data.root=PATH"
    ):
        opened(data, rounds=1)
    shutil.rmtree(data)
    with pytest.raises(LabelwiseError, match=r"data\.root = .* no such folder"):
        opened(data, rounds=1)
    data.mkdir()
    with pytest.raises(LabelwiseError, match=r"(?s)data\.root = .*--set data.root=PATH.*no data set in a known format"):
        opened(data, rounds=1)


def test_a_word_on_an_image_that_did_not_change_is_refused(data: Path) -> None:
    first, _ = run(data, rounds=0)
    for say in (availability.keep, availability.forget):
        with pytest.raises(LabelwiseError, match="is no changed image; these are: none"):
            say(first, [labelled(first)[0]], "owner")


def test_a_changed_class_list_is_still_refused(data: Path) -> None:
    run(data, rounds=0)
    for path in (data / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        content["categories"][0]["name"] = "renamed"
        path.write_text(json.dumps(content))
    with pytest.raises(LabelwiseError, match="class list has changed"):
        run(data, rounds=1)


def base_of(data: Path) -> Path:
    base = data.parent / "base.toml"
    base.write_text(f'[data]\nroot = "{data}"\npool_split = "train"\ntest_split = "test"\n')
    return base


# ---- the order of the pool ----------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.lists(st.sampled_from("abcdefgh"), unique=True))
def test_the_known_order_keeps_every_image_at_its_place_with_its_truth(known: list[str], here: list[str]) -> None:
    n = len(here)
    size = np.array([ord(name) for name in here], np.int64)
    rows = np.repeat(np.arange(n), 2)  # two boxes in each, that tell whose they are
    corner = np.repeat(size, 2).astype(np.float32)
    xyxy = np.stack([0 * corner, 0 * corner, corner, np.tile([1.0, 2.0], n)], axis=1)
    truth = Boxes.from_rows(rows, xyxy, np.zeros(2 * n, np.int64), n)
    problems = (Problem("unreadable image", "a", "a is cut short", "left out"),)
    pool = Pool(Path("data"), ("x",), tuple(here), size, size + 1, truth, problems=problems)
    before = np.array([(900 + ord(name), 901) for name in known], np.int64).reshape(-1, 2)
    found = in_known_order(pool, known, before)
    assert found.names == (*known, *(name for name in here if name not in known))
    assert {found.names[i] for i in found.unavailable} == set(known) - set(here)
    assert found.truth is not None
    for i, name in enumerate(found.names):
        own = found.truth.xyxy[found.truth.offsets[i] : found.truth.offsets[i + 1]]
        if name in here:
            assert (found.width_px[i], found.height_px[i]) == (ord(name), ord(name) + 1)
            assert own[:, 2].tolist() == [ord(name)] * 2
        else:
            assert (found.width_px[i], found.height_px[i]) == (900 + ord(name), 901)
            assert len(own) == 0
            assert ("cut short" in found.unavailable[i]) == (name == "a")
    assert in_known_order(found, found.names, before) is found


@given(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_the_known_order_of_frames_is_one_of_clips(known: set[int], here: set[int]) -> None:
    """Frames 0 to 5 of a.mp4, 6 to 11 of b.mp4; some were known, some are here."""

    def name(k: int) -> str:
        return f"{'ab'[k // 6]}.mp4#{k % 6:06d}"

    numbers = np.array(sorted(here), np.int64)
    video, frame = numbers // 6, numbers % 6
    size = np.full(len(numbers), 9, np.int64)
    clips = Clips(("a.mp4", "b.mp4"), video, frame, frame / 25)
    pool = Pool(Path("data"), (), tuple(name(k) for k in numbers), size, size, clips=clips, frames=lambda i: numbers[i])
    before = tuple(name(k) for k in sorted(known))
    found = in_known_order(pool, before, np.full((len(before), 2), 9, np.int64))
    assert found.names[: len(before)] == before
    assert found.clips is not None  # that it is one of clips, it checks itself
    assert found.frames is not None
    for i, one in enumerate(found.names):
        assert found.clips.names[found.clips.video[i]] == one.split("#")[0]
        if i not in found.unavailable:
            assert int(found.frames(i)) == "ab".index(one[0]) * 6 + int(one[-6:])


def test_a_classifier_keeps_the_class_of_an_image_that_is_gone_and_of_one_that_has_another_size() -> None:
    size = np.full(2, 8, np.int64)
    truth = Boxes.of_images(np.array([1, 0]), size, size)
    pool = Pool(Path("data"), ("cat", "dog"), ("train/dog/1.png", "train/cat/2.png"), size, size, truth)
    known = ["train/dog/0.png", "train/dog/1.png"]
    found = in_known_order(pool, known, np.full((2, 2), 5, np.int64))
    assert found.one_class_per_image
    assert found.truth is not None
    assert found.truth.labels.tolist() == [1, 1, 0]


def test_a_drawn_part_of_the_pool_stays_that_part(data: Path) -> None:
    first, _ = run(data, "data.most_images=12", rounds=0)
    add_first(data, "000_new.jpg")
    gone = first.pool.names[5]
    (data / gone).unlink()
    second = opened(data, rounds=0)
    assert second.pool.names == first.pool.names
    assert [second.pool.names[i] for i in second.pool.unavailable] == [gone]


def test_on_postgresql_the_same_holds(data: Path, postgres: Callable[[], str]) -> None:
    settings = [f"ledger={postgres()}"]
    first, _ = run(data, *settings, rounds=0)
    gone, kept, forgotten, *_ = labelled(first)
    had = boxes_of(first, kept)
    (data / gone).unlink()
    for name in (kept, forgotten):
        rewrite(data / name)
    second, told = run(data, rounds=1)
    assert [line for line in told if "gone" in line] and [line for line in told if "2 images changed" in line]
    assert boxes_of(second, kept) == boxes_of(second, forgotten) == 0
    availability.keep(second, [kept], "owner")
    availability.forget(second, [forgotten], "owner")
    last, told = run(data, rounds=1)
    assert (boxes_of(last, kept), boxes_of(last, forgotten)) == (had, 0)
    assert len(told) == 1
    for context in (first, second, last):
        context.project.close()


def test_labels_of_whole_images_are_kept_in_another_size(tmp_path: Path) -> None:
    """Classes of images: the whole data set made smaller is no reason to label it again."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 8), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for k in range(n):
                pixels = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{k}.png")
    base = tmp_path / "base.toml"
    base.write_text(
        f'model = "classifier"\n[data]\nroot = "{tmp_path / "data"}"\npool_split = "train"\ntest_split = "test"\n'
        'image_size_px = 24\n[query]\nunit = "image"\nscore = "entropy"\nselect = "top"\n[labels]\n'
        'policy = "background"\n[budget]\nstart_images = 4\nper_round = [2]\nunit = "images"\n[train]\nepochs = 1\n'
    )
    context = opening.start(tmp_path / "project", str(base), [])
    list(loop.run(context))
    names = labelled(context)
    assert len(names) == 6
    for path in (tmp_path / "data").rglob("*.png"):
        with Image.open(path) as image:
            smaller = image.resize((16, 16))
        smaller.save(path)
    gone = next(name for name in context.pool.names if name not in names)
    (tmp_path / "data" / gone).unlink()
    after = opening.start(tmp_path / "project", None, ["budget.per_round=[2, 9]"])
    told: list[str] = []
    after.tell = told.append
    with after.project.lock():
        loop.begin(after)
    assert len(told) == 2 and "6 images changed" in told[1]
    assert labelled(after) == []
    availability.keep(after, names, "owner")
    assert labelled(after) == names
    last = opening.start(tmp_path / "project", None)
    list(loop.run(last))
    assert len(labelled(last)) == 15  # all but the one that is gone, each of them once
    assert gone not in labelled(last)
    assert np.diff(last.project.ledger.labels(last.pool).annotations.offsets).max() == 1
    history.run_result(last)
