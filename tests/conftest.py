"""One torch thread per test process; the real data and a PostgreSQL server where they are there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TERM"] = "xterm"  # a dumb terminal is 80 columns wide, whatever COLUMNS says
for name in ("COLUMNS", "LINES", "FORCE_COLOR", "CLICOLOR_FORCE", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)
SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The real data sets beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no real data: the folder ../shared/data is not there")
    return SHARED


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Gives URLs of new, empty databases on a server of its own, which listens to a socket only."""
    pytest.importorskip("psycopg", reason="no psycopg: uv sync --extra postgres")
    initdb, server = shutil.which("initdb"), shutil.which("postgres")
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL: its programs initdb and postgres are not on the PATH")
    folder = Path(tempfile.mkdtemp(prefix="labelwise-pg-"))  # a socket's path must be short
    who: dict[str, str] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        who = {"user": "postgres", "group": "postgres"}
    data = folder / "data"
    subprocess.run([initdb, "-D", data, "-U", "me", "-A", "trust", "-N"], check=True, capture_output=True, **who)
    command = [server, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "max_connections=300"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **who)
    url = f"postgresql+psycopg://me@/{{}}?host={folder}"
    admin = sa.create_engine(url.format("postgres"), isolation_level="AUTOCOMMIT")
    try:
        for attempt in range(200):
            try:
                admin.connect().close()
                break
            except sa.exc.OperationalError:
                assert attempt < 199 and process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)

        def fresh() -> str:
            name = f"t{uuid.uuid4().hex}"
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            return url.format(name)

        yield fresh
    finally:
        admin.dispose()
        process.send_signal(signal.SIGINT)  # does not wait for connections that a failed test left open
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens projects that people answer, each with its server."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from fakes.browser import Site

    with contextlib.ExitStack() as stack:

        def opened(unit: str, n: int, **how: Any) -> Site:
            made = Site(tmp_path, unit, n, **how)
            stack.callback(made.close)
            return made

        yield opened


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    """A real browser that the tests of a file share: each opens a context of its own."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A real browser."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()
