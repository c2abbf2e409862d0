"""How much every image looks like a labelled one, as a probability in 0..1: variational adversarial active learning.

A variational auto-encoder maps all images to a latent space and tries to make labelled and unlabelled ones look alike
there; a discriminator tries to tell them apart. Where it still finds an image unlike the labelled ones, that image is
worth labelling: the score is 1 - probability.

Source: Sinha, Ebrahimi and Darrell, "Variational adversarial active learning", ICCV 2019 (Eq. 1-5); baseline of 003
section 4 and of 001 chapters 3 to 5.
Differs from the paper: the auto-encoder works on pooled backbone features (standardised column by column), not on
pixels, with layers of `width` units instead of convolutions: seconds on one CPU core instead of hours on a GPU, and it
sees what the detector sees. The discriminator reads sampled latents, not their means, so that it learns single images
by heart more slowly; one step for each of the two networks in turn (the published code makes two for the first). The
terms of the auto-encoder's loss are sums over the columns (Eq. 1), all divided by the number of columns.
Fails when: there are only a few labelled images, or the labelled ones are a fair sample of the pool: all probabilities
are then close to each other and their order says little.

Nothing to tell apart (no image or every image labelled, or all features alike): every probability is the share of
labelled images. Here one of two is:

>>> labelled_probability(np.ones((2, 3), np.float32), np.array([True, False]), seed=0).tolist()
[0.5, 0.5]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from labelwise.types import LabelwiseError


class _Encoder(nn.Module):
    """Features to mean and log variance of their latent, and back."""

    def __init__(self, columns: int, width: int, latent: int) -> None:
        super().__init__()
        self.inward = nn.Sequential(nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, 2 * latent))
        self.outward = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, columns))

    def forward(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b l"], Float[Tensor, "b l"]]:
        mean, log_variance = self.inward(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 8)


def labelled_probability(
    features: Float[np.ndarray, "n D"],
    labelled: Bool[np.ndarray, " n"],
    *,
    seed: int | Sequence[int],
    epochs: int = 100,
    max_steps: int = 10_000,
    batch_size: int = 64,
    latent: int = 32,
    width: int = 128,
    beta: float = 1.0,
    adversary: float = 1.0,
    lr: float = 1e-3,
) -> Float32[np.ndarray, " n"]:
    """The discriminator's belief, per image, that the image is labelled.

    Args:
        features: one row per image, of any scale.
        labelled: which images are labelled.
        seed: the same seed (or sequence, as (seed, round)) gives the same numbers.
        epochs: passes over the pool; a step sees as many labelled images as unlabelled ones.
        max_steps: an upper limit on the steps, for large pools.
        batch_size: images of either kind in a step.
        latent: dimensions of the latent space.
        width: units of every hidden layer.
        beta: weight of the Kullback-Leibler term.
        adversary: weight of fooling the discriminator in the auto-encoder's loss.
        lr: learning rate of both networks (Adam).

    Raises:
        LabelwiseError: shapes that do not belong together, or a feature that is not finite.
    """
    _check(features, labelled)
    x = _standardised(features)
    if labelled.all() or not labelled.any() or x.shape[1] == 0:
        return np.full(len(x), labelled.mean() if len(labelled) else 0.0, np.float32)
    rng = np.random.default_rng(seed)
    steps = max(1, min(max_steps, epochs * -(-len(x) // (2 * batch_size))))
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**62)))
        encoder = _Encoder(x.shape[1], width, latent)
        judge = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, 1))
        table = torch.from_numpy(x)
        kinds = [torch.from_numpy(np.flatnonzero(mask)) for mask in (labelled, ~labelled)]
        optimisers = [torch.optim.Adam(net.parameters(), lr, fused=True) for net in (encoder, judge)]
        for _ in range(steps):
            batch = table[torch.cat([kind[torch.randint(len(kind), (batch_size,))] for kind in kinds])]
            _step(encoder, judge, optimisers, batch, beta, adversary)
        with torch.no_grad():
            probability: np.ndarray = judge(encoder(table)[0])[:, 0].sigmoid().numpy()
    return probability


def _step(
    encoder: _Encoder,
    judge: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
    batch: Float[Tensor, "b d"],
    beta: float,
    adversary: float,
) -> None:
    """One step of the auto-encoder (Eq. 1 and 2), then one of the discriminator (Eq. 3); first half is labelled."""
    mean, log_variance = encoder(batch)
    z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
    truth = torch.zeros(len(batch))
    truth[: len(batch) // 2] = 1
    rebuilt = functional.mse_loss(encoder.outward(z), batch)
    spread = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean() / batch.shape[1]
    fooled = functional.binary_cross_entropy_with_logits(judge(z)[:, 0], torch.ones_like(truth))
    optimisers[0].zero_grad()
    torch.autograd.backward(rebuilt + beta * spread + adversary * fooled / batch.shape[1])
    optimisers[0].step()
    loss = functional.binary_cross_entropy_with_logits(judge(z.detach())[:, 0], truth)
    optimisers[1].zero_grad()
    torch.autograd.backward(loss)
    optimisers[1].step()


def _check(features: np.ndarray, labelled: np.ndarray) -> None:
    if features.ndim != 2 or labelled.shape != (len(features),) or labelled.dtype != np.bool_:
        raise LabelwiseError(
            f"vaal: features of shape {features.shape} and labelled of shape {labelled.shape} and type "
            f"{labelled.dtype}; expected features [n, D] and one true or false per image"
        )
    bad: np.ndarray = np.logical_not(np.isfinite(features).all(axis=1))
    if bad.any():
        raise LabelwiseError(
            f"vaal: the features of image {int(bad.argmax())} are not finite; expected numbers. The model has diverged "
            "or its weights are broken"
        )


def _standardised(features: np.ndarray) -> Float32[np.ndarray, "n k"]:
    """Columns of mean 0 and deviation 1; columns that are constant but for rounding are left out."""
    if len(features) == 0:
        return np.zeros((0, 0), np.float32)
    x = features.astype(np.float64)
    x /= np.maximum(np.abs(x).max(axis=0), np.finfo(np.float64).tiny)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    varies = deviation > 1e-6
    scaled: np.ndarray = ((x[:, varies] - mean[varies]) / deviation[varies]).astype(np.float32)
    return scaled
