"""Passwords: what the ledger keeps of them, who comes in by one, and what guessing costs. See `queue/passwords.py`."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from test_leases import ledger
from test_web import Browser, site

from labelwise.ledger import schema as t
from labelwise.ledger.ledger import Ledger
from labelwise.queue import accounts as store_people
from labelwise.queue import passwords
from labelwise.queue.accounts import SESSION_S, Accounts
from labelwise.types import LabelwiseError

__all__ = ["ledger", "site"]
GOOD, OTHER = "correct horse battery", "another long password"
SCRYPT = hashlib.scrypt


class Work:
    """The scrypt work that was done, at a fraction of its price; `during` is called in the midst of each."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []
        self.during: Callable[[], Any] = lambda: None

    def scrypt(self, password: bytes, **how: Any) -> bytes:
        self.done.append({"password": password, **how})
        self.during()
        return SCRYPT(password, **{**how, "n": 2**4})


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    made = Work()
    monkeypatch.setattr(hashlib, "scrypt", made.scrypt)
    return made


def entered(people: Accounts, name: str = "Ada", at: float = 0.0) -> str:
    """The cookie of a person who was just invited."""
    found = people.enter(people.invite(name, "annotator", at), at)
    assert found is not None
    return found[0]


def elsewhere(do: Callable[[], Any]) -> None:
    """Does something in another thread, which must not be kept waiting."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "another writer had to wait"


def with_password(people: Accounts, name: str = "Ada") -> str:
    token = entered(people, name)
    people.set_password(name, GOOD, 0.0, keep=token)
    return token


# ----------------------------------------------------------------------------------------------------------- the store


def test_a_password_opens_a_new_session_and_ends_the_one_of_before(ledger: Ledger) -> None:
    people = Accounts(ledger)
    token = with_password(people)
    found = people.login("Ada", GOOD, 1.0, old=token)
    assert found is not None and found[0] != token
    assert (found[1].name, found[1].role) == ("Ada", "annotator") and people.session(found[0], 2.0) == found[1]
    assert people.session(token, 2.0) is None
    assert people.session(found[0], 1.0 + SESSION_S) is None, "it ends by itself, like any other"
    assert [person["password"] for person in people.everyone()] == [True]


def test_nobody_else_comes_in(ledger: Ledger, work: Work) -> None:
    """And none of them is told apart by the work that is done."""
    people = Accounts(ledger)
    with_password(people)
    with_password(people, "Cy")
    people.revoke("Cy")
    entered(people, "Bo")
    for name, password in (
        ("Ada", OTHER),
        ("Ada", GOOD + " "),
        ("ada", GOOD),
        ("Ada", ""),
        ("Bo", GOOD),
        ("Bo", ""),
        ("Cy", GOOD),
        ("nobody", GOOD),
        ("", GOOD),
        ("a\0b", GOOD),
        ("\ud800", GOOD),
    ):
        work.done.clear()
        assert people.login(name, password, 1.0) is None, (name, password)
        assert len(work.done) == 1 and work.done[0]["n"] == 2**15, (name, password)


def test_a_password_ends_all_other_sessions_of_this_person_only(ledger: Ledger) -> None:
    people = Accounts(ledger)
    other_person = entered(people, "Bo")
    secret = people.invite("Ada", "annotator", 0.0)
    here, there = (people.enter(secret, 0.0) for _ in range(2))
    assert here is not None and there is not None
    people.session(there[0], 0.5)  # remembered, and forgotten at once
    people.set_password("Ada", GOOD, 0.6, keep=here[0])
    assert people.session(there[0], 0.7) is None and people.session(here[0], 0.7) == here[1]
    assert people.session(other_person, 0.7) is not None
    assert people.enter(secret, 0.8) is not None, "the link goes on"
    for keep, at in (("guessed", 1.0), (other_person, 1.0), (here[0], SESSION_S + 1.0)):
        with pytest.raises(LabelwiseError, match="session has ended"):
            people.set_password("Ada", OTHER, at, keep=keep)
    people.set_password("Ada", OTHER, 1.0, keep=here[0])
    assert people.login("Ada", GOOD, 2.0) is None and people.login("Ada", OTHER, 2.0) is not None


def test_a_new_invitation_resets_and_a_revocation_ends(ledger: Ledger) -> None:
    people = Accounts(ledger)
    with_password(people)
    people.invite("Ada", "annotator", 1.0)
    assert people.login("Ada", GOOD, 2.0) is None and not people.everyone()[0]["password"]
    with_password(people)
    people.invite("Ada", "annotator", 1.0, keep_password=True)  # the owner's, at every start of `labelwise serve`
    assert people.login("Ada", GOOD, 2.0) is not None
    people.revoke("Ada")
    assert people.login("Ada", GOOD, 2.0) is None and not people.everyone()[0]["password"]
    with_password(people)
    with ledger.write() as connection:  # as a labelwise without passwords revokes
        connection.execute(sa.update(t.people).values(secret=None))
    assert people.login("Ada", GOOD, 2.0) is None


@pytest.mark.parametrize("change", ["revoke", "invite"])
def test_whoever_is_shut_out_during_the_work_stays_out(ledger: Ledger, work: Work, change: str) -> None:
    """No transaction is open during the work, so that nobody waits for it, and what happens meanwhile counts."""
    people = Accounts(ledger)

    def shut_out() -> None:
        assert ledger.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        work.during = lambda: None
        elsewhere(lambda: people.revoke("Ada") if change == "revoke" else people.invite("Ada", "annotator", 1.0))

    token = with_password(people)
    work.during = shut_out
    assert people.login("Ada", GOOD, 2.0) is None
    token = with_password(people)
    work.during = shut_out
    with pytest.raises(LabelwiseError, match="session has ended"):
        people.set_password("Ada", OTHER, 2.0, keep=token)
    assert people.login("Ada", OTHER, 3.0) is None and not people.everyone()[0]["password"]


@pytest.mark.parametrize("change", ["revoke", "invite"])
@pytest.mark.parametrize("way", ["enter", "login", "set_password"])
def test_whoever_comes_while_somebody_is_shut_out_waits(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: str, way: str
) -> None:
    """Also where several may write at once: the sessions are ended, the new one must not slip in before the end."""
    people, shut_out, came = Accounts(ledger), store_people._shut_out, list[Any]()
    secret = people.invite("Ada", "annotator", 0.0)
    found = people.enter(secret, 0.0)
    assert found is not None
    people.set_password("Ada", GOOD, 0.0, keep=found[0])

    def come() -> None:
        with contextlib.suppress(LabelwiseError):
            if way == "set_password":
                people.set_password("Ada", OTHER, 1.0, keep=found[0])
            else:
                came.append(people.enter(secret, 1.0) if way == "enter" else people.login("Ada", GOOD, 1.0))

    thread = threading.Thread(target=come)

    def slow(connection: sa.Connection, name: str, **how: bool) -> None:
        shut_out(connection, name, **how)
        thread.start()
        thread.join(0.5)

    monkeypatch.setattr(store_people, "_shut_out", slow)
    if change == "revoke":
        people.revoke("Ada")
    else:
        people.invite("Ada", "annotator", 1.0)
    thread.join()
    assert came in ([], [None]) and not people.everyone()[0]["password"]
    with ledger.read() as connection:
        assert connection.execute(sa.select(t.sessions)).all() == []


def test_what_the_ledger_keeps(ledger: Ledger, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    people = Accounts(ledger)
    with_password(people)
    with_password(people, "Bo")
    with ledger.read() as connection:
        rows = connection.execute(sa.select(t.passwords)).mappings().all()
        kept = [
            str(tuple(row)) for name in t.metadata.tables for row in connection.exec_driver_sql(f"SELECT * FROM {name}")
        ]
    assert len({row["salt"] for row in rows}) == len({row["hash"] for row in rows}) == len(rows) == 2
    for row in rows:
        salt = bytes.fromhex(row["salt"])
        assert len(salt) == 16 and row["hash"] == SCRYPT(GOOD.encode(), salt=salt, n=2**4, r=8, p=3).hex()
    how = work.done[0]
    assert (how["n"], how["r"], how["p"]) == (2**15, 8, 3) and len(SCRYPT(**how)) == 64, "there is memory for it"
    texts = ["".join(kept).encode()]
    if ledger.engine.dialect.name == "sqlite":
        texts += [path.read_bytes() for path in Path(ledger.where).parent.glob("ledger.sqlite*")]
    for text in texts:
        assert b"Ada" in text or text is not texts[0]
        assert GOOD.encode() not in text and hashlib.sha256(GOOD.encode()).hexdigest().encode() not in text
    compared: list[Any] = []
    same = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or same(a, b))
    assert people.login("Ada", GOOD, 1.0) is not None
    assert len(compared) == 1 and compared[0][1] in {row["hash"] for row in rows}


def test_how_long_a_password_may_be() -> None:
    for password in ("x" * 9, "", "x" * 201):
        with pytest.raises(LabelwiseError, match=f"10 to 200 characters, and this one has {len(password)}"):
            passwords.hash_password(password)
    for password in (" " * 10, "x" * 200, "ü" * 10):
        assert passwords.fits(password, *passwords.hash_password(password))
    composed, decomposed = "gr\u00fcne Wiesen", "gru\u0308ne Wiesen"
    assert passwords.fits(decomposed, *passwords.hash_password(composed)), (
        "keyboards differ in how they write an umlaut"
    )
    assert not passwords.fits("grune Wiesen", *passwords.hash_password(composed))


# ---------------------------------------------------------------------------------------------------------- the server


def login(client: Any, name: str, password: str) -> Any:
    return client.post("/api/login", json={"name": name, "password": password})


def from_address(site: Any, address: str) -> Any:
    from starlette.testclient import TestClient

    return TestClient(site.app, base_url="http://127.0.0.1:8765", client=(address, 50_000))


def set_password(browser: Browser, password: str = GOOD, **headers: str) -> Any:
    return browser.post("/api/password", {"password": password}, **headers)


def test_the_cookie_is_new_at_every_login_by_password(site: Any) -> None:
    site.open()
    ada = site.browser()
    assert set_password(ada).json() == {"set": True}
    name = site.page.access.cookie
    client = site.another_client()
    client.cookies.update(ada.cookies)
    first = login(client, "Ada", GOOD)
    assert first.status_code == 200 and first.json() == {"role": "annotator"} and GOOD not in first.text
    flags = first.headers["set-cookie"].lower()
    assert "httponly" in flags and "samesite=strict" in flags and "path=/" in flags and "max-age=604800" in flags
    assert first.cookies[name] != ada.cookies[name]
    assert ada.get("/api/me").status_code == 401, "the session that the browser came with is over"
    assert client.get("/api/me").json()["name"] == "Ada"
    assert login(client, "Ada", OTHER).status_code == 401 and client.get("/api/me").status_code == 200
    again = login(client, "Ada", GOOD)
    assert again.cookies[name] not in (first.cookies[name], ada.cookies[name])
    assert site.client.post("/api/login", json={"name": "Ada"}).status_code == 422
    client.cookies.clear()
    client.cookies.update({name: "planted"})
    assert login(client, "Ada", GOOD).cookies[name] != "planted"


def test_who_may_not_enter_is_told_the_same(site: Any) -> None:
    site.open()
    ada, cy = site.browser("Ada"), site.browser("Cy")
    set_password(ada), set_password(cy)
    site.page.people.revoke("Cy")
    site.browser("Bo")
    site.client.cookies.clear()
    tries = [("Ada", OTHER), ("Bo", GOOD), ("Cy", GOOD), ("nobody", GOOD), ("a\0b", GOOD), ("Ada", "")]
    replies = [login(site.client, name, password) for name, password in tries]
    assert {reply.status_code for reply in replies} == {401} and len({reply.text for reply in replies}) == 1
    for sent in (b'{"name": "\\ud800", "password": "\\ud800"}', b'{"name": "Ada", "password": 7}', b"null"):
        reply = site.client.post("/api/login", content=sent, headers={"content-type": "application/json"})
        assert reply.status_code == 422
    assert login(site.client, "Ada", "x" * 1001).status_code == 422


def test_guessing_is_slowed_down_for_an_address_and_for_a_name(site: Any, work: Work) -> None:
    site.open()
    set_password(site.browser("Ada")), set_password(site.browser("Bo"))
    work.done.clear()
    many = from_address(site, "10.0.0.1")
    said = [login(many, f"person {k}", GOOD).status_code for k in range(12)]
    assert said == [401] * 10 + [429] * 2 and len(work.done) == 10, "what is refused costs no work"
    assert many.post("/api/enter", json={"secret": "x"}).status_code == 429
    assert login(from_address(site, "10.0.0.2"), "person 3", GOOD).status_code == 401, "of another address"
    said = [login(from_address(site, f"10.0.1.{k}"), "Ada", OTHER).status_code for k in range(12)]
    assert said == [401] * 10 + [429] * 2
    assert login(from_address(site, "10.0.2.1"), "Ada", GOOD).status_code == 429
    assert login(from_address(site, "10.0.2.1"), "Bo", GOOD).status_code == 200
    site.browser("Ada", client=from_address(site, "10.0.2.2"))  # by a link: a name that is guessed at shuts nobody out


def test_many_guesses_at_once_are_no_way_around(site: Any, work: Work) -> None:
    site.open()
    set_password(site.browser("Ada"))
    busy, most, lock = 0, 0, threading.Lock()

    def slow() -> None:
        nonlocal busy, most
        with lock:
            busy, most = busy + 1, max(most, busy + 1)
        time.sleep(0.05)
        with lock:
            busy -= 1

    work.during = slow
    said: list[int] = []
    clients = [from_address(site, f"10.0.0.{k}") for k in range(24)]
    threads = [threading.Thread(target=lambda c=c: said.append(login(c, "Ada", OTHER).status_code)) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(said)) == [401, 429] and len(said) == 24
    assert most == 2, "32 MB each"
    assert said.count(401) <= 11, "two are looked at at once: one more than the limit at most"


def test_setting_a_password_needs_the_session_and_its_csrf_token(site: Any) -> None:
    site.open()
    ada, bo = site.browser("Ada"), site.browser("Bo")
    site.client.cookies.clear()
    assert site.client.post("/api/password", json={"password": GOOD}).status_code == 401
    for wrong in ("", "guess", bo.me["csrf"]):
        reply = set_password(ada, **{"x-csrf-token": wrong})
        assert reply.status_code == 403 and "CSRF" in reply.json()["error"]
    assert not any(person["password"] for person in site.page.people.everyone())
    for short in ("", "x" * 9, "x" * 201):
        reply = set_password(ada, short)
        assert reply.status_code == 409 and "10 to 200 characters" in reply.json()["error"]
    assert set_password(ada, "x" * 1001).status_code == 422
    assert ada.post("/api/password", {"password": GOOD, "name": "Bo"}).status_code == 422
    assert set_password(ada).status_code == 200
    assert [person["password"] for person in site.page.people.everyone()] == [True, False]


def test_other_windows_are_out_and_this_one_goes_on(site: Any) -> None:
    site.open()
    secret = site.page.people.invite("Ada", "annotator", time.time())
    here, there = Browser(site.client, secret), Browser(site.client, secret, "window-2")
    assert there.get("/api/me").status_code == 200
    assert set_password(here).status_code == 200
    assert there.get("/api/me").status_code == 401 and here.get("/api/me").status_code == 200
    owner = site.browser("me", "owner")
    link = owner.post("/api/owner/invite", {"name": "Ada"}).json()["link"]
    assert here.get("/api/me").status_code == 401
    assert login(site.another_client(), "Ada", GOOD).status_code == 401, "forgotten: the owner made a new link"
    assert Browser(site.client, link.split("#")[1]).me["name"] == "Ada"
