"""The ablation of partial labels: what the oracle makes right, and the shares and intervals of its table."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import partial_labels
import partial_labels_menu as menu
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
