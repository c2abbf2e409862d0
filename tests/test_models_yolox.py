"""YOLOX in training: SimOTA and losses against a plain unweighted formulation, weights, ignored cells, the start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import box_iou

from labelwise.errors import LabelwiseError
from labelwise.models import _simota, _weighted, yolox, yolox_files
from labelwise.models.yolox_network import YoloxNetwork, boxes, cells

WEIGHTS = Path(os.environ.get("LABELWISE_DATA", Path(__file__).parents[2] / "shared" / "data")) / "weights"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of(n_classes=3, **settings):
    torch.manual_seed(0)
    return yolox.build(n_classes, **settings)


def random_boxes(n, rng, side=80):
    corner = side * torch.rand(n, 2, generator=rng)
    return torch.cat((corner, corner + 3 + 50 * torch.rand(n, 2, generator=rng)), 1).double()


def images_and_targets(counts=(4, 0, 1, 9), n_classes=3, seed=3):
    rng = torch.Generator().manual_seed(seed)
    images = [torch.rand(3, *size, generator=rng).double() for size in ((96, 128), (96, 128), (80, 100), (128, 64))]
    return images[: len(counts)], [
        {"boxes": random_boxes(n, rng), "labels": torch.randint(0, n_classes, (n,), generator=rng)} for n in counts
    ]


def plain_rows(outputs, grid, target):
    """Cell -> box of one image, box by box and cell by cell, from the words of the paper and the authors' constants."""
    made, found = boxes(outputs[None], grid)[0], {}
    confidence = (outputs[:, 5:].sigmoid() * outputs[:, 4:5].sigmoid()).sqrt()
    centre = grid[:, :2] + grid[:, 2:] / 2
    for number, (box, label) in enumerate(zip(target["boxes"], target["labels"], strict=True)):
        costs, overlaps = {}, []
        for cell in range(len(grid)):
            x, y = centre[cell].tolist()
            x1, y1, x2, y2 = box.tolist()
            reach = 2.5 * float(grid[cell, 2])
            inside = x1 < x < x2 and y1 < y < y2
            centred = abs(x - (x1 + x2) / 2) < reach and abs(y - (y1 + y2) / 2) < reach
            if inside or centred:
                overlap = box_iou(box[None], made[cell][None])[0, 0]
                wanted = functional.one_hot(label, outputs.shape[1] - 5).double()
                cost = functional.binary_cross_entropy(confidence[cell], wanted, reduction="sum")
                cost = cost - 3 * overlap.clamp(min=1e-8).log() + (0 if inside and centred else 1e5)
                costs[cell] = float(cost)
                overlaps.append(float(overlap))
        k = max(1, int(sum(sorted(overlaps)[-10:])))
        for cell in sorted(costs, key=costs.__getitem__)[:k]:
            if cell not in found or costs[cell] < found[cell][1]:
                found[cell] = (number, costs[cell])
    return {cell: number for cell, (number, _) in found.items()}


def plain_losses(outputs, grid, targets):
    """The unweighted losses of YOLOX: sums over the batch by the number of its positives."""
    cls, objects, box, positives = [], [], [], 0
    for said, target in zip(outputs, targets, strict=True):
        rows = plain_rows(said.detach(), grid, target)
        positives += len(rows)
        made = boxes(said[None], grid)[0]
        wanted = torch.zeros(len(grid), dtype=said.dtype)
        for cell, number in rows.items():
            wanted[cell] = 1
            overlap = box_iou(target["boxes"][number][None], made[cell][None])[0, 0]
            box.append(1 - overlap**2)
            classes = torch.zeros(said.shape[1] - 5, dtype=said.dtype)
            classes[target["labels"][number]] = overlap.detach()
            cls.append(functional.binary_cross_entropy(said[cell, 5:].sigmoid(), classes, reduction="sum"))
        objects.append(functional.binary_cross_entropy(said[:, 4].sigmoid(), wanted, reduction="sum"))
    n = max(positives, 1)
    return {
        "classification": sum(cls) / n,
        "objectness": sum(objects) / n,
        "bbox_regression": 5 * sum(box) / n,
    }


@pytest.mark.parametrize(("size", "n_classes"), [("nano", 3), ("nano", 1), ("tiny", 2)])
def test_weight_one_equals_the_plain_formulation(size, n_classes):
    """Losses and gradients to 1e-6 (in float64), with images of three sizes and one without boxes."""
    model = model_of(n_classes, size=size).double()
    images, targets = images_and_targets(n_classes=n_classes)
    with torch.no_grad():  # objects that overlap, and predictions that are not all alike
        for predictor in (*model.network.head.reg_preds, *model.network.head.obj_preds):
            predictor.weight.mul_(4)
    parameters = [p for p in model.parameters() if p.requires_grad]
    got = model(
        images, [t | {"w_cls": torch.ones(len(t["boxes"])), "w_box": torch.ones(len(t["boxes"]))} for t in targets]
    )
    got_grads = torch.autograd.grad(sum(got.values()), parameters)
    batch, _ = yolox._batch_of(images)
    outputs, _, _ = model._run(model.network.prepared(batch))
    grid = cells(*batch.shape[2:]).double()
    want = plain_losses(outputs, grid, targets)
    want_grads = torch.autograd.grad(sum(want.values()), parameters)
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, rtol=1e-6, atol=0)
    for mine, theirs in zip(got_grads, want_grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()) + 1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_assignment_equals_the_plain_one(seed):
    """Good and bad predictions, crowded boxes, several of which want one cell."""
    rng = torch.Generator().manual_seed(seed)
    grid = cells(96, 128).double()
    targets = [{"boxes": random_boxes(n, rng), "labels": torch.randint(0, 2, (n,), generator=rng)} for n in (12, 0, 3)]
    outputs = torch.randn(3, len(grid), 7, generator=rng).double() * torch.tensor([0.5, 0.5, 1, 1, 2, 2, 2])
    truth = _weighted.truth_of(targets, torch.tensor([[96.0, 128]] * 3), 2)
    rows = _simota.assign(boxes(outputs, grid), outputs[..., 4], outputs[..., 5:], grid, truth)
    assert (rows >= 0).sum() > 10
    for i, target in enumerate(targets):
        want = {cell: truth.first[i] + number for cell, number in plain_rows(outputs[i], grid, target).items()}
        assert {int(c): int(rows[i, c]) for c in (rows[i] >= 0).nonzero()} == want
        assert set(rows[i][rows[i] < 0].tolist()) <= {_weighted.NEGATIVE}


def near(made, rects, least):
    return (box_iou(made, rects).amax(1) >= least) if len(rects) else torch.zeros(len(made), dtype=torch.bool)


def test_what_is_ignored_gives_no_gradient():
    """Cells of a box without weights, near it, in ignored rectangles and outside of what was looked over."""
    rng = torch.Generator().manual_seed(1)
    grid = cells(96, 96).double()
    target = {
        "boxes": torch.tensor([[8.0, 8, 40, 40], [50, 50, 90, 90]]).double(),
        "labels": torch.tensor([0, 1]),
        "w_cls": torch.tensor([0.0, 1]),
        "w_box": torch.tensor([0.0, 1]),
        "negatives": torch.tensor([[0.0, 0, 60, 96]]),
        "ignore": torch.tensor([[0.0, 60, 30, 96]]),
    }
    outputs = torch.randn(1, len(grid), 7, generator=rng).double().requires_grad_()
    model = model_of(2).double()
    truth = _weighted.truth_of([target], torch.tensor([[96.0, 96]]), 2)
    sum(model._losses(outputs, grid, truth).values()).backward()
    said = outputs.detach()
    rows = _simota.assign(boxes(said, grid), said[..., 4], said[..., 5:], grid, truth)[0]
    made = boxes(said, grid)[0]
    inside = _weighted.mostly_inside(made, truth.negatives[0].double())
    ignored = _weighted.mostly_inside(made, truth.ignore[0].double()) | near(made, target["boxes"][:1], 0.5)
    assert torch.equal(rows == _weighted.NEGATIVE, (rows < 0) & inside & ~ignored & (rows != _weighted.IGNORED))
    assert not (rows == 0).any() and (rows == 1).any() and (rows == _weighted.IGNORED).any()
    grads = outputs.grad[0]
    assert not grads[rows == _weighted.IGNORED].any()
    assert grads[rows == _weighted.NEGATIVE][:, 4].all() and not grads[rows == _weighted.NEGATIVE][:, :4].any()
    assert grads[rows == 1][:, 4:].all()


def test_a_muted_box_takes_its_cells_and_no_more():
    """With a box muted, the other cells learn what they learned before, but for those that overlap it."""
    rng = torch.Generator().manual_seed(2)
    grid = cells(96, 96).double()
    target = {"boxes": random_boxes(3, rng, 40), "labels": torch.tensor([0, 1, 0])}
    said = torch.randn(1, len(grid), 7, generator=rng).double()
    sizes = torch.tensor([[96.0, 96]])

    def rows(weights):
        truth = _weighted.truth_of([target | {"w_cls": weights, "w_box": weights}], sizes, 2)
        return _simota.assign(boxes(said, grid), said[..., 4], said[..., 5:], grid, truth)[0]

    plain, muted = rows(torch.ones(3)), rows(torch.tensor([1.0, 0, 1]))
    assert (muted[plain == 1] == _weighted.IGNORED).all()
    changed = (muted != plain) & (plain != 1)
    assert (plain[changed] == _weighted.NEGATIVE).all() and (muted[changed] == _weighted.IGNORED).all()
    assert torch.equal(rows(torch.tensor([0.3, 0.2, 0.1])), plain)


def test_doubt_weighs_negatives():
    images, targets = images_and_targets((1, 0))
    doubt = torch.tensor([[0.0, 0, 128, 96]]).double()
    targets = [t | {"doubt": doubt, "doubt_scores": torch.tensor([0.5]).double()} for t in targets]
    hard, soft = (model_of(negatives=how, frozen_norms=True).double() for how in ("hard", "background"))
    with torch.no_grad():
        for model in (hard, soft):
            for predictor in model.network.head.reg_preds:
                predictor.bias[2:] = 2.5  # boxes large enough to overlap it
    before, after = hard(images, targets), soft(images, targets)
    assert after["objectness"] < before["objectness"]
    torch.testing.assert_close(after["bbox_regression"], before["bbox_regression"])


@pytest.mark.parametrize("wild", [float("-inf"), -200.0, 60.0, 2000.0])
def test_wild_predictions_stay_finite(wild):
    """Sides of nothing and sides beyond every number; both learn to come back, or are left alone."""
    images, targets = images_and_targets((2, 1))
    model = model_of(1).double()
    targets = [t | {"labels": t["labels"] * 0} for t in targets]
    with torch.no_grad():
        for predictor in model.network.head.reg_preds:
            predictor.bias[2:] = max(wild, -1e300)
    losses = model(images, targets)
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_start_is_cocos_but_for_the_classes(tmp_path):
    """Boxes and objectness of a release as they were; another number of classes."""
    torch.manual_seed(4)
    network = YoloxNetwork(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
    torch.save(network.state_dict(), tmp_path / "yolox_nano.pth")
    model = yolox.build(2, weights=str(tmp_path / "yolox_nano.pth")).eval()
    image = torch.rand(1, 3, 64, 96)
    network.eval()
    with torch.inference_mode():
        assert torch.equal(model.network(image)[..., :5], network(image)[..., :5])
    assert not model.folded_norms
    with pytest.raises(LabelwiseError, match="not YOLOX-tiny's"):
        yolox.build(2, size="tiny", weights=str(tmp_path / "yolox_nano.pth"))
    with pytest.raises(LabelwiseError, match=r"model\.weights"):
        yolox.build(2, weights="nothing.pth")


def test_folded_norms_train_and_the_first_step_sees_the_same_network():
    path = WEIGHTS / "yolox_nano_coco.safetensors"
    if not path.is_file():
        pytest.skip("no yolox_nano_coco.safetensors: set LABELWISE_DATA to the folder of the real data")
    assert yolox.build(3, weights=str(path)).frozen_norms and not yolox.build(3).frozen_norms
    model = yolox.build(3, weights=str(path), frozen_norms=False)
    assert model.folded_norms
    want = yolox_files.load(path, folded=False)
    images = [torch.rand(3, 96, 96) for _ in range(4)]
    batch = model.network.prepared(torch.stack(images))
    with torch.no_grad():
        expected = want.head(want.backbone(want.prepared(torch.stack(images)))[:3], False)[0]
        model.train()
        model(images, [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 4)
        got, _, _ = model._run(batch)
    assert not model.folded_norms
    assert any(m.running_mean.any() for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    torch.testing.assert_close(got[..., :5], expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("size", ["nano", "tiny", "s", "m"])
def test_sizes_are_the_authors(size):
    """Parameters in millions as the authors' table has them (80 classes)."""
    known = {"nano": 0.91, "tiny": 5.06, "s": 9.0, "m": 25.3}
    count = sum(p.numel() for p in YoloxNetwork(80, size=size).parameters()) / 1e6
    assert count == pytest.approx(known[size], rel=0.01)


def test_dropout_acts_before_the_classes_alone():
    model = model_of(dropout=0.5).train()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (first, tower, _), (second, again, _) = model._run(image), model._run(image)
    assert torch.equal(first[..., :5], second[..., :5]) and not torch.equal(first[..., 5:], second[..., 5:])
    assert all(torch.equal(a, b) for a, b in zip(tower, again, strict=True))
    assert model.state_dict().keys() == model_of().state_dict().keys()
