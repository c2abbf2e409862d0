"""The routes of the page against its own OpenAPI schema: whatever is sent, the server never breaks (no 500)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import test_web
from test_web import about, ask, site

SCHEMATHESIS = shutil.which("schemathesis")
__all__ = ["site"]


@pytest.mark.slow
@pytest.mark.skipif(SCHEMATHESIS is None, reason="schemathesis is not installed (pip install schemathesis)")
@pytest.mark.parametrize("role", ["owner", "annotator"])
def test_schemathesis_finds_no_500(site: Any, tmp_path: Path, role: str) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    opened = site.open()
    ask(opened, *(about(k, opened) for k in range(6)))
    browser = site.browser("Ada", role)
    guard = site.client.app
    schema = guard._app.openapi()
    assert {"/api/answers", "/api/next", "/api/undo", "/api/owner/invite", "/api/enter"} <= set(schema["paths"])
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(guard, host="127.0.0.1", port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.time() + 60
    while not server.started and time.time() < until:
        time.sleep(0.05)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    command = [str(SCHEMATHESIS), "run", "schema.json", "--url", f"http://127.0.0.1:{port}", "--seed", "0"]
    command += ["--header", f"Cookie: {cookie}", "--header", f"x-csrf-token: {browser.me['csrf']}", "--no-color"]
    command += ["--checks", "not_a_server_error", "--max-examples", "25", "--exclude-path", "/api/leave"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500)
    finally:
        server.should_exit = True
        thread.join()
    (tmp_path / "schemathesis.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert browser.get("/api/me").status_code == 200, "the session lived to the end, so that the routes were reached"
    assert test_web.NASTY in browser.get("/api/me").json()["classes"]
