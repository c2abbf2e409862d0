"""A class that is added while people answer: what was looked over before says nothing of it, and nothing is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from test_web import Browser, about, answer_like_the_oracle, ask
from test_web import site as site  # a fixture
from typer.testing import CliRunner

import labelwise
from labelwise import cli, loop
from labelwise.ledger import schema as t
from labelwise.ledger.class_list import add_class
from labelwise.ledger.ledger import Ledger
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.queue.leases import Leases
from labelwise.stages import interchange as exchanges
from labelwise.stages.checkpoints import load_model, start_from
from labelwise.types import Answer, Cost, Detections, LabelwiseError, Pool, Query, Views

BOX = (1.0, 2.0, 40.0, 20.0)


def pool(*more: str) -> Pool:
    sizes = np.full(2, 64, np.int64), np.full(2, 48, np.int64)
    return Pool(Path("data"), ("cat", "dog", *more), ("a.jpg", "b.jpg"), *sizes)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    where = tmp_path / "ledger.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres")()
    opened = Ledger.open(where, create=True)
    opened.add_images(pool())
    opened.mark_started(1, "ask")
    yield opened
    opened.close()


def price(_query: Query, answer: Answer) -> Cost:
    return Cost(len(answer.boxes), 1, int(answer.verdict == "all"), answer.seconds)


def say(leases: Leases, who: str, verdict: Any, *objects: Any, note: str = "", knew: int | None = None) -> Query:
    [lease] = leases.take(who, f"tab-of-{who}", 0.0)
    boxes, labels = [box for box, _ in objects], [label for _, label in objects]
    answer = Answer(lease.query.id or 0, verdict, boxes, labels, who, note=note, classes=knew)
    try:
        leases.answer(answer, lease.secret, price, 1.0)
    except LabelwiseError:
        leases.release(who, f"tab-of-{who}")
        raise
    return lease.query


# ----------------------------------------------------------------------------------------------------------- the store


@pytest.mark.parametrize("none_so_far", [False, True])
def test_what_was_looked_over_before_says_nothing_of_a_new_class(ledger: Ledger, none_so_far: bool) -> None:
    ledger.add_queries(1, [Query(1, 0, "a.jpg", "image"), Query(1, 1, "b.jpg", "box", BOX, 0)])
    leases = Leases(ledger)
    say(leases, "Ada", "all", (BOX, 1))
    say(leases, "Ada", "background")
    assert add_class(ledger, "fox", "owner", none_so_far=none_so_far) == 2
    assert ledger.classes() == ("cat", "dog", "fox")
    known = ledger.labels(pool())
    assert known.annotations.labels.tolist() == [1], "boxes stay"
    assert (len(known.coverage.xyxy), len(known.background.xyxy)) == ((1, 1) if none_so_far else (0, 0))
    ledger.add_queries(1, [Query(1, 2, "a.jpg", "image"), Query(1, 3, "b.jpg", "box", BOX, 2)])
    say(leases, "Ada", "all", (BOX, 2), knew=3)
    say(leases, "Ada", "background", knew=3)
    known = ledger.labels(pool())
    assert (len(known.coverage.xyxy), len(known.background.xyxy)) == ((2, 2) if none_so_far else (1, 1))
    assert known.annotations.labels.tolist() == [1, 2]
    ledger.add_images(pool())  # a process that was opened before
    ledger.add_images(pool("fox"))
    for others in (("wolf",), ("fox", "wolf")):
        with pytest.raises(LabelwiseError, match="the class list has changed"):
            ledger.add_images(pool(*others))


def test_who_did_not_know_of_the_class_looks_again(ledger: Ledger) -> None:
    ledger.add_queries(1, [Query(1, 0, "a.jpg", "box", BOX, 0), Query(1, 1, "b.jpg", "image")])
    leases = Leases(ledger)
    add_class(ledger, "fox", "owner", none_so_far=True)
    with pytest.raises(LabelwiseError, match="the class fox was added meanwhile; look for it, too"):
        say(leases, "Ada", "background", knew=2)
    say(leases, "Ada", "object", (BOX, 0), knew=2)  # this object is a cat, whatever else there is
    with pytest.raises(LabelwiseError, match="fox was added"):
        say(leases, "Ada", "all", knew=2)
    say(leases, "Ada", "skipped", knew=2)
    assert len(ledger.labels(pool()).coverage.xyxy) == 0 and len(ledger.open_queries(1)) == 0


def test_of_answers_that_share_a_transaction_only_the_unaware_is_refused(ledger: Ledger) -> None:
    ledger.add_queries(1, [Query(1, k, "ab"[k % 2] + ".jpg", "image") for k in range(8)])
    leases = Leases(ledger)
    given = [leases.take(f"person {k}", f"tab-of-{k}", 0.0)[0] for k in range(8)]
    add_class(ledger, "fox", "owner", none_so_far=True)

    def one(k: int) -> str:
        answer = Answer(given[k].query.id or 0, "all", who=f"person {k}", classes=2 + k % 2)
        try:
            return str(leases.answer(answer, given[k].secret, price, 1.0).counts)
        except LabelwiseError as error:
            return str(error)[-12:]

    with ThreadPoolExecutor(8) as many:
        said = list(many.map(one, range(8)))
    assert said == ["answer again", "True"] * 4 and len(ledger.verdicts(1)) == 4


def test_nothing_holds_that_was_said_without_knowing_while_all_answer_at_once(ledger: Ledger) -> None:
    ledger.add_queries(1, [Query(1, k, "ab"[k % 2] + ".jpg", "image") for k in range(60)])
    leases, aware, stop = Leases(ledger), set[int](), threading.Event()

    def work(who: str) -> None:
        while not stop.is_set():
            for lease in leases.take(who, f"tab-of-{who}", 0.0):
                knew = len(ledger.classes())
                time.sleep(0.002)
                answer = Answer(lease.query.id or 0, "all", who=who, classes=knew)
                try:
                    leases.answer(answer, lease.secret, price, 1.0)
                except LabelwiseError:
                    leases.release(who, f"tab-of-{who}")
                    continue
                if knew == 3:
                    aware.add(lease.query.id or 0)

    people = [threading.Thread(target=work, args=(f"person {k}",)) for k in range(4)]
    for person in people:
        person.start()
    time.sleep(0.1)
    add_class(ledger, "fox", "owner", none_so_far=False)
    until = time.time() + 30
    while ledger.open_queries(1) and time.time() < until:
        time.sleep(0.02)
    stop.set()
    for person in people:
        person.join()
    assert len(ledger.verdicts(1)) == 60 and len(ledger.labels(pool()).coverage.xyxy) == len(aware)


def test_queries_that_were_skipped_for_the_class_are_asked_again(ledger: Ledger) -> None:
    ledger.add_queries(1, [Query(1, k, "a.jpg", "box", BOX, 0) for k in range(3)])
    leases = Leases(ledger)
    say(leases, "Ada", "skipped", note="missing class: Fox")
    say(leases, "Ada", "skipped", note="missing class: wolf")
    say(leases, "Bo", "skipped", note="the image is broken or missing")
    add_class(ledger, "fox", "owner", none_so_far=False)
    assert [query.rank for query in ledger.open_queries(1)] == [0]
    [lease] = Leases(ledger).take("Ada", "tab-of-Ada", 5.0)
    assert lease.query.rank == 0


def test_an_opinion_from_before_covers_nothing_when_it_comes_to_count(ledger: Ledger) -> None:
    ledger.add_queries(1, [Query(1, 0, "a.jpg", "image")])
    leases = Leases(ledger, overlap=2)
    say(leases, "Ada", "all", (BOX, 0))
    say(leases, "Bo", "all", (BOX, 1))
    add_class(ledger, "fox", "owner", none_so_far=False)
    leases.undo("Ada", "tab-of-Ada", 2.0)
    known = ledger.labels(pool())
    assert known.annotations.labels.tolist() == [1] and len(known.coverage.xyxy) == 0


@pytest.mark.parametrize(
    "name, said", [("", "cannot be a class"), (" fox", "cannot be a class"), ("f\nx", "cannot be a class"),
                   ("x" * 101, "cannot be a class"), ("labelwise_region", "cannot be a class"),
                   ("Cat", "there is a class 'cat' already; its number is 0")],
)  # fmt: skip
def test_a_name_that_is_none_or_is_there(ledger: Ledger, name: str, said: str) -> None:
    with pytest.raises(LabelwiseError, match=said):
        add_class(ledger, name, "owner", none_so_far=True)
    assert ledger.classes() == ("cat", "dog")


def test_the_list_stays_as_it_is_while_the_model_is_at_work(ledger: Ledger) -> None:
    for stage, state in (("ask", "done"), ("train", "started"), ("train", "done")):
        (ledger.mark_started(1, stage) if state == "started" else ledger.mark_done(1, stage, {}, 0.0))
        with pytest.raises(LabelwiseError, match=r"round 1 does not ask now \((done|train)\)"):
            add_class(ledger, "fox", "owner", none_so_far=True)
    ledger.mark_started(2, "ask")
    assert add_class(ledger, "fox", "owner", none_so_far=True) == 2


def test_a_ledger_of_before_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    old = Ledger.open(path, create=True)
    old.add_images(pool())
    with old.write() as connection:
        t.added_classes.drop(connection)
    old.close()
    new = Ledger.open(path)
    add_class(new, "fox", "owner", none_so_far=False)
    with pytest.raises(LabelwiseError, match="append-only"), new.write() as connection:
        connection.execute(sa.delete(t.added_classes))
    new.close()


# ------------------------------------------------------------------------------------------------------- the whole run


def test_a_run_goes_on_with_the_longer_list(site: Any) -> None:
    site.open("budget.per_round=[4, 4]", "query.unit=image", "train.warm_start=true")
    running = opening.start(site.context.project.folder, None)  # what `labelwise run` is: another process
    ledger, stop, done = running.project.ledger, threading.Event(), []
    ledger.add_images(running.pool)
    browser = site.browser("Ada", client=site.another_client())
    person = threading.Thread(target=answer_like_the_oracle, args=(site, browser, stop))
    run = threading.Thread(target=lambda: done.extend(loop.run(running)))
    owner = site.browser("me", "owner")
    run.start()
    until = time.time() + 60
    while not (ledger.stages() and ledger.stages()[-1]["stage"] == "ask") and time.time() < until:
        time.sleep(0.02)
    assert owner.post("/api/owner/classes", {"name": "fox"}).json() == {"number": 2}
    assert owner.get("/api/me").json()["classes"][2] == "fox" and owner.get("/api/progress").json()["classes"] == 3
    person.start()
    run.join(120)
    stop.set()
    person.join()
    assert done == [0, 1, 2] and running.pool.classes[2] == "fox"
    assert load_model(Round(running, 0)).n_classes == 3, "round 0 was trained on the longer list"
    assert ledger.labels(running.pool).annotations.labels.max() < 3


def test_a_model_of_fewer_classes_is_opened_as_it_is_and_continued(site: Any) -> None:
    opened = site.open("budget.per_round=[4, 4]", "query.unit=image", "train.warm_start=true", "ask.who=oracle")
    assert next(iter(loop.run(opened))) == 0
    with opened.project.lock():
        for name in ("predict", "score", "select"):
            loop.run_stage(opened, 1, name)
    opened.project.ledger.mark_started(1, "ask")
    opened.add_class("fox", "owner", none_so_far=False)
    assert load_model(Round(opened, 0)).n_classes == 2 and len(opened.pool.classes) == 3
    assert list(loop.run(opened)) == [1, 2]
    assert load_model(Round(opened, 1)).n_classes == 3
    metrics = labelwise.files.read_json(Round(opened, 2).folder.metrics)
    assert metrics == {} or metrics["per_class_ap50"]["fox"] is None


def test_only_layers_of_the_same_shape_are_taken_over() -> None:
    before, model = (torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, n)) for n in (2, 5))
    own = model[1].weight.detach().clone()
    start_from(model, before)
    assert torch.equal(model[0].weight, before[0].weight) and torch.equal(model[1].weight, own)


def test_predictions_of_before_have_no_share_for_the_new_class() -> None:
    probs = np.array([[0.25, 0.75]], np.float32)
    views = Views(("flip",), probs[None], np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))
    one = Detections(
        np.array([0, 1]), np.array([[0, 0, 9, 9]], np.float32), probs, probs.max(1), np.zeros((1, 0), np.float32), views
    )
    longer = one.of_classes(3)
    assert longer.probs.tolist() == [[0.25, 0.75, 0.0]] and longer.views is not None
    assert longer.views.probs.tolist() == [[[0.25, 0.75, 0.0]]] and one.of_classes(2) is one


def test_classification_keeps_what_was_said(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened, "image"))
    site.page.classifies = site.page.shown._classifies = True
    ada = site.browser()
    assert ada.say(ada.next()[0], "all", boxes=[[0, 0, 64, 48]], labels=[1]).status_code == 200
    opened.run = opened.run.model_copy(update={"model": opened.run.model.model_copy(update={"name": "classifier"})})
    assert opened.run.classifies
    opened.add_class("fox", "owner", none_so_far=False)
    assert len(opened.project.ledger.labels(opened.pool).coverage.xyxy) == 1


# ------------------------------------------------------------------------------------------- page, files, API, command


def test_the_owner_adds_a_class_on_the_page_and_nobody_else_does(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened), about(1, opened))
    ada: Browser = site.browser()
    first, second = ada.next(most=2)
    assert ada.post("/api/owner/classes", {"name": "fox"}).status_code == 403
    owner = site.browser("me", "owner", "window-2")
    for body, status in (({"name": "CAT"}, 409), ({"name": "x" * 201}, 422), ({"name": "fox", "more": 1}, 422)):
        assert owner.post("/api/owner/classes", body).status_code == status
    assert owner.post("/api/owner/classes", {"name": "fox"}, **{"x-csrf-token": "guess"}).status_code == 403
    assert owner.post("/api/owner/classes", {"name": "fox"}).json() == {"number": 2}
    late = ada.say(first, "background", classes=2)
    assert late.status_code == 409 and "fox was added meanwhile" in late.json()["error"]
    again = ada.say(first, "object", boxes=[first["box"]], labels=[2], classes=3)
    assert again.status_code == 200 and again.json()["progress"]["classes"] == 3
    assert ada.say(second, "background", classes=3).status_code == 200
    assert opened.project.ledger.labels(opened.pool).annotations.labels.tolist() == [2]


def test_a_name_that_was_missed_is_no_longer_listed_when_it_is_there(site: Any) -> None:
    opened = site.open("budget.per_round=[4, 4]")
    ask(opened, about(0, opened))
    ada = site.browser()
    assert ada.say(ada.next()[0], "skipped", note="missing class: fox").status_code == 200
    owner = site.browser("me", "owner", "window-2")
    assert owner.get("/api/owner/overview").json()["missing"] == [{"name": "fox", "answers": 1}]
    opened.project.ledger.mark_done(1, "ask", {}, 0.0)  # a query of an earlier round is not asked again
    opened.project.ledger.mark_started(2, "ask")
    assert owner.post("/api/owner/classes", {"name": "Fox"}).status_code == 200
    assert owner.get("/api/owner/overview").json()["missing"] == []


@pytest.mark.parametrize("tool", ["json", "label_studio"])
def test_a_file_that_was_sent_before_says_nothing_of_the_class(site: Any, tool: str) -> None:
    opened = site.open()
    ask(opened, about(0, opened), about(1, opened))
    queries = exchanges.open_queries(opened, 1)
    sent_file = "queries.json" if tool == "json" else "tasks.json"
    sent = json.loads(exchanges.query_files(opened, tool, queries)[sent_file])
    opened.add_class("fox", "owner", none_so_far=True)
    if tool == "json":
        rows = [{"reference": row["reference"], "verdict": "background", "objects": []} for row in sent["queries"]]
        rows[1] |= {"verdict": "object", "objects": [{"box": sent["queries"][1]["box"], "class": "cat"}]}
        content = labelwise.types.disk.to_json({"format": "labelwise-answers", "version": 1, "answers": rows})
        answers = content.encode()
    else:
        exported = [task | {"id": k, "annotations": [choice(k, task)]} for k, task in enumerate(sent, start=1)]
        answers = json.dumps(exported).encode()
    refused = exchanges.take_in(opened, answers, tool)
    assert refused.written == 0
    [problem] = refused.problems
    assert "was sent before the class fox was added: ask it anew" in problem.what
    taken = exchanges.take_in(opened, answers, tool, unfinished=True)
    assert taken.written == 1 and [query.rank for query in opened.project.ledger.open_queries(1)] == [0]
    assert json.loads(exchanges.query_files(opened, tool, queries)[sent_file]) != sent


def choice(number: int, task: dict[str, Any]) -> dict[str, Any]:
    """An annotation of Label Studio: the first task is rejected, the second accepted."""
    said = {"from_name": "verdict", "to_name": "image", "type": "choices", "id": f"v{number}"}
    boxes = task["predictions"][0]["result"] if number == 2 else []
    result = [*boxes, said | {"value": {"choices": ["reject" if number == 1 else "accept"]}}]
    return {"id": number, "result": result, "was_cancelled": False, "lead_time": 2.0, "completed_by": 1}


def test_engineers_add_one_in_python_and_the_command_does_too(site: Any) -> None:
    opened = site.open("ask.who=oracle")
    folder = opened.project.folder
    ask(opened, about(0, opened))
    said = CliRunner().invoke(cli.app, ["add-class", "fox", "--project", str(folder), "--none-so-far"])
    assert said.exit_code == 0 and "fox is class number 2" in said.output
    again = CliRunner().invoke(cli.app, ["add-class", "fox", "--project", str(folder)])
    assert again.exit_code != 0
    own = labelwise.open(folder)
    assert own.pool.classes[2] == "fox" and own.add_class("wolf") == 3
    own.answer(opened.project.ledger.open_queries(1)[0], boxes=[(2, 3, 30, 31)], labels=["wolf"])
    found = own.targets({"image": [own.images[1]], "boxes": [[1, 1, 9, 9]], "scores": [0.9], "labels": ["fox"]},
                        policy="hard")  # fmt: skip
    assert any(3 in target.labels for target in found)
    own.close()


def test_predictions_that_were_stored_before_still_give_targets(site: Any, tmp_path: Path) -> None:
    opened = site.open("ask.who=oracle")
    images = opened.pool.root / "images"
    own = labelwise.open(tmp_path / "own", images, ["cat", "dog"])
    rows = {"image": list(own.images), "boxes": [[1, 1, 9, 9]] * 6, "scores": [0.9] * 6, "labels": ["dog"] * 6}
    query = own.ask(rows, budget=2)[0]
    own.add_class("fox")
    own.answer(query, boxes=[(1, 1, 9, 9)], labels=["fox"])
    assert any(2 in target.labels for target in own.targets(policy="hard"))
    with pytest.raises(LabelwiseError, match=r"\(6, 2\); expected numbers \(6, 3\)"):
        own.targets({**rows, "probs": np.full((6, 2), 0.5)}, policy="hard")
    own.close()
    labelwise.open(tmp_path / "own", images, ["cat", "dog"]).close()
    labelwise.open(tmp_path / "own", images, ["cat", "dog", "fox"]).close()
    with pytest.raises(LabelwiseError, match="has the classes cat, dog, fox"):
        labelwise.open(tmp_path / "own", images, ["dog", "cat"])
