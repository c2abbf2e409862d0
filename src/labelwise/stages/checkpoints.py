"""The models of a round: made, kept, read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from labelwise import catalog, files
from labelwise.config import Run
from labelwise.project.round import Round
from labelwise.types import LabelwiseError


@dataclass(frozen=True, slots=True)
class Member:
    """One of the models that a round trains: the first, further ones of an ensemble, or the teacher.

    `suffix`: of the names of its files. `stream`: what its random numbers depend on beside seed and round; the first
    one's on nothing more.
    """

    suffix: str = ""
    stream: tuple[int, ...] = ()


FIRST = Member()
TEACHER = Member("-teacher", (1000,))
"""The model that lends the first one its surest predictions (001, section 3.5)."""


def members(run: Run) -> list[Member]:
    """The models of a round, the first one first."""
    return [FIRST, *(Member(f"-{k}", (k,)) for k in range(1, run.train.members))]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An unfinished training, kept in a file."""

    path: Path

    def load(self) -> Any:
        return files.read_tensors(self.path) if self.path.exists() else None

    def save(self, tensors: Any, metadata: Any) -> None:
        files.write_tensors(self.path, dict(tensors), dict(metadata))


def new_model(run: Run, n_classes: int, stream: list[int], width: int = 0) -> nn.Module:
    """The configured model; its random weights depend on `stream`. `width`: columns of what a head looks at."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng(stream).integers(2**62)))
        method = catalog.find("models", run.model.name)
        model: nn.Module = method.call({"n_classes": n_classes, "width": width}, run.model.settings)
        return model


def build_model(now: Round, member: Member = FIRST, n_classes: int | None = None) -> nn.Module:
    """A fresh model of the configured kind; its random weights depend on (seed, round, member) alone."""
    width = now.context.features("pool").width if now.run.reads_features or now.run.reads_objects else 0
    stream = [now.run.seed, now.number, 2, *member.stream]
    return new_model(now.run, n_classes or len(now.pool.classes), stream, width)


def features_of(now: Round) -> str | None:
    """Which frozen features a model of this run looks at: by what network, weights and input they were computed."""
    return now.context.features("pool").name if now.run.reads_features or now.run.reads_objects else None


def _another(now: Round, member: Member, what: str) -> LabelwiseError:
    held = {"model": "holds another model than", "features": "was trained on other frozen features than those of"}
    return LabelwiseError(
        f"{now.folder.checkpoint(member.suffix)} {held[what]} {now.run.model.name} as it is set now: "
        f"its settings have changed since round {now.number} was trained. Train it again with `labelwise redo "
        f"{now.number} train --project {now.context.project.folder}`, or take the change back"
    )


def load_model(now: Round, member: Member = FIRST) -> nn.Module:
    """The model that a round trained, on the device that the config asks for.

    Raises:
        LabelwiseError: the settings ask for another model now.
    """
    tensors, metadata = files.read_tensors(now.folder.checkpoint(member.suffix))
    said = json.loads(metadata.get("about", "{}"))
    if "features" in said and said["features"] != features_of(now):
        raise _another(now, member, "features")
    model = build_model(now, member, said.get("n_classes"))
    try:
        model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
    except RuntimeError as error:
        raise _another(now, member, "model") from error
    return model.to(now.context.device).eval()


def ensemble(now: Round) -> Iterator[nn.Module]:
    """All models that a round trained, the first one first."""
    return (load_model(now, member) for member in members(now.run))


def about(now: Round, member: Member) -> dict[str, Any]:
    """What a finished model says of itself; empty where there is none."""
    path = now.folder.checkpoint(member.suffix)
    return dict(json.loads(files.read_tensors(path)[1].get("about", "{}"))) if path.exists() else {}


def write_model(now: Round, member: Member, model: nn.Module, about: dict[str, Any]) -> None:
    """Keeps a finished model, with what it says of itself."""
    weights = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    # one entry alone: the order of several is not the same from file to file
    files.write_tensors(now.folder.checkpoint(member.suffix), weights, {"about": json.dumps(about, sort_keys=True)})


def start_from(model: nn.Module, before: nn.Module) -> None:
    """Gives a model the weights of another; a layer that has more classes now keeps its own, which are random."""
    own = model.state_dict()
    model.load_state_dict(
        own | {name: value for name, value in before.state_dict().items() if value.shape == own[name].shape}
    )
