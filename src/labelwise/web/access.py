"""Who may do what on the page: host check, size limit, security headers; sessions, CSRF, roles, the limit on logins.

The invitation's secret travels in the fragment of a link (`/enter#SECRET`), which no server log and no referrer ever
sees; the page sends it once and gets a session cookie for it (HttpOnly, SameSite=Strict), a new one at every login. A
name and its password do the same; failed ones are counted (`attempts`), and two are looked at at a time. A link that
holds opens always: whoever guesses at a name, or from the same address, shuts nobody out.
Every request that changes something must carry the session's CSRF token in a header.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labelwise.queue.accounts import Accounts, Person
from labelwise.web.attempts import Attempts, place

Given = ParamSpec("Given")
Result = TypeVar("Result")

MOST_BYTES = 256 * 1024
MOST_WAITING = 50
"""Passwords that may wait for their turn; two at a time take 0.3 s."""
CSRF_HEADER = "x-csrf-token"
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {  # of every reply
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def error(status: int, message: str, **more: bool) -> JSONResponse:
    """What the page shows when something went wrong."""
    return JSONResponse({"error": message, **more}, status_code=status)


class Guard:
    """Refuses foreign host names (DNS rebinding), changes that another site asks for and large bodies, all before the
    app sees them; adds the headers.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own: list[tuple[bytes, bytes]] = [*message.get("headers", []), *_HEADERS]
                if not any(name == b"cache-control" for name, _ in own):
                    own.append((b"cache-control", b"no-store"))
                message = {**message, "headers": own}
            await send(message)

        refused = self._refusal(scope["method"], dict(scope["headers"]))
        if refused is not None:
            await refused(scope, receive, with_headers)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BYTES:  # sent in chunks, or longer than it said
                raise HTTPException(413, f"more than {MOST_BYTES} bytes")
            return message

        await self._app(scope, limited, with_headers)

    def _refusal(self, method: str, headers: MutableMapping[bytes, bytes]) -> JSONResponse | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts and "*" not in self._hosts:
            return error(400, "this server does not go by that name; start it with --host-name NAME to allow it")
        # a browser says where a request comes from, and no page can change what it says: so other sites cannot even
        # fail at logins, which no session's token protects
        if method not in ("GET", "HEAD") and headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none"):
            return error(403, "another site may not ask for this")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            return error(413, f"more than {MOST_BYTES} bytes")
        return None


def _place(request: Request) -> str:
    return place(request.client.host if request.client else "")


class Access:
    """Who may come in to a project. `cookie`: its name, of its own, so that two projects on one machine do not mix."""

    def __init__(self, people: Accounts, cookie: str, *, secure: bool) -> None:
        self.people, self.secure = people, secure
        self.cookie = f"__Host-{cookie}" if secure else cookie  # so named, no other host of the domain can plant it
        self.passwords, self.links = Attempts(), Attempts()  # apart: links fail quickly, and could fill the table
        # scrypt takes 32 MB and 0.3 s: two at a time, and those that wait hold none of the threads of other requests
        self._slow = ThreadPoolExecutor(2, "passwords")
        self._waiting = 0

    async def person(self, request: Request) -> Person:
        """Whoever is logged in; for a change with the CSRF token of this very session."""
        token, found = request.cookies.get(self.cookie), None
        if token:
            found = self.people.person_of_session(token, time.time())
            found = found or await run_in_threadpool(self.people.session, token, time.time())
        if found is None:
            raise HTTPException(401, "not logged in: open your invitation link again, or enter with your password")
        if request.method not in ("GET", "HEAD"):
            sent = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(sent.encode(), found.csrf.encode()):
                raise HTTPException(403, "the CSRF token is missing or wrong; reload the page")
        return found

    async def owner(self, request: Request) -> Person:
        """The owner alone."""
        found = await self.person(request)
        if found.role != "owner":
            raise HTTPException(403, "only the owner of the project may do this")
        return found

    def enter(self, request: Request, secret: str) -> tuple[str, Person]:
        """A new session for an invitation; the session that the browser came with ends."""
        entered = self.people.enter(secret, time.time(), old=request.cookies.get(self.cookie))
        if entered is None:
            here, at = _place(request), time.monotonic()
            self.passwords.check(at, here)
            self.links.check(at, here)
            self.links.failed(at, here)
            raise HTTPException(401, "this invitation is not valid (any more): ask the owner for a new link")
        return entered

    async def login(self, request: Request, name: str, password: str) -> tuple[str, Person]:
        """A new session for a name and its password; the session that the browser came with ends."""
        here = _place(request)
        self.passwords.check(time.monotonic(), here, f"name {name}")  # who has failed too often takes no room
        return await self._slowly(self._login, here, name, password, request.cookies.get(self.cookie))

    def _login(self, here: str, name: str, password: str, old: str | None) -> tuple[str, Person]:
        keys, at = (here, f"name {name}"), time.monotonic()
        self.passwords.check(at, *keys)  # again, when its turn has come: many sent at once are no way around
        entered = self.people.login(name, password, time.time(), old=old)
        if entered is None:
            self.passwords.failed(at, *keys)
            raise HTTPException(401, "this name and this password do not fit; your invitation link works without them")
        return entered

    async def set_password(self, request: Request, person: Person, password: str) -> None:
        """Sets a password; of the sessions of this person only the one that asks goes on."""
        keep = request.cookies[self.cookie]
        await self._slowly(self.people.set_password, person.name, password, time.time(), keep=keep)

    async def _slowly(self, do: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, "too many passwords at once; try again in a moment, or open your invitation link")
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._slow.submit(do, *given, **named))
        finally:
            self._waiting -= 1

    def settings(self) -> dict[str, Any]:
        """How the cookie is set."""
        return {"key": self.cookie, "httponly": True, "samesite": "strict", "secure": self.secure, "path": "/"}
