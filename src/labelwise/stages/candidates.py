"""What may be asked about in a round: the candidates of its unit, each with the detections that speak for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from labelwise.project.round import Round
from labelwise.targets.open_detections import candidates
from labelwise.units import Candidates, Shard


def in_shards(now: Round, columns: Collection[str]) -> Iterator[Candidates]:
    """The candidates of a round, shard by shard of the pool; `columns` names the optional columns of the detections.

    Memory is bounded by a shard. Images and rows are numbered through the whole pool.
    """
    run, known, pool = now.run, now.known, now.pool
    scales = run.query.scales if now.unit.SCALES else (1.0,)
    done = _done(now)
    rows_before = 0
    # a class of an image is a candidate however unsure it is, and so is what is proposed
    least = 0.0 if run.classifies or now.proposed else run.query.threshold
    for shards in zip(*(now.shards(columns, scale) for scale in scales), strict=True):
        first, found = shards[0]
        part = slice(first, first + found.n_images)
        here = known.of_images(part)
        may_ask = now.askable[part]
        keep = [candidates(one, here, threshold=least) & may_ask[one.image] for _, one in shards]
        boxes = tuple(one.take(rows) for (_, one), rows in zip(shards, keep, strict=True))
        rows, images = np.flatnonzero(keep[0]) + rows_before, np.flatnonzero(~done[part])
        size = np.stack([pool.width_px[part], pool.height_px[part]], axis=1).astype(np.float64)
        yield now.unit.candidates(Shard(boxes, first, rows, images, size, run.data.image_size_px, scales))
        rows_before += len(found)


def _done(now: Round) -> np.ndarray:
    """The images that are not asked about, bool [images]: wholly labelled, unreadable when they were predicted, or of
    the frames of a video that may not be asked.

    With the images whose class the teacher lent to the model that asks: "we run the auxiliary model on the remaining
    images" (001, section 3.5). Where these are fewer than the budget, all may be asked.
    """
    done: np.ndarray = now.covered | ~now.askable
    number_of = now.pool.number_of
    predict = now.ledger.stage_done(now.number, "predict") or {}
    done[[number_of[name] for name, _ in predict.get("skipped", [])]] = True
    if now.run.labels.teacher is None:
        return done
    lent = np.zeros(len(done), bool)
    lent[now.before.pseudo_labels["image"]] = True
    least = now.budget if now.budget_unit in ("images", "boxes", "queries") else 1
    return done | lent if (~(done | lent)).sum() >= least else done


def gather(now: Round, columns: Collection[str]) -> Candidates:
    """`in_shards` as one."""
    shards = list(in_shards(now, columns))
    starts = np.cumsum([0, *(sum(map(len, shard.parts)) for shard in shards)])
    counts = np.concatenate([np.diff(shard.offsets) for shard in shards])

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(shard, name) for shard in shards])

    return Candidates(
        parts=tuple(part for shard in shards for part in shard.parts),
        image=join("image"),
        row=join("row"),
        scale=join("scale"),
        xyxy=join("xyxy"),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        members=np.concatenate([shard.members + start for shard, start in zip(shards, starts[:-1], strict=True)]),
    )
