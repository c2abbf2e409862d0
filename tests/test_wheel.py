"""What is delivered, as it is delivered: sdist and wheel are built, the wheel is installed, and its commands are run in
an empty folder. Its dependencies are those of the environment that runs the tests.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import labelwise

ROOT = Path(__file__).parents[1]
RECIPES = {path.stem for path in (ROOT / "recipes").glob("*.toml")}
SCENES = (
    "data.scenes={train=12, test=4, classes=2, imbalance=1, size_px=64, scale=[0.3, 0.6], digits=[1, 2], crowding=0}"
)
FRAMES = "data.patrol={train=12, test=4, classes=2, imbalance=1, size_px=64, places=3, empty=0.5}"
SMALL = ("data.image_size_px=64", "model.weights=none", "train.epochs=1")
SHORT = ("train.min_steps=0", "train.max_steps=none", "train.steps=2")
TINY = (SCENES, *SMALL, *SHORT, 'predict.views=["flip"]', "budget.start_images=4", "budget.per_round=[2]")
PATIENCE_S = 120


class Installed(NamedTuple):
    """The wheel in an environment of its own."""

    sdist: Path
    wheel: Path
    python: Path
    command: Path


def uv() -> str:
    """The uv that started this test, the one on the PATH, or the one that `start.py` fetched."""
    own = ROOT / ".uv" / ("Scripts/uv.exe" if os.name == "nt" else "bin/uv")
    found = os.environ.get("UV") or shutil.which("uv") or (str(own) if own.is_file() else None)
    if found is None:
        pytest.skip("no uv to build a wheel with: neither on the PATH nor in .uv/; `python3 start.py test` brings it")
    return found


def quiet(*command: str | Path) -> None:
    """Runs a command without a network; with one where that fails."""
    done = subprocess.run([*command, "--offline"], capture_output=True, text=True, check=False)
    if done.returncode:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """`uv build` makes the wheel from the sdist, so both are tried."""
    folder = tmp_path_factory.mktemp("wheel")
    quiet(uv(), "build", "--out-dir", folder / "dist", ROOT)
    [sdist], [wheel] = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    place = folder / "environment"
    quiet(uv(), "venv", "--python", sys.executable, place)
    programs = place / ("Scripts" if os.name == "nt" else "bin")
    python = programs / ("python.exe" if os.name == "nt" else "python")
    quiet(uv(), "pip", "install", "--no-deps", "--python", python, wheel)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    present = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (Path(found) / "present.pth").write_text("\n".join(present) + "\n", encoding="utf-8")
    return Installed(sdist, wheel, python, programs / ("labelwise.exe" if os.name == "nt" else "labelwise"))


@pytest.fixture
def empty(installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, far from this checkout; nothing in the environment leads back to it. Byte code is kept: to
    compile torch anew takes most of a small run.
    """
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(installed.wheel.parent / "byte_code"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert not tmp_path.is_relative_to(ROOT)
    return tmp_path


def call(folder: Path, *command: str | Path) -> str:
    """What a command says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, f"{command[1:]}: {done.stdout}{done.stderr}"
    return done.stdout


def given(*settings: str) -> list[str]:
    """Settings as options."""
    return [word for one in settings for word in ("--set", one)]


# --------------------------------------------------------------------------------------------------------- the files


def test_the_wheel_holds_recipes_licence_and_types(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    assert {f"labelwise/recipes/{name}.toml" for name in RECIPES} <= names and len(RECIPES) > 50
    assert "labelwise/py.typed" in names
    about = f"labelwise-{labelwise.__version__}.dist-info"
    assert f"{about}/licenses/LICENSE" in names
    tracked = subprocess.run(
        ["git", "ls-files", "src/labelwise"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert tracked and {name.removeprefix("src/") for name in tracked if (ROOT / name).is_file()} <= names
    assert not [name for name in names if name.split("/")[0] not in ("labelwise", about)]


def test_the_sdist_is_enough_to_build_from(installed: Installed) -> None:
    with tarfile.open(installed.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "recipes/demo.toml", "src/labelwise/py.typed"} <= names


# ------------------------------------------------------------------------------------------------------ the commands


def test_it_is_the_wheel_that_runs(installed: Installed, empty: Path) -> None:
    code = "import labelwise, importlib.metadata as m; print(labelwise.__file__, m.version('labelwise'))"
    where, version = call(empty, installed.python, "-c", code).split()
    assert Path(where).is_relative_to(installed.python.parents[1])
    assert version == labelwise.__version__
    assert call(empty, installed.command, "--version").split() == ["labelwise", version]


def test_it_lists_every_recipe(installed: Installed, empty: Path) -> None:
    said = call(empty, installed.command, "list", "recipes")
    assert set(re.findall(r"^[│|] (\w+) ", said, re.MULTILINE)) >= RECIPES
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "data"),
    [(("demo", "it"), FRAMES), (("run", "scenes+random", "--project", "it"), SCENES)],
    ids=["demo", "run"],
)
def test_it_runs_to_the_report(installed: Installed, empty: Path, words: tuple[str, ...], data: str) -> None:
    said = call(empty, installed.command, *words, *given(data, *TINY[1:]))
    assert "round 1: AP50" in said
    assert "<svg" in (empty / "it" / "report.html").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ people


@contextmanager
def beside(folder: Path, log: Path, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that goes on meanwhile; what it says stands in `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def wait(process: subprocess.Popen[bytes], log: Path, found: Any) -> Any:
    """What `found` finds at last, while the process lives."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if (something := found()) is not None:
            return something
        assert process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.1)
    raise AssertionError(f"nothing in {PATIENCE_S} s: {log.read_text(encoding='utf-8')}")


class Browser:
    """Somebody who has an invitation."""

    def __init__(self, port: int, secret: str) -> None:
        self._port = port
        self._headers = {"content-type": "application/json"}
        _, headers = self._request("POST", "/api/enter", {"secret": secret})
        self._headers["cookie"] = headers["set-cookie"].split(";")[0]
        self._headers["x-csrf-token"] = self.ask("GET", "/api/me")["csrf"]

    def _request(self, verb: str, path: str, body: Any = None) -> tuple[Any, dict[str, str]]:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        line.request(verb, path, None if body is None else json.dumps(body), self._headers)
        reply = line.getresponse()
        content = reply.read()
        line.close()
        assert reply.status == 200, f"{path}: {reply.status} {content[:200]!r}"
        return json.loads(content), {name.lower(): value for name, value in reply.getheaders()}

    def ask(self, verb: str, path: str, body: Any = None) -> Any:
        return self._request(verb, path, body)[0]


def test_people_answer_a_bare_folder(installed: Installed, empty: Path) -> None:
    pytest.importorskip("fastapi", reason="no fastapi: the page needs the extra `web`")
    (empty / "images").mkdir()
    for k in range(3):
        noise = np.random.default_rng(k).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(noise).save(empty / "images" / f"{k}.png")
    settings = given(*SMALL, "train.min_steps=1", "train.max_steps=2", "budget.start_images=1", "budget.per_round=[]")
    call(empty, installed.command, "init", "it", "--data", "images", "--classes", "cat,dog", *settings)
    run, serve = empty / "run.log", empty / "serve.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asks = (installed.command, "run", "--project", "it", "--oracle", "people")
    shows = (installed.command, "serve", "--project", "it", "--no-browser", "--port", str(port), "--invite", "Ada")
    with beside(empty, run, *asks) as asking, beside(empty, serve, *shows) as serving:

        def link() -> re.Match[str] | None:
            return re.search(r"Link for Ada: \S+/enter#(\S+)", serve.read_text(encoding="utf-8"))

        secret = wait(serving, serve, link)[1]
        ada = wait(serving, serve, lambda: entered(port, secret))

        def query() -> Any:
            given_out = ada.ask("POST", "/api/next", {"tab": "window-0001", "most": 1})["queries"]
            return given_out[0] if given_out else None

        first = wait(asking, run, query)
        said = {"tab": "window-0001", "query": first["query"], "lease": first["lease"], "verdict": "all", "most": 0}
        said |= {"boxes": [[4, 4, 40, 30]], "labels": [1]}
        assert ada.ask("POST", "/api/answers", said)["counts"]
        assert asking.wait(PATIENCE_S) == 0, run.read_text(encoding="utf-8")
    assert (empty / "it" / "report.html").is_file()
    assert "1 boxes, 1 queries" in run.read_text(encoding="utf-8")


def entered(port: int, secret: str) -> Browser | None:
    """A browser, when the server listens."""
    try:
        return Browser(port, secret)
    except ConnectionError:
        return None
