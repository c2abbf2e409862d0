"""SimSiam: views against a loop, the loss and its stopped gradient, resumed to the same weights, collapse is told."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelwise.train.simsiam import LUMA, SIGMA_PX, STRENGTH, YIQ, dimensions_of, pretrain, spread, view
from labelwise.types import LabelwiseError

NOTHING = {"crop_scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0}
SMALL = {"width": 32, "bottleneck": 8, "threads": 1, "accelerator": "cpu", "batch_size": 8}


class Net(nn.Module):
    """Three convolutions; dropout makes it depend on torch's randomness too."""

    def __init__(self, channels: int = 8, drop: float = 0.1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, channels), (channels, 2 * channels), (2 * channels, 4 * channels)):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(drop), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@dataclass
class Kept:
    """A checkpoint in memory."""

    saves: int = 0
    state: tuple[Mapping[str, np.ndarray], Mapping[str, str]] | None = None

    def load(self):
        return self.state

    def save(self, tensors, metadata):
        self.saves += 1
        self.state = ({k: v.copy() for k, v in tensors.items()}, dict(metadata))


class Killed(Exception):
    pass


def noise(n: int, size: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def net(seed: int = 1, **settings) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(**settings)


# ------------------------------------------------------------------------------------------------------------- views


def slow_views(images: np.ndarray, rng, crop_scale, flip, jitter, grey, blur) -> np.ndarray:
    """The same draws, one image and one pixel at a time."""
    b, _, height, width = images.shape
    aspect = np.exp(rng.uniform(-math.log(4 / 3), math.log(4 / 3), b))
    area = rng.uniform(*crop_scale, b)
    centre, mirrored = rng.uniform(-1, 1, (b, 2)), rng.random(b) < flip
    drawn = rng.uniform(-1, 1, (4, b)) * np.array(STRENGTH)[:, None]
    changed, colourless = rng.random(b) < jitter, rng.random(b) < grey
    blurred, sigma = rng.random(b) < blur, rng.uniform(*SIGMA_PX, b)
    out = np.empty_like(images)
    for i in range(b):
        crop_w = min(width, math.sqrt(area[i] * height * width * aspect[i]))
        crop_h = min(height, math.sqrt(area[i] * height * width / aspect[i]))
        left, top = (width - crop_w) * (centre[i, 0] + 1) / 2, (height - crop_h) * (centre[i, 1] + 1) / 2
        for y in range(height):
            for x in range(width):
                column = width - 1 - x if mirrored[i] else x
                v = np.clip(top + (y + 0.5) * crop_h / height - 0.5, 0, height - 1)
                u = np.clip(left + (column + 0.5) * crop_w / width - 0.5, 0, width - 1)
                y0, x0 = int(v), int(u)
                y1, x1, fy, fx = min(y0 + 1, height - 1), min(x0 + 1, width - 1), v - y0, u - x0
                upper = images[i, :, y0, x0] * (1 - fx) + images[i, :, y0, x1] * fx
                lower = images[i, :, y1, x0] * (1 - fx) + images[i, :, y1, x1] * fx
                out[i, :, y, x] = upper * (1 - fy) + lower * fy
        out[i] = slow_colours(out[i], drawn[:, i] * changed[i], colourless[i])
        if blurred[i]:
            out[i] = slow_blur(out[i], sigma[i])
    return out


def slow_colours(image: np.ndarray, drawn: np.ndarray, colourless: bool) -> np.ndarray:
    image = image * (1 + drawn[0])
    image = image * (1 + drawn[1]) - drawn[1] * np.tensordot(LUMA, image, 1).mean()
    for y, x in np.ndindex(image.shape[1:]):
        pixel = image[:, y, x]
        light = LUMA @ pixel
        pixel = pixel * (1 + drawn[2]) - drawn[2] * light
        yiq, angle = YIQ @ pixel, 2 * math.pi * drawn[3]
        turned = (yiq[1] + 1j * yiq[2]) * np.exp(1j * angle)
        pixel = np.linalg.solve(YIQ, [yiq[0], turned.real, turned.imag])
        image[:, y, x] = light if colourless else pixel
    return image.clip(0, 1)


def slow_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    out = np.empty_like(image)
    rows, columns = np.arange(image.shape[1]), np.arange(image.shape[2])
    for y, x in np.ndindex(image.shape[1:]):
        weights = np.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
        out[:, y, x] = (image * weights).sum((1, 2)) / weights.sum()
    return out


@pytest.mark.parametrize("size", [(7, 7), (5, 9), (1, 4), (8, 3)])
def test_views_against_a_loop(size):
    images = np.random.default_rng(0).random((9, 3, *size))
    settings = {"crop_scale": (0.2, 1.0), "flip": 0.5, "jitter": 0.8, "grey": 0.2, "blur": 0.5}
    got = view(torch.from_numpy(images), np.random.default_rng(4), **settings)
    np.testing.assert_allclose(got.numpy(), slow_views(images, np.random.default_rng(4), **settings), atol=1e-9)


@pytest.mark.parametrize("name", ["flip", "jitter", "grey", "blur"])
def test_each_change_alone_against_a_loop(name):
    images = np.random.default_rng(1).random((4, 3, 6, 6))
    settings = NOTHING | {name: 1.0}
    got = view(torch.from_numpy(images), np.random.default_rng(5), **settings)
    np.testing.assert_allclose(got.numpy(), slow_views(images, np.random.default_rng(5), **settings), atol=1e-9)


def test_an_even_grey_image_stays_even_and_grey():
    images = torch.full((16, 3, 8, 8), 0.4, dtype=torch.float64)
    got = view(images, np.random.default_rng(0), **NOTHING | {"jitter": 1.0, "blur": 1.0, "grey": 0.5})
    assert float((got - got[:, :1, :1, :1]).abs().max()) < 1e-12
    assert 0.2 < float(got.min()) < float(got.max()) < 0.6


def test_views_of_one_batch_differ_and_keep_dtype_and_range():
    images = torch.rand(1, 3, 8, 8).expand(6, -1, -1, -1)
    got = view(images, np.random.default_rng(0), crop_scale=(0.2, 1), flip=0.5, jitter=0.8, grey=0.2, blur=0.5)
    assert got.dtype == torch.float32 and got.shape == images.shape
    assert float(got.min()) >= 0 and float(got.max()) <= 1
    assert all(float((got[i] - got[j]).abs().max()) > 1e-3 for i in range(6) for j in range(i))


# ---------------------------------------------------------------------------------------------------------- measures


def test_spread_and_dimensions_against_numpy():
    outputs = np.random.default_rng(0).normal(size=(40, 7)) * np.arange(1, 8)
    unit = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    assert spread(torch.from_numpy(outputs)) == pytest.approx(unit.std(axis=0, ddof=1).mean())
    variances = np.linalg.eigvalsh(np.cov(outputs.T))
    assert dimensions_of(torch.from_numpy(outputs)) == pytest.approx(variances.sum() ** 2 / (variances**2).sum())


def test_a_line_has_one_dimension_and_a_point_none():
    line = torch.linspace(-1, 1, 10)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    assert dimensions_of(line) == pytest.approx(1)
    assert dimensions_of(torch.ones(10, 3)) == 0
    assert spread(torch.ones(10, 3)) == 0


# ---------------------------------------------------------------------------------------------------------- training


def test_one_step_is_one_step_of_equation_5_1():
    """SGD with the gradients of -(p1.z2 / |p1||z2| + p2.z1 / |p2||z1|) / 2, z held fixed, and decay of everything."""
    heads = pytest.importorskip("lightly.models.modules.heads")
    pixels, trained, by_hand = noise(8), net(drop=0.0), net(drop=0.0)
    pretrain(pixels, trained, epochs=1, lr=6.4, weight_decay=0.01, seed=3, **SMALL)

    with torch.random.fork_rng():
        torch.manual_seed(3)
        project, predict = heads.SimSiamProjectionHead(32, 32, 32), heads.SimSiamPredictionHead(32, 8, 32)
    rng = np.random.default_rng((3, 0))
    rng.integers(2**62)
    images = torch.from_numpy(pixels[rng.permutation(8)]).permute(0, 3, 1, 2).float() / 255
    settings = {"crop_scale": (0.2, 1.0), "flip": 0.5, "jitter": 0.8, "grey": 0.2, "blur": 0.5}
    z1, z2 = (project(by_hand(view(images, rng, **settings))) for _ in range(2))
    p1, p2 = predict(z1), predict(z2)
    loss = 0.0
    for p, z in ((p1, z2), (p2, z1)):
        z = torch.from_numpy(z.detach().numpy().copy())
        loss = loss - ((p * z).sum(1) / p.norm(dim=1) / z.norm(dim=1)).mean() / 2
    loss.backward()
    rate = 6.4 * 8 / 256
    for ours, theirs in zip(trained.parameters(), by_hand.parameters(), strict=True):
        expected = theirs - rate * (theirs.grad + 0.01 * theirs)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 7, 11])
def test_killed_it_ends_at_the_same_weights(steps):
    pytest.importorskip("lightly")
    settings = {"epochs": 4, "seed": 5, "checkpoint_every_s": 0.0, **SMALL}
    whole, kept, done = net(), Kept(), []
    undisturbed = pretrain(noise(27), whole, **settings)  # 3 steps an epoch, 3 images over

    def kill(step: int) -> None:
        done.append(step)
        if sum(done) >= steps:
            raise Killed

    with pytest.raises(Killed):
        pretrain(noise(27), net(), checkpoint=kept, progress=kill, **settings)
    assert kept.saves == (steps - 1) // 3
    resumed, told = net(seed=9) if kept.state else net(), []
    info = pretrain(noise(27), resumed, checkpoint=kept, progress=told.append, **settings)
    assert told[0] == (steps - 1) // 3 * 3 and sum(told) == info["steps"] == 12
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    same = ("loss", "losses", "std", "dimensions", "warning")
    assert [info[k] for k in same] == [undisturbed[k] for k in same]


def test_a_checkpoint_of_other_settings_or_another_backbone_is_left_alone():
    pytest.importorskip("lightly")
    kept = Kept()
    pretrain(noise(16), net(), epochs=2, checkpoint=kept, checkpoint_every_s=0.0, **SMALL)
    assert json.loads(kept.state[1]["settings"])["epochs"] == 2
    for settings, backbone in (
        ({"epochs": 3}, net()),
        ({"epochs": 2, "lr": 0.01}, net()),
        ({"epochs": 2}, net(channels=4)),
    ):
        told: list[int] = []
        other = Kept(state=kept.state)
        pretrain(noise(16), backbone, checkpoint=other, progress=told.append, **SMALL | settings)
        assert told[0] == 0


def test_seed_matters_and_global_randomness_is_left_alone():
    pytest.importorskip("lightly")
    before = torch.random.get_rng_state()
    weights = []
    for seed in (0, 0, 1):
        backbone = net()
        pretrain(noise(16), backbone, epochs=1, seed=seed, **SMALL)
        weights.append(backbone.layers[0].weight)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not torch.are_deterministic_algorithms_enabled()


class Constant(nn.Module):
    def __init__(self, line: bool) -> None:
        super().__init__()
        self.weight, self.line = nn.Parameter(torch.ones(4)), line

    def forward(self, images: Tensor) -> Tensor:
        sign = torch.where(torch.arange(len(images)) % 2 == 0, 1.0, -1.0)[:, None]
        return (sign if self.line else torch.ones(len(images), 1)) * self.weight


def test_outputs_that_are_alike_or_on_a_line_are_told():
    pytest.importorskip("lightly")
    alike = pretrain(noise(16), Constant(line=False), epochs=1, lr=1e-6, **SMALL)
    assert alike["collapsed"] and alike["std"] < 0.01 and "nearly alike" in alike["warning"]
    assert alike["std_expected"] == pytest.approx(1 / math.sqrt(32))
    line = pretrain(noise(16), Constant(line=True), epochs=1, lr=1e-6, **SMALL)
    assert line["collapsed"] and line["dimensions"] == pytest.approx(1, abs=1e-3) and "one line" in line["warning"]
    assert line["std"] > 0.1


def test_a_small_pool_is_one_batch():
    pytest.importorskip("lightly")
    info = pretrain(noise(3), net(), epochs=2, **SMALL)
    assert info["steps"] == 2 and len(info["losses"]) == 2


def test_a_loss_that_is_not_finite_names_the_epoch():
    pytest.importorskip("lightly")
    backbone = net()
    with torch.no_grad():
        backbone.layers[0].weight[0] = float("nan")
    with pytest.raises(LabelwiseError, match=r"epoch 0: the loss is not finite .* Lower lr"):
        pretrain(noise(8), backbone, epochs=1, **SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixels": noise(4).astype(np.float32)}, "uint8"),
        ({"pixels": noise(4)[..., :1]}, r"\[n, h, w, 3\]"),
        ({"pixels": noise(1)}, "at least 2 images"),
        ({"pixels": noise(0)}, "at least 2 images"),
        ({"epochs": 0}, "epochs = 0: expected at least 1"),
        ({"batch_size": 1}, "batch_size = 1: expected at least 2"),
        ({"seed": -1}, "seed = -1"),
        ({"momentum": float("nan")}, "momentum = nan"),
        ({"flip": 1.5}, "flip = 1.5: expected a probability"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale"),
        ({"lr": 0.0}, "lr = 0.0"),
        ({"lr": float("nan")}, "lr = nan"),
    ],
)
def test_bad_input_is_told(settings, message):
    settings = {"pixels": noise(4), **SMALL, **settings}
    with pytest.raises(LabelwiseError, match=message):
        pretrain(settings.pop("pixels"), net(), **settings)


def test_a_backbone_without_pooling_is_told():
    with pytest.raises(LabelwiseError, match=r"expected features \[2, D\]"):
        pretrain(noise(4), nn.Conv2d(3, 4, 3), epochs=1, **SMALL)


def test_without_lightly_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightly", None)
    with pytest.raises(LabelwiseError, match=r"install labelwise\[ssl\]"):
        pretrain(noise(4), net(), epochs=1, **SMALL)


def probed(backbone: nn.Module, pixels: np.ndarray, labels: np.ndarray, labelled: int) -> float:
    """Accuracy of a linear classifier on the features, learnt on the first `labelled` images, of the others."""
    from sklearn.linear_model import LogisticRegression

    with torch.no_grad():
        x = backbone.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).numpy()
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    fitted = LogisticRegression(max_iter=1000).fit(x[:labelled], labels[:labelled])
    return float(fitted.score(x[labelled:], labels[labelled:]))


@pytest.mark.slow
def test_real_digits_are_learnt_without_labels(shared_data):
    pytest.importorskip("lightly")
    with np.load(shared_data / "mnist" / "mnist.npz") as file:
        rows = np.random.default_rng(0).choice(len(file["train_y"]), 2000, replace=False)
        pixels, labels = np.repeat(file["train_x"][rows][..., None], 3, axis=3), file["train_y"][rows]
    backbone = net(channels=24, drop=0.0)
    before = probed(backbone, pixels, labels, 200)
    settings = {"width": 256, "bottleneck": 64, "threads": 1, "accelerator": "cpu", "batch_size": 128}
    info = pretrain(pixels, backbone, epochs=25, lr=0.06, flip=0.0, **settings)
    assert info["losses"][-1] < -0.5 < info["losses"][0]
    assert not info["collapsed"] and info["std"] == pytest.approx(info["std_expected"], rel=0.2)
    assert probed(backbone, pixels, labels, 200) > before
