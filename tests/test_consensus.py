"""Several people's answers merged: a view over the ledger, which stays as it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_leases import ledger as ledger  # a fixture
from test_leases import price, say, small_pool

from labelwise import files
from labelwise.config.choice import Choice
from labelwise.ledger import import_export, records, several_answers
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.records import seen_now
from labelwise.merge import _items as merge_items
from labelwise.project import another_opinion, consensus
from labelwise.project.project_folder import Project
from labelwise.queue.leases import Leases
from labelwise.targets import partial
from labelwise.types import Answer, Detections, Labels, Query

CAT, DOG = 0, 1
A, B, C = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 12.0), (30.0, 30.0, 40.0, 40.0)
MAJORITY, SKENE, CROWDLAB = (Choice(name=name) for name in ("majority", "dawid_skene", "crowdlab"))


@pytest.fixture
def project(tmp_path: Path, ledger: Ledger) -> Project:
    return Project(tmp_path, ledger)


def box_queries(ledger: Ledger, n: int, round_number: int = 1) -> list[Query]:
    made = [Query(round_number, k, "ab"[k % 2] + ".jpg", "box", A, DOG, 0.5) for k in range(n)]
    ledger.add_queries(round_number, made)
    return ledger.queries(round_number)


def image_query(ledger: Ledger, image: str = "a.jpg") -> Query:
    ledger.add_queries(2, [Query(2, 0, image, "image")])
    return ledger.queries(2)[0]


def says(ledger: Ledger, query: Query, who: str, verdict: str, *objects: Any) -> None:
    boxes, labels = [box for box, _ in objects], [label for _, label in objects]
    answer = Answer(query.id or 0, verdict, boxes, labels, who, 1.0)
    with ledger.write() as connection:
        ledger.record_within(connection, [(query, answer, price(query, answer))])


def known(project: Project, rule: Choice = MAJORITY, seen: Instant | None = None) -> Labels:
    return consensus.labels(project, small_pool(), rule, one_class=False, seen=seen)


def boxes_of(labels: Labels, image: int = 0) -> list[tuple[list[float], int]]:
    span = slice(labels.annotations.offsets[image], labels.annotations.offsets[image + 1])
    return list(zip(labels.annotations.xyxy[span].tolist(), labels.annotations.labels[span].tolist(), strict=True))


def rows(ledger: Ledger) -> Any:
    with ledger.read() as connection:
        return [connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY id").all() for name in
                ("answers", "annotations", "coverage", "background")]  # fmt: skip


def test_two_of_three_outvote_the_first_and_nothing_is_written(project: Project) -> None:
    ledger = project.ledger
    [query] = box_queries(ledger, 1)
    for who, label, box in (("Ada", CAT, A), ("Bo", DOG, A), ("Cy", DOG, B)):
        says(ledger, query, who, "object", (box, label))
    before = rows(ledger)
    assert boxes_of(known(project, Choice(name="first"))) == [(list(A), CAT)]
    merged = known(project)
    assert boxes_of(merged) == [([0, 0, 10, 11], DOG)], "the class of two, the mean of their boxes"
    assert merged.trust is not None and merged.trust.tolist() == pytest.approx([2 / 3])
    assert rows(ledger) == before


def test_no_object_is_an_opinion(project: Project) -> None:
    first, second = box_queries(project.ledger, 2)
    for query, others in ((first, ("background", "background")), (second, ("duplicate", "duplicate"))):
        says(project.ledger, query, "Ada", "object", (A, CAT))
        for who, verdict in zip(("Bo", "Cy"), others, strict=True):
            says(project.ledger, query, who, verdict)
    merged = known(project)
    assert boxes_of(merged) == boxes_of(merged, 1) == []
    assert merged.background.of(0).tolist() == [list(A)] and not len(merged.background.of(1))
    assert merged.answered.tolist() == [True, True]


def test_objects_of_an_image_are_matched_and_those_of_one_alone_are_dropped(project: Project) -> None:
    query = image_query(project.ledger)
    says(project.ledger, query, "Ada", "all", (A, CAT), ((50.0, 1.0, 60.0, 9.0), DOG))
    says(project.ledger, query, "Bo", "all", (C, DOG), (B, CAT))
    says(project.ledger, query, "Cy", "all", (C, DOG), (A, CAT))
    merged = known(project)
    (first, cat), (second, dog) = sorted(boxes_of(merged))
    assert (cat, second, dog) == (CAT, list(C), DOG)
    assert first[:3] == [0, 0, 10] and 10.6 < first[3] < 11, "a mean of 10, 12, 10; who is more often right weighs more"
    assert merged.coverage.of(0).tolist() == [[0, 0, 64, 48]]


def test_queries_of_one_answer_and_corrections_stand(project: Project) -> None:
    ledger = project.ledger
    first, second = box_queries(ledger, 2)
    says(ledger, second, "Ada", "object", (A, DOG))
    for who, label in (("Ada", CAT), ("Bo", DOG), ("Cy", DOG)):
        says(ledger, first, who, "object", (A, label))
    assert boxes_of(known(project)) == [(list(A), DOG)] and boxes_of(known(project), 1) == [(list(A), DOG)]
    made = ledger.annotation_rows()["id"][1]
    ledger.correct(int(made), C, CAT, "owner")
    assert boxes_of(known(project)) == [(list(C), CAT)], "who corrects has seen what others said"
    assert known(project).trust is None


def test_what_was_taken_back_or_skipped_says_nothing(project: Project) -> None:
    ledger = project.ledger
    box_queries(ledger, 1)
    leases = Leases(ledger, overlap=4)
    say(leases, "Ada", 0.0, "object", (A, CAT))
    say(leases, "Bo", 1.0, "object", (A, DOG))
    say(leases, "Cy", 2.0, "skipped")
    say(leases, "Di", 3.0, "object", (A, DOG))
    assert boxes_of(known(project)) == [(list(A), DOG)]
    seen = Instant(**seen_now(ledger, 1, "9999"))
    leases.undo("Di", "tab-of-Di", 4.0)
    assert boxes_of(known(project)) == [(list(A), CAT)], "one against one: the first counts"
    assert several_answers.read(ledger).people == ["Ada", "Bo"]
    assert seen.answers == 4


def test_what_was_known_at_an_instant_is_merged_as_then(project: Project) -> None:
    ledger = project.ledger
    [query] = box_queries(ledger, 1)
    for who, label in (("Ada", CAT), ("Bo", CAT)):
        says(ledger, query, who, "object", (A, label))
    seen = Instant(**seen_now(ledger, 1, "9999"))
    for who in ("Cy", "Di", "Ed"):
        says(ledger, query, who, "object", (A, DOG))
    assert boxes_of(known(project)) == [(list(A), DOG)]
    assert boxes_of(known(project, MAJORITY, seen)) == [(list(A), CAT)]


def test_the_model_of_the_round_is_one_more_opinion(project: Project) -> None:
    ledger, pool = project.ledger, small_pool()
    queries = box_queries(ledger, 12)
    boxes = np.array([A], np.float32).repeat(2, axis=0)
    probs = np.array([[0.02, 0.98]] * 2, np.float32)
    found = Detections(np.array([0, 1, 2]), boxes, probs, probs[:, 1].copy(), probs[:, :0])
    path = files.round_files.RoundFolder(project.round_folder(1)).predictions()
    files.write_detections(path, found, 1)
    for k, query in enumerate(queries):
        says(ledger, query, "Ada", "object", (A, CAT if k < 2 else DOG))
        says(ledger, query, "Bo", "object", (A, DOG if k < 11 else CAT))
    by_rule = {rule.name: [label for _, label in boxes_of(known(project, rule)) + boxes_of(known(project, rule), 1)]
               for rule in (MAJORITY, CROWDLAB)}  # fmt: skip
    assert by_rule["majority"].count(CAT) == 2 and by_rule["crowdlab"].count(CAT) == 0
    assert pool.classes == ("cat", "dog")


def test_a_whole_images_class_is_merged(project: Project) -> None:
    query, whole = image_query(project.ledger), (0.0, 0.0, 64.0, 48.0)
    for who, label in (("Ada", CAT), ("Bo", DOG), ("Cy", DOG)):
        says(project.ledger, query, who, "all", (whole, label))
    merged = consensus.labels(project, small_pool(), MAJORITY, one_class=True)
    assert boxes_of(merged) == [(list(whole), DOG)]


def test_how_sure_a_class_is_weighs_it_in_training(project: Project) -> None:
    [query] = box_queries(project.ledger, 1)
    for who, label in (("Ada", CAT), ("Bo", CAT), ("Cy", CAT), ("Di", DOG)):
        says(project.ledger, query, who, "object", (A, label))
    size = np.full(2, 64), np.full(2, 48)
    made = partial.targets(known(project), None, lambda _: (), "known", *size, None)  # type: ignore[arg-type, return-value]
    assert made.w_cls.tolist() == pytest.approx([0.75]) and made.w_box.tolist() == [1]


def test_exported_rows_are_the_merged_ones(project: Project) -> None:
    ledger = project.ledger
    first, second = box_queries(ledger, 2)
    says(ledger, second, "Ada", "object", (A, DOG))
    for who, label in (("Ada", CAT), ("Bo", DOG), ("Cy", DOG)):
        says(ledger, first, who, "object", (A, label))
    rows_before = import_export.current_annotations(ledger)
    found = consensus.of_rule(project, small_pool(), MAJORITY, one_class=False)
    made = consensus.annotation_rows(rows_before, found)
    assert [(row["image"], row["label"], row["origin"], row["who"]) for row in made] == [
        ("b.jpg", DOG, "person Ada", "Ada"),
        ("a.jpg", DOG, "merged", "Ada, Bo, Cy"),
    ]
    assert consensus.of_rule(project, small_pool(), Choice(name="first"), one_class=False) is None
    assert consensus.annotation_rows(rows_before, None) == rows_before


def test_advice_on_another_opinion_needs_predictions_and_several_answers(project: Project) -> None:
    ledger = project.ledger
    queries = box_queries(ledger, 12)
    run = SimpleNamespace(
        rounds=2, classifies=False, query=SimpleNamespace(threshold=0.1), ask=SimpleNamespace(merge=MAJORITY),
        predict=SimpleNamespace(proposals=None),
    )  # fmt: skip
    opened: Any = SimpleNamespace(project=project, pool=small_pool(), run=run, known=lambda: known(project))
    for k, query in enumerate(queries):
        says(ledger, query, "Ada", "object", (A, k % 2))
    assert another_opinion.shares(opened) is None
    boxes = np.array([A, C] * 2, np.float32)
    probs = np.array([[0.02, 0.98], [0.55, 0.45]] * 2, np.float32)
    found = Detections(np.array([0, 2, 4]), boxes, probs, probs.max(axis=1), probs[:, :0])
    files.write_detections(files.round_files.RoundFolder(project.round_folder(1)).predictions(), found)
    assert another_opinion.lines(opened) == [], "from single answers nobody's weight can be told"
    for query in queries[:6]:
        says(ledger, query, "Bo", "object", (A, query.rank % 2))
    assert another_opinion.shares(opened, 100) == (12, 2)
    again, new = another_opinion.shares(opened, 2) or (0, 0)
    assert (again, new) == (0, 2), "what nobody has looked at, and the model is unsure of, comes first"
    assert another_opinion.lines(opened)[0].startswith("Of the next 14 answers 12 would")
    run.predict = SimpleNamespace(proposals="yolox_nano", proposal_rounds=1)
    assert another_opinion.lines(opened) == [], "what was proposed is no model's word"


def test_of_whole_images_where_nobody_missed_an_object_there_is_nothing_to_advise(project: Project) -> None:
    says(project.ledger, image_query(project.ledger), "Ada", "all", (A, CAT))
    found = Detections(
        np.array([0, 1, 1]), np.array([C], np.float32), np.array([[0.6, 0.4]], np.float32),
        np.array([0.6], np.float32), np.zeros((1, 0), np.float32),
    )  # fmt: skip
    files.write_detections(files.round_files.RoundFolder(project.round_folder(2)).predictions(), found)
    run = SimpleNamespace(
        rounds=3, classifies=False, query=SimpleNamespace(threshold=0.1), predict=SimpleNamespace(proposals=None)
    )
    opened: Any = SimpleNamespace(project=project, pool=small_pool(), run=run, known=lambda: known(project))
    assert another_opinion.lines(opened) == []
    items = merge_items.items_of(several_answers.read(project.ledger, least=1), 2)
    said = consensus.of_model(project, small_pool(), items, one_class=False)
    np.testing.assert_allclose(said, [[0.5, 0.5]])  # the object is not where the model sees one


def test_what_was_proposed_is_no_models_word(project: Project) -> None:
    """Not in the first round, nor in one whose boxes were `predict.proposals`' when it was predicted: YOLOX knows no
    classes, and an even distribution over them speaks against whoever named one.
    """
    ledger, n = project.ledger, 12
    even = Detections(
        np.array([0, 1, 2]), np.array([A, A], np.float32), np.full((2, 2), 0.5, np.float32),
        np.array([0.9, 0.9], np.float32), np.zeros((2, 0), np.float32),
    )  # fmt: skip
    for number in (0, 1, 2):
        ledger.add_queries(number, [Query(number, k, "ab"[k % 2] + ".jpg", "box", A, DOG, 0.5) for k in range(n)])
        for query in ledger.queries(number):
            says(ledger, query, "Ada", "object", (A, query.rank % 2))
            says(ledger, query, "Bo", "object", (A, CAT))
    crowdlab = Choice(name="crowdlab")
    alone = consensus.consensus(project, small_pool(), crowdlab, one_class=False)
    for number in (0, 1, 2):
        files.write_detections(files.round_files.RoundFolder(project.round_folder(number)).predictions(), even)
    checkpoint = files.round_files.RoundFolder(project.round_folder(1)).checkpoint()
    checkpoint.parent.mkdir(parents=True, exist_ok=True)

    def predicted_with(number: int, **rule: Any) -> None:
        key = records.keep_settings(ledger, {"predict": {"proposals": "yolox_nano", **rule}})
        with ledger.write() as connection:
            records.keep(connection, records.key_of(number, "predict"), {"settings": key})

    def rounds_of_the_model() -> set[int]:
        items = merge_items.items_of(several_answers.read(ledger, least=1), 2)
        said = consensus.of_model(project, small_pool(), items, one_class=False)
        rows = items.query[np.isfinite(said).all(axis=1)].tolist()
        return {items.said.queries[k].round for k in rows}

    assert rounds_of_the_model() == {1, 2}, "a project without proposals"
    predicted_with(1)
    predicted_with(2)
    assert rounds_of_the_model() == set(), "of the second round, too: there is no model before it"
    again = consensus.consensus(project, small_pool(), crowdlab, one_class=False)
    assert alone is not None and again is not None
    np.testing.assert_array_equal(again.posterior, alone.posterior)
    checkpoint.write_bytes(b"")
    assert rounds_of_the_model() == {2}
    predicted_with(2, proposal_rounds=2)
    assert rounds_of_the_model() == set()


def test_people_are_judged_for_the_owner(project: Project) -> None:
    ledger, rng = project.ledger, np.random.default_rng(0)
    for k, query in enumerate(box_queries(ledger, 200)):
        true, random = k % 2, int(rng.integers(0, 2))
        for who, label in (("Ada", true), ("Bo", true), ("Cy", true if k % 5 else 1 - true), ("Di", random)):
            says(ledger, query, who, "object", (A, label))
    judged = {row["who"]: row for row in consensus.quality(project, small_pool(), one_class=False)}
    assert [judged[who]["noise"] for who in ("Ada", "Bo", "Cy", "Di")] == [False, False, False, True]
    assert judged["Cy"]["low"] < 0.8 < judged["Cy"]["high"] and judged["Ada"]["answers"] == 200
    lines = consensus.told(list(judged.values()))
    assert "hardly better than guessing" in lines[3] and "guessing" not in "".join(lines[:3])
    assert lines[0].startswith("Ada is right in ")


def test_without_second_opinions_nobody_is_judged(project: Project) -> None:
    [query] = box_queries(project.ledger, 1)
    says(project.ledger, query, "Ada", "object", (A, CAT))
    says(project.ledger, query, "Ada", "object", (A, DOG))
    assert consensus.quality(project, small_pool(), one_class=False) == []
    assert known(project, SKENE).trust is None
