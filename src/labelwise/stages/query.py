"""The stages that query: predict, score, select, ask. Each reads the project folder, calls pure functions, writes."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelwise import catalog
from labelwise.ask import cost as costs
from labelwise.ask import oracle
from labelwise.context import Context
from labelwise.labels import candidates
from labelwise.labels.frequency import frequency
from labelwise.predict.run import predict as predict_pool
from labelwise.stages.learn import load_model
from labelwise.store import files
from labelwise.store.project import Stage
from labelwise.types import Answer, Boxes, Cost, Detections, Labels, LabelwiseError, Pool, Query, image_of


def begin(context: Context) -> None:
    """Enters the pool into the ledger; refuses a class list or images that changed since the first round."""
    context.project.ledger.add_images(context.pool)


def covered(known: Labels, pool: Pool) -> np.ndarray:
    """Whether the whole image is covered, bool [images]: nothing is left to ask there."""
    owner, rects = image_of(known.coverage.offsets), known.coverage.xyxy
    whole = (rects[:, 0] <= 0) & (rects[:, 1] <= 0)
    whole &= (rects[:, 2] >= pool.width_px[owner]) & (rects[:, 3] >= pool.height_px[owner])
    return np.bincount(owner[whole], minlength=len(pool)) > 0


# ---------------------------------------------------------------------------------------------------------- predict


def predict(context: Context, round: int, stage: Stage) -> None:
    """Runs the model of the round before over every image that is not wholly labelled, once per view."""
    if round == 0:
        return
    run = context.run
    wanted = np.flatnonzero(~covered(context.project.ledger.labels(context.pool), context.pool))
    model = load_model(context, round - 1)
    views = [(choice.name, choice.settings) for choice in run.predict.views] if run.needs_views else []
    folder = context.file(round, "predictions")
    with (
        files.DetectionWriter(folder, len(context.pool), run.predict.shard_images) as writer,
        context.bar(f"round {round}: predict", len(wanted)) as advance,
    ):
        summary = predict_pool(
            model,
            context.images("pool"),
            wanted,
            writer,
            n_images=len(context.pool),
            views=views,
            seed=run.seed,
            round=round,
            batch_size=run.predict.batch_size,
            min_score=run.predict.min_score,
            keep_features=run.needs_features,
            shard_images=run.predict.shard_images,
            names=context.pool.names,
            progress=advance,
        )
    stage.info["skipped"] = [(context.pool.names[i], message) for i, message in summary.skipped]
    stage.info["images_per_s"], stage.info["without_area"] = summary.images_per_s, summary.without_area


# ------------------------------------------------------------------------------------------------------------ score


def score(context: Context, round: int, stage: Stage) -> None:
    """How much each candidate is worth labelling: boxes that may be asked, or images that are not wholly labelled."""
    if round == 0:
        return
    run, pool = context.run, context.pool
    optional = ("view_probs", "view_scores", "view_iou") if run.needs_views else ()
    features = ("features",) if run.needs_features else ()
    found = files.read_detections(context.file(round, "predictions"), columns=(*optional, *features))
    known = context.project.ledger.labels(pool)
    rows = np.flatnonzero(candidates.candidates(found, known, threshold=run.query.threshold))
    method = catalog.find("score", run.query.score.name)
    boxes = found.take(rows)
    if run.query.unit == "image":
        image = np.flatnonzero(~covered(known, pool))
        value = _image_scores(context, round, boxes, method, image)
        table = {"row": np.full(len(image), -1), "image": image, "label": np.full(len(image), -1)}
    else:
        value = method.call(_menu(context, round, boxes), run.query.score.settings)
        table = {"row": rows, "image": boxes.image, "label": boxes.labels}
    files.write_table(context.file(round, "scores.parquet"), {**table, "score": np.asarray(value, np.float64)})
    stage.info["candidates"] = len(value)


def _menu(context: Context, round: int, boxes: Detections) -> dict[str, Any]:
    """Everything that a score may name."""
    menu: dict[str, Any] = {"n": len(boxes), "rng": np.random.default_rng([context.run.seed, round])}
    menu |= {"probs": boxes.probs, "scores": boxes.scores, "features": boxes.features}
    if boxes.views is not None:
        views = boxes.views
        menu |= {"view_probs": views.probs, "view_scores": views.scores, "view_iou": views.iou}
    return menu


def _image_scores(
    context: Context, round: int, boxes: Detections, method: catalog.Method, image: np.ndarray
) -> np.ndarray:
    """Box scores lifted to images by mean, max or sum; an image without a candidate scores 0. A score that looks at no
    box (random) is drawn per image.
    """
    settings = context.run.query.score.settings
    if not set(method.inputs) - {"n", "rng"}:
        menu = {"n": len(image), "rng": np.random.default_rng([context.run.seed, round])}
        return np.asarray(method.call(menu, settings))
    value = np.asarray(method.call(_menu(context, round, boxes), settings), np.float64)
    owner, n = boxes.image, boxes.n_images
    if context.run.query.aggregate == "max":
        lifted = np.full(n, -np.inf)
        np.maximum.at(lifted, owner, value)
        lifted[np.isinf(lifted)] = 0.0
    else:
        lifted = np.bincount(owner, value, minlength=n)
        if context.run.query.aggregate == "mean":
            lifted = lifted / np.maximum(np.bincount(owner, minlength=n), 1)
    return np.asarray(lifted[image])


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
    n, unit = len(scored["score"]), run.budget.unit
    amount = run.budget.per_round[round - 1]
    fixed = unit == "queries" or (unit == "images" and run.query.unit == "image")
    menu = {
        "scores": scored["score"],
        "labels": scored["label"],
        "frequency": _frequency(context, round),
        "budget": min(n, int(amount)) if fixed else n,
        "rng": rng,
    }
    method = catalog.find("select", run.query.select.name)
    rows, reasons = method.call(menu, run.query.select.settings, explain=True)
    picks = {name: scored[name][rows] for name in ("row", "image", "label", "score")}
    files.write_table(context.file(round, "picks.parquet"), picks | {f"why_{k}": v for k, v in reasons.items()})
    stage.info["ranked"] = len(rows)


def _frequency(context: Context, round: int) -> np.ndarray:
    """p(l) of Eq. 1, from this round's predictions as pseudo labels."""
    found = files.read_detections(context.file(round, "predictions"), columns=())
    return frequency(found.labels, found.scores, len(context.pool.classes), tau=context.run.query.tau_frequency)


# -------------------------------------------------------------------------------------------------------------- ask


def ask(context: Context, round: int, stage: Stage) -> None:
    """The oracle answers the ranking in order until the budget of the round is spent, or the ranking ends."""
    run, pool, ledger = context.run, context.pool, context.project.ledger
    if pool.truth is None:
        raise LabelwiseError(
            f"{pool.root} has no annotations, so the simulated oracle cannot answer; add annotations to the pool split"
        )
    picks = files.read_table(context.file(round, "picks.parquet"))
    boxes = files.read_detections(context.file(round, "predictions"), columns=()).boxes if round else None
    amount = run.budget.per_round[round - 1] if round else float(len(picks["row"]))
    unit = run.budget.unit if round else "images"
    annotated = _annotated(pool.truth, ledger.labels(pool).annotations)
    number_of = {name: number for number, name in enumerate(pool.names)}
    asked = len(ledger.queries(round))
    left = amount - getattr(ledger.cost_by_round().get(round, Cost()), unit)
    with context.bar(f"round {round}: ask", int(amount)) as advance:
        while True:
            open_queries = ledger.open_queries(round)
            if not open_queries:
                step = _step(unit, left, query_is_image=not round or run.query.unit == "image")
                chosen = range(asked, min(asked + step, len(picks["row"])))
                if not chosen:
                    break
                ledger.add_queries(round, [_query(pool, picks, boxes, round, rank) for rank in chosen])
                asked += len(chosen)
                continue
            records = []
            for query in open_queries:
                image = number_of[query.image]
                answer = oracle.answer(query, pool.truth, image, annotated)
                _mark(annotated, pool.truth, image, answer)
                records.append((query, answer, costs.cost(query, answer, run.cost)))
            ledger.record_many(records, "oracle")
            paid = sum(getattr(cost, unit) for _, _, cost in records)
            left -= paid
            advance(int(paid))
    stage.info["left_of_budget"] = max(0.0, left)
    stage.info["ranking_exhausted"] = left > 0


def _step(unit: str, left: float, *, query_is_image: bool) -> int:
    """How many queries can be asked at once without any chance to overspend (an image's boxes are known afterwards)."""
    if left <= 0:
        return 0
    sure = unit == "queries" or unit == ("images" if query_is_image else "boxes")
    return max(1, int(left)) if sure else 1


def _query(pool: Pool, picks: dict[str, np.ndarray], boxes: np.ndarray | None, round: int, rank: int) -> Query:
    row, label = int(picks["row"][rank]), int(picks["label"][rank])
    reason = {name.removeprefix("why_"): float(picks[name][rank]) for name in picks if name.startswith("why_")}
    is_box = boxes is not None and row >= 0
    return Query(
        round=round,
        rank=rank,
        image=pool.names[int(picks["image"][rank])],
        unit="box" if is_box else "image",
        box=tuple(float(v) for v in boxes[row]) if boxes is not None and is_box else None,  # type: ignore[arg-type]
        label=label if label >= 0 else None,
        score=float(picks["score"][rank]),
        reason=reason,
    )


def _annotated(truth: Boxes, annotations: Boxes) -> np.ndarray:
    """Which ground-truth boxes have been annotated, bool [truth]: same image, same coordinates, same class."""

    def keys(table: Boxes) -> list[bytes]:
        columns = np.column_stack([table.image.astype(np.float64), table.labels.astype(np.float64), table.xyxy])
        return [row.tobytes() for row in columns]

    known = set(keys(annotations))
    return np.fromiter((key in known for key in keys(truth)), bool, len(truth))


def _mark(annotated: np.ndarray, truth: Boxes, image: int, answer: Answer) -> None:
    """Notes in `annotated` [truth] the ground-truth boxes that an answer has just annotated."""
    rows = np.arange(truth.offsets[image], truth.offsets[image + 1])
    for box, label in zip(answer.boxes, answer.labels, strict=True):
        same = (truth.xyxy[rows] == np.asarray(box, np.float32)).all(axis=1) & (truth.labels[rows] == label)
        annotated[rows[same]] = True
