"""By what the weighted costs of a batch's anchors are divided, so that they become the loss.

`normalise`:
* "torchvision": as torchvision. RetinaNet: of every image by its positives, then the mean over the images. Faster
  R-CNN: by the size of the sample.
* "paper": 000, Eq. 7. Positives by the positives of the batch, negatives by the negatives of the batch.
* "batch": as mmdetection, 000's framework. RetinaNet: both terms by the positives of the batch, so that an image with
  one lonely positive does not outweigh a whole image. Faster R-CNN, whose sample holds few negatives: classification by
  the sampled of the batch whose weight is above 0, localisation by all sampled.

A positive counts if its weight is above 0; every divisor is at least 1. With several devices, a batch is a device's.

`pseudo`: "together": a pseudo box is one more box. "apart": positives of annotated boxes and positives of pseudo boxes
are an average each, L = L_labeled + L_noisy of 002, Eq. 3 (λ_d is the weight that the policy `noisy` gives with
`weight = "flat"`): over the anchors of an image where `normalise` goes by image, else over those of the batch. Eq. 3
says nothing of negatives: they are divided as `normalise` says, by all positives or by the sample.

`negatives`: "hard": a negative weighs 1. "background": a negative that is in doubt weighs the probability of background
there (see `_weighted.negative_weights`), and where a sum over negatives is divided by a number of anchors, it is
divided by the sum of their weights.

Source: 000 section 3.2, Eq. 7; 002 section 3.2, Eq. 3; mmdetection, `AnchorHead.loss`, `BBoxHead.loss`; Xu et al.,
End-to-End Semi-Supervised Object Detection with Soft Teacher, ICCV 2021, section 3.2.
Differs from the paper: in Soft Teacher the teacher looks at every proposal, here its stored boxes tell; there the
region head alone is weighted, here the proposals' objectness as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Normalise = Literal["torchvision", "paper", "batch"]
Pseudo = Literal["together", "apart"]
Negatives = Literal["hard", "background"]


@dataclass(frozen=True, slots=True)
class Division:
    """The three settings together."""

    normalise: Normalise = "torchvision"
    pseudo: Pseudo = "together"
    negatives: Negatives = "hard"


def per_image_mean(
    cost: Float[Tensor, "b a"], weight: Float[Tensor, "b a"], positive: Bool[Tensor, "b a"]
) -> Float[Tensor, ""]:
    """Torchvision's rule for RetinaNet: per image the weighted sum over the number of positives; mean over images."""
    return ((cost * weight).sum(1) / count(positive & (weight > 0), 1)).mean()


def mean_of_each(
    cost: Float[Tensor, "*a"], weight: Float[Tensor, "*a"], positive: Bool[Tensor, "*a"], *, by_weight: bool = False
) -> Float[Tensor, ""]:
    """Eq. 7: positives over |P| plus negatives over |N|, counted over the batch; or |N| is the sum of their weights.

    Two positives (one of half weight) and two negatives, (1 + 0.5) / 2 + (1 + 3) / 2:

    >>> positive = torch.tensor([True, True, False, False])
    >>> mean_of_each(torch.tensor([1.0, 1, 1, 3]), torch.tensor([1, 0.5, 1, 1]), positive).item()
    2.75
    """
    used, weighted = weight > 0, cost * weight
    p = (weighted * positive).sum() / count(used & positive)
    return p + (weighted * ~positive).sum() / amount(weight, used & ~positive, by_weight)


def over_positives(
    cost: Float[Tensor, "*a"], weight: Float[Tensor, "*a"], positive: Bool[Tensor, "*a"]
) -> Float[Tensor, ""]:
    """Mmdetection's rule for RetinaNet: the weighted sum over the number of the batch's positives.

    Two images; a lonely positive of cost 3 beside a whole image, (3 + 1 + 1 + 1) / 3:

    >>> cost, positive = torch.tensor([[3.0, 1], [1, 1]]), torch.tensor([[True, False], [True, True]])
    >>> over_positives(cost, torch.ones(2, 2), positive).item()
    2.0
    """
    return (cost * weight).sum() / count(positive & (weight > 0))


def average_of_each(
    cost: Float[Tensor, "*a"],
    weight: Float[Tensor, "*a"],
    positive: Bool[Tensor, "*a"],
    pseudo: Bool[Tensor, "*a"],
    rest: Float[Tensor, "*b"],
    dim: int | None = None,
) -> Float[Tensor, "*b"]:
    """Eq. 3 of 002: the averages over labelled and over pseudo positives; negatives over `rest`. Per row with `dim`.

    Two labelled positives, three pseudo ones of weight 0.5, no negative: (1 + 3) / 2 + 0.5 · (2 + 2 + 5) / 3:

    >>> positive, pseudo = torch.ones(5, dtype=torch.bool), torch.tensor([False, False, True, True, True])
    >>> weight = torch.tensor([1, 1, 0.5, 0.5, 0.5])
    >>> average_of_each(torch.tensor([1.0, 3, 2, 2, 5]), weight, positive, pseudo, torch.ones(())).item()
    3.5
    """
    used, weighted = weight > 0, cost * weight
    groups = (positive & ~pseudo, positive & pseudo)
    averages = torch.stack([(weighted * group).sum(dim) / count(used & group, dim) for group in groups])
    return averages.sum(0) + (weighted * ~positive).sum(dim) / rest


def count(mask: Bool[Tensor, "*a"], dim: int | None = None) -> Float[Tensor, "*b"]:
    """How many are true, at least 1, as a divisor."""
    return mask.sum(dim).clamp(min=1).float()


def amount(weight: Float[Tensor, "*a"], mask: Bool[Tensor, "*a"], by_weight: bool) -> Float[Tensor, ""]:
    """How many are true, or the sum of their weights; at least 1, as a divisor."""
    return (weight * mask).sum().clamp(min=1) if by_weight else count(mask)
