"""Who may do what on the page: host check, size limit, security headers; sessions, CSRF, roles, the limit on logins.

The invitation's secret travels in the fragment of a link (`/enter#SECRET`), which no server log and no referrer ever
sees; the page sends it once and gets a session cookie for it (HttpOnly, SameSite=Strict), a new one at every login. A
name and its password do the same; failed ones are counted per address and per name, and two are looked at at a time.
Every request that changes something must carry the session's CSRF token in a header.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labelwise.store.people import People, Person

Given = ParamSpec("Given")
Result = TypeVar("Result")

MOST_BYTES = 256 * 1024
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


def error(status: int, message: str) -> JSONResponse:
    """What the page shows when something went wrong."""
    return JSONResponse({"error": message}, status_code=status)


class Guard:
    """Refuses foreign host names (DNS rebinding) and large bodies before the app sees them; adds the headers."""

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

        refused = self._refusal(dict(scope["headers"]))
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

    def _refusal(self, headers: MutableMapping[bytes, bytes]) -> JSONResponse | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts and "*" not in self._hosts:
            return error(400, "this server does not go by that name; start it with --host-name NAME to allow it")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            return error(413, f"more than {MOST_BYTES} bytes")
        return None


class Attempts:
    """At most so many failed logins per minute from one address, and for one name."""

    def __init__(self, most: int = 10, per_s: float = 60.0) -> None:
        self._most, self._per_s = most, per_s
        self._failed: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, at: float, *keys: str) -> None:
        with self._lock:
            if len(self._failed) > 10_000:
                self._failed.clear()
            for times in (self._failed.get(key, deque()) for key in keys):
                while times and times[0] <= at - self._per_s:
                    times.popleft()
                if len(times) >= self._most:
                    raise HTTPException(429, "too many attempts; wait a minute")

    def failed(self, at: float, *keys: str) -> None:
        with self._lock:
            for key in keys:
                self._failed.setdefault(key, deque()).append(at)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


class Access:
    """The door of one project. `cookie`: its name, of its own, so that two projects on one machine do not mix."""

    def __init__(self, people: People, cookie: str, *, secure: bool) -> None:
        self.people, self.cookie, self.secure = people, cookie, secure
        self.attempts = Attempts()
        # scrypt takes 32 MB and 0.3 s: two at a time, and those that wait hold none of the threads of other requests
        self._slow = ThreadPoolExecutor(2, "passwords")

    async def person(self, request: Request) -> Person:
        """Whoever is logged in; for a change with the CSRF token of this very session."""
        token, found = request.cookies.get(self.cookie), None
        if token:
            found = self.people.remembered(token, time.time())
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
        address, at = _address(request), time.time()
        self.attempts.check(at, address)
        entered = self.people.enter(secret, at, old=request.cookies.get(self.cookie))
        if entered is None:
            self.attempts.failed(at, address)
            raise HTTPException(401, "this invitation is not valid (any more): ask the owner for a new link")
        return entered

    async def login(self, request: Request, name: str, password: str) -> tuple[str, Person]:
        """A new session for a name and its password; the session that the browser came with ends."""
        return await self._slowly(self._login, _address(request), name, password, request.cookies.get(self.cookie))

    def _login(self, address: str, name: str, password: str, old: str | None) -> tuple[str, Person]:
        keys, at = (address, f"name {name}"), time.time()
        self.attempts.check(at, *keys)  # when its turn has come: many sent at once are no way around
        entered = self.people.login(name, password, at, old=old)
        if entered is None:
            self.attempts.failed(at, *keys)
            raise HTTPException(401, "this name and this password do not fit; your invitation link works without them")
        return entered

    async def set_password(self, request: Request, person: Person, password: str) -> None:
        """Sets a password; of the sessions of this person only the one that asks goes on."""
        keep = request.cookies[self.cookie]
        await self._slowly(self.people.set_password, person.name, password, time.time(), keep=keep)

    async def _slowly(self, do: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        return await asyncio.wrap_future(self._slow.submit(do, *given, **named))

    def settings(self) -> dict[str, Any]:
        """How the cookie is set."""
        return {"key": self.cookie, "httponly": True, "samesite": "strict", "secure": self.secure, "path": "/"}
