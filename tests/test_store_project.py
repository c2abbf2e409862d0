"""The project folder: stages that are done once, and one run at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from labelwise.store import schema
from labelwise.store.files import write_text
from labelwise.store.project import Project
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


def test_a_newer_project_is_refused(project: Project) -> None:
    with project.ledger._write() as connection:
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
from labelwise.store.project import Project
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
