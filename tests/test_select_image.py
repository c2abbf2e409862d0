"""Selectors of CALD and DivProto: slow references, degenerate input, and where published code goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import entr, rel_entr, softmax

from labelwise.select import class_complement, diverse_prototype
from labelwise.types import LabelwiseError

CASES = ["random", "ties", "no_boxes", "one_class", "identical", "crowded", "nothing_labelled", "float32"]
BUDGETS = [0, 1, 7, 30, 60, 99]


def make(case: str, seed: int, n: int = 60) -> dict:
    rng = np.random.default_rng(seed)
    m = {"no_boxes": 0, "crowded": 400}.get(case, 100)
    classes = 1 if case == "one_class" else 5
    image = np.sort(rng.integers(1, n - 1, m))  # the first and the last image hold nothing
    probs = rng.dirichlet(np.full(classes, 0.3), m)
    features = rng.normal(size=(m, 3)) * (rng.random((m, 1)) > 0.1)
    scores = rng.integers(0, 4, n) / 4 if case == "ties" else rng.random(n)
    menu = {
        "scores": scores,
        "box_offsets": np.searchsorted(image, np.arange(n + 1)),
        "box_probs": probs,
        "box_scores": rng.integers(0, 5, m) / 4 if case == "ties" else rng.random(m),
        "box_features": features,
        "counts": np.zeros(classes, int) if case == "nothing_labelled" else rng.integers(0, 40, classes),
    }
    if case == "identical":
        menu["box_probs"][:], menu["box_features"][:], menu["box_scores"][:] = probs[0], features[0], 0.5
    if case == "one_class":
        menu["box_probs"][:] = 1  # every entropy is 0
    if case == "float32":
        menu = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in menu.items()}
    return menu


def complement(m: dict, budget: int, **settings):
    names = ("scores", "box_offsets", "box_probs", "box_scores", "counts")
    return class_complement.select(*(m[k] for k in names), budget, **settings)


def prototype(m: dict, budget: int, **settings):
    names = ("scores", "box_offsets", "box_probs", "box_scores", "box_features", "counts")
    return diverse_prototype.select(*(m[k] for k in names), budget, **settings)


def boxes(m: dict, row: int) -> range:
    return range(int(m["box_offsets"][row]), int(m["box_offsets"][row + 1]))


def shown(m: dict, row: int) -> np.ndarray:
    """Largest confidence of every class."""
    out = np.zeros(len(m["counts"]))
    for b in boxes(m, row):
        c = int(m["box_probs"][b].argmax())
        out[c] = max(out[c], float(m["box_scores"][b]))
    return out


def by_score(m: dict) -> list[int]:
    return sorted(range(len(m["scores"])), key=lambda r: (-m["scores"][r], r))


def divergence(total: np.ndarray, images: float, other: np.ndarray) -> float:
    p, q = softmax(total / images if images else total), softmax(other)
    return float(rel_entr(p, (p + q) / 2).sum() + rel_entr(q, (p + q) / 2).sum()) / 2


def slow_complement(m: dict, budget: int, pool: float = 1.2, objects: float = 1.0) -> list[int]:
    k = min(budget, len(m["scores"]))
    left = by_score(m)[: max(k, round(min(pool * k, len(m["scores"])) if k else 0))]
    total, labelled, picks = m["counts"].astype(float), m["counts"].sum() / objects, []
    for _ in range(k):
        found = [divergence(total, labelled, shown(m, r)) for r in left]
        row = next(r for r, js in zip(left, found, strict=True) if js >= max(found) - 1e-11)
        picks.append(row)
        left.remove(row)
        total, labelled = total + shown(m, row), labelled + 1
    return picks


def prototypes(m: dict, row: int) -> dict[int, np.ndarray]:
    """Entropy-weighted mean feature of every class of the image."""
    out = {}
    for c in {int(m["box_probs"][b].argmax()) for b in boxes(m, row)}:
        own = [b for b in boxes(m, row) if m["box_probs"][b].argmax() == c]
        weight = np.array([entr(m["box_probs"][b].astype(float)).sum() for b in own])
        weight = weight / weight.sum() if weight.sum() > 0 else np.full(len(own), 1 / len(own))
        out[c] = sum(w * m["box_features"][b].astype(float) for w, b in zip(weight, own, strict=True))
    return out


def cosine(f: np.ndarray, g: np.ndarray) -> float:
    size = np.linalg.norm(f) * np.linalg.norm(g)
    return float(f @ g / size) if size > 0 else 0.0


def slow_prototype(m: dict, budget: int, intra=0.7, inter=0.3, minor_share=0.5, quota_share=0.75) -> list[int]:
    k, classes = min(budget, len(m["scores"])), len(m["counts"])
    rare = sorted(range(classes), key=lambda c: (m["counts"][c], c))[: max(1, int(minor_share * classes))]
    left = dict.fromkeys(rare, quota_share * k / len(rare))
    picks: list[int] = []
    known: list[dict[int, np.ndarray]] = []
    for row in by_score(m):
        own, confidence = prototypes(m, row), shown(m, row)
        likeness = [max((cosine(f, p[c]) for p in known if c in p), default=-1.0) for c, f in own.items()]
        open_classes = [c for c in rare if left[c] > 0 and confidence[c] > inter]
        if len(picks) < k and open_classes and min(likeness) < intra:
            picks.append(row)
            known.append(own)
            for c in rare:
                left[c] -= confidence[c] > inter
    return (picks + [r for r in by_score(m) if r not in picks])[:k]


@pytest.mark.parametrize("case", CASES)
def test_against_the_slow_references(case):
    for seed, budget in enumerate(BUDGETS):
        m = make(case, seed)
        before = {k: v.copy() for k, v in m.items()}
        for settings in ({}, {"pool": 2.0, "objects_per_image": 2.5}, {"pool": np.inf}, {"pool": 1.0}):
            short = {"pool": settings.get("pool", 1.2), "objects": settings.get("objects_per_image", 1.0)}
            assert complement(m, budget, **settings).tolist() == slow_complement(m, budget, **short), settings
        for settings in (
            {},
            {"intra": -0.5},
            {"intra": 0.99, "inter": 0.0, "minor_share": 1.0, "quota_share": 1.0},
            {"inter": 0.8, "minor_share": 0.2},
            {"quota_share": 0.0},
        ):
            assert prototype(m, budget, **settings).tolist() == slow_prototype(m, budget, **settings), settings
        assert all((m[k] == v).all() for k, v in before.items()), "an input was changed"


def images(*shows: tuple[int, float], classes: int = 3, counts: tuple[int, ...] = (4, 0, 0)) -> dict:
    """One sure box per image, of this class and with this confidence; falling scores."""
    n = len(shows)
    return {
        "scores": np.arange(n, 0, -1.0),
        "box_offsets": np.arange(n + 1),
        "box_probs": np.eye(classes)[[c for c, _ in shows]],
        "box_scores": np.array([s for _, s in shows]),
        "box_features": np.eye(n),
        "counts": np.array(counts),
    }


def test_complement_scores_again_after_every_pick():
    # Two images of class 1 and one, a little less sure, of class 2; all labelled boxes are of class 0. The released
    # code never adds a pick to the labelled boxes, so it takes both images of class 1; re-scored, class 2 is newer.
    m = images((1, 1.0), (1, 1.0), (2, 0.9))
    static = [divergence(m["counts"].astype(float), 4.0, shown(m, r)) for r in range(3)]
    assert sorted(range(3), key=lambda r: -static[r])[:2] == [0, 1]
    assert complement(m, 2, pool=1.5).tolist() == [0, 2]


def test_complement_keeps_the_budget_with_images_without_boxes():
    # The released code takes every image without detections first, however many: 3 for a budget of 1.
    m = images((1, 1.0)) | {"scores": np.arange(4.0), "box_offsets": np.array([0, 1, 1, 1, 1])}
    assert complement(m, 1, pool=4).tolist() == [0], "uniform differs less from class 0 than class 1 does"
    assert complement(m, 1, pool=1).tolist() == [3], "the pool is the best image alone"


def test_complement_with_the_ratio_of_the_data_is_the_released_formula_at_the_first_pick():
    m = make("random", 3)
    labelled_images = 20
    ratio = m["counts"].sum() / labelled_images
    rows, why = complement(m, 1, pool=np.inf, objects_per_image=ratio, explain=True)
    released = [divergence(m["counts"].astype(float), labelled_images, shown(m, r)) for r in range(60)]
    assert rows[0] == np.argmax(released) and why["score"][0] == pytest.approx(max(released))


def test_complement_plain_counts_would_be_one_hot():
    # Why the mean: with 900 boxes of class 0 the softmax of counts says 1, whatever the other classes.
    assert softmax([900.0, 500, 0])[0] == 1
    m = images((1, 1.0), (2, 1.0), counts=(900, 500, 0))
    assert complement(m, 1, pool=2).tolist() == [1], "class 2 is rarer than class 1"


def test_complement_ties_go_to_the_higher_score_then_the_lower_row():
    m = images((1, 0.5), (2, 0.5), (1, 0.5)) | {"scores": np.array([1.0, 2, 2])}
    assert complement(m, 3, pool=1).tolist()[0] == 1
    m["scores"][:] = 1
    assert complement(m, 1, pool=3).tolist() == [0]


def test_prototype_a_new_class_makes_an_image_different():
    # Image 1 repeats the feature of class 0 and adds class 1. The unofficial codes skip a class without picks, so that
    # the only similarity is 1 and the image is rejected.
    m = images((0, 0.9), (0, 0.9), (0, 0.9), classes=2, counts=(0, 9))
    m["box_offsets"] = np.array([0, 1, 3, 4])
    m["box_probs"] = np.eye(2)[[0, 0, 1, 0]]
    m["box_scores"] = np.full(4, 0.9)
    m["box_features"] = np.array([[1.0, 0], [1, 0], [0, 1], [1, 0]])
    rows, why = prototype(m, 2, quota_share=1.0, explain=True)
    assert rows.tolist() == [0, 1] and why["quota"].tolist() == [1, 1]
    m["box_offsets"] = np.array([0, 1, 2, 4])  # now image 2 shows the new class
    assert prototype(m, 2, quota_share=1.0).tolist() == [0, 2]


def test_prototype_sure_boxes_have_a_prototype():
    # Entropy weights that are all 0: the unofficial codes divide 0 by 0. The plain mean makes images 0 and 1 alike.
    m = images((0, 0.9), (0, 0.9), (0, 0.9), classes=2, counts=(0, 9))
    m["box_features"] = np.array([[1.0, 0], [2, 0], [0, 1]])
    assert prototype(m, 2).tolist() == [0, 2]


def test_prototype_a_full_quota_closes_its_class():
    # Budget 4, two minority classes of four, 0.75 · 4 / 2 = 1.5: two images each. The third of class 0 waits.
    shows = [(0, 0.9), (0, 0.8), (0, 0.7), (1, 0.9), (1, 0.2), (2, 0.9)]
    m = images(*shows, classes=4, counts=(0, 1, 5, 9))
    rows, why = prototype(m, 4, explain=True)
    assert rows.tolist() == [0, 1, 3, 2] and why["quota"].tolist() == [1, 1, 1, 0]
    assert why["minority"].tolist() == [0.9, 0.8, 0.9, 0.7] and why["score"].tolist() == [6, 5, 3, 4]


def test_prototype_the_budget_is_filled_by_score():
    m = images((2, 0.9), (1, 0.9), (2, 0.9), counts=(3, 2, 9))
    m["box_features"][:] = 1
    assert prototype(m, 2).tolist() == [1, 0] and prototype(m, 9).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"box_offsets": np.array([0, 2, 1, 3])}, {}, "row 1"),
        ({"box_offsets": np.array([0, 1, 2, 2])}, {}, "0 to 2"),
        ({"box_offsets": np.array([0, 3])}, {}, "box_offsets"),
        ({"box_scores": np.array([0.5, 1.5, 0.5])}, {}, "row 1"),
        ({"box_scores": np.array([0.5, np.nan])}, {}, "box_scores"),
        ({"box_probs": np.array([[1.0, 0, 0], [0.5, 0.2, 0], [1, 0, 0]])}, {}, "row 1"),
        ({"box_probs": np.array([[1.0, 0, 0], [np.nan, 1, 0], [1, 0, 0]])}, {}, "row 1"),
        ({"counts": np.array([1, 2])}, {}, "one column"),
        ({"counts": np.array([1, -2, 0])}, {}, "class 1"),
        ({"box_features": np.array([[1.0], [2], [np.inf]])}, {"intra": 0.7}, "row 2"),
        ({"box_features": np.ones((2, 1))}, {"intra": 0.7}, "box_features"),
        ({}, {"intra": 1.5}, "intra"),
        ({}, {"inter": -0.1}, "inter"),
        ({}, {"minor_share": 0.0}, "minor_share"),
        ({}, {"quota_share": np.nan}, "quota_share"),
        ({}, {"pool": 0.5}, "pool"),
        ({}, {"objects_per_image": 0.0}, "objects_per_image"),
    ],
)
def test_bad_input_is_refused(change, settings, message):
    m = images((0, 0.9), (1, 0.9), (2, 0.9)) | change
    methods = [complement] if set(settings) & {"pool", "objects_per_image"} else [prototype]
    for method in methods if settings else [complement, prototype]:
        with pytest.raises(LabelwiseError, match=message):
            method(m, 2, **settings)
