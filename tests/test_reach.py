"""What a budget buys: shares of the baseline's budget, areas, bootstrap intervals; by hand or by a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.report import efficiency, headroom, page, reach
from labelwise.report.bootstrap import bootstrap
from labelwise.report.reach import Curves
from labelwise.report.results import RoundResult, RunResult
from labelwise.report.spread import groups


def curve(name: str, seed: int, boxes: list[int], quality: list[float | None]) -> RunResult:
    rounds = [
        RoundResult(k, b, 2 * b, 0, 10.0 * b, ap=v, quality=v)
        for k, (b, v) in enumerate(zip(boxes, quality, strict=True))
    ]
    return RunResult(name, seed, ("a",), rounds)


@pytest.mark.parametrize("seed", range(10))
def test_area_and_reach_against_a_fine_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost, value = np.cumsum(rng.integers(1, 50, 6)).astype(float), rng.random(6) * 100
    grid = np.linspace(cost[0], cost[-1], 200_001)
    heights = np.interp(grid, cost, value)
    assert reach.height(cost, value, cost[0], cost[-1]) == pytest.approx(heights.mean(), abs=1e-2)
    level = float(rng.uniform(0, 100))
    at = np.flatnonzero(heights >= level)
    got = reach.first_reach(cost[None], value[None], np.array([level]))[0]
    assert np.isinf(got) if not len(at) else got == pytest.approx(grid[at[0]], abs=1e-2)


def test_a_level_at_the_start_never_on_a_plateau_and_an_empty_range() -> None:
    cost = np.array([[10.0, 20.0, 30.0]] * 4)
    value = np.array([[50.0, 60, 70], [50, 60, 60], [50, 50, 50], [50, 40, 60]])
    assert reach.first_reach(cost, value, np.array([40.0, 70.0, 50.0, 50.1])).tolist()[:3] == [10.0, np.inf, 10.0]
    assert reach.first_reach(cost, value, np.full(4, 50.1))[3] == pytest.approx(25.05)
    assert np.isnan(reach.height(cost[0], value[0], 20, 20))


def test_the_share_by_hand_and_its_interval_against_a_plain_loop() -> None:
    """Three seeds: the mean curves, whatever the single ones do."""
    base = Curves(np.array([[100.0, 200.0]] * 3), np.array([[40.0, 49.0], [40, 50], [40, 51]]))
    own = Curves(np.array([[100.0, 200.0]] * 3), np.array([[40.0, 58.0], [40, 60], [40, 62]]))
    found = reach.share_needed(own, base)
    assert found.value == pytest.approx(0.75) and found.n == 3
    rng, plain = np.random.default_rng(1), []
    for _ in range(4000):
        rows = rng.integers(0, 3, 3)
        level, top = base.value[rows, 1].mean(), own.value[rows, 1].mean()
        plain.append((100 + 100 * (level - 40) / (top - 40)) / 200)
    assert found.low == pytest.approx(np.quantile(plain, 0.025), abs=0.01)
    assert found.high == pytest.approx(np.quantile(plain, 0.975), abs=0.01)
    assert reach.share_needed(own, base) == found, "the same runs give the same interval"
    gain = reach.area_gain(own, base)
    assert gain.value == pytest.approx(5.0) and gain.low <= 4.6 and gain.high >= 5.4


def test_one_that_never_gets_there_and_one_that_does_now_and_then() -> None:
    base = Curves(np.array([[100.0, 200.0]] * 8), np.array([[40.0, 50.0]] * 8))
    never = Curves(base.cost, base.value - 1)
    found = reach.share_needed(never, base)
    assert np.isinf([found.value, found.low, found.high]).all()
    lucky = Curves(base.cost, base.value + np.linspace(-1, 1.2, 8)[:, None] * [0, 1])
    found = reach.share_needed(lucky, base)
    assert 0.9 < found.low < found.value <= 1 and np.isinf(found.high)
    level = reach.share_needed(base, base)
    assert (level.value, level.low, level.high) == (1.0, 1.0, 1.0), "all equal"


def test_of_one_seed_there_is_no_interval_and_of_none_no_figure() -> None:
    one = bootstrap(lambda rows: rows.mean(axis=1), 1)
    assert one.value == 0 and np.isnan([one.low, one.high]).all()
    assert np.isnan(bootstrap(lambda rows: rows.mean(axis=1), 0).value)


def test_the_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(3), 0
    for _ in range(300):
        x = rng.normal(1.0, 2.0, 30)
        found = bootstrap(lambda rows, x=x: x[rows].mean(axis=1), 30, resamples=999)  # type: ignore[misc]
        hits += found.low <= 1.0 <= found.high
    assert 0.89 < hits / 300 < 0.98


def test_only_common_finished_seeds_are_paired_and_the_others_named() -> None:
    runs = [curve("random", s, [10, 20], [0.4, 0.5]) for s in range(9)]
    runs += [curve("good", s, [10, 20], [0.4, 0.6]) for s in range(1, 9)] + [curve("good", 11, [10], [0.4])]
    good, random = groups(runs)[1], groups(runs)[0]
    found = reach.pairing(good, random, "cost_queries")
    assert found is not None and found.seeds == tuple(range(1, 9)) and found.missing == (0, 11)
    said = efficiency.efficiency(groups(runs), "random")
    assert said is not None
    assert said.parts[0].sentences == [
        "good reaches random's last AP50 (50.0) with 75 % (75 to 75) of random's questions, the start included "
        "(8 seeds); without the seeds 0, 11: not finished by both"
    ]
    half = [curve("random", s, [10, 20, 30], [0.4, 0.5, None]) for s in range(2)]
    unequal = reach.pairing(*groups([*half, *runs[9:11]])[::-1], "cost_boxes")
    assert unequal is not None and unequal.base.cost.shape == (1, 2) and unequal.own.cost.shape == (1, 2)
    assert reach.pairing(good, groups([curve("x", 40, [1], [0.1])])[0], "cost_boxes") is None


def test_the_section_has_shares_and_areas_on_three_axes_and_rare_classes_apart() -> None:
    runs = []
    for seed in range(3):
        runs.append(curve("random", seed, [100, 200, 300], [0.3, 0.4 + seed / 100, 0.5 + seed / 100]))
        runs.append(curve("good", seed, [100, 200, 300], [0.3, 0.52 + seed / 100, 0.6]))
        runs.append(curve("poor", seed, [100, 200, 300], [0.3, 0.3, 0.4]))
    found = efficiency.efficiency(groups(runs), "random")
    assert found is not None and [part.metric for part in found.parts] == ["AP50"]
    needed, area = found.parts[0].tables
    # the mean of good is at 51.0, random's last, on the way from 30 to 53: 100 + 100 * 21 / 23 = 191.3 of 300
    assert [row[:2] for row in needed.rows] == [["good", "3"], ["poor", "3"]]
    assert all(cell.startswith("64 % (") for cell in needed.rows[0][2:]), "boxes, questions and seconds alike here"
    assert set(needed.rows[1][2:]) == {"not reached"}
    assert (
        found.parts[0]
        .sentences[0]
        .endswith("'s questions, the start included (3 seeds); no verdict below 8 paired seeds")
    )
    assert "poor does not reach random's last AP50 (51.0) within its own questions" in found.parts[0].sentences[1]
    assert [row[0] for row in area.rows] == ["random", "good", "poor"] and area.rows[0][2] == "–"
    assert efficiency.efficiency(groups(runs[:1]), "random") is None
    assert efficiency.efficiency(groups([curve(n, 0, [1], [None]) for n in "ab"]), "a") is None
    short = [curve("a", 0, [10, 20], [0.1, 0.2]), curve("b", 0, [10, 20], [0.1, 0.2]), curve("b", 1, [10], [0.1])]
    shown = efficiency.efficiency(groups(short), "a")
    assert shown is not None
    assert shown.parts[0].tables[1].rows[0][1] == "15.0", "a run that has just begun hides nothing"
    rare = [
        RunResult(n, 0, ("a", "b"), [RoundResult(0, 1, 1, 1, 1.0, quality=0.5, per_class={"b": q})], rare_classes=["b"])
        for n, q in (("x", 0.2), ("y", 0.3))
    ]
    both = efficiency.efficiency(groups(rare), "x")
    assert both is not None and [part.metric for part in both.parts] == ["AP50", "rare-class AP50"]


def test_a_seed_that_does_not_span_the_range_has_no_area() -> None:
    """Of three seeds of good one has its start alone: its height there is not that of a curve."""
    runs = [curve("random", s, [10, 20], [0.2, 0.4]) for s in range(3)]
    runs += [curve("good", s, [10, 20], [0.2, 0.6]) for s in range(2)]
    found = efficiency.efficiency(groups([*runs, curve("good", 2, [10], [0.2])]), "random")
    assert found is not None and found.parts[0].tables[1].rows[1][1:3] == ["40.0 ± 0.0", "+10.0 [+10.0, +10.0]"]
    begun = [*runs[:3], *(curve("good", s, [10], [0.2]) for s in range(3))]
    found = efficiency.efficiency(groups(begun), "random")
    assert found is not None and set(found.parts[0].tables[1].rows[1][1:]) == {"–"}


def test_a_baseline_that_did_not_rise_is_said_to() -> None:
    runs = [curve("random", s, [10, 20], [0.2, 0.2]) for s in range(8)]
    found = efficiency.efficiency(
        groups([*runs, *(curve("good", s, [10, 20], [0.2, 0.6]) for s in range(8))]), "random"
    )
    assert found is not None
    assert found.parts[0].sentences[0].endswith("(8 seeds); random itself did not get above its start")


def test_where_the_headroom_decides_nothing_the_terminal_says_so_too() -> None:
    names = {"random": 0.44, "good": 0.46, headroom.NO_NEW_LABEL: 0.4, headroom.EVERYTHING_LABELLED: 0.47}
    runs = [curve(n, s, [10, 20], [0.4, last]) for n, last in names.items() for s in range(8)]
    assert "decide nothing" in page.conclusions(runs, "random")[0] and len(page.conclusions(runs, "random")) == 1
    assert "good reaches" in page.conclusions(runs[:16], "random")[0]
