"""Boxes before there is a model worth asking: what `predict.proposals` finds, as any model's detections.

In round 0 it looks at the images that are drawn at random, so that people need not begin with an empty image; in the
`predict.proposal_rounds` after it at the pool, and the boxes of which it is surest are asked first. None of it becomes
a label that nobody gave. One who knows no classes says the same of each.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelwise import files
from labelwise.config.sections import Predict
from labelwise.data.image_reader import Images
from labelwise.errors import LabelwiseError
from labelwise.predict.detect import Sink, Summary, predict
from labelwise.predict.passes import Model
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.stages import first_images, frozen_detector, over_ray, ray_predictions
from labelwise.stages.checkpoints import load_model
from labelwise.types import Pool


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
    rule, folder = run.predict, now.folder.predictions(scale)
    asked = Asked(rule.proposals or "", pool.classes, round(scale * rule.proposals_px), rule.proposals_most)
    images = now.context.images("pool", max(scale, asked.size_px / run.data.image_size_px))
    settings: dict[str, Any] = {
        "views": [(choice.name, choice.settings) for choice in rule.views] if run.needs_views else [],
        "seed": run.seed,
        "round_number": now.number,
        "batch_size": rule.batch_size,
        "min_score": 0.0,
    }
    with now.context.bar(now.title("propose"), len(wanted)) as advance:
        if rule.engine == "ray":
            one = ProposalPass(asked, over_ray.to_read(pool), images.size_px, wanted, settings)
            summary = ray_predictions.predict(one, folder, shard_images=rule.shard_images, progress=advance)
        else:
            model = named(asked.name, asked.classes, asked.size_px, asked.most, device)
            with files.DetectionWriter(folder, len(pool), rule.shard_images) as writer:
                summary = predict(
                    model, images, wanted, writer, n_images=len(pool), device=device, shard_images=rule.shard_images,
                    names=pool.names, progress=advance, **settings,
                )  # fmt: skip
    now.info["skipped"] = [(pool.names[i], message) for i, message in summary.skipped]
    now.info["images_per_s"], now.info["without_area"] = summary.images_per_s, summary.without_area


class Asked(NamedTuple):
    """Who is asked for boxes; see `named`."""

    name: str
    classes: tuple[str, ...]
    size_px: int
    most: int


@dataclass(frozen=True)
class ProposalPass:
    """Who proposes, over Ray: built on every actor, since functions and files cannot be sent. `settings` are those of
    `predict.detect.predict`.
    """

    asked: Asked
    pool: Pool
    size_px: int
    wanted: np.ndarray
    settings: Mapping[str, Any]

    def key(self) -> Iterator[bytes]:
        """Of name and settings; a function or file that changed under the same name is not noticed."""
        yield self.wanted.tobytes()
        yield ray_predictions.plain([self.asked, self.size_px, self.settings])

    def begin(self, device: torch.device, shard_images: int, /) -> ray_predictions.Predict:
        """Predicts with a model that is built here."""
        model, n = named(*self.asked, device=str(device)), len(self.pool)
        images = Images(self.pool, self.size_px, cache_bytes=0)

        def of_span(sink: Sink, span: tuple[int, int]) -> Summary:
            return predict(
                model, images, self.wanted, sink, n_images=n, span=span, device=device, shard_images=shard_images,
                names=self.pool.names, **self.settings,
            )  # fmt: skip

        return of_span


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
