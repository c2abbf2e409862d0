"""The ablation of partial labels: what the oracle makes right, and the shares and intervals of its table."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import partial_labels
import partial_labels_menu as menu
import partial_labels_plan as plans
import partial_labels_rows as rows_file
import partial_labels_spread as spread
import partial_labels_table as table
from partial_labels_oracle import EDITS, edited, of_pseudo

from labelwise.types import Boxes, Rects, Targets
from labelwise.types.overlap import iou_matrix

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]
"""Three objects of classes 0, 1, 2 in one image; A is annotated."""
NEAR_B, ON_C, NOTHING = [21, 0, 31, 10], [40, 0, 50, 9], [60, 60, 70, 70]


def a_round(pseudo: list[list[float]], labels: list[int], weights: list[float]) -> SimpleNamespace:
    """A round whose one image has A annotated, and pseudo boxes of these classes and weights."""
    boxes = np.array([A, *pseudo], np.float32)
    w = np.array([1, *weights], np.float32)
    t = Targets(
        np.array([0]), np.array([0, len(boxes)]), boxes, np.array([0, *labels]), w, w.copy(),
        np.array([0] + [1] * len(pseudo), np.int8), negatives=Rects.empty(1), ignore=Rects.empty(1),
        windows=np.array([[0, 0, 80, 80]], np.float32),
    )  # fmt: skip
    truth = Boxes(np.array([0, 3]), np.array([A, B, C], np.float32), np.array([0, 1, 2]))
    return SimpleNamespace(targets=t, pool=SimpleNamespace(truth=truth))


def shown(t: Targets) -> list[tuple[list[float], int, float]]:
    return [(box, k, w) for box, k, w in zip(t.boxes.tolist(), t.labels.tolist(), t.w_cls.tolist(), strict=True)]


def test_each_edit_by_hand() -> None:
    now = a_round([NEAR_B, ON_C, NOTHING], [2, 2, 0], [0.5, 0.0, 0.75])  # B of a wrong class, C ignored, one of nothing
    known, wrong, off = (A, 0, 1.0), (NEAR_B, 2, 0.5), (NOTHING, 0, 0.75)
    unsure = (ON_C, 2, 0.0)
    got = {name: shown(edited(now, name)) for name in EDITS}
    assert got["true boxes"] == [known, (B, 1, 1.0), (C, 2, 1.0)]
    assert got["true where hit"] == [known, unsure, (B, 2, 1.0)]
    assert got["true class"] == [known, (NEAR_B, 1, 0.5), off, unsure]
    assert got["no false positives"] == [known, wrong, unsure]
    assert got["no misses"] == [known, wrong, off, (C, 2, 1.0)], "what is ignored gives way to the object"
    said = of_pseudo(now)
    assert (said.boxes, said.recall, said.precision) == (2, 0.5, 0.5)


def test_an_image_that_is_known_or_empty_stays_as_it_is() -> None:
    now = a_round([], [], [])
    assert all(len(edited(now, name).boxes) == 1 for name in EDITS if name not in ("true boxes", "no misses"))
    truth = Boxes(np.array([0, 1]), np.array([A], np.float32), np.array([0]))
    whole = SimpleNamespace(targets=now.targets, pool=SimpleNamespace(truth=truth))
    assert all(shown(edited(whole, name)) == [(A, 0, 1.0)] for name in EDITS)
    assert of_pseudo(whole).recall == of_pseudo(whole).precision == ""


@pytest.mark.parametrize("seed", range(20))
def test_counts_of_random_boxes_against_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 12))
    corner = rng.integers(0, 50, (n, 2))
    pseudo = np.concatenate([corner, corner + rng.integers(3, 14, (n, 2))], axis=1).tolist()
    now = a_round(pseudo, rng.integers(0, 3, n).tolist(), rng.choice([0.0, 0.5, 1.0], n).tolist())
    objects, found, right, sure = [B, C], set(), 0, 0
    for box, weight in zip(pseudo, now.targets.w_cls[1:], strict=True):
        if weight == 0:
            continue
        sure += 1
        best = max(objects, key=lambda o: iou_matrix(np.array([box], float), np.array([o], float))[0, 0])
        if iou_matrix(np.array([box], float), np.array([best], float))[0, 0] >= 0.5:
            right += 1
            found.add(tuple(best))
    said = of_pseudo(now)
    assert said.boxes == sure and said.recall == len(found) / 2
    assert said.precision == (round(right / sure, 3) if sure else "")


def row(method: str, seed: int, ap50: float, policy: str = "background", **other: str) -> dict[str, str]:
    given = dict.fromkeys(("boxes", "questions", "annotation_s", "pseudo_recall", "pseudo_precision", "cpu_s"), "")
    given |= {"bed": "b", "seed": str(seed), "method": method, "policy": policy, "recipe": "r", "recipe_settings": "x"}
    return given | {"rounds": "1", "round": "1", "ap50": str(ap50)} | other


def test_the_share_of_the_headroom_and_a_bed_without() -> None:
    rows = [row(m, s, v + s) for m, v in ((table.NO_LABEL, 50), (table.ALL_LABELS, 70), ("u", 65)) for s in (0, 1)]
    text = table.summary(rows)
    assert "Headroom 20.0 AP50 (2 seeds)." in text and "decides nothing" not in text
    assert "| u | background | 2 | 65.5 (0.7) | 75 % | +15.0 [+15.0, +15.0] |" in text
    low = [row(m, s, v) for m, v in ((table.NO_LABEL, 50), (table.ALL_LABELS, 59), ("u", 55)) for s in (0, 1)]
    assert "this bed decides nothing" in table.summary(low)
    assert "Headroom unknown" in table.summary(low[:2])


def test_which_part_is_short_is_said_largest_first() -> None:
    rows = [row("u", 0, 60, "dual"), row("u", 0, 63, "dual/no misses"), row("u", 0, 70, "dual/true boxes")]
    text = table.summary(rows)
    assert text.index("with true boxes +10.0") < text.index("with no misses +3.0")


def test_an_interval_of_a_bootstrap() -> None:
    low, high = table.interval(np.array([1.0, 1.0, 1.0]))
    assert (low, high) == (1.0, 1.0)
    assert np.isnan(table.interval(np.array([2.0]))).all()
    low, high = table.interval(np.arange(9.0))
    assert 1 < low < 4 < high < 7


def test_a_recipe_is_made_of_settings_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert menu.recipe_settings("lr=0.01") == ["train.lr=0.01"]
    assert [one for one in menu.recipe_settings("steps=240", stretch=4) if "960" in one], "some data take longer"
    assert "train.warm_start=true" in menu.recipe_settings("warm")
    assert not menu.is_known(("train.nonsense=1",)) and "unknown here" in capsys.readouterr().out
    for name in menu.RECIPES:
        menu.recipe_settings(name)
    with pytest.raises(menu.LabelwiseError, match="unknown token 'step'"):
        menu.recipe_settings("step=3")


def test_rows_are_named_by_sets_or_one_by_one() -> None:
    core = partial_labels.rows_of("core,oracle", "background", "sane")
    assert len(core) == len(set(core)) and {method for method, _, _ in core} >= set(menu.BOUNDS)
    assert partial_labels.rows_of("U boxes: hard: warm", "dual", "sane") == [("U boxes", "hard", "warm")]
    with pytest.raises(SystemExit, match="unknown cores"):
        partial_labels.rows_of("cores", "dual", "sane")


def test_budgets_stand_in_the_method_and_the_bounds_have_none() -> None:
    rows = partial_labels.rows_of("core", "dual", "sane", ["boxes", "seconds"])
    methods = [method for method, _, _ in rows]
    assert methods.count("no new label") == 1 and "random images" in methods and "random images @seconds" in methods
    own = partial_labels.rows_of("noisy", "dual", "sane", ["seconds"])
    assert ("uncertain boxes @queries", "noisy", "sane") in own and ("uncertain boxes", "noisy", "sane") in own
    assert ("random images @seconds", "background", "sane") in own
    for budget, said in (("", []), (" @seconds", ["budget.unit=seconds"]), (" @queries", ["budget.unit=queries"])):
        amount = menu.BEDS["fod_a"].seconds if "seconds" in budget else menu.BEDS["fod_a"].boxes
        cell = menu.Cell("fod_a", 0, f"random boxes{budget}", "dual", "sane", rounds=2)
        assert menu.method_settings(cell) == [*said, f"budget.per_round=[{amount}, {amount}]"]
    for name in rows_file.sets("dual", "sane"):
        for method, policy, _ in partial_labels.rows_of(name, "dual", "sane"):
            assert method.partition(" @")[0] in menu.METHODS and policy.split("/")[0] in menu.POLICIES


def test_a_row_that_would_be_another_one_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    menu.TOKENS["nonsense"] = (("train.nonsense=1",),)
    try:
        assert menu.missing_tokens("sane,nonsense") == ["nonsense"]
        assert not rows_file.is_possible(("random images", "background", "sane,nonsense"))
        assert "left out: random images / background / sane,nonsense" in capsys.readouterr().out
    finally:
        del menu.TOKENS["nonsense"]
    assert rows_file.is_possible(("random images", "background", "sane,retrain=1"))
    assert rows_file.is_possible(("U+CB boxes", "dual", "sane,teacher"))
    assert not rows_file.is_possible(("U+CB boxes", "tspl", "sane,teacher")), "a teacher has no views"
    assert menu.Cell("scenes", 0, "U boxes", "dual", "sane,frcnn,retrain=1").model == "frcnn"


class Pool:
    """Runs each step at once, and notes it; `seconds` is what a cell takes."""

    def __init__(self, seconds: float):
        self.seconds, self.begun = seconds, []

    def submit(self, _work: object, step: object, _place: object, what: object) -> Future[plans.Result]:
        future: Future[plans.Result] = Future()
        kind = step.__name__.removeprefix("make_").replace("measure", "cell")  # type: ignore[attr-defined]
        self.begun.append((kind, what if isinstance(what, str) else what.seed))  # type: ignore[attr-defined]
        future.set_result((None, "", self.seconds if kind == "cell" else 0.0))
        return future


def test_whole_seeds_come_first_and_what_is_shared_runs_once() -> None:
    methods = ("no new label", "U boxes", "core-set images")
    todo = [menu.Cell("bccd-4", seed, method, "background", "sane") for method in methods for seed in (1, 0)]
    pool = Pool(1.0)
    plan = plans.Plan(pool, None, todo, lambda *_: None, jobs=1)  # type: ignore[arg-type]
    plan.run(time.monotonic() + 1e6)
    own = ["start", "predicted", *["picks"] * 3, *["cell"] * 3]
    assert [kind for kind, _ in pool.begun] == ["data", *own, *own] and not plan.not_begun
    assert [what for _, what in pool.begun] == ["bccd-4", *[0] * 8, *[1] * 8]


def test_what_would_not_end_in_time_is_not_begun() -> None:
    todo = [menu.Cell("bccd-4", seed, "no new label", "background", "sane") for seed in range(3)]
    pool = Pool(1e9)
    plan = plans.Plan(pool, None, todo, lambda *_: None, jobs=1)  # type: ignore[arg-type]
    plan.run(time.monotonic() + 1e6)
    assert [kind for kind, _ in pool.begun].count("cell") == 1 and plan.not_begun == 2, "the first tells how long"
    plan = plans.Plan(late := Pool(1.0), None, todo, lambda *_: None, jobs=1)  # type: ignore[arg-type]
    plan.run(time.monotonic() - 1)
    assert not late.begun and plan.not_begun == 1


def test_differences_are_to_images_of_the_same_budget() -> None:
    rows = [row("no new label", s, 50, cpu_s="1") for s in (0, 1)] + [row("everything labelled", s, 70) for s in (0, 1)]
    rows += [row(m, s, v) for m, v in (("random images", 60), ("random images @seconds", 62)) for s in (0, 1)]
    rows += [row(m, s, v) for m, v in (("u boxes", 61), ("u boxes @seconds", 65)) for s in (0, 1)]
    rows += [row("u boxes", s, 66) | {"recipe": "r,teacher"} for s in (0, 1)]
    text = table.summary(rows)
    assert "| u boxes | background | 2 | 61.0 (0.0) | 55 % | +11.0 [+11.0, +11.0] | +1.0 [+1.0, +1.0] |" in text
    assert (
        "| u boxes @seconds | background | 2 | 65.0 (0.0) | 75 % | +15.0 [+15.0, +15.0] | +3.0 [+3.0, +3.0] |" in text
    )
    assert "| 80 % | +16.0 [+16.0, +16.0] | +6.0 [+6.0, +6.0] |" in text, "without bounds: those of the recipe before"


def test_steps_and_the_noise_of_one_training_by_hand() -> None:
    values = {120: 50.0, 240: 60.0, 480: 60.5}
    rows = [row("no new label", 0, v, cpu_s="9") | {"recipe": f"exact={n},norm"} for n, v in values.items()]
    rows += [row("u", s, v) | {"recipe": r} for r, v in (("r", 50), ("r,retrain=1", 52)) for s in (0, 1)]
    rows += [row("u", 0, 49.5) | {"recipe": "r,threads=2"}]
    text = "\n".join(spread.sections(rows))
    assert "| no new label | norm | 120 | 1 | 50.0 | +10.0 | 9 |" in text
    assert "| no new label | norm | 240 | 1 | 60.0 | +0.5, converged | 9 |" in text
    assert f"| u | background | r | {np.sqrt(2):.2f} (2) | 0.00 (2) | 0.5 / 0.5 (1) |" in text
    assert "### recipe r,retrain" not in table.summary(rows)
