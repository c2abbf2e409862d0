"""What the demo's report opens with: the sentence says what the runs say, whatever that is; and the demo, tiny."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labelwise import cli
from labelwise.report import page, showcase
from labelwise.report.results import RoundResult, RunResult
from labelwise.report.showcase import FirstPick, Side
from labelwise.study import first_look
from labelwise.types import LabelwiseError

TINY = (
    "data.patrol={train=40, test=8, size_px=64, places=4}",
    "data.image_size_px=64",
    "model.head_convs=1",
    "model.fpn_channels=16",
    "train.steps=2",
    "budget.start_images=8",
    "budget.per_round=[4]",
)


def run(name: str, *qualities: float | None, objects: int = 5) -> RunResult:
    """Ten questions in each round, of 100 s; so many objects of each."""
    rows = [
        RoundResult(i, objects * i, 20 + 10 * i, 20 + 10 * i, 1000.0 * i, quality=q) for i, q in enumerate(qualities)
    ]
    return RunResult(name, 0, ("a", "b"), rows)


def test_the_sentence_counts_the_questions() -> None:
    score, chance = run("entropy", 0.1, 0.3, 0.4), run("random", 0.1, 0.15, 0.2)
    found = showcase.saving(score, chance, "cost_queries")
    assert (found.level, found.asked, found.at_random) == pytest.approx((0.2, 5.0, 20.0))
    said = showcase.sentence(score, chance, found)
    assert said.startswith("5 questions instead of 20: asking by entropy") and "20.0 AP50" in said
    assert said.endswith("at random, the common start not counted."), "compare's shares count it, and say so"


@pytest.mark.parametrize(
    ("score", "chance", "said"),
    [
        ((0.1, 0.12), (0.1, 0.2), "No question was saved"),
        ((0.1, 0.3), (0.1, 0.05), "No question was saved"),
        ((0.1, 0.3), (0.1, None), "was not measured"),
    ],
    ids=["worse", "random learned nothing", "not measured"],
)
def test_a_run_that_saves_nothing_is_said_to(
    score: tuple[float, ...], chance: tuple[float | None, ...], said: str
) -> None:
    sides = [Side(run("entropy", *score)), Side(run("random", *chance))]
    made = showcase.showcase(*sides, evidence="One run.")
    assert said in made.sentence and "instead of" not in made.sentence
    assert page.html([side.run for side in sides], title="t", first=made).count("<svg") >= 3


def test_the_page_opens_with_sentence_and_picture() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picks = [
        FirstPick(picture, np.array([[6, 4, 30, 20]], np.float32)),
        FirstPick(picture, np.zeros((0, 4), np.float32)),
    ]
    sides = Side(run("<b>entropy", 0.1, 0.3, objects=9), picks), Side(run("random", 0.1, 0.2), picks[1:])
    made = showcase.showcase(*sides, evidence="Over 8 seeds: +9.9.")
    text = page.html([side.run for side in sides], title="t", first=made)
    assert text.index("5 questions instead of 10") < text.index("Summary</h2>") and "Over 8 seeds: +9.9." in text
    assert "<b>entropy" not in text and "&lt;b&gt;entropy: 1 of its first 2 questions show an object" in text
    assert "random: 0 of its first 1 question show" in text and text.count('class="hit"') == 1
    assert "found 9 objects" in text and "found 5 objects" in text
    without = page.html([side.run for side in sides], title="t")
    assert all(one.count('id="first"') == 1 for one in (text, without)), "one opening, of whichever kind"
    assert 'class="firsts"' in text and 'class="firsts"' not in without


def test_the_demo_runs_both_and_opens_with_what_they_asked(tmp_path: Path) -> None:
    words = ["demo", str(tmp_path / "d"), *(part for value in TINY for part in ("--set", value))]
    done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert done.exit_code == 0 and "random, round 1: AP50" in done.stdout and "entropy, round 1: AP50" in done.stdout
    text = (tmp_path / "d" / "report.html").read_text(encoding="utf-8")
    assert text.index('class="headline"') < text.index("Summary</h2>") and text.count('class="firsts"') == 2
    first = [(tmp_path / "d" / name / "rounds" / "000" / "metrics.json").read_bytes() for name in ("random", "entropy")]
    assert first[0] == first[1], "one first model"
    again = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert again.exit_code == 0
    with pytest.raises(LabelwiseError, match="another one"):
        first_look.demo(tmp_path / "d" / "entropy")
