"""The training loop: Lightning Fabric carries device, precision and processes; everything else stands here.

Epoch `e` of a round draws its order, its augmentation and its torch randomness from (seed, round, e) alone, so that a
run which was killed continues from its last checkpoint to the same weights, bit for bit on one CPU machine.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from labelwise.config.sections import Train
from labelwise.types import LabelwiseError


class Data(Protocol):
    """What is trained on: `train.batches.TrainingSet` (detectors), `train.images.ImageSet` (classifiers)."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, rng: np.random.Generator, /) -> tuple[Any, Any]: ...

    def names(self, indices: np.ndarray, /) -> str: ...


AfterEpoch = Callable[[nn.Module, int], None]
"""Is given the model and the number of the epoch that has ended."""


class Checkpoint(Protocol):
    """Where an unfinished training is kept; `load` gives None when there is none."""

    def load(self) -> tuple[Mapping[str, np.ndarray], Mapping[str, str]] | None: ...

    def save(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None: ...


def epochs_of(n_images: int, rule: Train) -> int:
    """Epochs that a round trains: `rule.epochs`, stretched to `min_steps` and cut at `max_steps`."""
    per_epoch = max(1, math.ceil(n_images / rule.batch_size))
    epochs = max(rule.epochs, math.ceil(rule.min_steps / per_epoch))
    return epochs if rule.max_steps is None else max(1, min(epochs, round(rule.max_steps / per_epoch)))


def learning_rate_factor(step: int, steps: int, steps_per_epoch: int, rule: Train) -> float:
    """What the learning rate is multiplied by at `step` of `steps`: linear warm-up, then the schedule."""
    warm_up = min(max(1, steps // 10), 200)
    warm = min(1.0, (step + 1) / warm_up)
    if rule.schedule == "one_cycle":
        rest = max(0, step - warm_up) / max(1, steps - warm_up)
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))
    if rule.schedule == "step":
        stretch = steps / (steps_per_epoch * rule.epochs)  # the marks move with the epochs that were stretched or cut
        passed = sum(step >= mark * stretch * steps_per_epoch for mark in rule.step_epochs)
        return warm * rule.step_factor**passed
    return warm


def fit(
    model: nn.Module,
    data: Data,
    rule: Train,
    *,
    seed: int,
    round_number: int,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int], None] | None = None,
    after_epoch: AfterEpoch | None = None,
) -> dict[str, float]:
    """Trains `model` in place; returns steps, images per second and the last epoch's mean loss.

    `after_epoch` is called before a checkpoint of that epoch is kept; after a kill it is called again for the epochs
    since the last checkpoint.

    Raises:
        LabelwiseError: nothing to train on, or a loss that is not finite (names the images of its batch).
    """
    if len(data) == 0:
        raise LabelwiseError(f"round {round_number}: no image to train on; label some first (budget.start_images)")
    if rule.devices == 1:
        fabric = Fabric(accelerator=rule.accelerator, devices=1, precision=rule.precision)
        return _train(fabric, model, data, rule, seed, round_number, checkpoint, progress, after_epoch)
    on_gpu = rule.accelerator in ("cuda", "gpu", "auto") and torch.cuda.is_available()
    forks = sys.platform == "linux" and not on_gpu  # macOS's own libraries do not bear it, Windows has none
    start: Literal["spawn", "fork"] = "fork" if forks else "spawn"
    strategy = DDPStrategy(start_method=start, find_unused_parameters=True)
    fabric = Fabric(accelerator=rule.accelerator, devices=rule.devices, precision=rule.precision, strategy=strategy)
    model.share_memory()  # where the first process leaves the weights
    result: dict[str, float] = fabric.launch(
        _train_copy,  # type: ignore[arg-type]
        *(model, data, rule, seed, round_number, checkpoint, after_epoch),
    )
    return result


def _train_copy(
    fabric: Fabric,
    shared: nn.Module,
    data: Data,
    rule: Train,
    seed: int,
    round_number: int,
    checkpoint: Checkpoint | None,
    after_epoch: AfterEpoch | None,
) -> dict[str, float]:
    """One of several processes: trains a copy of its own; the first one puts the weights into the shared model."""
    own = copy.deepcopy(shared)
    result = _train(fabric, own, data, rule, seed, round_number, checkpoint, None, after_epoch)
    if fabric.is_global_zero:
        weights = own.state_dict()
        with torch.no_grad():
            for name, value in shared.state_dict().items():
                value.copy_(weights[name])
    return result


def _train(
    fabric: Fabric,
    model: nn.Module,
    data: Data,
    rule: Train,
    seed: int,
    round_number: int,
    checkpoint: Checkpoint | None,
    progress: Callable[[int], None] | None,
    after_epoch: AfterEpoch | None,
) -> dict[str, float]:
    with _reproducible(fabric.device, rule.threads):
        trained, optimiser = fabric.setup(model, _optimiser(model, rule))
        per_epoch = math.ceil(len(data) / rule.batch_size)
        epochs = epochs_of(len(data), rule)
        first = _resume(model, optimiser, checkpoint, seed, round_number, epochs)
        if progress is not None:
            progress(first * per_epoch)
        trained.train()
        started = saved = time.monotonic()
        loss = 0.0
        for epoch in range(first, epochs):
            loss = _epoch(fabric, trained, optimiser, data, rule, (seed, round_number, epoch), epochs, progress)
            if after_epoch is not None and fabric.is_global_zero:
                after_epoch(model, epoch)
            due = time.monotonic() - saved >= rule.checkpoint_every_s
            if checkpoint is not None and due and epoch + 1 < epochs and fabric.is_global_zero:
                tensors, metadata = _state(model, optimiser, seed, round_number, epoch + 1, epochs)
                checkpoint.save(tensors, metadata)
                saved = time.monotonic()
        seconds = max(time.monotonic() - started, 1e-9)
        fabric.barrier()
        images = (epochs - first) * len(data)
    return {"steps": epochs * per_epoch, "epochs": epochs, "images_per_s": images / seconds, "loss": loss}


def _epoch(
    fabric: Fabric,
    model: Any,
    optimiser: Any,
    data: Data,
    rule: Train,
    state: tuple[int, int, int],
    epochs: int,
    progress: Callable[[int], None] | None,
) -> float:
    rng = np.random.default_rng(state)
    torch.manual_seed(int(rng.integers(2**62)))
    order = rng.permutation(len(data))
    starts = range(0, len(data), rule.batch_size)
    steps = epochs * len(starts)
    losses = []
    for number, start in enumerate(starts):
        chosen = order[start : start + rule.batch_size]
        own = chosen[fabric.global_rank :: fabric.world_size] if len(chosen) >= fabric.world_size else chosen
        images, targets = data.batch(own, rng)
        factor = learning_rate_factor(state[2] * len(starts) + number, steps, len(starts), rule)
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
        parts = model(fabric.to_device(images), fabric.to_device(targets))
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        if not torch.isfinite(loss):
            raise LabelwiseError(
                f"round {state[1]}, epoch {state[2]}: the loss is not finite "
                f"({', '.join(f'{k}={v.item():.3g}' for k, v in parts.items())}) for the images with pool numbers "
                f"{data.names(own)}. Lower train.lr, set train.clip_norm, or look at their boxes with `labelwise check`"
            )
        optimiser.zero_grad()
        fabric.backward(loss)
        if rule.clip_norm is not None:
            fabric.clip_gradients(model, optimiser, max_norm=rule.clip_norm, error_if_nonfinite=False)
        optimiser.step()
        losses.append(float(loss.detach()))
        if progress is not None:
            progress(1)
    return float(np.mean(losses))


def _optimiser(model: nn.Module, rule: Train) -> torch.optim.Optimizer:
    """AdamW or SGD; biases and norms are not decayed, the backbone's rate is scaled by `backbone_lr_factor`."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone.body"), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    options = []
    for (backbone, decayed), parameters in groups.items():
        peak = rule.lr * (rule.backbone_lr_factor if backbone else 1.0)
        decay = rule.weight_decay if decayed else 0.0
        options.append({"params": parameters, "lr": peak, "peak_lr": peak, "weight_decay": decay})
    if rule.optimiser == "adamw":
        return torch.optim.AdamW(options, lr=rule.lr)
    return torch.optim.SGD(options, lr=rule.lr, momentum=0.9)


@contextmanager
def _reproducible(device: torch.device, threads: int | None) -> Iterator[None]:
    """Own torch randomness, deterministic kernels on the CPU, and the number of threads; all put back afterwards."""
    before, threads_before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            torch.use_deterministic_algorithms(device.type == "cpu")
            torch.set_num_threads(threads or threads_before)
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.set_num_threads(threads_before)


def _state(
    model: nn.Module, optimiser: Any, seed: int, round_number: int, epoch: int, epochs: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    tensors = {f"model.{name}": value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    for number, slots in optimiser.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{number}.{name}"] = value.detach().cpu().numpy()
    return tensors, {"seed": str(seed), "round": str(round_number), "epoch": str(epoch), "epochs": str(epochs)}


def _resume(
    model: nn.Module, optimiser: Any, checkpoint: Checkpoint | None, seed: int, round_number: int, epochs: int
) -> int:
    """Loads an unfinished training of the same round; returns its next epoch (0 when there is none)."""
    found = None if checkpoint is None else checkpoint.load()
    if found is None:
        return 0
    tensors, metadata = found
    if [metadata.get(k) for k in ("seed", "round", "epochs")] != [str(seed), str(round_number), str(epochs)]:
        return 0
    weights = {
        k.removeprefix("model."): torch.from_numpy(v.copy()) for k, v in tensors.items() if k.startswith("model.")
    }
    model.load_state_dict(weights)
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, number, name = key.split(".", 2)
            slots.setdefault(int(number), {})[name] = torch.from_numpy(value.copy())
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(metadata["epoch"])
