"""Labels that come with the images: what enters the ledger, what is asked and trained on, what of a test counts."""

from __future__ import annotations

import shutil
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

import labelwise
from labelwise import config, files, loop
from labelwise.ask.cost import CostTable, cost
from labelwise.data import coco
from labelwise.evaluate import detection, looked_at
from labelwise.generated import scenes
from labelwise.ledger import given_labels, image_files
from labelwise.ledger import schema as t
from labelwise.ledger.ledger import Ledger
from labelwise.project import availability, frozen_weights, given, opening, repair, starter
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.report import training_set
from labelwise.stages import ask, label, predict, training_export
from labelwise.targets import partial
from labelwise.types import Answer, Boxes, Detections, Labels, LabelwiseError, Pool, Query, Rects

SMALL = ["train.epochs=1", "train.min_steps=2", "train.max_steps=2", "model.weights=none", 'predict.views=["flip"]']
SMALL += ["data.image_size_px=64", "data.cache_gb=0.1", "ask.poll_s=0.01"]
BOXES = ["budget.unit=queries", "query.score=random"]
PARTIAL = 'data.given="partial"'

plain_read = coco.read


def unseen(pool: Pool) -> np.ndarray:
    """Every third image: nobody has looked at it."""
    return np.arange(len(pool)) % 3 == 2


def half(root: Path, split: str | None = None) -> Pool:
    """Of a drawn data set, as a reader gives it that knows of which images there are labels."""
    pool = plain_read(root, split)
    assert pool.truth is not None
    rows = ~unseen(pool)[pool.truth.image]
    truth = Boxes.from_rows(pool.truth.image[rows], pool.truth.xyxy[rows], pool.truth.labels[rows], len(pool))
    return replace(pool, truth=truth, complete=~unseen(pool))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 images of a pool and 6 of a test, of which every third has no labels."""
    scenes.write(tmp_path / "d", train=12, test=6, size_px=64, digits=(2, 3), scale=(0.3, 0.5), classes=3)
    monkeypatch.setattr(coco, "read", half)
    monkeypatch.setattr(frozen_weights, "at_hand", lambda _name: None)
    return tmp_path / "d"


def make(root: Path, name: str, *settings: str) -> Context:
    """A project by the starter, not begun."""
    folder = root.parent / name
    if not (folder / "run.toml").exists():
        starter.make(folder, root, settings=[*SMALL, *settings])
    opened = opening.start(folder, None)
    opened.tell = (said := []).append
    opened.said = said  # type: ignore[attr-defined]
    return opened


def told(opened: Context) -> str:
    return "\n".join(opened.said)  # type: ignore[attr-defined]


def rows(ledger: Ledger, table: sa.Table) -> list[dict[str, Any]]:
    with ledger.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.id)).mappings()]


@pytest.fixture
def ann(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Query]:
    """What Ann was asked, who answers whatever is open from the full ground truth when a round waits."""
    asked: list[Query] = []
    truth, number_of = plain_read(root, "train").truth, plain_read(root, "train").number_of
    assert truth is not None

    def say(query: Query) -> Answer:
        if query.unit == "box":
            return Answer(query.id or 0, "background", who="Ann", seconds=1.0)
        span = slice(*truth.offsets[number_of[query.image] :][:2])
        return Answer(query.id or 0, "all", truth.xyxy[span].tolist(), truth.labels[span].tolist(), "Ann", 5.0)

    def sleep(_seconds: float) -> None:
        ledger = Ledger.open(root.parent / "p" / "ledger.sqlite")
        for query in [one for k in range(3) for one in ledger.open_queries(k)]:
            asked.append(query)
            ledger.record(query, say(query), cost(query, say(query), CostTable()), "person Ann")
        ledger.close()

    monkeypatch.setattr(ask.time, "sleep", sleep)
    return asked


# ---------------------------------------------------------------------------------------------------------- the ledger


def test_complete_images_are_known_wholly_before_the_first_question(root: Path) -> None:
    opened = make(root, "p")
    assert (opened.run.ask.who, opened.run.data.given, opened.run.budget.start_images) == ("people", "complete", 0)
    assert opened.pool.truth is None, "nobody can look it up"
    loop.begin(opened)
    ledger, expected = opened.project.ledger, half(root, "train")
    assert expected.truth is not None
    annotations = rows(ledger, t.annotation_table)
    assert [(one["image"], one["label"], [one[k] for k in ("x1", "y1", "x2", "y2")]) for one in annotations] == [
        (expected.names[i], label, box)
        for i, label, box in zip(
            expected.truth.image.tolist(), expected.truth.labels.tolist(), expected.truth.xyxy.tolist(), strict=True
        )
    ]
    assert {(one["origin"], one["round"], one["query_id"], one["answer_id"]) for one in annotations} == {
        ("given", -1, None, None)
    }
    covered = [(one["image"], one["x2"], one["y2"], one["query_id"]) for one in rows(ledger, t.coverage)]
    assert covered == [(name, 64.0, 64.0, None) for name in np.array(expected.names)[~unseen(expected)]]
    assert ledger.cost() == labelwise.types.Cost() and ledger.queries() == []
    assert opened.known().covered(opened.pool).tolist() == (~unseen(expected)).tolist()
    assert f"8 images came with {len(expected.truth)} boxes, 8 of them wholly labelled" in told(opened)


def test_it_enters_once_also_when_killed_or_done_by_two(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = make(root, "p")

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(given_labels.records, "keep", kill)
        with pytest.raises(KeyboardInterrupt):
            loop.begin(opened)
    ledger = opened.project.ledger
    assert rows(ledger, t.annotation_table) == [] and rows(ledger, t.coverage) == [], "all or nothing"
    assert len(image_files.known(ledger)) == 12
    others = [make(root, "p") for _ in range(3)]
    threads = [threading.Thread(target=one.enter) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = rows(ledger, t.annotation_table)
    assert len(before) == len(half(root, "train").truth or ()) and len(rows(ledger, t.coverage)) == 8
    again = make(root, "p")
    loop.begin(again)
    assert rows(ledger, t.annotation_table) == before and told(again) == ""


@pytest.mark.parametrize("word", ["complete", "partial", "empty", "all"])
def test_each_word(root: Path, word: str) -> None:
    opened = make(root, "p", "ask.who=people", f'data.given="{word}"')
    loop.begin(opened)
    boxes = len(half(root, "train").truth or ())
    assert len(rows(opened.project.ledger, t.annotation_table)) == (0 if word == "empty" else boxes)
    assert len(rows(opened.project.ledger, t.coverage)) == {"complete": 8, "partial": 0, "empty": 0, "all": 12}[word]
    assert (opened.test is None) == (word == "empty")
    assert opened.run.budget.start_images == {"complete": 0, "all": 0}.get(word, 3)


def test_labels_that_change_later_are_told_and_new_images_bring_theirs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(root, "p")
    loop.begin(first)
    before = rows(first.project.ledger, t.annotation_table)

    def edited(root: Path, split: str | None = None) -> Pool:
        """Image 0 has moved boxes, image 1 others in another order, image 2 (unseen) is labelled by now."""
        pool = half(root, split)
        if split != "train":
            return pool
        full = plain_read(root, split).truth
        assert pool.truth is not None and full is not None
        xyxy, image, labels = pool.truth.xyxy.copy(), pool.truth.image, pool.truth.labels
        xyxy[image == 0, 0] += 1
        order = np.lexsort((-np.arange(len(image)), image))
        more = full.image == 2
        image = np.concatenate([image[order], full.image[more]])
        truth = Boxes.from_rows(
            image,
            np.concatenate([xyxy[order], full.xyxy[more]]),
            np.concatenate([labels[order], full.labels[more]]),
            12,
        )
        return replace(pool, truth=truth, complete=pool.complete | (np.arange(12) == 2))

    monkeypatch.setattr(coco, "read", edited)
    second = make(root, "p")
    loop.begin(second)
    names = second.pool.names
    assert f"labels that come with {names[0]}, {names[2]} are not those that entered" in told(second)
    assert rows(second.project.ledger, t.annotation_table) == before
    third = make(root, "p", PARTIAL)
    third.run = third.run.model_copy(update={"data": third.run.data.model_copy(update={"given": "partial"})})
    third.pool, third.given = given.split(coco.read(root, "train"), third.run)
    loop.begin(third)
    assert "data.given is 'partial' now" in told(third) and rows(third.project.ledger, t.annotation_table) == before


def test_what_people_said_stands_above_what_comes_with_an_image(root: Path) -> None:
    opened = make(root, "p", "ask.who=people", 'data.given="empty"')
    loop.begin(opened)
    ledger, name = opened.project.ledger, opened.pool.names[0]
    ledger.add_queries(0, [Query(0, 0, name, "image")])
    asked = ledger.queries(0)[0]
    ledger.record(asked, Answer(asked.id or 0, "all", who="Ann"), labelwise.types.Cost(), "person Ann")
    later = make(root, "p")
    files.write_text(
        later.project.config_path, later.project.config_path.read_text(encoding="utf-8").replace("empty", "complete")
    )
    later = make(root, "p")
    loop.begin(later)
    assert {one["image"] for one in rows(ledger, t.annotation_table)} == {
        one for i, one in enumerate(later.pool.names) if i and i % 3 != 2
    }
    assert f"{name} had labels in the ledger already" in told(later)


def test_a_class_that_was_added_is_looked_for_everywhere(root: Path) -> None:
    opened = make(root, "p")
    opened.add_class("emu", "Ann", none_so_far=False)
    assert not opened.known().covered(opened.pool).any() and len(opened.known().annotations)
    other = make(root, "q")
    other.add_class("emu", "Ann", none_so_far=True)
    assert other.known().covered(other.pool).sum() == 8


def test_an_image_that_changed_is_held_back_kept_or_forgotten(root: Path) -> None:
    opened = make(root, "p")
    loop.begin(opened)
    shown = [opened.pool.names[i] for i in (0, 1)]
    for name in shown:
        shutil.copy(root / opened.pool.names[3], root / name)
    again = make(root, "p")
    loop.begin(again)
    assert not again.known().covered(again.pool)[[0, 1]].any(), "held back"
    availability.keep(again, shown[:1], "Ann")
    assert availability.forget(again, shown[1:], "Ann")[shown[1]] > 0
    assert again.known().covered(again.pool)[[0, 1]].tolist() == [True, False]
    assert np.diff(again.known().annotations.offsets)[1] == 0
    last = make(root, "p")
    loop.begin(last)
    assert last.known().covered(last.pool)[[0, 1]].tolist() == [True, False], "forgotten is forgotten"


# ---------------------------------------------------------------------------------------------------------- the rounds


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that sees a box in the corner of every image, whatever it was trained on."""

    def see(now: Round) -> None:
        n = len(now.pool) if now.number else 0
        probs = np.full((n, 3), 1 / 3, np.float32)
        boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (n, 1))
        found = Detections(np.arange(n + 1), boxes, probs, np.full(n, 0.9, np.float32), np.zeros((n, 0), np.float32))
        if now.number:
            files.write_detections(now.folder.predictions(), found)

    monkeypatch.setattr(predict, "predict", see)


def test_a_run_begins_with_what_came_and_asks_about_the_rest(root: Path, tmp_path: Path, ann: list[Query]) -> None:
    opened = make(root, "p", "query.unit=image", "query.score=entropy", "query.select=top", "budget.unit=images",
                  "budget.per_round=[2]")  # fmt: skip
    assert list(loop.run(opened)) == [0, 1]
    ledger, names = opened.project.ledger, opened.pool.names
    assert {query.round for query in ann} == {1} and len(ann) == 2
    assert {query.image for query in ann} <= {name for i, name in enumerate(names) if i % 3 == 2}
    assert ledger.cost(until_round=0) == labelwise.types.Cost() and ledger.cost().images == 2
    assert len(Round(opened, 0).targets) == 8 and len(Round(opened, 1).targets) == 10
    metrics = Round(opened, 0).metrics
    assert (metrics["images_looked_at"], metrics["images_in_all"]) == (4, 6)
    assert told(opened).count("AP50 over 4 of 6 test images: nobody has looked at the others") == 1
    training_export.write_set(opened, "coco", tmp_path / "set")
    content = files.read_json(tmp_path / "set" / "annotations" / "instances_train.json")
    who = [one["attributes"]["who"] for one in content["annotations"]]
    assert len(content["images"]) == 10 and set(who) == {"given", "Ann"}
    assert who.count("given") == len(half(root, "train").truth or ())
    card = (tmp_path / "set" / "DATA_CARD.md").read_text(encoding="utf-8")
    assert "8 images came with" in card
    repair.redo(opened, 0, "select")
    while (due := repair.due(opened)) is not None:
        loop.run_stage(opened, *due)
    assert "done again, the same bit for bit" in told(opened)


def test_partly_labelled_images_are_asked_about_and_never_background(root: Path, ann: list[Query], sure: None) -> None:
    opened = make(root, "p", PARTIAL, "budget.start_images=1", "budget.per_round=[3]", *BOXES)
    assert opened.run.labels.policy.name == "dual" and opened.run.query.unit == "box"
    list(loop.run(opened))
    assert [query.unit for query in ann] == ["image", *["box"] * 3]
    known = opened.known()
    for number in (0, 1):
        made = Round(opened, number).targets
        for row, image in enumerate(made.images.tolist()):
            looked = [*known.coverage.of(image).tolist(), *known.background.of(image).tolist()]
            assert all(rect in looked for rect in made.negatives.of(row).tolist())
    assert opened.pool.number_of[ann[0].image] in made.images[np.diff(made.negatives.offsets) > 0]
    whole, part = training_set.split_by_coverage(opened.pool, known)
    assert len(whole) == 1 and len(part) >= 7


def test_without_any_random_image_a_partial_start_trains(root: Path, ann: list[Query], sure: None) -> None:
    opened = make(root, "p", PARTIAL, "budget.start_images=0", "budget.per_round=[2]", *BOXES)
    assert list(loop.run(opened)) == [0, 1]
    assert [query.unit for query in ann] == ["box", "box"]
    assert len(Round(opened, 0).targets.negatives.xyxy) == 0


def test_other_images_of_a_policy_keep_its_negatives() -> None:
    size = np.array([10, 10, 10])
    boxes = Boxes.from_rows(np.array([0, 1]), np.array([[0, 0, 4, 4], [0, 0, 4, 4]]), np.array([0, 0]), 3)
    cover = Rects.from_rows(np.array([2]), np.array([[0, 0, 10, 10]]), 3)
    marks = Rects.from_rows(np.array([0]), np.array([[6, 6, 9, 9]]), 3)
    known = Labels(boxes, cover, marks, np.array([True, True, True]))
    made = partial.targets(known, None, lambda _: None, "everywhere", size, size, None,  # type: ignore[arg-type, return-value]
                           known_only=np.array([True, False, True]))  # fmt: skip
    assert [made.negatives.of(row).tolist() for row in range(3)] == [[[6, 6, 9, 9]], *[[[0, 0, 10, 10]]] * 2]


def test_an_image_that_a_reader_calls_partly_labelled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(root: Path, split: str | None = None) -> Pool:
        """Image 0 has labels and is not complete."""
        pool = half(root, split)
        return replace(pool, complete=pool.complete & (np.arange(len(pool)) > 0))

    monkeypatch.setattr(coco, "read", some)
    opened = make(root, "p")
    loop.begin(opened)
    only = given.known_only(opened.project.ledger, opened.run, 12)
    assert only is not None and np.flatnonzero(only).tolist() == [0]
    made = label.targets(Round(opened, 0), None)
    assert made.images.tolist()[0] == 0 and len(made.negatives.of(0)) == 0 and len(made.negatives.of(1)) == 1
    assert not opened.known().covered(opened.pool)[0], "it is asked about"


# ------------------------------------------------------------------------------------------------------ the simulation


def test_the_oracle_leaves_out_what_nobody_has_looked_at(root: Path) -> None:
    opened = make(root, "p", "ask.who=oracle", "budget.per_round=[2]", "budget.start_images=2")
    assert opened.run.data.given is None and len(opened.pool) == 8 and opened.pool.truth is not None
    list(loop.run(opened))
    assert "4 of 12 images" in told(opened) and 'ask.who = "people"' in told(opened)
    everything = make(root, "q", "ask.who=oracle", 'data.given="all"')
    assert len(everything.pool) == 12 and everything.test is not None and everything.test.complete is None


def test_an_older_simulation_keeps_its_images(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(coco, "read", lambda root, split=None: replace(half(root, split), complete=None))
        before = make(root, "p", "ask.who=oracle")
        loop.begin(before)
    after = make(root, "p")
    assert after.pool.names == before.pool.names and not after.pool.unavailable
    assert repair.kept_settings(after.run) == repair.kept_settings(before.run)
    assert "given" not in repair.kept_settings(after.run)["data"]


def test_what_does_not_go_together_is_told_with_what_to_do(root: Path) -> None:
    base: dict[str, Any] = {"data": {"root": str(root)}, "predict": {"views": ["flip"]}}
    for change, message in (
        ({"data": {"given": "partial"}}, 'set ask.who = "people"'),
        ({"budget": {"start_images": 0}}, "say what these are"),
        ({"data": {"given": "half"}}, "complete"),
        ({"data": {"given": {"tain": "partial"}, "pool_split": "train"}}, "data.given names tain"),
        ({"data": {"given": {"a": "partial"}, "pool_split": "train", "test_split": "a+b"}}, "give its parts one word"),
    ):
        raw = {key: {**base.get(key, {}), **change.get(key, {})} for key in {**base, **change}}
        with pytest.raises(LabelwiseError, match=message):
            config.parse(raw, "test")
    both = {"train": "partial", "a": "complete", "b": "complete"}
    raw = {**base, "data": {"root": "x", "given": both, "pool_split": "train", "test_split": "a+b"}}
    run = config.parse({**raw, "ask": {"who": "people"}}, "test")
    assert (run.given, run.given_test) == ("partial", "complete")
    assert config.parse(tomllib.loads(config.dump(run)), "again") == run
    with pytest.raises(LabelwiseError, match="takes for background"):
        train = {"teacher": "ema", "warm_start": True, "whole_share": 0.5}
        config.parse({**raw, "ask": {"who": "people"}, "train": train}, "test")


def test_labelled_images_alone_are_held_back(root: Path) -> None:
    opened = make(root, "p", "data.pool_split=train", "data.test_share=0.4")
    assert opened.test is not None and opened.test.complete is not None and opened.test.complete.all()
    assert {name for i, name in enumerate(half(root, "train").names) if i % 3 == 2} <= set(opened.pool.names)
    loop.begin(opened)
    again = make(root, "p")
    assert set(again.pool.names) == set(opened.pool.names)


# ------------------------------------------------------------------------------------------------------------ the test


def seen_in_part() -> tuple[Pool, Detections]:
    """Image 0 is known wholly, 1 in part, 2 not at all; a right and a wrong detection in each, in 1 a double too."""
    size, box, nowhere = np.full(3, 100), [10, 10, 30, 30], [60, 60, 90, 90]
    truth = Boxes.from_rows(np.array([0, 1]), np.array([box, box]), np.array([0, 0]), 3)
    test = Pool(Path(), ("a", "b"), ("0", "1", "2"), size, size, truth=truth, complete=np.array([True, False, False]))
    boxes = np.array([box, nowhere, box, [10, 10, 30, 29], nowhere, box], np.float32)
    probs = np.array([[1, 0]] * 6, np.float32)
    scores = np.array([0.8, 0.9, 0.7, 0.6, 0.95, 0.99], np.float32)
    return test, Detections(np.array([0, 2, 5, 6]), boxes, probs, scores, np.zeros((6, 0), np.float32))


def test_of_a_partly_labelled_test_only_what_was_looked_at_counts() -> None:
    test, found = seen_in_part()
    counted = looked_at.counts(test, found)
    assert counted.tolist() == [True, True, True, True, False, False]
    assert test.truth is not None
    metrics = detection.evaluate(found.take(counted), test.truth, None, test.classes)
    # by score: 0.9 wrong, 0.8 right, 0.7 right, 0.6 double: precision 1/2 at recall 1/2, 2/3 at 1, so 2/3 everywhere
    assert metrics["ap50"] == pytest.approx(2 / 3)
    assert looked_at.shares(test, found) == {
        "images_looked_at": 2, "images_in_part": 1, "images_in_all": 3, "detections_left_out": 2
    }  # fmt: skip
    assert given.test_line(test) == (
        "over 2 of 3 test images: nobody has looked at the others; in 1 of them only some objects are known, and only "
        "what hits one of these counts"
    )
    assert given.test_line(replace(test, complete=None)) is None


# --------------------------------------------------------------------------------------------------- your own detector


@pytest.fixture
def own(root: Path) -> Iterator[labelwise.Project]:
    project = labelwise.open(root.parent / "own", root, format="coco", split="train", given="partial")
    yield project
    project.close()


def test_a_detector_of_ones_own_begins_with_what_came(own: labelwise.Project, root: Path) -> None:
    first = own.targets(policy="ignore")
    assert sum(len(one.boxes) for one in first) == len(half(root, "train").truth or ()) and len(first) == 8
    assert all(len(one.negatives) == 0 for one in first)
    n = len(own.images)
    boxes = [{"boxes": np.array([[1, 1, 9, 9]]), "scores": np.array([0.5]), "labels": np.array([0])} for _ in range(n)]
    asked = own.ask(dict(zip(own.images, boxes, strict=True)), budget=2, unit="image", score="random", select="top")
    assert len(asked) == 2 and own.round == 1 and own.cost == labelwise.types.Cost()
