"""The quality head of RetinaNet: its loss against a loop, what it leaves as it was, that it learns which boxes fit."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torchvision.ops import box_iou

from labelwise.models import _quality, retinanet
from labelwise.types import LabelwiseError


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(seed: int = 0, n_classes: int = 2, **settings):
    torch.manual_seed(seed)
    return retinanet.build(n_classes, fpn_channels=16, score_threshold=0.0, max_detections=30, **settings)


def images_of(n: int = 3):
    rng = torch.Generator().manual_seed(3)
    return [torch.rand(3, 96, 128, generator=rng) for _ in range(n)]


def targets_of(**more):
    """No box; one; three of different weights."""
    boxes = [[], [[10.0, 10, 26, 24]], [[4.0, 5, 40, 30], [50, 20, 64, 80], [90, 22, 106, 38]]]
    weights = [[], [1.0], [0.5, 0.0, 1.0]]
    return [
        {"boxes": torch.tensor(b).reshape(-1, 4), "labels": torch.ones(len(b), dtype=torch.int64),
         "w_cls": torch.ones(len(b)), "w_box": torch.tensor(w), **more}
        for b, w in zip(boxes, weights, strict=True)
    ]  # fmt: skip


def slow_cost(logit: float, box: torch.Tensor, truth: torch.Tensor, weight: float) -> float:
    iou = float(box_iou(box[None], truth[None]))
    said = 1 / (1 + math.exp(-logit))
    return -weight * (iou * math.log(said) + (1 - iou) * math.log(1 - said))


def test_the_cost_equals_a_loop_and_stops_the_gradient_of_its_target():
    rng = torch.Generator().manual_seed(0)
    corner = 20 * torch.rand(2, 60, 2, generator=rng)
    boxes, truth = torch.cat((corner, corner + 1 + 30 * torch.rand(2, 60, 2, generator=rng)), 2)
    boxes[0] = truth[0]  # IoU 1
    boxes[1, 2:] = boxes[1, :2]  # a decoded box may have no area
    logits, weight = torch.randn(60, generator=rng), torch.rand(60, generator=rng)
    weight[5:9] = 0
    boxes.requires_grad_()
    logits.requires_grad_()
    got = _quality.cost(logits, boxes, truth, weight)
    want = [slow_cost(float(logits[i].detach()), boxes[i].detach(), truth[i], float(weight[i])) for i in range(60)]
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-4, atol=1e-5)
    got.sum().backward()
    assert boxes.grad is None and logits.grad is not None and torch.isfinite(logits.grad).all()
    assert _quality.cost(logits[:0], boxes[:0], truth[:0], weight[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("normalise", "pseudo"), list(itertools.product(("torchvision", "paper", "batch"), ("together", "apart")))
)
def test_other_losses_and_weights_stay_to_the_last_bit(normalise, pseudo):
    more = {"pseudo": torch.tensor([])}
    targets = [t | {"pseudo": torch.arange(len(t["boxes"])) == 0} for t in targets_of(**more)]
    settings = {"normalise": normalise, "pseudo": pseudo, "frozen_norms": True}
    plain, model = tiny(**settings), tiny(**settings, quality=True)
    old, new = plain.state_dict(), model.state_dict()
    assert set(new) - set(old) == {"quality.conv.weight", "quality.conv.bias"}
    assert all(torch.equal(old[name], new[name]) for name in old)
    before, after = plain.train()(images_of(), targets), model.train()(images_of(), targets)
    assert set(after) == {*before, "quality"}
    assert all(torch.equal(before[name], after[name]) for name in before)
    sum(before.values()).backward()
    after["quality"].backward(retain_graph=True)
    regressor = model.head.regression_head
    assert regressor.bbox_reg.weight.grad is None or not regressor.bbox_reg.weight.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in model.quality.parameters())
    assert any(p.grad.any() for p in regressor.conv.parameters()), "the tower learns from it, too"
    with torch.inference_mode():
        said, found = plain.eval()(images_of()), model.eval()(images_of())
    for one, other in zip(said, found, strict=True):
        assert set(other) == {*one, "quality"} and all(torch.equal(one[name], other[name]) for name in one)
        assert other["quality"].shape == other["scores"].shape
        assert ((other["quality"] >= 0) & (other["quality"] <= 1)).all()


def test_the_loss_is_divided_as_that_of_the_boxes():
    """With every logit 0 a positive costs ln 2 times its weight; "batch" divides by the positives that weigh."""
    model = tiny(quality=True, normalise="batch", frozen_norms=True).train()
    torch.nn.init.zeros_(model.quality.conv.weight)
    targets = targets_of()
    for one in targets:
        one["w_box"] = torch.full_like(one["w_box"], 0.5)
    assert model(images_of(), targets)["quality"].item() == pytest.approx(0.5 * math.log(2), rel=1e-5)
    for one in targets:
        one["w_box"] = torch.zeros_like(one["w_box"])
    assert model(images_of(), targets)["quality"].item() == 0
    nothing = model(images_of(1), targets_of()[:1])["quality"]
    assert nothing.item() == 0 and nothing.requires_grad


def blocks(n: int, seed: int):
    """Four squares an image on noise. Of the dim ones nobody can tell where they end: their boxes are drawn anew."""
    rng = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for _ in range(n):
        image, boxes = 0.2 * torch.rand(3, 128, 128, generator=rng), []
        for row, column in itertools.product(range(2), range(2)):
            shift, ends = (torch.randint(0, high, (2,), generator=rng).tolist() for high in (16, 40))
            x, y, clear = 64 * column + 4 + shift[0], 64 * row + 4 + shift[1], bool(torch.rand((), generator=rng) < 0.5)
            image[:, y : y + 28, x : x + 28] += 0.8 if clear else 0.3
            width, height = (28, 28) if clear else (12 + ends[0], 12 + ends[1])
            boxes.append([x, y, x + width, y + height])
        images.append(image.clamp(0, 1))
        targets.append({"boxes": torch.tensor(boxes).float(), "labels": torch.zeros(4, dtype=torch.int64)})
    return images, targets


def ranks_agree(a: torch.Tensor, b: torch.Tensor) -> float:
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def test_quality_rises_with_the_iou_of_the_boxes():
    """After a short training it tells which boxes fit: of every object that one of highest confidence.

    Seen with three seeds: rank correlations of 0.63 to 0.76.
    """
    model = tiny(n_classes=1, quality=True, normalise="batch")
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    for step in range(60):
        optimiser.zero_grad()
        sum(model.train()(*blocks(4, 1000 + step)).values()).backward()
        optimiser.step()
    images, targets = blocks(24, 0)
    with torch.inference_mode():
        found = model.eval()(images)
    quality, iou = [], []
    for said, truth in zip(found, targets, strict=True):
        overlap = box_iou(said["boxes"], truth["boxes"])
        for column in overlap.t():
            if (column >= 0.3).any():
                best = int((column >= 0.3).nonzero()[0])  # candidates fall in confidence
                quality.append(said["quality"][best])
                iou.append(column[best])
    assert len(iou) > 60
    assert ranks_agree(torch.stack(quality), torch.stack(iou)) > 0.4


def test_a_power_brings_the_quality_into_the_confidence():
    with torch.inference_mode():
        plain, half, all_of_it = (
            tiny(quality=True, quality_power=p, nms_iou=1.0).eval()(images_of(1))[0] for p in (0.0, 0.5, 1.0)
        )
    assert len(plain["scores"]) == len(half["scores"]) == 30

    def by_box(said):
        order = said["boxes"].double() @ torch.tensor([1.0, 17, 289, 4913]).double()
        return {round(float(key), 3): row for row, key in enumerate(order)}

    shared = by_box(plain).keys() & by_box(half).keys()
    assert len(shared) > 3
    for key in shared:
        a, b = by_box(plain)[key], by_box(half)[key]
        torch.testing.assert_close(plain["quality"][a], half["quality"][b])
        torch.testing.assert_close(half["scores"][b], (plain["scores"][a] * plain["quality"][a]).sqrt())
    torch.testing.assert_close(all_of_it["scores"], all_of_it["quality"])
    assert (half["scores"].diff() <= 0).all()


def test_half_precision_gives_float32():
    model = tiny(quality=True, quality_power=0.3)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()(images_of(), targets_of())
        found = model.eval()(images_of(1))[0]
    assert torch.isfinite(sum(losses.values())) and found["quality"].dtype == found["scores"].dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quality": True, "quality_power": 1.5}, r"quality_power = 1\.5: expected a number from 0 to 1"),
        ({"quality": True, "quality_power": float("nan")}, r"quality_power = nan"),
        ({"quality_power": 0.5}, r"quality_power = 0\.5 needs the quality head; set model\.quality = true"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(LabelwiseError, match=message):
        tiny(**settings)
