"""By what the loss is divided: against loops over anchors, on random and degenerate batches, and through the models."""

from __future__ import annotations

import itertools

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from labelwise.models import _weighted, faster_rcnn, retinanet
from labelwise.models._normalise import Division
from labelwise.models._weighted import IGNORED, NEGATIVE

BUILDS = {"retinanet": retinanet.build, "faster_rcnn": faster_rcnn.build}
CASES = ["random", "no positives", "one positive", "all ignored", "weights 0", "pseudo alone", "labels alone"]
DIVISIONS = [
    Division(*settings)
    for settings in itertools.product(("torchvision", "paper", "batch"), ("together", "apart"), ("hard", "background"))
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def truth_and_rows(case: str, seed: int, images: int = 3, anchors: int = 12):
    """A truth of four boxes an image, anchors, and which box every anchor learns from."""
    rng = torch.Generator().manual_seed(seed)

    def boxes(n):
        corner = 30 * torch.rand(n, 2, generator=rng)
        return torch.cat((corner, corner + 4 + 30 * torch.rand(n, 2, generator=rng)), 1).double()

    some = torch.tensor([0.0, 0.25, 0.5, 1.0]).double()
    targets = []
    for _ in range(images):
        weights = [
            torch.zeros(4).double() if case == "weights 0" else some[torch.randperm(4, generator=rng)] for _ in "ab"
        ]
        pseudo = torch.rand(4, generator=rng) < {"pseudo alone": 2, "labels alone": -1}.get(case, 0.5)
        targets.append(
            {"boxes": boxes(4), "labels": torch.randint(0, 2, (4,), generator=rng), "w_cls": weights[0],
             "w_box": weights[1], "pseudo": pseudo, "doubt": boxes(6),
             "doubt_scores": torch.rand(6, generator=rng).double()}
        )  # fmt: skip
    truth = _weighted.truth_of(targets, torch.full((images, 2), 64.0), 2)
    rows = torch.randint(IGNORED, 4, (images, anchors), generator=rng)
    rows = torch.where(rows >= 0, rows + 4 * torch.arange(images)[:, None], rows)
    if case in ("no positives", "one positive"):
        rows = rows.clamp(max=NEGATIVE)
        rows[0, 3] = 5 if case == "one positive" else NEGATIVE
    if case == "all ignored":
        rows[:] = IGNORED
    muted = (truth.w_cls == 0) & (truth.w_box == 0)
    rows = torch.where((rows >= 0) & muted[rows.clamp(min=0)], IGNORED, rows)
    return truth, boxes(anchors), rows, rng


def slow_weight(row: int, box: torch.Tensor, truth, image: int, division: Division) -> float:
    """What the classification cost of one anchor weighs."""
    if row >= 0:
        return float(truth.w_cls[row])
    if row == IGNORED:
        return 0.0
    weight = 1.0
    if division.negatives == "background":
        for other, score in zip(*truth.doubt[image], strict=True):
            if box_iou(box[None], other[None]).item() >= 0.5:
                weight = min(weight, 1 - float(score))
    return weight


def slow_average(terms: list[tuple[float, float]]) -> float:
    """Sum of weight times cost over how many weigh anything."""
    return sum(w * c for w, c in terms) / max(1, sum(w > 0 for w, _ in terms))


def slow_losses(anchors: list[dict], division: Division, by_sample: bool) -> tuple[float, float]:
    """Both losses of one group of anchors, from the words of `_normalise`: an image's, a batch's, a sample's."""
    positive = [a for a in anchors if a["row"] >= 0]
    negative = [a for a in anchors if a["row"] == NEGATIVE]
    by_weight = division.negatives == "background"

    def size(of):
        return max(1, sum(a["w"] for a in of) if by_weight else sum(a["w"] > 0 for a in of))

    positives = max(1, sum(a["w"] > 0 for a in positive))
    over_negatives = positives
    if division.normalise == "paper":
        over_negatives = size(negative)
    elif by_sample:
        exact = division.normalise == "batch" or division.pseudo == "apart" or by_weight
        over_negatives = size(anchors) if exact else max(1, len(anchors))
    cls = sum(a["w"] * a["cost"] for a in negative) / over_negatives
    if division.pseudo == "apart":
        groups = [[a for a in positive if a["pseudo"] is p] for p in (False, True)]
        cls += sum(slow_average([(a["w"], a["cost"]) for a in group]) for group in groups)
        return cls, sum(slow_average([(a["w_box"], a["off"]) for a in group]) for group in groups)
    over = over_negatives if by_sample and division.normalise != "paper" else positives
    cls += sum(a["w"] * a["cost"] for a in positive) / over
    located = max(1, len(anchors)) if by_sample and division.normalise != "paper" else max(
        1, sum(a["w_box"] > 0 for a in positive)
    )  # fmt: skip
    return cls, sum(a["w_box"] * a["off"] for a in positive) / located


def table(truth, boxes, rows, cost, off, division) -> list[list[dict]]:
    """Per image what is to be known of every anchor; `off` per positive, in order."""
    left, found = iter(off), []
    for image, row in enumerate(rows.tolist()):
        found.append([])
        for a, r in enumerate(row):
            one = {"row": r, "cost": float(cost[image, a]), "w": slow_weight(r, boxes[a], truth, image, division)}
            if r >= 0:
                one |= {"off": float(next(left)), "w_box": float(truth.w_box[r]), "pseudo": bool(truth.pseudo[r])}
            found[-1].append(one)
    return found


@pytest.mark.parametrize("division", DIVISIONS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_retinanet_divides_as_a_loop_does(case: str, division: Division) -> None:
    for seed in range(4):
        truth, boxes, rows, rng = truth_and_rows(case, seed)
        cost = torch.rand(rows.shape, generator=rng).double()
        image, anchor = (rows >= 0).nonzero(as_tuple=True)
        hit = rows[image, anchor]
        off = torch.rand(len(hit), generator=rng).double()
        w_cls = _weighted.weights_of(rows, truth.w_cls)
        if division.negatives == "background":
            sure = torch.stack([_weighted.negative_weights(boxes, truth, i) for i in range(len(rows))])
            w_cls = torch.where(rows == NEGATIVE, sure, w_cls)
        w_box = torch.zeros_like(w_cls).index_put((image, anchor), truth.w_box[hit])
        costs = retinanet._Costs(
            cost, w_cls, rows >= 0, off * truth.w_box[hit], image, anchor, w_box, truth.pseudo[hit]
        )
        said = table(truth, boxes, rows, cost, off, division)
        groups = said if division.normalise == "torchvision" else [list(itertools.chain(*said))]
        wanted = [
            sum(one) / len(groups) for one in zip(*(slow_losses(g, division, False) for g in groups), strict=True)
        ]
        got = costs.divided(division)
        assert [float(got["classification"]), float(got["bbox_regression"])] == pytest.approx(wanted, abs=1e-12)
        alone = [sum(slow_losses(g, division, False)) for g in said]
        assert costs.own(division).tolist() == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("division", DIVISIONS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_faster_rcnn_divides_as_a_loop_does(case: str, division: Division) -> None:
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    for seed in range(4):
        truth, boxes, rows, rng = truth_and_rows(case, seed)
        image, anchor = (rows != IGNORED).nonzero(as_tuple=True)  # what is ignored is never sampled
        hit = rows[image, anchor]
        cost = torch.rand(rows.shape, generator=rng).double()
        shifts = torch.rand(len(hit), 4, generator=rng).double()
        sampled = _weighted.Sampled(cost[image, anchor], shifts, boxes[anchor], hit, image)
        positive = hit >= 0
        wanted = coder.encode_single(truth.boxes[hit[positive]], boxes[anchor[positive]])
        far = (shifts[positive] - wanted).abs()
        off = torch.where(far < 1 / 9, 0.5 * far**2 * 9, far - 0.5 / 9).sum(1)
        said = table(truth, boxes, rows, cost, off, division)
        said = [[a for a in one if a["row"] != IGNORED] for one in said]
        got = _weighted.sampled_losses(sampled, truth, coder, division)
        assert [float(x) for x in got] == pytest.approx(
            slow_losses(list(itertools.chain(*said)), division, True), abs=1e-9
        )
        own = _weighted.own_losses(sampled, len(rows), truth, coder, division)
        assert own.tolist() == pytest.approx([sum(slow_losses(one, division, True)) for one in said], abs=1e-9)


def test_eq_3_of_002_by_hand() -> None:
    """Two labelled anchors of costs 1 and 3, four noisy ones of cost 2, λ_d = 0.5: 2 + 0.5 · 2."""
    rows = torch.tensor([[0, 0, 1, 1, 1, 1, IGNORED]])
    target = {"boxes": torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]]), "labels": torch.tensor([0, 0])}
    target |= {"w_cls": torch.tensor([1, 0.5]), "w_box": torch.tensor([1, 0.5]), "pseudo": torch.tensor([False, True])}
    truth = _weighted.truth_of([target], torch.tensor([[64.0, 64]]), 1)
    cost = torch.tensor([[1.0, 3, 2, 2, 2, 2, 7]])
    image, anchor = (rows >= 0).nonzero(as_tuple=True)
    hit = rows[image, anchor]
    w_box = torch.zeros(1, 7).index_put((image, anchor), truth.w_box[hit])
    costs = retinanet._Costs(
        cost, _weighted.weights_of(rows, truth.w_cls), rows >= 0, cost[image, anchor] * truth.w_box[hit], image, anchor,
        w_box, truth.pseudo[hit],
    )  # fmt: skip
    for normalise in ("torchvision", "paper", "batch"):
        got = costs.divided(Division(normalise, "apart"))
        assert [float(value) for value in got.values()] == [3.0, 3.0]
    sampled = _weighted.Sampled(cost[0, :6], torch.zeros(6, 4), truth.boxes[hit], hit, image)
    assert float(_weighted.sampled_losses(sampled, truth, BoxCoder((1.0,) * 4), Division("batch", "apart"))[0]) == 3.0


def batch():
    rng = torch.Generator().manual_seed(3)
    images = [torch.rand(3, 96, 128, generator=rng) for _ in range(2)]
    boxes = [torch.tensor([[4.0, 5, 40, 30], [50, 20, 84, 80]]), torch.tensor([[10.0, 10, 46, 44]])]
    return images, [{"boxes": b, "labels": torch.zeros(len(b), dtype=torch.int64)} for b in boxes]


def losses(name, settings, targets=None):
    torch.manual_seed(0)
    model = BUILDS[name](1, fpn_channels=16, frozen_norms=True, **settings)
    images, plain = batch()
    torch.manual_seed(1)
    return {k: v.item() for k, v in model(images, plain if targets is None else targets).items()}


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("normalise", ["torchvision", "paper", "batch"])
def test_what_nobody_said_changes_nothing(name: str, normalise: str) -> None:
    """Without pseudo boxes "apart" averages positives alone; without doubt "background" is "hard"."""
    plain = losses(name, {"normalise": normalise})
    _, targets = batch()
    told = [t | {"pseudo": torch.zeros(len(t["boxes"]), dtype=torch.bool)} for t in targets]
    told = [t | {"doubt": torch.zeros(0, 4), "doubt_scores": torch.zeros(0)} for t in told]
    assert losses(name, {"normalise": normalise}, told) == plain
    assert losses(name, {"normalise": normalise, "negatives": "background"}, told) == pytest.approx(plain, rel=1e-6)
    if normalise == "paper" or name == "retinanet":
        assert losses(name, {"normalise": normalise, "pseudo": "apart"}, told) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("name", BUILDS)
def test_doubt_makes_negatives_lighter_and_nothing_else(name: str) -> None:
    _, targets = batch()
    corner = torch.cartesian_prod(torch.arange(0.0, 112, 4), torch.arange(0.0, 80, 4))
    where = torch.cat([torch.cat((corner, corner + side), 1) for side in (16, 32)])
    told = [t | {"doubt": where, "doubt_scores": torch.full((len(where),), 0.9)} for t in targets]
    before, after = (losses(name, {"negatives": "background", "normalise": "batch"}, t) for t in (targets, told))
    hard = losses(name, {"normalise": "batch"}, told)
    assert hard == losses(name, {"normalise": "batch"}), "a model that takes negatives as they are does not look at it"
    assert after["bbox_regression"] == before["bbox_regression"]
    weighed = {"classification", "objectness"} & before.keys()
    assert all(after[key] != before[key] for key in weighed)
    if name == "retinanet":
        assert after["classification"] < before["classification"]


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("division", DIVISIONS, ids=str)
def test_gradients_are_finite_without_anything_to_learn(name: str, division: Division) -> None:
    settings = {"normalise": division.normalise, "pseudo": division.pseudo, "negatives": division.negatives}
    torch.manual_seed(0)
    model = BUILDS[name](1, fpn_channels=16, loss_head=True, **settings)
    images, _ = batch()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    whole = torch.tensor([[0.0, 0, 128, 96]])
    for extra in ({}, {"ignore": whole}, {"doubt": whole, "doubt_scores": torch.ones(1)}):
        total = sum(model(images, [empty | extra for _ in images]).values())
        total.backward()
        assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
