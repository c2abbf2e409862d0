"""Rounds that train and rank anew while they ask: what stays in the queue, what is kept, kills, several people."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_frozen_detector import detector as detector  # a fixture
from test_frozen_detector import settings_of
from test_head import COMMON
from test_leases import ledger as ledger  # a fixture
from test_leases import price, small_pool
from test_recipes_images import data_set
from test_web import Browser
from typer.testing import CliRunner

from labelwise import cli, files, loop, units
from labelwise.ask import oracle
from labelwise.cli import live_run
from labelwise.errors import LabelwiseError
from labelwise.files import read_table
from labelwise.files.round_files import STAGES
from labelwise.ledger import live_updates
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import Ledger
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.queue.leases import Leases
from labelwise.stages import label, predict, ranking, score, select, train
from labelwise.stages.live import Live
from labelwise.types import Answer, Query
from labelwise.web.predicted import Predicted

SEEN = Instant(1, 0, 0, 0, 0, 0, 0, 0, "")
ABOUT: dict[str, Any] = {"spent": {"queries": 0.0}, "seen": SEEN, "seconds": 0.1}
BOXES = ("query.unit=box", 'query.score="margin"', 'query.select="top"', "budget.unit=queries")


def queries(numbers: list[int]) -> list[Query]:
    """Box queries, each at a place of its own."""
    return [Query(1, k, "a.jpg", "box", (float(k), 1.0, k + 5.0, 6.0), 0) for k in numbers]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "answer", "undo", "release", "rank"]), st.integers(0, 10**6))))
def test_what_was_shown_stays_and_the_rest_gives_way(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(Ledger.open(Path(folder) / "l", create=True)) as ledger:
        ledger.add_images(small_pool())
        ledger.mark_started(1, "ask")
        ledger.add_queries(1, queries(list(range(6))))
        leases, held, shown = Leases(ledger), dict[int, Any](), set[int]()
        for step, seed in steps:
            rng = np.random.default_rng(seed)
            who = f"person {seed % 2}"
            if step == "take":
                for lease in leases.take(who, f"tab-of-{who[-1]}", 0.0, most=2):
                    held[lease.query.id or 0] = (who, lease)
                    shown.add(lease.query.id or 0)
            elif step == "answer" and held:
                asked, (person, lease) = held.popitem()
                leases.answer(Answer(asked, "background", who=person), lease.secret, price, 1.0)
            elif step == "undo":
                try:
                    lease = leases.undo(who, f"tab-of-{who[-1]}", 1.0)
                except LabelwiseError:
                    continue
                held[lease.query.id or 0] = (who, lease)
            elif step == "release":
                leases.release(who, f"tab-of-{who[-1]}")
                held = {asked: one for asked, one in held.items() if one[0] != who}
            else:
                before = live_updates.never_shown(ledger, 1)
                ranked = queries(rng.permutation(40)[:20].tolist())
                done = live_updates.replace_open(ledger, 1, ranked, ABOUT)
                after = ledger.queries(1)
                assert not before & {query.id for query in after} or not before
                new = [query for query in after if query.id not in shown]
                assert len(new) == min(len(before), sum(q.place not in done.places for q in ranked))
                assert [q.place for q in new] == [q.place for q in ranked if q.place not in done.places][: len(new)]
                assert done.last == max(query.rank for query in after)
            every = ledger.queries(1)
            assert shown <= {query.id for query in every}, "what somebody saw is there for a late answer"
            assert len({query.place for query in every}) == len(every), "nothing is asked twice"
            assert len({query.rank for query in every}) == len(every)


def test_the_queue_is_replaced_while_many_people_take_from_it(ledger: Ledger) -> None:
    """Two servers and the run, each with a ledger of its own: no lease goes with its query, nothing is asked twice."""
    ledger.add_queries(1, queries(list(range(24))))
    servers = [Leases(Ledger(ledger.engine, "")) for _ in range(2)]
    given, errors, done = list[int](), list[Exception](), threading.Event()

    def work(who: int) -> None:
        leases, said = servers[who % 2], 0
        try:
            while said < 20:
                for lease in leases.take(f"person {who}", f"tab-of-{who:04d}", time.time(), most=min(2, 20 - said)):
                    given.append(lease.query.id or 0)
                    word = Answer(lease.query.id or 0, "background", who=f"person {who}")
                    said += leases.answer(word, lease.secret, price, time.time()).counts
        except Exception as error:
            errors.append(error)

    def rank() -> None:
        rng, own = np.random.default_rng(0), Ledger(ledger.engine, "")
        try:
            while not done.is_set():
                numbers = rng.permutation(900)[:50].tolist()
                boxes = [(float(k // 30), float(k % 30), 60.0, 40.0) for k in numbers]
                ranked = [Query(1, k, "ab"[k % 2] + ".jpg", "box", box, 0) for k, box in enumerate(boxes)]
                result = live_updates.replace_open(own, 1, ranked, ABOUT)
                more = 24 - len(live_updates.never_shown(own, 1))
                left = [one for one in ranked[result.used :] if one.place not in result.places][:more]
                own.add_queries(1, [replace(one, rank=result.last + 1 + k) for k, one in enumerate(left)])
        except Exception as error:
            errors.append(error)

    people = [threading.Thread(target=work, args=(who,)) for who in range(6)]
    ranker = threading.Thread(target=rank)
    for thread in (ranker, *people):
        thread.start()
    for thread in people:
        thread.join()
    done.set()
    ranker.join()
    assert errors == []
    with ledger.read() as connection:
        kept = list(connection.exec_driver_sql("SELECT query_id FROM leases").scalars())
        answered = list(connection.exec_driver_sql("SELECT query_id FROM answers").scalars())
    assert sorted(kept) == sorted(given) and len(set(answered)) == len(answered) == 120
    places = [query.place for query in ledger.queries(1)]
    assert len(set(places)) == len(places)


def project(folder: Path, detector: Path, *more: str) -> Context:
    return opening.start(folder, "scenes", settings_of(detector, 'model={name="frozen"}', *BOXES, *more))


def test_a_round_is_ranked_anew_after_every_few_answers_and_can_be_replayed(tmp_path: Path, detector: Path) -> None:
    opened = project(tmp_path / "p", detector, "ask.live_answers=4", "budget.per_round=[14]")
    assert list(loop.run(opened)) == [0, 1]
    ledger = opened.project.ledger
    asked = ledger.queries(1)
    assert ledger.cost_by_round()[1].queries == 14 == len(asked)
    assert [query.rank for query in asked] == list(range(14)) and len({query.place for query in asked}) == 14
    updates = live_updates.every(ledger)
    assert [(one.round, one.first_rank) for one in updates] == [(0, None), (1, 4), (1, 8), (1, 12)]
    assert [one.spent["queries"] for one in updates] == [4, 10, 14, 18]
    assert all(one.quality is not None and 0 <= one.quality <= 1 and one.seconds > 0 for one in updates)
    assert not list((tmp_path / "p" / "rounds").glob("*/live-*")), "the folders are of the asking alone"
    first = read_table(Round(opened, 1).folder.picks)
    assert [opened.pool.names[k] for k in first["image"][:4]] == [query.image for query in asked[:4]]
    changed = False
    for one, stop in zip(updates[1:], (8, 12, 14), strict=True):
        view = Round(opened.at(one.seen, opened.run), 1, live=tmp_path / "replay")
        files.write_targets(view.folder.targets, label.targets(view, Round(opened, 1).detections()))
        train.train(view)
        for stage in (predict.predict, score.score, select.select):
            stage(view)
        before = {query.place for query in asked if query.rank < (one.first_rank or 0)}
        again = ranking.next_queries(view, 0, stop - (one.first_rank or 0), {}, before)
        mine = [query for query in asked if (one.first_rank or 0) <= query.rank < stop]
        assert [(q.place, q.label, q.score) for q in again] == [(q.place, q.label, q.score) for q in mine]
        old = {opened.pool.names[k] for k in first["image"][: len(mine)]}
        changed |= {query.image for query in mine} != old
    assert changed, "the answers have changed what is asked"


def answer(context: Context, leases: Leases, who: str, stop: threading.Event) -> None:
    """Answers what is open as the oracle would, until it is told to stop."""
    truth, pool = context.pool.truth, context.pool
    assert truth is not None
    nothing = np.zeros(len(truth), bool)
    while not stop.is_set():
        for lease in leases.take(who, f"tab-of-{who}", time.time(), most=2):
            said = oracle.answer(lease.query, truth, pool.number_of[lease.query.image], nothing)
            leases.answer(replace(said, who=who, seconds=0.1), lease.secret, price, time.time())
            time.sleep(0.02)
        time.sleep(0.02)


def kept(ledger: Ledger) -> tuple[list[int], int]:
    """Of round 1: the ranks that were answered, and how many answers there are of a query at most."""
    with ledger.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT q.rank, count(*) FROM answers a JOIN queries q ON q.id = a.query_id WHERE q.round = 1 "
            "GROUP BY q.id ORDER BY q.rank"
        ).all()
    return [row[0] for row in rows], max((row[1] for row in rows), default=0)


@pytest.fixture
def people(tmp_path: Path, detector: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two people who answer a live project, each with a connection of their own."""
    opened = project(tmp_path / "p", detector, "ask.live_answers=3", "budget.per_round=[20]", "ask.who=people")
    monkeypatch.setattr(live_run, "NICE", 0)  # or it may wait for ever on a machine that runs more tests
    stop, leases = threading.Event(), Leases(opened.project.ledger)
    opened.enter()
    threads = [threading.Thread(target=answer, args=(opened, leases, who, stop)) for who in ("Ada", "Bo")]

    class People:
        context = opened

        def begin(self) -> None:
            for thread in threads:
                thread.start()

    yield People()
    stop.set()
    for thread in threads:
        if thread.ident:
            thread.join()
    opened.project.close()


def test_two_people_answer_while_it_learns(people: Any) -> None:
    opened = people.context
    ledger = opened.project.ledger
    people.begin()
    assert list(loop.run(opened)) == [0, 1]
    ranks, most = kept(ledger)
    assert len(ranks) == 20 and most == 1 and ledger.cost_by_round()[1].queries == 20
    updates = [one for one in live_updates.every(ledger) if one.round == 1]
    assert updates and all(one.first_rank for one in updates)
    assert {one.who for one in _answers(ledger)} == {"Ada", "Bo"}


def _answers(ledger: Ledger) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.exec_driver_sql("SELECT who FROM answers").all())


def test_a_run_that_was_killed_in_an_update_goes_on(
    tmp_path: Path, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = project(tmp_path / "p", detector, "ask.live_answers=3", "budget.per_round=[20]")
    done: list[int] = []
    for stage, name in ((train, "train"), (select, "select"), (live_updates, "replace_open")):
        true = getattr(stage, name)

        def dies(*given: Any, true: Any = true) -> Any:
            found = true(*given)
            if live_updates.said(opened.project.ledger, 1) > 3 * len(done):
                done.append(1)
                raise KeyboardInterrupt
            return found

        with monkeypatch.context() as patch:
            patch.setattr(stage, name, dies)
            with pytest.raises(KeyboardInterrupt):
                list(loop.run(opened))
    assert list(loop.run(opened)) == [1]
    ranks, most = kept(opened.project.ledger)
    assert len(ranks) == 20 and most == 1, "what was answered before the kill counts"
    places = [query.place for query in opened.project.ledger.queries(1)]
    assert len(set(places)) == len(places)


def test_the_process_beside_the_page_is_started_again_and_ends_with_it(people: Any) -> None:
    opened = people.context
    ledger = opened.project.ledger
    with live_run.beside(opened.project.folder) as run:
        people.begin()
        wait(lambda: live_updates.said(ledger, 0) >= 6)
        wait(lambda: live_updates.said(ledger, 1) >= 1)
        before = run.process.pid
        os.kill(before, signal.SIGKILL)
        wait(lambda: run.process.pid != before)
        wait(lambda: (ledger.stage_done(1, "evaluate") or {}).get("wall_s") is not None)
    assert not run.running
    assert len(kept(ledger)[0]) == 20
    with opened.project.lock():
        pass


def test_the_process_ends_when_the_server_is_killed(people: Any) -> None:
    with live_run.beside(people.context.project.folder) as run:
        wait(lambda: people.context.project.ledger.open_queries(0))
        run.stop_watching()
        assert run.process.stdin is not None
        run.process.stdin.close()  # what the system does for a process that is killed
        wait(lambda: not run.running)
    with people.context.project.lock():
        pass


def wait(what: Any) -> None:
    until = time.time() + 120
    while not what():
        assert time.time() < until
        time.sleep(0.05)


def test_a_model_that_takes_minutes_is_refused(tmp_path: Path, detector: Path) -> None:
    with pytest.raises(LabelwiseError, match=r'retinanet takes minutes.*"frozen" or "head".*without ask.live_answers'):
        project(tmp_path / "p", detector, 'model={name="retinanet", weights="none"}', "ask.live_answers=5")
    slow = opening.start(tmp_path / "q", "demo", ["data.scenes={train=3, test=1, seed=3, size_px=64}"])
    before = slow.project.config_path.read_text()
    slow.project.close()
    said = CliRunner().invoke(cli.app, ["serve", "--project", str(tmp_path / "q"), "--live"])
    assert said.exit_code and isinstance(said.exception, LabelwiseError) and "takes minutes" in str(said.exception)
    assert (tmp_path / "q" / "run.toml").read_text() == before


def test_a_project_that_is_run_already_is_refused(people: Any) -> None:
    opened = people.context
    with opened.project.lock():
        said = CliRunner().invoke(cli.app, ["serve", "--project", str(opened.project.folder), "--live"])
    assert said.exit_code and "is in use by" in str(said.exception)


def test_a_round_that_is_not_live_asks_its_ranking_in_order(tmp_path: Path, detector: Path) -> None:
    opened = project(tmp_path / "p", detector, "budget.per_round=[9]")
    assert list(loop.run(opened)) == [0, 1]
    assert live_updates.every(opened.project.ledger) == []
    assert not Live(Round(opened, 1), patient=True).due()


def test_a_class_that_was_added_meanwhile_is_learnt(tmp_path: Path, detector: Path) -> None:
    opened = project(tmp_path / "p", detector, "ask.live_answers=3", "budget.per_round=[8]")
    for name in (*STAGES, "predict", "score", "select"):
        loop.run_next(opened, name)
    opened.project.ledger.mark_started(1, "ask")
    live = Live(Round(opened, 1), patient=False)
    live.add(live.next_queries(4, {}))
    number = opened.add_class("comet", "owner", none_so_far=True)
    [query, *_] = opened.project.ledger.open_queries(1)
    said = Answer(query.id or 0, "object", [query.box or (0, 0, 1, 1)], [number])
    opened.project.ledger.record(query, said, price(query, said), "oracle")
    live.update()
    assert len(opened.pool.classes) == number + 1 == Round(opened, 1).known.annotations.labels.max() + 1
    assert units.find("box").CLASS and len(opened.project.ledger.open_queries(1)) == 3


@pytest.mark.parametrize("method", ["entropy_image", "badge", "coreset_image", "vaal", "ensemble", "teacher_entropy"])
def test_heads_of_every_kind_of_method_learn_within_a_round(tmp_path: Path, method: str) -> None:
    places = [f'data.root="{data_set(tmp_path / "d").as_posix()}"', "ask.live_answers=3", "budget.per_round=[8]"]
    opened = opening.start(tmp_path / "p", method, [*COMMON, *places])
    assert list(loop.run(opened)) == [0, 1]
    ledger = opened.project.ledger
    assert ledger.cost_by_round()[1].images == 8 == len({query.image for query in ledger.queries(1)})
    updates = [one for one in live_updates.every(ledger) if one.round == 1]
    assert [one.first_rank for one in updates] == [3, 6] and all(one.quality is not None for one in updates)
    with pytest.raises(LabelwiseError, match="head takes minutes"):
        opening.start(tmp_path / "p", None, ["model.kind=linear"])


def test_the_page_shows_what_the_newest_model_finds(tmp_path: Path, detector: Path) -> None:
    images = ("query.unit=image", 'query.score="margin"', 'query.select="top"', "budget.unit=images")
    own = ['model={name="frozen"}', *images, "ask.live_answers=2", "budget.per_round=[6]"]
    opened = opening.start(tmp_path / "p", "scenes", settings_of(detector, *own))
    for name in (*STAGES, "predict", "score", "select"):
        loop.run_next(opened, name)
    opened.project.ledger.mark_started(1, "ask")
    live, predicted = Live(Round(opened, 1), patient=False), Predicted(opened)
    live.add(live.next_queries(4, {}))
    first, *_, last = opened.project.ledger.open_queries(1)
    number = opened.pool.number_of
    before = predicted.boxes(last, number[last.image])
    there = [box for box, _, _ in predicted.boxes(first, number[first.image])]
    said = Answer(first.id or 0, "all", there, [2] * len(there))
    opened.project.ledger.record(first, said, price(first, said), "oracle")
    live.update()
    after = predicted.boxes(last, number[last.image])
    newest = Round(opened, 1, live=Round(opened, 1).folder.live(1)).detections()
    here = slice(*newest.offsets[number[last.image] : number[last.image] + 2])
    assert sorted(one[2] for one in after) == sorted(newest.scores[here].astype(float).round(3).tolist())
    assert before and {label for _, label, _ in before} != {label for _, label, _ in after}


def test_the_owner_sees_every_update(people: Any) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    server = pytest.importorskip("labelwise.web.server")
    opened = people.context
    people.begin()
    assert list(loop.run(opened)) == [0, 1]
    page = server.Page(opened)
    client = testclient.TestClient(server.create(page), base_url="http://127.0.0.1:8765")
    owner, ada = (
        Browser(client, page.people.invite(name, role, time.time()))
        for name, role in (("me", "owner"), ("Ada", "annotator"))
    )
    found = owner.get("/api/live").json()
    assert found["every"] == 3 and found["metric"] == "AP50" and found["updates"]
    answers = [one["answers"] for one in found["updates"]]
    assert answers == sorted(answers) and answers[0] > 0 and answers[-1] <= 26
    assert all(0 <= one["quality"] <= 1 and one["seconds"] > 0 for one in found["updates"])
    assert ada.get("/api/live").status_code == 403
