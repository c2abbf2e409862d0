"""The labelling page: people in the store, the door of the server, a round with people."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_leases import ledger as ledger  # a fixture
from typer.testing import CliRunner

from labelwise import cli, loop
from labelwise.ask import budget, oracle
from labelwise.ledger import image_files
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.progress import spent_and_open
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.queue.accounts import SESSION_S, Accounts
from labelwise.queue.leases import Leases
from labelwise.study import history
from labelwise.types import Cost, LabelwiseError, Query

NASTY = "<img src=x onerror=alert(1)>"


# ------------------------------------------------------------------------------------------------------------ people


def test_a_ledger_of_before_gets_the_new_tables(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    old = Ledger.open(path, create=True)
    with old.write() as connection:
        for name in ("withdrawn", "leases", "passwords", "sessions", "people"):
            connection.exec_driver_sql(f"DROP TABLE {name}")
    old.close()
    opened = Ledger.open(path)
    assert Leases(opened).round() is None and Accounts(opened).everyone() == []
    with opened.read() as connection:
        triggers = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
    assert {"withdrawn_no_update", "withdrawn_no_delete"} <= set(triggers)
    opened.close()


def test_invitations_sessions_and_their_end(ledger: Ledger) -> None:
    people = Accounts(ledger)
    secret = people.invite("Ada", "annotator", 0.0)
    assert people.enter("wrong", 0.0) is None
    entered = people.enter(secret, 0.0)
    assert entered is not None
    token, ada = entered
    assert (ada.name, ada.role) == ("Ada", "annotator") and people.session(token, 1.0) == ada
    second = people.enter(secret, 1.0, old=token)
    assert second is not None and second[0] != token
    assert people.session(token, 2.0) is None, "the session of before ends at a login"
    assert people.session(second[0], 1.0 + SESSION_S) is None, "a session ends by itself"
    people.revoke("Ada")
    assert people.session(second[0], 2.0) is None and people.enter(secret, 2.0) is None
    for name in ("", " Ada", "a\nb", "oracle", "x" * 61):
        with pytest.raises(LabelwiseError, match="cannot be a person's name"):
            people.invite(name, "annotator", 0.0)
    with pytest.raises(LabelwiseError, match="known as annotator"):
        people.invite("Ada", "owner", 0.0)
    with ledger.read() as connection:
        stored = [str(tuple(row)) for row in connection.exec_driver_sql("SELECT * FROM people")]
    assert secret not in "".join(stored)


def test_how_many_questions_may_be_open() -> None:
    assert budget.room(5, 2, 1) == 3
    assert budget.room(0, 0, None) == 0
    assert budget.room(7, 0, None) == 1 and budget.room(7, 1, None) == 0
    assert budget.room(7, 1, 2.0) == 2
    assert budget.room(1.0, 0, 30.0) == 1, "the last question may cost more than is left"
    assert budget.room(1e6, 0, 1) == budget.MOST_OPEN
    with pytest.raises(LabelwiseError, match="nan left"):
        budget.room(float("nan"), 0, None)


# ------------------------------------------------------------------------------------------- the server, by its routes


def project(
    folder: Path, *settings: str, images: int = 6, size: tuple[int, int] = (64, 48), bare: bool = False
) -> Context:
    """A project that people answer, on a small data set; nothing is asked yet."""
    root = folder / "data"
    (root / "images").mkdir(parents=True)
    records: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for i in range(images):
        rng = np.random.default_rng(i)
        name = f"{i:02d}.png"
        pixels = rng.integers(0, 60, (*size[::-1], 3), dtype=np.uint8)
        records.append({"id": i, "file_name": name, "width": size[0], "height": size[1]})
        for _ in range(2):
            x, y, w, h = (
                int(v) for v in (rng.integers(0, 20), rng.integers(0, 20), rng.integers(8, 20), rng.integers(8, 20))
            )
            pixels[y : y + h, x : x + w] = rng.integers(80, 255, 3)
            box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            boxes.append({"id": len(boxes), "image_id": i, "category_id": int(rng.integers(2)), **box})
        Image.fromarray(pixels).save(root / "images" / name)
    classes = [{"id": 0, "name": "cat"}, {"id": 1, "name": NASTY}]
    if not bare:
        table = {"images": records, "annotations": boxes, "categories": classes}
        (root / "annotations.json").write_text(json.dumps(table))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f'model = "fakes.detector"\nname = "small"\n[data]\nroot = "{root.as_posix()}"\nimage_size_px = 48\n'
        '[train]\nepochs = 1\n[predict]\nviews = ["flip"]\n[query]\nthreshold = 0.05\n[budget]\nstart_images = 2\n'
        'per_round = [4]\n[ask]\nwho = "people"\npoll_s = 0.02\n'
    )
    return opening.start(folder / "project", str(recipe), list(settings))


def ask(opened: Context, *queries: Query) -> None:
    opened.project.ledger.add_images(opened.pool)
    opened.project.ledger.mark_started(queries[0].round, "ask")
    opened.project.ledger.add_queries(queries[0].round, queries)


def about(rank: int, opened: Context, unit: Any = "box") -> Query:
    box = None if unit == "image" else (2.0 + rank, 3.0, 30.0, 31.0)
    name = opened.pool.names[rank % len(opened.pool)]
    return Query(1, rank, name, unit, box, 1 if unit == "box" else None, 0.5 - rank / 100, {"entropy": 0.25})


class Browser:
    """One window of one person."""

    def __init__(self, client: Any, secret: str, tab: str = "window-1") -> None:
        self.client, self.tab = client, tab
        self.client.cookies.clear()
        reply = client.post("/api/enter", json={"secret": secret})
        assert reply.status_code == 200, reply.text
        self.cookies = dict(client.cookies)
        self.me = self.get("/api/me").json()

    def get(self, path: str) -> Any:
        return self._with(lambda: self.client.get(path))

    def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        sent = {"x-csrf-token": self.me["csrf"], **headers}
        return self._with(
            lambda: self.client.post(path, json={"tab": self.tab} if body is None else body, headers=sent)
        )

    def _with(self, call: Any) -> Any:
        self.client.cookies.clear()
        self.client.cookies.update(getattr(self, "cookies", {}))
        return call()

    def next(self, most: int = 1, holding: tuple[int, ...] = ()) -> list[dict[str, Any]]:
        reply = self.post("/api/next", {"tab": self.tab, "holding": list(holding), "most": most})
        assert reply.status_code == 200, reply.text
        return list(reply.json()["queries"])

    def say(self, query: dict[str, Any], verdict: str, **more: Any) -> Any:
        body = {"tab": self.tab, "most": 0, "query": query["query"], "lease": query["lease"], "verdict": verdict}
        return self.post("/api/answers", body | more)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    testclient = pytest.importorskip("starlette.testclient")
    pytest.importorskip("httpx2")
    server = pytest.importorskip("labelwise.web.server")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    class Site:
        """A project with its server; `ada` and `bo` are annotators."""

        def open(self, *settings: str, **how: Any) -> Context:
            self.context = project(tmp_path, *settings, **how)
            self.page = server.Page(self.context)
            self.app = server.create(self.page)
            self.client = self.another_client()
            return self.context

        def another_client(self) -> Any:
            """A client of its own, for a thread of its own."""
            return testclient.TestClient(self.app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False)

        def browser(
            self, name: str = "Ada", role: Any = "annotator", tab: str = "window-1", client: Any = None
        ) -> Browser:
            return Browser(client or self.client, self.page.people.invite(name, role, time.time()), tab)

    made = Site()
    yield made
    made.context.project.close()


def test_every_verdict_goes_into_the_ledger_as_it_was_given(site: Any) -> None:
    opened = site.open()
    ask(opened, *(about(k, opened) for k in range(4)), about(4, opened, "image"), about(5, opened, "region"))
    ada, ledger = site.browser(), opened.project.ledger
    assert ada.me["classes"] == ["cat", NASTY] and ada.me["kind"] == "box"
    taken = ada.next(most=6)
    assert [query["rank"] for query in taken] == [0, 1, 2, 3, 4, 5]
    assert taken[0]["box"] == [2, 3, 30, 31] and taken[0]["reason"] == {"entropy": 0.25} and taken[0]["label"] == 1
    time.sleep(0.05)
    assert ada.say(taken[0], "object", boxes=[[2.5, 3, 30, 31]], labels=[0], seconds=0.03).json()["counts"]
    ada.say(taken[1], "background")
    ada.say(taken[2], "duplicate")
    ada.say(taken[3], "skipped", note="too dark")
    ada.say(taken[4], "all", boxes=[[0, 0, 8, 8], [1, 1, 9, 9]], labels=[0, 1])
    reply = ada.say(taken[5], "all", boxes=[[8, 4, 20, 20]], labels=[1]).json()
    assert reply["progress"]["mine"] >= 5 and reply["progress"]["state"] == "open"
    verdicts = [ledger.verdicts(1)[query["query"]] for query in taken]
    assert verdicts == ["object", "background", "duplicate", "skipped", "all", "all"]
    labels = ledger.labels(opened.pool)
    assert np.diff(labels.annotations.offsets).tolist() == [1, 0, 0, 0, 2, 1]
    assert np.diff(labels.coverage.offsets).tolist() == [0, 0, 0, 0, 1, 1]
    assert np.diff(labels.background.offsets).tolist() == [0, 1, 0, 0, 0, 0]
    with ledger.read() as connection:
        rows = connection.exec_driver_sql("SELECT who, seconds, note FROM answers ORDER BY id").all()
        origins = connection.exec_driver_sql("SELECT DISTINCT origin FROM annotations").scalars().all()
    assert {row[0] for row in rows} == {"Ada"} and rows[0][1] == 0.03 and rows[3][2] == "too dark"
    assert origins == ["person Ada"]
    assert ledger.cost().seconds == pytest.approx(0.03 + 2 + 2 + 2 + (7.8 + 14) + (7.8 + 7)), "else from the table"


def test_undo_over_the_page_and_what_is_shown_of_an_image(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened), about(6, opened))
    ada = site.browser()
    [first] = ada.next()
    ada.say(first, "object", boxes=[[2, 3, 20, 21]], labels=[0])
    [second] = ada.next()
    assert second["boxes"] == [{"box": [2, 3, 20, 21], "label": 0}], "the same image: its objects are shown"
    back = ada.post("/api/undo").json()["query"]
    assert back["query"] == first["query"] and back["lease"] != first["lease"]
    said = {"verdict": "object", "boxes": [[2, 3, 20, 21]], "labels": [0], "note": ""}
    assert back["before"] == said | {"suggested": []}
    assert ada.say(back, "background").json()["counts"]
    assert opened.project.ledger.verdicts(1) == {first["query"]: "background"}
    ada.post("/api/undo")
    assert ada.post("/api/undo").status_code == 409


def test_a_second_and_different_answer_is_told(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened, "region"))
    ada = site.browser()
    [query] = ada.next()
    boxes = [[2, 3, 20, 20], [1, 3, 21, 23]]  # the second sticks out of the region and is cut
    first = ada.say(query, "all", boxes=boxes, labels=[0, 1]).json()
    again = ada.say(query, "all", boxes=boxes, labels=[0, 1], seconds=7.5)
    assert again.status_code == 200 and again.json()["repeated"] and again.json()["answer"] == first["answer"]
    assert again.json()["told"] == first["told"] == ["box 2 was cut to the region"]
    for change in (
        {"boxes": boxes[:1], "labels": [0]},
        {"boxes": boxes, "labels": [1, 1]},
        {"boxes": [], "labels": []},
    ):
        reply = ada.say(query, "all", **change)
        assert reply.status_code == 409 and reply.json()["stands"] is True, reply.text
        assert "and that stands" in reply.json()["error"]
    refused = ada.say(query, "all", boxes=boxes, labels=[0, 9], seconds=1)
    assert refused.status_code == 409
    kept = opened.project.ledger.labels(opened.pool).annotations
    assert kept.labels.tolist() == [0, 1] and opened.project.ledger.cost().queries == 1


def test_classification_takes_one_class_and_a_region_its_own_boxes(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened, "region"))
    ada = site.browser()
    [query] = ada.next()
    boxes = [[2, 3, 20, 20], [1, 3, 21, 23], [0, 3, 5, 20], [2, 3, 30.01, 31]]
    said = ada.say(query, "all", boxes=boxes, labels=[0, 1, 0, 1]).json()
    assert said["told"] == [
        "box 2 was cut to the region",
        "box 3 was left out: no more than 70% of it lies in the region",
    ]
    kept = opened.project.ledger.labels(opened.pool).annotations
    assert kept.xyxy.tolist() == [[2, 3, 20, 20], [2, 3, 21, 23], [2, 3, 30, 31]] and kept.labels.tolist() == [0, 1, 1]
    assert opened.project.ledger.open_queries(1) == []


@pytest.mark.parametrize(
    "change",
    [
        {"boxes": [[0, 0, 9, 900]], "labels": [0]},
        {"boxes": [[0, 0, 9, 9]], "labels": [7]},
        {"boxes": [[0, 0, 9, 9]], "labels": []},
        {"boxes": [[9, 9, 0, 0]], "labels": [0]},
        {"boxes": [[0, 0, 9]], "labels": [0]},
        {"boxes": [[0, 0, 9, 1e999]], "labels": [0]},
        {"boxes": [[0, 0, 9, "x"]], "labels": [0]},
        {"boxes": [[0, 0, 9, 9]] * 2001, "labels": [0] * 2001},
        {"boxes": [[0, 0, 9, 9]], "labels": [0], "seconds": -1},
        {"boxes": [[0, 0, 9, 9]], "labels": [0], "who": "Bo"},
        {"boxes": [[0, 0, 9, 9]], "labels": [0], "classes": 3},
        {"boxes": [[0, 0, 9, 9]], "labels": [0], "classes": 2**31 - 1},
        {"boxes": [[0, 0, 9, 9]], "labels": [0], "classes": -1},
        {"verdict": "maybe"},
        {"verdict": "all"},
        {"query": 10**30},
        {"tab": "../../etc"},
        {"note": "x" * 501},
    ],
)
def test_an_answer_that_makes_no_sense_is_refused_with_a_reason(site: Any, change: dict[str, Any]) -> None:
    opened = site.open()
    ask(opened, about(0, opened))
    ada = site.browser()
    [query] = ada.next()
    body = {"tab": ada.tab, "query": query["query"], "lease": query["lease"], "verdict": "object"} | change
    sent = json.dumps(body).replace("Infinity", "1e999")
    headers = {"x-csrf-token": ada.me["csrf"], "content-type": "application/json"}
    reply = ada._with(lambda: site.client.post("/api/answers", content=sent, headers=headers))
    assert reply.status_code in (409, 422) and reply.json()["error"] and "Traceback" not in reply.text
    assert str(opened.project.folder) not in reply.text
    assert opened.project.ledger.cost() == Cost(), "nothing of it was stored"


# ---------------------------------------------------------------------------------------------------------- security


def test_nobody_comes_in_without_an_invitation(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened))
    for path in ("/api/me", "/api/progress", "/api/images/0/320", "/api/owner/overview"):
        assert site.client.get(path).status_code == 401
    for path in ("next", "answers", "undo", "heartbeat", "release", "leave", "owner/invite", "owner/revoke"):
        assert site.client.post(f"/api/{path}", json={"tab": "window-1"}).status_code == 401
    for path in ("/openapi.json", "/docs", "/api", "/static/", "/static/server.py"):
        assert site.client.get(path).status_code == 404


def test_a_change_needs_the_csrf_token_of_the_very_session(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened))
    ada, bo = site.browser("Ada"), site.browser("Bo")
    for wrong in ("", "guess", bo.me["csrf"], "ü"):
        headers = {b"x-csrf-token": wrong.encode(), b"content-type": b"application/json"}
        reply = ada._with(lambda h=headers: site.client.post("/api/next", content=b'{"tab": "window-1"}', headers=h))
        assert reply.status_code == 403 and "CSRF" in reply.json()["error"]
    assert ada.next() != []


def test_the_cookie_is_out_of_reach_and_new_at_every_login(site: Any) -> None:
    site.open()
    secret = site.page.people.invite("Ada", "annotator", time.time())
    name = site.page.access.cookie
    planted = {name: "planted-by-somebody-else"}
    site.client.cookies.update(planted)
    first = site.client.post("/api/enter", json={"secret": secret})
    flags = first.headers["set-cookie"].lower()
    assert "httponly" in flags and "samesite=strict" in flags and "path=/" in flags
    token = first.cookies[name]
    assert token != planted[name] and secret not in first.text
    assert site.client.post("/api/enter", json={"secret": "wrong"}).status_code == 401
    assert site.client.get("/api/me").status_code == 200, "a link that does not work logs nobody out"
    again = site.client.post("/api/enter", json={"secret": secret})
    assert again.cookies[name] != token
    site.client.cookies.clear()
    site.client.cookies.update({name: token})
    assert site.client.get("/api/me").status_code == 401, "the session of before the login is over"
    site.client.cookies.clear()
    site.client.cookies.update(planted)
    assert site.client.get("/api/me").status_code == 401, "a planted cookie never becomes a session"


def test_an_annotator_is_no_owner(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened))
    ada, owner = site.browser("Ada"), site.browser("me", "owner")
    assert ada.get("/api/owner/overview").status_code == 403
    assert ada.post("/api/owner/invite", {"name": "Eve"}).status_code == 403
    assert ada.post("/api/owner/revoke", {"name": "me"}).status_code == 403
    made = owner.post("/api/owner/invite", {"name": "Bo"}).json()
    assert made["link"].startswith("/enter#")
    bo = Browser(site.client, made["link"].split("#")[1])
    bo.say(bo.next()[0], "background")
    found = owner.get("/api/owner/overview").json()
    assert [person["name"] for person in found["people"]] == ["Ada", "Bo", "me"]
    assert found["work"] == [
        {"who": "Bo", "unit": "box", "verdict": "background", "answers": 1, "counting": 1, "seconds": 2.0}
    ]
    assert owner.post("/api/owner/revoke", {"name": "Bo"}).status_code == 200
    assert bo.get("/api/me").status_code == 401
    assert owner.post("/api/owner/revoke", {"name": "me"}).status_code == 409
    assert owner.post("/api/owner/revoke", {"name": "nobody"}).status_code == 409


def test_one_persons_lease_is_no_use_to_another(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened), about(1, opened))
    ada, bo = site.browser("Ada"), site.browser("Bo")
    [hers], [his] = ada.next(), bo.next()
    assert hers["query"] != his["query"]
    assert bo.say(hers, "background").status_code == 403
    assert bo.say({**his, "lease": "guessed"}, "background").status_code == 403
    assert bo.say({**his, "query": 999}, "background").status_code == 403
    assert opened.project.ledger.cost() == Cost()


def test_images_are_given_by_number_and_nothing_else_is(site: Any) -> None:
    opened = site.open()
    ada = site.browser()
    reply = ada.get("/api/images/0/320")
    assert (
        reply.status_code == 200 and reply.headers["content-type"] == "image/jpeg" and reply.content[:2] == b"\xff\xd8"
    )
    for path in (
        "/api/images/6/320",
        "/api/images/-1/320",
        "/api/images/0/321",
        "/api/images/..%2f..%2frun.toml/320",
        "/api/images/%2e%2e/320",
        "/static/..%2f..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static/....//server.py",
        "/../run.toml",
    ):
        reply = ada.get(path)
        assert reply.status_code in (404, 422), path
        assert b"fakes.detector" not in reply.content and b"FastAPI" not in reply.content
    opened.pool.path(1).unlink()
    assert ada.get("/api/images/1/320").status_code == 410, "an image that was deleted after it was asked about"


def test_an_image_that_vanished_is_passed_over_and_comes_back(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = site.open()
    ask(opened, *(about(k, opened) for k in range(3)))
    ada, bo = site.browser(), site.browser("Bo", tab="window-2")
    [held] = ada.next()
    path = opened.pool.path(0)
    aside = path.rename(path.with_suffix(".aside"))
    reply = ada.get(f"/api/images/{held['image']['number']}/1280")
    assert reply.status_code == 410 and "passed over" in reply.json()["error"]
    assert "gone" in [state.why for state in image_files.unavailable(opened.project.ledger).values()]
    assert [query["rank"] for query in ada.next(2)] == [1, 2], "the window is not given it again, nor is anybody"
    assert [query["rank"] for query in bo.next(3)] == []
    spent, still_open, _ = spent_and_open(opened.project.ledger, 1, "boxes")
    assert (spent, still_open) == (0, 2), "a round does not wait for it"
    aside.rename(path)
    monkeypatch.setattr(site.page.shown, "looked", float("-inf"))
    monkeypatch.setattr(site.page, "_counted_until", 0.0)
    ada.get("/api/progress")
    assert image_files.unavailable(opened.project.ledger) == {}
    assert [query["rank"] for query in ada.next(3)] == [0, 1, 2]
    assert ada.get(f"/api/images/{held['image']['number']}/1280").status_code == 200


def test_a_bomb_is_not_decoded(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelwise.web import shown

    site.open()
    ada = site.browser()
    monkeypatch.setattr(shown, "MOST_PIXELS", 64 * 48 - 1)
    assert ada.get("/api/images/0/320").status_code == 404


def test_large_bodies_and_foreign_host_names_are_refused(site: Any) -> None:
    site.open()
    ada = site.browser()
    large = b'{"tab": "' + b"x" * 300_000 + b'"}'
    headers = {"x-csrf-token": ada.me["csrf"], "content-type": "application/json"}
    assert ada._with(lambda: site.client.post("/api/next", content=large, headers=headers)).status_code == 413
    pieces = lambda: iter([large[:100_000], large[100_000:200_000], large[200_000:]])  # noqa: E731
    assert ada._with(lambda: site.client.post("/api/next", content=pieces(), headers=headers)).status_code == 413
    for length in ("9" * 5000, "-1", "1e3"):
        reply = ada._with(
            lambda n=length: site.client.post("/api/next", content=b"{}", headers={**headers, "content-length": n})
        )
        assert reply.status_code == 413, "and no fault of ours"
    assert ada._with(lambda: site.client.get("/api/me", headers={"host": "evil.example"})).status_code == 400
    assert ada._with(lambda: site.client.get("/api/me", headers={"host": "localhost:8765"})).status_code == 200


def test_guessing_is_slowed_down_and_a_link_that_holds_opens_all_the_same(site: Any) -> None:
    site.open()
    said = [site.client.post("/api/enter", json={"secret": f"guess {k}"}).status_code for k in range(12)]
    assert said[:10] == [401] * 10 and said[10:] == [429] * 2
    assert site.browser("Ada").me["name"] == "Ada", "from the very address that guessed"


def test_another_site_may_ask_for_no_change(site: Any) -> None:
    """Not even a login, which needs no token: ten that fail would keep the browser's owner from his password."""
    site.open()
    ada = site.browser()
    for origin, allowed in (("cross-site", False), ("same-site", False), ("same-origin", True), ("none", True)):
        reply = ada.post("/api/heartbeat", **{"sec-fetch-site": origin})
        assert (reply.status_code == 200) is allowed, origin
        body = {"name": "Ada", "password": "guessed by another"}
        reply = site.client.post("/api/login", json=body, headers={"sec-fetch-site": origin})
        assert reply.status_code == (401 if allowed else 403), origin
    page = ada._with(lambda: site.client.get("/enter", headers={"sec-fetch-site": "cross-site"}))
    assert page.status_code == 200, "a link in a mail is followed from another site"


def test_by_https_the_cookie_is_secure_and_bound_to_this_host(site: Any) -> None:
    from labelwise.web import server

    opened = site.open()
    page = server.Page(opened, secure=True)
    site.app, site.page = server.create(page), page
    client = site.another_client()
    client.base_url = "https://127.0.0.1:8765"
    reply = client.post("/api/enter", json={"secret": page.people.invite("Ada", "annotator", time.time())})
    set_by = reply.headers["set-cookie"]
    assert set_by.startswith("__Host-labelwise_") and "domain" not in set_by.lower()
    assert {"secure", "httponly", "path=/", "samesite=strict"} <= {part.strip().lower() for part in set_by.split(";")}
    me = client.get("/api/me")
    assert me.status_code == 200
    gone = client.post("/api/leave", json={}, headers={"x-csrf-token": me.json()["csrf"]}).headers["set-cookie"]
    assert gone.startswith("__Host-labelwise_") and "Max-Age=0" in gone and "Secure" in gone


def test_every_reply_has_the_headers_and_no_page_has_script_in_it(site: Any) -> None:
    site.open()
    ada = site.browser()
    for path in ("/", "/enter", "/owner", "/static/app.js", "/api/me", "/api/nothing", "/api/images/0/320"):
        reply = ada.get(path)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self'" in policy
        assert (
            reply.headers["x-content-type-options"] == "nosniff" and reply.headers["referrer-policy"] == "no-referrer"
        )
    for path in ("/", "/enter", "/owner"):
        text = ada.get(path).text
        assert "<style" not in text and " style=" not in text and " onclick" not in text
        assert all(tag.split(">")[1].startswith("</script") for tag in text.split("<script")[1:])
    static = Path(__file__).parents[1] / "src" / "labelwise" / "web" / "static"
    for path in static.glob("*.js"):
        assert not [w for w in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(") if w in path.read_text()], path


def test_a_fault_of_ours_shows_no_trace(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.open()
    ada = site.browser()
    monkeypatch.setattr(site.page.leases, "take", lambda *_a, **_k: 1 / 0)
    reply = ada.post("/api/next")
    assert reply.status_code == 500 and "division" not in reply.text and "Traceback" not in reply.text


# ------------------------------------------------------------------------------------------------ a round with people


def answer_like_the_oracle(site: Any, browser: Browser, stop: threading.Event) -> None:
    """Answers what the page asks as the simulated oracle would, until told to stop."""
    pool, seen = site.context.pool, set()
    while not stop.is_set():
        for query in browser.next(most=2):
            image = query["image"]["number"]
            if site.context.run.ask.known_share:
                assert query["score"] is None and not query["reason"], "they would tell which answers are known"
            asked = Query(
                query["round"], query["rank"], query["image"]["name"], query["kind"], query["box"], id=query["query"]
            )
            known = np.array([(row in seen) for row in range(len(pool.truth))])
            got = oracle.answer(asked, pool.truth, image, known)
            for row in range(pool.truth.offsets[image], pool.truth.offsets[image + 1]):
                if pool.truth.xyxy[row].tolist() in [list(box) for box in got.boxes]:
                    seen.add(row)
            reply = browser.say(query, got.verdict, boxes=got.boxes, labels=got.labels, seconds=0.5)
            assert reply.status_code == 200, reply.text
        time.sleep(0.02)


@pytest.mark.parametrize("overlap", [1, 2])
def test_a_whole_run_with_people(site: Any, overlap: int) -> None:
    opened = site.open(f"ask.overlap={overlap}")
    ledger, stop = opened.project.ledger, threading.Event()
    ledger.add_images(opened.pool)
    browsers = [site.browser(name, client=site.another_client()) for name in ("Ada", "Bo")[:overlap]]
    people = [threading.Thread(target=answer_like_the_oracle, args=(site, browser, stop)) for browser in browsers]
    for person in people:
        person.start()
    try:
        assert list(loop.run(opened)) == [0, 1]
    finally:
        stop.set()
        for person in people:
            person.join()
    browser = browsers[0]
    cost = ledger.cost_by_round()
    assert cost[0].images == 2 and cost[0].queries == 2 * overlap
    with ledger.read() as connection:
        each = connection.exec_driver_sql("SELECT count(*), count(DISTINCT who) FROM answers GROUP BY query_id").all()
    assert {tuple(row) for row in each} == {(overlap, overlap)}, "the round waited for every second opinion"
    assert len(history.agreement_lines(opened)) == (overlap == 2)
    done = ledger.stage_done(1, "ask")
    assert done is not None and cost[1].boxes <= 4 and (cost[1].boxes == 4 or done["ranking_exhausted"])
    until = time.time() + 20  # the progress that is shown may be a second old
    while browser.get("/api/progress").json()["state"] != "done":
        assert time.time() < until
        time.sleep(0.2)
    assert (
        site.browser("me", "owner").get("/api/owner/overview").json()["curve"][1]["boxes"]
        == cost[1].boxes + cost[0].boxes
    )


def test_a_run_with_known_questions_and_merged_answers(site: Any) -> None:
    opened = site.open(
        "ask.overlap=2", "ask.merge=dawid_skene", "ask.known_share=0.4", "ask.feedback=3", "budget.per_round=[8]"
    )
    ledger, stop = opened.project.ledger, threading.Event()
    ledger.add_images(opened.pool)
    browsers = [site.browser(name, client=site.another_client()) for name in ("Ada", "Bo", "Cy")]
    people = [threading.Thread(target=answer_like_the_oracle, args=(site, browser, stop)) for browser in browsers]
    for person in people:
        person.start()
    try:
        assert list(loop.run(opened)) == [0, 1]
    finally:
        stop.set()
        for person in people:
            person.join()
    with ledger.read() as connection:
        asked = connection.exec_driver_sql("SELECT query_id, source_id FROM known_questions").all()
        labelled = connection.exec_driver_sql(
            "SELECT count(*) FROM annotations WHERE query_id IN (SELECT query_id FROM known_questions)"
        ).scalar()
        own = connection.exec_driver_sql(
            "SELECT count(*) FROM known_questions k JOIN answers a ON a.query_id = k.query_id JOIN answers b "
            "ON b.query_id = k.source_id AND b.who = a.who AND b.created < a.created"
        ).scalar()
    assert asked and not labelled and not own
    merged = opened.known()
    assert merged.trust is not None and len(merged.annotations) > 0
    found = site.browser("me", "owner").get("/api/owner/overview").json()["quality"]
    assert {row["who"] for row in found} == {"Ada", "Bo", "Cy"} and all(row["right"] > 0.5 for row in found)
    assert "quality" not in browsers[0].get("/api/me").text
    assert browsers[0].get("/api/owner/overview").status_code == 403


def test_images_without_annotations_and_a_deadline(site: Any) -> None:
    opened = site.open('data.classes=["cat","dog"]', "ask.deadline_h=0.00003", "budget.per_round=[3]", bare=True)
    assert opened.pool.classes == ("cat", "dog") and opened.pool.truth is None
    opened.project.ledger.add_images(opened.pool)
    done: list[int] = []
    run = threading.Thread(target=lambda: done.append(next(loop.run(opened))))
    run.start()
    ada, asked = site.browser(), []
    until = time.time() + 120
    while not asked and time.time() < until:
        time.sleep(0.3)  # the deadline passes, but nothing is labelled yet
        asked = ada.next()
    assert ada.say(asked[0], "all", boxes=[[1, 1, 20, 20]], labels=[1]).status_code == 200
    run.join(120)
    assert done == [0]
    info = opened.project.ledger.stage_done(0, "ask")
    assert info is not None and info["deadline_reached"] and info["left_of_budget"] == 1


def test_the_simulated_oracle_asks_nobody(site: Any) -> None:
    opened = site.open("ask.who=oracle")
    ask(opened, about(0, opened))
    assert site.browser().next() == []


def test_serve_says_whom_to_send_which_link_and_how_many_people_are_missing(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.open("ask.overlap=3").project.close()
    served: list[dict[str, Any]] = []
    monkeypatch.setattr("uvicorn.run", lambda _app, **how: served.append(how))
    switch_s = sys.getswitchinterval()
    arguments = ["serve", "--project", str(site.context.project.folder), "--no-browser", "--port", "8123"]
    try:
        few = CliRunner().invoke(cli.app, [*arguments, "--invite", "Ada"], env={"COLUMNS": "300"})
        enough = CliRunner().invoke(cli.app, [*arguments, "--invite", "Bo"], env={"COLUMNS": "300"})
    finally:
        sys.setswitchinterval(switch_s)
        gc.unfreeze()
    assert few.exit_code == enough.exit_code == 0, (few.output, enough.output)
    assert [(how["host"], how["port"]) for how in served] == [("127.0.0.1", 8123)] * 2
    assert "Link for Ada: http://127.0.0.1:8123/enter#" in few.output
    assert "waits for 3 people (ask.overlap) and 2 are invited" in few.output, "the owner is one of them"
    assert "are invited" not in enough.output


def test_an_error_of_a_project_in_the_working_folder_is_told_as_it_is(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labelwise.web import server

    opened = site.open()
    ask(opened, about(0, opened))
    opened.project.close()
    monkeypatch.chdir(opened.project.folder)
    site.context = opening.start(Path(), None)
    site.page = server.Page(site.context)
    site.app = server.create(site.page)
    site.client = site.another_client()
    ada = site.browser()
    [query] = ada.next(most=1)
    refused = ada.say(query, "object", boxes=[query["box"]], labels=[9])
    assert refused.status_code == 409 and "image images/00.png)" in refused.json()["error"], refused.json()
