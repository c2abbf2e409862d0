"""The contract of a unit: every file of `units/` is checked by its being there."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from labelwise import catalog, config, units
from labelwise.ask import budget
from labelwise.ask.cost import CostTable, cost
from labelwise.ask.oracle import answer
from labelwise.ledger import schema
from labelwise.ledger.answers import check_answers, label_rows, query_row
from labelwise.ledger.current_answers import withdraw
from labelwise.ledger.ledger import Ledger
from labelwise.types import Answer, Boxes, Cost, Detections, LabelwiseError, Pool, Query
from labelwise.types.overlap import share_pairs
from labelwise.units import Candidates, Meaning, Shard

NAMES = units.names()
FAKE = Path(__file__).parent / "fakes" / "presence.py"
BUDGETS = ("boxes", "queries", "images", "seconds")
SIZE = (64, 48)
CLASSES = ("cat", "dog", "owl")
each = pytest.mark.parametrize("name", NAMES)


# ------------------------------------------------------------------------------------------------------- what it says


@each
def test_its_file_says_what_it_is(name: str) -> None:
    unit = units.find(name)
    for key in ("RECTANGLE", "CLASS", "ONE_PER_IMAGE", "CLASSIFIES", "SCALES", "OVERLAPS"):
        assert isinstance(getattr(unit, key), bool), key
    assert set(BUDGETS) >= unit.AT_MOST_ONE and "queries" in unit.AT_MOST_ONE, "an answer is one query"
    assert unit.RECTANGLE or not (unit.CLASS or unit.OVERLAPS), "one object, and a part of an image, have a rectangle"
    assert unit.ONE_PER_IMAGE or not unit.CLASSIFIES
    assert catalog.summary("units", name) and catalog.origin("units", name), "its docstring says what it is, Source:"
    assert "Fails when:" in (unit.__doc__ or "")


@each
def test_its_verdicts_say_what_follows_from_them(name: str) -> None:
    unit = units.find(name)
    assert unit.DEFAULT is None or unit.DEFAULT in unit.VERDICTS
    assert unit.VERDICTS[units.SKIPPED] == Meaning("skip", look=unit.VERDICTS[units.SKIPPED].look), "nothing follows"
    looks = {field.name for field in dataclasses.fields(CostTable)}
    for word, meaning in unit.VERDICTS.items():
        assert re.fullmatch("[a-z]+", word) and meaning.button
        assert meaning.look in looks and meaning.boxes in ("none", "one", "any")
        assert not (meaning.background and (meaning.covers or meaning.boxes != "none"))
    assert len({meaning.button for meaning in unit.VERDICTS.values()}) == len(unit.VERDICTS)


def test_a_verdict_means_the_same_in_every_unit() -> None:
    """The ledger asks of an answer that counts whether its verdict covers, whatever the unit."""
    meant: dict[str, set[Meaning]] = {}
    for name in NAMES:
        for word, meaning in units.find(name).VERDICTS.items():
            meant.setdefault(word, set()).add(dataclasses.replace(meaning, look=""))
    assert not {word for word, meanings in meant.items() if len(meanings) > 1}
    assert {"all"} <= set(units.covering()) and {"background"} <= set(units.marking())
    assert not set(units.covering()) & set(units.marking())
    assert set(units.verdicts()) == set(meant)


@each
def test_the_page_draws_it(name: str) -> None:
    unit, static = units.find(name), catalog.PACKAGE / "web" / "static"
    script, actions = ((static / name).read_text(encoding="utf-8") for name in ("units.js", "actions.js"))
    rows = re.findall(rf"^    {unit.PAGE}: \[(.*)\],$", script, re.MULTILINE)
    assert len(rows) == 2, "its question, then its buttons"
    known = re.findall(r'^  "?([a-z-]+)"?\(.*\) \{', actions.partition("const actions = {")[2], re.MULTILINE)
    buttons = re.findall(r'\["([a-z-]+)", ".+?", "\w+"', rows[1])
    assert buttons and set(buttons) <= {*known, *unit.VERDICTS}, "a button is an action of the page, or a verdict"
    without = {word for word, meaning in unit.VERDICTS.items() if meaning.boxes == "none"} - {units.SKIPPED}
    said = {"background": "reject", "duplicate": "duplicate"}
    assert {said.get(word, word) for word in without} <= set(buttons), (
        "every verdict has a button; skipping has its own"
    )


def run_of(unit: str, **more: Any) -> config.Run:
    query = {"unit": unit, "score": "random", "select": "top"}
    return config.parse({"data": {"root": "x"}, "query": query, "labels": {"policy": "ignore"}} | more, "here")


@each
def test_the_config_takes_it(name: str) -> None:
    unit = units.find(name)
    assert run_of(name).query.unit == name
    for fits, more, wrong in (
        (unit.ONE_PER_IMAGE, {"budget": {"unit": "images"}}, "counts image queries"),
        (unit.CLASSIFIES, {"model": "classifier"}, "classifies images"),
    ):
        if fits:
            run_of(name, **more)
        else:
            with pytest.raises(LabelwiseError, match=wrong):
                run_of(name, **more)


def test_an_unknown_unit_comes_with_the_nearest_one() -> None:
    with pytest.raises(LabelwiseError, match=r"query\.unit: unknown unit 'regoin'.*Did you mean 'region'"):
        run_of("regoin")
    assert run_of("frame").query.unit == units.FIRST
    assert units.FIRST in NAMES and not units.find(units.FIRST).RECTANGLE, "the first round asks about whole images"


# --------------------------------------------------------------------------------------------------------- candidates


def detections(per_image: list[list[tuple[float, float, float, float]]]) -> Detections:
    boxes = np.array([box for some in per_image for box in some], np.float32).reshape(-1, 4)
    n = len(boxes)
    probs = np.full((n, len(CLASSES)), 0.1, np.float32)
    probs[np.arange(n), np.arange(n) % len(CLASSES)] = 0.8
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in per_image])]).astype(np.int64)
    return Detections(offsets, boxes, probs, np.full(n, 0.5, np.float32), np.zeros((n, 0), np.float32))


SOME = [(2.0, 2.0, 12.0, 12.0), (30.0, 20.0, 60.0, 46.0), (2.0, 2.0, 12.0, 12.0)]
SHARDS = {
    "some": [SOME, [], [(0.0, 0.0, 64.0, 48.0)]],
    "nothing at all": [[], [], []],
    "one image": [SOME],
    "the whole image": [[(0.0, 0.0, 64.0, 48.0)] * 2],
    "at the edge": [[(63.0, 47.0, 64.0, 48.0), (0.0, 0.0, 0.5, 0.5)]],
}


def shard(name: str, content: str, images: list[int] | None = None) -> Shard:
    per_image, scales = SHARDS[content], (1.0, 2.0) if units.find(name).SCALES else (1.0,)
    found, n = detections(per_image), len(per_image)
    other = detections([[*reversed(some), *some[:1]] for some in per_image])  # at another scale, more are found
    size, rows = np.tile(np.array(SIZE, np.float64), (n, 1)), np.arange(len(found)) + 100
    return Shard(
        (found, other)[: len(scales)],
        7,
        rows,
        np.array(range(n) if images is None else images, np.int64),
        size,
        32,
        scales,
    )


@each
@pytest.mark.parametrize("content", SHARDS)
def test_its_candidates_are_a_table_of_what_may_be_asked(name: str, content: str) -> None:
    unit, given = units.find(name), shard(name, content)
    found = unit.candidates(given)
    n, total = len(found), sum(map(len, found.parts))
    assert found.parts == given.parts and found.first == given.first
    for column in (found.row, found.scale, found.offsets, found.members):
        assert np.issubdtype(column.dtype, np.integer)
    assert found.xyxy.dtype == np.float32 and found.xyxy.shape == (n, 4)
    assert len(found.row) == len(found.scale) == len(found.offsets) - 1 == n
    assert found.offsets[0] == 0 and found.offsets[-1] == len(found.members) and (np.diff(found.offsets) >= 0).all()
    assert ((found.members >= 0) & (found.members < total)).all()
    assert ((found.image >= 7) & (found.image < 7 + len(given.size_px))).all()
    assert ((found.scale >= 0) & (found.scale < len(given.scales))).all()
    image_of_member = np.concatenate([part.image for part in found.parts])[found.members] + given.first
    np.testing.assert_array_equal(image_of_member, found.image[found.owner])
    assert found.mix(len(CLASSES)).shape == (n, len(CLASSES))
    _check_what_it_asks(unit, given, found)


def _check_what_it_asks(unit: units.Unit, given: Shard, found: Candidates) -> None:
    if unit.ONE_PER_IMAGE:
        np.testing.assert_array_equal(found.image, given.images + given.first)
    if unit.CLASS:
        np.testing.assert_array_equal(found.row, given.rows)
        assert (np.diff(found.offsets) == 1).all(), "one object, one detection"
    else:
        assert (found.row == -1).all()
    if not unit.RECTANGLE:
        assert (found.xyxy == units.NOWHERE).all()
        return
    low, high = found.xyxy[:, :2], found.xyxy[:, 2:]
    assert (low >= 0).all() and (high <= np.array(SIZE)).all() and (low < high).all()
    assert (np.diff(found.offsets) > 0).all(), "a rectangle is there for a detection"
    boxes = np.concatenate([part.boxes for part in found.parts])[found.members]
    assert (share_pairs(boxes, found.xyxy[found.owner]) > 0.99).all()


@each
def test_what_is_wholly_covered_is_no_candidate(name: str) -> None:
    unit = units.find(name)
    if unit.ONE_PER_IMAGE:
        assert unit.candidates(shard(name, "some", images=[2])).image.tolist() == [9]
        assert len(unit.candidates(shard(name, "some", images=[]))) == 0


@each
@pytest.mark.parametrize("how", ["mean", "max", "sum", "random"])
def test_a_score_is_lifted_to_it(name: str, how: str) -> None:
    unit, found = units.find(name), units.find(name).candidates(shard(name, "some"))
    rng = np.random.default_rng
    value = np.linspace(1.0, 2.0, sum(map(len, found.parts)))[found.members]
    got = unit.lift(value, found.offsets, how, rng(0))
    assert got.shape == (len(found),) and got.dtype == np.float64 and np.isfinite(got).all()
    np.testing.assert_array_equal(got, unit.lift(value, found.offsets, how, rng(0)))
    count = np.diff(found.offsets)
    assert (got[count == 0] == 0).all() and (got[count > 0] >= 1).all(), "what has no detection is worth nothing"
    tied = unit.lift(np.ones(len(value)), found.offsets, how, rng(0))
    assert (tied[count > 0] == (count[count > 0] if how == "sum" and not unit.CLASS else 1)).all()
    nan = unit.lift(np.full(len(value), np.nan), found.offsets, how, rng(0))
    assert np.isnan(nan[count > 0]).all(), "no NaN is lost on its way to the check that names it"
    if how != "random":
        one = value.copy()
        one[0] = np.nan
        assert np.isnan(unit.lift(one, found.offsets, how, rng(0))).sum() == 1
    none = unit.candidates(shard(name, "nothing at all"))
    assert unit.lift(np.zeros(0), none.offsets, how, rng(0)).tolist() == [0.0] * len(none)


# ------------------------------------------------------------------------------------------------------------ answers

TRUTH = Boxes(
    np.array([0, 0, 3, 4]),
    np.array([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 64, 48]], np.float32),
    np.array([0, 1, 2, 0]),
)
"""An image without an object, one with a pair in one place, one that an object fills."""
PLACES = [(0.0, 0.0, 10.0, 9.0), (0.0, 0.0, 64.0, 48.0), (50.0, 40.0, 60.0, 46.0), (25.0, 20.0, 64.0, 48.0)]


def asked(name: str, place: tuple[float, float, float, float]) -> Query:
    unit = units.find(name)
    where, label = place if unit.RECTANGLE else None, 1 if unit.CLASS else None
    return Query(round=1, rank=0, image="a.jpg", unit=name, box=where, label=label, id=5)


def answers(name: str) -> Iterator[tuple[Query, Answer]]:
    """What the simulated oracle says about every place of every image, before and after its objects are annotated."""
    for place in PLACES:
        for image in range(3):
            for annotated in (np.zeros(4, bool), np.array([True, False, False, True]), np.ones(4, bool)):
                before = annotated.copy()
                query = asked(name, place)
                yield query, answer(query, TRUTH, image, annotated)
                assert (annotated == before).all()


@each
def test_the_oracle_gives_answers_that_the_ledger_takes(name: str) -> None:
    unit, seen = units.find(name), set()
    for query, given in answers(name):
        seen.add(given.verdict)
        check_answers([(query, given, Cost())], {"a.jpg": SIZE}, CLASSES)
        assert all(isinstance(v, float) for box in given.boxes for v in box)
        assert all(isinstance(v, int) for v in given.labels)
        if unit.RECTANGLE and unit.VERDICTS[given.verdict].boxes == "any":
            assert all(b[0] >= query.box[0] and b[3] <= query.box[3] for b in given.boxes if query.box), "cropped to it"
    assert units.SKIPPED not in seen and len(seen) == len(unit.VERDICTS) - 1, "each of its verdicts has been said"


@each
def test_an_object_is_annotated_once(name: str) -> None:
    unit, query = units.find(name), asked(name, PLACES[1])
    done, fresh = np.ones(4, bool), np.zeros(4, bool)
    assert not any(answer(query, TRUTH, image, done).boxes for image in range(3))
    if any(meaning.boxes != "none" for meaning in unit.VERDICTS.values()):
        given = answer(query, TRUTH, 2, fresh)
        assert (given.boxes, given.labels) == ((PLACES[1],), (0,)), "the object that fills the image"
        assert unit.VERDICTS[given.verdict].boxes != "none"


@each
def test_an_answer_costs_no_more_than_it_says(name: str) -> None:
    unit = units.find(name)
    for query, given in answers(name):
        spent = cost(query, given)
        assert spent.queries == 1 and spent.seconds > 0
        assert all(getattr(spent, counted) <= 1 for counted in unit.AT_MOST_ONE)
    few = all(meaning.boxes != "any" for meaning in unit.VERDICTS.values())
    assert few == ("boxes" in unit.AT_MOST_ONE), "else people are asked one query at a time of a budget in boxes"
    for word, meaning in unit.VERDICTS.items():
        boxes = {"none": [], "one": [PLACES[0]], "any": PLACES * 2}[meaning.boxes]
        spent = cost(asked(name, PLACES[1]), Answer(5, word, boxes, [0] * len(boxes)))
        assert all(getattr(spent, counted) <= 1 for counted in unit.AT_MOST_ONE)
        assert spent.boxes == len(boxes) and spent.images == int(meaning.covers and not unit.RECTANGLE)


@each
@pytest.mark.parametrize("counted", BUDGETS)
def test_a_budget_has_room_for_it(name: str, counted: str) -> None:
    sure = counted in units.find(name).AT_MOST_ONE
    dearest = 1.0 if sure else None
    assert budget.room(0.0, 0, dearest) == 0
    assert budget.room(10.0, 0, dearest) == (10 if sure else 1)
    assert budget.room(10.0, 2, dearest or 5.0) == (8 if sure else 0)
    assert budget.room(0.5, 0, dearest or 5.0) == 1, "what is left is spent"


@each
def test_what_follows_from_its_verdicts(name: str) -> None:
    unit, query = units.find(name), asked(name, PLACES[0])
    corners = query.box or (0, 0, *SIZE)
    for word, meaning in unit.VERDICTS.items():
        boxes = {"none": [], "one": [PLACES[0]], "any": PLACES[:2]}[meaning.boxes]
        made = label_rows([(query, Answer(5, word, boxes, [0] * len(boxes)), 1)], {"a.jpg": SIZE}, None, "now")
        rows = {table.name: inserts for table, inserts in made}
        assert len(rows["annotations"]) == len(boxes)
        for kind, follows in (("coverage", meaning.covers), ("background", meaning.background)):
            assert [tuple(row[k] for k in ("x1", "y1", "x2", "y2")) for row in rows[kind]] == [corners] * follows


@each
def test_the_ledger_refuses_what_it_does_not_take(name: str) -> None:
    unit, query = units.find(name), asked(name, PLACES[0])
    assert query_row(query, 1)["unit"] == name
    odd = dataclasses.replace(query, box=None if unit.RECTANGLE else PLACES[0])
    with pytest.raises(LabelwiseError, match="with its box"):
        query_row(odd, 1)
    for word in ("maybe", *(set(units.verdicts()) - set(unit.VERDICTS))):
        with pytest.raises(LabelwiseError, match=f"verdict '{word}'; expected one of {', '.join(unit.VERDICTS)}"):
            check_answers([(query, Answer(5, word), Cost())], {"a.jpg": SIZE}, CLASSES)
        with pytest.raises(LabelwiseError, match=f"verdict '{word}'; expected one of"):
            cost(query, Answer(5, word))
    for word, meaning in unit.VERDICTS.items():
        wrong = [PLACES[0]] * (2 if meaning.boxes == "one" else 1)
        labels = [] if meaning.boxes == "any" else [0] * len(wrong)
        with pytest.raises(LabelwiseError, match=r"boxes and \d labels; expected"):
            check_answers([(query, Answer(5, word, wrong, labels), Cost())], {"a.jpg": SIZE}, CLASSES)
        if meaning.covers or meaning.background:
            fits = Answer(5, word, classes=2)
            with pytest.raises(LabelwiseError, match="the class owl was added meanwhile"):
                check_answers([(query, fits, Cost())], {"a.jpg": SIZE}, CLASSES)


# ------------------------------------------------------------------------------------------------------- a fourth unit


def test_a_file_that_is_dropped_in_is_a_unit_and_is_checked(tmp_path: Path) -> None:
    """The tests of this file, over a copy of labelwise with one file more, and the page's drawing of it."""
    package = tmp_path / "src" / "labelwise"
    shutil.copytree(catalog.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "recipes"))
    shutil.copy(FAKE, package / "units" / "presence.py")
    script = package / "web" / "static" / "units.js"
    text = script.read_text(encoding="utf-8")
    rows = '["Is there any object?", ""]', '[["present", "There is one", "A", true], ["empty", "Nothing", "N"]]'
    drawn = iter(rows)
    text = re.sub(r"^    image: \[", lambda at: f"    presence: {next(drawn)},\n{at[0]}", text, flags=re.MULTILINE)
    script.write_text(text, encoding="utf-8")
    chosen = ["-k", "presence or verdict_means", "-rA", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "default"]
    env = os.environ | {"PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-m", "pytest", str(Path(__file__)), *chosen]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"PASSED \S+::(\w+)", done.stdout)
    mine = {key for key, value in globals().items() if any(m.name == "parametrize" for m in _marks(value))}
    assert mine <= set(passed), mine - set(passed)


def _marks(value: Any) -> list[Any]:
    return list(getattr(value, "pytestmark", []))


@pytest.fixture
def presence(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(units, "_OWN", {})
    units.find.cache_clear()
    yield "fakes.presence"
    units.find.cache_clear()


def test_a_unit_of_ones_own_brings_its_verdicts(presence: str, tmp_path: Path) -> None:
    assert run_of(presence).query.unit == presence
    assert "empty" in units.covering() and "present" in units.verdicts()
    pool = Pool(Path("x"), CLASSES, ("a.jpg", "b.jpg"), np.full(2, SIZE[0]), np.full(2, SIZE[1]))
    ledger = Ledger.open(tmp_path / "ledger.sqlite", create=True)
    try:
        ledger.add_images(pool)
        ledger.add_queries(1, [Query(1, k, image, presence) for k, image in enumerate(pool.names)])
        here, there = ledger.queries(1)
        for query, word in ((here, "empty"), (there, "present")):
            given = Answer(query.id or 0, word)
            ledger.record(query, given, cost(query, given), "oracle")
        known = ledger.labels(pool)
        assert known.coverage.of(0).tolist() == [[0, 0, *SIZE]] and not len(known.coverage.of(1))
        assert known.answered.all() and not len(known.annotations)
        assert ledger.cost() == Cost(0, 2, 1, 9.8)
        _second_opinion(ledger, here, "present")
        assert not len(ledger.labels(pool).coverage.of(0)), "the answer that counts covers nothing"
        _second_opinion(ledger, there, "empty")
        assert [len(ledger.labels(pool).coverage.of(k)) for k in (0, 1)] == [0, 1]
    finally:
        ledger.close()


def _second_opinion(ledger: Ledger, query: Query, word: str) -> None:
    """Somebody else answers too, and the first one takes the answer back."""
    ledger.record(query, Answer(query.id or 0, word, who="Bo"), Cost(queries=1), "person Bo")
    answers = schema.answers
    first = sa.select(answers.c.id).where((answers.c.query_id == query.id) & (answers.c.ordinal == 0))
    with ledger.write() as connection:
        withdraw(connection, connection.execute(first).scalar_one(), "Ada", {query.image: SIZE}, "now")


def test_a_module_that_is_no_unit_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_a_unit.py").write_text("VERDICTS = {}\n\ndef candidates(shard): ...\n")
    (tmp_path / "halves").mkdir()
    shutil.copy(tmp_path / "half_a_unit.py", tmp_path / "halves" / "half.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LabelwiseError, match=r"unit 'halves\.half': .* lacks DEFAULT, RECTANGLE, .*answer, lift"):
        units.find("halves.half")
