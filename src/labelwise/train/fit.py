"""The training loop: Lightning Fabric carries device, precision and processes; everything else stands here.

Epoch `e` of a round draws its order, its augmentation and its torch randomness from (seed, round, e) alone; a
checkpoint inside of an epoch keeps the state of its generators. So a run which was killed continues from its last
checkpoint to the same weights, bit for bit on one CPU machine.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException

from labelwise.config.sections import Train
from labelwise.train.body import BODIES, compiled_body
from labelwise.train.loader import Batch, Loader
from labelwise.train.loader import Data as Data
from labelwise.train.mixture import Mixture, mixture_of
from labelwise.train.resume import Checkpoint as Checkpoint
from labelwise.train.resume import Progress, resume, state_of, words
from labelwise.train.schedule import Plan, learning_rate_factor, plan_of
from labelwise.types import LabelwiseError

AfterEpoch = Callable[[nn.Module, int], None]
"""Is given the model and the number of the epoch that has ended."""


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
    """Trains `model` in place; returns steps, images per second and the mean loss of the last epoch and of the first
    and last tenth of the steps.

    `after_epoch` is called before a checkpoint of that epoch is kept; after a kill it is called again for the epochs
    since the last checkpoint.

    Raises:
        LabelwiseError: nothing to train on, or a loss that is not finite (names the images of its batch).
    """
    require_images(data, round_number)
    if rule.devices == 1:
        fabric = Fabric(accelerator=rule.accelerator, devices=1, precision=rule.precision)
        return _train(fabric, model, data, rule, seed, round_number, checkpoint, progress, after_epoch)
    on_gpu = rule.accelerator in ("cuda", "gpu", "auto") and torch.cuda.is_available()
    forks = sys.platform == "linux" and not on_gpu  # macOS's own libraries do not bear it, Windows has none
    start: Literal["spawn", "fork"] = "fork" if forks else "spawn"
    strategy = DDPStrategy(start_method=start, find_unused_parameters=True)
    fabric = Fabric(accelerator=rule.accelerator, devices=rule.devices, precision=rule.precision, strategy=strategy)
    model.share_memory()  # where the first process leaves the weights
    own = f"{LabelwiseError.__module__}.{LabelwiseError.__qualname__}: "
    try:
        result: dict[str, float] = fabric.launch(
            _train_copy,  # type: ignore[arg-type]
            *(model, data, rule, seed, round_number, checkpoint, after_epoch),
        )
    except ProcessRaisedException as error:  # all that comes through of another process is its traceback
        if own not in str(error):
            raise
        raise LabelwiseError(str(error).rpartition(own)[2].strip()) from None
    return result


def fit_among(
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
    """`fit` as one of several processes that something else has started, here or on other machines: RANK, WORLD_SIZE,
    MASTER_ADDR, MASTER_PORT and LOCAL_RANK (0: each sees its own device alone) say which, as `torchrun` does.

    All end with the weights that `fit` ends with on as many `devices`. All must be given the same checkpoint to go on
    from; the first one alone saves any, and calls `after_epoch` and `progress`.
    """
    others = TorchElasticEnvironment()
    strategy = DDPStrategy(cluster_environment=others, find_unused_parameters=True)
    count, precision = others.world_size(), rule.precision
    fabric = Fabric(accelerator=rule.accelerator, devices=1, num_nodes=count, precision=precision, strategy=strategy)
    advance = progress if others.global_rank() == 0 else None
    result: dict[str, float] = fabric.launch(
        _train,  # type: ignore[arg-type]
        *(model, data, rule, seed, round_number, checkpoint, advance, after_epoch),
    )
    return result


def require_images(data: Data, round_number: int) -> None:
    """Raises a LabelwiseError where there is nothing to train on."""
    if len(data) == 0:
        raise LabelwiseError(f"round {round_number}: no image to train on; label some first (budget.start_images)")


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
    compiles = bool(rule.compile) and fabric.device.type == "cuda"
    with _reproducible(fabric.device, rule.threads), compiled_body(model, compiles):
        trained, optimiser = fabric.setup(model, _optimiser(model, rule))
        plan = plan_of(len(data), rule)
        said = words(seed, round_number, plan, len(data))
        if data.teacher is not None:
            data.teacher.begin(model)
        so_far = resume(model, optimiser, checkpoint, said, plan, data.teacher)
        loop = _Loop(fabric, model, trained, optimiser, data, rule, (seed, round_number), plan, so_far, said)
        loop.checkpoint, loop.progress, loop.after_epoch = checkpoint, progress, after_epoch
        return loop.run()


@dataclass
class _Loop:
    """A training under way."""

    fabric: Fabric
    model: nn.Module
    trained: Any
    optimiser: Any
    data: Data
    rule: Train
    state: tuple[int, int]
    plan: Plan
    so_far: Progress
    said: Mapping[str, str]
    checkpoint: Checkpoint | None = None
    progress: Callable[[int], None] | None = None
    after_epoch: AfterEpoch | None = None
    saved_at: float = field(default_factory=time.monotonic)
    images: int = 0

    def run(self) -> dict[str, float]:
        """From the next step to the last; what `fit` returns."""
        plan, so_far = self.plan, self.so_far
        if self.progress is not None:
            self.progress(so_far.step)
        self.trained.train()
        seed, round_number = self.state
        rule = self.rule
        kind = self.data.whole if rule.object_share is None else self.data.occupied
        share = rule.whole_share if rule.object_share is None else rule.object_share
        mixture = mixture_of(kind, share=share, size=rule.batch_size, seed=seed, round_number=round_number)
        started = time.monotonic()
        with Loader(self.data, self.fabric.device) as loader:
            for epoch in range(so_far.step // plan.per_epoch, plan.epochs):
                self._epoch(epoch, mixture, loader)
                if self.after_epoch is not None and self.fabric.is_global_zero:
                    self.after_epoch(self.model, epoch)
                self._keep(None)
        seconds = max(time.monotonic() - started, 1e-9)
        self.fabric.barrier()
        first, last = tenths(so_far.losses)
        last_epoch = so_far.losses[(plan.epochs - 1) * plan.per_epoch - plan.steps :]
        return {
            "steps": plan.steps,
            "epochs": plan.epochs,
            "images_per_s": self.images / seconds,
            "waiting_share": loader.waited_s / seconds,
            "loss": float(np.mean(last_epoch)) if last_epoch else 0.0,
            "loss_first": first,
            "loss_last": last,
            **({} if self.data.teacher is None else self.data.teacher.facts()),
        }

    def _epoch(self, epoch: int, mixture: Mixture | None, loader: Loader) -> None:
        """The steps of an epoch that are still to come."""
        rng = np.random.default_rng((*self.state, epoch))
        torch.manual_seed(int(rng.integers(2**62)))
        order, size = rng.permutation(len(self.data)), self.rule.batch_size
        if self.fabric.world_size > 1:  # else all processes would draw the same changes and companions
            rng = np.random.default_rng((*self.state, epoch, self.fabric.global_rank))
        begin, count = epoch * self.plan.per_epoch, self.plan.batches(epoch)
        self.so_far.give_back(rng)
        numbers = range(self.so_far.step - begin, count)
        if mixture is None:
            chosen = [order[number * size : (number + 1) * size] for number in numbers]
        else:
            chosen = [mixture.batch(begin + number) for number in numbers]
        own = [self._own(one) for one in chosen]
        for number, rows, batch in zip(numbers, own, loader.batches(own, rng), strict=True):
            self._step(begin + number, rows, batch)
            self.images += len(chosen[number - numbers.start])
            if number + 1 < count and self.fabric.world_size == 1:  # processes have random states of their own
                self._keep(batch)

    def _own(self, chosen: np.ndarray) -> np.ndarray:
        """What this process takes of a batch."""
        fabric = self.fabric
        return chosen[fabric.global_rank :: fabric.world_size] if len(chosen) >= fabric.world_size else chosen

    def _step(self, step: int, own: np.ndarray, batch: Batch) -> None:
        fabric, rule, optimiser = self.fabric, self.rule, self.optimiser
        factor = learning_rate_factor(step, self.plan, rule)
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
        optimiser.zero_grad()
        parts, total = list(batch.parts(rule.accumulate or 1)), 0.0
        for number, (part, share) in enumerate(parts, 1):
            with fabric.no_backward_sync(self.trained, enabled=number < len(parts)):
                try:
                    loss = self._loss(step, own, part) * share
                    fabric.backward(loss)
                except torch.OutOfMemoryError as error:
                    raise LabelwiseError(_no_room(fabric.device, batch, parts)) from error
            total += float(loss.detach())
        if rule.clip_norm is not None:
            fabric.clip_gradients(self.trained, optimiser, max_norm=rule.clip_norm, error_if_nonfinite=False)
        optimiser.step()
        if self.data.teacher is not None:
            self.data.teacher.follow(self.model)
        self.so_far.losses.append(total)
        self.so_far.step = step + 1
        if self.progress is not None:
            self.progress(1)

    def _loss(self, step: int, own: np.ndarray, batch: Batch) -> Tensor:
        rule, parts = self.rule, self.trained(self.fabric.to_device(batch.images), self.fabric.to_device(batch.targets))
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        if not torch.isfinite(loss):
            raise LabelwiseError(
                f"round {self.state[1]}, epoch {step // self.plan.per_epoch}: the loss is not finite "
                f"({', '.join(f'{k}={v.item():.3g}' for k, v in parts.items())}) for the images with pool numbers "
                f"{self.data.names(own)}{' or those that mosaic put beside them' if rule.mosaic else ''}. Lower "
                "train.lr, set train.clip_norm, or look at their boxes with `labelwise check`"
            )
        return loss

    def _keep(self, batch: Batch | None) -> None:
        """Keeps a checkpoint where one is due; inside of an epoch, `batch` is what was trained on last."""
        due = time.monotonic() - self.saved_at >= self.rule.checkpoint_every_s
        if self.checkpoint is None or not due or self.so_far.step >= self.plan.steps or not self.fabric.is_global_zero:
            return
        drawn = None if batch is None else batch.state
        tensors, metadata = state_of(self.model, self.optimiser, self.so_far, drawn, self.data.teacher)
        self.checkpoint.save(tensors, {**metadata, **self.said})
        self.saved_at = time.monotonic()


def _no_room(device: torch.device, batch: Batch, parts: Sequence[Any]) -> str:
    """What to do where a part of a batch is more than a GPU holds."""
    most = len(list(batch.parts(len(batch.images))))
    said = (
        f"train: the memory of {device} does not hold {-(-len(batch.images) // len(parts))} images of a batch at once"
    )
    more = f"set train.accumulate = {min(2 * len(parts), most)} (the same batch in that many parts), or "
    return f"{said}: {more if len(parts) < most else ''}lower train.batch_size or data.image_size_px"


def tenths(losses: Sequence[float]) -> tuple[float, float]:
    """Mean loss of the first and of the last tenth of the steps.

    >>> tenths([5.0, 4.0, 3.0, 1.0])
    (5.0, 1.0)
    """
    few = max(1, len(losses) // 10)
    return (float(np.mean(losses[:few])), float(np.mean(losses[-few:]))) if losses else (0.0, 0.0)


def _optimiser(model: nn.Module, rule: Train) -> torch.optim.Optimizer:
    """AdamW or SGD; biases and norms are not decayed, the backbone's rate is scaled by `backbone_lr_factor`."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith(BODIES), parameter.ndim > 1)
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
