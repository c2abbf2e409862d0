"""What looks, asks or serves starts without torch: a subprocess runs the command and tells what it loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from labelwise import loop
from labelwise.project import opening

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kill

HEAVY = ("torch", "torchvision", "lightning_fabric")
WATCHED = """
import json, sys
from labelwise import cli
import labelwise.web.server
labelwise.web.server.run = lambda *_given, **_named: None
"""
PLAIN = "import json, sys\nfrom labelwise import cli\n"
RUN = """
sys.argv = ["labelwise", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    code = end.code
finally:
    print(json.dumps({"code": code or 0, "loaded": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def loaded(*arguments: str, among: Iterable[str] = HEAVY, expected: int = 0, cwd: Path | None = None) -> set[str]:
    """Which of these packages a command, in a process of its own, has loaded when it ends."""
    script = (WATCHED if arguments[0] == "serve" else PLAIN) + RUN
    nowhere = {"LABELWISE_DATA": os.devnull, "LABELWISE_CACHE": os.devnull}  # with weights at hand `init` measures
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | nowhere,
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] == expected, done.stdout + done.stderr
    return set(told["loaded"]) & set(among)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose first round is done and whose second has open questions for people."""
    folder = tmp_path_factory.mktemp("start_up") / "p"
    opened = opening.start(folder, "demo", kill.SMALL)
    with opened.project.lock():
        loop.begin(opened)
        for stage in loop.STAGES:
            loop.run_stage(opened, 0, stage)
        for stage in ("predict", "score", "select"):
            loop.run_stage(opened, 1, stage)
    return folder


def test_help_and_list_load_neither_torch_nor_numpy(tmp_path: Path) -> None:
    assert not loaded("--help", among=(*HEAVY, "numpy", "pydantic", "sqlalchemy"), cwd=tmp_path)
    assert not loaded("--version", among=(*HEAVY, "numpy", "pydantic", "sqlalchemy"), cwd=tmp_path)
    assert not loaded("list", among=(*HEAVY, "numpy"), cwd=tmp_path)
    assert not loaded("weights", "--help", among=(*HEAVY, "numpy"), cwd=tmp_path)
    assert not loaded("weights", cwd=tmp_path)


@pytest.mark.parametrize(
    "arguments", [("list", "models"), ("list", "score"), ("check", "data"), ("status", "-p", "."), ("images", ".")]
)
def test_what_looks_does_not_load_torch(project: Path, arguments: tuple[str, ...]) -> None:
    assert not loaded(*arguments, cwd=project)


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", ".", "-o", "r.html"),
        ("serve", "-p", ".", "--no-browser"),
        ("export", "labels", "--to", "coco", "-p", ".", "-o", "out"),
        ("init", "new", "--data", "data"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_shows_asks_or_serves_does_not_load_torch(
    project: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    shutil.copytree(project, tmp_path / "p")
    assert not loaded(*arguments, cwd=tmp_path / "p")


def test_import_does_not_load_torch(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "p")
    (tmp_path / "none.json").write_text("[]")
    found = loaded("import", str(tmp_path / "none.json"), "--from", "json", "-p", str(tmp_path / "p"), expected=1)
    assert not found


@pytest.mark.parametrize("arguments", [("status", "-p", "nowhere"), ("run", "nothing+such"), ("run", "-p", "nowhere")])
def test_a_wrong_path_or_name_is_an_error_before_anything_heavy_is_loaded(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    among = (*HEAVY, "scipy", "sklearn", "matplotlib", "pyarrow", "sqlalchemy")
    assert not loaded(*arguments, among=among, expected=1, cwd=tmp_path)
