"""`compare`: same start for all, resumable, errors before anything runs; and what its report says of a budget."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labelwise.project.opening import start
from labelwise.report import headroom, page, tables
from labelwise.report.results import RoundResult, RunResult
from labelwise.report.spread import groups
from labelwise.study import compare, history
from labelwise.study.compare import Comparison, Way
from labelwise.types import LabelwiseError

TINY = (
    "data.scenes={train=16, test=6, seed=0, classes=3, imbalance=3, size_px=64, digits=[2,4]}",
    "data.image_size_px=64",
    "model.weights=none",
    "model.score_threshold=0.01",
    "predict.min_score=0.01",
    "query.threshold=0.01",
    "train.steps=2",
    "budget.start_images=4",
    "budget.per_round=[4]",
)


def comparison(
    folder: Path, *methods: str, seeds: tuple[int, ...] = (0, 1), all_data: bool = False, bounds: bool = False
) -> Comparison:
    return Comparison(folder, "scenes", methods, seeds, TINY, all_data, bounds)


def test_all_methods_share_the_start_and_a_killed_comparison_continues(tmp_path: Path) -> None:
    wanted = comparison(tmp_path / "c", "random", "mc_dropout", seeds=(0,), all_data=True)
    assert wanted.check() == 1 + 2 + 1
    arguments = ["compare", "random", "mc_dropout", "--data", "scenes", "--seeds", "1", "--all-data"]
    arguments += ["--folder", str(wanted.folder), *(part for value in TINY for part in ("--set", value))]
    process = subprocess.Popen([sys.executable, "-m", "labelwise", *arguments], start_new_session=True)
    deadline = time.monotonic() + 600
    while wanted.rounds_done() < 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    process.wait()
    assert 1 <= wanted.rounds_done() < 4, "killed in the middle"
    seen: list[int] = []
    wanted.run(2, seen.append)
    assert wanted.rounds_done() == 4 and sum(seen) == 4
    runs = [history.run_result(start(path, None)) for path in wanted.projects()]
    assert [(r.name, len(r.rounds)) for r in runs] == [("random", 2), ("mc_dropout", 2), ("all data", 1)]
    assert not [r.changed for run in runs for r in run.rounds if r.changed], "a method is a choice, not a change"
    assert runs[2].rounds[0].cost_images == 16 and [g.is_all_data for g in groups(runs)] == [False, False, True]
    assert "Share of all data" in page.html(runs, title="c")
    assert runs[0].rounds[0].cost_boxes == runs[1].rounds[0].cost_boxes, "the same start images"
    first, own = (wanted.folder / name / "rounds/000/metrics.json" for name in ("_start_seed0", "random_seed0"))
    assert json.loads(first.read_text()) == json.loads(own.read_text()), "the same first model"


def test_the_bounds_begin_where_the_others_do_and_ask_nothing_or_everything(tmp_path: Path) -> None:
    wanted = comparison(tmp_path / "c", "random", seeds=(0,), bounds=True)
    assert wanted.check() == 1 + 1 + 2
    wanted.run(2, lambda _done: None)
    assert wanted.rounds_done() == 4
    random, none, every = [history.run_result(start(path, None)) for path in wanted.projects()]
    assert [none.name, every.name] == [headroom.NO_NEW_LABEL, headroom.EVERYTHING_LABELLED]
    assert [r.cost_images for r in none.rounds] == [4, 4] and [r.cost_images for r in every.rounds] == [4, 16]
    assert random.rounds[0].cost_boxes == none.rounds[0].cost_boxes == every.rounds[0].cost_boxes
    assert random.rounds[0].quality == none.rounds[0].quality == every.rounds[0].quality, "the same first model"
    assert {len(run.rounds) for run in (random, none, every)} == {2}, "as many trainings"
    assert "Share of the headroom" in page.html([random, none, every], title="c")


def test_what_cannot_be_compared_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(LabelwiseError, match="Did you mean 'random"):
        comparison(tmp_path / "c", "randon").check()
    with pytest.raises(LabelwiseError, match="listed twice"):
        comparison(tmp_path / "c", "random", "random").check()
    with pytest.raises(LabelwiseError, match="one recipe and one seed"):
        comparison(tmp_path / "c", "random", seeds=()).check()
    assert not (tmp_path / "c").exists()


def test_a_recipe_file_of_ones_own_can_be_compared(tmp_path: Path) -> None:
    mine = tmp_path / "deep" / "mine.toml"
    mine.parent.mkdir()
    mine.write_text('[query]\nscore = "margin"\n')
    wanted = comparison(tmp_path / "c", "random", f"random+{mine}", seeds=(0,))
    assert wanted.check() == 3
    assert wanted.project(f"random+{mine}", 0) == tmp_path / "c" / "random+mine_seed0"


DIES = """
import os, signal

def score(n):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_dies_is_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab_of_tests").mkdir()
    (tmp_path / "lab_of_tests" / "__init__.py").touch()
    (tmp_path / "lab_of_tests" / "dies.py").write_text(DIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "dies.toml").write_text('[query]\nscore = "lab_of_tests.dies"\n')
    wanted = comparison(tmp_path / "c", f"random+{tmp_path / 'dies.toml'}", "random", seeds=(0,))
    with pytest.raises(LabelwiseError, match=r"1 of 2 runs failed.*dies_seed0: its process ended .exit code -9"):
        wanted.run(1, lambda _: None)
    assert compare.is_finished(wanted.project("random", 0)), "in another process"
    assert not compare.is_finished(wanted.projects()[0])
    ledger = wanted.project("random", 0) / "ledger.sqlite"
    before = ledger.stat().st_mtime_ns
    (wanted.projects()[0] / "ledger.sqlite").write_bytes(b"damage" * 1000)
    with pytest.raises(LabelwiseError, match=r"dies_seed0 stopped: .*Its log .*dies_seed0\.log says more"):
        wanted.run(1, lambda _: None)
    assert ledger.stat().st_mtime_ns == before, "finished: not run again"


def test_a_comparison_goes_to_a_worker_as_it_is(tmp_path: Path) -> None:
    whole = Comparison(tmp_path, "scenes", ("a",), (0, 3), ("x=1",), ways=(compare.Way("a", "random", ("y=2",)),))
    assert Comparison.from_json(whole.as_json()) == whole


def test_two_comparisons_in_one_folder_are_refused(tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "c").mkdir()
    with FileLock(tmp_path / "c" / ".lock"), pytest.raises(LabelwiseError, match="another process compares"):
        comparison(tmp_path / "c", "random").run(1, lambda _: None)


# ------------------------------------------------------------------------------------------------ what a budget buys


def curve(name: str, seed: int, boxes: list[int], quality: list[float | None]) -> RunResult:
    rounds = [
        RoundResult(k, b, 2 * b, 0, 10.0 * b, ap=v, quality=v)
        for k, (b, v) in enumerate(zip(boxes, quality, strict=True))
    ]
    return RunResult(name, seed, ("a",), rounds)


def test_the_share_of_all_data_by_hand() -> None:
    def run(name: str, seed: int, *rounds: tuple[int, float]) -> RunResult:
        found = [RoundResult(i, 0, 0, images, 0.0, quality=quality) for i, (images, quality) in enumerate(rounds)]
        return RunResult(name, seed, ["a"], found, pool_images=40)

    runs = [run("u", 0, (2, 0.3), (4, 0.6)), run("u", 1, (2, 0.5), (4, 0.6)), run("all", 0, (40, 0.8))]
    u, whole = groups(runs)
    assert whole.is_all_data and not u.is_all_data
    table = tables.relative([u], whole)
    assert table.rows == [["u", "50.0 ± 17.7 % at 5 %", "75.0 ± 0.0 % at 10 %"]]
    assert "AP50 over the 80.0 of a model of all images" in table.note


def bounded(method: float, low: float = 0.5, high: float = 0.7) -> list[RunResult]:
    """Two seeds of two rounds: a method and the bounds; the second seed is 2 points higher everywhere."""
    names = {"u": method, headroom.NO_NEW_LABEL: low, headroom.EVERYTHING_LABELLED: high}
    return [curve(n, s, [10, 20], [0.4, q + 0.02 * s]) for n, q in names.items() for s in (0, 1)]


def test_the_share_of_the_headroom_by_hand() -> None:
    found = headroom.headroom(groups(bounded(0.65)))
    assert found is not None and "lie 20.0 points of AP50 (2 seeds)." in found.sentence
    assert "decide nothing" not in found.sentence
    assert found.table.rows[0] == ["u", "2", "66.0 ± 1.4", "+15.0 [+15.0, +15.0]", "75 %"]
    assert found.table.rows[1] == [headroom.NO_NEW_LABEL, "2", "51.0 ± 1.4", "–", "–"]
    assert found.table.rows[2][-1] == "100 %"


def test_a_bed_without_headroom_says_so_and_one_bound_alone_says_nothing() -> None:
    small = headroom.headroom(groups(bounded(0.55, high=0.599)))
    assert small is not None and "Less than 10 points of headroom decide nothing" in small.sentence
    none = headroom.headroom(groups(bounded(0.55, high=0.5)))
    assert none is not None and none.table.rows[0][-1] == "–"
    assert headroom.headroom(groups(bounded(0.55)[:4])) is None
    assert headroom.headroom(groups([curve(r.name, r.seed, [1], [None]) for r in bounded(0.5)])) is None
    assert [g.name for g in headroom.without_bounds(groups(bounded(0.5)))] == ["u"]


def test_methods_that_would_start_elsewhere_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[data]\ncache_gb = 1.5\n")
    with pytest.raises(LabelwiseError, match=r"sets data, so that"):
        comparison(tmp_path / "c", f"random+{other}").check()
    first = comparison(tmp_path / "c", "random", seeds=(0,))
    first._make(first._start(0), first.config(None, 0), None)
    again = Comparison(first.folder, "scenes", ("random",), (0,), (*TINY, "train.lr=0.01"))
    with pytest.raises(LabelwiseError, match="_start_seed0 holds a run with other settings"):
        again.run(1, lambda _: None)


def test_a_method_with_other_eyes_trains_its_own_first_model(tmp_path: Path) -> None:
    """One that reads other frozen features shares no first model, and no first images that were chosen by them."""
    frozen = ("model.name=head", "features.body=shufflenet_v2_x0_5", "features.weights=none")
    asked = ('data={root=".", format="classes"}', "query.unit=image", "labels.policy=background", "budget.unit=images")
    ways = (Way("same", "random_image"), Way("other", "random_image", ("features.size_px=64",)))
    data = tmp_path / "data.toml"
    data.write_text('name = "d"\n[data]\nroot = "x"\n[query]\nunit = "image"\nscore = "entropy"\n')
    settings = (*frozen, *asked, "budget.start_images=4", "budget.per_round=[4]")
    made = Comparison(tmp_path / "c", str(data), ("same", "other"), (0,), settings, ways=ways)
    assert [made._same_start(made.config(name, 0)) for name in made.methods] == [True, False]
    assert made.check() == 3
    with pytest.raises(LabelwiseError, match="other sets features, so that"):
        Comparison(tmp_path / "c", str(data), ("other",), (0,), (*settings, "budget.start=coverage"), ways=ways).check()


def test_ctrl_c_stops_the_comparison(tmp_path: Path) -> None:
    arguments = ["compare", "random", "--seeds", "1", "--folder", str(tmp_path / "c")]
    arguments += [part for value in TINY for part in ("--set", value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "labelwise", *arguments],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "c").glob("_start_seed0/run.toml")) and time.monotonic() < deadline:
        time.sleep(0.1)
    subprocess.run(["pkill", "-INT", "-s", str(process.pid)], check=False)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "the same command continues" in errors


def test_a_worker_survives_what_a_library_prints_and_logs_beside_the_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output holds the answers, until there is a log; a dot in a name is no ending."""
    loud = "import os\nimport labelwise.catalog as c\nold = c.recipe_files\n"
    loud += (
        "def recipe_files(names):\n    os.write(1, b'loaded')\n    return old(names)\nc.recipe_files = recipe_files\n"
    )
    (tmp_path / "sitecustomize.py").write_text(loud)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    made = Comparison(tmp_path / "c", "scenes", ("lam0.5",), (0,), TINY, ways=(Way("lam0.5", "random"),))
    made.run(1, lambda _: None)
    assert compare.label("lam0.5") != compare.label("lam0.7")
    assert (tmp_path / "c" / "lam0.5_seed0.log").read_text()
