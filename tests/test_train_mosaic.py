"""Mosaic: four images share a canvas; boxes, weights and regions go with their image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_train_augment import target_of
from test_train_loader import CHOSEN, N, Source, training_set

from labelwise.train import mosaic
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.mosaic import Group, Sample

SIZES = [(60, 40), (31, 52), (80, 80), (7, 90)]
"""Width and height of four images."""


def tile(number: int) -> Sample:
    """An image of one grey each, with a coloured square that has a box of class `number`; wholly looked over but the
    left fifth of it.
    """
    width, height = SIZES[number]
    image, side = torch.full((3, height, width), 0.2 * number + 0.1), min(width, height) // 3
    x, y = (width - side) // 2, (height - side) // 2
    image[:, y : y + side, x : x + side] = torch.tensor([1.0, 0.0, 0.25 * number]).view(3, 1, 1)
    target = target_of(np.array([[x, y, x + side, y + side]]), np.array([[width / 5, 0, width, height]]))
    return image, target | {"labels": torch.tensor([number]), "w_cls": torch.tensor([number / 4])}


def group_of(seed: int) -> Group:
    return mosaic.draw(2, 9, 1.0, np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_box_encloses_its_square_and_coverage_is_that_of_its_image(seed: int) -> None:
    group = group_of(seed)
    image, target = mosaic.join([tile(k) for k in range(4)], group)
    width, height = SIZES[0]
    assert image.shape == (3, height, width) and image.min() >= 0 and image.max() <= 1.001
    x, y = np.clip((group.centre * [width, height]).round().astype(int), 1, [width - 1, height - 1])
    assert 0.25 * width < x < 0.75 * width and 0.25 * height < y < 0.75 * height
    quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    red = (image[0] > 0.9) & (image[1] < 0.1)
    for number, (x1, y1, x2, y2) in enumerate(quarters):
        part = torch.zeros(height, width, dtype=torch.bool)
        part[y1:y2, x1:x2] = True
        rows = (target["labels"] == number).nonzero()[:, 0]
        assert len(rows) <= 1
        here = (red & part).nonzero().flip(1)
        if len(rows):
            box = target["boxes"][rows[0]]
            assert target["w_cls"][rows[0]] == number / 4
            assert (box >= torch.tensor([x1, y1, x1, y1])).all() and (box <= torch.tensor([x2, y2, x2, y2])).all()
            if len(here):  # resizing blurs the square's border
                assert (here.amin(0) >= box[:2] - 2).all() and (here.amax(0) <= box[2:] + 1).all()
        covered = torch.zeros(height, width, dtype=torch.bool)
        for a, b, c, d in target["negatives"].round().int().tolist():
            covered[b:d, a:c] = True
        own = image[0][covered & part & ~red]
        assert not len(own) or (own.median() - (0.2 * number + 0.1)).abs() < 0.25
    for a, b, c, d in target["negatives"].tolist():  # none reaches into another quarter
        inside = [a >= p - 0.01 and b >= q - 0.01 and c <= r + 0.01 and d <= s + 0.01 for p, q, r, s in quarters]
        assert sum(inside) == 1


def test_by_hand() -> None:
    """Four images of 8 x 8 that meet in the middle: each is halved and whole."""
    plain = torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 8, 8) / 4
    box, whole = np.array([[2, 4, 6, 8]]), np.array([[0, 0, 8, 8]])
    tiles = [(plain[k].clone(), target_of(box, whole, np.array([[0, 0, 2, 2]]))) for k in range(4)]
    image, target = mosaic.join(tiles, Group(np.arange(4), np.array([0.5, 0.5]), np.zeros((4, 2))))
    assert image[0].tolist() == [[0.0] * 4 + [0.25] * 4] * 4 + [[0.5] * 4 + [0.75] * 4] * 4
    assert target["boxes"].tolist() == [[1, 2, 3, 4], [5, 2, 7, 4], [1, 6, 3, 8], [5, 6, 7, 8]]
    assert target["negatives"].tolist() == [[0, 0, 4, 4], [4, 0, 8, 4], [0, 4, 4, 8], [4, 4, 8, 8]]
    assert target["ignore"].tolist() == [[0, 0, 1, 1], [4, 0, 5, 1], [0, 4, 1, 5], [4, 4, 5, 5]]


def test_a_cut_box_is_ignored_and_doubt_of_one_image_stays() -> None:
    """The first image fills a quarter of 2 x 2 from its upper left corner, with a part of the box below half."""
    blank = torch.zeros(3, 4, 4)
    tiles = [(blank, target_of(np.array([[2.0, 0, 8, 4]]) / 2)) for _ in range(4)]
    tiles[1][1]["doubt"], tiles[1][1]["doubt_scores"] = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0.5])
    parts = np.zeros((4, 2))
    target = mosaic.join(tiles, Group(np.arange(4), np.array([0.25, 0.5]), parts))[1]
    # left quarters are 1 x 2 of images of 2 x 2 (halved): the box [0.5, 0, 2, 1] shows a third of itself there
    # right ones 3 x 2 of 4 x 3 pixels: x times 3/4, y times 2/3
    torch.testing.assert_close(target["boxes"], torch.tensor([[1.75, 0, 4, 4 / 3], [1.75, 2, 4, 10 / 3]]))
    assert target["ignore"].tolist() == [[0.5, 0, 1, 1], [0.5, 2, 1, 3]]
    assert target["doubt"].tolist() == [[1, 0, 4, 2]] and target["doubt_scores"].tolist() == [0.5]


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 2), (1, 1), (3, 200)])
def test_degenerate_sizes(size: tuple[int, int]) -> None:
    tiles = [(torch.zeros(3, size[1], size[0]), target_of(np.zeros((0, 4))))] + [tile(k) for k in range(3)]
    for seed in range(20):
        image, target = mosaic.join(tiles, group_of(seed))
        assert image.shape == (3, size[1], size[0])
        assert (target["boxes"][:, 2:] <= torch.tensor(size)).all() and (target["boxes"] >= 0).all()


def test_without_a_probability_nothing_is_drawn_and_with_it_the_share_is_kept() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert mosaic.draw(3, 9, None, rng).entries.tolist() == [3] and rng.bit_generator.state == before
    sizes = [len(mosaic.draw(3, 9, 0.3, rng).entries) for _ in range(2000)]
    assert set(sizes) == {1, 4} and abs(sizes.count(4) / 2000 - 0.3) < 0.05


def test_a_batch_with_and_without_mosaic() -> None:
    """The entries that are asked for come first on their canvas; the same generator makes the same batch."""
    plain = training_set(Source())
    data = TrainingSet(plain.images, plain.targets, plain.rows, Augment(mosaic=1.0))
    for rows in CHOSEN:
        images, targets = data.batch(rows, np.random.default_rng(5))
        again, _ = data.batch(rows, np.random.default_rng(5))
        assert len(images) == len(targets) == len(rows)
        for one, two, target in zip(images, again, targets, strict=True):
            assert torch.equal(one, two) and len(target["negatives"]) == 4
            assert len(target["boxes"]) == len(target["labels"]) == len(target["w_cls"]) == len(target["pseudo"])
            assert len(target["boxes"]) + len(target["ignore"]) <= 4
    alone = TrainingSet(plain.images, plain.targets, plain.rows, Augment(mosaic=0.0))
    for index in range(N):
        image, target = alone.batch(np.array([index]), np.random.default_rng(5))
        expected, same = alone.sample(index, np.random.default_rng(5))
        assert torch.equal(image[0], expected) and torch.equal(target[0]["boxes"], same["boxes"])
