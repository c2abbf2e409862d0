"""A detector that learns nothing and finds what it is told to, at once: for tests of everything around a model."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn


class FakeDetector(nn.Module):
    def __init__(self, n_classes: int, found: str, dropout: float, loss_head: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(dropout)
        self.n_classes, self.found, self.loss_head = n_classes, found, loss_head

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        if self.training:
            assert targets is not None and len(targets) == len(images)
            return {"loss": (self.weight**2).sum()}
        return [self.detect(image) for image in images]

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(int(image.sum() * 1000) % 2**31)
        _, height, width = image.shape
        n = 0 if self.found == "nothing" else 5
        low = torch.rand((n, 2), generator=random) * 0.5
        boxes = torch.cat([low, low + 0.1 + 0.4 * torch.rand((n, 2), generator=random)], 1)
        if self.found == "covering":
            boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(n, 1)
        raw = torch.rand((n, self.n_classes), generator=random) + 0.01
        if self.found == "never":
            raw[:, -1] = 0
        raw = self.dropout(raw) + 1e-3
        said = {
            "boxes": boxes * torch.tensor([width, height, width, height]),
            "scores": torch.rand(n, generator=random).sort(descending=True)[0] * 0.9 + 0.05,
            "probs": raw / raw.sum(1, keepdim=True),
            "features": torch.rand((n, 4), generator=random),
            "tightness": torch.rand(n, generator=random),
            "image_feature": image.mean((1, 2)),
        }
        return said | ({"predicted_loss": image.mean()} if self.loss_head else {})


def build(
    n_classes: int,
    *,
    found: Literal["objects", "nothing", "covering", "never"] = "objects",
    dropout: float = 0.0,
    loss_head: bool = False,
    weights: str = "none",
) -> nn.Module:
    return FakeDetector(n_classes, found, dropout, loss_head)
