"""What was known at an instant is read again later, whatever was answered, taken back or corrected since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelwise.ledger import class_list, records, safety
from labelwise.ledger.current_answers import withdraw
from labelwise.ledger.ledger import Ledger, now
from labelwise.types import Answer, Cost, Labels, LabelwiseError, Pool, Query

NAMES = tuple(f"{k}.jpg" for k in range(6))
SIZES = dict.fromkeys(NAMES, (64, 48))


def pool() -> Pool:
    return Pool(Path("data"), ("cat", "dog"), NAMES, np.full(6, 64, np.int64), np.full(6, 48, np.int64))


def same(a: Labels, b: Labels) -> bool:
    arrays = [
        (
            k.annotations.offsets,
            k.annotations.xyxy,
            k.annotations.labels,
            k.coverage.xyxy,
            k.background.xyxy,
            k.answered,
        )
        for k in (a, b)
    ]
    return all(np.array_equal(one, other) for one, other in zip(*arrays, strict=True))


def step(ledger: Ledger, rng: np.random.Generator, queries: list[Query], answers: list[int]) -> None:
    """One thing that people do: answer (also an earlier round, also a second time), take back, correct, add a class."""
    what = rng.choice(
        ["answer", "answer", "answer", "take back", "correct", "class"], p=[0.3, 0.2, 0.2, 0.15, 0.12, 0.03]
    )
    if what == "answer":
        query = queries[rng.integers(len(queries))]
        x, y = rng.integers(0, 30, 2).tolist()
        verdict = {"box": ["object", "background"], "image": ["all"]}[query.unit][
            rng.integers(1 + (query.unit == "box"))
        ]
        boxes = [] if verdict == "background" else [(float(x), float(y), x + 9.0, y + 9.0)]
        answer = Answer(query.id, verdict, boxes, [int(rng.integers(2))] * len(boxes), f"p{rng.integers(3)}")
        with ledger.write() as connection:
            answers += [found[0] for found in ledger.record_within(connection, [(query, answer, Cost(1, 1, 0, 2.0))])]
    elif what == "take back" and answers:
        with ledger.write() as connection:
            withdraw(connection, answers.pop(rng.integers(len(answers))), "p0", SIZES, now())
    elif what == "correct" and len(rows := ledger.annotation_rows()["id"]):
        ledger.correct(int(rows[rng.integers(len(rows))]), (1.0, 2.0, 30.0, 40.0), int(rng.integers(2)), "p1")
    elif what == "class":
        class_list.add_class(ledger, f"class {len(ledger.classes())}", "p0", none_so_far=bool(rng.integers(2)))


@pytest.mark.parametrize("seed", range(6))
def test_every_instant_is_read_again(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    ledger = Ledger.open(tmp_path / "ledger.sqlite", create=True)
    ledger.add_images(pool())
    for round_number in (0, 1):
        units = [("box", (1.0, 1.0, 9.0, 9.0 + k)) if k % 2 else ("image", None) for k in range(8)]
        ledger.add_queries(
            round_number,
            [Query(round_number, k, NAMES[k % 6], unit, box, None, 0.5) for k, (unit, box) in enumerate(units)],
        )
    queries, answers, then = ledger.queries(), list[int](), []
    for _ in range(60):
        step(ledger, rng, queries, answers)
        record = {"seen": records.seen_now(ledger, 1, now())}
        then.append((records.instant_of(record), ledger.labels(pool()), ledger.cost_by_round()))
    different = 0
    for seen, labels, costs in then:
        assert same(ledger.labels(pool(), seen), labels)
        assert ledger.cost_by_round(seen) == costs
        different += not same(ledger.labels(pool()), labels)
    assert different > 30, "the instants differ from the present"
    ledger.close()


def test_rounds_after_the_instants_are_left_out(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite", create=True)
    ledger.add_images(pool())
    for round_number in (0, 1):
        ledger.add_queries(round_number, [Query(round_number, 0, NAMES[round_number], "image", None, None, 0.5)])
        (query,) = ledger.queries(round_number)
        answer = Answer(query.id, "all", [(1.0, 1.0, 5.0, 5.0)], [0])
        ledger.record(query, answer, Cost(1, 1, 1, 2.0), "oracle")
    seen = [records.instant_of({"seen": records.seen_now(ledger, round_number, now())}) for round_number in (0, 1)]
    assert [len(ledger.labels(pool(), one).annotations) for one in seen] == [1, 2]
    assert [ledger.labels(pool(), one).answered.sum() for one in seen] == [1, 2]
    ledger.close()


def test_a_number_that_changed_in_a_row_is_found(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite", create=True)
    ledger.add_images(pool())
    ledger.add_queries(0, [Query(0, 0, NAMES[0], "image", None, None, 0.5)])
    (query,) = ledger.queries(0)
    ledger.record(query, Answer(query.id, "all", [(1.0, 1.0, 5.0, 5.0)], [0]), Cost(1, 1, 1, 2.0), "oracle")
    seen = records.seen_now(ledger, 0, now())
    record = {"seen": seen, "rows": safety.row_sums(ledger, records.instant_of({"seen": seen}))}  # type: ignore[arg-type]
    ledger.mark_done(0, "label", {}, 1.0, record)
    safety.compare(ledger, 1)
    ledger.correct(1, (2.0, 2.0, 9.0, 9.0), 1, "ann")
    safety.compare(ledger, 1)  # later rows are others' business
    with ledger.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER annotations_no_update")
        connection.exec_driver_sql("UPDATE annotations SET x2 = 6 WHERE id = 1")
    with pytest.raises(LabelwiseError, match=r"annotations: not the rows that round 0 was trained on.*--restore"):
        safety.compare(ledger, 1)
    ledger.close()
