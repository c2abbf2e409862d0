"""Quality head: one more convolution on the localisation tower says per anchor how well the box fits its object.

It predicts the IoU of the decoded box with the box that the anchor learns from: binary cross entropy against that IoU,
over the positives, weighted and divided as the localisation loss. No gradient flows through the IoU.

Source: Wu, Li and Wang, IoU-aware single-stage object detector for accurate localization, Image and Vision Computing,
2020: the head on the localisation tower, its loss, the confidence of both.
Differs from the paper: p is the exponent of the quality in score^(1 - p) · quality^p (there that of the score), and 0
by default: confidence and ranking stay those of the class.
Fails when: few positives are known: it then learns the mean IoU. What it says of boxes on background means nothing, as
it is taught by positives alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from labelwise.models._anchors import flatten_levels, last, tightness
from labelwise.types import LabelwiseError


class QualityHead(nn.Module):
    """Feature maps of the localisation tower to one logit per anchor; `power` is p."""

    def __init__(self, channels: int, per_location: int, power: float) -> None:
        super().__init__()
        self.power = power
        self.conv = nn.Conv2d(channels, per_location, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, towers: Sequence[Float[Tensor, "b c _ _"]]) -> Float[Tensor, "b a"]:
        return flatten_levels([last(self.conv, tower) for tower in towers], 1)[..., 0]

    def confidence(self, scores: Float[Tensor, " n"], logits: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The confidence of candidates, score^(1 - p) · quality^p; for p = 0 the score itself."""
        return scores if self.power == 0 else scores ** (1 - self.power) * logits.sigmoid() ** self.power


def quality_head(wanted: bool, power: float, channels: int, per_location: int) -> QualityHead | None:
    """The head; None where none is wanted.

    Raises:
        LabelwiseError: a power outside of 0..1, or one without the head.
    """
    if not 0 <= power <= 1:
        raise LabelwiseError(f"quality_power = {power}: expected a number from 0 to 1")
    if power and not wanted:
        raise LabelwiseError(f"quality_power = {power} needs the quality head; set model.quality = true")
    return QualityHead(channels, per_location, power) if wanted else None


def cost(
    logits: Float[Tensor, " p"], boxes: Float[Tensor, "p 4"], truth: Float[Tensor, "p 4"], weight: Float[Tensor, " p"]
) -> Float[Tensor, " p"]:
    """The weighted cross entropy of every positive against the IoU of its decoded box with its true one.

    A logit of 0 costs ln 2 whatever the IoU; a box of weight 0 costs nothing:

    >>> import torch
    >>> box = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]])
    >>> costs = cost(torch.zeros(2), box, torch.tensor([[2.0, 0, 6, 4], [0, 0, 4, 4]]), torch.tensor([1.0, 0]))
    >>> [round(one, 4) for one in costs.tolist()]
    [0.6931, 0.0]
    """
    target = tightness(boxes.detach(), truth).to(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
