"""The stages that choose: predict, score, select. Each reads the project folder, calls pure functions, writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from labelwise import catalog
from labelwise.config import IMAGE_INPUTS
from labelwise.context import Context
from labelwise.labels.frequency import frequency
from labelwise.labels.overlap import highest, iou_pairs
from labelwise.predict.run import predict as predict_pool
from labelwise.predict.vaal import labelled_probability
from labelwise.stages.learn import load_model
from labelwise.stages.pool_candidates import Candidates, covered, gather, in_shards, predictions
from labelwise.store import files
from labelwise.store.project import Stage
from labelwise.types import Labels, LabelwiseError, Rects

VIEWS = ("view_probs", "view_scores", "view_iou")
RANKED = 20_000
"""Most candidates that the last selector ranks; what is left follows by falling score."""


def begin(context: Context) -> None:
    """Enters the pool into the ledger; refuses a class list or images that changed since the first round."""
    context.project.ledger.add_images(context.pool)


# ---------------------------------------------------------------------------------------------------------- predict


def predict(context: Context, round: int, stage: Stage) -> None:
    """Runs the model of the round before over the images that are not wholly labelled, once per view and scale.

    Images that are labelled are predicted too where a method compares with them (core-set, VAAL).
    """
    if round == 0:
        return
    run = context.run
    done = covered(context.project.ledger.labels(context.pool), context.pool)
    wanted = np.arange(len(context.pool)) if run.needs_labelled else np.flatnonzero(~done)
    model, *members = [load_model(context, round - 1, member) for member in range(run.train.members)]
    views = [(choice.name, choice.settings) for choice in run.predict.views] if run.needs_views else []
    scales = run.query.scales if run.query.unit == "region" else ()
    for scale in dict.fromkeys((1.0, *scales)):
        name = f"round {round}: predict" + (f" at scale {scale:g}" if scale != 1 else "")
        with (
            files.DetectionWriter(
                context.file(round, predictions(scale)), len(context.pool), run.predict.shard_images
            ) as writer,
            context.bar(name, len(wanted)) as advance,
        ):
            summary = predict_pool(
                model,
                context.images("pool", scale),
                wanted,
                writer,
                n_images=len(context.pool),
                views=views,
                seed=run.seed,
                round=round,
                batch_size=max(1, int(run.predict.batch_size / scale**2)),
                min_score=run.predict.min_score,
                keep=run.outputs,
                members=members if run.needs_views else (),
                shard_images=run.predict.shard_images,
                names=context.pool.names,
                progress=advance,
            )
        if scale == 1:
            stage.info["skipped"] = [(context.pool.names[i], message) for i, message in summary.skipped]
            stage.info["images_per_s"], stage.info["without_area"] = summary.images_per_s, summary.without_area
    if "labelled_probability" in run.inputs:
        features, _ = _image_features(context, round)
        value = labelled_probability(features, done, seed=run.seed + round)
        files.write_table(context.file(round, "labelled_probability.parquet"), {"value": value})


# ------------------------------------------------------------------------------------------------------------ score


def score(context: Context, round: int, stage: Stage) -> None:
    """How much each candidate is worth labelling: open boxes, images that are not wholly labelled, or regions."""
    if round == 0:
        return
    run = context.run
    columns = [*(VIEWS if run.needs_views else ()), *(c for c in ("features", "tightness") if c in run.outputs)]
    columns += ["per_image"] if "predicted_loss" in run.outputs else []
    annotated = context.project.ledger.labels(context.pool).annotations.labels
    menu: dict[str, Any] = {"rng": np.random.default_rng([run.seed, round])}
    menu["counts"] = np.bincount(annotated, minlength=len(context.pool.classes))
    if "labelled_probability" in run.inputs:
        stored = files.read_table(context.file(round, "labelled_probability.parquet"))
        menu["labelled_probability"] = stored["value"]
    tables = [_score_shard(context, found, menu) for found in in_shards(context, round, columns)]
    table = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
    files.write_table(context.file(round, "scores.parquet"), table)
    stage.info["candidates"] = len(table["score"])


def _score_shard(context: Context, found: Candidates, menu: Mapping[str, Any]) -> dict[str, np.ndarray]:
    value = _scored(context, found, menu)
    is_box = context.run.query.unit == "box"
    label = found.column("labels") if is_box else np.full(len(found), -1)
    corners = dict(zip(("x1", "y1", "x2", "y2"), found.xyxy.T, strict=True))
    table = {"row": found.row, "image": found.image, "label": label, "scale": found.scale, **corners}
    if not is_box:
        table |= {f"mix_{c}": shares for c, shares in enumerate(found.mix(len(context.pool.classes)).T)}
    return {**table, "score": np.asarray(value, np.float64)}


def _scored(context: Context, found: Candidates, whole: Mapping[str, Any]) -> np.ndarray:
    """One score per candidate. A score that looks at no box (random) is drawn per candidate, one of whole images is
    taken as it is; box scores are lifted to images and regions.
    """
    query = context.run.query
    method = catalog.find("score", query.score.name)
    if not set(method.inputs) - {"n", "rng"}:
        return np.asarray(method.call({**whole, "n": len(found)}, query.score.settings), np.float64)
    values = []
    for part in found.parts:
        menu: dict[str, Any] = {**whole, "n": len(part), "offsets": found.offsets}
        menu |= {name: getattr(part, name) for name in ("probs", "scores", "labels", "features", "tightness")}
        if part.views is not None:
            menu |= {"view_probs": part.views.probs, "view_scores": part.views.scores, "view_iou": part.views.iou}
        if part.per_image is not None:
            menu["predicted_loss"] = part.per_image.predicted_loss[found.image - found.first]
        if "labelled_probability" in whole:
            menu["labelled_probability"] = whole["labelled_probability"][found.image]
        values.append(np.asarray(method.call(menu, query.score.settings), np.float64))
    value = np.concatenate(values)
    if query.unit == "box" or IMAGE_INPUTS & set(method.inputs):
        return value
    return lifted(value[found.members], found.offsets, query.aggregate, whole["rng"])


def lifted(value: np.ndarray, offsets: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """Scores of the members of each candidate as one: their mean, maximum, sum, or that of a random member.

    A candidate without members scores 0.

    >>> lifted(np.array([1.0, 3.0]), np.array([0, 2, 2]), "mean", np.random.default_rng(0)).tolist()
    [2.0, 0.0]
    """
    count = np.diff(offsets)
    out = np.zeros(len(count))
    some = np.flatnonzero(count)
    if how == "random":
        out[some] = value[offsets[some] + (rng.random(len(some)) * count[some]).astype(np.int64)]
    elif len(some):
        reduce = np.maximum if how == "max" else np.add
        out[some] = reduce.reduceat(value, offsets[some])
        out[some] /= count[some] if how == "mean" else 1
    return out


# ----------------------------------------------------------------------------------------------------------- select


def select(context: Context, round: int, stage: Stage) -> None:
    """Ranks the candidates; how far down the ranking is asked, the budget decides while answers come in."""
    run, pool = context.run, context.pool
    rng = np.random.default_rng([run.seed, round, 1])
    if round == 0:
        image = rng.permutation(len(pool))[: run.budget.first(len(pool))]
        table = {"row": np.full(len(image), -1), "image": image, "label": np.full(len(image), -1)}
        files.write_table(context.file(round, "picks.parquet"), {**table, "score": np.zeros(len(image))})
        return
    scored = files.read_table(context.file(round, "scores.parquet"))
    n, amount = len(scored["score"]), run.budget.per_round[round - 1]
    fixed = run.budget.unit in ("queries", "images")  # then the number of queries is known beforehand
    expected = amount if fixed else amount / _obtained_per_query(context, round, scored)
    rows, scores, reasons = np.arange(n), scored["score"], {}
    makers = _makers(context, round, scored)
    for step in run.query.select:
        wanted = amount if fixed else max(RANKED, 10 * amount)
        if step is not run.query.select[-1]:
            wanted = n if step.keep is None else np.ceil(step.keep * expected)
        method = catalog.find("select", step.name)
        menu = {name: makers[name](rows) for name in method.inputs if name in makers}
        menu |= {"scores": scores, "budget": min(len(rows), int(wanted)), "rng": rng}
        picks, reasons = method.call(menu, step.settings, explain=True)
        rows, scores = rows[picks], reasons["score"]
    rest = np.setdiff1d(np.arange(n), rows) if not fixed else np.zeros(0, np.int64)
    rest = rest[np.argsort(-scored["score"][rest], kind="stable")]
    ranking = np.concatenate([rows, rest])
    names = [name for name in scored if not name.startswith("mix_")]
    why = {f"why_{k}": np.concatenate([v, np.full(len(rest), np.nan)]) for k, v in reasons.items()}
    files.write_table(context.file(round, "picks.parquet"), {name: scored[name][ranking] for name in names} | why)
    stage.info["ranked"] = len(rows)


def _obtained_per_query(context: Context, round: int, scored: Mapping[str, np.ndarray]) -> float:
    """What one query is expected to bring in the budget's unit: what queries of its kind have brought so far."""
    ledger, unit = context.project.ledger, context.run.budget.unit
    same = [r for r in range(round) if (r == 0) == (context.run.query.unit == "image")] or [0]
    spent = [cost for r, cost in ledger.cost_by_round().items() if r in same]
    queries = sum(cost.queries for cost in spent)
    return float(max(sum(getattr(cost, unit) for cost in spent) / max(queries, 1), 0.1))


def _makers(context: Context, round: int, scored: Mapping[str, np.ndarray]) -> dict[str, Callable[[np.ndarray], Any]]:
    """Everything that a selector may name, made for some rows of the candidates when it is asked for."""
    run, pool = context.run, context.pool
    known = context.project.ledger.labels(pool)
    is_box = run.query.unit == "box"

    def labels(rows: np.ndarray) -> np.ndarray:
        names = ["label"] if is_box else [f"mix_{c}" for c in range(len(pool.classes))]
        columns: np.ndarray = np.stack([scored[name][rows] for name in names], axis=1)
        return columns[:, 0] if is_box else columns

    def pseudo_frequency(_rows: np.ndarray) -> np.ndarray:
        """p(l) of Eq. 1, from this round's predictions as pseudo labels."""
        found = files.read_detections(context.file(round, "predictions"), columns=())
        return frequency(found.labels, found.scores, len(pool.classes), tau=run.query.tau_frequency)

    def boxes(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda rows: _member_column(context, round, rows, name)

    return {
        "labels": labels,
        "frequency": pseudo_frequency,
        "counts": lambda _: np.bincount(known.annotations.labels, minlength=len(pool.classes)),
        "scale": lambda rows: scored["scale"][rows],
        "features": lambda rows: _features(context, round, rows),
        "labelled_features": lambda _: _labelled_features(context, round, known),
        **{f"box_{name}": boxes(name) for name in ("offsets", "probs", "scores", "features")},
    }


def _member_column(context: Context, round: int, rows: np.ndarray, name: str) -> np.ndarray:
    """The offsets of the candidates' detections, or a column of these."""
    found = gather(context, round, ["features"] if name == "features" else [])
    count = np.diff(found.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    if name == "offsets":
        return offsets
    at = np.arange(offsets[-1]) + np.repeat(found.offsets[rows] - offsets[:-1], count)
    column: np.ndarray = found.column(name)[found.members[at]]
    return column


def _features(context: Context, round: int, rows: np.ndarray) -> np.ndarray:
    """Of a box its RoI or anchor feature, of an image the pooled feature, of a region the mean of its boxes' ones."""
    if context.run.query.unit == "image":
        pooled: np.ndarray = _image_features(context, round)[0][gather(context, round, ()).image[rows]]
        return pooled
    features, offsets = (
        _member_column(context, round, rows, "features"),
        _member_column(context, round, rows, "offsets"),
    )
    if len(rows):  # every box and region has at least one
        features = (np.add.reduceat(features, offsets[:-1]) / np.diff(offsets)[:, None]).astype(np.float32)
    return features


def _labelled_features(context: Context, round: int, known: Labels) -> np.ndarray:
    """Of images: those of the wholly labelled ones; else those of the detections on annotated objects (IoU >= 0.5)."""
    if context.run.query.unit == "image":
        features, seen = _image_features(context, round)
        labelled: np.ndarray = features[covered(known, context.pool) & seen]
        return labelled
    found = files.read_detections(context.file(round, "predictions"), columns=["features"])
    annotated = Rects(known.annotations.offsets, known.annotations.xyxy)
    matched: np.ndarray = found.features[highest(found.offsets, found.boxes, annotated, iou_pairs) >= 0.5]
    return matched


def _image_features(context: Context, round: int) -> tuple[np.ndarray, np.ndarray]:
    """The pooled feature of every image [images, D], and which images the model saw."""
    said = files.read_detections(context.file(round, "predictions"), columns=["per_image"]).per_image
    if said is None:
        raise LabelwiseError(
            f"round {round}: the predictions hold no image features. Run the round's predict stage again"
        )
    return said.features, said.seen
