"""The project folder: stages that are done once, and one run at a time."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from labelwise.files import write_text
from labelwise.ledger import engine, schema
from labelwise.ledger.ledger import Ledger
from labelwise.project.project_folder import Project
from labelwise.types import LabelwiseError


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    created = Project.create(tmp_path / "p", "name = 'x'\n")
    yield created
    created.close()


def test_create_and_open(project: Project) -> None:
    assert project.config_path.read_text() == "name = 'x'\n"
    with pytest.raises(LabelwiseError, match="is a labelwise project already"):
        Project.create(project.folder, "")
    again = Project.open(project.folder)
    assert again.round_folder(3) == project.folder / "rounds" / "003"
    again.close()
    with pytest.raises(LabelwiseError, match=r"is no labelwise project \(no run\.toml\)"):
        Project.open(project.folder.parent)


def test_a_project_that_was_made_by_half_can_be_made_again(project: Project) -> None:
    project.config_path.unlink()  # killed before the config, which is written last
    again = Project.create(project.folder, "name = 'y'\n")
    assert again.ledger.stages() == []
    again.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabelwiseError, match="cannot make the project folder"):
        Project.create(tmp_path / "file" / "p", "")


needs_modes = pytest.mark.skipif(os.name != "posix", reason="this system has no modes of files")


def modes(folder: Path) -> dict[str, int]:
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
    return {".": stat.S_IMODE(folder.stat().st_mode), **found}


@pytest.fixture
def umask() -> Iterator[Callable[[int], object]]:
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)


@needs_modes
@pytest.mark.parametrize(
    ("mask", "folder", "ledger"), [(0o000, 0o700, 0o600), (0o022, 0o700, 0o600), (0o177, 0o600, 0o600)]
)
def test_nobody_else_may_read_a_new_project(
    tmp_path: Path, umask: Callable[[int], object], mask: int, folder: int, ledger: int
) -> None:
    if mask == 0o177 and os.geteuid() != 0:
        pytest.skip("a folder without its x bit is entered by root alone")
    umask(mask)
    made = Project.create(tmp_path / "p", "name = 'x'\n")
    with made.ledger.read() as connection:  # so that the files beside it are there
        connection.exec_driver_sql("SELECT * FROM meta").all()
        found = modes(made.folder)
    made.close()
    assert found["."] == folder
    assert {name: mode for name, mode in found.items() if name.startswith("ledger")} == dict.fromkeys(
        ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"), ledger
    )


@needs_modes
def test_a_folder_that_was_there_keeps_its_mode_and_the_ledger_is_its_owners_alone(
    tmp_path: Path, umask: Callable[[int], object]
) -> None:
    umask(0o002)
    (tmp_path / "p").mkdir(mode=0o775)
    made = Project.create(tmp_path / "p", "name = 'x'\n")
    made.close()
    assert (modes(made.folder)["."], modes(made.folder)["ledger.sqlite"]) == (0o775, 0o600)
    made.folder.chmod(0o755)
    (made.folder / "ledger.sqlite").chmod(0o664)  # as an earlier labelwise made it, or as its owner wants it
    Project.open(made.folder).close()
    assert (modes(made.folder)["."], modes(made.folder)["ledger.sqlite"]) == (0o755, 0o664), "they stay as they are"


@needs_modes
def test_the_ledger_is_at_no_time_readable_by_others(
    tmp_path: Path, umask: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    umask(0)
    seen: list[int] = []
    connect = engine._on_connect

    def looking(connection: Any, record: Any) -> None:
        path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        seen.append(stat.S_IMODE(path.stat().st_mode))
        connect(connection, record)

    monkeypatch.setattr(engine, "_on_connect", looking)
    for where in (tmp_path / "a.sqlite", f"sqlite:///{tmp_path / 'b.sqlite'}"):
        Ledger.open(where, create=True).close()
    assert seen == [0o600, 0o600], "before anything stood in it"
    Ledger.open("sqlite://", create=True).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.sqlite", "b.sqlite"]


def test_a_ledger_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(LabelwiseError, match=r"cannot make .*ledger\.sqlite: .*Check its folder"):
        Ledger.open(tmp_path / "nowhere" / "ledger.sqlite", create=True)


def test_a_newer_project_is_refused(project: Project) -> None:
    with project.ledger.write() as connection:
        connection.execute(sa.update(schema.meta).where(schema.meta.c.key == "schema_version").values(value=2))
    with pytest.raises(LabelwiseError, match="made by a newer labelwise"):
        Project.open(project.folder)


def test_a_stage_is_done_once(project: Project) -> None:
    with project.stage(0, "train") as stage:
        assert not stage.done and stage.folder == project.round_folder(0)
        stage.info["loss"] = 0.5
    with project.stage(0, "train") as stage:
        assert stage.done and stage.info["loss"] == 0.5
        assert 0 <= stage.info["wall_s"] < 60
    done = project.ledger.stages()
    assert len(done) == 1 and done[0]["started"] <= done[0]["ended"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_stage_that_failed_is_done_again_from_its_start(project: Project, error: type[BaseException]) -> None:
    with pytest.raises(error), project.stage(0, "train") as stage:
        (stage.folder / ".predictions.123.labelwise-tmp").mkdir()
        (stage.folder / ".metrics.json.123.labelwise-tmp").write_text("half")
        write_text(stage.folder / "whole", "kept")
        raise error
    with project.stage(0, "train") as stage:
        assert not stage.done and stage.info == {}
        assert [path.name for path in stage.folder.iterdir()] == ["whole"]
    assert project.ledger.stage_done(0, "train") is not None


HOLD = """
import sys
from pathlib import Path
from labelwise.project.project_folder import Project
project = Project.open(Path(sys.argv[1]))
with project.lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_is_gone(project: Project) -> None:
    command = [sys.executable, "-c", HOLD, str(project.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(LabelwiseError, match=f"in use by process {other.pid} on .*ps -p {other.pid}") as error:
            project.lock().__enter__()
        assert str(project.folder) in str(error.value)
        os.kill(other.pid, signal.SIGKILL)
        other.wait(timeout=30)
    holder = project.folder / ".lock.holder.json"
    assert holder.exists()  # left by the killed run: it does not block
    with project.lock():
        assert str(os.getpid()) in holder.read_text()
        with pytest.raises(LabelwiseError, match="in use by process"), project.lock():
            pass
    assert not holder.exists()
    with project.lock():
        assert holder.exists()
