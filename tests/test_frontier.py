"""DropQuery and PPAL: scores and selectors beside slow, obvious loops, also on degenerate input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelwise.score import calibrated_uncertainty, dropquery
from labelwise.select import category_matching, kmeans
from labelwise.targets.difficulty import difficulty
from labelwise.types import Detections, LabelwiseError


def distributions(n: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), n).astype(np.float32)


# DropQuery


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_the_share_of_changed_predictions_is_that_of_a_loop(classes):
    p, views = distributions(50, classes), np.stack([distributions(50, classes, v) for v in range(3)])
    views[0, ::2] = p[::2]
    iou = np.random.default_rng(5).integers(0, 2, (3, 50)) * 0.7
    want = []
    for row in range(50):
        changed = 0
        for v in range(3):
            one, own = list(views[v, row]), list(p[row])
            changed += iou[v, row] == 0 or one.index(max(one)) != own.index(max(own))
        want.append(changed / 3)
    np.testing.assert_array_equal(dropquery.score(p, views, iou), want)
    assert dropquery.score(p[:0], views[:, :0], iou[:, :0]).shape == (0,)
    unseen = np.where(iou[:, :, None] > 0, views, np.nan)
    np.testing.assert_array_equal(dropquery.score(p, unseen, iou), want), "what has no counterpart may hold anything"
    with pytest.raises(LabelwiseError, match="there are no views"):
        dropquery.score(p, views[:0], iou[:0])
    views[1, 9] = math.nan
    with pytest.raises(LabelwiseError, match="view_probs of view 1: row 9"):
        dropquery.score(p, views, np.ones((3, 50)))


def test_each_cluster_gives_the_row_nearest_to_its_centre():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [50, 0], [0, 50]])
    x = np.concatenate([c + rng.standard_normal((s, 2)) for c, s in zip(centres, (9, 20, 12), strict=True)])
    x, group = x.astype(np.float32), np.repeat([0, 1, 2], [9, 20, 12])
    scores = np.ones(41)
    scores[group == 2] = 0.5
    for above, groups in ((0.5, [1, 0]), (None, [1, 2, 0])):
        rows, why = kmeans.select(
            scores, x, len(groups), np.random.default_rng(1), above=above, normalise=False, explain=True
        )
        want = []
        for g in groups:
            members = [row for row in range(41) if group[row] == g]
            mean = sum(x[row].astype(float) for row in members) / len(members)
            want.append(min(members, key=lambda row: (((x[row] - mean) ** 2).sum(), row)))
        assert rows.tolist() == want
        assert why["size"].tolist() == [int((group == g).sum()) for g in groups]
    few = kmeans.select(scores, x, 41, np.random.default_rng(1), above=0.5, normalise=False)
    assert sorted(few.tolist()) == list(range(41)) and set(group[few[:29]]) == {0, 1}
    none, why = kmeans.select(scores, x, 4, np.random.default_rng(1), above=2.0, explain=True)
    assert none.tolist() == [0, 1, 2, 3] and why["size"].tolist() == [0] * 4, "by score where nothing is in doubt"


@pytest.mark.parametrize("n", [0, 1, 30])
def test_k_means_of_degenerate_rows(n):
    same = np.full((n, 3), 0.5, np.float32)
    for budget in (0, 1, 7, 60):
        for made in (same, np.zeros_like(same), same * np.arange(n, dtype=np.float32)[:, None]):
            rows = kmeans.select(np.zeros(n), made, budget, np.random.default_rng(0))
            assert len(set(rows.tolist())) == len(rows) == min(n, budget)
    with pytest.raises(LabelwiseError, match="one row per score"):
        kmeans.select(np.zeros(n + 1), same, 2, np.random.default_rng(0))


# PPAL


def slow_difficulty(found: Detections, offsets, objects, classes, xi) -> list[float]:
    by_class: dict[int, list[float]] = {}
    for image in range(len(offsets) - 1):
        for row in range(offsets[image], offsets[image + 1]):
            best = 0.0
            for d in range(found.offsets[image], found.offsets[image + 1]):
                a, b = objects[row].astype(float), found.boxes[d].astype(float)
                wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
                shared = wide * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
                both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
                iou = shared / both if both > 0 else 0.0
                p = min(1.0, float(found.scores[d]) * float(found.probs[d, classes[row]]) / float(max(found.probs[d])))
                best = max(best, p**xi * iou ** (1 - xi) if iou > 0 else 0.0)
            by_class.setdefault(int(classes[row]), []).append(best)
    return [1 - sum(by_class.get(c, [0])) / len(by_class.get(c, [0])) for c in range(found.probs.shape[1])]


def boxes(n: int, rng: np.random.Generator) -> np.ndarray:
    corner = rng.integers(0, 20, (n, 2))
    return np.concatenate([corner, corner + rng.integers(0, 15, (n, 2))], axis=1).astype(np.float32)


@pytest.mark.parametrize("xi", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("images", "detections", "objects"), [(6, 30, 20), (3, 0, 5), (3, 5, 0), (0, 0, 0)])
def test_the_difficulty_of_a_class_is_that_of_a_loop(images, detections, objects, xi):
    rng = np.random.default_rng(images)
    where = lambda n: np.append(0, np.sort(rng.integers(0, n + 1, images))) if images else np.array([0])  # noqa: E731
    offsets, of_objects = where(detections).astype(np.int64), where(objects).astype(np.int64)
    if images:
        offsets[-1], of_objects[-1] = detections, objects
    probs = distributions(detections, 4)
    found = Detections(offsets, boxes(detections, rng), probs, rng.random(detections, np.float32), probs[:, :0])
    truth, classes = boxes(objects, rng), rng.integers(0, 3, objects)
    got = difficulty(found, of_objects, truth, classes, xi=xi)
    np.testing.assert_allclose(got, slow_difficulty(found, of_objects, truth, classes, xi), rtol=1e-9, atol=1e-12)
    assert got[3] == 1 and (got >= 0).all() and (got <= 1).all()
    with pytest.raises(LabelwiseError, match="xi is 2"):
        difficulty(found, of_objects, truth, classes, xi=2.0)


def test_uncertainty_rises_with_the_difficulty_of_the_class():
    rng = np.random.default_rng(0)
    s, labels = np.append(rng.random(40, np.float32), [0, 1]), np.append(rng.integers(0, 4, 40), [0, 1])
    d = rng.random(4)
    for alpha, beta in ((0.3, 0.2), (1.0, 0.0), (0.05, 3.0)):
        want = []
        for p, c in zip(s.astype(float), labels, strict=True):
            entropy = -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
            want.append(entropy * (1 + alpha * beta * math.log((math.exp(1 / alpha) - 1) * d[c] + 1)))
        np.testing.assert_allclose(calibrated_uncertainty.score(s, labels, d, alpha=alpha, beta=beta), want, atol=1e-12)
    for wrong, message in (({"alpha": 0.0}, "alpha is 0"), ({"beta": -1.0}, "beta is -1")):
        with pytest.raises(LabelwiseError, match=message):
            calibrated_uncertainty.score(s, labels, d, **wrong)
    with pytest.raises(LabelwiseError, match="row 0 is 9"):
        calibrated_uncertainty.score(s[:1], np.array([9]), d)


def slow_distances(offsets, probs, scores, features) -> np.ndarray:
    n = len(offsets) - 1
    inside = [range(offsets[i], offsets[i + 1]) for i in range(n)]

    def one_way(i: int, j: int) -> float:
        if not inside[i] or not inside[j]:
            return 0.0 if not inside[i] and not inside[j] else 2.0
        weight = [float(scores[a]) for a in inside[i]]
        weight = weight if sum(weight) else [1.0] * len(weight)
        nearest = []
        for a in inside[i]:
            apart = [2.0]
            for b in inside[j]:
                if probs[a].argmax() == probs[b].argmax():
                    u, v = features[a].astype(float), features[b].astype(float)
                    length = math.sqrt((u @ u) * (v @ v))
                    apart.append(1 - (u @ v) / length if length else 1.0)
            nearest.append(min(apart))
        return sum(w * x for w, x in zip(weight, nearest, strict=True)) / sum(weight)

    return np.array([[0.0 if i == j else (one_way(i, j) + one_way(j, i)) / 2 for j in range(n)] for i in range(n)])


def slow_medoids(away, scores, budget) -> list[int]:
    n = len(away)
    medoids = [max(range(n), key=lambda r: (scores[r], -r))]
    while len(medoids) < min(budget, n):
        left = [r for r in range(n) if r not in medoids]
        medoids.append(max(left, key=lambda r: (min(away[r][m] for m in medoids), -r)))
    for _ in range(100):
        clusters: list[list[int]] = [[] for _ in medoids]
        for r in range(n):
            c = medoids.index(r) if r in medoids else min(range(len(medoids)), key=lambda c: (away[r][medoids[c]], c))
            clusters[c].append(r)
        moved = [min(rows, key=lambda r: (round(sum(away[r][q] for q in rows), 9), r)) for rows in clusters]
        if moved == medoids:
            break
        medoids = moved
    return [m for _, m in sorted((-len(rows), m) for rows, m in zip(clusters, medoids, strict=True))]


CASES = ["ordinary", "one class", "no boxes", "same features", "zero features", "zero confidences", "lattice"]


@pytest.mark.parametrize("case", CASES)
def test_the_medoids_are_those_of_a_loop(case, monkeypatch):
    rng = np.random.default_rng(3)
    for n, budget in ((20, 6), (20, 1), (20, 20), (1, 3), (9, 12)):
        sizes = rng.integers(0, 4, n) * (case != "no boxes")
        offsets = np.append(0, np.cumsum(sizes)).astype(np.int64)
        m = int(offsets[-1])
        probs = distributions(m, 1 if case == "one class" else 3, n)
        confidence, features = rng.random(m, np.float32), rng.standard_normal((m, 5)).astype(np.float32)
        if case == "same features":
            features[:] = 1
        if case == "lattice":
            features = rng.integers(0, 2, (m, 5)).astype(np.float32)
        features *= case != "zero features"
        confidence *= case != "zero confidences"
        want = slow_distances(offsets, probs, confidence, features)
        for block in (1 << 20, 7):
            monkeypatch.setattr(category_matching, "BLOCK", block)
            got = category_matching.distances(offsets, probs, confidence, features)
            np.testing.assert_allclose(got, want, atol=1e-6 if case == "lattice" else 1e-9)
        scores = rng.integers(0, 3, n) / 2
        rows, why = category_matching.select(scores, offsets, probs, confidence, features, budget, explain=True)
        assert rows.tolist() == slow_medoids(got, scores, budget)
        assert why["size"].sum() == n and (np.diff(why["size"]) <= 0).all()
    assert category_matching.select(scores, offsets, probs, confidence, features, 0).shape == (0,)


def test_two_images_of_one_object_are_apart():
    """The authors' code gives 0 here."""
    probs, one = np.ones((2, 1)), np.ones(2)
    away = category_matching.distances(np.arange(3), probs, one, np.array([[1.0, 0], [0, 1]]))
    assert away.tolist() == [[0, 1], [1, 0]]


def test_too_many_images_and_bad_features_are_refused(monkeypatch):
    offsets, probs, one = np.arange(4), np.ones((3, 1)), np.ones(3)
    bad = np.eye(3)
    bad[1, 2] = np.nan
    with pytest.raises(LabelwiseError, match="box_features: row 1"):
        category_matching.select(one, offsets, probs, one, bad, 1)
    monkeypatch.setattr(category_matching, "MOST_IMAGES", 2)
    with pytest.raises(LabelwiseError, match="keep = 4"):
        category_matching.select(one, offsets, probs, one, np.eye(3), 1)
