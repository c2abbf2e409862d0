"""VAAL on features: what is unlike the labelled images is found, the same seed repeats, and nothing is ever NaN."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from labelwise.predict.discriminator import labelled_probability
from labelwise.types import LabelwiseError


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clusters(seed: int = 0, n: int = 60, width: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features near one of two centres, which are labelled (half of the first cluster), and the cluster."""
    rng = np.random.default_rng(seed)
    far = np.arange(n) % 2
    features = rng.standard_normal((n, width)) + 6 * far[:, None]
    labelled = (far == 0) & (np.arange(n) % 4 == 0)
    return features.astype(np.float32), labelled, far


@pytest.mark.parametrize("seed", range(3))
def test_a_far_unlabelled_cluster_is_told_apart(seed: int) -> None:
    features, labelled, far = clusters(seed)
    told = labelled_probability(features, labelled, seed=seed)
    assert told.dtype == np.float32 and told.shape == (60,)
    near = told[(far == 0) & ~labelled]
    assert near.mean() > told[far == 1].mean() + 0.3
    assert np.median(near) > told[far == 1].max()


def test_the_scale_of_a_column_plays_no_part() -> None:
    features, labelled, _ = clusters()
    moved = features * np.float32(2.0**20) + 0
    np.testing.assert_allclose(
        labelled_probability(moved, labelled, seed=0), labelled_probability(features, labelled, seed=0), atol=1e-6
    )


def test_the_same_seed_gives_the_same_numbers_and_touches_nothing() -> None:
    features, labelled, _ = clusters()
    given, mask = features.copy(), labelled.copy()
    before, mode = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    a = labelled_probability(features, labelled, seed=(3, 1), epochs=20)
    torch.manual_seed(99)
    b = labelled_probability(features, labelled, seed=(3, 1), epochs=20)
    torch.set_rng_state(before)
    c = labelled_probability(features, labelled, seed=(3, 2), epochs=20)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == mode  # noqa: NPY002
    np.testing.assert_array_equal(features, given)
    np.testing.assert_array_equal(labelled, mask)


def test_it_can_be_asked_where_no_gradient_is_wanted() -> None:
    features, labelled, _ = clusters()
    want = labelled_probability(features, labelled, seed=0, epochs=3)
    with torch.inference_mode():
        np.testing.assert_array_equal(labelled_probability(features, labelled, seed=0, epochs=3), want)


@pytest.mark.parametrize(
    ("case", "share"),
    [
        ("none labelled", 0.0),
        ("all labelled", 1.0),
        ("all alike", 0.25),
        ("alike but for rounding", 0.25),
        ("no column", 0.25),
    ],
)
def test_nothing_to_tell_apart_gives_the_share(case: str, share: float) -> None:
    features, labelled, _ = clusters()
    if case == "none labelled":
        labelled[:] = False
    elif case == "all labelled":
        labelled[:] = True
    elif case == "all alike":
        features[:] = features[0]
    elif case == "alike but for rounding":
        features = (7.0 + 1e-9 * features.astype(np.float64)).astype(np.float64)
    else:
        features = features[:, :0]
    assert labelled_probability(features, labelled, seed=0).tolist() == [share] * 60


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("is_labelled", [False, True])
def test_no_image_and_one_image(n: int, is_labelled: bool) -> None:
    told = labelled_probability(np.ones((n, 4), np.float32), np.full(n, is_labelled), seed=0)
    assert told.tolist() == [float(is_labelled)] * n


@pytest.mark.parametrize(
    "case", ["two images", "constant columns", "an outlier", "one column", "huge", "tiny", "one labelled"]
)
def test_probabilities_stay_probabilities(case: str) -> None:
    features, labelled, _ = clusters()
    if case == "two images":
        features, labelled = features[:2], np.array([True, False])
    elif case == "constant columns":
        features[:, ::2] = 5
    elif case == "an outlier":
        features[7, 3] = 1e9
    elif case == "one column":
        features = features[:, :1]
    elif case == "huge":
        features = features.astype(np.float64) * 1e300
    elif case == "tiny":
        features = features * np.float32(1e-36)
    else:
        labelled[1:] = False
    told = labelled_probability(features, labelled, seed=0, epochs=20)
    assert np.isfinite(told).all() and (told >= 0).all() and (told <= 1).all()


def test_identical_images_are_told_the_same() -> None:
    features, labelled, _ = clusters()
    features[1::2] = features[1]
    told = labelled_probability(features, labelled, seed=0, epochs=20)
    assert np.ptp(told[1::2]) < 1e-6


def test_three_hundred_images_take_seconds() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 192)).astype(np.float32)
    began = time.thread_time()
    labelled_probability(features, rng.random(300) < 0.1, seed=0)
    assert time.thread_time() - began < 5


def test_bad_input_is_named() -> None:
    features, labelled, _ = clusters()
    with pytest.raises(LabelwiseError, match=r"features of shape \(60, 12\) and labelled of shape \(59,\)"):
        labelled_probability(features, labelled[1:], seed=0)
    with pytest.raises(LabelwiseError, match="type int64; expected"):
        labelled_probability(features, labelled.astype(np.int64), seed=0)
    features[5, 2] = np.nan
    with pytest.raises(LabelwiseError, match="the features of image 5 are not finite"):
        labelled_probability(features, labelled, seed=0)
