"""Videos in a round: the flow of the pool, detections followed and judged, boxes lent to neighbouring frames."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from labelwise import files
from labelwise.config.sections import TrackRule
from labelwise.data._frames import read_once
from labelwise.data.image_reader import pixels_of
from labelwise.evaluate import true_errors
from labelwise.models._backbones import Trunk, WeightsInput, batch_of
from labelwise.project.clip_flow import stamps
from labelwise.project.context import Context, askable, clips_of
from labelwise.project.round import Round
from labelwise.targets.crops import appended
from labelwise.targets.propagate import lenders, propagate
from labelwise.tracks import coherence, flow, follow, siamese
from labelwise.tracks.clamps import Known
from labelwise.tracks.neighbours import around, pairs, reach
from labelwise.types import Boxes, Detections, Labels, LabelwiseError, Targets, Tracks, image_of
from labelwise.types.resize import scaled_size

SAMPLE = 4
"""Frames whose flow is timed before all of it is computed."""


def followed(now: Round) -> Bool[np.ndarray, " images"]:
    """The frames whose detections the tracks of a round need: those around the ones that may still be asked."""
    run, pool = now.run, now.pool
    if not run.needs_tracks:
        return np.zeros(len(pool), np.bool_)
    still_open = pool.available & now.askable & ~now.covered
    return around(clips_of(pool).video, still_open, reach(run.tracks.frames))


def optical_flow(context: Context) -> flow.Flow:
    """The optical flow between the frames that tracks may cross, computed where it is not there yet: once for all
    rounds.
    """
    pool = context.pool
    clips, device = clips_of(pool), context.device
    with context.bar("optical flow", len(pool)) as advance:
        return flow.compute(
            len(pool),
            clips,
            pool.width_px,
            pool.height_px,
            _reader(context),
            context.cache / "flow",
            **_flow_rule(context),
            wanted=_crossed(context),
            device=device,
            stamps=stamps(pool.root, pool.names),
            progress=advance,
        )


def _reader(context: Context) -> Callable[[int], np.ndarray]:
    """Pixels by the number of an image, for who looks at each once."""
    film = read_once(context.pool)
    return lambda image: pixels_of(film, image)


def _flow_rule(context: Context) -> dict[str, Any]:
    rule = context.run.tracks
    weights = None if rule.flow_weights is None else Path(rule.flow_weights)
    return {"preset": rule.preset, "flow_px": rule.flow_px, "weights": weights}


def _crossed(context: Context) -> Bool[np.ndarray, " images"]:
    """The frames that tracks may cross in any round: those within their reach of one that may be asked."""
    run, lent = context.run, context.run.labels.propagate
    far = max(reach(run.tracks.frames) if run.needs_tracks else 0, 0 if lent is None else lent.frames)
    return around(clips_of(context.pool).video, askable(context.pool, run), far)


def tell_cost(now: Round) -> None:
    """Tells beforehand what tracks cost: in round 0 the flow, whose time is estimated from a few pairs, in round 1 the
    frames to predict, as fast as those of the test were.
    """
    run, context, pool = now.run, now.context, now.pool
    if not run.tracks_reach or now.number > 1:
        return
    if run.thinned_tracks is not None:
        context.tell(run.thinned_tracks)
    video, ask = clips_of(pool).video, int(now.askable.sum())
    if now.number == 0:
        crossed = _crossed(context)
        said = [f"tracks: {ask} of {len(pool)} frames may be asked"]
        said += [f"each round predicts {int(crossed.sum())} frames"] if run.needs_tracks else []
        count = pairs(video, crossed)
        context.tell(f"{', '.join(said)}; optical flow of {count} pairs of frames, once{_flow_cost(context, count)}")
    elif run.needs_tracks and now.test is not None:
        wall_s = (now.ledger.stage_done(0, "evaluate") or {}).get("wall_s") or 0.0
        wanted = int((pool.available & followed(now)).sum())
        each = wall_s / max(len(now.test), 1)
        context.tell(f"tracks: {wanted} frames to predict, about {wanted * each / 60:.0f} min at the speed of the test")


def _flow_cost(context: Context, count: int) -> str:
    """The time and disk that the flow takes, by that of the first few frames; nothing where it is there."""
    pool, clips, size = context.pool, clips_of(context.pool), (context.pool.width_px, context.pool.height_px)
    folder = context.cache / "flow"
    try:
        flow.open_flow(
            folder, clips, *size, **_flow_rule(context), wanted=_crossed(context), stamps=stamps(pool.root, pool.names)
        )
    except LabelwiseError:
        few, reader = np.flatnonzero(clips.video == clips.video[0])[:SAMPLE], _reader(context)

        def read(image: int) -> np.ndarray:
            return reader(int(few[image]))

        with tempfile.TemporaryDirectory() as apart:
            began = perf_counter()
            sides, how = (size[0][few], size[1][few]), {**_flow_rule(context), "device": context.device}
            found = flow.compute(len(few), clips.take(few), sides[0], sides[1], read, Path(apart), **how)
            each = (perf_counter() - began) / max(len(few) - 1, 1)
            held = found.table(0).dtype.itemsize * count
        return f": about {count * each / 60:.0f} min on one core and {held / 1e9:.1f} GB below {folder}"
    return " (it is there)"


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
        moving = among(optical_flow(now.context), now.predicted)
        if now.number == 1:  # once is enough
            now.info["skipped"] = [(p.where, f"{p.what}; {p.handling}") for p in moving.problems]
        tracks = tracks_of(now, found, moving, model)
        now.info["track_s"] = perf_counter() - began
        known = known_errors(found, now.known, now.covered) if run.tracks.clamp_labelled else None
        estimate = judged(found, tracks, run.tracks, known)
        now.info["graph_s"] = perf_counter() - began - now.info["track_s"]
        _write(now, found, estimate)
        menu["estimated_fp"], menu["estimated_fn"] = estimate.fp, estimate.fn
        asked = now.askable & ~now.covered  # the frames between are judged too, and never asked
        now.info["estimated_fp"] = int(estimate.fp[asked].sum())
        now.info["estimated_fn"] = int(estimate.fn[asked].sum())
    return menu


def judged(found: Detections, tracks: Tracks, rule: TrackRule, known: Known | None) -> coherence.Estimate:
    """The errors of the detections as the rule of a run has them."""
    costs = {"cost_fp": rule.cost_fp, "cost_fn": rule.cost_fn, "cost_link": rule.cost_link}
    return coherence.estimate(
        found.offsets,
        found.boxes,
        found.labels,
        tracks,
        theta=rule.theta,
        candidate_overlap=rule.candidate_overlap,
        ties=rule.ties,
        known=known,
        **costs,
    )


def known_errors(found: Detections, known: Labels, whole: Bool[np.ndarray, " images"]) -> Known:
    """What the answers tell of these detections: all of a frame that is wholly labelled, of others what was found."""
    objects = known.annotations
    true = true_errors.errors(found.offsets, found.boxes, found.labels, found.scores, objects)
    verdict = np.where(true.false_positive, np.where(whole[found.image], 0, -1), 1).astype(np.int8)
    rows = np.flatnonzero(true.missed)
    missed = Boxes.from_rows(objects.image[rows], objects.xyxy[rows], objects.labels[rows], len(whole))
    return Known(verdict, missed, whole)


def among(moving: flow.Flow, predicted: Bool[np.ndarray, " images"]) -> flow.Flow:
    """The flow between frames that the model looked at alone: one that it did not is no frame without objects."""
    return replace(moving, joined=moving.joined & predicted & np.append(predicted[1:], False))


def tracks_of(now: Round, found: Detections, moving: flow.Flow, model: Callable[[], nn.Module]) -> Tracks:
    """Where the detections of a round are in the frames around theirs."""
    pool, rule, context = now.pool, now.run.tracks, now.context
    size = pool.width_px, pool.height_px
    if rule.tracker == "flow":
        return follow.follow(
            found.offsets,
            found.boxes,
            moving,
            *size,
            frames=rule.frames,
            at=rule.at,
            return_within=rule.return_within,
        )
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
