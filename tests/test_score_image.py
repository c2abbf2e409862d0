"""Image-level and committee scores: slow references, degenerate input, and where published code goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import entr, rel_entr

from labelwise.score import (
    _rows,
    bald,
    cald,
    committee,
    enms,
    entropy,
    learning_loss,
    localization_stability,
    localization_tightness,
    vaal,
)
from labelwise.score._images import check_offsets, per_image
from labelwise.types import LabelwiseError

LN2, IMAGES = float(np.log(2)), 25
CASES = ["random", "no_boxes", "one_class", "one_view", "identical", "all_empty_but_one", "unmatched", "double"]


def distributions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    raw = rng.random(shape, dtype=np.float32) ** 4 * (rng.random(shape) > 0.3)
    raw[..., 0] += 1e-3
    return (raw / raw.sum(-1, keepdims=True)).astype(np.float32)


def make(case: str, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    n = 0 if case == "no_boxes" else 90
    classes, views = (1 if case == "one_class" else 4), (1 if case == "one_view" else 3)
    image = np.full(n, 7) if case == "all_empty_but_one" else np.sort(rng.integers(2, 24, n))
    menu = {
        "probs": distributions(rng, n, classes),
        "scores": rng.random(n, dtype=np.float32),
        "features": rng.normal(size=(n, 3)).astype(np.float32) * (rng.random((n, 1)) > 0.2).astype(np.float32),
        "tightness": rng.random(n, dtype=np.float32),
        "view_probs": distributions(rng, views, n, classes),
        "view_scores": rng.random((views, n), dtype=np.float32),
        "view_iou": rng.random((views, n), dtype=np.float32) * (rng.random((views, n)) > 0.3),
        "offsets": np.searchsorted(image, np.arange(IMAGES + 1)),
    }
    if case == "identical":
        menu["probs"][:], menu["features"][:], menu["view_probs"][:] = menu["probs"][0], 1, menu["probs"][0]
    if case == "unmatched":  # whatever stands in a row without counterpart does not count
        menu["view_iou"][:], menu["view_probs"][:], menu["view_scores"][:] = 0, np.nan, 1
    menu["view_iou"] = menu["view_iou"].astype(np.float32)
    if case == "double":
        menu = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in menu.items()}
    return menu


def boxes(menu: dict, image: int) -> range:
    return range(int(menu["offsets"][image]), int(menu["offsets"][image + 1]))


def js(p: np.ndarray, q: np.ndarray) -> float:
    p, q = p.astype(float), q.astype(float)
    return float(rel_entr(p, (p + q) / 2).sum() + rel_entr(q, (p + q) / 2).sum()) / 2


def call(method, menu: dict, *names: str, **settings) -> np.ndarray:
    got = method.score(*(menu[name] for name in names), **settings)
    assert got.dtype == np.float64 and np.isfinite(got).all() and (got >= 0).all()
    return got


def call_cald(menu: dict, **settings) -> np.ndarray:
    names = ("probs", "scores", "view_probs", "view_scores", "view_iou", "offsets")
    return call(cald, menu, *names, **settings)


def slow_cald(m: dict, beta: float = 1.3) -> list[float]:
    out = []
    for image in range(IMAGES):
        per_view = []
        for v in range(len(m["view_iou"])):
            found = []
            for b in boxes(m, image):
                iou = float(m["view_iou"][v, b])
                divergence = js(m["probs"][b], m["view_probs"][v, b]) if iou > 0 else LN2
                seen = float(m["view_scores"][v, b]) if iou > 0 else 0.0
                found.append(abs(iou + 0.5 * (float(m["scores"][b]) + seen) * (1 - divergence) - beta))
            per_view.append(min(found, default=0.0))
        out.append(max(beta, 2 - beta) - float(np.mean(per_view)))
    return out


def slow_enms(m: dict, threshold: float = 0.5) -> list[float]:
    out = []
    for image in range(IMAGES):
        rest = sorted(boxes(m, image), key=lambda b: (-entr(m["probs"][b].astype(float)).sum(), b))
        total = 0.0
        while rest:
            first, others = rest[0], rest[1:]
            total += float(entr(m["probs"][first].astype(float)).sum())
            rest = [b for b in others if not (alike(m, first, b, threshold))]
        out.append(total)
    return out


def alike(m: dict, a: int, b: int, threshold: float) -> bool:
    f, g = m["features"][a].astype(float), m["features"][b].astype(float)
    size = np.linalg.norm(f) * np.linalg.norm(g)
    same = m["probs"][a].argmax() == m["probs"][b].argmax()
    return bool(same and (f @ g / size if size else 0.0) > threshold)


def slow_stability(m: dict, weight: float = 1.0) -> list[float]:
    out = []
    for image in range(IMAGES):
        rows = list(boxes(m, image))
        p = [float(m["scores"][b]) for b in rows]
        stable = [float(np.mean(m["view_iou"][:, b].astype(float))) for b in rows]
        s = sum(x * y for x, y in zip(p, stable, strict=True)) / sum(p) if rows else 1.0
        out.append(max((1 - x for x in p), default=0.0) - weight * s + weight)
    return out


def slow_tightness(m: dict) -> list[float]:
    gap = np.abs(m["tightness"].astype(float) + m["scores"].astype(float) - 1)
    return [1 - min((gap[b] for b in boxes(m, image)), default=1.0) for image in range(IMAGES)]


def members(m: dict, b: int) -> list[np.ndarray]:
    seen = [m["view_probs"][v, b] for v in range(len(m["view_iou"])) if m["view_iou"][v, b] > 0]
    return [x.astype(float) for x in (m["probs"][b], *seen)]


def slow_bald(m: dict) -> list[float]:
    out = []
    for b in range(len(m["probs"])):
        p = np.array(members(m, b))
        out.append(float(entr(p.mean(axis=0)).sum() - entr(p).sum(axis=1).mean()))
    return out


def slow_committee(m: dict) -> np.ndarray:
    size = 1 + len(m["view_iou"])
    about_class, about_place = [], []
    for b in range(len(m["probs"])):
        seen = members(m, b)
        disagreement = [float(rel_entr(p, np.mean(seen, axis=0)).sum()) for p in seen]
        about_class.append(np.mean(disagreement + [np.log(size)] * (size - len(seen))))
        about_place.append(1 - np.mean(m["view_iou"][:, b].astype(float)))
    return np.array(about_class) / np.log(size) * np.array(about_place)


@pytest.mark.parametrize("case", CASES)
def test_against_the_slow_references(case, monkeypatch):
    for seed in range(3):
        m = make(case, seed)
        for beta in (1.3, 0.4):
            np.testing.assert_allclose(call_cald(m, beta=beta), slow_cald(m, beta), atol=2e-6)
        for threshold in (0.5, -0.2, 0.95):
            got = call(enms, m, "probs", "features", "offsets", threshold=threshold)
            np.testing.assert_allclose(got, slow_enms(m, threshold), atol=1e-5)
        for weight in (1.0, 0.0, 2.5):
            got = call(localization_stability, m, "scores", "view_iou", "offsets", weight=weight)
            np.testing.assert_allclose(got, slow_stability(m, weight), atol=1e-6)
        got = call(localization_tightness, m, "scores", "tightness", "offsets")
        np.testing.assert_allclose(got, slow_tightness(m), atol=1e-7)
        np.testing.assert_allclose(call(bald, m, "probs", "view_probs", "view_iou"), slow_bald(m), atol=1e-6)
        np.testing.assert_allclose(call(committee, m, "probs", "view_probs", "view_iou"), slow_committee(m), atol=1e-6)
        monkeypatch.setattr(_rows, "BLOCK", 20)  # the next seeds: many blocks, the last one short


def test_a_reduction_leaves_empty_images_alone():
    values, offsets = np.array([3.0, 1, 2]), np.array([0, 0, 2, 2, 3, 3])
    assert per_image(np.minimum, values, offsets, empty=9).tolist() == [9, 1, 9, 2, 9]
    assert per_image(np.add, values[:0], np.zeros(4, int), empty=0).tolist() == [0, 0, 0]
    plain = np.minimum.reduceat(values, offsets[:4])
    assert plain.tolist() == [3, 1, 2, 2], "why reduceat alone will not do: an empty image takes the next box's value"


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (np.array([0, 2, 1, 3]), "image 1"),
        (np.array([1, 3]), "from 1 to 3"),
        (np.array([0, 2]), "0 to 3"),
        (np.zeros(0, int), "whole numbers"),
        (np.array([0.0, 3.0]), "whole numbers"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(offsets, message):
    with pytest.raises(LabelwiseError, match=message):
        check_offsets(offsets, 3)


def test_settings_out_of_range_and_no_views_are_refused():
    m, none = make("random"), {"view_probs": np.zeros((0, 90, 4)), "view_iou": np.zeros((0, 90))}
    with pytest.raises(LabelwiseError, match="threshold"):
        call(enms, m, "probs", "features", "offsets", threshold=1.5)
    with pytest.raises(LabelwiseError, match="weight"):
        call(localization_stability, m, "scores", "view_iou", "offsets", weight=-1)
    for method in (bald, committee):
        with pytest.raises(LabelwiseError, match="no views"):
            call(method, m | none, "probs", "view_probs", "view_iou")
    with pytest.raises(LabelwiseError, match="no views"):
        call(localization_stability, m | none, "scores", "view_iou", "offsets")
    with pytest.raises(LabelwiseError, match="no views"):
        call_cald(m | none | {"view_scores": np.zeros((0, 90))})


def one_box(scores: list[float], iou: list[float], view_scores: list[float]) -> dict:
    """One image per box, one view; every box is of class 0 for certain."""
    sure = np.tile([1.0, 0.0], (len(scores), 1))
    rest = {"view_iou": np.array([iou]), "view_scores": np.array([view_scores]), "view_probs": sure[None]}
    return {"probs": sure, "scores": np.array(scores), "offsets": np.arange(len(scores) + 1)} | rest


def test_cald_a_box_without_counterpart_is_not_compared_with_box_0():
    # The view holds one sure box of the same class elsewhere, IoU 0. The released code takes the argmax of IoUs that
    # are all 0, box 0: m = 0 + (1 + 1)/2 · 1 = 1, |m - 1.3| = 0.3. There is no counterpart: m = (1 - ln 2)/2, 1.1466.
    assert call_cald(one_box([1.0], [0.0], [1.0])) == pytest.approx([1.3 - abs(0.5 * (1 - LN2) - 1.3)])


def test_cald_a_lost_image_is_ranked_by_its_distance_and_not_stopped_at_1():
    # |m - 1.3| is 1.1466 and 1.2233: the released code starts its minimum at 1.0 and cannot tell them apart.
    sure, weak = call_cald(one_box([1.0, 0.5], [0, 0], [0, 0]))
    assert sure > weak and min(1.0, 1.3 - sure) == min(1.0, 1.3 - weak) == 1.0


def test_cald_an_image_without_boxes_is_the_most_informative():
    m = make("random")
    empty = np.diff(m["offsets"]) == 0
    got = call_cald(m)
    assert empty.any() and (got[empty] == 1.3).all() and (got[~empty] < 1.3).all()


def test_enms_a_sure_box_counts_nothing():
    # The unofficial code takes -p log2 p - (1-p) log2 (1-p): 0 · -inf = NaN at p = 1.
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.isnan(-1.0 * np.log2(np.float64(1)) - 0.0 * np.log2(np.float64(0)))
    probs = np.array([[1.0, 0], [0.5, 0.5]])
    assert enms.score(probs, np.eye(2), np.array([0, 2])) == pytest.approx([LN2])


def test_enms_bounds_a_suppressed_box_suppresses_nothing_and_huge_features():
    # A box that is suppressed keeps others: 0 covers 1, 1 would cover 2, 0 does not cover 2.
    angle = np.radians([0, 50, 100])
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    probs = np.array([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2]])
    each = entropy.score(probs)
    assert enms.score(probs, features, np.array([0, 3])) == pytest.approx([each[0] + each[2]])
    huge = (features * 1e30).astype(np.float32)
    assert enms.score(probs, huge, np.array([0, 3])) == pytest.approx([each[0] + each[2]])
    assert enms.score(probs, np.ones((3, 2)), np.array([0, 3]), threshold=1.0) == pytest.approx([each.sum()])
    assert enms.score(probs, np.zeros((3, 2)), np.array([0, 3])) == pytest.approx([each.sum()])


def test_stability_an_image_without_boxes_is_the_least_informative():
    # The released code ranks by S_I - U_C and gives the empty image 0: between the stable (1) and the lost one (-1).
    scores, iou = np.array([1.0, 0.0]), np.array([[1.0, 0.0]])
    stable, lost, empty = localization_stability.score(scores, iou, np.array([0, 1, 2, 2]))
    assert (stable, lost, empty) == (0.0, 2.0, 0.0)


def test_tightness_needs_an_iou_that_is_1_for_equal_boxes():
    # A tight box (T = 1) of no class (P_max = 0) is the clearest case: 1 - |1 + 0 - 1| = 1. The released IoU of a
    # 10 × 10 box with itself is 11 · 11 / (2 · 10 · 11 - 11 · 11) = 1.22, which is refused here.
    assert localization_tightness.score(np.zeros(1), np.ones(1), np.array([0, 1])).tolist() == [1]
    released = 11 * 11 / (2 * 10 * 11 - 11 * 11)
    with pytest.raises(LabelwiseError, match="tightness: row 0"):
        localization_tightness.score(np.zeros(1), np.array([released]), np.array([0, 1]))


def test_committee_a_constant_part_leaves_the_other_one_to_decide():
    """Published min-max scaling over the pool gives 0/0 here, and for a pool of one box."""
    p, q = np.array([[1, 0], [0.5, 0.5]]), np.array([[[0, 1], [0.5, 0.5]]])
    same_place = committee.score(p, q, np.array([[0.5, 0.5]]))
    same_class = committee.score(p[:1].repeat(2, 0), q[:, :1].repeat(2, 1), np.array([[0.5, 1.0]]))
    assert same_place.tolist() == [0.5, 0] and same_class.tolist() == [0.5, 0]
    assert committee.score(p[:1], q[:, :1], np.array([[0.5]])).tolist() == [0.5]


def test_a_member_that_misses_the_box_disagrees_for_the_committee_and_is_silent_for_bald():
    p, q = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[[0.5, 0.5], [0.5, 0.5]]])
    iou = np.array([[0.0, 1.0]])
    assert committee.score(p, q, iou).tolist() == [0.5, 0]
    assert bald.score(p, q, iou).tolist() == [0, 0]


def test_predicted_losses_keep_their_order_and_adversary_turns_it_round():
    values = np.random.default_rng(0).random(50, dtype=np.float32)
    got = learning_loss.score(values)
    assert np.argsort(got).tolist() == np.argsort(values).tolist()
    assert learning_loss.score(values[:0]).shape == (0,)
    d = np.array([0.1, 1 + 5e-6, 0.9], np.float32)
    assert np.argsort(-vaal.score(d)).tolist() == [0, 2, 1] and (vaal.score(d) >= 0).all()
