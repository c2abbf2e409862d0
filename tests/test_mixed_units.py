"""Several units in one round: the ranking, what answers say of confidences, a whole run, settings that do not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from labelwise import catalog, config, loop, units
from labelwise.errors import LabelwiseError
from labelwise.files.round_files import STAGES
from labelwise.ledger import records
from labelwise.ledger.costs import by_verdict
from labelwise.models import frozen
from labelwise.models.yolox_network import YoloxNetwork
from labelwise.project import opening, prices
from labelwise.project.context import Context
from labelwise.project.objects import FrozenObjects
from labelwise.project.round import Round
from labelwise.queue.lease_queue import Lease
from labelwise.report import unit_split
from labelwise.report.results import RoundResult, UnitCost
from labelwise.select import gain_per_second
from labelwise.stages import answered, candidates, frozen_detector, ranking, selector_inputs
from labelwise.study import history
from labelwise.targets import answered_confidence
from labelwise.targets.answered_confidence import Curve
from labelwise.types import Boxes, Detections, Labels, Query, Rects, Targets
from labelwise.types.overlap import share_pairs
from labelwise.web.shown import Shown


def questions(seed: int, n: int = 9, boxes: int = 12) -> dict[str, Any]:
    """Candidates that hold some of the boxes, some of them none; some boxes alike, some surely no object."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, n)
    numbers = np.concatenate([np.sort(rng.choice(boxes, k, replace=False)) for k in counts] or [[]]).astype(np.int64)
    x = rng.normal(size=(boxes, 3)).round(rng.integers(0, 3))
    chance, probs = rng.random(boxes) * (rng.random(boxes) > 0.2), rng.dirichlet(np.ones(2), boxes)
    return {
        "scores": np.zeros(n),
        "box_offsets": np.append(0, np.cumsum(counts)),
        "box_numbers": numbers,
        "box_features": x[numbers],
        "box_probs": probs[numbers],
        "box_objects": chance[numbers],
        "unseen": rng.random(n) * (rng.random(n) > 0.5),
        "look_seconds": rng.integers(0, 9, n).astype(float),
        "object_seconds": rng.integers(0, 9, n).astype(float),
        "labelled_box_features": rng.normal(size=(rng.integers(0, 3), 3)),
        "counts": rng.integers(0, 9, 2),
        "budget_seconds": np.inf,
    }


def slow_ranking(q: dict[str, Any], width: float, rarity: float) -> list[int]:
    """Question by question, box by box: what is known is summed anew for every candidate. Every box is a reference."""
    unit = {}
    for number, row, chance, probs in zip(
        q["box_numbers"].tolist(), q["box_features"], q["box_objects"], q["box_probs"], strict=True
    ):
        weight = chance * float(probs @ (q["counts"] + 1.0) ** -rarity)
        unit[number] = (row / max(np.linalg.norm(row), 1e-12), float(chance), weight)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-(((a - b) / width) ** 2).sum()))

    start = [row / max(np.linalg.norm(row), 1e-12) for row in q["labelled_box_features"]]

    def known(settled: set[int]) -> float:
        every = [*((s, 1.0) for s in start), *(unit[s][:2] for s in settled)]
        return sum(w * max((p * k(x, s) for s, p in every), default=0.0) for x, _, w in unit.values())

    total, chances = sum(w for _, _, w in unit.values()), sum(p for _, p, _ in unit.values())
    typical = sum(p * (known({b}) - known(set())) for b, (_, p, _) in unit.items()) / max(chances, 1e-9)
    at_start = total - known(set())
    settled, left, order = set[int](), list(range(len(q["scores"]))), list[int]()
    while left:
        worth = []
        for row in left:
            own = set(q["box_numbers"][q["box_offsets"][row] : q["box_offsets"][row + 1]].tolist()) - settled
            unseen = typical * (total - known(settled)) / at_start if at_start > 0 else 0.0
            gain = known(settled | own) - known(settled) + q["unseen"][row] * unseen
            objects = sum(unit[b][1] for b in own) + q["unseen"][row]
            seconds = max(q["look_seconds"][row] + q["object_seconds"][row] * objects, 1e-6)
            worth.append((gain / seconds, own))
        best = int(np.argmax([round(ratio, 9) for ratio, _ in worth]))
        if worth[best][0] < 1e-9:
            break
        settled |= worth[best][1]
        order.append(left.pop(best))
    return order


@pytest.mark.parametrize("seed", range(40))
def test_the_ranking_is_that_of_the_plain_loop(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many steps as can be."""
    monkeypatch.setattr(gain_per_second, "AT_A_TIME", 2)
    monkeypatch.setattr(gain_per_second, "NUMBERS", 8)
    q, width = questions(seed), float(np.random.default_rng(seed).choice([0.5, 1.0]))
    rows = np.asarray(gain_per_second.select(**q, budget=9, width=width))
    assert sorted(rows.tolist()) == list(range(9))
    expected = slow_ranking(q, width, 0.5)
    gains = gain_per_second.select(**q, budget=9, width=width, explain=True)[1]["gain"]
    assert len(np.unique(rows)) == 9 and (gains[: len(expected)] > 0).all()
    assert rows[: len(expected)].tolist() == expected


def test_nothing_to_ask_and_nothing_to_gain() -> None:
    empty = questions(0, n=0)
    assert len(gain_per_second.select(**empty, budget=3)) == 0
    bare = questions(1) | {"box_objects": np.zeros(len(questions(1)["box_objects"]))}
    assert sorted(np.asarray(gain_per_second.select(**bare, budget=9)).tolist()) == list(range(9))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("look_seconds", np.nan, "look_seconds: row 0"),
        ("unseen", -1.0, "unseen: row 0"),
        ("box_objects", np.inf, "box_objects: row 0"),
    ],
)
def test_values_that_are_none_are_refused(column: str, value: float, message: str) -> None:
    bad = questions(3)
    bad[column] = bad[column].copy()
    bad[column][0] = value
    with pytest.raises(LabelwiseError, match=message):
        gain_per_second.select(**bad, budget=3)
    with pytest.raises(LabelwiseError, match="width is 0"):
        gain_per_second.select(**questions(3), budget=3, width=0)


# ------------------------------------------------------------------------------------------- what answers say of them


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_finds_how_often_a_confidence_is_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence_of, true = rng.uniform(0.05, 0.95, 4000), Curve(0.6, -0.8)
    found = answered_confidence.fit(confidence_of, rng.random(4000) < true.chance(confidence_of), Curve(1, 0))
    at = np.array([0.1, 0.5, 0.9])
    assert np.abs(found.chance(at) - true.chance(at)).max() < 0.05
    few = answered_confidence.fit(confidence_of[:1], np.array([True]), true)
    assert np.abs(few.chance(at) - true.chance(at)).max() < 0.15, "one answer moves little"
    upside_down = answered_confidence.fit(confidence_of, rng.random(4000) < 1 - confidence_of, Curve(1, 0))
    assert upside_down.slope > 0, "a surer box is never less likely right"


@pytest.mark.parametrize("expected", [0.0, 0.5, 7.0, 30.0, 1e6])
def test_the_curve_without_answers_expects_as_many_as_images_hold(expected: float) -> None:
    confidence_of = np.random.default_rng(0).random(40)
    total = answered_confidence.matching(confidence_of, expected).chance(confidence_of).sum()
    assert abs(total - min(max(expected, 0), 40)) < 0.1
    assert answered_confidence.matching(confidence_of[:0], 3.0) == Curve(1.0, 0.0)


@pytest.mark.parametrize("miss_rate", [0.01, 0.1, 0.5, 0.99])
def test_the_threshold_misses_no_more_than_it_may(miss_rate: float) -> None:
    rng = np.random.default_rng(1)
    sure = rng.random(200).round(2)
    least = answered_confidence.threshold(sure, sure, miss_rate)
    assert sure[sure < least].sum() <= miss_rate * sure.sum() + 1e-9
    above = sure[sure > least].min(initial=2)
    assert above == 2 or sure[sure < above].sum() > miss_rate * sure.sum(), "and is as high as it may be"
    assert answered_confidence.threshold(sure[:0], sure[:0], miss_rate) == 0


def test_an_object_with_two_detections_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two objects one has two detections and the other none: by hand 7.8 + 2 * 7 s, as the answer costs."""
    objects = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 50, 50], [0, 0, 5, 5]], np.float32)
    sure, one = np.array([0.9, 0.8, 0.2, 0.5], np.float32), np.ones((4, 1), np.float32)
    found = Detections(np.array([0, 3, 4]), boxes, one, sure, one[:, :0])
    known = Labels(
        Boxes(np.array([0, 2, 2]), objects, np.zeros(2, np.int64)),
        *(Rects.empty(2), Rects.empty(2), np.array([True, False])),
    )
    now: Any = SimpleNamespace(
        number=1, known=known, covered=np.array([True, False]), askable=np.ones(2, bool), proposed=False, context=None,
        run=SimpleNamespace(reads_objects=False), pool=SimpleNamespace(available=np.ones(2, bool)),
        detections_in=lambda images: found.take(images[found.image]), kept={},
        shards=lambda columns, images: [(0, found)],
    )  # fmt: skip
    monkeypatch.setattr(answered, "Round", lambda context, number: now)
    said = answered.learn(now)
    assert (said.unseen, said.distinct) == (1.0, 0.5)
    look, each, right = 7.8, 7.0, 2
    assert look + each * said.unseen + each * said.distinct * right == pytest.approx(21.8)


def test_questions_about_labels_are_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A review, a doubt about an object that has no label, a question that is asked again; and a new one."""
    box, reasons = (0.0, 0.0, 9.0, 9.0), ({"doubt": 0.9, "review": 3.0}, {"doubt": 0.9}, {"again": 1.0}, {"score": 1.0})
    queries = [Query(1, k, "a", "box", (k, *box[1:]), 0, reason=reason) for k, reason in enumerate(reasons)]
    known = Labels(Boxes.empty(1), Rects.empty(1), Rects.empty(1), np.array([True]))
    now: Any = SimpleNamespace(
        known=known, covered=np.array([True]), context=None, ledger=SimpleNamespace(queries=lambda number: queries),
        pool=SizedPool(np.array([40]), np.array([40])),
    )  # fmt: skip
    now.pool.number_of = {"a": 0}
    monkeypatch.setattr(answered, "Round", lambda context, number: SimpleNamespace(detections_in=lambda images: None))
    monkeypatch.setattr(answered, "compare_with_answers", lambda image, boxes, *other: (boxes[:, 0], image, image == 0))
    assert answered._asked(now, 1)[1][0].tolist() == [3.0]


def test_an_image_is_held_out_of_the_model_that_says_something_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images of one object of class 0 and some background. Where one says class 1, the others hear of it."""
    rng, box = np.random.default_rng(0), np.array([0, 0, 9, 9], np.float32)
    size, at = np.full(3, 40), np.array([[0, 0, 9, 9], [20, 20, 29, 29]], np.float32)
    objects = FrozenObjects(np.array([0, 2, 4, 6]), np.tile(at, (3, 1)), np.ones(6, np.float32),
                            rng.normal(size=(6, 4)).astype(np.float32), {})  # fmt: skip
    now: Any = SimpleNamespace(
        context=SimpleNamespace(objects=lambda which: objects), known=SimpleNamespace(background=Rects.empty(3)),
        pool=SizedPool(size, size), run=SimpleNamespace(predict=SimpleNamespace(min_score=0.0)),
    )  # fmt: skip
    monkeypatch.setattr(frozen_detector, "build_model", lambda now: frozen.build(2, 4))

    def said(classes: list[int]) -> list[np.ndarray]:
        whole = np.tile(np.array([0, 0, 40, 40], np.float32), (3, 1))
        one, every = np.ones(3, np.float32), np.arange(4)
        taught = Targets(every[:3], every, np.tile(box, (3, 1)), np.array(classes), one, one, np.zeros(3, np.int8),
                         Rects(every, whole), Rects.empty(3), whole)  # fmt: skip
        monkeypatch.setattr(frozen_detector.label, "targets", lambda now, found: taught)
        parts = list(frozen_detector.held_out(now, np.ones(3, bool)))
        assert [part.tolist() for part, _ in parts] == np.eye(3, dtype=bool).tolist(), "each image once, by itself"
        return [found.take(part[found.image]).probs for part, found in parts]

    before, after = said([0, 0, 0]), said([1, 0, 0])
    assert np.array_equal(before[0], after[0]), "its own label"
    assert not np.array_equal(before[1], after[1]) and not np.array_equal(before[2], after[2])


@dataclass
class SizedPool:
    """What is asked of a pool here."""

    width_px: np.ndarray
    height_px: np.ndarray

    def __len__(self) -> int:
        return len(self.width_px)


def test_a_rejected_box_teaches_where_nothing_else_of_its_image_is_known() -> None:
    assert config.load(catalog.recipe_files("mixed_units"), ["data.root=x"]).labels.images == "answered"
    rule = config.load(catalog.recipe_files("starter_frozen"), ["data.root=x"]).labels
    assert (rule.images, rule.policy.name) == ("answered", "ignore")


# --------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of YOLOX-nano with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "yolox.safetensors"
    model = YoloxNetwork(2)
    with torch.no_grad():
        model(torch.rand(8, 3, 64, 64))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


def settings_of(detector: Path, features: Path, *more: str) -> list[str]:
    return [
        "data.scenes={train=24, test=6, seed=0, classes=3, size_px=64, digits=[1, 3]}",
        *('features.body="shufflenet_v2_x0_5"', 'features.weights="none"', "features.objects_px=64"),
        *(f'features.objects="{detector}"', "features.objects_crop_px=32", "features.pca=8"),
        *(f'features.folder="{features}"', 'model={name="frozen", background=0}', 'labels.policy="ignore"'),
        *("budget.start_images=6", "predict.min_score=0", "query.threshold=0", 'query.score="random"'),
        *('query.units=["box", "image", "region"]', 'query.select={name="gain_per_second", reference=100}'),
        *("budget.unit=seconds", "budget.per_round=[70, 70]", "cost.inspect=4", "cost.draw=0.5", *more),
    ]


def as_it_was(context: Context, number: int) -> Round:
    """A round as the stage select saw it."""
    seen = records.instant_of(records.of_stage(context.project.ledger, number, "select"))
    return Round(context.at(seen, context.run), number)


def asked(context: Context) -> list[tuple[Any, ...]]:
    """What was asked and answered, in order."""
    ledger = context.project.ledger
    said = {number: ledger.verdicts(number) for number in range(3)}
    return [(q.round, q.unit, q.image, q.box, q.label, said[q.round].get(q.id or 0)) for q in ledger.queries()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, detector: Path) -> tuple[Context, Path]:
    """A run of three units, from its beginning to its end; the folder of its features."""
    folder = tmp_path_factory.mktemp("mixed")
    context = opening.start(folder / "p", "scenes", settings_of(detector, folder / "f", "query.miss_rate=0.3"))
    assert list(loop.run(context)) == [0, 1, 2]
    return context, folder / "f"


def test_every_query_has_its_unit_and_the_budget_is_in_seconds(whole: tuple[Context, Path]) -> None:
    context, _ = whole
    ledger = context.project.ledger
    for number in (1, 2):
        queries = ledger.queries(number)
        assert {query.unit for query in queries} <= {"box", "image", "region"}
        for query in queries:
            unit = units.find(query.unit)
            assert (query.box is not None) == unit.RECTANGLE and (query.label is not None) == unit.CLASS
            assert {"score", "gain", "seconds"} <= set(query.reason)
        spent = ledger.cost_by_round()[number].seconds
        assert spent >= 70 - 1e-6
        assert spent - 70 < 20, "by no more than what the last answer cost"
        assert set(as_it_was(context, number).scores["unit"].tolist()) == {0, 1, 2}, "all three may be asked"
    info = [ledger.stage_done(number, "select") for number in (1, 2)]
    assert all(one is not None and one["unseen"] >= 0 for one in info)
    assert info[1] is not None and info[0] is not None
    assert info[1]["answers"] > info[0]["answers"] > 0, "the first images, held out, are the first answers"


def test_nothing_is_asked_where_an_answer_of_the_round_has_settled_it(whole: tuple[Context, Path]) -> None:
    context, _ = whole
    for number in (1, 2):
        covered: dict[str, list[np.ndarray]] = {}
        for query in context.project.ledger.queries(number):
            if query.box is not None:
                for rect in covered.get(query.image, []):
                    share = share_pairs(np.array([query.box]), rect[None])[0]
                    assert share <= (0.5 if query.label is not None else 0.999)
            if query.label is None:
                at = context.pool.number_of[query.image]
                size = 0, 0, context.pool.width_px[at], context.pool.height_px[at]
                covered.setdefault(query.image, []).append(np.array(query.box or size, np.float64))


def test_the_budget_by_unit_is_what_the_rounds_cost(whole: tuple[Context, Path]) -> None:
    context, _ = whole
    ledger = context.project.ledger
    with ledger.read() as connection:
        rows = by_verdict(connection)
    for number, cost in ledger.cost_by_round().items():
        own = [row for row in rows if row[0] == number]
        assert sum(row[3] for row in own) == cost.queries and sum(row[4] for row in own) == cost.boxes
        assert sum(row[5] for row in own) == pytest.approx(cost.seconds)
    for number in range(3):
        split = history.round_result(context, number).by_unit
        assert sum(one.seconds for one in split.values()) == pytest.approx(ledger.cost_by_round()[number].seconds)
    one_unit = RoundResult(1, 0, 0, 0, 0.0, by_unit={"image": UnitCost(1, 2, 21.8)})
    assert unit_split.lines([one_unit]) == [], "there is nothing to split"
    assert unit_split.table([]) is None
    run = history.run_result(context, gallery=2)
    assert "box, image, region queries" in run.recipe


@pytest.mark.parametrize("when", [1, 3])
def test_killed_and_resumed_it_asks_the_same(
    whole: tuple[Context, Path], detector: Path, tmp_path: Path, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the oracle's answers are recorded, and between stages; each time the project is opened anew."""
    context, features = whole
    settings = settings_of(detector, features, "query.miss_rate=0.3")
    left = [when]

    class Killed(BaseException):
        pass

    from labelwise.ledger.ledger import Ledger

    record = Ledger.record_many

    def stop(self: Ledger, *given: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        record(self, *given)

    monkeypatch.setattr(Ledger, "record_many", stop)
    opened = opening.start(tmp_path / "p", "scenes", settings)
    with pytest.raises(Killed):
        list(loop.run(opened))
    opened.project.close()
    for _ in range(3 * len(STAGES)):
        opened = opening.start(tmp_path / "p", None)
        due = loop.next_stage(opened)
        if due is None:
            break
        loop.run_next(opened, due[1])
        opened.project.close()
    assert loop.next_stage(opened) is None
    assert asked(opened) == asked(context)


def test_confidences_are_held_against_answers(whole: tuple[Context, Path]) -> None:
    context, _ = whole
    now = as_it_was(context, 2)
    found = answered.learn(now)
    assert found.answers > 0 and found.unseen >= 0 and found.curve.slope > 0
    least = answered.threshold(now)
    scores = now.detections().scores
    assert scores.min() <= least <= scores.max()
    assert now.info["threshold"] == pytest.approx(least, abs=1e-3)
    makers = selector_inputs.makers(as_it_was(context, 2), 3)
    rows = np.arange(len(now.scores["image"]))
    chance = makers["box_objects"](rows)
    assert len(chance) == makers["box_offsets"](rows)[-1] and ((chance > 0) & (chance < 1)).all()
    number = makers["box_numbers"](rows)
    of_boxes = rows[now.scores["row"] >= 0]
    assert set(number.tolist()) >= set(now.scores["row"][of_boxes].tolist())


def test_images_are_held_out_once_for_all_units(whole: tuple[Context, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = whole
    calls, held_out = list[int](), answered.held_out

    def count(now: Round, images: np.ndarray) -> Any:
        calls.append(now.number)
        return held_out(now, images)

    monkeypatch.setattr(answered, "held_out", count)
    now = as_it_was(context, 2)
    rows = np.arange(len(now.scores["image"]))
    made = selector_inputs.makers(now, 3)
    assert len(candidates.gather(now, ())) == len(rows) == len(made["object_seconds"](rows))
    assert len(made["box_objects"](rows)) == made["box_offsets"](rows)[-1]
    assert calls == [2]


def test_the_seconds_of_an_image_count_an_object_once(whole: tuple[Context, Path]) -> None:
    context, _ = whole
    now = as_it_was(context, 2)
    rows = np.arange(len(now.scores["image"]))
    said, each = answered.learn(now), selector_inputs.makers(now, 3)["object_seconds"](rows)
    box = now.scores["unit"] == 0
    assert 0 < said.distinct <= 1
    assert each[box] == pytest.approx(prices.expected(context, "box")[1], rel=0.5)
    assert each[now.scores["unit"] == 1] == pytest.approx(said.distinct * context.run.cost.draw)


def test_seconds_are_those_of_the_table_until_answers_say_otherwise(whole: tuple[Context, Path]) -> None:
    context, _ = whole
    table = context.run.cost
    look, each = prices.expected(context, "image")
    assert (look, each) == (table.inspect, pytest.approx(table.draw)), "the oracle's answers cost what the table says"
    assert prices.expected(context, "box") == (pytest.approx(table.reject), pytest.approx(table.verify + 7 - 2))
    slow = replace(context, run=context.run.model_copy(update={"cost": replace(table, inspect=60.0, draw=50.0)}))
    assert prices.expected(slow, "image")[1] < 50, "answers so far were quicker than this table"


def test_the_page_draws_every_query_as_its_unit(whole: tuple[Context, Path]) -> None:
    context, _ = whole
    page, name = Shown(context), context.pool.names[0]
    box = (4.0, 4.0, 20.0, 20.0)
    queries = [
        Query(1, 0, name, "box", box, 1, id=1), Query(1, 1, name, "image", id=2), Query(1, 2, name, "region", box, id=3)
    ]  # fmt: skip
    shown = [page.query(Lease(query, "secret", 0.0)) for query in queries]
    assert [one["kind"] for one in shown] == ["box", "image", "region"]
    assert [one["box"] for one in shown] == [box, None, box]


def test_people_are_asked_in_the_order_of_the_ranking(whole: tuple[Context, Path]) -> None:
    """What the stage opens for people: no box of an image that is asked about as a whole before it."""
    context, _ = whole
    now = as_it_was(context, 1)
    some = ranking.next_queries(now, 0, 40, ranking.covered_rectangles(now, now.known))
    again = ranking.next_queries(now, some[5].rank + 1, 10, covered_by(now, some[:6]))
    assert [one.rank for one in some[:6]] == sorted(one.rank for one in some[:6])
    assert [one.rank for one in again] == [one.rank for one in some[6:16]], "opened a few at a time, or all at once"


def covered_by(now: Round, queries: list[Query]) -> ranking.Covered:
    """What is covered once these are answered."""
    covered = ranking.covered_rectangles(now, now.known)
    for query in queries:
        ranking.cover(now, covered, query)
    return covered


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (('query.units=["box", "imge"]',), "unknown unit 'imge'.*Did you mean 'image'"),
        (('query.units=["box", "box"]',), "listed once"),
        (("query.units=[]",), "at least 1 item"),
        (("query.select=kcenter",), 'selector .kcenter. knows nothing; set select = "gain_per_second"'),
        (('query.select=["gain_per_second", "top"]',), "selector .top. knows nothing"),
        (("budget.unit=boxes",), 'set budget.unit = "seconds"'),
        (("budget.unit=queries",), 'set budget.unit = "seconds"'),
        (("budget.unit=images",), 'set budget.unit = "seconds"'),
        (("query.miss_rate=1.5",), "miss_rate"),
        (("query.score=enms",), ""),
        (("model=classifier",), "classifies images"),
    ],
)
def test_settings_that_do_not_fit(settings: tuple[str, ...], message: str) -> None:
    plain = [
        *("data.root=x", 'query.units=["box", "image", "region"]', "query.select=gain_per_second"),
        *("query.score=random", "budget.unit=seconds", "labels.policy=ignore"),
    ]
    assert config.load([], plain).query.asked == ("box", "image", "region")
    with pytest.raises(LabelwiseError, match=message or "whole images"):
        config.load([], [*plain, *settings])


def test_a_project_with_one_unit_says_nothing_of_several() -> None:
    """What an earlier labelwise wrote is what this one writes: no setting has changed for it."""
    plain = ["query.unit=frame", "query.score=random", "query.select=top", "labels.policy=ignore"]
    run = config.load([], ["data.root=x", *plain])
    assert run.query.asked == ("image",) and "units" not in config.dump(run) and "miss_rate" not in config.dump(run)
