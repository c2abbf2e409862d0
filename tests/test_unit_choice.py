"""Which unit pays: estimates by hand and on degenerate input, the evidence of a small project, errors, the verdict."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labelwise import cli, loop
from labelwise.ask.cost import CostTable
from labelwise.evaluate.true_errors import errors
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.report import headroom, page
from labelwise.report.results import RoundResult, RunResult
from labelwise.report.unit_verdict import unit_verdict
from labelwise.study import unit_evidence, unit_runs, unit_text, workers
from labelwise.study.compare import Task
from labelwise.study.unit_choice import (
    Estimate,
    Evidence,
    Prices,
    choose,
    exact,
    mean,
    near_duplicates,
    precision_of,
    ratio,
    recall_of,
    share,
    share_by_image,
)
from labelwise.study.unit_evidence import Observed
from labelwise.types import LabelwiseError

PRICES = Prices(inspect=7.8, draw=7.0, hit=9.0, miss=2.0)
UNKNOWN = Estimate(math.nan, 0.0, 1.0, 0)
TINY = (
    "data.scenes={train=16, test=6, seed=0, classes=3, imbalance=3, size_px=64, digits=[2,4]}",
    "data.image_size_px=64",
    "model.weights=none",
    "model.score_threshold=0.01",
    "predict.min_score=0.01",
    "query.threshold=0.01",
    "train.steps=2",
    "budget.start_images=4",
)


def call(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def asked(*settings: str) -> list[str]:
    return [part for value in (*TINY, *settings) for part in ("--set", value)]


# -------------------------------------------------------------------------------------------------------- estimates


def test_a_mean_of_images_is_students_t() -> None:
    found = mean(np.array([10, 12, 14]))  # sd 2, t(0.975; 2) = 4.3027: 12 -+ 4.968
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (12, 7.032, 16.968)
    assert mean(np.zeros(0)).n == 0 and math.isnan(mean(np.zeros(0)).value)
    assert mean(np.array([3])) == Estimate(3.0, 0.0, math.inf, 1)
    assert math.isnan(ratio(np.zeros(2), np.zeros(2)).value)


def test_a_share_of_things_in_images_is_at_least_as_wide_as_wilsons() -> None:
    part, whole = np.array([0, 10]), np.array([10, 10])  # all of one image, none of the other
    found, single = share_by_image(part, whole), share(10, 20)
    assert found.value == 0.5 and (found.low, found.high) == (0, 1)
    assert single.low > 0.29 and single.high < 0.71
    assert share_by_image(np.zeros(0, int), np.zeros(0, int)) == share(0, 0)
    assert share_by_image(np.zeros(3, int), np.zeros(3, int)) == share(0, 0), "empty images only"


@pytest.mark.parametrize("seed", range(5))
def test_precision_by_strata_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, scores = rng.random(rng.integers(1, 30)), rng.random(40)
    right = rng.random(len(confidence)) < confidence
    bins = {int(c * 10) for c in confidence}
    total = 0.0
    for one in scores:
        near = min(sorted(bins), key=lambda b, one=one: abs(b - int(one * 10)))
        inside = [r for c, r in zip(confidence, right, strict=True) if int(c * 10) == near]
        total += (sum(inside) + 1) / (len(inside) + 2)
    found = precision_of(confidence, right, scores)
    assert found.value == pytest.approx(total / 40) and found.low <= found.value <= found.high


def test_precision_and_recall_without_answers_or_pseudo_boxes_are_unknown() -> None:
    none, some = np.zeros(0), np.array([0.5, 1.0])
    assert precision_of(none, none.astype(bool), some).n == 0
    assert math.isnan(precision_of(some, some > 0, none).value)
    assert precision_of(some, some > 2, some).value == pytest.approx(1 / 3), "no hit: (0 + 1) / (1 + 2)"
    assert math.isnan(recall_of(np.zeros(0, int), exact(0.5), exact(3.0)).value)
    assert math.isnan(recall_of(np.array([2]), exact(0.5), exact(0.0)).value)
    assert recall_of(np.array([9, 9]), exact(1.0), exact(3.0)).value == 1


def test_near_duplicates_over_several_blocks_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1030, 4))
    features[1029] = features[3]
    unit = features - features.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = np.array([[float((a * b).sum()) for b in unit] for a in unit[[3, 1029]]])
    assert cosine[0, 1029] == pytest.approx(1) and cosine[1, 3] == pytest.approx(1)
    each = (unit[:, None, :] * unit[None]).sum(axis=2)
    np.fill_diagonal(each, -1)
    assert near_duplicates(features) == pytest.approx((each.max(axis=1) >= 0.9).mean())
    assert near_duplicates(np.zeros((1, 2))) == 0


# ----------------------------------------------------------------------------------------------------- what pays


def test_dense_images_pay_and_sparse_ones_do_not() -> None:
    dense = Evidence(exact(14.0), exact(0.71), exact(0.68), exact(0.75), 1.5, exact(0.5))
    assert choose(dense, PRICES).best["seconds"] == "image"
    sparse = Evidence(exact(0.3), exact(0.95), exact(0.95), exact(0.75), 1.0, exact(0.5))
    cheap = Prices(inspect=7.8, draw=7.0, hit=2.0, miss=2.0)
    assert choose(sparse, cheap).best["seconds"] == "box"


def test_what_is_not_known_decides_nothing() -> None:
    vague = Evidence(Estimate(2.0, 0.0, 6.0, 2), UNKNOWN, UNKNOWN, UNKNOWN, 1.0, exact(0.5))
    choice = choose(vague, Prices(7.8, 7.0, 2.0, 2.0))
    assert choice.best["seconds"] is None
    said = unit_text.sentences(unit_text.Found(vague, PRICES), choice)
    assert said[0].startswith("It cannot be told") and any("Not seen so far: recall" in line for line in said)


def test_shares_that_come_from_box_answers_are_said_to_be_too_high() -> None:
    evidence = Evidence(exact(14.0), exact(0.7), exact(0.7), exact(0.7), 1.0, exact(0.5))
    choice = choose(evidence, PRICES)
    for source, told in (("30 answers to boxes, by confidence", True), ("25 images looked over after it", False)):
        said = unit_text.sentences(unit_text.Found(evidence, PRICES, {"precision": source}), choice)
        assert any("too high" in line for line in said) == told


@pytest.mark.parametrize("objects", [0.0, 1.0])
@pytest.mark.parametrize("hit", [0.0, 1.0])
@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_the_ends_of_every_share_give_finite_figures(objects: float, hit: float, quality: float) -> None:
    evidence = Evidence(exact(objects), exact(quality), exact(quality), exact(hit), 0.0, exact(0.0))
    choice = choose(evidence, Prices(0.0, 0.0, 0.0, 0.0))
    figures = [
        v for r in choice.rates for v in (r.boxes, r.seconds, r.unknown, r.errors, r.per_1000_s.value, r.net.low)
    ]
    assert np.isfinite(figures).all()
    assert len(unit_text.units_table(choice).rows) == 3


def test_empty_images_only_pay_for_nobody() -> None:
    evidence = Evidence(exact(0.0), UNKNOWN, UNKNOWN, exact(0.0), 1.0, exact(0.5))
    assert choose(evidence, PRICES).best["seconds"] is None


# ---------------------------------------------------------------------------------------------------- the evidence


def test_no_answers_at_all() -> None:
    found = unit_evidence.found(Observed.nothing(), CostTable(), (1.0, 2.0))
    assert math.isnan(found.evidence.objects.value) and found.hits_by_round == {}
    assert found.evidence.region.value == 0.625 and found.prices == PRICES
    assert choose(found.evidence, found.prices).best["seconds"] is None
    assert len(unit_text.evidence_table(found).rows) == 7


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of box questions, one of whole images until all are asked, one of regions; two or three rounds each."""
    folder, made = tmp_path_factory.mktemp("units"), {}
    for name, recipe, budget in (
        ("box", "u_cb_tspl", ["budget.per_round=[6,6]"]),
        ("image", "random_image", ["budget.unit=images", "budget.per_round=[12]"]),
        ("region", "mural_coverage", ["budget.unit=queries", "budget.per_round=[4]"]),
    ):
        made[name] = folder / name
        context = opening.start(made[name], f"scenes+{recipe}", [*TINY, *budget])
        list(loop.run(context))
        context.project.close()
    return made


def test_the_evidence_of_images_is_counted_as_a_loop_does(projects: dict[str, Path]) -> None:
    context = opening.start(projects["image"], None)
    seen, truth, now = unit_evidence.observe(context), context.pool.truth, Round(context, 1)
    assert truth is not None and len(seen.objects) == 16 and seen.is_random.all(), "all images are asked"
    assert seen.objects.sum() == len(truth) and len(seen.tested) == 12 and not len(seen.pseudo)
    found, rows = now.detections(), []
    for image in sorted({context.pool.number_of[q.image] for q in now.queries()}):
        at, one = slice(*truth.offsets[image : image + 2]), slice(*found.offsets[image : image + 2])
        n_sure = int((found.scores[one] >= 0.3).sum())
        own = errors(
            np.array([0, n_sure]),
            found.boxes[one][:n_sure],
            found.labels[one][:n_sure],
            found.scores[one][:n_sure],
            type(truth)(np.array([0, at.stop - at.start]), truth.xyxy[at], truth.labels[at]),
        )
        rows.append([at.stop - at.start, int((~own.missed).sum()), n_sure, int((found.scores[one] >= 0.01).sum())])
    assert seen.tested[:, :4].tolist() == rows and (seen.tested[:, 4] <= seen.tested[:, 0]).all()
    assert seen.drawn.sum(axis=0)[0] == pytest.approx(16 * 7.8 + 7 * len(truth))
    context.project.close()


def test_the_evidence_of_boxes_and_of_regions(projects: dict[str, Path]) -> None:
    context = opening.start(projects["box"], None)
    seen, ledger = unit_evidence.observe(context), context.project.ledger
    verdicts = [v for r in (1, 2) for v in ledger.verdicts(r).values()]
    assert len(seen.is_hit) == len(verdicts) and seen.is_hit.sum() == verdicts.count("object")
    assert len(seen.objects) == 4 and seen.is_random.all() and len(seen.tested) == 0
    assert seen.box_seconds.sum() == pytest.approx(sum(ledger.cost_by_round()[r].seconds for r in (1, 2)))
    found = unit_evidence.of_project(context)
    assert sorted(found.hits_by_round) == sorted({q.round for q in ledger.queries() if q.round})
    context.project.close()
    context = opening.start(projects["region"], None)
    seen = unit_evidence.observe(context)
    cost = context.project.ledger.cost_by_round()[1]
    assert len(seen.region_boxes) == cost.queries and seen.region_boxes.sum() == cost.boxes
    assert ((seen.region_share > 0) & (seen.region_share <= 1)).all() and not len(seen.is_hit)
    context.project.close()


def test_joined_projects_count_their_images_apart(projects: dict[str, Path]) -> None:
    context = opening.start(projects["box"], None)
    seen = unit_evidence.observe(context)
    context.project.close()
    both = unit_evidence.join([seen, seen])
    assert len(np.unique(both.box_image)) == 2 * len(np.unique(seen.box_image)) and len(both.objects) == 8
    assert unit_evidence.join([]).objects.size == 0
    assert unit_evidence.with_boxes_of(Observed.nothing(), seen).is_hit.size == seen.is_hit.size


@pytest.mark.parametrize("name", ["box", "image", "region"])
def test_advise_on_a_project(projects: dict[str, Path], name: str) -> None:
    shown = call("advise", "--project", str(projects[name]))
    assert "What each unit brings" in shown and "What the answers show" in shown
    assert re.search(r"^(Ask |It cannot be told)", shown, re.MULTILINE) and "compare DATA --units" in shown


def test_advise_says_what_is_missing(projects: dict[str, Path], tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        with pytest.raises(LabelwiseError) as caught:
            CliRunner().invoke(cli.app, ["advise", *arguments], catch_exceptions=False)
        return str(caught.value)

    assert "--project FOLDER" in refused() and "--pool" in refused("--classes", "3")
    assert "--project alone" in refused("--project", str(projects["box"]), "--classes", "3")
    opening.start(tmp_path / "new", "scenes+random", [*TINY, "budget.per_round=[]"]).project.close()
    new = refused("--project", str(tmp_path / "new"))
    assert "0 of at least 2 rounds" in new and "labelwise run --project" in new and "budget.per_round" in new


# ---------------------------------------------------------------------------------------------- compare --units


def bounded(box: float, low: float = 0.5, high: float = 0.7, seeds: int = 9, seconds: float = 100.0) -> list[RunResult]:
    """Runs of two rounds; whole images reach 0.6, every second of three seeds is two points higher, the third four."""
    names = {"random_image": 0.6, "box": box, headroom.NO_NEW_LABEL: low, headroom.EVERYTHING_LABELLED: high}
    return [
        RunResult(
            name,
            seed,
            ("a",),
            [
                RoundResult(0, 10, 5, 5, 50.0, quality=0.4),
                RoundResult(
                    1, 30, 45, 5, 50 + (seconds if name == "box" else 100.0), quality=quality + 0.02 * (seed % 3)
                ),
            ],
        )
        for name, quality in names.items()
        for seed in range(seeds)
    ]


UNIT_OF = {"random_image": "image", "box": "box"}


def test_the_verdict_and_its_table_by_hand() -> None:
    found = unit_verdict(bounded(0.65), UNIT_OF, "random_image", ["Because."])
    assert found.sentences[0] == "At equal seconds the unit that pays is the box, asked by box."
    assert found.sentences[-1] == "Because." and "5.0 AP50 better than random_image" in found.sentences[1]
    table = found.tables[0].rows
    assert table[0] == ["random_image", "image", "62.0 ± 1.7", "–", "50 %", "20", "40", "100 s"]
    assert table[1] == ["box", "box", "67.0 ± 1.7", "+5.0 [+5.0, +5.0]", "75 %", "20", "40", "100 s"]
    assert "Which unit pays" in page.html(bounded(0.65), title="t", units=found)
    worse = unit_verdict(bounded(0.55), UNIT_OF, "random_image").sentences[0]
    assert worse.startswith("At equal seconds the unit that pays is the image")
    level = unit_verdict(bounded(0.6), UNIT_OF, "random_image").sentences[0]
    assert "no way of asking is better" in level and "none is worse either" in level


def test_there_is_no_verdict_without_headroom_bounds_or_seeds() -> None:
    small = unit_verdict(bounded(0.58, high=0.59), UNIT_OF, "random_image").sentences[0]
    assert small.startswith("No verdict on the unit.") and "Less than 10 points" in small
    single = unit_verdict(bounded(0.65, seeds=1), UNIT_OF, "random_image").sentences[0]
    assert "--seeds 8" in single
    few = unit_verdict(bounded(0.65, seeds=7), UNIT_OF, "random_image").sentences
    assert few[0].startswith("No verdict on the unit below 8 paired seeds.") and "better" not in few[1]
    assert "missing" in unit_verdict(bounded(0.65)[:18], UNIT_OF, "random_image").sentences[0]
    assert "no round" in unit_verdict([], UNIT_OF, "random_image").sentences[0]
    off = unit_verdict(bounded(0.65, seconds=50.0), UNIT_OF, "random_image").sentences
    assert any("Seconds are not equal" in line and "box 50 s" in line for line in off)


def test_the_budget_is_what_random_images_cost(tmp_path: Path) -> None:
    made = unit_runs.comparison(tmp_path / "c", "scenes", (0,), TINY)
    context = opening.start(made.begin(0), None)
    n = len(context.pool.truth or ()) / len(context.pool)
    context.project.close()
    expected = round(80 * (7.8 / n + 7))
    run = made.config("random_box", 0)
    assert run.budget.unit == "seconds" and run.budget.per_round == (expected,) * 4
    assert (run.query.score.name, run.labels.policy.name) == ("random", "task_soft")
    assert {made.config(name, 0).query.unit for name in made.methods} == {"image", "region", "box"}
    own = unit_runs.comparison(tmp_path / "d", "scenes", (0,), (*TINY, "budget.per_round=[30]"))
    assert own.config("u_cb_box", 0).budget.per_round == (30,) and not (tmp_path / "d").exists()
    assert unit_runs.seconds_of(5, "queries", 2.0, CostTable()) == unit_runs.seconds_of(5, "images", 2.0, CostTable())
    assert unit_runs.seconds_of(5, "seconds", 2.0, CostTable()) == 5


def test_compare_units_refuses_what_would_make_the_ways_alike(tmp_path: Path) -> None:
    for setting in ("query.score=entropy", "budget.unit=boxes"):
        with pytest.raises(LabelwiseError, match="leave it out"):
            unit_runs.comparison(tmp_path / "c", "scenes", (0,), (*TINY, setting))
    with pytest.raises(LabelwiseError, match="takes one data recipe"):
        CliRunner().invoke(cli.app, ["compare", "scenes", "random", "--units"], catch_exceptions=False)
    with pytest.raises(LabelwiseError, match="nothing to compare"):
        CliRunner().invoke(cli.app, ["compare"], catch_exceptions=False)
    with pytest.raises(LabelwiseError, match="classifies images"):
        unit_runs.comparison(tmp_path / "c", "mnist", (0,), ())


def test_compare_units_ends_with_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The projects run in this process: another would only load torch again."""

    def here(text: str, tasks: tuple[list[Task], list[Task]], *_: object) -> None:
        comparison = unit_runs.Comparison.from_json(text)
        for task in (*tasks[0], *tasks[1]):
            context = opening.start(comparison.prepare(task), None)
            list(loop.run(context))
            context.project.close()

    monkeypatch.setattr(workers, "run", here)
    folder = tmp_path / "c"
    given = asked("budget.per_round=[40]")
    shown = call("compare", "scenes", "--units", "--seeds", "1", "--jobs", "1", "--folder", str(folder), *given)
    assert "The units at equal seconds" in shown and "No verdict on the unit" in shown
    assert "What the answers alone let one expect" in shown and "mural_region" in shown.replace("\n", "")
    page = (folder / "report.html").read_text("utf-8")
    assert "Which unit pays" in page and "random_region" in page
