"""Learning loss: a small module beside the detector that predicts how large the detection loss of an image would be.

Every level of the pyramid is averaged over the image, then FC and ReLU; all levels together give one number >= 0.
It learns the order of the images of a batch, not the size of their losses: the batch is split into pairs.

Source: Yoo and Kweon, "Learning loss for active learning", CVPR 2019, section 3 (Eq. 2, margin 1, lambda 1).
Differs from the paper: the levels of the pyramid instead of the backbone's stages; the number passes a softplus, so
that it is >= 0; the average leaves padding out; two equal losses rank nothing (the paper calls the second the larger);
the gradient flows into the trunk during the whole training (the paper cuts it for the last 40 % of the epochs, which a
model does not know of). Keep `loss_head_weight` small if the detector suffers.
Fails when: a batch holds one image (it has no pair: the term is 0), or the loss of an image is mostly its label noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from labelwise.models._anchors import full
from labelwise.models._pooling import image_mean
from labelwise.types import LabelwiseError


class LossHead(nn.Module):
    """`n_levels` feature maps of `channels` channels to one predicted loss per image; `weight` is lambda."""

    def __init__(self, channels: int, n_levels: int, weight: float, width: int = 128) -> None:
        super().__init__()
        if not weight >= 0:
            raise LabelwiseError(f"loss_head_weight = {weight}: expected a number >= 0")
        self.weight = weight
        self.levels = nn.ModuleList([nn.Linear(channels, width) for _ in range(n_levels)])
        self.last = nn.Linear(n_levels * width, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "b c _ _"]], sizes: Float[Tensor, "b 2"], padded: tuple[int, int]
    ) -> Float[Tensor, " b"]:
        hidden = [
            functional.relu(layer(image_mean(full(m), sizes, padded)))
            for layer, m in zip(self.levels, maps, strict=True)
        ]
        return functional.softplus(self.last(torch.cat(hidden, 1))[:, 0])

    def loss(self, predicted: Float[Tensor, " b"], own: Float[Tensor, " b"]) -> Float[Tensor, ""]:
        """The weighted ranking loss against every image's own detection loss."""
        return self.weight * ranking_loss(predicted, own)


def ranking_loss(predicted: Float[Tensor, " b"], own: Float[Tensor, " b"], margin: float = 1.0) -> Float[Tensor, ""]:
    """Mean over the pairs (0, 1), (2, 3), ... of how far the larger loss fails to be predicted larger by `margin`.

    An odd last image is left out; no pair at all gives 0. Two pairs, one in order by 0.5 and one in reverse by 2, give
    ((1 - 0.5) + (1 + 2)) / 2:

    >>> ranking_loss(torch.tensor([1.5, 1.0, 0.0, 2.0]), torch.tensor([9.0, 3.0, 5.0, 4.0])).item()
    1.75
    """
    pairs = len(predicted) // 2
    if pairs == 0:
        return predicted.sum() * 0
    ahead = predicted[: 2 * pairs].view(pairs, 2)
    losses = own.detach()[: 2 * pairs].view(pairs, 2)
    sign = (losses[:, 0] - losses[:, 1]).sign().to(predicted.dtype)
    return (functional.relu(margin - sign * (ahead[:, 0] - ahead[:, 1])) * sign.abs()).mean()
