"""Of what size the detector of a new project is (`labelwise init --for`): a small one, or the recipe layer `gpu`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from labelwise import catalog, config
from labelwise.config import Run
from labelwise.errors import LabelwiseError


def large(machine: str | None, model: str | None, recipe: str | None, settings: Sequence[str]) -> bool:
    """Whether the trained detector is one for a GPU.

    Raises:
        LabelwiseError: `machine` is neither "cpu" nor "gpu", or does not go with the rest.
    """
    if machine not in (None, "cpu", "gpu"):
        raise LabelwiseError(f"--for {machine}: expected cpu or gpu")
    if machine is not None and recipe is not None:
        raise LabelwiseError("--for chooses the starter; a recipe names its own model: give RECIPE+gpu for a GPU")
    if machine is None:
        chosen = model == "frozen" or recipe is not None or "model" in config.layers([], settings)
        return not chosen and has_gpu()
    if machine == "gpu" and model == "frozen":
        raise LabelwiseError(
            "--for gpu is the size of a trained detector, which --model frozen is not: give one of both"
        )
    if machine == "gpu":
        _refuse_half_a_model(settings)
    return machine == "gpu"


def has_gpu() -> bool:
    """Whether torch sees a GPU of CUDA's; torch is not loaded where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return False
    import torch

    return torch.cuda.is_available()


def messages(run: Run, machine: str | None) -> list[str]:
    """What a detector for a GPU is, or that a classifier has one size."""
    if run.classifies:
        same = "Size: every image has a class and no boxes; the classifier is the same for a CPU and a GPU"
        return [same] if machine == "gpu" else []
    said = run.model.settings
    parts = [f"{key} {said[key]}" for key in ("backbone", "size", "weights") if said.get(key)]
    return [
        f"Size: a detector for a GPU, {', '.join([run.model.name, *parts])}, at {run.data.image_size_px} px "
        "(for a CPU: --for cpu)"
    ]


def _refuse_half_a_model(settings: Sequence[str]) -> None:
    """Another detector has none of the layer's settings, and another backbone not its weights."""
    if any(one.partition("=")[0].strip() == "model" for one in settings):
        return  # all of it
    said, layer = config.layers([], settings).get("model", {}), config.layers(catalog.recipe_files("gpu"))["model"]
    for key in ("name", "backbone"):
        if said.get(key, layer[key]) != layer[key] and not (key == "backbone" and "weights" in said):
            raise LabelwiseError(
                f"--for gpu is {layer['name']} on {layer['backbone']} from COCO's weights, which model.{key}="
                f"{said[key]} does not go with: leave --for gpu out, or set the whole model, "
                '--set \'model={name="...", backbone="...", weights="..."}\''
            )
