"""Any detector that is a function: images in, boxes out; checked, and made into what `Project.predict` takes.

    def mine(images):  # uint8 [h, w, 3] each, RGB
        return [{"boxes": [[10, 20, 90, 80]], "scores": [0.8], "labels": [1]} for image in images]

    predictions = project.predict(detector(mine, classes=project.pool.classes), views=["flip", "downscale"])

In place of a dict it may give what Ultralytics or supervision call a result (`api.result_objects`):

    model = detector(lambda images: yolo.predict([image[..., ::-1] for image in images]), classes)  # it takes BGR

Its views give the consistency of every box, so that the score `consistency` and the policy `task_soft` work for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelwise.api.checks import array, class_number
from labelwise.api.heads import SIGMOID, SOFTMAX, distribution, known
from labelwise.api.predictions import COLUMNS_OF_A_BOX, spread
from labelwise.api.result_objects import columns
from labelwise.predict.passes import Model
from labelwise.types import LabelwiseError

Function = Callable[[list[np.ndarray]], Sequence[Any]]
"""Images uint8 [h, w, 3] RGB -> one dict (or result object) per image: `boxes` [n, 4] xyxy in its pixels, `probs`
[n, C], or `scores` [n] and `labels` [n] (numbers or names); optionally `features` [n, D]."""


def detector(function: Function, classes: Sequence[str], *, head: str = SOFTMAX) -> Model:
    """The function as a model; what it gives wrong is an error that names the box. `head`: "softmax" or "sigmoid", what
    its `probs` are (`api.heads`).

    One box without a distribution, of 2 classes:

    >>> said = {"boxes": [[0, 0, 4, 4]], "scores": [0.75], "labels": ["cat"]}
    >>> model = detector(lambda images: [said for _ in images], ["cat", "dog"])
    >>> model([torch.zeros(3, 8, 8)])[0]["probs"]
    tensor([[0.7500, 0.2500]])
    """
    head = known(head)

    def model(images: list[Tensor]) -> list[dict[str, Tensor]]:
        shown = [(image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy() for image in images]
        said = function(shown)
        if len(said) != len(images):
            raise LabelwiseError(
                f"the detector answered {len(said)} of {len(images)} images; expected one dict for each"
            )
        return [_entry(columns(one, COLUMNS_OF_A_BOX, "the detector"), classes, head) for one in said]

    return model


def _entry(said: Any, classes: Sequence[str], head: str) -> dict[str, Tensor]:
    if not isinstance(said, Mapping):
        raise LabelwiseError(f"the detector gave {type(said).__name__}; expected a dict with boxes, or a result object")
    missing = {"boxes"} - set(said) or ({"scores", "labels"} - set(said) if "probs" not in said else set())
    if missing:
        raise LabelwiseError(f"the detector gave {sorted(said)}; expected boxes, and probs, or scores and labels")
    boxes = np.asarray(array(said["boxes"]), np.float32).reshape(-1, 4)
    n = len(boxes)
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    if flat.any():
        k = int(flat.argmax())
        raise LabelwiseError(f"the detector's box {k} is {boxes[k].tolist()}; expected x1 < x2, y1 < y2 in pixels")
    c = len(classes)
    if "probs" in said:
        probs = np.asarray(array(said["probs"]), np.float32).reshape(n, c if n == 0 else -1)
        scores = np.asarray(array(said.get("scores", probs.max(axis=1, initial=0))), np.float32)
        if head == SIGMOID:
            outside = ~((probs >= 0) & (probs <= 1)).all(axis=1)
            if outside.any():
                k = int(outside.argmax())
                raise LabelwiseError(
                    f"the detector's box {k}: probs are {probs[k].tolist()}; expected sigmoids, 0 to 1"
                )
            probs = distribution(probs)
    else:
        scores = np.asarray(array(said["scores"]), np.float32)
        numbers = [
            class_number(x, classes, lambda k=k: f"the detector's box {k}") for k, x in enumerate(said["labels"])
        ]
        fit = scores.shape == (n,) and len(numbers) == n
        probs = spread(scores, np.array(numbers, np.int64), c) if fit else np.zeros((0, 0), np.float32)
    if scores.shape != (n,) or probs.shape != (n, c):
        raise LabelwiseError(
            f"the detector gave {n} boxes, scores {scores.shape} and probs {probs.shape}; expected one each, of {c} "
            "classes"
        )
    features = np.asarray(array(said.get("features", np.zeros((n, 0)))), np.float32).reshape(n, 0 if n == 0 else -1)
    columns = {"boxes": boxes, "scores": scores, "probs": probs, "features": features}
    return {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
