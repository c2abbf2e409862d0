"""The sets behind docs/claims.md: every recipe and setting exists, and the page asks for what the sets give."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import claims
import claims_page
from claims_sets import SETS
from test_recipes_images import data_set

from labelwise import catalog, config
from labelwise.project import opening
from labelwise.project.kept_pools import KeptPools
from labelwise.report.results import Informativeness, RoundResult, RunResult

ROOT = Path(__file__).parents[1]
MARKS = list(claims_page.WANTED.finditer((ROOT / "docs" / "claims.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", SETS)
def test_every_method_of_a_set_is_a_valid_run(name: str) -> None:
    one = SETS[name]
    starts = set()
    for way in one.ways:
        files = catalog.recipe_files(f"{one.data}+{way.recipe}")
        run = config.load(files, ["seed=0", *way.settings, *one.settings])
        assert run.reads_features
        starts.add((run.budget.start, run.budget.start_images, run.budget.per_round))
    assert len(starts) == 1, "all start alike and spend alike"
    assert one.seeds >= 8, "no verdict below 8"
    names = {way.name for way in one.ways}
    assert {n for couple in one.pairs for n in couple} | set(one.against) <= names


def test_the_page_asks_for_what_the_sets_compare() -> None:
    assert len(MARKS) > 50
    for mark in MARKS:
        one = SETS[mark["set"]]
        names = {way.name for way in one.ways} | ({"all data"} if one.all_data else set())
        assert mark["row"] in names, mark[0]
        assert mark["quantity"] in claims.QUANTITIES, mark[0]
        base = mark["base"]
        own = base is None or base in one.against or (mark["row"], base) in one.pairs
        assert own or (base == "its teacher" and mark["row"].startswith("teacher_")), mark[0]


def test_the_page_has_the_figures_of_the_tables() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert claims_page.filled(page) == page


def test_intervals_of_the_page_are_symmetric() -> None:
    """It says that they are Student's t; those of a bootstrap are not."""
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8").replace("\N{MINUS SIGN}", "-")
    found = re.findall(r"([+-]\d+\.\d+) \((-?\d+\.\d+) to (-?\d+\.\d+)", page)
    off = [one for one in found if abs((float(one[1]) + float(one[2])) / 2 - float(one[0])) > 0.101]
    assert len(found) > 60 and not off


def test_filling_keeps_the_place_and_what_stands_before() -> None:
    cell = "| L1 by entropy <!-- no: a - b, accuracy, mean -->; 1 <!-- no: a, accuracy, 4 --> |"
    once = claims_page.filled(cell)
    assert once == "| L1 by entropy not run <!-- no: a - b, accuracy, mean -->; 1 not run <!-- no: a, accuracy, 4 --> |"
    old = once.replace("not run", "\N{MINUS SIGN}0.25 (\N{MINUS SIGN}1.0 to 0.5; 9)", 1).replace(
        "not run", "50.0 ± 1.2 (9)"
    )
    assert old != once and claims_page.filled(old) == once


def a_run(name: str, seed: int, qualities: list[float], rare: float, counts: tuple[int, int]) -> RunResult:
    """A run of two classes, b the rare one; round k has 10 (k + 1) labels."""
    rounds = [
        RoundResult(
            k, 0, 10 * (k + 1), 10 * (k + 1), 0.0, quality=q, per_class={"a": q, "b": rare},
            class_counts_truth={"a": 5.0 * (k + 1), "b": 5.0 * (k + 1)},
            class_counts_picks={"a": float(counts[0]), "b": float(counts[1])},
        )
        for k, q in enumerate(qualities)
    ]  # fmt: skip
    top = Informativeness(1, np.linspace(0.1, 0.9, 9))
    return RunResult(name, seed, ("a", "b"), rounds, rare_classes=("b",), metric="accuracy", informativeness=[top])


def test_a_summary_by_hand() -> None:
    """Differences of round 1: 2, 4 points: mean 3, deviation 1.414, t(0.975; 1) = 12.706, so 3 -+ 12.706."""
    base = [a_run("random_image", seed, [0.5, 0.6], 0.25, (5, 5)) for seed in (0, 1)]
    own = [a_run("margin_image", 0, [0.5, 0.62], 0.5, (8, 2)), a_run("margin_image", 1, [0.5, 0.64], 0.5, (8, 2))]
    more = {(r.name, r.seed, k): {} for r in [*base, *own] for k in (0, 1)}
    found = list(claims.summarise([*base, *own], more, SETS["low"]))
    (line,) = (x for x in found if (x["row"], x["quantity"], x["round"]) == ("margin_image", "accuracy", "1"))
    assert (line["seeds"], line["mean"], line["minus"], line["t_low"], line["t_high"]) == (2, 63.0, 3.0, -9.706, 15.706)
    assert (line["bootstrap_low"], line["bootstrap_high"], line["labels"]) == (2.0, 4.0, 20.0)
    values = {x["quantity"]: x["minus"] for x in found if (x["row"], x["round"]) == ("margin_image", "1")}
    assert values == {
        "accuracy": 3.0, "rare_accuracy": 25.0, "labelled_l1": 0.0, "picks_l1": 0.6, "right_of_top": 0.0,
    }  # fmt: skip
    lines = list(claims.lines([*base, *own], {}))
    assert len(lines) == 8
    assert lines[1] == {
        "row": "random_image", "seed": 0, "round": 1, "labels": 20, "accuracy": 60.0, "rare_accuracy": 25.0,
        "labelled_l1": 0.0, "picks_l1": 0.0, "right_of_top": 30.0, "pseudo_labels": "", "pseudo_right": "",
        "teacher_accuracy": "", "machine_s": 0,
    }  # fmt: skip


def test_the_model_with_pseudo_labels_against_its_teacher() -> None:
    runs = [a_run("teacher_entropy_10", seed, [0.5, 0.6 + 0.01 * seed], 0.5, (5, 5)) for seed in (0, 1, 2)]
    more = {(r.name, r.seed, k): {"teacher_accuracy": 0.6} for r in runs for k in (0, 1)}
    (line,) = (x for x in claims.summarise(runs, more, SETS["teacher"]) if x["against"] == "its teacher")
    assert (line["minus"], line["mean"], line["seeds"], line["round"]) == (1.0, 61.0, 3, "1")


def test_a_table_for_a_page() -> None:
    base = [a_run("random_image", seed, [0.5, 0.6], 0.25, (5, 5)) for seed in (0, 1)]
    own = [a_run("margin_image", seed, [0.5, 0.62], 0.5, (8, 2)) for seed in (0, 1)]
    more = {(r.name, r.seed, k): {} for r in [*base, *own] for k in (0, 1)}
    shown = claims.markdown(list(claims.summarise([*base, *own], more, SETS["low"]))).splitlines()
    assert shown[0] == "| method | 10 | 20 | minus random_image |"
    assert shown[2:] == ["| random_image | 50.00 | 60.00 |  |", "| margin_image | 50.00 | 62.00 |  |"]


def test_a_process_that_keeps_pools_draws_a_sample_for_every_seed(tmp_path: Path) -> None:
    data = data_set(tmp_path / "d")
    settings = [f'data.root="{data.as_posix()}"', "data.format=arrays", "data.pool_split=train", "data.test_split=test"]
    settings += ["data.sample=12", "model.name=classifier", "model.backbone=small", "budget.unit=images"]
    kept, pools = KeptPools(), []
    for seed in (0, 1, 0):
        opened = opening.start(tmp_path / f"p{len(pools)}", "random_image", [*settings, f"seed={seed}"], kept=kept)
        pools.append(opened.pool.names)
        opened.project.close()
    assert len(pools[0]) == len(pools[1]) == 12
    assert pools[0] != pools[1] and pools[0] == pools[2]
