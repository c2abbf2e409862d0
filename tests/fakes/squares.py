"""A detector that finds red and blue squares by their colour, misses some and sees some that are not there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Trunk(nn.Module):
    def maps(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        small = functional.avg_pool2d(x, 4)
        return {"0": small}, small


class Squares(nn.Module):
    weights_input = "raw01"

    def __init__(self, n_classes: int, errors: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.n_classes, self.errors, self.backbone = n_classes, errors, Trunk()

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        if self.training:
            return {"loss": (self.weight**2).sum()}
        return [self.detect(image) for image in images]

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        chance = torch.Generator().manual_seed(int(image.double().sum() * 1000) % 2**31)
        boxes, labels = [], []
        for label, (strong, weak) in enumerate(((0, 2), (2, 0))):
            there = torch.nonzero((image[strong] > 0.8) & (image[weak] < 0.15))
            if len(there) and torch.rand(1, generator=chance) >= self.errors:
                (y1, x1), (y2, x2) = there.amin(0).tolist(), there.amax(0).tolist()
                boxes.append([x1, y1, x2 + 1, y2 + 1])
                labels.append(label)
        if torch.rand(1, generator=chance) < self.errors:
            x, y = (torch.rand(2, generator=chance) * 70).tolist()
            boxes.append([x, y, x + 15, y + 15])
            labels.append(0)
        probs = functional.one_hot(torch.tensor(labels, dtype=torch.int64), self.n_classes).float() * 0.8
        probs += 0.2 / self.n_classes
        scores = torch.rand(len(boxes), generator=chance) * 0.5 + 0.4
        return {
            "boxes": torch.tensor(boxes).float().reshape(-1, 4),
            "scores": scores,
            "probs": probs,
            "features": torch.zeros(len(boxes), 2),
        }


def build(n_classes: int, *, errors: float = 0.3, weights: str = "none") -> nn.Module:
    return Squares(n_classes, errors)
