"""No dead ends: what cannot be read names what mends it, a damaged ledger is told, a read-only project is shown."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from test_repair import expected as expected  # a fixture
from test_repair import finished as finished  # a fixture
from test_repair import project as project  # a fixture
from test_repair import run
from typer.testing import CliRunner

from labelwise import files, loop
from labelwise.cli import app, health
from labelwise.errors import LabelwiseError
from labelwise.files import round_files
from labelwise.ledger import engine, safety
from labelwise.predict.recorder import Recorder
from labelwise.project import changes, opening
from labelwise.project.project_folder import OPENED
from labelwise.project.round import Round
from labelwise.stages import ranking
from labelwise.types import Query, disk

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import damage
import kill

ROOT = Path(__file__).parents[1]


# ---- files --------------------------------------------------------------------------------------------------------


def test_every_file_of_a_round_is_some_stages() -> None:
    folder = round_files.RoundFolder(Path())
    own = [name for name in dir(folder) if not name.startswith("_") and name != "path"]
    values = [value() if callable(value := getattr(folder, name)) else value for name in own if name != "live"]
    names = {str(value) for value in values}
    assert {"picks.parquet", "history.npy", "metrics.json", "waiting.json", "predictions"} <= names
    for name in [*names, str(folder.predictions(1.5)), str(folder.checkpoint("-teacher"))]:
        stages = [s for s, patterns in round_files.WRITES.items() if any(Path(name).match(p) for p in patterns)]
        assert len(stages) == 1, name


def test_a_finished_round_holds_nothing_else(finished: Path) -> None:
    for folder in (finished / "rounds").iterdir():
        of_stages = {path for stage in round_files.WRITES for path in round_files.files_of(folder, stage)}
        assert {path for path in folder.rglob("*") if path.is_file()} == of_stages


def test_a_file_that_cannot_be_read_names_the_command_that_mends_it(tmp_path: Path) -> None:
    for name, stage in (("scores.parquet", "score"), ("predictions", "predict"), ("history.npy", "train")):
        path = tmp_path / "rounds" / "012" / name
        read = {"predictions": files.read_detections, "history.npy": files.read_record}.get(name, files.read_table)
        with pytest.raises(LabelwiseError, match=rf"`labelwise redo 12 {stage} -p {tmp_path}` writes it again"):
            read(path)
    with pytest.raises(LabelwiseError, match="run the stage that writes it again"):
        files.read_table(tmp_path / "elsewhere.parquet")


def test_what_was_asked_of_another_ranking_is_not_asked_again(finished: Path, tmp_path: Path) -> None:
    opened = opening.start(finished, None)
    now, turned = Round(opened, 0), Round(opened, 0)
    asked = now.queries()[:3]
    assert ranking.of_another_ranking(now, asked) == set(), "the same ranking: ranks tell what was asked"
    files.write_table(tmp_path / "turned.parquet", {name: column[::-1] for name, column in now.picks.items()})
    turned.picks = files.TableFile(tmp_path / "turned.parquet")
    never = ranking.of_another_ranking(turned, asked)
    rest = ranking.next_queries(turned, 0, 99, {}, never)
    images = [query.image for query in rest]
    assert len(images) == now.picks.n_rows - 3 and not {query.image for query in asked} & set(images)


# ---- the ledger ---------------------------------------------------------------------------------------------------


def test_a_flipped_bit_of_the_ledger_is_told_or_does_no_harm(
    finished: Path, tmp_path: Path, expected: dict[str, object]
) -> None:
    rng = np.random.default_rng(3)
    outcomes = [damage.flipped_ledger(finished, tmp_path / "flip", rng, expected) for _ in range(24)]
    assert set(outcomes) <= {"right", "message"}
    assert outcomes.count("message") >= 3


def test_check_finds_a_damaged_ledger_and_goes_back_to_the_copy(project: Path, expected: dict[str, object]) -> None:
    assert CliRunner().invoke(app, ["check", str(project)]).output.endswith("20 files\n")
    with (project / "ledger.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    for command in (["status", "-p", str(project)], ["check", str(project)], ["run", "-p", str(project)]):
        said = CliRunner().invoke(app, command)
        assert isinstance(said.exception, LabelwiseError), command
        assert f"labelwise check {project} --restore" in str(said.exception)
    said = CliRunner().invoke(app, ["check", str(project), "--restore"])
    assert said.exit_code == 0 and (project / "ledger.damaged-1.sqlite").exists()
    run(project)
    assert kill.fingerprint(project) == expected
    (project / safety.COPY).unlink()
    with pytest.raises(LabelwiseError, match=r"no copy of its ledger.*\.recover"):
        health.restore(project)


def test_check_names_damaged_files(project: Path) -> None:
    damage.flip(project / "rounds/001/scores.parquet")
    said = CliRunner().invoke(app, ["check", str(project)])
    assert "round 1 score: scores.parquet is damaged" in said.output
    assert "labelwise run --project" in said.output and said.exit_code == 0


def test_a_traceback_that_damage_explains_becomes_its_message(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    OPENED.clear()
    opening.start(project, None).project.close()
    assert health.explains(IndexError()) is None, "nothing is wrong with it: the error is another one"
    with (project / "ledger.sqlite").open("r+b") as file:
        file.seek(8192)
        file.write(b"\x00" * 2048)
    found = health.explains(IndexError())
    assert found is not None and "is damaged" in str(found)
    OPENED.clear()


@pytest.mark.parametrize("wal", [False, True])
def test_a_project_that_cannot_be_written_can_be_looked_at(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wal: bool
) -> None:
    with sqlite3.connect(project / "ledger.sqlite") as connection:
        connection.execute("DROP TABLE passwords")  # made by an earlier labelwise
    connection.close()
    held = sqlite3.connect(project / "ledger.sqlite")
    if wal:  # a server has it open, and what it wrote last lies beside the file
        held.execute("INSERT INTO meta VALUES ('x', '1')")
        held.commit()
    monkeypatch.setattr(engine, "cannot_be_written", lambda path: True)
    before = {path: path.read_bytes() for path in project.iterdir() if path.is_file()}
    for command in (
        ["status", "-p", str(project)],
        ["report", str(project), "-o", str(tmp_path / "report.html")],
        ["export", "labels", "--to", "coco", "-p", str(project), "-o", str(tmp_path / "out")],
        ["check", str(project)],
    ):
        said = CliRunner().invoke(app, command)
        assert said.exit_code == 0, (said.output, said.exception)
    assert (tmp_path / "report.html").exists() and (tmp_path / "out" / "DATA_CARD.md").exists()
    after = {path: path.read_bytes() for path in project.iterdir() if path.is_file()}
    assert {k: v for k, v in after.items() if k.suffix != ".sqlite-shm"} == {
        k: v for k, v in before.items() if k.suffix != ".sqlite-shm"
    }
    with pytest.raises(LabelwiseError, match="cannot be written: check the permissions"):
        opening.start(project, None).project.ledger.mark_started(5, "train")
    held.close()


# ---- disks that are full, data that were generated by half ----------------------------------------------------------


def test_a_full_disk_is_a_message_in_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = opening.start(tmp_path / "p", "demo", [*kill.SMALL, "train.epochs=1", "train.min_steps=4"])

    def full(path: Path) -> None:
        if path.name != ".lock.holder.json":
            raise OSError(errno.ENOSPC, "No space left on device")

    stuck = set()
    with opened.project.lock():
        loop.begin(opened)
        for round_number in (0, 1):
            for name in loop.STAGES:
                with monkeypatch.context() as patched:
                    patched.setattr(disk, "sync", full)
                    patched.setattr("labelwise.files.shards.sync", full)
                    try:
                        loop.run_stage(opened, round_number, name)
                    except LabelwiseError as error:
                        stuck.add(name)
                        assert re.search("disk full while writing .*free space and run the same", str(error))
                loop.run_stage(opened, round_number, name)
    assert stuck == set(loop.STAGES)  # `ask`: in the copy of the ledger; the ledger itself has words of its own


def test_the_record_of_a_training_takes_its_space_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("this system cannot reserve the space of a file")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    squares = __import__("torch").zeros((3, 3, 4, 4), dtype=__import__("torch").uint8)
    with pytest.raises(OSError, match="No space"):
        Recorder(tmp_path / "history.npy", squares, np.arange(3), 2, 1)._table()


def test_what_a_kill_left_while_data_were_generated_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    settings = [*kill.SMALL, "data.scenes={train=3, test=1, seed=3, size_px=64}", "budget.start_images=1"]
    opening.start(folder, "demo", settings).project.close()
    whole = sorted(path.name for path in (folder / "data").rglob("*"))
    shutil.rmtree(folder / "data")
    with pytest.raises(KeyboardInterrupt), disk.new_folder(folder / "data") as partial:
        shutil.copytree(partial, folder / f".data.killed{disk.SUFFIX}")
        raise KeyboardInterrupt
    (folder / f".data.killed{disk.SUFFIX}" / "half.jpg").write_bytes(b"half")
    opening.start(folder, None).project.close()
    assert sorted(path.name for path in (folder / "data").rglob("*")) == whole
    assert not list(folder.glob(".data.*"))


def test_changes_read_as_sentences() -> None:
    before = {"train": {"epochs": 3}, "budget": {"per_round": [6, 6]}, "name": "a"}
    after = {"train": {"epochs": 3, "lr": 0.1}, "budget": {"per_round": [6, 9, 9]}, "name": "b"}
    assert changes.between(before, after) == ["budget.per_round: [6, 6] -> [6, 9]", "train.lr: none -> 0.1"]
    assert json.loads(json.dumps(before)) == before, "they are left as they are"


def test_a_query_is_the_same_by_image_and_box() -> None:
    one = Query(1, 0, "a.jpg", "box", (1.0, 2.0, 3.0, 4.0), 1, 0.5)
    assert one.place == ("a.jpg", (1.0, 2.0, 3.0, 4.0))
