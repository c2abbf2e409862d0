"""The demo: a watch camera whose frames are mostly empty, asked about at random and by entropy, side by side.

Both start from the same images and the same first model (`study.compare`); each is a project of its own, in
`folder/random` and `folder/entropy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.report.showcase import FirstPick, Showcase, Side, showcase
from labelwise.study import history
from labelwise.study.compare import Comparison, Way
from labelwise.types import LabelwiseError

DATA, RANDOM, SCORE = "patrol", "random", "entropy"
WAYS = (Way(RANDOM, "random_image"), Way(SCORE, "entropy_sum_image"))
FIRST = 24
"""Questions of each that are shown."""
EVIDENCE = (
    "This is one run of one seed: it shows how it works and proves nothing. Over 8 seeds of other frames, entropy "
    "minus random is +6.5 AP50 after the last round (95 % interval 4.2 to 8.9), and it takes 61 % (53 to 70) of the "
    "questions to random's last AP50, but 149 % (125 to 174) of the annotation time: "
    "benchmarks/results/patrol_summary.csv."
)
"""What is said of one run, with the figures of benchmarks/patrol.py (commit 9081780)."""


def demo(folder: Path, settings: Sequence[str] = ()) -> Comparison:
    """What `labelwise demo` runs in `folder`.

    Raises:
        LabelwiseError: the folder is a project of its own.
    """
    if (folder / "run.toml").exists():
        raise LabelwiseError(
            f"{folder} holds a project, and the demo makes two in its folder; give another one: "
            f"`labelwise demo {folder}2`. A project is continued with `labelwise run --project {folder}`"
        )
    return Comparison(folder, DATA, (RANDOM, SCORE), (0,), tuple(settings), ways=WAYS, short_names=True)


def look(made: Comparison) -> Showcase:
    """What the report of a finished demo opens with."""
    chance, score = (_side(opening.start(made.project(method, 0), None)) for method in made.methods)
    return showcase(score, chance, evidence=EVIDENCE)


def _side(context: Context) -> Side:
    """The run of a project, and its first questions with what they showed."""
    pool, ledger = context.pool, context.project.ledger
    images = [pool.number_of[query.image] for query in ledger.queries(1)][:FIRST]
    unreadable = {image for image, _ in context.images("pool").warm(images)}
    rows = ledger.annotation_rows(until_round=1)
    picks = []
    for image in images:
        if image not in unreadable:
            pixels, scale_xy = context.images("pool")[image]
            boxes = (rows["xyxy"][rows["image"] == pool.names[image]] * np.tile(scale_xy, 2)).astype(np.float32)
            picks.append(FirstPick(np.ascontiguousarray(pixels.transpose(1, 2, 0)), boxes))
    return Side(history.run_result(context), picks)
