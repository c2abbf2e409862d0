"""The routes of signing in: by an invitation or by a password, a new password, and out."""
# no `from __future__ import annotations` here: FastAPI reads the signatures of the routes, which name local types

from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from pydantic import Field

from labelwise.queue.accounts import SESSION_S, Person
from labelwise.web.access import Access
from labelwise.web.bodies import Body


class Enter(Body):
    """A login by invitation."""

    secret: str = Field(max_length=200)


class Password(Body):
    """A new password; how long it may be is said by the store, in words."""

    password: str = Field(max_length=1000)


class Login(Password):
    """A login by password."""

    name: str = Field(max_length=200)


def add_routes(app: FastAPI, access: Access) -> None:
    """Adds the routes."""
    Someone = Annotated[Person, Depends(access.person)]

    def welcome(response: Response, token: str, person: Person) -> dict[str, str]:
        response.set_cookie(value=token, max_age=int(SESSION_S), **access.settings())
        return {"role": person.role}

    @app.post("/api/enter")
    def enter(body: Enter, request: Request, response: Response) -> dict[str, str]:
        return welcome(response, *access.enter(request, body.secret))

    @app.post("/api/login")
    async def login(body: Login, request: Request, response: Response) -> dict[str, str]:
        return welcome(response, *await access.login(request, body.name, body.password))

    @app.post("/api/password")
    async def password(person: Someone, body: Password, request: Request) -> dict[str, bool]:
        await access.set_password(request, person, body.password)
        return {"set": True}

    @app.post("/api/leave")
    def leave(_person: Someone, request: Request, response: Response) -> dict[str, bool]:
        access.people.leave(request.cookies[access.cookie])
        response.delete_cookie(**access.settings())
        return {"left": True}
