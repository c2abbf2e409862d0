"""The detection loss of Ultralytics with a weight for every cell (machinery of `ultralytics`).

Their loss asks an assigner which cell learns which box, then sums a cost of classes over all cells and a box loss over
the assigned ones. The three are wrapped; what they compute is theirs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

BRANCHES = ("one2many", "one2one")
"""Losses inside a loss, of heads that need no suppression (v10, 26)."""


class WeightedLoss:
    """A criterion of Ultralytics that obeys what a batch says beyond its boxes.

    `w_cls`, `w_box` [n], one for each of `cls`; `ignore` [r, 4] xyxy as shares of the image shown, with `ignore_idx`
    [r], the image of the batch. Where a batch lacks them, its loss is Ultralytics' own.
    """

    def __init__(self, criterion: Any) -> None:
        self.criterion = criterion
        inside = [getattr(criterion, name) for name in BRANCHES if hasattr(criterion, name)] or [criterion]
        self.assigners = [Assigner(one) for one in inside]

    def __call__(self, predictions: Any, batch: Mapping[str, Any]) -> Any:
        for one in self.assigners:
            one.batch = batch
        return self.criterion(predictions, batch)

    def __getattr__(self, name: str) -> Any:
        if name == "criterion":  # asked before __init__, by copy
            raise AttributeError(name)
        return getattr(self.criterion, name)


class Assigner(nn.Module):
    """Their assigner; also weighs every cell, and has the costs of `loss` multiplied by that."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.inner: nn.Module = loss.assigner
        self.batch: Mapping[str, Any] = {}
        self.use = self.use_box = torch.ones(())
        bce, box_loss = loss.bce, loss.bbox_loss
        asked = inspect.signature(box_loss.forward)

        def weighted_bce(predicted: Tensor, wanted: Tensor) -> Tensor:
            cost: Tensor = bce(predicted, wanted)
            return cost * self.use[..., None].to(cost.dtype)

        def weighted_box_loss(*given: Any, **named: Any) -> Any:
            said = asked.bind(*given, **named)
            scores = said.arguments["target_scores"]
            said.arguments["target_scores"] = scores * self.use_box[..., None].to(scores.dtype)
            return box_loss(*said.args, **said.kwargs)

        loss.assigner, loss.bce, loss.bbox_loss = self, weighted_bce, weighted_box_loss

    @torch.no_grad()
    def forward(
        self,
        pd_scores: Float[Tensor, "b a c"],
        pd_bboxes: Float[Tensor, "b a 4"],
        anc_points: Float[Tensor, "a 2"],
        gt_labels: Tensor,
        gt_bboxes: Tensor,
        *more: Any,
        **extra: Any,
    ) -> tuple[Tensor, ...]:
        """What theirs gives; a cell of a box without weight is then neither assigned nor background."""
        labels, boxes, scores, assigned, index = self.inner(
            pd_scores, pd_bboxes, anc_points, gt_labels, gt_bboxes, *more, **extra
        )
        b, most = gt_bboxes.shape[:2]
        self.use, self.use_box = torch.ones_like(assigned, dtype=torch.float32), assigned.float()
        if "w_cls" in self.batch and most:
            where = index.long()
            w_cls, w_box = (
                self._per_image(name, b, most).to(where.device).gather(1, where) for name in ("w_cls", "w_box")
            )
            self.use = torch.where(assigned, w_cls, self.use)
            self.use_box = w_box * assigned
            muted = assigned & (w_cls == 0) & (w_box == 0)
            assigned, scores = assigned & ~muted, scores.masked_fill(muted[..., None], 0)
            free = ~assigned & ~muted
        else:
            free = ~assigned
        if "ignore" in self.batch:
            self.use = self.use.masked_fill(free & self._hidden(anc_points, b), 0)
        return labels, boxes, scores, assigned, index

    def _per_image(self, name: str, b: int, most: int) -> Float[Tensor, "b most"]:
        """A column of the batch, per image in the order in which its boxes stand there; 1 where there is no box."""
        image = self.batch["batch_idx"].long().view(-1)
        values = self.batch[name].to(torch.float32)
        first = torch.bincount(image, minlength=b).cumsum(0) - torch.bincount(image, minlength=b)
        table: Tensor = values.new_ones((b, most))
        table[image, torch.arange(len(image), device=image.device) - first[image]] = values
        return table

    def _hidden(self, points: Float[Tensor, "a 2"], b: int) -> Bool[Tensor, "b a"]:
        """Which cells have their centre in a rectangle of `ignore`."""
        height, width = self.batch["img"].shape[-2:]
        rects = self.batch["ignore"].to(points.device).float() * points.new_tensor([width, height] * 2)
        image: Int64[Tensor, " r"] = self.batch["ignore_idx"].to(points.device).long().view(-1)
        return torch.stack([inside(points, rects[image == i]) for i in range(b)])


def inside(points: Float[Tensor, "a 2"], rects: Float[Tensor, "r 4"]) -> Bool[Tensor, " a"]:
    """Which points lie in one of the rectangles.

    >>> inside(torch.tensor([[1.0, 1.0], [5.0, 1.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]])).tolist()
    [True, False]
    """
    x, y = points[:, :1], points[:, 1:]
    x1, y1, x2, y2 = rects.T
    covered: Tensor = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    return covered.any(1)
