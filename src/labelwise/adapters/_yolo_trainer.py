"""Ultralytics' data set and trainer, made to train on targets (machinery of `ultralytics`, which says what is done).

Their augmentations move boxes, each with one number, its class. Here that number is the box's row in a table of all
targets, and rectangles in which nothing is background are boxes without a row: so mosaic, mixup and flips move all
alike, and the batch is taken apart when it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor
from torchvision.ops import box_convert

from labelwise.adapters._yolo_loss import WeightedLoss
from labelwise.api.target import Target
from labelwise.types import LabelwiseError

_HERE = find_spec("ultralytics") is not None
DetectionTrainer: Any = import_module("ultralytics.models.yolo.detect").DetectionTrainer if _HERE else object
YOLODataset: Any = import_module("ultralytics.data.dataset").YOLODataset if _HERE else object

NO_ROW = -1
"""In place of a class: a rectangle in which nothing is background."""
TILES = 8
"""Such rectangles are cut at eighths of the image: an augmentation drops a box of which little is left, and what it
drops of a tile is a sliver."""
EXTRA = "labelwise"


def hidden(target: Target) -> Float32[np.ndarray, "r 4"]:
    """Where nothing may be called background: outside `negatives` or the window, or in `ignore`; xyxy in pixels.

    >>> from labelwise.types import Pool
    >>> none, one = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    >>> looked = np.array([[0, 0, 70, 80]], np.float32)
    >>> no = np.zeros(0, np.int64), one, one, np.zeros(0, bool)
    >>> target = Target("a", None, (80, 80), none, *no, looked, none, (0.0, 0.0, 80.0, 80.0))
    >>> hidden(target)[:2].tolist(), len(hidden(target))
    ([[70.0, 0.0, 80.0, 10.0], [70.0, 10.0, 80.0, 20.0]], 8)
    """
    size = np.array(target.size_px, np.float32)
    low, high = np.array(target.window[:2], np.float32), np.array(target.window[2:], np.float32)
    seen = np.concatenate([np.maximum(target.negatives[:, :2], low), np.minimum(target.negatives[:, 2:], high)], axis=1)
    rects = np.concatenate([seen, target.ignore])
    cuts = [np.linspace(0, size[d], TILES + 1, dtype=np.float32) for d in (0, 1)]
    xs, ys = (np.unique(np.clip(np.concatenate([cuts[d], rects[:, d], rects[:, d + 2]]), 0, size[d])) for d in (0, 1))
    left, right = np.meshgrid((xs[:-1] + xs[1:]) / 2, (ys[:-1] + ys[1:]) / 2)
    bare = ~_covered(left, right, seen) | _covered(left, right, target.ignore)
    at_cut = np.isin(xs[:-1], cuts[0])
    before = np.pad(bare, ((0, 0), (1, 0)))[:, :-1] & ~at_cut
    after = np.pad(bare & ~at_cut, ((0, 0), (0, 1)))[:, 1:]
    row, first = np.nonzero(bare & ~before)
    last = np.nonzero(bare & ~after)[1]
    return np.stack([xs[first], ys[row], xs[last + 1], ys[row + 1]], axis=1).astype(np.float32)


def _covered(x: np.ndarray, y: np.ndarray, rects: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Which points of a grid lie in one of the rectangles."""
    found = np.zeros(x.shape, np.bool_)
    for x1, y1, x2, y2 in rects:
        found |= (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    return found


class Dataset(YOLODataset):  # type: ignore[misc]
    """Targets as a data set of Ultralytics: it reads images, resizes and augments them as ever."""

    def __init__(self, targets: Sequence[Target], **settings: Any) -> None:
        self.targets = targets
        self.table = {
            name: torch.from_numpy(np.concatenate([getattr(target, name) for target in targets]))
            for name in ("labels", "w_cls", "w_box")
        }
        super().__init__(img_path="", **settings)

    def get_img_files(self, img_path: Any) -> list[str]:
        return [str(target.path) for target in self.targets]

    def get_labels(self) -> list[dict[str, Any]]:
        """One entry per target; `EXTRA`: the row of its first box, and its hidden rectangles."""
        found: list[dict[str, Any]] = []
        row = 0
        for target in self.targets:
            size = np.tile(np.array(target.size_px, np.float32), 2)
            found.append(
                {
                    "im_file": str(target.path),
                    "shape": target.size_px[::-1],
                    "cls": target.labels[:, None].astype(np.float32),
                    "bboxes": _centred(target.boxes / size),
                    "segments": [],
                    "keypoints": None,
                    "normalized": True,
                    "bbox_format": "xywh",
                    EXTRA: (row, _centred(hidden(target) / size)),
                }
            )
            row += len(target.labels)
        return found

    def update_labels_info(self, label: dict[str, Any]) -> dict[str, Any]:
        row, rects = label.pop(EXTRA)
        rows = np.concatenate([row + np.arange(len(label["cls"])), np.full(len(rects), NO_ROW)])
        label["cls"] = rows[:, None].astype(np.float32)
        label["bboxes"] = np.concatenate([label["bboxes"], rects])
        return dict(super().update_labels_info(label))

    def collate_fn(self, batch: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of Ultralytics, and beside it what `WeightedLoss` obeys."""
        made: dict[str, Any] = YOLODataset.collate_fn(batch)
        row = made["cls"].view(-1).round().long()
        boxes: Tensor = made["bboxes"]
        real = row != NO_ROW
        made["ignore"] = box_convert(boxes[~real], "cxcywh", "xyxy")
        made["ignore_idx"] = made["batch_idx"][~real]
        made |= {"bboxes": boxes[real], "batch_idx": made["batch_idx"][real]}
        made["cls"] = self.table["labels"][row[real]][:, None].float()
        return made | {name: self.table[name][row[real]] for name in ("w_cls", "w_box")}


def _centred(xyxy: np.ndarray) -> Float32[np.ndarray, "n 4"]:
    """Corners as centre and size."""
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1).astype(np.float32)


class Trainer(DetectionTrainer):  # type: ignore[misc]
    """Ultralytics' trainer of detectors, on targets."""

    def __init__(self, *given: Any, targets: Sequence[Target], classes: Sequence[str], **named: Any) -> None:
        self.targets, self.classes = targets, list(classes)
        super().__init__(*given, **named)
        if self.world_size > 1:
            raise LabelwiseError("trainer: targets are trained on by one GPU; give one device (device=0)")

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int | None = None) -> Any:
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)
        if self.args.classes is not None or self.args.single_cls:
            raise LabelwiseError("trainer: classes= and single_cls= do not go with targets; leave them out")
        names = [str(name) for _, name in sorted(dict(self.data["names"]).items())]
        if names != self.classes:
            raise LabelwiseError(
                f"trainer: {self.args.data} has the classes {', '.join(names)}; the project has "
                f"{', '.join(self.classes)}. Write the project's classes there, in their order"
            )
        settings = self.args
        return Dataset(
            self.targets,
            imgsz=settings.imgsz,
            batch_size=batch,
            augment=True,
            hyp=settings,
            rect=settings.rect,
            cache=settings.cache or None,
            stride=max(int(self.stride), 32),
            pad=0.0,
            prefix="train: ",
            task=settings.task,
            data=self.data,
            fraction=1.0,
        )

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """On the device; the loss is made the weighted one before it is first asked."""
        model = self.model
        criterion = getattr(model, "criterion", None)
        if not isinstance(criterion, WeightedLoss):
            model.criterion = WeightedLoss(criterion or model.init_criterion())
        return dict(super().preprocess_batch(batch))
