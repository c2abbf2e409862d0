"""No dead ends: lost and damaged files are made again, a damaged ledger is told, a read-only project is shown."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labelwise import files, loop
from labelwise.cli import app, health
from labelwise.errors import LabelwiseError
from labelwise.files import round_files
from labelwise.ledger import engine, records, safety
from labelwise.predict.recorder import Recorder
from labelwise.project import changes, opening, repair
from labelwise.project.project_folder import OPENED
from labelwise.project.round import Round
from labelwise.report import page
from labelwise.stages import ranking
from labelwise.study import history
from labelwise.types import Query, disk

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import damage
import kill

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of three rounds."""
    folder = tmp_path_factory.mktemp("damage") / "calm"
    opened = opening.start(folder, "demo", [*kill.SMALL, "train.epochs=1", "train.min_steps=4"])
    list(loop.run(opened))
    opened.project.close()
    return folder


@pytest.fixture(scope="module")
def expected(finished: Path) -> dict[str, object]:
    return kill.fingerprint(finished)


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return damage.copied(finished, tmp_path / "damaged")


def run(folder: Path, settings: list[str] | None = None) -> list[str]:
    """Runs a project to its end; what was told meanwhile."""
    told: list[str] = []
    opened = opening.start(folder, None, settings or [])
    opened.tell = told.append
    list(loop.run(opened))
    return told


# ---- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "harm", "stage"),
    [
        ("000/checkpoint.safetensors", damage.delete, "round 0 train"),
        ("001/checkpoint.safetensors", damage.flip, "round 1 train"),
        ("001/predictions/part-00001.parquet", damage.delete, "round 1 predict"),
        ("002/predictions/part-00000.parquet", damage.cut, "round 2 predict"),
        ("002/predictions/part-00002.parquet", damage.flip, "round 2 predict"),
        ("001/scores.parquet", damage.cut, "round 1 score"),
        ("002/scores.parquet", damage.flip, "round 2 score"),
        ("001/picks.parquet", damage.delete, "round 1 select"),
        ("000/picks.parquet", damage.flip, "round 0 select"),
        ("002/targets.safetensors", damage.delete, "round 2 label"),
        ("001/targets.safetensors", damage.flip, "round 1 label"),
        ("002/metrics.json", damage.delete, "round 2 evaluate"),
        ("000/metrics.json", damage.cut, "round 0 evaluate"),
    ],
)
def test_a_lost_or_damaged_file_is_made_again(
    file: str, harm: Callable[[Path], None], stage: str, project: Path, expected: dict[str, object]
) -> None:
    harm(project / "rounds" / file)
    found, made = run(project)
    assert found.startswith(f"{stage}: {file[4:]} ") and found.endswith("it is done again")
    assert made == f"{stage}: done again, the same bit for bit"
    assert kill.fingerprint(project) == expected
    assert run(project) == []


def test_a_file_that_does_not_belong_there_and_a_lost_folder(project: Path, expected: dict[str, object]) -> None:
    shutil.copy(
        project / "rounds/001/predictions/part-00000.parquet", project / "rounds/001/predictions/part-00009.parquet"
    )
    shutil.rmtree(project / "rounds/002")
    told = run(project)
    assert told[0] == "round 1 predict: predictions/part-00009.parquet does not belong there; it is done again"
    assert sum("is missing" in line for line in told) == 6, "of round 2 all but ask"
    assert all("the same bit for bit" in line for line in told[7:])
    assert kill.fingerprint(project) == expected


def test_what_depends_on_a_stage_follows_only_if_it_wrote_other_files(project: Path) -> None:
    """As on another machine: the record says that other bytes were there."""
    opened = opening.start(project, None)
    ledger, asked = opened.project.ledger, opened.project.ledger.queries()
    record = records.of_stage(ledger, 1, "train")
    record["files"]["checkpoint.safetensors"] = [1, 1]
    with ledger.write() as connection:
        records.keep(connection, records.key_of(1, "train"), record)
    told = run(project)
    warm = opened.run.train.warm_start
    follow = "round 1 evaluate, round 2 predict, round 2 score" + (", round 2 train" if warm else "")
    assert told[1] == f"round 1 train: done again, not the same as before: {follow} follow"
    assert "round 2 predict: done again, the same bit for bit" in told
    assert not [line for line in told if "round 2 label" in line], "its predictions are the same"
    after = opening.start(project, None).project.ledger
    assert after.queries() == asked
    assert after.cost_by_round() == ledger.cost_by_round()


def test_a_stage_that_is_done_again_survives_a_kill(project: Path, expected: dict[str, object]) -> None:
    (project / "rounds/000/checkpoint.safetensors").unlink()
    opened = opening.start(project, None)
    for name in (".ledger.copy.sqlite.77.labelwise-tmp", ".ledger.copy.sqlite.77.labelwise-tmp-journal"):
        (project / name).write_text("half")
    repair.look(opened)  # and there it was killed
    assert not list(project.glob(".*tmp*"))
    assert loop.next_stage(opened) == (0, "train")
    with opened.project.ledger.write() as connection:  # meanwhile somebody corrects a label
        connection.exec_driver_sql(
            "INSERT INTO annotations (image, x1, y1, x2, y2, label, origin, round, query_id, supersedes, created) "
            "SELECT image, x1, y1, x2, y2, NULL, 'person ann', round, query_id, id, created FROM annotations LIMIT 1"
        )
    assert run(project) == ["round 0 train: done again, the same bit for bit"]
    assert kill.fingerprint(project)["weights"] == expected["weights"]


def test_a_project_of_an_earlier_labelwise(project: Path) -> None:
    """It kept no sums: only what is missing can be found, and what it was before nobody knows."""
    with sqlite3.connect(project / "ledger.sqlite") as connection:
        connection.execute("DELETE FROM meta WHERE key LIKE 'stage %'")
    connection.close()
    (project / "rounds/001/targets.safetensors").unlink()
    told = run(project)
    assert told[0] == "round 1 label: targets.safetensors is missing; it is done again"
    assert told[1].startswith("round 1 label: done again; what it was before nobody knows")


def test_every_file_of_a_round_is_some_stages() -> None:
    folder = round_files.RoundFolder(Path())
    own = [name for name in dir(folder) if not name.startswith("_") and name != "path"]
    values = [value() if callable(value := getattr(folder, name)) else value for name in own]
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


def test_what_was_asked_of_another_ranking_is_not_asked_again(finished: Path) -> None:
    opened = opening.start(finished, None)
    now, turned = Round(opened, 0), Round(opened, 0)
    asked = now.queries()[:3]
    assert ranking.of_another_ranking(now, asked) == set(), "the same ranking: ranks tell what was asked"
    turned.picks = {name: column[::-1] for name, column in now.picks.items()}
    never = ranking.of_another_ranking(turned, asked)
    rest = ranking.next_queries(turned, 0, 99, {}, never)
    images = [query.image for query in rest]
    assert len(images) == len(now.picks["row"]) - 3 and not {query.image for query in asked} & set(images)


# ---- redo and settings --------------------------------------------------------------------------------------------


def test_redo_does_a_stage_again_and_what_follows(project: Path, expected: dict[str, object]) -> None:
    said = CliRunner().invoke(app, ["redo", "1", "label", "--project", str(project)])
    assert said.exit_code == 0 and "round 1 label: done again, the same bit for bit" in said.output
    assert kill.fingerprint(project) == expected
    opened = opening.start(project, None, ["train.min_steps=6"])
    loop.redo(opened, 1, "train")
    assert loop.next_stage(opened) is None
    assert kill.fingerprint(project)["weights"] != expected["weights"]
    assert kill.fingerprint(project)["picks"] == expected["picks"]


@pytest.mark.parametrize(
    ("round_number", "stage", "message"),
    [
        (1, "ask", r"is not asked again.*labelwise redo 1 label"),
        (1, "tran", r"unknown stage 'tran'.*Did you mean 'train'"),
        (7, "train", r"round 7: train has not been done yet"),
    ],
)
def test_redo_refuses(finished: Path, round_number: int, stage: str, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        loop.redo(opening.start(finished, None), round_number, stage)
    assert run(finished) == []


def test_settings_that_changed_are_told_marked_and_not_used_for_what_was_before(
    project: Path, expected: dict[str, object]
) -> None:
    (project / "rounds/000/checkpoint.safetensors").unlink()
    told = run(project, ["train.min_steps=6", "budget.per_round=[6, 6, 6]"])
    assert told[0] == "settings have changed: train.min_steps: 4 -> 6, from round 3 predict on"
    assert "round 0 train: done again, the same bit for bit" in told, "with the settings of then"
    got, weights = kill.fingerprint(project), expected["weights"]
    assert got["weights"][:3] == weights  # type: ignore[index]
    opened = opening.start(project, None)
    assert changes.by_round(opened) == {3: ["train.min_steps: 4 -> 6 (from predict on)"]}
    result = history.run_result(opened)
    text = page.html([result], title="changed")
    assert "Settings that changed" in text and "train.min_steps: 4 -&gt; 6 (from predict on)" in text
    assert "Points with a ring" in text


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


def test_a_query_is_the_same_by_image_box_and_class() -> None:
    one = Query(1, 0, "a.jpg", "box", (1.0, 2.0, 3.0, 4.0), 1, 0.5)
    assert ranking._key(one) == ("a.jpg", (1.0, 2.0, 3.0, 4.0), 1)
