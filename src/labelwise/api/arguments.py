"""The run.toml of a project whose detector is foreign: what was asked for, as a config that the command line reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from labelwise import catalog, config, units
from labelwise.config import Run, inputs
from labelwise.config.sections import of_frames
from labelwise.types import Detections, LabelwiseError, Pool

Method = str | Mapping[str, Any]
"""A method by its file's name, alone or as a table with its settings: `{"name": "consistency", "beta": 1.0}`."""


def fresh(
    name: str,
    root: str | Path,
    format_name: str,
    classes: Sequence[str],
    split: str | None,
    image_size_px: int,
    given: str | None = None,
) -> Run:
    """The run of a new project: no round yet, people answer."""
    data: dict[str, Any] = {"root": str(root), "format": format_name, "image_size_px": image_size_px}
    data |= {"classes": list(classes)} if classes else {}
    data |= {"pool_split": split} if split else {}
    data |= {"given": given} if given else {}
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


def run_with_query(
    run: Run,
    round_number: int,
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
    raw, every = _raw(run), run.query.every_frames
    raw["budget"] |= {"unit": "queries", "per_round": [*run.budget.per_round[: round_number - 1], float(budget)]}
    raw["query"] = {"unit": unit, "score": _plain(score), "select": _steps(select)}
    raw["query"] |= {"threshold": threshold, "aggregate": aggregate, "scales": list(scales)}
    raw["query"] |= {} if every is None else {"every_frames": every}
    asked = config.parse(raw, "these arguments")
    if asked.needs_tracks and asked.tracks.tracker != "flow":
        raise LabelwiseError(
            f"tracks.tracker = {asked.tracks.tracker!r} looks at the features of labelwise's own detectors; with "
            'predictions from outside take tracks={"tracker": "flow"}'
        )
    return asked


def run_of_videos(run: Run, every_frames: int | None, tracks: Mapping[str, Any] | None, pool: Pool) -> Run:
    """The run with how videos are asked about and tracked; None: as it does."""
    raw = _raw(run)
    if every_frames is not None:
        check_clips("every_frames", pool)
        raw["query"]["every_frames"] = every_frames
    if tracks is not None:
        check_clips("tracks", pool)
        raw["tracks"] |= dict(tracks)
    return config.parse(raw, "these arguments")


def run_with_policy(
    run: Run, *, policy: Method, threshold: float, images: str, regions: str, propagate: Mapping[str, Any] | None = None
) -> Run:
    """The run with a label policy; what it needs of the predictions, `check_inputs` tells."""
    raw = _raw(run)
    raw["labels"] = {"policy": _plain(policy), "threshold": threshold, "images": images, "regions": regions}
    raw["labels"] |= {} if propagate is None else {"propagate": dict(propagate)}
    return config.parse(raw, "these arguments")


def _raw(run: Run) -> dict[str, Any]:
    return run.model_dump(mode="json", exclude_none=True)


def _plain(method: Method) -> Any:
    return method if isinstance(method, str) else dict(method)


def _steps(select: Method | Sequence[Method]) -> list[Any]:
    return [_plain(step) for step in ([select] if isinstance(select, str | Mapping) else select)]


def check_clips(what: str, pool: Pool) -> None:
    """Refuses what needs videos where the images are none."""
    if pool.clips is None:
        raise LabelwiseError(
            f"{what} needs videos, and the images of {pool.root} were taken as single images: make a project of a "
            'video file, of a folder of video files, or of folders of frames (labelwise.open(..., format="frames"))'
        )


def looked_at(predictions: Any, pool: Pool, needed: Bool[np.ndarray, " images"]) -> Bool[np.ndarray, " images"]:
    """Which frames were predicted: those that predictions by image name hold, and of any other form all.

    Raises:
        LabelwiseError: one that tracks need is missing: nothing found is not the same as not looked at.
    """
    if not isinstance(predictions, Mapping) or set(predictions) & {"boxes", "image", "image_features"}:
        return np.ones(len(pool), np.bool_)
    found = np.zeros(len(pool), np.bool_)
    found[[pool.number_of[name] if isinstance(name, str) else name for name in predictions]] = True
    missing = np.flatnonzero(needed & ~found)
    if len(missing):
        raise LabelwiseError(
            f"predictions lack {len(missing)} of the {int(needed.sum())} frames that tracks run through; the first: "
            f"{pool.names[missing[0]]}. Predict on project.frames(project.needed()), labelled ones among them, and "
            'give a frame in which nothing was found an entry without boxes, {"boxes": []}'
        )
    return found


def check_inputs(
    folder: str,
    methods: Method | Sequence[Method],
    predictions: Detections | None,
    unit: str = "box",
    pool: Pool | None = None,
) -> None:
    """Refuses methods whose inputs these predictions do not carry, or (of a `pool`) that need videos.

    Raises:
        LabelwiseError: an unknown method, or one that needs a column that is not there.
    """
    for step in _steps(methods):
        name = step if isinstance(step, str) else str(step.get("name"))
        unknown = inputs.problems(catalog.find(folder, name))
        if unknown:
            raise LabelwiseError("; ".join(unknown))
        settings = {} if isinstance(step, str) else {key: value for key, value in step.items() if key != "name"}
        for row in inputs.rows_of(folder, name, settings):
            if not row.from_arrays:
                known = {n: inputs.rows_of(folder, n, {}) for n in catalog.names(folder)}
                usable = [n for n, rows in known.items() if all(one.from_arrays for one in rows)]
                raise LabelwiseError(
                    f"{folder} {name!r} needs {row.name!r}, which arrays of predictions do not carry; take one of "
                    f"{', '.join(usable)}, or let labelwise train a model of its own (`labelwise init`)"
                )
            if pool is not None and "clips" in row.needs:
                check_clips(f"{folder} {name!r}", pool)
            per_image = bool(row.column_of_images) and units.find(of_frames(unit)).ONE_PER_IMAGE
            column = row.needed(per_image)
            if predictions is not None and column and not _has(predictions, column):
                raise LabelwiseError(f"{folder} {name!r} needs {column!r}, which these predictions lack; add it")


def check_without_boxes(score: Method, select: Method | Sequence[Method], unit: str) -> None:
    """Refuses what looks at boxes, where predictions are features of images alone.

    Raises:
        LabelwiseError: a unit other than whole images, or a method that needs boxes or classes.
    """
    if not units.find(of_frames(unit)).ONE_PER_IMAGE:
        raise LabelwiseError(
            f'predictions of image features alone hold no box to ask about: take unit="image", not {unit!r}'
        )
    for folder, methods in (("score", score), ("select", select)):
        for step in _steps(methods):
            name = step if isinstance(step, str) else str(step.get("name"))
            needs = next((row.name for row in inputs.rows_of(folder, name) if _of_boxes(row)), None)
            if needs is None:
                continue
            rows = {other: inputs.rows_of(folder, other) for other in catalog.names(folder)}
            usable = [n for n, has in rows.items() if not any(_of_boxes(row) or not row.from_arrays for row in has)]
            raise LabelwiseError(
                f"{folder} {name!r} needs {needs!r}, and predictions of image features alone hold no box: take one of "
                f"{', '.join(usable)}, or give boxes too"
            )


def _of_boxes(row: inputs.Input) -> bool:
    """Whether an input is made of predicted boxes."""
    named = ("labels", "probs", "frequency", "scale", "box_offsets")
    return row.axis in ("boxes", "images") or "tracks" in row.needs or row.name in named


def _has(predictions: Detections, column: str) -> bool:
    """Whether they hold the column, with classes or dimensions where it is of some."""
    row = inputs.INPUTS["score"][column]
    value = row.of(predictions)
    return value is not None and (row.shape[-1] not in "CD" or bool(value.shape[-1]))
