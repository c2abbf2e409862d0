"""Loggers: what TensorBoard and MLflow hold is the run's curve, each point once, however often the run was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import teller
from test_web import project

from labelwise import loop
from labelwise.config.log_rule import LogRule
from labelwise.files.round_files import STAGES
from labelwise.ledger import records
from labelwise.log import mlflow as to_mlflow
from labelwise.log import wandb as to_wandb
from labelwise.log._entries import Entry
from labelwise.project import opening, repair, run_log
from labelwise.project.context import Context
from labelwise.study import compare, history
from labelwise.types import LabelwiseError

ROOT = Path(__file__).parents[1]
SETTINGS = ['ask.who="oracle"', "data.test_share=0.34", "budget.start_images=2", "budget.per_round=[3, 3]"]
Curve = dict[str, list[tuple[int, float]]]


def begin(folder: Path, *to: str) -> Context:
    """A run of three rounds that takes a second a round."""
    return project(folder, *SETTINGS, f"log.to={list(to)}", images=12)


def again(opened: Context) -> Context:
    """The same project, as another process opens it."""
    folder = opened.project.folder
    opened.project.close()
    to_mlflow._client.cache_clear()
    to_mlflow._run.cache_clear()
    to_mlflow._held.cache_clear()
    return opening.start(folder, None)


def finish(opened: Context) -> Context:
    list(loop.run(opened))
    return opened


def expected(opened: Context) -> Curve:
    """The curve as `history` reads it from ledger and files."""
    found: Curve = {}
    for number in range(opened.run.rounds):
        one = history.round_result(opened, number)
        assert one.quality is not None
        found.setdefault("quality/AP50", []).append((number, one.quality))
        for unit in ("boxes", "queries", "images", "seconds"):
            spent = getattr(one, f"cost_{unit}")
            found.setdefault(f"by {unit}/AP50", []).append((round(spent), one.quality))
            found.setdefault(f"spent/{unit}", []).append((number, spent))
        for stage, seconds in one.stage_seconds.items():
            found.setdefault(f"seconds/{stage}", []).append((number, seconds))
    return found


def in_tensorboard(folder: Path) -> Curve:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def in_mlflow(folder: Path) -> tuple[Curve, Any]:
    """The curves, and the only run, read from the files of the store."""
    tracking = pytest.importorskip("mlflow.tracking")
    client = tracking.MlflowClient(tracking_uri=folder.resolve().as_uri())
    [experiment] = [one for one in client.search_experiments() if one.name == "labelwise"]
    [run] = client.search_runs([experiment.experiment_id])
    curves = {
        name: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    return curves, run


def check(held: Curve, wanted: Curve, tolerance: float) -> None:
    for name, points in wanted.items():
        assert sorted(held[name]) == [pytest.approx(one, abs=tolerance, rel=tolerance) for one in sorted(points)], name


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the logger sets it; here it is put back afterwards


def test_the_event_files_hold_the_curve_and_a_run_that_is_done_adds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    opened = finish(begin(tmp_path, "tensorboard"))
    folder = opened.project.folder / "log" / "tensorboard"
    check(in_tensorboard(folder), expected(opened), 1e-6)
    assert in_tensorboard(folder)["train/loss"], "the loss, too"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(files) == 3 * len(STAGES) + 1
    finish(again(opened))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_stage_that_is_done_again_replaces_its_points(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    opened = finish(begin(tmp_path, "tensorboard"))
    loop.redo(opened, 1, "evaluate")
    check(in_tensorboard(opened.project.folder / "log" / "tensorboard"), expected(opened), 1e-6)


def test_mlflow_holds_the_curve_and_the_settings_once(tmp_path: Path, env: None) -> None:
    pytest.importorskip("mlflow")
    opened = finish(begin(tmp_path, "mlflow"))
    folder = opened.project.folder / "log" / "mlflow"
    held, run = in_mlflow(folder)
    check(held, expected(opened), 1e-12)
    assert run.info.run_name == "small, seed 0"
    assert run.data.params["budget.per_round"] == "[3.0, 3.0]" and run.data.params["name"] == "small"
    finish(again(opened))
    assert in_mlflow(folder)[0] == held
    longer = opening.start(opened.project.folder, None, ["budget.per_round=[3, 3, 2]"])
    finish(longer)
    held, run = in_mlflow(folder)
    check(held, expected(longer), 1e-12)
    assert run.data.tags["changed budget.per_round"] == "[3.0, 3.0, 2.0]"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_mlflow_stopped_in_the_middle_of_a_stage_goes_on_with_what_is_missing(
    tmp_path: Path, env: None, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.store.tracking.file_store import FileStore

    opened, whole, calls = begin(tmp_path, "mlflow"), FileStore._log_run_metric, Counter[str]()

    def dies(self: Any, run: Any, metric: Any) -> None:
        calls[metric.key] += 1
        if sum(calls.values()) == 40:
            raise error
        whole(self, run, metric)

    monkeypatch.setattr(FileStore, "_log_run_metric", dies)
    if error is OSError:  # the run goes on, and so does the logger
        finish(opened)
    else:
        with pytest.raises(error):
            finish(opened)
        assert sum(calls.values()) == 40
        opened = finish(again(opened))
    held, _ = in_mlflow(opened.project.folder / "log" / "mlflow")
    check(held, expected(opened), 1e-12)


def test_a_process_killed_and_started_again_logs_every_point_once(tmp_path: Path, env: None) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("tensorboard")
    opened = begin(tmp_path, "tensorboard", "mlflow")
    folder = opened.project.folder
    opened.project.close()
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT / "tests")))
    command = [sys.executable, "-m", "labelwise", "run", "--project", str(folder)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    first = folder / "log" / "tensorboard" / f"events.out.tfevents.{1:06d}3.labelwise"  # ask of the second round
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was in the middle"
    opened = finish(again(opening.start(folder, None)))
    check(in_tensorboard(folder / "log" / "tensorboard"), expected(opened), 1e-6)
    check(in_mlflow(folder / "log" / "mlflow")[0], expected(opened), 1e-12)


# ---------------------------------------------------------------------------------------------------- Weights & Biases


class FakeRun:
    """Keeps what W&B's run would: steps only grow, as there."""

    def __init__(self, how: dict[str, Any], step: int) -> None:
        self.id, self.how, self.step, self.finished = how["id"], how, step, False
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.axes: dict[str, str] = {}

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes[name] = step_metric

    def finish(self) -> None:
        self.finished = True

    def log(self, row: dict[str, float], step: int, commit: bool | None = None) -> None:
        assert commit, "with a step W&B keeps the row back until the next one"
        assert step >= self.step, "W&B drops what goes back"
        self.rows.append((step, row))
        self.step = step + 1


class FakeWandb(SimpleNamespace):
    """A stand-in for the module; online the server knows how far a run is."""

    def __init__(self) -> None:
        super().__init__(run=None, runs=[])

    def init(self, **how: Any) -> FakeRun:
        if self.run is not None and how.get("reinit") != "create_new":
            return self.run  # W&B gives the run of the process
        before = [run.step for run in self.runs if run.id == how["id"] and how["mode"] == "online"]
        self.run = FakeRun(how, max(before, default=0))
        self.runs.append(self.run)
        return self.run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    made = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", made)  # type: ignore[arg-type]
    monkeypatch.setattr(to_wandb, "_RUNS", {})
    monkeypatch.setattr(to_wandb.atexit, "register", lambda work: None)
    return made


@pytest.mark.parametrize("server", [False, True])
def test_wandb_is_told_every_stage_once_and_goes_on_with_its_run(tmp_path: Path, fake: FakeWandb, server: bool) -> None:
    mode = "online" if server else "offline"
    opened = project(tmp_path, *SETTINGS, f'log.to=[{{name="wandb", mode="{mode}"}}]', images=12)
    with opened.project.lock():
        loop.resume(opened)
        for name in STAGES[:5]:
            loop.run_stage(opened, 0, name)
    fake.run = None  # the process ended
    to_wandb._RUNS.clear()
    opened = finish(again(opened))
    assert (opened.project.folder / "log" / "wandb.json").exists() is not server, "online W&B knows"
    first, *others = fake.runs
    assert (
        len(others) == 1
        and first.how["mode"] == mode
        and first.how["name"] == "small, seed 0"
        and first.how["resume"] == "allow"
    )
    assert first.how["config"]["budget.per_round"] == "[3.0, 3.0]" and "log.to" not in first.how["config"]
    assert {run.id for run in others} == {first.id} and first.axes["quality/*"] == "spent/boxes"
    rows = [row for run in fake.runs for row in run.rows]
    steps = [step for step, _ in rows]
    assert steps == sorted(set(steps)) and len(steps) == 3 * len(STAGES)
    curve = [(row["spent/boxes"], row["quality/AP50"]) for _, row in rows if "quality/AP50" in row]
    wanted = [(one.cost_boxes, one.quality) for one in (history.round_result(opened, r) for r in range(3))]
    assert curve == wanted


def test_wandb_has_a_run_for_each_project_of_a_process(
    tmp_path: Path, fake: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Any] = []
    monkeypatch.setattr(to_wandb.atexit, "register", ends.append)
    for name in ("a", "b"):
        finish(begin(tmp_path / name, "wandb"))
    assert len({run.id for run in fake.runs}) == len(fake.runs) == 2
    assert [len(run.rows) for run in fake.runs] == [3 * len(STAGES)] * 2
    for end in ends:
        end()
    assert all(run.finished for run in fake.runs)


def test_a_package_that_is_missing_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = begin(tmp_path, "wandb", "mlflow")
    for name, install in (("wandb", "wandb"), ("mlflow", r"labelwise\[mlflow\]"), ("tensorboard", r"\[tensorboard\]")):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        opened.run = opened.run.model_copy(update={"log": LogRule(to=(name,))})
        with pytest.raises(LabelwiseError, match=f"needs the package {name}.*pip install .*{install}"):
            list(loop.run(opened))
    assert loop.next_stage(opened) == (0, "predict")


def test_a_tracking_server_that_cannot_be_reached_stops_nothing(
    tmp_path: Path, env: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "")  # it is put back afterwards
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    store = 'log.to=["fakes.teller", {name="mlflow", uri="http://me:secret@127.0.0.1:9"}, "tensorboard"]'
    opened, lines = project(tmp_path, *SETTINGS, store, images=12), list[str]()
    opened.tell = lines.append
    teller.TOLD.clear()
    with opened.project.lock():
        loop.resume(opened)
        loop.run_stage(opened, 0, "predict")
    assert len(teller.TOLD) == 2 and os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    said = [line for line in lines if "the logger mlflow" in line]
    assert len(said) == 2 and "http://***@127.0.0.1:9" in said[0]
    kept = records.every(opened.project.ledger)
    assert "secret" not in f"{lines}{kept}{teller.TOLD}"
    assert (opened.project.folder / "log" / "tensorboard").exists(), "the loggers after it are told"
    opened.run = opened.run.model_copy(
        update={"log": LogRule.model_validate({"to": {"name": "mlflow", "uri": "nowhere://y"}})}
    )
    with pytest.raises(LabelwiseError, match="mlflow cannot use the store nowhere://y"):
        loop.resume(opened)


def test_what_a_ledger_kept_of_loggers_is_no_change(tmp_path: Path) -> None:
    opened, lines = begin(tmp_path, "fakes.teller"), list[str]()
    with opened.project.lock():
        loop.resume(opened)
        loop.run_stage(opened, 0, "predict")
    ledger = opened.project.ledger
    record = records.of_stage(ledger, 0, "predict")
    before = repair.kept_settings(opened.run) | {"log": {"to": [{"name": "mlflow", "uri": "http://me:secret@x"}]}}
    record["settings"] = records.keep_settings(ledger, before)  # as an earlier labelwise did
    with ledger.write() as connection:
        records.keep(connection, records.key_of(0, "predict"), record)
    opened.tell = lines.append
    loop.resume(opened)
    assert not [line for line in lines if "log" in line or "changed" in line]


def test_methods_that_are_compared_have_a_run_each(tmp_path: Path) -> None:
    first = begin(tmp_path, "fakes.teller")
    loop.begin(first)
    run, keys = first.run, set()
    for change in ({}, {"name": "other"}, {"seed": 1}, {"name": "other"}):
        first.run = run.model_copy(update=change)
        keys.add(run_log._about(first).key)
    assert len(keys) == 3
    assert "log" in compare.OWN


# ---------------------------------------------------------------------------------------------------------- any logger


def test_names_for_mlflow_are_no_paths_and_differ() -> None:
    found = to_mlflow.metric_names(["class/a/b", "class/a_b", "class/a.b", "class/a_b 2", "by boxes/AP50", "class/.."])
    assert list(found.values()) == [
        "class/a_b",
        "class/a_b 2",
        "class/a_b 3",
        "class/a_b 2 2",
        "by boxes/AP50",
        "class/__",
    ]


def test_a_logger_that_fails_is_told_and_stops_nothing(tmp_path: Path) -> None:
    opened, lines = begin(tmp_path, "fakes.teller"), list[str]()
    opened.tell = lines.append
    opened.run = opened.run.model_copy(
        update={"log": LogRule.model_validate({"to": [{"name": "fakes.teller", "after": 4}]})}
    )
    teller.TOLD.clear()
    finish(opened)
    assert loop.next_stage(opened) is None
    said = [line for line in lines if "fakes.teller" in line]
    assert "failed: ConnectionError: the store is gone" in said[0] and len(said) == 3 * len(STAGES) - 4
    with pytest.raises(LabelwiseError, match=r"labelwise run. again hands over what is missing"):
        run_log.catch_up(opened)
    assert [len(entries) for entries, _ in teller.TOLD] == [0, 1, 2, 3, 4]


def test_an_entry_is_of_finite_numbers_and_what_is_not_measured_has_no_curve(tmp_path: Path) -> None:
    opened = project(tmp_path, 'ask.who="oracle"', 'log.to="fakes.teller"')
    teller.TOLD.clear()
    finish(opened)
    entries, about = teller.TOLD[-1]
    assert [one.place for one in entries] == list(range(len(STAGES))) * 2 and about.folder.name == "log"
    assert all(not one.spent for one in entries), "there is no test split"
    assert all(isinstance(value, float) for one in entries for value in one.values.values())
    assert "log.to" not in about.settings
    one = Entry(3, "evaluate", 6, 0.0, {"quality/AP": 0.5, "seconds/evaluate": 1.0}, {"boxes": 7, "seconds": 7.6})
    assert one.points()[2:] == [("by boxes/AP", 7, 0.5), ("by seconds/AP", 8, 0.5)]


def test_unknown_loggers_and_settings_are_told() -> None:
    with pytest.raises(ValueError, match="Did you mean 'mlflow'"):
        LogRule.model_validate({"to": "mflow"})
    with pytest.raises(ValueError, match="unknown setting of log/mlflow 'url'"):
        LogRule.model_validate({"to": [{"name": "mlflow", "url": "http://x"}]})
