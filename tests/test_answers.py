"""What an answer means: which answers are refused, and which labels follow from the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_store_ledger import NAMES, asked, box_query, pool, rows
from test_store_ledger import ledger as ledger  # a fixture
from test_store_ledger import path as path  # a fixture

from labelwise.ledger.answers import answer_row, check_answers, label_rows
from labelwise.ledger.ledger import Ledger
from labelwise.types import Answer, Cost, LabelwiseError, Query


def test_every_verdict_leaves_its_labels(ledger: Ledger) -> None:
    third = float(np.float32(1) / np.float32(3))  # not a short decimal: it must come back bit for bit
    taken, rejected, known = asked(ledger, box_query(0), box_query(1, box=(third, 1.0, 2.0, 3.0)), box_query(2))
    whole, empty, broken = asked(ledger, *(Query(2, k, name, "image") for k, name in enumerate(NAMES)))
    ledger.record(taken, Answer(taken.id, "object", [(third, 0.0, 9.0, 8.0)], [1]), Cost(1, 1, 0, 2.5), "oracle")
    ledger.record(rejected, Answer(rejected.id, "background"), Cost(0, 1, 0, 1.5), "oracle")
    ledger.record(known, Answer(known.id, "duplicate"), Cost(0, 1, 0, 1.5), "oracle")
    two = Answer(whole.id, "all", [(0.0, 0.0, 64.0, 48.0), (1.0, 1.0, 2.0, 2.0)], [0, 1])
    ledger.record_many(
        [(whole, two, Cost(2, 1, 1, 20.0)), (empty, Answer(empty.id, "all"), Cost(0, 1, 1, 4.0))], "oracle"
    )
    ledger.record(broken, Answer(broken.id, "skipped", note="cannot be read"), Cost(0, 1, 0, 0.0), "oracle")

    order = ("sub/c.jpg", "a.jpg", "b.jpg")  # the pool's order counts, not the ledger's
    labels = ledger.labels(pool(order))
    assert labels.annotations.offsets.tolist() == [0, 0, 3, 3]
    expected = np.array([[third, 0, 9, 8], [0, 0, 64, 48], [1, 1, 2, 2]], np.float32)
    np.testing.assert_array_equal(labels.annotations.xyxy, expected)
    assert labels.annotations.labels.tolist() == [1, 0, 1]
    assert labels.coverage.offsets.tolist() == [0, 0, 1, 2]
    assert labels.coverage.xyxy.tolist() == [[0, 0, 64, 48]] * 2
    assert labels.background.xyxy.tolist() == [[np.float32(third), 1, 2, 3]]
    assert labels.answered.tolist() == [True, True, True]
    assert ledger.verdicts(1) == {taken.id: "object", rejected.id: "background", known.id: "duplicate"}
    assert ledger.cost_by_round() == {1: Cost(1, 3, 0, 5.5), 2: Cost(2, 3, 2, 24.0)}
    assert ledger.cost(until_round=1) == Cost(1, 3, 0, 5.5)
    assert ledger.cost() == Cost(3, 6, 2, 29.5)
    current = ledger.annotation_rows(until_round=1)
    assert (current["image"].tolist(), current["label"].tolist(), current["round"].tolist()) == (["a.jpg"], [1], [1])


def test_a_region_covers_itself_alone(ledger: Ledger) -> None:
    corner = Query(1, 0, "a.jpg", "region", (0.0, 0.0, 32.0, 24.0), None, 0.5)
    (query,) = asked(ledger, corner)
    ledger.record(query, Answer(query.id, "all", [(1.0, 1.0, 5.0, 5.0)], [0]), Cost(1, 1, 0, 9.0), "oracle")
    labels = ledger.labels(pool())
    assert labels.coverage.of(0).tolist() == [[0, 0, 32, 24]] and len(labels.annotations) == 1
    assert ledger.queries(1)[0].unit == "region"
    for unit, box in (("region", None), ("image", (0.0, 0.0, 1.0, 1.0)), ("area", None)):
        with pytest.raises(LabelwiseError, match="expected a box or region with its box, or an image"):
            ledger.add_queries(2, [Query(2, 0, "a.jpg", unit, box)])  # type: ignore[arg-type]


def test_queries_come_back_as_they_were(ledger: Ledger) -> None:
    scored = Query(1, 1, "b.jpg", "box", (0.1, 0.2, 3.0, 4.0), None, float(np.float32(0.1)), {"u": np.float32(0.1)})  # type: ignore[dict-item]
    whole = Query(1, 0, "a.jpg", "image")
    ledger.add_queries(1, [scored, whole])
    first, second = ledger.open_queries(1)
    assert replace(first, id=None) == whole
    assert replace(second, id=None) == replace(scored, reason={"u": float(np.float32(0.1))})
    ledger.add_queries(1, [scored, whole])
    assert ledger.queries() == [first, second]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (box_query(image="z.jpg"), "image z.jpg is not in the ledger"),
        (box_query(round_number=2), "query 0 of round 1, image a.jpg: it says round 2"),
        (replace(box_query(), box=None), "unit 'box' with box None"),
        (replace(box_query(), score=float("nan")), "score nan"),
        (replace(box_query(), box=(0.0, 0.0, float("inf"), 1.0)), "expected finite numbers"),
        (replace(box_query(), reason={"u": float("nan")}), "as JSON"),
    ],
)
def test_bad_queries(ledger: Ledger, query: Query, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        ledger.add_queries(1, [box_query(1), query])
    assert ledger.queries() == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(2, "background"), "it says query 2"),
        (Answer(1, "all"), "verdict 'all'; expected one of object, background, duplicate, skipped"),
        (Answer(1, "object"), "0 boxes and 0 labels; expected one box and its label"),
        (Answer(1, "background", [(0.0, 0.0, 1.0, 1.0)], [0]), "1 boxes and 1 labels; expected no boxes"),
        (Answer(1, "object", [(0.0, 0.0, 1.0, 1.0)], [2]), "box 0: class number 2; expected 0 to 1"),
        (Answer(1, "object", [(1.0, 0.0, 1.0, 1.0)], [0]), r"box 0: \[1.0, 0.0, 1.0, 1.0\] has no area"),
        (Answer(1, "object", [(0.0, 0.0, float("nan"), 1.0)], [0]), "has no area; expected finite"),
        (Answer(1, "object", [(0.0, 0.0, 66.0, 1.0)], [0]), "outside the image of 64 x 48 pixels"),
    ],
)
def test_a_bad_answer_stores_nothing(ledger: Ledger, path: Path, answer: Answer, message: str) -> None:
    query, other = asked(ledger, box_query(0), box_query(1))
    good = (other, Answer(other.id, "background"), Cost())
    with pytest.raises(LabelwiseError, match=message):
        ledger.record_many([good, (query, answer, Cost())], "oracle")
    assert rows(path, "select count(*) from answers") == [(0,)]
    assert len(ledger.open_queries(1)) == 2


# --------------------------------------------------------------------------------------- each answer, without a ledger

WIDE = (64, 48)
SIZES = {"a.jpg": WIDE, "b.jpg": (10, 90)}
CLASSES = ("cat", "dog")


def of_image(image: str = "a.jpg", number: int = 5) -> Query:
    return Query(1, 0, image, "image", id=number)


def check(*given: tuple[Query, Answer], classes: tuple[str, ...] = CLASSES) -> None:
    check_answers([(query, answer, Cost()) for query, answer in given], SIZES, classes)


def all_of(*boxes: tuple[float, ...], labels: list[int] | None = None, number: int = 5) -> Answer:
    return Answer(number, "all", boxes, [0] * len(boxes) if labels is None else labels)


def test_a_box_may_lie_outside_by_a_rounding_and_no_further() -> None:
    check((of_image(), all_of((-1.0, -1.0, 65.0, 49.0))))
    for side, value in enumerate((-1.5, -1.5, 65.5, 49.5)):
        box = [0.0, 0.0, 64.0, 48.0]
        box[side] = value
        with pytest.raises(LabelwiseError, match="lies outside the image of 64 x 48 pixels"):
            check((of_image(), all_of(tuple(box))))


def test_each_box_is_held_against_its_own_image() -> None:
    tall = of_image("b.jpg", 6)
    check((of_image(), all_of((0.0, 0.0, 60.0, 40.0))), (tall, all_of((0.0, 0.0, 9.0, 80.0), number=6)))
    wrong = all_of((0.0, 0.0, 9.0, 80.0), (0.0, 0.0, 60.0, 40.0), number=6)
    message = r"query 6 \(round 1, image b\.jpg\), box 1: .* outside the image of 10 x 90"
    with pytest.raises(LabelwiseError, match=message):
        check((of_image(), all_of((0.0, 0.0, 60.0, 40.0))), (tall, wrong))


@pytest.mark.parametrize(
    "box", [(5.0, 5.0, 5.0, 9.0), (5.0, 5.0, 9.0, 5.0), (9.0, 5.0, 5.0, 9.0), (5.0, 5.0, 5.0 + 1e-9, 9.0)]
)
def test_a_box_has_an_area_also_as_the_ledger_gives_it_back(box: tuple[float, ...]) -> None:
    """The last one is a box in float64; labels are read as float32."""
    with pytest.raises(LabelwiseError, match="has no area"):
        check((of_image(), all_of(box)))


@pytest.mark.parametrize("label", [-1, 2])
def test_the_class_is_one_of_the_list(label: int) -> None:
    with pytest.raises(LabelwiseError, match=f"class number {label}; expected 0 to 1"):
        check((of_image(), all_of((0.0, 0.0, 9.0, 9.0), labels=[label])))


def test_every_box_has_its_label() -> None:
    two = ((0.0, 0.0, 9.0, 9.0), (1.0, 1.0, 8.0, 8.0))
    for labels in ([], [0], [0, 1, 1]):
        with pytest.raises(LabelwiseError, match=f"2 boxes and {len(labels)} labels; expected as many"):
            check((of_image(), all_of(*two, labels=labels)))


def test_who_does_not_know_of_a_class_cannot_say_that_nothing_else_is_there() -> None:
    asked_box, box = replace(box_query(), id=5), (1.0, 1.0, 9.0, 9.0)
    for query, verdict, boxes in ((asked_box, "background", ()), (of_image(), "all", (box,))):
        answer = Answer(5, verdict, boxes, [0] * len(boxes))  # type: ignore[arg-type]
        check((query, replace(answer, classes=2)))
        check((query, answer))
        with pytest.raises(LabelwiseError, match="the class dog was added meanwhile"):
            check((query, replace(answer, classes=1)))
    for verdict, boxes in (("object", (box,)), ("duplicate", ()), ("skipped", ())):
        check((asked_box, Answer(5, verdict, boxes, [0] * len(boxes), classes=1)))  # type: ignore[arg-type]
    with pytest.raises(LabelwiseError, match=r"it knows 3 classes, and the project has 2\. Reload"):
        check((asked_box, Answer(5, "duplicate", classes=3)))


def test_labels_name_the_image_the_answer_and_whoever_gave_it() -> None:
    by_ada = replace(all_of((1.0, 2.0, 9.0, 8.0), labels=[1]), who="Ada")
    by_oracle = all_of((3.0, 4.0, 9.0, 8.0), number=6)
    counted = [(of_image(), by_ada, 70), (of_image("b.jpg", 6), by_oracle, 71)]
    for origin, expected in ((None, ["person Ada", "oracle"]), ("import", ["import", "import"])):
        annotations, coverage, background = (made for _, made in label_rows(counted, SIZES, origin, "now"))
        assert [row["origin"] for row in annotations] == expected
        assert [(row["image"], row["query_id"], row["answer_id"]) for row in annotations] == [
            ("a.jpg", 5, 70),
            ("b.jpg", 6, 71),
        ]
        assert [[row[key] for key in ("x1", "y1", "x2", "y2", "label")] for row in annotations] == [
            [1, 2, 9, 8, 1],
            [3, 4, 9, 8, 0],
        ]
        whole = [[row[key] for key in ("x1", "y1", "x2", "y2")] for row in coverage]
        assert whole == [[0, 0, 64, 48], [0, 0, 10, 90]] and background == []


def test_the_row_of_an_answer_keeps_each_part_of_its_cost() -> None:
    answer = Answer(5, "all", [(1, 2, 9, 8)], [1], "Ada", 7.5, "so")  # type: ignore[list-item]
    row = answer_row(answer, Cost(boxes=1, queries=2, images=3, seconds=4.5), 6, "now")
    assert [row[f"cost_{kind}"] for kind in ("boxes", "queries", "images", "seconds")] == [1, 2, 3, 4.5]
    assert (row["query_id"], row["ordinal"], row["seconds"], row["who"], row["note"]) == (5, 6, 7.5, "Ada", "so")


@pytest.mark.parametrize(
    ("field", "value"),
    [("verdict", ["all"]), ("who", None), ("who", "\ud800"), ("note", 3), ("seconds", "1"), ("seconds", -1.0),
     ("seconds", float("nan")), ("seconds", float("inf")), ("seconds", True)],
)  # fmt: skip
def test_an_answer_that_cannot_be_stored_is_refused_when_it_is_made(field: str, value: object) -> None:
    with pytest.raises(LabelwiseError, match=f"answer to query 3: {field} is .*; expected a"):
        Answer(3, **{"verdict": "all", field: value})  # type: ignore[arg-type]


def test_numbers_of_numpy_are_seconds_too() -> None:
    assert Answer(3, "all", seconds=np.float32(2.5)).seconds == 2.5
