"""What may be asked about in a round: the candidates of its units, each with the detections that speak for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from labelwise.project.round import Round
from labelwise.stages import answered
from labelwise.targets.open_detections import candidates
from labelwise.types import LabelwiseError
from labelwise.units import Candidates, Shard, Unit

_OF_SCALE = 1 << 40
"""Numbers of the detections at another scale begin at a multiple of this."""


def in_shards(now: Round, unit: Unit, columns: Collection[str]) -> Iterator[Candidates]:
    """The candidates of a unit in a round, shard by shard of the pool; `columns` names the optional columns of the
    detections.

    Memory is bounded by a shard. Images and rows are numbered through the whole pool. A detector that looks at an image
    at one size says the same at every scale; only the windows are smaller.
    """
    run, known, pool = now.run, now.known, now.pool
    scales = run.query.scales if unit.SCALES else (1.0,)
    seen = [1.0 if run.reads_objects else scale for scale in scales]
    done, before, least = _done(now), [0] * len(seen), answered.threshold(now)
    for shards in zip(*(now.shards(columns, scale) for scale in seen), strict=True):
        first, found = shards[0]
        part = slice(first, first + found.n_images)
        here = known.of_images(part)
        may_ask = now.askable[part]
        keep = [candidates(one, here, threshold=least) & may_ask[one.image] for _, one in shards]
        boxes = tuple(one.take(rows) for (_, one), rows in zip(shards, keep, strict=True))
        rows, images = np.flatnonzero(keep[0]) + before[0], np.flatnonzero(~done[part])
        size = np.stack([pool.width_px[part], pool.height_px[part]], axis=1).astype(np.float64)
        made = unit.candidates(Shard(boxes, first, rows, images, size, run.data.image_size_px, scales))
        numbers = [np.flatnonzero(kept) + start + _OF_SCALE * seen.index(scale)
                   for kept, start, scale in zip(keep, before, seen, strict=True)]  # fmt: skip
        yield replace(made, numbers=np.concatenate(numbers))
        before = [start + len(one) for start, (_, one) in zip(before, shards, strict=True)]


def _done(now: Round) -> np.ndarray:
    """The images that are not asked about, bool [images]: wholly labelled, unreadable when they were predicted, or of
    the frames of a video that may not be asked.

    With the images whose class the teacher lent to the model that asks: "we run the auxiliary model on the remaining
    images" (001, section 3.5). Where these are fewer than the budget, all may be asked.
    """
    done: np.ndarray = now.covered | ~now.askable
    predict = now.ledger.stage_done(now.number, "predict") or {}
    if skipped := predict.get("skipped", []):
        done[[now.pool.number_of[name] for name, _ in skipped]] = True
    if now.run.labels.teacher is None:
        return done
    lent = np.zeros(len(done), bool)
    lent[now.before.pseudo_labels["image"]] = True
    least = now.budget if now.budget_unit in ("images", "boxes", "queries") else 1
    return done | lent if (~(done | lent)).sum() >= least else done


def gather(now: Round, columns: Collection[str]) -> Candidates:
    """The candidates of all units of a round as one table, unit after unit."""
    return _join([shard for unit in now.units for shard in in_shards(now, unit, columns)])


def some_of(now: Round, rows: Int64[np.ndarray, " k"], columns: Collection[str]) -> Candidates:
    """Of the scored candidates those of these rising numbers, with their detections alone; memory is bounded by these
    and a shard.

    Raises:
        LabelwiseError: the candidates are not those that were scored.
    """
    found, before, scored = [], 0, now.scores
    for shard in (shard for unit in now.units for shard in in_shards(now, unit, columns)):
        after = before + len(shard)
        said = scored.part(before, after, ("image", "x1"))
        if not (np.array_equal(shard.image, said["image"]) and np.array_equal(shard.xyxy[:, 0], said["x1"])):
            raise _others(now)
        here = rows[slice(*np.searchsorted(rows, (before, after)).tolist())] - before
        found.append(_part(shard, here))
        before = after
    if before != scored.n_rows:
        raise _others(now)
    return _join(found)


def _others(now: Round) -> LabelwiseError:
    return LabelwiseError(
        f"round {now.number}: the candidates are not those that were scored: a setting or a label has changed since. "
        "Undo that change, then run the stage again"
    )


def _part(found: Candidates, rows: np.ndarray) -> Candidates:
    """Some candidates, with their detections alone."""
    offsets, members = found.members_of(rows)
    kept = np.unique(members)
    starts = np.cumsum([0, *map(len, found.parts)])
    cuts = np.searchsorted(kept, starts)
    cut = zip(found.parts, starts, cuts, cuts[1:], strict=False)
    return Candidates(
        parts=tuple(part.take(kept[a:b] - start) for part, start, a, b in cut),
        image=found.image[rows],
        row=found.row[rows],
        scale=found.scale[rows],
        xyxy=found.xyxy[rows],
        offsets=offsets,
        members=np.searchsorted(kept, members),
        first=found.first,
        numbers=None if found.numbers is None else found.numbers[kept],
    )


def _join(shards: Sequence[Candidates]) -> Candidates:
    """Tables of candidates one after another."""
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
        numbers=join("numbers"),
    )
