"""Failed logins are counted whatever else comes; whose word for an address is taken; what `serve` says and shows."""

from __future__ import annotations

import gc
import stat
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from test_web import site
from test_web_passwords import GOOD, OTHER, from_address, login, set_password, work
from typer.testing import CliRunner

from labelwise import cli
from labelwise.errors import LabelwiseError

pytest.importorskip("fastapi", reason="no fastapi: uv sync --extra web")
from fastapi import HTTPException

from labelwise.cli import web as cli_web
from labelwise.web import access
from labelwise.web.attempts import MOST_FAILED, MOST_KEPT, NOWHERE, WITHIN_S, Attempts, place

__all__ = ["site", "work"]


def refused(counted: Attempts, at: float, *keys: str) -> bool:
    try:
        counted.check(at, *keys)
    except HTTPException as error:
        assert error.status_code == 429 and "invitation link" in error.detail
        return True
    return False


# -------------------------------------------------------------------------------------------------------- the counting


def test_so_many_may_fail_in_a_minute() -> None:
    counted = Attempts()
    for k in range(MOST_FAILED):
        assert not refused(counted, float(k), "Ada")
        counted.failed(float(k), "Ada")
    assert refused(counted, 9.0, "Ada") and refused(counted, WITHIN_S - 0.1, "Ada") and not refused(counted, 9.0, "Bo")
    assert not refused(counted, WITHIN_S, "Ada"), "the first of them is over"
    counted.failed(WITHIN_S, "Ada")
    assert refused(counted, WITHIN_S, "Ada"), "and only that one"
    assert not refused(counted, 3 * WITHIN_S, "Ada") and len(counted) == 0


@pytest.mark.parametrize("kind", ["name", "address"])
def test_ten_thousand_others_clear_nothing_and_take_bounded_room(kind: str) -> None:
    counted = Attempts()
    for k in range(MOST_FAILED):
        counted.failed(k / 100, "Ada")
    others = 3 * MOST_KEPT
    for k in range(others):
        at = 1.0 + 50 * k / others
        if not refused(counted, at, f"{kind} {k}"):
            counted.failed(at, f"{kind} {k}")
        if k % 1000 == 0:
            assert refused(counted, at, "Ada"), f"forgotten after {k} others"
    assert len(counted) == MOST_KEPT, "and not one more"
    assert refused(counted, 55.0, "Ada"), "who is counted stays counted"
    assert refused(counted, 55.0, f"{kind} never seen"), "whom there is no room to count is refused"
    assert not refused(counted, 55.0, f"{kind} 0"), "whoever is counted and has failed once goes on"
    later = 51.0 + WITHIN_S
    assert not refused(counted, later, "Ada") and not refused(counted, later, f"{kind} never seen")
    assert len(counted) == 0, "what is over is removed"


def test_the_table_stays_bounded_where_many_pass_the_check_at_once() -> None:
    counted = Attempts(kept=100)
    for k in range(500):  # all of them were checked before the first had failed
        counted.failed(1.0, f"address {k}", f"name {k}")
    assert len(counted) == 100 and refused(counted, 2.0, "name 499", "address 7")
    for _ in range(1000):
        counted.failed(3.0, "address 0")
    assert len(counted._failed["address 0"]) == MOST_FAILED


def test_who_fails_now_is_kept_longer_than_who_failed_before() -> None:
    counted = Attempts(kept=2)
    for at in range(MOST_FAILED):
        counted.failed(float(at), "Ada")
    counted.failed(5.0, "Bo")
    counted.failed(50.0, "Ada")
    assert refused(counted, 51.0, "Cy")
    assert not refused(counted, 66.0, "Cy"), "Bo is over"
    counted.failed(66.0, "Cy")
    assert list(counted._failed) == ["Ada", "Cy"] and refused(counted, 66.0, "Di")


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", NOWHERE),
        ("x" * 60_000, NOWHERE),
        ("192.0.2.7, 10.0.0.1", NOWHERE),
    ],
)
def test_what_is_one_place(host: str, counted_as: str) -> None:
    assert place(host) == counted_as


# ---------------------------------------------------------------------------------------------------------- the server


def test_a_name_is_counted_over_all_addresses_and_a_network_over_all_names(site: Any, work: Any) -> None:
    site.open()
    set_password(site.browser("Ada"))
    work.done.clear()
    rotating = [from_address(site, f"2001:db8:{k:x}::1") for k in range(12)]
    assert [login(client, "Ada", OTHER).status_code for client in rotating] == [401] * 10 + [429] * 2
    same = [from_address(site, f"2001:db8:ffff::{k:x}") for k in range(1, 13)]
    said = [login(client, f"person {k}", OTHER).status_code for k, client in enumerate(same)]
    assert said == [401] * 10 + [429] * 2, "of one /64"
    assert len(work.done) == 20, "what is refused costs no work"
    assert login(rotating[11], "Ada", GOOD).status_code == 429


def test_other_failures_clear_nothing_on_the_server(site: Any, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still: a full table refuses, links open all the same; a minute later everything is as before."""
    clock = [1000.0]
    monkeypatch.setattr(access, "time", SimpleNamespace(time=time.time, monotonic=lambda: clock[0]))
    site.open()
    set_password(site.browser("Ada")), set_password(site.browser("Bo"))
    ada = site.page.people.invite("Cy", "annotator", time.time())
    guards = site.page.access
    for k in range(10):
        assert login(from_address(site, f"10.1.0.{k}"), "Ada", OTHER).status_code == 401
    for k in range(MOST_KEPT):
        guards.links.failed(clock[0], f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}")
    client = from_address(site, "192.0.2.1")
    assert client.post("/api/enter", json={"secret": "wrong"}).status_code == 429, "no room to count it"
    assert client.post("/api/enter", json={"secret": ada}).status_code == 200, "a link that holds opens"
    assert login(client, "Bo", GOOD).status_code == 200, "links that fail take nothing from passwords"
    for k in range(MOST_KEPT):
        guards.passwords.failed(clock[0], f"name {k}")
    assert len(guards.passwords) == MOST_KEPT
    assert login(client, "Ada", GOOD).status_code == 429, "still counted"
    assert login(client, "Bo", GOOD).status_code == 429, "no room to count it"
    clock[0] += WITHIN_S
    assert login(client, "Ada", GOOD).status_code == 200 and login(client, "Bo", GOOD).status_code == 200


def test_a_limited_number_of_passwords_wait(site: Any, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_WAITING", 3)
    site.open()
    set_password(site.browser("Ada"))
    free, begun, said = threading.Event(), threading.Semaphore(0), list[int]()

    def hold() -> None:
        begun.release()
        assert free.wait(30)

    work.during = hold
    clients = [from_address(site, f"10.0.0.{k}") for k in range(4)]
    threads = [threading.Thread(target=lambda c=c: said.append(login(c, "Bo", GOOD).status_code)) for c in clients[:3]]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=30) and begun.acquire(timeout=30), "two are looked at"
    until = time.time() + 30
    while site.page.access._waiting < 3 and time.time() < until:
        time.sleep(0.01)
    reply = login(clients[3], "Bo", GOOD)
    assert reply.status_code == 503 and "too many passwords at once" in reply.json()["error"]
    site.browser("Bo", client=clients[3])  # by a link
    free.set()
    for thread in threads:
        thread.join()
    assert said == [401] * 3 and site.page.access._waiting == 0


# ------------------------------------------------------------------------------------------------- the command `serve`


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What uvicorn is given, instead of a server."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr("uvicorn.run", lambda app, **how: found.append({"app": app, **how}))
    switch_s = sys.getswitchinterval()
    yield found
    sys.setswitchinterval(switch_s)
    gc.unfreeze()


def serve(site: Any, *arguments: str) -> Any:
    command = ["serve", "--project", str(site.context.project.folder), "--port", "8123", *arguments]
    return CliRunner().invoke(cli.app, command, env={"COLUMNS": "1000"})


def guesses(how: dict[str, Any], comes_from: str) -> list[int]:
    """Failed logins of one address that claims to be another every time, with what uvicorn puts before the app."""
    import uvicorn
    from starlette.testclient import TestClient

    config = uvicorn.Config(**how)
    config.load()
    client = TestClient(config.loaded_app, base_url="http://127.0.0.1:8123", client=(comes_from, 50_000))
    said = []
    for k in range(12):
        claims = {"x-forwarded-for": f"198.51.100.{k}", "x-forwarded-proto": "https"}
        body = {"name": f"person {k} of {comes_from}", "password": OTHER}
        said.append(client.post("/api/login", json=body, headers=claims).status_code)
    return said


@pytest.mark.parametrize(
    ("arguments", "believed", "not_believed"),
    [
        ([], [], ["127.0.0.1", "10.0.0.2"]),
        (["--https"], ["127.0.0.1", "::1"], ["10.0.0.2"]),
        (["--https", "--proxy", "10.0.0.2", "--proxy", "10.1.0.0/16"], ["10.0.0.2", "10.1.2.3"], ["127.0.0.1"]),
    ],
)
def test_forwarded_addresses_are_believed_of_the_named_proxy_alone(
    site: Any,
    work: Any,
    served: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    believed: list[str],
    not_believed: list[str],
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own, which must not count
    site.open().project.close()
    done = serve(site, "--no-browser", *arguments)
    assert done.exit_code == 0, done.output
    for address in not_believed:
        assert guesses(served[0], address) == [401] * 10 + [429] * 2, f"{address} is one place, whatever it says"
    for address in believed:
        assert guesses(served[0], address) == [401] * 12, f"{address} tells where others come from"


def test_a_proxy_that_makes_no_sense_is_refused(site: Any, served: list[dict[str, Any]]) -> None:
    site.open().project.close()
    for arguments, words in (
        (["--proxy", "10.0.0.2"], "add --https"),
        (["--https", "--proxy", "*"], "expected an address or network"),
        (["--https", "--proxy", "proxy.example"], "expected an address or network"),
        (["--https", "--proxy", "10.0.0.2/8"], "expected an address or network"),
    ):
        done = serve(site, *arguments)
        assert done.exit_code == 1 and isinstance(done.exception, LabelwiseError) and words in str(done.exception)
    assert served == []


@pytest.mark.parametrize(
    ("arguments", "warned", "at"),
    [
        ([], False, "http://127.0.0.1:8123/"),
        (["--host", "localhost"], False, "http://localhost:8123/"),
        (["--host", "::1"], False, "http://[::1]:8123/"),
        (["--host", "0.0.0.0"], True, "http://127.0.0.1:8123/"),
        (["--host", "::"], True, "http://[::1]:8123/"),
        (["--host", "fd00::7"], True, "http://[fd00::7]:8123/"),
        (["--host", "0.0.0.0", "--host-name", "Labels.example"], True, "http://Labels.example:8123/"),
        (["--host", "0.0.0.0", "--https", "--host-name", "labels.example"], False, "https://labels.example/"),
    ],
)
def test_serve_warns_of_what_can_be_read_on_the_way(
    site: Any, served: list[dict[str, Any]], arguments: list[str], warned: bool, at: str
) -> None:
    from starlette.testclient import TestClient

    site.open().project.close()
    done = serve(site, "--no-browser", *arguments)
    assert done.exit_code == 0, done.output
    words = ("Without --https", "links and cookies", "the images, the answers", "start with --https")
    assert [word in done.output for word in words] == [warned] * 4
    assert f"{at}enter#" in done.output
    assert TestClient(served[0]["app"], base_url=at).get("/enter").status_code == 200, "it goes by the name it tells"


def test_the_browser_is_sent_to_the_page_without_the_link_on_its_command_line(
    site: Any, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command line is seen by everybody on the machine (`ps`); the file in its stead by its owner alone."""
    site.open().project.close()
    opened: list[str] = []
    seen: dict[str, Any] = {}
    note = site.context.project.folder / cli_web.OPENED

    def look(address: str) -> None:
        opened.append(address)
        seen.update(text=note.read_text(), mode=stat.S_IMODE(note.stat().st_mode))

    class AtOnce:
        def __init__(self, _after_s: float, do: Any, given: list[Any]) -> None:
            self.start = lambda: do(*given)

    monkeypatch.setattr("webbrowser.open", look)
    monkeypatch.setattr(cli_web, "threading", SimpleNamespace(Timer=AtOnce))
    note.write_text("left by a run that was killed")
    note.chmod(0o644)
    done = serve(site)
    assert done.exit_code == 0, done.output
    link = done.output.split("keep it to yourself): ")[1].split()[0]
    assert opened == [note.resolve().as_uri()] and link.split("#")[1] not in opened[0]
    assert f"url={link}" in seen["text"]
    assert seen["mode"] == 0o600 or sys.platform == "win32"
    assert not note.exists(), "it goes when the server ends"
    assert serve(site, "--no-browser").exit_code == 0 and len(opened) == 1
