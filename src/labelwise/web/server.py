"""The server of the labelling page: a thin layer over ledger and queue. See `access` for who may come in.

Routes are short; FastAPI runs the synchronous ones in threads. An answer waits for the ledger's own thread, which
stores all that came meanwhile in one transaction, and is acknowledged when it is in the ledger.
"""
# no `from __future__ import annotations` here: FastAPI reads the signatures of the routes, which name local types

import asyncio
import gc
import hashlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from labelwise import units
from labelwise.project import guidelines
from labelwise.project.context import Context
from labelwise.project.prices import Prices
from labelwise.queue.accounts import Accounts, Person
from labelwise.queue.lease_queue import Contradiction, Lease, LeaseError
from labelwise.queue.leases import Leases
from labelwise.types import Answer, LabelwiseError, Query
from labelwise.web import label_gallery, sign_in, track_strips
from labelwise.web.access import Access, Guard, error
from labelwise.web.bodies import Named, NewClass, Number, Reply, Want, Window
from labelwise.web.film import Film
from labelwise.web.live_curve import live
from labelwise.web.overview import overview, run_state
from labelwise.web.shown import Passed, Shown
from labelwise.web.tiles import Tiles

STATIC = Path(__file__).parent / "static"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES = {path.name: path for path in STATIC.iterdir() if path.suffix in KINDS}
PAGES = {
    "/": "index.html",
    "/enter": "enter.html",
    "/owner": "owner.html",
    "/tracks": "tracks.html",
    "/gallery": "gallery.html",
}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Page:
    """One project that is open for people."""

    def __init__(self, context: Context, *, secure: bool = False, lease_s: float = 120.0) -> None:
        self.context = context
        self.ledger = context.project.ledger
        self.classifies = context.run.classifies
        self.people = Accounts(self.ledger)
        ask = context.run.ask
        self.leases = Leases(self.ledger, lease_s, ask.overlap, ask.known_share > 0, ask.again)
        self.shown = Shown(context)
        self.tiles = Tiles(self.shown)
        self.prices = Prices(context)
        self.film = Film(context, self.shown)
        mark = hashlib.sha256(str(context.project.folder.resolve()).encode()).hexdigest()[:8]
        self._standing: dict[str, Any] = run_state(context)
        self._counted_until, self._counting = 0.0, threading.Lock()
        if "asked" in self._standing:
            self.shown.predicted.of_round(self._standing["round"])  # read by the time that somebody comes
        self.access = Access(self.people, f"labelwise_{mark}", secure=secure)

    def give(self, person: Person, want: Want) -> dict[str, Any]:
        """The next queries for a window, and how the round stands."""
        leases = []
        if self.context.run.ask.who == "people":
            leases = self.leases.take(person.name, want.tab, time.time(), **want.wanted())
        return self._given(person, leases)

    def _given(self, person: Person, leases: list[Lease]) -> dict[str, Any]:
        return {"queries": [self.shown.query(lease) for lease in leases], "progress": self.progress(person)}

    def progress(self, person: Person) -> dict[str, Any]:
        """How the round stands, for this person, by the last count."""
        found = self._standing | {"classes": len(self.context.pool.classes)}
        return found | {"mine": found.pop("by").get(person.name, 0)} if "by" in found else found

    def due(self) -> bool:
        """Whether the last count is no longer fresh for its price, and nobody counts."""
        return time.monotonic() > self._counted_until and not self._counting.locked()

    def count(self) -> None:
        """Counts anew, if that is due; the routes do so when their reply is sent."""
        if self.due() and self._counting.acquire(blocking=False):
            try:
                begun = time.monotonic()
                self.context.see_classes()
                self.shown.look_again(time.monotonic())
                self.prices.look()
                self._standing = run_state(self.context)
                self._counted_until = time.monotonic() + min(5.0, max(0.2, 50 * (time.monotonic() - begun)))
            finally:
                self._counting.release()

    def _count(self, person: Person, more: int, counts: bool = True) -> None:
        by = self._standing.get("by")
        if by is not None:
            by[person.name] = by.get(person.name, 0) + more
            self._standing["answered"] += more if counts else 0

    def undo(self, person: Person, window: Window) -> dict[str, Any]:
        """Takes the last answer back and shows its query again."""
        lease = self.leases.undo(person.name, window.tab, time.time())
        self._count(person, -1)
        return {"query": self.shown.query(lease), "progress": self.progress(person)}

    async def record(self, person: Person, said: Reply) -> dict[str, Any]:
        """Stores an answer with its price, and gives the next queries, in one transaction."""
        told = list[str]()
        words = (said.query, said.verdict, said.boxes, said.labels, person.name, said.seconds, said.note)
        offered = [self.shown.suggestion(one) for one in said.suggested]
        answer = Answer(*words, classes=said.classes, suggested=offered)

        def fit(query: Query, given: Answer) -> Answer:
            told.clear()  # it may be run twice
            return self.shown.fit(query, given, told)

        served = self.leases.answer_and_take(
            answer, said.lease, self.prices.of, time.time(), tab=said.tab, fit=fit, **said.wanted()
        )
        done, leases = await asyncio.wrap_future(served)
        assert done is not None
        self._count(person, 0 if done.repeated else 1, done.counts)
        stored = {"answer": done.answer_id, "counts": done.counts, "repeated": done.repeated, "told": told}
        stored["feedback"] = guidelines.feedback(self.ledger, answer, self.context.run.ask.feedback)
        return stored | self._given(person, leases)


def create(page: Page, hosts: frozenset[str] = LOOPBACK) -> ASGIApp:
    """The whole server of a page, answering to these host names."""
    app = FastAPI(title="labelwise", docs_url=None, redoc_url=None, openapi_url=None)
    _on_errors(app)
    _for_everyone(app, page)
    sign_in.add_routes(app, page.access)
    track_strips.add_routes(app, page.access, track_strips.TrackStrips(page.context, page.shown))
    _for_people(app, page)
    _for_answers(app, page)
    _for_the_owner(app, page)
    label_gallery.add_routes(app, page.context, page.shown, page.prices, page.access)
    return Guard(app, hosts)


def run(page: Page, host: str, port: int, hosts: frozenset[str] = LOOPBACK, proxies: Sequence[str] = ()) -> None:
    """Serves a page until Ctrl-C, with two settings of the interpreter that many people at once need.

    Where a request comes from is believed of `proxies` alone: whoever may say so may be somebody else at every login.
    `benchmarks/serve_load.py`, 50 people, 10,000 queries, p99: 376 ms, 170 with the second; 167, 133 with the first.
    """
    app = create(page, hosts)
    sys.setswitchinterval(0.001)  # the ledger's thread gives way at every statement, and else gets back after 5 ms
    gc.collect()
    gc.freeze()  # what is loaded by now stays: else a full collection looks through all of it, 0.3 s in which all wait
    quiet: dict[str, Any] = {"log_level": "warning", "server_header": False, "access_log": False}
    trust: dict[str, Any] = {"proxy_headers": bool(proxies), "forwarded_allow_ips": list(proxies)}
    uvicorn.run(app, host=host, port=port, **quiet, **trust)


def _on_errors(app: FastAPI) -> None:
    @app.exception_handler(StarletteHTTPException)
    def http(_request: Request, problem: StarletteHTTPException) -> JSONResponse:
        return error(problem.status_code, str(problem.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, problem: RequestValidationError) -> JSONResponse:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, str | int))
        return error(422, f"{where}: {first['msg']}")

    @app.exception_handler(LeaseError)
    def forged(_request: Request, problem: LeaseError) -> JSONResponse:
        return error(403, str(problem))

    @app.exception_handler(LabelwiseError)
    def refused(request: Request, problem: LabelwiseError) -> JSONResponse:
        text = str(problem)
        for where, name in request.app.state.hidden.items():
            text = text.replace(where, name)
        return error(409, text, stands=True) if isinstance(problem, Contradiction) else error(409, text)

    @app.exception_handler(Exception)
    def broken(_request: Request, _problem: Exception) -> JSONResponse:
        logging.getLogger("labelwise").error("the page failed", exc_info=_problem)
        return error(500, "something went wrong; the server's log has the details")


def _for_everyone(app: FastAPI, page: Page) -> None:
    places = {page.ledger.where: "(of the project)", str(page.context.project.folder): "the project"}
    # a relative path tells nothing of the machine, and may be a mere dot
    app.state.hidden = {where: name for where, name in places.items() if "://" in where or Path(where).is_absolute()}

    def file(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404, "there is no such file")
        kind = KINDS[FILES[name].suffix]
        return Response(FILES[name].read_bytes(), media_type=kind, headers={"cache-control": "no-cache"})

    def shell(name: str) -> Any:
        return lambda: file(name)

    for path, name in PAGES.items():
        app.get(path, include_in_schema=False)(shell(name))

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        return file(name)


def _for_people(app: FastAPI, page: Page) -> None:
    Someone = Annotated[Person, Depends(page.access.person)]

    @app.get("/api/me")
    def me(person: Someone) -> dict[str, Any]:
        run = page.context.run
        known = {"name": person.name, "role": person.role, "csrf": person.csrf, "project": run.name}
        kind = "class" if page.classifies else units.find(run.query.asked[0]).PAGE
        return known | {
            "classes": page.context.pool.classes,
            "kind": kind,
            "films": page.context.pool.clips is not None,
            "answered_by": run.ask.who,
            "overlap": run.ask.overlap,
            "guidelines": guidelines.text(page.context),
        }

    @app.get("/api/frames/{number}")
    def frame(person: Someone, number: Number) -> dict[str, Any]:
        return page.film.frame(number, person.name)

    @app.get("/api/queries/{number}/offers")
    def offers(person: Someone, number: Number) -> dict[str, Any]:
        return page.film.offers(number, person.name)

    @app.get("/api/images/{number}/{side}")
    def image(_person: Someone, number: Number, side: Number) -> Response:
        return jpeg(number, lambda: page.shown.jpeg(number, side))

    @app.get("/api/images/{number}/tiles/{column}/{row}")
    def tile(_person: Someone, number: Number, column: Number, row: Number) -> Response:
        return jpeg(number, lambda: page.tiles.jpeg(number, column, row))

    def jpeg(number: int, read: Callable[[], bytes]) -> Response:
        try:
            content = read()
        except Passed:
            raise HTTPException(410, f"image {number} cannot be shown now; its queries are passed over") from None
        except LabelwiseError:
            raise HTTPException(404, f"image {number} cannot be read") from None
        return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})


def _for_answers(app: FastAPI, page: Page) -> None:
    Someone = Annotated[Person, Depends(page.access.person)]

    def reply(content: dict[str, Any], after: BackgroundTasks, **how: Any) -> Response:
        if page.due():
            after.add_task(page.count)
        return Response(to_json(content), media_type="application/json", **how)

    @app.post("/api/next")
    def next_(person: Someone, body: Want, after: BackgroundTasks) -> Response:
        return reply(page.give(person, body), after)

    content = {"application/json": {"schema": Reply.model_json_schema()}}

    @app.post("/api/answers", openapi_extra={"requestBody": {"content": content, "required": True}})
    async def answers(request: Request) -> Response:
        # the busiest route reads for itself: with 50 people at once that is 6 % more answers per second
        person = await page.access.person(request)
        try:
            body = Reply.model_validate_json(await request.body())
        except ValidationError as problem:
            raise RequestValidationError([one | {"loc": ("body", *one["loc"])} for one in problem.errors()]) from None
        after = BackgroundTasks()
        return reply(await page.record(person, body), after, background=after)

    @app.post("/api/undo")
    def undo(person: Someone, body: Window, after: BackgroundTasks) -> Response:
        return reply(page.undo(person, body), after)

    @app.post("/api/heartbeat")
    def heartbeat(person: Someone, body: Window, after: BackgroundTasks) -> Response:
        held = page.leases.renew(person.name, body.tab, time.time())
        return reply({"held": held, "progress": page.progress(person)}, after)

    @app.post("/api/release")
    def release(person: Someone, body: Window) -> dict[str, bool]:
        page.leases.release(person.name, body.tab)
        return {"released": True}

    @app.get("/api/progress")
    def progress_(person: Someone) -> dict[str, Any]:
        page.count()
        return page.progress(person)


def _for_the_owner(app: FastAPI, page: Page) -> None:
    Owner = Annotated[Person, Depends(page.access.owner)]

    @app.get("/api/owner/overview")
    def whole(_person: Owner) -> dict[str, Any]:
        return overview(page.context) | {"people": page.people.everyone()}

    @app.get("/api/live")
    def live_(_person: Owner) -> dict[str, Any]:
        return live(page.context)

    @app.post("/api/owner/invite")
    def invite(_person: Owner, body: Named) -> dict[str, str]:
        return {"name": body.name, "link": f"/enter#{page.people.invite(body.name, 'annotator', time.time())}"}

    @app.post("/api/owner/classes")
    def add_class(person: Owner, body: NewClass) -> dict[str, int]:
        return {"number": page.context.add_class(body.name, person.name, none_so_far=body.none_so_far)}

    @app.post("/api/owner/revoke")
    def revoke(person: Owner, body: Named) -> dict[str, bool]:
        if body.name == person.name:
            raise HTTPException(409, "you cannot shut yourself out")
        page.people.revoke(body.name)
        return {"revoked": True}
