"""What is lost or damaged is done again, and what depends on it follows only where it has changed."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labelwise import loop
from labelwise.cli import app
from labelwise.errors import LabelwiseError
from labelwise.ledger import records
from labelwise.project import changes, opening, repair
from labelwise.report import page
from labelwise.study import history

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import damage
import kill


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


def look(folder: Path) -> list[str]:
    """What is found when a project is opened to go on; nothing is done again yet."""
    told: list[str] = []
    opened = opening.start(folder, None)
    opened.tell = told.append
    repair.look(opened)
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


def test_so_much_is_read_of_the_newest_rounds_and_of_the_others_sizes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = [path for path in (project / "rounds/002").rglob("*") if path.is_file()]
    monkeypatch.setattr(repair, "CHECKED_BYTES", sum(path.stat().st_size for path in newest))
    damage.flip(project / "rounds/002/metrics.json")
    damage.flip(project / "rounds/001/metrics.json")
    damage.cut(project / "rounds/000/metrics.json")
    assert [line.split(":")[0] for line in look(project)] == ["round 0 evaluate", "round 2 evaluate"]
    left = [number for number in range(3) if (project / f"rounds/00{number}/metrics.json").exists()]
    assert left == [1], "what is damaged is not left where it lay"


def test_what_is_wrong_is_told_in_the_order_of_the_rounds_and_stages(project: Path) -> None:
    for file in ("002/scores.parquet", "001/metrics.json", "001/checkpoint.safetensors", "001/scores.parquet"):
        (project / "rounds" / file).unlink()
    found = ["round 1 score", "round 1 train", "round 1 evaluate", "round 2 score"]
    assert [line.split(":")[0] for line in look(project)] == found


def test_the_files_of_what_was_asked_are_nobodys_damage(project: Path) -> None:
    (project / "rounds/001/waiting.json").write_text("{}")
    assert run(project) == []


def test_predictions_are_missed_in_a_project_of_an_earlier_labelwise(project: Path) -> None:
    """But for those of round 0, which predicts nothing."""
    with sqlite3.connect(project / "ledger.sqlite") as connection:
        connection.execute("DELETE FROM meta WHERE key LIKE 'stage %'")
    connection.close()
    shutil.rmtree(project / "rounds/001/predictions")
    assert look(project) == ["round 1 predict: predictions* is missing; it is done again"]


def test_another_ranking_is_made_for_the_record_and_nothing_is_asked_again(project: Path) -> None:
    ledger = opening.start(project, None).project.ledger
    before = ledger.queries(), ledger.cost_by_round()
    record = records.of_stage(ledger, 1, "score")
    record["files"]["scores.parquet"] = [1, 1]
    with ledger.write() as connection:
        records.keep(connection, records.key_of(1, "score"), record)
    assert run(project)[1:] == [
        "round 1 score: done again, not the same as before: round 1 select follow; what was asked is not asked again",
        "round 1 select: done again, the same bit for bit",
    ]
    assert (ledger.queries(), ledger.cost_by_round()) == before


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


def test_a_stage_before_the_answers_sees_those_of_earlier_rounds_alone(
    project: Path, expected: dict[str, object]
) -> None:
    opened = opening.start(project, None)
    told: list[str] = []
    opened.tell = told.append
    for name in repair.BEFORE_ANSWERS:
        loop.redo(opened, 1, name)
    assert told == [f"round 1 {name}: done again, the same bit for bit" for name in repair.BEFORE_ANSWERS]
    seen = {name: records.of_stage(opened.project.ledger, 1, name)["seen"]["round"] for name in loop.STAGES}
    assert seen == {name: int(name not in repair.BEFORE_ANSWERS) for name in loop.STAGES}
    assert kill.fingerprint(project) == expected


def test_what_follows_a_redo_takes_the_settings_of_now_and_begins_no_round(project: Path) -> None:
    opened = opening.start(project, None, ["train.min_steps=6", "budget.per_round=[6, 6, 6]"])
    loop.redo(opened, 2, "train")
    ledger = opened.project.ledger
    used = {name: records.of_stage(ledger, 2, name)["settings"] for name in ("label", "train", "evaluate")}
    assert used["train"] == used["evaluate"] != used["label"]
    assert loop.next_stage(opened) == (3, "predict")
    assert {row["round"] for row in ledger.stages()} == {0, 1, 2}


def test_a_correction_that_came_later_is_taken_in_by_redo_alone(project: Path) -> None:
    opened = opening.start(project, None)
    opened.project.ledger.correct(1, (0.0, 0.0, 9.0, 9.0), None, "ann")
    (project / "rounds/000/targets.safetensors").unlink()
    assert run(project)[1:] == ["round 0 label: done again, the same bit for bit"]
    told: list[str] = []
    opened.tell = told.append
    repair.redo(opened, 0, "label")
    assert loop.run_stage(opened, 0, "label")
    assert told == ["round 0 label: done again, not the same as before: round 0 train follow"]


def test_of_a_round_that_has_not_asked_nothing_is_said_of_answers(project: Path) -> None:
    opened = opening.start(project, None, ["budget.per_round=[6, 6, 6]"])
    for name in repair.BEFORE_ANSWERS:
        assert loop.run_stage(opened, 3, name)
    ledger = opened.project.ledger
    record = records.of_stage(ledger, 3, "score")
    record["files"]["scores.parquet"] = [1, 1]
    with ledger.write() as connection:
        records.keep(connection, records.key_of(3, "score"), record)
    told: list[str] = []
    opened.tell = told.append
    repair.look(opened)
    assert loop.run_stage(opened, 3, "score")
    assert told[1:] == ["round 3 score: done again, not the same as before: round 3 select follow"]


def test_a_stage_that_was_never_done_is_not_done_again(project: Path) -> None:
    opened = opening.start(project, None, ["budget.per_round=[6, 6, 6]"])
    opened.project.ledger.mark_started(3, "predict")  # and there it was killed
    assert repair.due(opened) is None
    loop.redo(opened, 1, "evaluate")
    assert loop.next_stage(opened) == (3, "predict")


def test_the_address_of_the_ledger_is_not_kept_with_the_settings(project: Path) -> None:
    settings = opening.start(project, None).run
    secret = settings.model_copy(update={"ledger": "postgresql://me:secret@here/labels"})
    assert "secret" not in str(repair.kept_settings(secret))
    assert repair.kept_settings(secret) == repair.kept_settings(settings)


def test_settings_of_then_that_cannot_be_read_are_told_and_those_of_now_are_taken(project: Path) -> None:
    """They are of another version of labelwise."""
    ledger = opening.start(project, None).project.ledger
    record = records.of_stage(ledger, 1, "evaluate")
    record["settings"] = records.keep_settings(ledger, {"a_setting_of_then": 1})
    with ledger.write() as connection:
        records.keep(connection, records.key_of(1, "evaluate"), record)
    (project / "rounds/001/metrics.json").unlink()
    told = run(project)
    assert [line for line in told if line.startswith("the settings of now are taken: ")] == told[-2:-1]
    assert told[-1] == "round 1 evaluate: done again, the same bit for bit"
