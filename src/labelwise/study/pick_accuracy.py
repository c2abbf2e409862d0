"""How often the model is right about what a method picked, against images picked at random: what the questions teach.

Of every round that asked: the predictions that the round's scores were made of, held against the answers to its
questions; and the same predictions on the images that could have been asked, where the pool has ground truth, or the
accuracy of that model on the test images, which stand for random ones.

Source: 001, section 3.3.4 (Fig. 3.9, how informative samples are).
Fails when: the test images are unlike the pool, or an answer is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelwise.errors import LabelwiseError
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.report.tables import Table
from labelwise.report.wording import DASH
from labelwise.study.advise import Features

Z_95 = 1.96


@dataclass(frozen=True, slots=True)
class PickAccuracy:
    """One round: `labels` known before it; picks answered and how many the model had right; likewise random images."""

    round: int
    labels: int
    picks: int
    picks_right: int
    random: int
    random_right: int

    def difference(self) -> tuple[float, float, float]:
        """Share right of the picks minus that of random images, with its 95 % interval (Newcombe 1998, method 10)."""
        (p, p_low, p_high), (q, q_low, q_high) = (
            _wilson(self.picks_right, self.picks),
            _wilson(self.random_right, self.random),
        )
        low = p - q - float(np.hypot(p - p_low, q_high - q))
        high = p - q + float(np.hypot(p_high - p, q - q_low))
        return p - q, low, high


def _wilson(right: int, n: int) -> tuple[float, float, float]:
    """A share with its 95 % interval (Wilson)."""
    p, z = right / n, Z_95
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return p, middle - half, middle + half


def features_of(context: Context) -> Features:
    """Where the features of a classifier's project come from."""
    if context.run.reads_features:
        return "frozen"
    return "pretrained" if context.run.model.settings.get("weights") else "scratch"


def of_project(context: Context) -> list[PickAccuracy]:
    """The rounds that have asked and whose predictions are there.

    Raises:
        LabelwiseError: the project is not of image classification.
    """
    if not context.run.classifies:
        raise LabelwiseError(f"{context.project.folder}: the accuracy of picks is of image classification")
    ledger, pool = context.project.ledger, context.pool
    rows = ledger.annotation_rows()
    image = np.array([pool.number_of[name] for name in rows["image"].tolist()], np.int64)
    found = []
    for number in range(1, context.run.rounds):
        now, own = Round(context, number), rows["round"] == number
        if ledger.stage_done(number, "ask") is None or not own.any() or not now.folder.scores.exists():
            continue
        said = now.detections()
        guess = np.full(len(pool), -1)
        guess[said.image] = said.labels
        before = int((rows["round"] < number).sum())
        right = int((guess[image[own]] == rows["label"][own]).sum())
        others = _random(now, guess, before)
        if others is not None:
            found.append(PickAccuracy(number, before, int(own.sum()), right, *others))
    return found


def _random(now: Round, guess: np.ndarray, before: int) -> tuple[int, int] | None:
    """How many images stand for random ones, and how many of them the model has right."""
    truth = now.pool.truth
    if truth is not None and now.pool.one_class_per_image:
        asked = now.scores["image"]
        return len(asked), int((guess[asked] == truth.labels[asked]).sum())
    accuracy = now.before.metrics.get("accuracy")
    if accuracy is None or now.test is None or not before:
        return None
    return len(now.test), round(float(accuracy) * len(now.test))


def table(rows: list[PickAccuracy]) -> Table:
    """Shares right, in per cent, and their difference in points."""
    cells = []
    for row in rows:
        difference, low, high = (100 * v for v in row.difference())
        shares = [f"{100 * r / n:.1f} ({n})" for r, n in ((row.picks_right, row.picks), (row.random_right, row.random))]
        labels = str(row.labels) if row.labels else DASH
        cells.append([str(row.round), labels, *shares, f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"])
    heads = [
        "Round",
        "Labels before",
        "Right of the picks, %",
        "Right of random images, %",
        "Difference, points (95 %)",
    ]
    return Table("How often the model was right before it asked", heads, cells)


def sentence(row: PickAccuracy) -> str:
    """What the last round's picks say.

    >>> sentence(PickAccuracy(3, 300, 100, 40, 1000, 700))
    'Round 3 asked what the model does not know: it had 40 % of the picks right, 30 points less than of random images \
(-39.5 to -19.8). With few labels that alone does not help: see what was measured for so many labels per class.'
    """
    difference, low, high = (100 * v for v in row.difference())
    share = f"it had {100 * row.picks_right / row.picks:.0f} % of the picks right"
    if high < 0:
        return (
            f"Round {row.round} asked what the model does not know: {share}, {-difference:.0f} points less than of "
            f"random images ({low:+.1f} to {high:+.1f}). With few labels that alone does not help: see what was "
            "measured for so many labels per class."
        )
    if low > 0:
        return (
            f"Round {row.round} asked what the model knows already: {share}, {difference:.0f} points more than of "
            f"random images ({low:+.1f} to {high:+.1f}). A method that covers does so at first; later it wastes labels."
        )
    return (
        f"Round {row.round}: {share}, no more and no less than of random images ({difference:+.1f} points, {low:+.1f} "
        f"to {high:+.1f}): its questions are as hard as random ones."
    )
