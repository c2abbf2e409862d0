"""Merge rules: their contract over the folder, slow references beside them, numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from labelwise import catalog
from labelwise.merge import crowdlab, dawid_skene, majority
from labelwise.merge._another_opinion import worth
from labelwise.merge._people import people
from labelwise.merge._same_objects import SAME, mean_boxes, same_objects
from labelwise.types import LabelwiseError, Opinions
from labelwise.types.overlap import iou_matrix

RULES = catalog.names("merge")


def drawn(
    seed: int, items: int = 200, persons: int = 5, classes: int = 4, each: int = 3, right: float | None = None
) -> tuple[Opinions, np.ndarray, np.ndarray]:
    """Opinions, the true classes, how often each person is right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, items)
    skill = rng.uniform(0.5, 0.95, persons) if right is None else np.full(persons, right)
    item = np.repeat(np.arange(items), each)
    person = np.concatenate([rng.permutation(persons)[:each] for _ in range(items)])
    wrong = (truth[item] + rng.integers(1, max(classes, 2), len(item))) % classes
    label = np.where(rng.random(len(item)) < skill[person], truth[item], wrong)
    probs = rng.dirichlet(np.ones(classes), items)
    probs[np.arange(items), truth] += 0.5
    probs /= probs.sum(axis=1, keepdims=True)
    return Opinions(item, person, label, items, persons, classes, probs=probs), truth, skill


def merged(rule: str, opinions: Opinions) -> np.ndarray:
    found: np.ndarray = catalog.find("merge", rule).call({"opinions": opinions}, {})
    return found


# --------------------------------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("model", [True, False])
def test_a_rule_gives_distributions(rule: str, model: bool) -> None:
    opinions, truth, _ = drawn(0)
    if not model:
        opinions = Opinions(*(getattr(opinions, k) for k in ("item", "person", "label", "items", "people", "classes")))
    posterior = merged(rule, opinions)
    assert posterior.shape == (200, 4) and np.isfinite(posterior).all() and (posterior >= 0).all()
    assert np.allclose(posterior.sum(axis=1), 1)
    assert (posterior.argmax(axis=1) == truth).mean() > 0.6


@pytest.mark.parametrize("rule", RULES)
def test_unanimous_people_are_believed(rule: str) -> None:
    item, person = np.divmod(np.arange(30), 3)
    label = (item % 4).astype(np.int64)
    assert (merged(rule, Opinions(item, person, label, 10, 3, 4)).argmax(axis=1) == np.arange(10) % 4).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_settled_item_keeps_its_class(rule: str) -> None:
    opinions, truth, _ = drawn(1)
    known = np.where(np.arange(200) < 50, (truth + 1) % 4, -1)
    settled = Opinions(opinions.item, opinions.person, opinions.label, 200, 5, 4, known, opinions.probs)
    assert (merged(rule, settled)[:50] == np.eye(4)[known[:50]]).all()


@pytest.mark.parametrize("rule", RULES)
def test_nobody_and_nothing(rule: str) -> None:
    none = np.zeros(0, np.int64)
    assert merged(rule, Opinions(none, none, none, 0, 0, 3)).shape == (0, 3)
    assert np.allclose(merged(rule, Opinions(none, none, none, 2, 1, 4)), 0.25)
    alone = merged(rule, Opinions(np.array([1]), np.array([0]), np.array([2]), 2, 1, 3))
    assert alone[1].argmax() == 2 and np.allclose(alone.sum(axis=1), 1)


@pytest.mark.parametrize("rule", RULES)
def test_the_names_of_people_do_not_matter(rule: str) -> None:
    opinions, _, _ = drawn(2)
    other = np.array([3, 0, 4, 1, 2])[opinions.person]
    renamed = Opinions(opinions.item, other, opinions.label, 200, 5, 4, probs=opinions.probs)
    assert np.allclose(merged(rule, opinions), merged(rule, renamed))


def test_opinions_out_of_range_are_refused() -> None:
    one = np.array([0])
    with pytest.raises(LabelwiseError, match=r"Opinions\.label: expected numbers from 0 to 1"):
        Opinions(one, one, np.array([2]), 1, 1, 2)
    with pytest.raises(LabelwiseError, match=r"Opinions\.truth"):
        Opinions(one, one, one, 1, 1, 2, truth=np.array([2]))


# ------------------------------------------------------------------------------------------------------ dawid_skene


def slow_dawid_skene(opinions: Opinions, steps: int) -> np.ndarray:
    """EM with loops, as the paper writes it."""
    items, people_, classes = opinions.items, opinions.people, opinions.classes
    rows = list(zip(opinions.item.tolist(), opinions.person.tolist(), opinions.label.tolist(), strict=True))
    t = opinions.counts / opinions.counts.sum(axis=1, keepdims=True)
    for _ in range(steps):
        prior = [max(sum(t[i][j] for i in range(items)) / items, 1e-10) for j in range(classes)]
        table = np.zeros((people_, classes, classes))  # person, true, said
        for i, k, said in rows:
            table[k, :, said] += t[i]
        table = np.maximum(table, 1e-10)
        table /= table.sum(axis=2, keepdims=True)
        new = np.zeros((items, classes))
        for i, j in product(range(items), range(classes)):
            new[i, j] = np.log(prior[j]) + sum(np.log(table[k, j, said]) for n, k, said in rows if n == i)
        new = np.exp(new - new.max(axis=1, keepdims=True))
        t = new / new.sum(axis=1, keepdims=True)
    return t


@pytest.mark.parametrize("seed", range(3))
def test_dawid_skene_equals_loops(seed: int) -> None:
    opinions, _, _ = drawn(seed, items=40, classes=3)
    fast = dawid_skene.merge(opinions, model=False, smoothing=0, steps=12, tolerance=-1)
    assert np.allclose(fast, slow_dawid_skene(opinions, 12), atol=1e-9)


def test_dawid_skene_one_step_by_hand() -> None:
    """Two items, two people; both say 0 of the first, 0 and 1 of the second. Votes: (1, 0), (1/2, 1/2); prior 3/4, 1/4.

    Person 0 said 0 both times: true 0 -> 0 surely, true 1 -> 0 surely. Person 1: true 0 (weight 3/2): 0 in 1, 1 in 1/2,
    so 2/3 and 1/3; true 1 (weight 1/2): always 1. First item: 3/4 * 2/3 against 0; second: 3/4 * 1/3 against 1/4 * 1.
    """
    said = Opinions(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0, 0, 0, 1]), 2, 2, 2)
    found = dawid_skene.merge(said, smoothing=0, steps=1)
    assert found == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]), abs=1e-8)


def test_dawid_skene_turns_a_constant_confusion_round() -> None:
    """Whoever calls every 0 a 1 and the other way about is as good a witness as one who is always right."""
    opinions, truth, _ = drawn(3, items=400, classes=2, persons=4, each=4, right=0.9)
    label = opinions.label.copy()
    label[opinions.person == 0] = 1 - label[opinions.person == 0]
    swapped = Opinions(opinions.item, opinions.person, label, 400, 4, 2)
    errors = [(rule.merge(swapped).argmax(axis=1) != truth).mean() for rule in (dawid_skene, majority)]
    assert errors[0] < 0.05 < errors[1]


def slow_model(believed: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """A model's distribution to the power and times the factors that fit best, found by a search."""
    logs = np.log(np.maximum(probs, 1e-3))

    def expected(v: np.ndarray) -> np.ndarray:
        z = v[:-1] + v[-1] * logs
        return np.exp(z - z.max(axis=1, keepdims=True)) / np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)[:, None]

    def loss(v: np.ndarray) -> float:
        return float(-(believed * np.log(expected(v))).sum() + 0.5 * (v[-1] - 1) ** 2)

    return expected(optimize.minimize(loss, np.append(np.zeros(probs.shape[1]), 1.0), method="BFGS").x)


def test_dawid_skene_ends_where_a_search_puts_the_model() -> None:
    """At the end nothing moves: the model is what fits the posterior best, and the posterior is Bayes' rule."""
    opinions, truth, _ = drawn(8, each=2)
    assert opinions.probs is not None
    found = dawid_skene.merge(opinions, smoothing=20, steps=2000, tolerance=1e-12)
    model = slow_model(found, opinions.probs)
    table = np.zeros((5, 4, 4))  # person, true, said
    np.add.at(table, (opinions.person, slice(None), opinions.label), found[opinions.item])
    for k in range(5):
        right, every = np.trace(table[k]) + 1, table[k].sum() + 2
        share = np.full((4, 4), (every - right) / every / 3)
        np.fill_diagonal(share, right / every)
        table[k] = (table[k] + 20 * share) / (table[k] + 20 * share).sum(axis=1, keepdims=True)
    again = np.log(model)
    for i, k, said in zip(opinions.item, opinions.person, opinions.label, strict=True):
        again[i] += np.log(table[k, :, said])
    again = np.exp(again - again.max(axis=1, keepdims=True))
    assert np.allclose(again / again.sum(axis=1, keepdims=True), found, atol=0.01)
    without = dawid_skene.merge(opinions, model=False)
    assert (found.argmax(axis=1) == truth).mean() > (without.argmax(axis=1) == truth).mean()


def test_dawid_skene_hears_nothing_in_a_model_that_guesses() -> None:
    opinions, truth, _ = drawn(8, each=3)
    noise = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    guessed = replace(opinions, probs=noise)
    right = [(dawid_skene.merge(guessed, model=m).argmax(axis=1) == truth).mean() for m in (True, False)]
    assert abs(right[0] - right[1]) < 0.03


def test_dawid_skene_does_without_a_model_where_it_says_nothing() -> None:
    opinions, _, _ = drawn(6)
    assert opinions.probs is not None
    silent = replace(opinions, probs=np.full((200, 4), np.nan))
    assert np.array_equal(dawid_skene.merge(silent), dawid_skene.merge(opinions, model=False))
    half = opinions.probs.copy()
    half[100:] = np.nan
    found = dawid_skene.merge(replace(opinions, probs=half))
    assert np.isfinite(found).all() and np.allclose(found.sum(axis=1), 1)


# --------------------------------------------------------------------------------------------------------- crowdlab


def slow_crowdlab(opinions: Opinions) -> np.ndarray:
    """Item by item, person by person; all items have several answers and a model's distribution."""
    n, classes, persons = opinions.items, opinions.classes, opinions.people
    assert opinions.probs is not None
    said: list[dict[int, int]] = [{} for _ in range(n)]
    for i, k, label in zip(opinions.item.tolist(), opinions.person.tolist(), opinions.label.tolist(), strict=True):
        said[i][k] = label
    agreement = []
    for k in range(persons):
        pairs = [(row[k], other) for row in said if k in row for j, other in row.items() if j != k]
        agreement.append(np.mean([a == b for a, b in pairs]))
    consensus = []
    for i, row in enumerate(said):
        votes = [list(row.values()).count(c) for c in range(classes)]
        tied = [c for c in range(classes) if votes[c] == max(votes)]
        consensus.append(max(tied, key=lambda c: opinions.probs[i, c]))  # type: ignore[index]

    def posterior(believed: list[int]) -> np.ndarray:
        right = np.mean([np.mean([v == b for v in row.values()]) for row, b in zip(said, believed, strict=True)])
        guess = max(1 - max(np.bincount(believed)) / n, 1e-6)
        weight = [max(1 - (1 - a) / guess, 1e-6) for a in agreement]
        error = np.mean(opinions.probs.argmax(axis=1) != np.array(believed))  # type: ignore[union-attr]
        model = max(1 - error / guess, 1e-6) * np.sqrt(np.mean([len(row) for row in said]))
        out = np.zeros((n, classes))
        for i, c in product(range(n), range(classes)):
            parts = [(model, opinions.probs[i, c])]  # type: ignore[index]
            parts += [(weight[k], right if v == c else (1 - right) / (classes - 1)) for k, v in said[i].items()]
            out[i, c] = sum(w * p for w, p in parts) / sum(w for w, _ in parts)
        return out

    return posterior(posterior(consensus).argmax(axis=1).tolist())


@pytest.mark.parametrize("each", [2, 3])
def test_crowdlab_equals_loops(each: int) -> None:
    opinions, _, _ = drawn(4, items=60, each=each)
    assert np.allclose(crowdlab.merge(opinions), slow_crowdlab(opinions), atol=1e-12)


def test_crowdlab_believes_a_good_model_where_people_disagree() -> None:
    opinions, truth, _ = drawn(5, each=2, right=0.6)
    assert opinions.probs is not None
    sure = Opinions(opinions.item, opinions.person, opinions.label, 200, 5, 4, probs=0.9 * np.eye(4)[truth] + 0.025)
    assert (
        (crowdlab.merge(sure).argmax(axis=1) == truth).mean()
        > 0.95
        > (majority.merge(sure).argmax(axis=1) == truth).mean()
    )


def test_crowdlab_does_without_a_model_where_it_says_nothing() -> None:
    opinions, truth, _ = drawn(6)
    assert opinions.probs is not None
    probs = opinions.probs.copy()
    probs[100:] = np.nan
    found = crowdlab.merge(Opinions(opinions.item, opinions.person, opinions.label, 200, 5, 4, probs=probs))
    assert np.isfinite(found).all() and np.allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == truth)[100:].mean() > 0.6


@pytest.mark.parametrize("each", [2, 3])
def test_another_opinion_or_a_new_question_equals_loops(each: int) -> None:
    """Item by item, as ActiveLab writes it: a weighted mean with one more person who knows nothing."""
    opinions, _, _ = drawn(9, items=50, each=each)
    new = np.random.default_rng(1).dirichlet(np.ones(4), 7)
    found, both = crowdlab.estimate(opinions), worth(opinions, new)
    assert found is not None and both is not None
    mean = found.people.mean()
    for i in range(50):
        behind = found.model + sum(found.people[opinions.person[opinions.item == i]])
        quality = found.posterior[i, found.consensus[i]]
        assert both[0][i] == pytest.approx(1 - np.average([quality, 1 / 4], weights=[behind, mean]))
    for row, value in zip(new, both[1], strict=True):
        assert value == pytest.approx(1 - np.average([row.max(), 1 / 4], weights=[found.model, mean]))


def test_who_disagrees_is_asked_again_before_who_agrees() -> None:
    opinions, _, _ = drawn(10, each=3)
    both = worth(opinions, np.zeros((0, 4)))
    assert both is not None and not len(both[1])
    agree = opinions.counts.max(axis=1) == 3
    assert both[0][~agree].mean() > both[0][agree].mean()
    alone = Opinions(np.arange(3), np.zeros(3, np.int64), np.zeros(3, np.int64), 3, 1, 2)
    assert worth(alone, np.zeros((0, 2))) is None, "from single answers nobody's weight can be told"


# ----------------------------------------------------------------------------------------------------------- people


def test_people_are_judged_within_three_points_and_noise_is_told() -> None:
    rng = np.random.default_rng(7)
    skill, n, classes = np.array([0.95, 0.85, 0.75, 0.7, 0.25]), 2000, 4
    truth = rng.integers(0, classes, n)
    item, person = np.divmod(np.arange(n * 5), 5)
    wrong = (truth[item] + rng.integers(1, classes, n * 5)) % classes
    label = np.where(rng.random(n * 5) < skill[person], truth[item], wrong)
    opinions = Opinions(item, person, label, n, 5, classes)
    found = people(opinions, dawid_skene.merge(opinions))
    assert np.abs(found.right - skill).max() < 0.03
    assert found.noise.tolist() == [False] * 4 + [True]
    assert (found.low < found.right).all() and (found.right < found.high).all() and (found.answers == n).all()


def test_few_answers_are_not_called_noise_and_no_answers_are_nan() -> None:
    opinions = Opinions(np.array([0, 1]), np.array([0, 0]), np.array([1, 0]), 2, 2, 2)
    found = people(opinions, np.eye(2)[[0, 1]])
    assert found.right[0] == 0 and not found.noise[0] and found.high[0] > 0.5
    assert np.isnan(found.right[1]) and found.answers[1] == 0 and not found.noise[1]


# ------------------------------------------------------------------------------------------------------ same objects


def slow_same_objects(query: np.ndarray, turn: np.ndarray, xyxy: np.ndarray, label: np.ndarray) -> list[int]:
    """Box by box: pairs sorted by IoU, each side once; numbers in the order in which objects are first seen."""
    groups: list[list[int]] = []
    for k in range(int(turn.max(initial=-1)) + 1):
        rows, before = [i for i in range(len(query)) if turn[i] == k], len(groups)
        found = []
        for i, g in product(rows, range(before)):
            if query[groups[g][0]] == query[i]:
                iou = float(iou_matrix(xyxy[[i]], xyxy[groups[g]].mean(axis=0, keepdims=True))[0, 0])
                if iou >= SAME:
                    found.append((-iou, label[i] != label[groups[g][0]], i, g))
        used: set[int] = set()
        taken: set[int] = set()
        for _, _, i, g in sorted(found):
            if i not in used and g not in taken:
                used.add(i)
                taken.add(g)
                groups[g].append(i)
        groups += [[i] for i in rows if i not in used]
    out = [-1] * len(query)
    for g, members in enumerate(groups):
        for i in members:
            out[i] = g
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4), st.integers(0, 6))
def test_same_objects_equals_loops(seed: int, queries: int, answers: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    query, turn, boxes = [], [], []
    for q, k in product(range(queries), range(answers)):
        for _ in range(rng.integers(0, most + 1)):
            query.append(q)
            turn.append(k)
            corner = rng.integers(0, 4, 2)
            boxes.append([*corner, *(corner + rng.integers(2, 6, 2))])
    xyxy = np.array(boxes, np.float64).reshape(-1, 4)
    columns = np.array(query, np.int64), np.array(turn, np.int64), xyxy, rng.integers(0, 2, len(query))
    assert same_objects(*columns).tolist() == slow_same_objects(*columns)


def test_mean_boxes_of_nothing_and_of_no_weight() -> None:
    box = np.array([[0.0, 0, 2, 2], [0, 0, 4, 4]])
    found = mean_boxes(np.array([1, 1]), box, np.zeros(2), 2)
    assert np.isnan(found[0]).all() and found[1].tolist() == [0, 0, 3, 3]
