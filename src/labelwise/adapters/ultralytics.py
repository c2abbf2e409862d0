"""YOLO of Ultralytics (v8 to 26): predictions with class distributions and features, and training on targets.

    yolo = YOLO("yolo11n.pt")
    predictions = project.predict(Detector(yolo, project.pool.classes), views=["flip", "downscale"], features=True)
    learn = trainer(project.targets(predictions, policy="hard"), project.pool.classes)
    yolo.train(data="data.yaml", trainer=learn, epochs=20)  # data.yaml: the names of the classes, and what `val` is

**Ultralytics is licensed under the AGPL-3.0**, which asks that whoever passes on, or serves over a network, a program
that contains it, opens that program's source under the same licence (or buys another). labelwise does not install it,
contains none of its code, and imports it in this adapter alone: `pip install ultralytics` is your decision.

Nothing of theirs is replaced: `Detector` reads the head's own output before suppression, and the loss is theirs, whose
assigner, classification cost and box loss are wrapped (`weighted`).

What the loss obeys. A cell that is assigned to a box counts the box's `w_cls` and `w_box`; one that is assigned to a
box of both weights 0 counts nothing. A cell that is assigned to no box is background with weight 1, but counts nothing
where its centre lies outside the target's `negatives` or in its `ignore`. With all weights 1 and full coverage it is
Ultralytics' own loss.

Source: 000, Eq. 7; task-aligned assignment: Feng et al., TOOD, arXiv 2108.07755, as Ultralytics computes it.
Differs from the paper: a cell is ignored by its centre, since it has no anchor box. Both sums are divided by
Ultralytics' sum of target scores, of the boxes that have any weight.
Fails when: several GPUs train (Ultralytics starts processes that know nothing of the targets: an error); a target is of
a frame of a film or of an image in an archive, which has no file (an error).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from labelwise import catalog
from labelwise.adapters._yolo_loss import WeightedLoss
from labelwise.api.target import Target
from labelwise.types import LabelwiseError

GREY = 114 / 255
"""What Ultralytics fills an image up with."""


def library(module: str) -> Any:
    """A module of Ultralytics.

    Raises:
        LabelwiseError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("ultralytics"):
            raise
        raise LabelwiseError(
            "this adapter needs Ultralytics, which is not installed: pip install ultralytics. It is licensed under the "
            "AGPL-3.0, so see first that your project may use it"
        ) from None


def network_of(yolo: Any) -> Any:
    """The network of a `YOLO` object (or the network itself).

    Raises:
        LabelwiseError: it does not detect upright boxes.
    """
    detection: type = library("ultralytics.nn.tasks").DetectionModel
    inner = getattr(yolo, "model", None)
    found = inner if type(inner) is detection else yolo
    if type(found) is not detection:
        raise LabelwiseError(
            f"got {type(found).__name__}; expected a YOLO that detects, as YOLO('yolo11n.pt'); wrap any other model of "
            "Ultralytics with labelwise.adapters.callable"
        )
    return found


class Detector:
    """A YOLO as `Project.predict` takes it: images float [3, h, w] in 0..1 to boxes, distributions and features.

    Its class scores are sigmoids: the largest is the confidence, all divided by their sum the distribution. Features
    are what the last layer of the classification branch sees. Images are filled up to a multiple of 32, never resized.

    Args:
        yolo: a `YOLO` object, or its network, on any device.
        classes: the names of the project's classes, found among the model's own; None: as the model numbers them.
        min_score: boxes of lower confidence are dropped.
        nms_iou: of two boxes of one class that overlap more, the surer one stays.
        max_detections: the surest boxes of an image.

    Raises:
        LabelwiseError: another kind of model, or a class that the model does not know.
    """

    def __init__(
        self,
        yolo: Any,
        classes: Sequence[str] | None = None,
        *,
        min_score: float = 0.05,
        nms_iou: float = 0.7,
        max_detections: int = 300,
    ) -> None:
        self.network = network_of(yolo)
        self.min_score, self.nms_iou, self.max_detections = min_score, nms_iou, max_detections
        number = {str(name): int(k) for k, name in dict(self.network.names).items()}
        wanted = list(number) if classes is None else list(classes)
        for name in wanted:
            if name not in number:
                raise LabelwiseError(f"the YOLO: {catalog.unknown('class', name, list(number))}")
        self.columns = [4 + number[name] for name in wanted]

    @torch.inference_mode()
    def __call__(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        network, head = self.network.eval(), self.network.model[-1]
        if head.cv2 is None:
            raise LabelwiseError(
                "this YOLO was fused to its head without suppression, which keeps no distributions; load it anew"
            )
        stride = int(max(network.stride))
        height, width = (-(-max(int(image.shape[d]) for image in images) // stride) * stride for d in (1, 2))
        device = next(network.parameters()).device
        batch = torch.full((len(images), 3, height, width), GREY, device=device)
        for i, image in enumerate(images):
            batch[i, :, : image.shape[1], : image.shape[2]] = image.to(device)
        seen: list[Tensor] = []
        hooks = [one[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0])) for one in head.cv3]
        one_to_one = bool(getattr(head, "end2end", False))
        try:
            if one_to_one:
                head.end2end = False
            decoded, _ = network(batch.to(next(network.parameters()).dtype))
        finally:
            for hook in hooks:
                hook.remove()
            if one_to_one:
                head.end2end = True
        features = torch.cat([level.float().flatten(2) for level in seen], 2)
        return [
            self._found(decoded[i].float().T, features[i].T, int(image.shape[1]), int(image.shape[2]))
            for i, image in enumerate(images)
        ]

    def _found(
        self, said: Float[Tensor, "a k"], features: Float[Tensor, "a d"], height: int, width: int
    ) -> dict[str, Tensor]:
        """What stays of the cells of one image."""
        boxes, every = box_convert(said[:, :4], "cxcywh", "xyxy"), said[:, self.columns]
        scores, labels = every.max(1)
        rows = (scores >= self.min_score).nonzero()[:, 0]
        rows = rows[batched_nms(boxes[rows], scores[rows], labels[rows], self.nms_iou)[: self.max_detections]]
        shown = boxes[rows].clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
        with_area = (shown[:, 2:] - shown[:, :2] > 0.01).all(1)
        rows, shown = rows[with_area], shown[with_area]
        probs = every[rows] / every[rows].sum(1, keepdim=True).clamp(min=1e-12)
        return {"boxes": shown, "scores": scores[rows], "probs": probs, "features": features[rows]}


def weighted(yolo: Any) -> Any:
    """Gives the model the weighted loss, in place: `model.loss(batch)` obeys `w_cls`, `w_box` and `ignore` of a batch.

    A batch without them has Ultralytics' own loss. `trainer` does this by itself.
    """
    network = network_of(yolo)
    network.criterion = WeightedLoss(network.init_criterion())
    return yolo


def trainer(targets: Sequence[Target], classes: Sequence[str]) -> Any:
    """A trainer for `yolo.train(trainer=...)`: Ultralytics' own, which trains on these targets with their weights.

    Its augmentations (mosaic, mixup, flips, ...) move boxes, weights and ignored places together. What `train` of
    data.yaml names is not read; `val` is validated on as ever, by its own label files.

    Args:
        targets: of `Project.targets`.
        classes: the names of the project's classes; `names` of data.yaml must be the same.

    Raises:
        LabelwiseError: Ultralytics is not installed, there are no targets, or one of them has no image file.
    """
    library("ultralytics")
    if not targets:
        raise LabelwiseError("trainer: there are no targets; answer some questions first")
    for target in targets:
        if target.path is None:
            raise LabelwiseError(
                f"trainer: {target.image} is no file of its own (a frame of a film, or part of an archive), and "
                "Ultralytics reads files: write the frames as images first (`labelwise export labels --to yolo`)"
            )
    made = importlib.import_module("labelwise.adapters._yolo_trainer")
    return partial(made.Trainer, targets=tuple(targets), classes=tuple(classes))
