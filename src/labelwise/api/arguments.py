"""The run.toml of a project whose detector is foreign: what was asked for, as a config that the command line reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelwise import catalog, config, units
from labelwise.config import Run
from labelwise.config.sections import of_frames
from labelwise.types import Detections, LabelwiseError

Method = str | Mapping[str, Any]
"""A method by its file's name, alone or as a table with its settings: `{"name": "consistency", "beta": 1.0}`."""

FROM_ARRAYS = {
    *("n", "rng", "probs", "scores", "labels", "features", "tightness", "offsets", "counts", "round"),
    *("view_probs", "view_scores", "view_iou", "consistency", "answers_per_candidate"),
    *("frequency", "target", "scale", "image", "labelled_images", "labelled_features", "budget"),
    *("box_offsets", "box_probs", "box_scores", "box_features"),
}
"""Inputs of methods that can be made of predictions in arrays and of the ledger."""


def fresh(name: str, root: Path, format: str, classes: Sequence[str], split: str | None, image_size_px: int) -> Run:
    """The run of a new project: no round yet, people answer."""
    data: dict[str, Any] = {"root": str(root), "format": format, "image_size_px": image_size_px}
    data |= {"classes": list(classes)} if classes else {}
    data |= {"pool_split": split} if split else {}
    raw = {
        "name": name,
        "own_detector": True,
        "data": data,
        "query": {"score": "random", "select": "top"},
        "labels": {"policy": "ignore"},
        "budget": {"unit": "queries", "start_images": 1, "per_round": []},
        "ask": {"who": "people"},
    }
    return config.parse(raw, name)


def asking(
    run: Run,
    round: int,
    *,
    budget: int,
    unit: str,
    score: Method,
    select: Method | Sequence[Method],
    threshold: float,
    aggregate: str,
    scales: Sequence[float],
) -> Run:
    """The run with what a round asks; settings of earlier rounds stay in the ledger."""
    raw = _raw(run)
    raw["budget"] |= {"unit": "queries", "per_round": [*run.budget.per_round[: round - 1], float(budget)]}
    raw["query"] = {"unit": unit, "score": _plain(score), "select": _steps(select)}
    raw["query"] |= {"threshold": threshold, "aggregate": aggregate, "scales": list(scales)}
    return _parsed(raw)


def labelling(run: Run, *, policy: Method, threshold: float, images: str, regions: str) -> Run:
    """The run with a label policy; what it needs of the predictions, `check_inputs` tells."""
    raw = _raw(run)
    raw["labels"] = {"policy": _plain(policy), "threshold": threshold, "images": images, "regions": regions}
    return _parsed(raw)


def _raw(run: Run) -> dict[str, Any]:
    return run.model_dump(mode="json", exclude_none=True)


def _parsed(raw: dict[str, Any]) -> Run:
    """`predict.views` stands for whatever views the predictions came with: they are the detector's own affair."""
    raw["predict"]["views"] = [{"name": "flip"}]
    return config.parse(raw, "these arguments")


def _plain(method: Method) -> Any:
    return method if isinstance(method, str) else dict(method)


def _steps(select: Method | Sequence[Method]) -> list[Any]:
    return [_plain(step) for step in ([select] if isinstance(select, str | Mapping) else select)]


def check_inputs(
    folder: str, methods: Method | Sequence[Method], predictions: Detections | None, unit: str = "box"
) -> None:
    """Refuses methods whose inputs these predictions do not carry.

    Raises:
        LabelwiseError: an unknown method, or one that needs a column that is not there.
    """
    for step in _steps(methods):
        name = step if isinstance(step, str) else str(step.get("name"))
        for needed in catalog.find(folder, name).inputs:
            if needed not in FROM_ARRAYS:
                usable = [n for n in catalog.names(folder) if set(catalog.find(folder, n).inputs) <= FROM_ARRAYS]
                raise LabelwiseError(
                    f"{folder} {name!r} needs {needed!r}, which arrays of predictions do not carry; take one of "
                    f"{', '.join(usable)}, or let labelwise train a model of its own (`labelwise init`)"
                )
            column = _column(needed)
            of_candidates = folder == "select" and not needed.startswith("box_")
            if column == "features" and of_candidates and units.find(of_frames(unit)).ONE_PER_IMAGE:
                column = "image_features"
            if predictions is not None and not _has(predictions, column):
                raise LabelwiseError(f"{folder} {name!r} needs {column!r}, which these predictions lack; add it")


def _column(needed: str) -> str:
    return {
        "consistency": "view_iou",
        "view_scores": "view_probs",
        "box_features": "features",
        "labelled_features": "features",
    }.get(needed, needed)


def _has(predictions: Detections, column: str) -> bool:
    if column.startswith("view_"):
        views = predictions.views
        return views is not None and (column == "view_iou" or bool(views.probs.shape[2]))
    if column == "features":
        return bool(predictions.features.shape[1])
    if column == "image_features":
        return predictions.per_image is not None
    return column != "tightness" or predictions.tightness is not None
