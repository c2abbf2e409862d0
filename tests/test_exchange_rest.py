"""The REST interface of Label Studio against a small server of our own: tokens, pages, and a server that misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from labelwise.exchange.label_studio_server import Server
from labelwise.types import LabelwiseError


class Fake(BaseHTTPRequestHandler):
    """Answers as Label Studio does; keeps what it was asked."""

    asked: list[tuple[str, str, Any, Any]]
    tasks = 250

    def _answer(self) -> None:
        n = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(n)) if n else None
        self.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
        status, content = 200, json.dumps(self._content(body)).encode()
        if self.path.startswith("/api/tasks/?project=7"):
            content = b"<html>hello</html>"
        if "Wrong" in str(self.headers.get("Authorization")):
            status, content = 401, b'{"detail": "no"}'
        if self.path.startswith("/api/tasks/?project=8"):
            status = 302
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://localhost.invalid/api/tasks/")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _content(self, body: Any) -> Any:
        if self.path == "/api/token/refresh":
            return {"access": "short lived"}
        if self.path.startswith("/api/tasks/"):
            page = int(self.path.partition("&page=")[2].partition("&")[0])
            total = self.tasks + (1 if "project=9" in self.path else 0)
            return {"tasks": [{"id": k} for k in range(100 * (page - 1), min(100 * page, self.tasks))], "total": total}
        if "/import" in self.path:
            return {"task_ids": list(range(len(body)))}
        return {"id": 5}

    do_GET = do_POST = do_PATCH = _answer

    def log_message(self, _format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Fake.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_project_is_made_filled_and_fetched_page_by_page(url: str) -> None:
    server = Server(url + "/", "abc")
    number = server.create("t" * 80, "<View/>")
    assert number == 5
    tasks = [{"data": {"k": k}, "predictions": [{}]} for k in range(501)]
    assert len(server.send(number, tasks)) == 501
    assert [row["id"] for row in server.fetch(number)] == list(range(250))
    assert {call[2] for call in Fake.asked} == {"Token abc"}
    assert len(Fake.asked[0][3]["title"]) == 50
    sent = [call for call in Fake.asked if "/import" in call[1]]
    assert [len(call[3]) for call in sent] == [500, 1], "in order, in pieces"
    assert ("PATCH", "/api/projects/5/", "Token abc", {"model_version": "labelwise"}) in Fake.asked


def test_a_personal_token_is_exchanged_for_a_short_lived_one(url: str) -> None:
    Server(url, "a.b.c").create("t", "<View/>")
    assert Fake.asked[0][1:] == ("/api/token/refresh", None, {"refresh": "a.b.c"})
    assert Fake.asked[1][2] == "Bearer short lived"


def test_what_goes_wrong_is_told(url: str) -> None:
    with pytest.raises(LabelwiseError, match=r"status 401.*Check the token"):
        Server(url, "Wrong").create("t", "<View/>")
    with pytest.raises(LabelwiseError, match="no JSON came back"):
        Server(url, "abc").fetch(7)
    with pytest.raises(LabelwiseError, match="sends us on to http"):
        Server(url, "abc").fetch(8)
    with pytest.raises(LabelwiseError, match="251 tasks announced, 250 came"):
        Server(url, "abc").fetch(9)
    with pytest.raises(LabelwiseError, match="is no address"):
        Server("file:///etc", "abc")
    with pytest.raises(LabelwiseError, match="odd characters"):
        Server(url, "a\nb")
    with pytest.raises(LabelwiseError, match="cannot reach"):
        Server("http://127.0.0.1:9", "abc", timeout_s=2).fetch(1)
