"""Views: the affine says where pixels went, the given image stays as it is, the same generator gives the same view."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelwise import catalog
from labelwise.predict.match import onto_view
from labelwise.predict.views import cutout, downscale
from labelwise.types import LabelwiseError

VIEWS = catalog.names("predict/views")
BOX = np.array([[24, 12, 64, 40]], np.float32)
INEXACT = {"rotate"}


def view_of(name: str, image: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    menu = {"image": image, "boxes": torch.from_numpy(BOX), "rng": np.random.default_rng(seed)}
    view, affine = catalog.find("predict/views", name).call(menu, {})
    return view, affine.numpy()


def bright_rectangle(height: int = 80, width: int = 120) -> torch.Tensor:
    image = torch.full((3, height, width), 0.2)
    x1, y1, x2, y2 = BOX[0].astype(int)
    image[:, y1:y2, x1:x2] = 0.9
    return image


def test_the_six_views_are_found() -> None:
    assert set(VIEWS) >= {"flip", "cutout", "downscale", "rotate", "noise", "colour"}


@pytest.mark.parametrize("name", VIEWS)
def test_the_rectangle_lies_where_the_affine_says(name: str) -> None:
    image = bright_rectangle()
    before = image.clone()
    view, affine = view_of(name, image)
    assert torch.equal(image, before), "a view must not change the image that it is given"
    assert view.dtype == torch.float32 and view.min() >= 0 and view.max() <= 1
    grey = view.mean(dim=0)
    rows, columns = torch.nonzero(grey > (0.3 * grey.median() + 0.7 * grey.max()) * 0.85, as_tuple=True)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    expected = onto_view(BOX, affine[None])[0]
    np.testing.assert_allclose(seen, expected, atol=1.5 if name in INEXACT else 0.51)


@pytest.mark.parametrize("name", VIEWS)
def test_the_same_generator_gives_the_same_view(name: str) -> None:
    image = bright_rectangle()
    (a, affine_a), (b, affine_b) = view_of(name, image, seed=3), view_of(name, image, seed=3)
    assert torch.equal(a, b)
    np.testing.assert_array_equal(affine_a, affine_b)
    if "rng" in catalog.find("predict/views", name).inputs:
        assert not torch.equal(a, view_of(name, image, seed=4)[0])


@pytest.mark.parametrize("name", VIEWS)
def test_boxes_return_unchanged_through_an_exact_view_and_grow_through_rotation(name: str) -> None:
    image = torch.rand(3, 75, 133, generator=torch.Generator().manual_seed(0))
    affine = view_of(name, image)[1].astype(np.float64)
    linear = np.linalg.inv(affine[:, :2])
    inverse = np.concatenate([linear, -linear @ affine[:, 2:]], axis=1)
    there_and_back = onto_view(onto_view(BOX, affine[None]), inverse[None])
    if name in INEXACT:
        assert (there_and_back[:, :2] < BOX[:, :2]).all() and (there_and_back[:, 2:] > BOX[:, 2:]).all()
    else:
        np.testing.assert_allclose(there_and_back, BOX, atol=1e-3)


def test_cutout_hides_between_a_tenth_and_four_tenths_of_the_worst_hidden_box() -> None:
    boxes = torch.tensor([[10.0, 10.0, 60.0, 50.0], [70.0, 30.0, 90.0, 70.0]])
    patched = 0
    for seed in range(50):
        view, _ = cutout.apply(torch.ones(3, 80, 120), boxes, np.random.default_rng(seed), patches=1)
        hidden = [float((view[0, y1:y2, x1:x2] == 0).float().mean()) for x1, y1, x2, y2 in boxes.int().tolist()]
        patched += max(hidden) > 0
        assert max(hidden) == 0 or 0.1 <= max(hidden) <= 0.4
    assert patched > 40


def test_a_box_that_fills_the_image_can_not_be_hidden_to_a_tenth() -> None:
    image = torch.ones(3, 50, 50)
    view, _ = cutout.apply(image, torch.tensor([[0.0, 0.0, 50.0, 50.0]]), np.random.default_rng(0))
    assert torch.equal(view, image)


def test_downscale_refuses_to_enlarge_and_never_vanishes() -> None:
    assert downscale.apply(torch.ones(3, 1, 1), factor=0.1)[0].shape == (3, 1, 1)
    with pytest.raises(LabelwiseError, match=r"factor = 1\.5; expected"):
        downscale.apply(torch.ones(3, 4, 4), factor=1.5)
