"""Boxes before there is a model worth asking: what `predict.proposals` finds, as any model's detections.

In round 0 it looks at the images that are drawn at random, so that people need not begin with an empty image; in the
`predict.proposal_rounds` after it at the pool, and the boxes of which it is surest are asked first. None of it becomes
a label that nobody gave. One who knows no classes says the same of each.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labelwise import files
from labelwise.config.sections import Predict
from labelwise.errors import LabelwiseError
from labelwise.predict.detect import predict
from labelwise.predict.passes import Model
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.stages import first_images, frozen_detector
from labelwise.stages.checkpoints import load_model


def of_first_images(now: Round) -> None:
    """Round 0: the boxes of the images that will be asked about."""
    _write(now, np.sort(first_images.drawn(now)))


def of_pool(now: Round, wanted: np.ndarray) -> None:
    """A round whose boxes are proposed: those of the wanted images; of a frozen detector the objects that it keeps."""
    if now.run.reads_objects:
        frozen_detector.propose(now, wanted)
        return
    for scale in dict.fromkeys((1.0, *(now.run.query.scales if any(unit.SCALES for unit in now.units) else ()))):
        _write(now, wanted, scale)


def _write(now: Round, wanted: np.ndarray, scale: float = 1.0) -> None:
    """At a magnification, where regions ask for it."""
    run, pool, device = now.run, now.pool, now.context.device
    rule, size_px = run.predict, round(scale * run.predict.proposals_px)
    model = named(rule.proposals or "", pool.classes, size_px, rule.proposals_most, device)
    with (
        files.DetectionWriter(now.folder.predictions(scale), len(pool), rule.shard_images) as writer,
        now.context.bar(now.title("propose"), len(wanted)) as advance,
    ):
        summary = predict(
            model,
            now.context.images("pool", max(scale, size_px / run.data.image_size_px)),
            wanted,
            writer,
            n_images=len(pool),
            views=[(choice.name, choice.settings) for choice in rule.views] if run.needs_views else [],
            seed=run.seed,
            round_number=now.number,
            batch_size=rule.batch_size,
            device=device,
            min_score=0.0,
            shard_images=rule.shard_images,
            names=pool.names,
            progress=advance,
        )
    now.info["skipped"] = [(pool.names[i], message) for i, message in summary.skipped]
    now.info["images_per_s"], now.info["without_area"] = summary.images_per_s, summary.without_area


def named(name: str, classes: Sequence[str], size_px: int, most: int, device: str = "cpu") -> Model:
    """Who proposes: see `predict.proposals`.

    Args:
        name: YOLOX-nano's weights by name or file, "hf:NAME", "project:FOLDER" or "MODULE.FUNCTION".
        classes: of the project; probabilities are over these.
        size_px: the longest side that YOLOX-nano sees.
        most: boxes of an image.
        device: where networks run.

    Raises:
        LabelwiseError: there is no such network, file, project or function.
    """
    kind, colon, rest = name.partition(":")
    if colon and kind == "hf":
        from labelwise.adapters import open_vocabulary

        return _best(open_vocabulary.load(rest, classes, device=device), most)
    if colon and kind == "project":
        return _best(_of_project(Path(rest), classes, device), most)
    if Predict(proposals=name).proposes_classes:
        module, _, function = name.rpartition(".")
        return _best(_of_function(module, function, classes), most)
    return _yolox(name, len(classes), size_px, most, device)


def _yolox(weights: str, n_classes: int, size_px: int, most: int, device: str) -> Model:
    from labelwise.models import yolox_files
    from labelwise.models.proposals import proposals

    network = yolox_files.load(weights, setting="predict.proposals").to(device)

    def model(images: list[Tensor]) -> list[dict[str, Tensor]]:
        found, every = proposals(network, images, size_px=size_px, count=most), []
        for first, last in zip(found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True):
            boxes, scores = found.boxes[first:last], found.scores[first:last]
            even = torch.full((last - first, n_classes), 1 / n_classes, device=boxes.device)
            every.append({"boxes": boxes, "scores": scores, "probs": even, "features": boxes[:, :0]})
        return every

    return model


def _best(model: Model, most: int) -> Model:
    """The boxes of which a model is surest, of every image."""

    def best(images: list[Tensor]) -> list[dict[str, Tensor]]:
        rows = [(one, one["scores"].argsort(descending=True, stable=True)[:most]) for one in model(images)]
        keys = ("boxes", "scores", "probs", "features")
        return [{key: one[key][kept] for key in keys} for one, kept in rows]

    return best


def _of_function(module: str, function: str, classes: Sequence[str]) -> Model:
    from labelwise.adapters.callable import detector

    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise LabelwiseError(
            f"predict.proposals = {module}.{function}: {error}. Expected a file or name of YOLOX-nano's weights, "
            "hf:NAME, project:FOLDER, or a function of yours that can be imported (set PYTHONPATH to its folder)"
        ) from None
    return detector(found, classes)


def _of_project(folder: Path, classes: Sequence[str], device: str) -> Model:
    """The detector that another project trained last; its classes are ours where they have the same name."""
    context = opening.start(folder, None)
    trained = [n for n in range(context.run.rounds) if Round(context, n).folder.checkpoint().exists()]
    if not trained or context.run.classifies or context.run.reads_objects:
        raise LabelwiseError(
            f"predict.proposals = project:{folder}: expected a project that has trained a detector on images; "
            f"{context.run.model.name} {'is none' if trained else 'is not trained yet'}"
        )
    model = load_model(Round(context, trained[-1])).to(device)
    theirs = list(context.pool.classes)
    columns = [theirs.index(name) for name in classes if name in theirs]
    ours = [k for k, name in enumerate(classes) if name in theirs]
    context.project.close()

    def renamed(images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [one | {"probs": _renamed(one["probs"], columns, ours, len(classes))} for one in model(images)]

    return renamed


def _renamed(probs: Tensor, columns: list[int], ours: list[int], n_classes: int) -> Tensor:
    """The distribution over our classes; what theirs share with none of ours is spread evenly.

    >>> _renamed(torch.tensor([[0.5, 0.3, 0.2]]), [2, 1], [0, 1], 4).tolist()
    [[0.32499998807907104, 0.42500001192092896, 0.125, 0.125]]
    """
    out = probs.new_zeros((len(probs), n_classes))
    out[:, ours] = probs[:, columns]
    return out + (1 - out.sum(1, keepdim=True)).clamp(min=0) / n_classes
