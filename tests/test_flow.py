"""The whole round: three rounds on generated scenes; killed and resumed, corrupt images, the lock, changed classes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from labelwise import loop
from labelwise.project import opening
from labelwise.study import history
from labelwise.types import LabelwiseError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kill  # the same run and the same comparison as the benchmark with 20 kills


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of three rounds."""
    folder = tmp_path_factory.mktemp("flow") / "calm"
    list(loop.run(opening.start(folder, "demo", kill.SMALL)))
    return folder


def test_three_rounds_fill_ledger_and_folders(finished: Path) -> None:
    opened = opening.start(finished, None)
    assert loop.next_stage(opened) is None
    results = [history.round_result(opened, r) for r in range(3)]
    assert [r.cost_boxes for r in results[1:]] <= [results[0].cost_boxes + 6, results[0].cost_boxes + 12]
    assert results[0].cost_queries == 8
    assert results[2].cost_queries > results[1].cost_queries > 8
    for result in results:
        assert result.quality is not None
        assert 0 <= result.quality <= 1
        assert set(result.stage_seconds) == set(loop.STAGES)
    labels = opened.project.ledger.labels(opened.pool)
    truth = {tuple(box) for box in opened.pool.truth.xyxy.tolist()}  # type: ignore[union-attr]
    assert {tuple(box) for box in labels.annotations.xyxy.tolist()} <= truth
    assert len(labels.annotations) == results[2].cost_boxes


def test_killed_at_random_moments_and_restarted_it_ends_in_the_same_state(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    rng = np.random.default_rng(5)
    begun = 0
    for delay in rng.uniform(3, 12, 3):
        process = kill.start(folder)
        deadline = time.monotonic() + 60
        while not (folder / "ledger.sqlite").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(delay / 4)
        begun += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert begun >= 1
    assert kill.kill_and_restart(folder, 0, rng, 0) == 0
    expected, got = kill.fingerprint(finished), kill.fingerprint(folder)
    for key, value in expected.items():
        assert got[key] == value, key
    assert kill.asked_twice(folder) == 0


def test_ctrl_c_says_how_to_resume(tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    process = kill.start(folder)
    deadline = time.monotonic() + 120
    while not (folder / "rounds" / "000" / "picks.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output = " ".join(process.communicate()[0].decode().split())
    # Python ends by the signal itself where it came while `exec` ran a text, as dataclasses do when they are imported
    assert process.returncode in (1, -signal.SIGINT)
    assert "stopped." in output
    assert "labelwise run --project" in output
    assert loop.next_stage(opening.start(folder, None)) is not None


def test_another_seed_draws_another_initial_pool(finished: Path, tmp_path: Path) -> None:
    def drawn(folder: Path) -> set[str]:
        return {q.image for q in opening.start(folder, None).project.ledger.queries(0)}

    other = opening.start(tmp_path / "other", "demo", [*kill.SMALL, "seed=1", "data.scenes.train=40"])
    with other.project.lock():
        loop.begin(other)
        for stage in ("predict", "score", "select", "ask"):
            assert loop.run_stage(other, 0, stage)
            assert not loop.run_stage(other, 0, stage)
    assert drawn(tmp_path / "other") != drawn(finished)


def test_a_second_run_on_the_same_project_refuses(finished: Path) -> None:
    opened = opening.start(finished, None)
    with opened.project.lock():
        refused = subprocess.run(
            [sys.executable, "-m", "labelwise", "run", "-p", str(finished)], capture_output=True, text=True, check=False
        )
    assert refused.returncode == 1
    assert "in use by process" in refused.stderr.replace("\n", " ")


def test_stages_by_hand_come_in_their_order(tmp_path: Path) -> None:
    opened = opening.start(tmp_path / "hand", "demo", kill.SMALL)
    with pytest.raises(LabelwiseError, match="it is the turn of 'predict'"):
        loop.run_next(opened, "train")
    assert loop.run_next(opened, "predict") == 0
    assert loop.next_stage(opened) == (0, "score")


@pytest.fixture
def broken_data(finished: Path, tmp_path: Path) -> Path:
    """The demo's data with one image of the pool cut short."""
    shutil.copytree(finished / "data", tmp_path / "data")
    first = next(q.image for q in opening.start(finished, None).project.ledger.queries(0))
    path = tmp_path / "data" / first
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return tmp_path / "data"


def test_a_corrupt_image_is_skipped_with_its_name_and_never_fatal(broken_data: Path, tmp_path: Path) -> None:
    settings = [s for s in kill.SMALL if not s.startswith(("data.scenes", "budget.per_round"))]
    base = tmp_path / "base.toml"
    base.write_text(
        f'[data]\nroot = "{broken_data}"\npool_split = "train"\ntest_split = "test"\n[budget]\nper_round = [6]\n'
    )
    opened = opening.start(tmp_path / "project", str(base), settings)
    list(loop.run(opened))
    skipped = [name for r in range(2) for name, _ in history.round_result(opened, r).skipped]
    assert len(skipped) >= 1
    assert all(opened.pool.root.joinpath(name).exists() for name in skipped)


def test_a_class_list_that_changed_between_rounds_is_refused(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(finished, folder)
    for path in (folder / "data").rglob("*.json"):
        content = json.loads(path.read_text())
        content["categories"][0]["name"] = "renamed"
        path.write_text(json.dumps(content))
    with pytest.raises(LabelwiseError, match="class"):
        list(loop.run(opening.start(folder, None, ["budget.per_round=[6, 6, 6]"])))


def test_a_budget_beyond_the_pool_ends_cleanly(tmp_path: Path) -> None:
    settings = [s for s in kill.SMALL if not s.startswith("budget")]
    opened = opening.start(
        tmp_path / "greedy", "demo", [*settings, "budget.start_images=500", "budget.per_round=[9999]"]
    )
    list(loop.run(opened))
    ask = opened.project.ledger.stage_done(1, "ask")
    assert ask is not None
    assert ask["ranking_exhausted"]
    assert opened.project.ledger.cost().images == len(opened.pool)
