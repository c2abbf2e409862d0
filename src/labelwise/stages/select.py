"""The stage that selects: the scored candidates become a ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from labelwise import catalog, files
from labelwise.config.choice import Step
from labelwise.project import availability
from labelwise.project.context import Context, clips_of
from labelwise.project.folder import Stage
from labelwise.select._balance_target import target
from labelwise.stages import classification
from labelwise.stages.candidates import Candidates, covered, gather, image_outputs
from labelwise.targets.frequency import frequency
from labelwise.types import Labels, LabelwiseError, Rects
from labelwise.types.overlap import highest, iou_pairs

Makers = Mapping[str, Callable[[np.ndarray], Any]]

RANKED = 20_000
"""Most candidates that a selector ranks whose first picks are the same for every budget; the rest follow by score."""

SPARE = 4
"""How many expected budgets are ranked by a selector whose picks depend on its budget: the expectation may be low."""


def select(context: Context, round: int, stage: Stage) -> None:
    """Ranks the candidates; how far down the ranking is asked, the budget decides while answers come in.

    Every selector of the chain ranks what the one before it left, by the scores that it gave. One whose first picks are
    the same for every budget (its `PREFIX_STABLE`) ranks all; any other is given the number of queries that will
    probably spend the budget, then what is left, and so on. What was not ranked follows by falling score. Equal scores
    are taken in a random order.
    """
    run = context.run
    rng = np.random.default_rng([run.seed, round, 1])
    if round == 0:
        image = _first(context, stage)
        table = {"row": np.full(len(image), -1), "image": image, "label": np.full(len(image), -1)}
        files.write_table(context.file(round, "picks.parquet"), {**table, "score": np.zeros(len(image))})
        return
    scored = files.read_table(context.file(round, "scores.parquet"))
    n, spend = len(scored["score"]), run.budget.per_round[round - 1]
    fixed = run.budget.unit in ("queries", "images")  # then the number of queries is known beforehand
    expected = spend if fixed else spend / _obtained_per_query(context, round)
    rows = np.random.default_rng([run.seed, round, 5]).permutation(n)  # equal scores: not in the order of the pool,
    scores = scored["score"][rows]  # which often is class by class
    reasons: dict[str, np.ndarray] = {}
    makers = _makers(context, round, scored, int(np.ceil(expected)))
    spare = 1 if fixed else SPARE
    for step in run.query.select:
        last = step is run.query.select[-1]
        keep = n if last or step.keep is None else int(np.ceil(step.keep * expected))
        rows, scores, reasons = _ranked(step, rows, scores, makers, int(np.ceil(expected)), keep, spare, rng)
    rest = np.setdiff1d(np.arange(n), rows)
    ranking = np.concatenate([rows, rest[np.argsort(-scored["score"][rest], kind="stable")]])
    names = [name for name in scored if not name.startswith("mix_")]
    why = {f"why_{k}": np.concatenate([v, np.full(len(rest), np.nan)]) for k, v in reasons.items()}
    files.write_table(context.file(round, "picks.parquet"), {name: scored[name][ranking] for name in names} | why)
    stage.info["ranked"] = len(rows)


def _first(context: Context, stage: Stage) -> np.ndarray:
    """The images of the first round. Those that turn out to be unreadable are left out, and all are drawn again."""
    run, amount = context.run, context.first_images
    while True:
        pool, rng = context.pool, np.random.default_rng([run.seed, 0, 1])
        if run.budget.start == "balanced":
            image = classification.balanced(pool, amount, rng)
        else:
            order = rng.permutation(len(pool))
            image = order[pool.available[order]][:amount]
        if not availability.unreadable(context, image):
            break
    stage.info["skipped"] = [(pool.names[i], why) for i, why in pool.unavailable.items()]
    return image


def _ranked(
    step: Step,
    rows: np.ndarray,
    scores: np.ndarray,
    makers: Makers,
    expected: int,
    keep: int,
    spare: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """At most `keep` of the rows in the order of one selector, the scores that it gave, and its reasons."""
    method = catalog.find("select", step.name)
    stable = method.constant("PREFIX_STABLE")
    most = min(len(rows), keep, max(RANKED, 10 * expected) if stable and spare > 1 else max(spare * expected, 1))
    chunk = most if stable else min(max(expected, 1), most)
    picked, reasons = [np.zeros(0, np.int64)], []
    left = np.arange(len(rows))
    while sum(map(len, picked)) < most and len(left):
        menu = {name: makers[name](rows[left]) for name in method.inputs if name in makers}
        budget = min(chunk, most - sum(map(len, picked)))
        rows_picked, why = method.call(
            menu | {"scores": scores[left], "budget": budget, "rng": rng}, step.settings, explain=True
        )
        picked.append(left[rows_picked])
        reasons.append(why)
        left = np.delete(left, rows_picked)
    order = np.concatenate(picked)
    if not reasons:  # no candidate at all
        return rows[order], scores[order], {"score": scores[order]}
    joined = {name: np.concatenate([why[name] for why in reasons]) for name in reasons[0]}
    return rows[order], joined["score"], joined


def _obtained_per_query(context: Context, round: int) -> float:
    """What one query is expected to bring in the budget's unit: what queries of its kind have brought so far.

    Nothing is known in the first round of boxes or regions; one box (or what an image brought) is assumed there.
    """
    unit, kind = context.run.budget.unit, context.run.query.unit
    by_round = context.project.ledger.cost_by_round(context.seen)
    spent = [cost for r, cost in by_round.items() if 0 < r < round or (r == 0 and kind == "image")]
    if not spent and unit == "boxes":
        return 1.0
    spent = spent or [by_round[0]]
    queries = sum(cost.queries for cost in spent)
    return float(max(sum(getattr(cost, unit) for cost in spent) / max(queries, 1), 0.05))


def _makers(context: Context, round: int, scored: Mapping[str, np.ndarray], expected: int) -> Makers:
    """Everything that a selector may name, made for some rows of the candidates when it is asked for."""
    run, pool = context.run, context.pool
    known = context.known()
    is_box = run.query.unit == "box"

    @cache
    def found(*columns: str) -> Candidates:
        candidates = gather(context, round, columns)
        same = len(candidates) == len(scored["image"]) and np.array_equal(candidates.image, scored["image"])
        if not (same and np.array_equal(candidates.xyxy[:, 0], scored["x1"])):
            raise LabelwiseError(
                f"round {round}: the candidates are not those that were scored: a setting or a label has changed "
                "since. Undo that change, then run the stage again"
            )
        return candidates

    def labels(rows: np.ndarray) -> np.ndarray:
        names = ["label"] if is_box else [f"mix_{c}" for c in range(len(pool.classes))]
        columns: np.ndarray = np.stack([scored[name][rows] for name in names], axis=1)
        return columns[:, 0] if is_box else columns

    @cache
    def pseudo_frequency() -> np.ndarray:
        """p(l) of Eq. 1, from this round's predictions as pseudo labels."""
        every = files.read_detections(context.file(round, "predictions"), columns=())
        return frequency(every.labels, every.scores, len(pool.classes), tau=run.query.tau_frequency)

    counts = np.bincount(known.annotations.labels, minlength=len(pool.classes))

    def probs(rows: np.ndarray) -> np.ndarray:
        """Class distribution of a box, the mean of its boxes' of an image or a region; uniform where there is none."""
        offsets, members = _members(found(), rows)
        every = found().column("probs")[members]
        out = np.full((len(rows), len(pool.classes)), 1 / len(pool.classes), np.float32)
        some = np.diff(offsets) > 0
        if some.any():
            out[some] = np.add.reduceat(every, offsets[:-1][some]) / np.diff(offsets)[some, None]
        return out

    def features(rows: np.ndarray) -> np.ndarray:
        """Of a box its RoI or anchor feature, of an image the pooled feature, of a region the mean of its boxes'."""
        if run.query.unit == "image":
            pooled: np.ndarray = image_outputs(context, round).features[scored["image"][rows]]
            return pooled
        return _means(found("features"), rows)

    return {
        "labels": labels,
        "frequency": lambda _: pseudo_frequency(),
        "counts": lambda _: counts,
        "target": lambda _: target(counts, expected),
        "probs": probs,
        "scale": lambda rows: scored["scale"][rows],
        "image": lambda rows: scored["image"][rows],
        "videos": lambda _: clips_of(pool).video,
        "labelled_images": lambda _: np.flatnonzero(covered(known, pool)),
        "features": features,
        "labelled_features": lambda _: _labelled_features(context, round, known),
        "box_offsets": lambda rows: _members(found("features"), rows)[0],
        **{f"box_{name}": _column_of(found, name) for name in ("probs", "scores", "features")},
    }


def _column_of(found: Callable[..., Candidates], name: str) -> Callable[[np.ndarray], np.ndarray]:
    def column(rows: np.ndarray) -> np.ndarray:
        values: np.ndarray = found("features").column(name)[_members(found("features"), rows)[1]]
        return values

    return column


def _members(found: Candidates, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and numbers of the detections of some candidates."""
    count = np.diff(found.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    at = np.arange(offsets[-1]) + np.repeat(found.offsets[rows] - offsets[:-1], count)
    return offsets, found.members[at]


def _means(found: Candidates, rows: np.ndarray) -> np.ndarray:
    """Mean feature of the detections of each candidate; every box and region has at least one."""
    offsets, members = _members(found, rows)
    features: np.ndarray = found.column("features")[members]
    if len(rows):
        features = (np.add.reduceat(features, offsets[:-1]) / np.diff(offsets)[:, None]).astype(np.float32)
    return features


def _labelled_features(context: Context, round: int, known: Labels) -> np.ndarray:
    """Of images: those of the wholly labelled ones; else those of the detections on annotated objects (IoU >= 0.5)."""
    if context.run.query.unit == "image":
        said = image_outputs(context, round)
        labelled: np.ndarray = said.features[covered(known, context.pool) & said.seen]
        return labelled
    found = files.read_detections(context.file(round, "predictions"), columns=["features"])
    found = found.of_images(len(context.pool))
    annotated = Rects(known.annotations.offsets, known.annotations.xyxy)
    matched: np.ndarray = found.features[highest(found.offsets, found.boxes, annotated, iou_pairs) >= 0.5]
    return matched
