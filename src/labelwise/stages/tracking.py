"""Videos in a round: the flow of the pool, detections followed and judged, boxes lent to neighbouring frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from labelwise import files
from labelwise.evaluate import true_errors
from labelwise.models._backbones import Trunk, WeightsInput, batch_of
from labelwise.project.context import Context, clips_of
from labelwise.project.round import Round
from labelwise.targets.crops import appended
from labelwise.targets.propagate import lenders, propagate
from labelwise.tracks import coherence, flow, follow, siamese
from labelwise.types import Detections, LabelwiseError, Pool, Targets, Tracks, image_of
from labelwise.types.resize import scaled_size


def optical_flow(context: Context) -> flow.Flow:
    """The optical flow of the pool, computed where it is not there yet: once for all rounds."""
    pool, rule = context.pool, context.run.tracks
    weights = None if rule.flow_weights is None else Path(rule.flow_weights)
    with context.bar("optical flow", len(pool)) as advance:
        return flow.compute(
            len(pool),
            clips_of(pool),
            pool.width_px,
            pool.height_px,
            context.frame,
            context.cache / "flow",
            preset=rule.preset,
            flow_px=rule.flow_px,
            weights=weights,
            device=context.device,
            stamps=_stamps(pool),
            progress=advance,
        )


def _stamps(pool: Pool) -> list[str]:
    """Of every image its name, and its file's size and time of change: another file of that name is another image."""
    seen: dict[str, str] = {}
    for name in pool.names:
        file = name.split("#")[0]  # a frame of a video file
        if file not in seen:
            path = pool.root / file
            status = path.stat() if path.exists() else None
            seen[file] = "" if status is None else f"{status.st_size} {status.st_mtime_ns}"
    return [f"{name} {seen[name.split('#')[0]]}" for name in pool.names]


def errors_per_image(now: Round, model: Callable[[], nn.Module]) -> dict[str, Any]:
    """The errors per image that a score may name: those that the neighbouring frames betray, and the true ones.

    Every detection and candidate is written with its verdict (errors.parquet), and the links between them. `model`
    gives the detector that made the predictions, where the tracker looks at its features.
    """
    run, pool, menu = now.run, now.pool, dict[str, Any]()
    if not {"true_fp", "true_fn", "estimated_fp", "estimated_fn"} & run.inputs:
        return menu
    found = now.detections()
    found = found.take(found.scores >= run.query.threshold)
    if {"true_fp", "true_fn"} & run.inputs:
        if pool.truth is None:
            raise LabelwiseError(f"score {run.query.score.name!r} looks at the ground truth; this pool has none")
        true = true_errors.errors(found.offsets, found.boxes, found.labels, found.scores, pool.truth, pool.crowd)
        menu["true_fp"] = np.bincount(found.image[true.false_positive], minlength=len(pool))
        menu["true_fn"] = np.bincount(pool.truth.image[true.missed], minlength=len(pool))
    if run.needs_tracks:
        began = perf_counter()
        moving = optical_flow(now.context)
        if now.number == 1:  # once is enough
            now.info["skipped"] = [(p.where, f"{p.what}; {p.handling}") for p in moving.problems]
        tracks = tracks_of(now, found, moving, model)
        now.info["track_s"] = perf_counter() - began
        rule = run.tracks
        costs = {"cost_fp": rule.cost_fp, "cost_fn": rule.cost_fn, "cost_link": rule.cost_link}
        estimate = coherence.estimate(found.offsets, found.boxes, found.labels, tracks, theta=rule.theta, **costs)
        now.info["graph_s"] = perf_counter() - began - now.info["track_s"]
        _write(now, found, estimate)
        menu["estimated_fp"], menu["estimated_fn"] = estimate.fp, estimate.fn
        now.info["estimated_fp"], now.info["estimated_fn"] = int(estimate.fp.sum()), int(estimate.fn.sum())
    return menu


def tracks_of(now: Round, found: Detections, moving: flow.Flow, model: Callable[[], nn.Module]) -> Tracks:
    """Where the detections of a round are in the frames around theirs."""
    pool, rule, context = now.pool, now.run.tracks, now.context
    size = pool.width_px, pool.height_px
    if rule.tracker == "flow":
        return follow.follow(found.offsets, found.boxes, moving, *size, frames=rule.frames, at=rule.at)
    images, detector = context.images("pool"), model()
    trunk, weights_input = cast(Trunk, detector.backbone), cast(WeightsInput, detector.weights_input)
    device = next(detector.parameters()).device

    def pad(image: int) -> Tensor:
        pixels = torch.tensor(images[image][0], device=device).float().div_(255)
        return batch_of([pixels], weights_input)[0][0]

    shown = np.stack(size, axis=1)
    scale_xy = scaled_size(shown, images.size_px) / shown
    with context.bar(now.title(f"follow {len(found)} boxes"), len(pool)) as advance:
        return siamese.follow(
            found.offsets,
            found.boxes,
            pad,
            scale_xy,
            moving.joined,
            *size,
            lambda batch: next(iter(trunk.maps(batch)[0].values())),
            frames=rule.frames,
            progress=advance,
        )


def _write(now: Round, found: Detections, estimate: coherence.Estimate) -> None:
    """errors.parquet: detections, then candidates, `wrong` where a detection is a false positive or a candidate a
    missed object; links.parquet: pairs of its rows.
    """
    n, boxes = len(found), estimate.candidates
    corners = np.concatenate([found.boxes, boxes.xyxy])
    table = {
        "image": np.concatenate([found.image, image_of(boxes.offsets)]),
        "is_candidate": np.arange(n + len(boxes)) >= n,
        "label": np.concatenate([found.labels, boxes.labels]),
        "score": np.concatenate([found.scores, np.zeros(len(boxes), np.float32)]),
        **dict(zip(("x1", "y1", "x2", "y2"), corners.T, strict=True)),
        "wrong": np.concatenate([estimate.false_positive, estimate.false_negative]),
    }
    files.write_table(now.folder.errors, table)
    files.write_table(now.folder.links, {"a": estimate.links[:, 0], "b": estimate.links[:, 1]})


def with_neighbours(now: Round, targets: Targets) -> Targets:
    """The targets, and the frames around the labelled ones with the boxes that these lend them."""
    rule, pool, known = now.run.labels.propagate, now.pool, now.known
    if rule is None:
        return targets
    boxes, rows = lenders(known, now.covered)
    tracks = follow.follow(
        boxes.offsets,
        boxes.xyxy,
        optical_flow(now.context),
        pool.width_px,
        pool.height_px,
        frames=rule.frames,
        at=now.run.tracks.at,
    )
    lent = propagate(known, tracks, rows, pool.width_px, pool.height_px, weight=rule.weight)
    return appended(targets, lent)
