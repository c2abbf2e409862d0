"""One linear layer on frozen features, trained by SGD: the steps of `train.fit`, in NumPy.

It draws the order of the images and their views as `fit` does, and takes the same steps (momentum 0.9, decay of the
matrix alone, the same schedule and clipping), so that it ends at the same weights but for rounding, some 30 times
sooner: a step is two small products.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import nn

from labelwise.config.sections import Train
from labelwise.train.feature_set import FeatureSet
from labelwise.train.fit import AfterEpoch, tenths
from labelwise.train.resume import Checkpoint
from labelwise.train.schedule import learning_rate_factor, plan_of
from labelwise.types import LabelwiseError

MOMENTUM = 0.9


class Head(Protocol):
    """A model that is one linear layer, with dropout before it."""

    head: nn.Linear
    dropout: nn.Dropout


def possible(model: Head, rule: Train) -> bool:
    """Whether these settings are those that `fit` knows here; all others need `train.fit`."""
    plain = rule.optimiser == "sgd" and rule.precision == "32-true" and rule.devices == 1
    return plain and model.dropout.p == 0


def fit(
    model: nn.Module,
    data: FeatureSet,
    rule: Train,
    *,
    seed: int,
    round_number: int,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int], None] | None = None,
    after_epoch: AfterEpoch | None = None,
) -> dict[str, float]:
    """Trains `model` in place, as `train.fit.fit` does; it keeps no checkpoint.

    Raises:
        LabelwiseError: nothing to train on, or a loss that is not finite.
    """
    if len(data) == 0:
        raise LabelwiseError(f"round {round_number}: no image to train on; label some first (budget.start_images)")
    layer: nn.Linear = model.get_submodule("head")  # type: ignore[assignment]
    parameters = [p.detach().cpu().numpy().astype(np.float32) for p in (layer.weight, layer.bias)]
    speed = [np.zeros_like(p) for p in parameters]
    views, labels, weights = data.views.cpu().numpy(), data.labels.cpu().numpy(), data.weights.cpu().numpy()
    plan, losses, began = plan_of(len(data), rule), list[float](), time.monotonic()
    for epoch in range(plan.epochs):
        rng = np.random.default_rng((seed, round_number, epoch))
        rng.integers(2**62)  # torch's, in `fit`
        order = rng.permutation(len(data))
        for number in range(plan.batches(epoch)):
            rows = order[number * rule.batch_size : (number + 1) * rule.batch_size]
            x = views[rows, data.draw_views(len(rows), rng)]
            loss, slopes = _slopes(x, labels[rows], weights[rows], parameters)
            if not np.isfinite(loss):
                raise LabelwiseError(
                    f"round {round_number}, epoch {epoch}: the loss is not finite for the images with pool numbers "
                    f"{data.names(rows)}. Lower train.lr"
                )
            factor = rule.lr * learning_rate_factor(len(losses), plan, rule)
            _step(parameters, speed, slopes, factor, rule)
            losses.append(loss)
        if progress is not None:
            progress(plan.batches(epoch))
        if after_epoch is not None or epoch == plan.epochs - 1:
            _give(layer, parameters)
        if after_epoch is not None:
            after_epoch(model, epoch)
    first, last = tenths(losses)
    seconds = max(time.monotonic() - began, 1e-9)
    return {
        "steps": plan.steps,
        "epochs": plan.epochs,
        "images_per_s": plan.epochs * len(data) / seconds,
        "loss": float(np.mean(losses[(plan.epochs - 1) * plan.per_epoch - plan.steps :])),
        "loss_first": first,
        "loss_last": last,
    }


def _slopes(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray, parameters: list[np.ndarray]
) -> tuple[float, list[np.ndarray]]:
    """The weighted mean of the cross entropy, and its slopes."""
    logits = x @ parameters[0].T + parameters[1]
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits)
    total = chances.sum(axis=1, keepdims=True)
    rows = np.arange(len(x))
    share = weights / max(float(weights.sum()), 1e-6)
    loss = float((share * (np.log(total[:, 0]) - logits[rows, labels])).sum())
    chances /= total
    chances[rows, labels] -= 1
    chances *= share[:, None]
    return loss, [chances.T @ x, chances.sum(axis=0)]


def _step(
    parameters: list[np.ndarray], speed: list[np.ndarray], slopes: list[np.ndarray], rate: float, rule: Train
) -> None:
    if rule.clip_norm is not None:
        norm = float(np.sqrt(sum(float(np.square(s).sum()) for s in slopes)))
        if norm > rule.clip_norm:
            slopes = [s * np.float32(rule.clip_norm / (norm + 1e-6)) for s in slopes]
    for parameter, moved, slope in zip(parameters, speed, slopes, strict=True):
        if parameter.ndim > 1 and rule.weight_decay:
            slope = slope + np.float32(rule.weight_decay) * parameter
        moved *= np.float32(MOMENTUM)
        moved += slope
        parameter -= np.float32(rate) * moved


def _give(layer: nn.Linear, parameters: list[np.ndarray]) -> None:
    with torch.no_grad():
        for own, value in zip((layer.weight, layer.bias), parameters, strict=True):
            own.copy_(torch.from_numpy(value))
