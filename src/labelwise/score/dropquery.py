"""How often the predicted class changes when features are dropped: the share of dropout passes; unit: none, 0 to 1.

With a linear head on frozen features the dropout before the head drops features, at random and anew in every pass: the
view `dropout`, asked M times (the paper: 3). A row whose class changes in more than half of the passes is a candidate;
of these `select/kmeans.py` takes those nearest to the centres of clusters (`above = 0.5`).

Source: Gupte, Aklilu, Nirschl, Yeung-Levy, Revisiting Active Learning in the Era of Vision Foundation Models, TMLR 2024
(arXiv 2401.14555), DropQuery; read beside the authors' code.
Differs from the paper: nothing where whole images are classified. Of boxes, a pass that lacks a counterpart counts as a
changed one: the box itself is in doubt.
Fails when: the head was trained without dropout and few features carry a class: nearly all change, or none. M passes
tell only M + 1 values apart: a rank inside the candidates means nothing.

Worked by hand, three passes over two rows, both of class 0: row 0 is of class 1 in two of them, row 1 in none.

>>> a, b = [0.9, 0.1], [0.2, 0.8]
>>> score(np.array([a, a]), np.array([[b, a], [b, a], [a, a]]), np.ones((3, 2))).round(4).tolist()
[0.6667, 0.0]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import blocks, check_distribution, check_shape, check_unit
from labelwise.types import LabelwiseError, phrases


def score(
    probs: Float[np.ndarray, "n C"],
    view_probs: Float[np.ndarray, "V n C"],
    view_iou: Float[np.ndarray, "V n"],
) -> Float64[np.ndarray, " n"]:
    """Share of the passes whose most probable class is another one; of equal probabilities the first class counts.

    Args:
        probs: class distribution of every row in the untouched pass.
        view_probs: that of its counterpart in every dropout pass.
        view_iou: IoU with the counterpart; 0 means that there is none.

    Raises:
        LabelwiseError: no pass, a row that is not a distribution, an IoU outside [0, 1] (row and view named).
    """
    check_shape("probs", probs, (None, None))
    n, classes = probs.shape
    check_shape("view_iou", view_iou, (None, n))
    check_shape("view_probs", view_probs, (len(view_iou), n, classes))
    check_unit("view_iou", view_iou)
    if len(view_iou) == 0:
        raise LabelwiseError('dropquery: there are no views; set predict.views = ["dropout", "dropout", "dropout"]')
    changed = np.zeros(n)
    for rows in blocks(n, classes):
        check_distribution("probs", probs[rows], rows.start)
        label = probs[rows].argmax(axis=1)
        for v in range(len(view_iou)):
            seen = view_iou[v, rows] > 0
            check_distribution(f"view_probs of view {v}", view_probs[v, rows], rows.start, seen)
            changed[rows] += ~seen | (view_probs[v, rows].argmax(axis=1) != label)
    share: Float64[np.ndarray, " n"] = changed / len(view_iou)
    return share


def explain(
    probs: Float[np.ndarray, "n C"],
    view_probs: Float[np.ndarray, "V n C"],
    view_iou: Float[np.ndarray, "V n"],
    classes: Sequence[str],
) -> list[str]:
    """What the model says when it looks at a part of the features."""
    said = phrases.votes(probs, view_probs, view_iou, classes)
    return [f"With a part of the features left out the model says {one}." for one in said]
