"""Which labels of a data set to look at again: predictions out of fold on frozen features, ranked by `review/`.

Nothing is trained but a linear head: of boxes the frozen detector (`models/frozen.py`) that proposes objects, of images
with a class a logistic regression. Each of `FOLDS` parts, whole clips or groups, is predicted by what the others teach.

Fails when: the proposals miss the objects (`advise --models` tells): then few faults are found, most of them swaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64, Int64

from labelwise.config.features import Features
from labelwise.data import hold_back
from labelwise.data.long_tail import subset
from labelwise.evaluate import detection
from labelwise.models import head
from labelwise.project import frozen_weights
from labelwise.project.context import Bar, silent
from labelwise.project.kept_features import prepared
from labelwise.project.whole_images import WholeImages
from labelwise.review import badly_located, overlooked, self_confidence, sparsely_labelled, swapped
from labelwise.review._in_turn import in_turn
from labelwise.study import model_folds, model_trial
from labelwise.study.model_folds import FOLDS
from labelwise.types import Boxes, Detections, Labels, LabelwiseError, Pool, Rects, offsets_of
from labelwise.types.overlap import nearest

POLICY = "ignore"
KINDS = (overlooked, badly_located, swapped)
SPARSE = 0.5
"""Share of an image's objects without a label from which the image is told."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Something to look at: its `kind` (a file of `review/`), how doubtful it is, where, the class it has (None: there
    is no label) and the one that the predictions find likely.
    """

    kind: str
    doubt: float
    image: str
    box: tuple[float, float, float, float] | None
    label: int | None
    likely: int


def of_pool(pool: Pool, *, group: str = "", device: str = "cpu", bar: Bar = silent, seed: int = 0) -> list[Doubtful]:
    """All that is doubtful in a pool's labels, the worst first; kinds of doubt in turn.

    After all boxes come the images of whose objects more than `SPARSE` seem to have no label. Images that are not
    wholly labelled are left out: what has no label there is no fault.

    Raises:
        LabelwiseError: no labels, too few images for two folds, or the files of the frozen networks are missing.
    """
    if pool.truth is None or not len(pool.truth):
        raise LabelwiseError(f"{pool.root}: there are no labels to review. `labelwise check {pool.root}` tells why")
    if pool.one_class_per_image:
        return _classes(pool, group, device, bar, seed)
    whole = np.ones(len(pool), np.bool_) if pool.complete is None else pool.complete
    part = subset(pool, np.flatnonzero(whole & pool.available))
    assert part.truth is not None
    found = detections(part, group=group, device=device, bar=bar, seed=seed)
    return _boxes(part, part.truth, found) + images_told(part, part.truth, found)


def detections(part: Pool, *, group: str, device: str, bar: Bar, seed: int) -> Detections:
    """Detections on every image of a wholly labelled pool, by a detector that learnt the other folds."""
    assert part.truth is not None
    rule = frozen_weights.needed()
    trial = model_trial.of_data(part, rule, device, bar)
    rule = rule.model_copy(update={"objects_most": rule.objects_most if trial is None else trial[2]})
    n = len(part)
    size = np.stack([part.width_px, part.height_px], axis=1).astype(np.float32)
    covered = Rects(np.arange(n + 1), np.concatenate([np.zeros_like(size), size], axis=1))
    known = Labels(part.truth, covered, Rects.empty(n), np.ones(n, np.bool_))
    seen = model_folds.seen_of(part, known, group, seed)
    objects = model_folds.objects_of_images(seen.pool, rule, device, bar)
    held = model_folds.frozen_held(seen, objects, model_folds.targets_of(seen, known, POLICY), {})
    columns = [(one.image, one.boxes, one.probs, one.scores) for one in held.parts]
    image, boxes, probs, scores = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((-scores, image))
    order = order[scores[order] >= detection.MIN_SCORE]
    nothing = np.zeros((len(order), 0), np.float32)
    return Detections(offsets_of(image[order], n), boxes[order], probs[order], scores[order], nothing)


def _boxes(pool: Pool, labels: Boxes, found: Detections) -> list[Doubtful]:
    doubts = [kind.doubt(labels, found) for kind in KINDS]
    near, _ = nearest(labels.offsets, labels.xyxy, Rects(found.offsets, found.boxes))
    made, seen = list[Doubtful](), set[int]()
    for kind, row in zip(*(column.tolist() for column in in_turn(doubts)), strict=True):
        of_label = KINDS[kind].OF == "labels"
        if of_label and row in seen:  # it is looked at once, whatever is wrong with it
            continue
        table, corners = (labels, labels.xyxy) if of_label else (found, found.boxes)
        seen |= {row} if of_label else set()
        x1, y1, x2, y2 = corners[row].tolist()
        label = int(labels.labels[row]) if of_label else None
        likely = int(found.labels[near[row] if of_label else row])
        name, image = KINDS[kind].__name__.rpartition(".")[2], pool.names[int(table.image[row])]
        made.append(Doubtful(name, float(doubts[kind][row]), image, (x1, y1, x2, y2), label, likely))
    return made


def images_told(pool: Pool, labels: Boxes, found: Detections) -> list[Doubtful]:
    """The images of whose objects more than `SPARSE` seem to have no label, the barest first."""
    share = sparsely_labelled.doubt(labels, found)
    order = np.argsort(-share, kind="stable")
    name, likely = sparsely_labelled.__name__.rpartition(".")[2], np.zeros((len(pool), len(pool.classes)))
    np.add.at(likely, (found.image, found.labels), overlooked.doubt(labels, found))
    return [
        Doubtful(name, float(share[k]), pool.names[k], None, None, int(likely[k].argmax()))
        for k in order[share[order] > SPARSE].tolist()
    ]


def _classes(pool: Pool, group: str, device: str, bar: Bar, seed: int) -> list[Doubtful]:
    assert pool.truth is not None
    labels = pool.truth.labels
    shown = np.flatnonzero(pool.available)
    weights = frozen_weights.needed_body()
    features, seen = _features(pool, shown, weights, device, bar)
    shown = shown[seen]
    part = replace(subset(pool, shown), whole=None)
    probs = out_of_fold(features[seen], labels[shown], len(pool.classes), hold_back.groups(part, group), seed)
    doubts = self_confidence.doubt(labels[shown], probs)
    likely = probs.argmax(axis=1)
    _, order = in_turn([np.where(likely == labels[shown], 0.0, doubts)])
    return [
        Doubtful("self_confidence", float(doubts[k]), pool.names[shown[k]], None, int(labels[shown[k]]), int(likely[k]))
        for k in order.tolist()
    ]


def _features(
    pool: Pool, rows: np.ndarray, rule: Features, device: str, bar: Bar
) -> tuple[np.ndarray, Int64[np.ndarray, " k"]]:
    """Frozen features of images, centred and of unit length, and which of the images could be read."""
    looker = WholeImages(rule, True, device)
    _, columns = looker.begin()
    raw, seen = np.zeros((len(rows), columns), np.float32), np.zeros(len(rows), np.bool_)
    with bar(f"frozen features of {len(rows)} images", len(rows)) as advance:
        for k, image in enumerate(rows.tolist()):
            pixels = model_folds.pixels_or_none(pool, image)
            if pixels is not None:
                raw[k] = looker.run([looker.read(pixels.transpose(1, 2, 0), image)], silent("", 0).__enter__())[0, 0]
                seen[k] = True
            advance(1)
    mean = raw[seen].mean(axis=0, dtype=np.float64) if seen.any() else np.zeros(columns)
    return prepared(raw[:, None], mean, None)[:, 0], np.flatnonzero(seen)


def out_of_fold(
    features: np.ndarray, labels: Int64[np.ndarray, " n"], classes: int, groups: Sequence[str], seed: int
) -> Float64[np.ndarray, "n C"]:
    """Class distributions by logistic regression on the other folds; groups are never on both sides.

    Raises:
        LabelwiseError: fewer than two groups.
    """
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise LabelwiseError(f"{len(labels)} images in {len(names)} clips or groups: two are needed to review labels")
    fold = (np.random.default_rng([seed, 9]).permutation(len(names)) % min(FOLDS, len(names)))[number]
    probs = np.zeros((len(labels), classes))
    for k in range(int(fold.max()) + 1):
        model, other = head.build(classes, features.shape[1]), fold != k
        assert isinstance(model, head.Head)
        model.solve(features[other], labels[other], np.ones(int(other.sum())))
        with torch.no_grad():
            logits, _ = model.eval()(torch.from_numpy(np.ascontiguousarray(features[~other])))
        probs[~other] = logits.softmax(dim=1).double().numpy()
    return probs
