"""The simulated oracle and the accountant."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.ask.cost import CostTable, cost
from labelwise.ask.oracle import answer
from labelwise.types import Answer, Boxes, Cost, LabelwiseError, Query

TRUTH = Boxes(
    np.array([0, 0, 3, 4]),
    np.array([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]], np.float32),
    np.array([5, 6, 7, 8]),
)
NONE = np.zeros(4, bool)


def box(*xyxy: float, query_id: int | None = 1) -> Query:
    return Query(round=0, rank=0, image="a.jpg", unit="box", box=xyxy, label=0, id=query_id)


IMAGE = Query(round=0, rank=0, image="a.jpg", unit="image", id=2)


def test_a_box_query_is_answered_by_the_object_of_highest_overlap():
    got = answer(box(19, 19, 30, 30), TRUTH, 1, NONE)
    assert got == Answer(1, "object", ((20.0, 20.0, 30.0, 30.0),), (7,))
    assert all(isinstance(v, float) for v in got.boxes[0]) and isinstance(got.labels[0], int)
    assert answer(box(0, 0, 10, 10), TRUTH, 1, NONE).labels == (5,), "ties by the lower row"
    assert answer(box(0, 0, 10, 10), TRUTH, 2, NONE).labels == (8,), "only objects of this image answer"


def test_the_threshold_is_reached_at_equality():
    assert answer(box(0, 0, 10, 5), TRUTH, 1, NONE).verdict == "object"
    assert answer(box(0, 0, 10, 4.9), TRUTH, 1, NONE).verdict == "background"
    assert answer(box(0, 0, 10, 4.9), TRUTH, 1, NONE, iou_threshold=0.4).verdict == "object"
    assert answer(box(50, 50, 60, 60), TRUTH, 1, NONE) == Answer(1, "background")
    assert answer(box(0, 0, 10, 10), TRUTH, 0, NONE).verdict == "background", "an image without objects"


def test_an_annotated_object_answers_duplicate_even_if_another_one_would_do():
    done = np.array([True, False, False, False])
    assert answer(box(0, 0, 10, 9), TRUTH, 1, done) == Answer(1, "duplicate")


def test_an_image_query_yields_every_object_not_yet_annotated():
    assert answer(IMAGE, TRUTH, 1, NONE).labels == (5, 6, 7)
    got = answer(IMAGE, TRUTH, 1, np.array([False, True, False, False]))
    assert got.verdict == "all" and got.labels == (5, 7) and len(got.boxes) == 2
    assert answer(IMAGE, TRUTH, 0, NONE) == Answer(2, "all")


def region(*xyxy: float) -> Query:
    return Query(round=0, rank=0, image="a.jpg", unit="region", box=xyxy, id=3)


def test_a_region_query_yields_the_objects_that_lie_in_it_cropped_to_it():
    got = answer(region(22, 20, 40, 40), TRUTH, 1, NONE)
    assert got == Answer(3, "all", ((22.0, 20.0, 30.0, 30.0),), (7,)), "8 of 10 columns"
    assert answer(region(23, 20, 40, 40), TRUTH, 1, NONE) == Answer(3, "all"), "7 of 10 is not more than 0.7"
    assert answer(region(0, 0, 30, 30), TRUTH, 1, NONE).labels == (5, 6, 7)
    assert answer(region(0, 0, 30, 30), TRUTH, 1, np.array([True, False, False, False])).labels == (6, 7)
    assert answer(region(0, 0, 30, 30), TRUTH, 0, NONE) == Answer(3, "all")
    with pytest.raises(LabelwiseError, match="region query without a box"):
        answer(Query(round=0, rank=0, image="a.jpg", unit="region", id=3), TRUTH, 1, NONE)


def test_a_region_costs_a_look_and_its_boxes_but_no_image():
    table = CostTable(draw=100, inspect=1000)
    two = Answer(3, "all", ((0, 0, 1, 1), (1, 1, 2, 2)), (0, 0))
    assert cost(region(0, 0, 9, 9), two, table) == Cost(2, 1, 0, 1200.0)
    assert cost(region(0, 0, 9, 9), Answer(3, "skipped"), table) == Cost(0, 1, 0, 1000.0)


@pytest.mark.parametrize(
    "arguments",
    [
        (box(0, 0, 1, 1, query_id=None), TRUTH, 1, NONE),
        (box(0, 0, 1, 1), TRUTH, 3, NONE),
        (box(0, 0, 1, 1), TRUTH, 1, NONE[:2]),
        (Query(round=0, rank=0, image="a.jpg", unit="box", id=1), TRUTH, 1, NONE),
    ],
)
def test_the_oracle_names_the_query_that_it_cannot_answer(arguments):
    with pytest.raises(LabelwiseError, match=r"query (1|None) on a\.jpg"):
        answer(*arguments)


def test_the_cost_of_every_verdict():
    table = CostTable(verify=1, adjust=10, draw=100, reject=3, duplicate=4, inspect=1000)
    ask, one = box(0, 0, 4, 4), [(0, 0, 4, 5)]
    assert cost(ask, Answer(1, "object", one, [0]), table) == Cost(1, 1, 0, 11)
    assert cost(ask, Answer(1, "object", [ask.box], [0]), table) == Cost(1, 1, 0, 1), "taken as it is: no adjusting"
    assert cost(ask, Answer(1, "background"), table) == Cost(0, 1, 0, 3)
    assert cost(ask, Answer(1, "duplicate"), table) == Cost(0, 1, 0, 4)
    assert cost(ask, Answer(1, "skipped"), table) == Cost(0, 1, 0, 1)
    assert cost(IMAGE, Answer(2, "all", one * 3, [0] * 3), table) == Cost(3, 1, 1, 1300)
    assert cost(IMAGE, Answer(2, "all"), table) == Cost(0, 1, 1, 1000), "looked at and empty"
    assert cost(IMAGE, Answer(2, "skipped"), table) == Cost(0, 1, 0, 1000)
    assert cost(ask, Answer(1, "object", one, [0], who="ann", seconds=3.5), table).seconds == 3.5, "measured time wins"


def test_a_negative_time_is_refused():
    with pytest.raises(LabelwiseError, match="draw is -1"):
        CostTable(draw=-1)
