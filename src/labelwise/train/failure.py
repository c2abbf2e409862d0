"""Whether a training has learned anything at all: told, so that nobody compares methods on a model that says nothing.

Two signs, each cheap. The loss: the mean of the last tenth of the steps is not below that of the first tenth. A round
that goes on from the model before begins where that ended, so its end is held against the begin of the last training
from fresh weights. The training images: the k surest detections of an image hit hardly any of its k boxes, over 32
images (the loss may have fallen all the same: a rate too high drives it up at once, and then down to that of a model
that finds background everywhere); a classifier gives all one class.

Source: ours.
Fails when: it learns a little and no more; fewer than 20 steps are not judged.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.images import ImageSet

LEAST_STEPS, LEAST_BOXES = 20, 5
"""Fewer are not judged."""
SAME_BOX = 0.5
"""IoU from which a detection is an annotated box; weight from which a box counts."""
CHANCE = 0.05
"""Share of the boxes that a detector hits which has learned nothing (bccd: 0 to 4 % after collapse, else 62 to 72)."""


def find(model: nn.Module, data: TrainingSet | ImageSet, steps: float, first: float | None, last: float) -> str | None:
    """What shows that a trained model has learned nothing; None where nothing does.

    Args:
        model: on its device; it is left in evaluation mode.
        data: what it was trained on.
        steps: how many.
        first: mean loss of the first tenth of a training from fresh weights; None where it is not known.
        last: mean loss of the last tenth of this one.
    """
    if steps < LEAST_STEPS:
        return None
    if first is not None and last >= first:
        return f"the loss has not fallen ({first:.3g} at first, {last:.3g} at last)"
    model.eval()
    with torch.inference_mode():
        return _one_class(model, data) if isinstance(data, ImageSet) else _no_box(model, data)


def _no_box(model: nn.Module, data: TrainingSet, most: int = 32) -> str | None:
    device, rng = next(model.parameters()).device, np.random.default_rng(0)
    chosen = np.flatnonzero(np.diff(data.targets.offsets)[data.rows])
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(most, len(chosen))).astype(int))]
    boxes = hits = 0
    for index in chosen:
        image, target = data.sample(int(index), rng, Augment())
        found = model([image.to(device)])[0]
        sure = target["w_cls"] >= SAME_BOX
        wanted, labels = target["boxes"][sure].to(device), target["labels"][sure].to(device)
        boxes, hits = boxes + len(wanted), hits + _hits(found, wanted, labels)
    if boxes < LEAST_BOXES or hits > CHANCE * boxes:
        return None
    return f"its surest detections find {hits} of {boxes} boxes of its own training images"


def _hits(found: dict[str, Tensor], wanted: Tensor, labels: Tensor) -> int:
    """How many of k wanted boxes are among the k surest detections, with their class."""
    best = found["scores"].argsort(descending=True)[: len(wanted)]
    if not len(best):
        return 0
    right = found["probs"][best].argmax(1)[:, None] == labels
    return int((right & (box_iou(found["boxes"][best], wanted) >= SAME_BOX)).any(0).sum())


def _one_class(model: nn.Module, data: ImageSet, most: int = 256) -> str | None:
    """Of a classifier: whether all of several classes' images are given one class, as chance would."""
    rows = np.linspace(0, len(data) - 1, min(most, len(data))).astype(int)
    labels = data.labels[torch.from_numpy(rows).to(data.labels.device)].cpu()
    if len(rows) < LEAST_STEPS or len(np.unique(labels.numpy())) < 2:
        return None
    device = next(model.parameters()).device
    images = data.inputs(rows).to(device)
    found = torch.cat([model(part)[0].argmax(1).cpu() for part in torch.split(images, 64)])
    same = len(np.unique(found.numpy())) == 1
    return f"it gives {len(rows)} of its own training images one class, all of them" if same else None
