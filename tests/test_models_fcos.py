"""FCOS: which location learns from which box, against a plain loop; torchvision's file; what is ignored."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torchvision.models.detection import fcos_resnet50_fpn

from labelwise.models import _anchors, _weighted, fcos

GRIDS = [(12, 16), (6, 8), (3, 4)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cells_of(height=96, width=128):
    return _anchors.Anchors((8, 16, 32), 1, (1.0,))((height, width), GRIDS, torch.zeros(1))


def plain_assign(cells, boxes, muted):
    """Location by location and box by box, from the words of the paper."""
    rows, level = [], [k for k, (h, w) in enumerate(GRIDS) for _ in range(h * w)]
    for cell, number in zip(cells.tolist(), level, strict=True):
        x, y, stride = (cell[0] + cell[2]) / 2, (cell[1] + cell[3]) / 2, 8 * 2**number
        low, high = (0 if number == 0 else 4 * stride), (float("inf") if number == len(GRIDS) - 1 else 8 * stride)
        best, found = float("inf"), _weighted.NEGATIVE
        for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            off = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            area = (x2 - x1) * (y2 - y1)
            if min(sides) > 0 and low < max(sides) < high and off < 1.5 * stride and area < best:
                best, found = area, row
        rows.append(_weighted.IGNORED if found >= 0 and muted[found] else found)
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_assignment_equals_the_plain_one(seed):
    rng = torch.Generator().manual_seed(seed)
    corner = torch.tensor([100.0, 70]) * torch.rand(8, 2, generator=rng)
    boxes = torch.cat((corner, corner + 4 + torch.tensor([120.0, 90]) * torch.rand(8, 2, generator=rng) ** 2), 1)
    weights = (torch.rand(8, generator=rng) > 0.3).float()
    none = {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.int64)}
    target = {"boxes": boxes, "labels": torch.zeros(8, dtype=torch.int64), "w_cls": weights, "w_box": weights}
    truth = _weighted.truth_of([none, target], torch.tensor([[96.0, 128]] * 2), 1)
    cells = cells_of()
    got = fcos.assign(cells, truth, 1, GRIDS[0], GRIDS[-1]).tolist()
    assert got == plain_assign(cells, boxes, weights == 0) and max(got) >= 0
    assert set(fcos.assign(cells, truth, 0, GRIDS[0], GRIDS[-1]).tolist()) == {_weighted.NEGATIVE}


def test_cells_where_nobody_looked_give_no_gradient():
    """The left half was looked over, but for a rectangle in it; the box takes its locations wherever they are."""
    torch.manual_seed(0)
    model = fcos.build(2, fpn_channels=32, head_convs=1, levels=3)
    target = {"boxes": torch.tensor([[70.0, 30, 110, 70]]), "labels": torch.tensor([1])}
    target |= {"negatives": torch.tensor([[0.0, 0, 64, 96]]), "ignore": torch.tensor([[16.0, 16, 48, 48]])}
    truth = _weighted.truth_of([target], torch.tensor([[96.0, 128]]), 2)
    cells = cells_of()
    logits = torch.zeros(1, len(cells), 2, requires_grad=True)
    losses = model._losses(logits, torch.ones(1, len(cells), 4), torch.zeros(1, len(cells)), cells, GRIDS, truth)
    losses["classification"].backward()
    rows = fcos.assign(cells, truth, 0, GRIDS[0], GRIDS[-1])
    assert (rows >= 0).any() and torch.equal((logits.grad[0] == 0).all(1), rows == _weighted.IGNORED)
    x, y = (cells[:, :2] + cells[:, 2:]).T / 2
    small = cells[:, 2] - cells[:, 0] == 8
    assert (rows[small & (x > 70)] != _weighted.NEGATIVE).all()
    assert (rows[small & (x > 20) & (x < 44) & (y > 20) & (y < 44)] == _weighted.IGNORED).all()
    assert (rows[small & (x < 60) & (y > 52)] == _weighted.NEGATIVE).all()


@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_torchvisions_is_taken_but_for_the_classes(tmp_path, old):
    """`old`: with the pyramid's names of 2021."""
    torch.manual_seed(0)
    theirs = fcos_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    saved = {re.sub(r"_blocks\.(\d)\.0\.", r"_blocks.\1.", k) if old else k: v for k, v in theirs.items()}
    torch.save(saved, tmp_path / "fcos.pth")
    paper = {"backbone": "resnet50", "fpn_channels": 256, "head_convs": 4, "levels": 5}
    model = fcos.build(2, weights=str(tmp_path / "fcos.pth"), **paper)
    own = model.state_dict()
    left = {key for key in own if not torch.equal(own[key], theirs[key]) or own[key].shape != theirs[key].shape}
    assert left == {"head.classification_head.cls_logits.weight", "head.classification_head.cls_logits.bias"}
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
