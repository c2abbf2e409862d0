"""Images that go, come back, are cut short or replaced between two runs: the flow goes on, labels stay or are held back."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labelwise import history, loop, opening
from labelwise.context import Context
from labelwise.data import scenes
from labelwise.data.known_order import in_known_order
from labelwise.stages import exchange, images
from labelwise.store import image_files
from labelwise.types import Answer, Boxes, Clips, Cost, LabelwiseError, Pool, Problem, Rects

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kill

TINY = [s for s in kill.SMALL if not s.startswith(("data.scenes", "budget", "train.", "predict.views"))]
TINY += ["train.epochs=1", "train.threads=1", "budget.start_images=6", "query.score=confidence", "labels.policy=ignore"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "data"
    scenes.write(folder, train=20, test=4, seed=3, size_px=96)
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def opened(data: Path, *settings: str, rounds: int = 1) -> Context:
    """The project beside the data, made where there is none."""
    folder = data.parent / "project"
    if not folder.exists():
        base = data.parent / "base.toml"
        base.write_text(f'[data]\nroot = "{data}"\npool_split = "train"\ntest_split = "test"\n')
        return opening.start(folder, str(base), [*TINY, f"budget.per_round={[4] * rounds}", *settings])
    return opening.start(folder, None, [f"budget.per_round={[4] * rounds}", *settings])


def run(data: Path, *settings: str, rounds: int = 1) -> tuple[Context, list[str]]:
    """Runs to the end; the project opened anew, and what was told."""
    context = opened(data, *settings, rounds=rounds)
    told: list[str] = []
    context.tell = told.append
    list(loop.run(context))
    assert loop.next_stage(context) is None
    return context, told


def labelled(context: Context) -> list[str]:
    """Images with whole labels, of the first round."""
    known = context.project.ledger.labels(context.pool)
    return [context.pool.names[i] for i in np.flatnonzero(np.diff(known.coverage.offsets))]


def asked(context: Context, round: int) -> set[str]:
    return {query.image for query in context.project.ledger.queries(round)}


def boxes_of(context: Context, name: str) -> int:
    return int((context.project.ledger.annotation_rows()["image"] == name).sum())


def rewrite(path: Path, size: tuple[int, int] | None = None) -> None:
    """Another picture under the same name."""
    with Image.open(path) as image:
        old = image.size
    noise = np.random.default_rng(1).integers(0, 255, (*(size or old)[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


# ---- gone ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("had_labels", [True, False])
def test_an_image_that_is_gone_is_told_not_asked_and_back_when_it_is_back(data: Path, had_labels: bool) -> None:
    first, told = run(data, rounds=0)
    assert told == []
    name = labelled(first)[0] if had_labels else next(n for n in first.pool.names if n not in labelled(first))
    before, path, names = boxes_of(first, name), data / name, first.pool.names
    aside = path.rename(data.parent / "aside.png")
    gone, told = run(data, rounds=1)
    assert gone.pool.names == names  # it keeps its place
    assert [line for line in told if "gone" in line and name in line]
    assert boxes_of(gone, name) == before
    assert name not in asked(gone, 1)
    assert name in dict(history.round_result(gone, 1).skipped)
    assert images.told(opened(data, rounds=1)) == told
    history.run_result(gone)  # the report can be drawn without it
    aside.rename(path)
    back, told = run(data, rounds=2)
    assert told == []
    assert not back.pool.unavailable
    assert boxes_of(back, name) >= before
    assert name not in dict(history.round_result(back, 2).skipped)


def test_gone_and_back_before_the_next_round_leaves_no_trace(data: Path, tmp_path: Path) -> None:
    calm = Path(shutil.copytree(data, tmp_path / "calm" / "data"))
    run(data, rounds=0)
    path = data / opened(data, rounds=0).pool.names[3]
    path.rename(tmp_path / "aside")
    run(data, rounds=0)
    (tmp_path / "aside").rename(path)
    run(data, rounds=1)
    run(calm, rounds=0)
    run(calm, rounds=1)
    expected, got = (kill.fingerprint(where.parent / "project") for where in (calm, data))
    assert got == expected
