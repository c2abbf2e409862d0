"""An unfinished training as tensors and text, and back: the next step is the one that would have come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from labelwise.train.schedule import Plan
from labelwise.train.teacher import Teacher


class Checkpoint(Protocol):
    """Where an unfinished training is kept; `load` gives None when there is none."""

    def load(self) -> tuple[Mapping[str, np.ndarray], Mapping[str, str]] | None: ...

    def save(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None: ...


@dataclass
class Progress:
    """How far a training is: its next step, the losses of those before, and inside of an epoch the random state."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    numpy_state: dict[str, Any] | None = None
    torch_state: dict[str, Tensor] = field(default_factory=dict)

    def give_back(self, rng: np.random.Generator) -> None:
        """Sets the random generators to where they were; nothing at the begin of an epoch."""
        if self.numpy_state is not None:
            rng.bit_generator.state = self.numpy_state
            torch.set_rng_state(self.torch_state["cpu"])
            if "cuda" in self.torch_state:
                torch.cuda.set_rng_state(self.torch_state["cuda"])
        self.numpy_state = None


def words(seed: int, round_number: int, plan: Plan, n_images: int) -> dict[str, str]:
    """What a checkpoint must say of itself for a training to go on from it."""
    said = {"seed": seed, "round": round_number, "epochs": plan.epochs, "steps": plan.steps, "images": n_images}
    return {name: str(value) for name, value in said.items()}


def state_of(
    model: nn.Module, optimiser: Any, so_far: Progress, drawn: Mapping[str, Any] | None, teacher: Teacher | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Weights (the teacher's too), optimiser, losses and random state.

    `drawn`: inside of an epoch, the state of NumPy's generator after the step; None: the epoch has ended.
    """
    tensors = {f"model.{name}": value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    for number, slots in optimiser.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{number}.{name}"] = value.detach().cpu().numpy()
    tensors |= {} if teacher is None else {f"teacher.{name}": value for name, value in teacher.tensors().items()}
    tensors["losses"] = np.array(so_far.losses, np.float64)
    metadata = {"step": str(so_far.step)}
    if drawn is not None:
        metadata["rng"] = json.dumps(drawn)
        tensors["rng.cpu"] = torch.get_rng_state().numpy()
        if next(model.parameters()).is_cuda:
            tensors["rng.cuda"] = torch.cuda.get_rng_state().numpy()
    return tensors, metadata


def resume(
    model: nn.Module,
    optimiser: Any,
    checkpoint: Checkpoint | None,
    expected: Mapping[str, str],
    plan: Plan,
    teacher: Teacher | None = None,
) -> Progress:
    """Loads an unfinished training that says what is expected of it; from the first step where there is none."""
    found = None if checkpoint is None else checkpoint.load()
    if found is None:
        return Progress()
    tensors, metadata = found
    old = "step" not in metadata  # as older versions kept it: at the end of an epoch
    names = ("seed", "round", "epochs") if old else expected
    of_teacher = {k.removeprefix("teacher."): v for k, v in tensors.items() if k.startswith("teacher.")}
    if any(metadata.get(name) != expected[name] for name in names) or (teacher is None) != (not of_teacher):
        return Progress()
    if teacher is not None:
        teacher.load(of_teacher)
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
    if old:
        return Progress(int(metadata["epoch"]) * plan.per_epoch)
    states = {k.removeprefix("rng."): torch.from_numpy(v.copy()) for k, v in tensors.items() if k.startswith("rng.")}
    numpy_state = json.loads(metadata["rng"]) if "rng" in metadata else None
    return Progress(int(metadata["step"]), np.asarray(tensors["losses"]).tolist(), numpy_state, states)
