"""Self-supervised pre-training by SimSiam: a backbone learns features from images without any label.

Two random views of an image go through the backbone and a projection head (z1, z2) and then a prediction head (p1, p2).
The loss D(p1, z2) / 2 + D(p2, z1) / 2 is the negative cosine; z gets no gradient. Unit: cosine, -1 at best.

Source: 001, section 5.3.2, Eq. 5.1 and 5.2, Fig. 5.2; the settings are those of section 5.4. Heads and loss: lightly.
Differs from the paper: what section 5.4 leaves open is as in SimSiam: the rate is `lr` x batch size / 256 and falls by
a cosine, the blur has probability 0.5, the heads have 3 and 2 layers. The changes of colour come in one order and are
clipped once; the hue turns in the YIQ plane, not in HSV; a crop longer than the image is cut, not drawn again. The
last images of an epoch that fill no batch are left out.
Fails when: a view hides what the classes differ by (colour, side), or the outputs collapse, as they may for few epochs,
high rates and small batches. `std` sees outputs that are all alike, `dimensions` outputs that all lie on one line.

Epoch e draws its order, its views and torch's randomness from (seed, e) alone: killed and resumed, it ends at the same
weights, bit for bit on one CPU machine. It needs the extra `ssl`.

Worked by hand: (3, 4) and (4, 3) become (0.6, 0.8) and (0.8, 0.6); each column deviates by +-0.1, so its standard
deviation is sqrt(2 x 0.01 / 1). Opposite outputs give sqrt(2) and 0; their mean is the healthy 1 / sqrt(2).

>>> round(spread(torch.tensor([[3.0, 4.0], [4.0, 3.0]])), 4), round(spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), 4)
(0.1414, 0.7071)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from labelwise.train.fit import Checkpoint, _reproducible
from labelwise.types import LabelwiseError

STRENGTH = (0.4, 0.4, 0.4, 0.1)
"""Largest change of brightness, contrast, saturation and hue (the last in turns of the circle)."""

SIGMA_PX = (0.1, 2.0)
"""Standard deviation of the blur."""

ASPECT = 4 / 3
"""A crop's sides are between 1 / ASPECT and ASPECT of each other."""

LUMA = np.array([0.299, 0.587, 0.114])
YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


class Info(TypedDict):
    """What a pre-training was like. `losses` holds the mean of every epoch, those before a kill too."""

    epochs: int
    steps: int
    images_per_s: float
    loss: float
    losses: list[float]
    std: float
    std_expected: float
    dimensions: float
    collapsed: bool
    warning: str


def pretrain(
    pixels: UInt8[np.ndarray, "n h w 3"],
    backbone: nn.Module,
    *,
    epochs: int = 800,
    batch_size: int = 512,
    lr: float = 0.03,
    weight_decay: float = 1e-4,
    momentum: float = 0.9,
    seed: int = 0,
    crop_scale: tuple[float, float] = (0.2, 1.0),
    flip: float = 0.5,
    jitter: float = 0.8,
    grey: float = 0.2,
    blur: float = 0.5,
    width: int = 2048,
    bottleneck: int = 512,
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto",
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true",
    threads: int | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_every_s: float = 60.0,
    progress: Callable[[int], None] | None = None,
) -> Info:
    """Trains `backbone` (images [b, 3, h, w] in 0..1 to features [b, D]) in place; `pixels` may be a memory map.

    `lr` is for a batch of 256; `batch_size` is at most the pool. `weight_decay` is of all parameters, norms and biases
    too. `crop_scale` is the share of the image that a crop covers. `flip`, `jitter`, `grey` and `blur` are the
    probabilities of a view that is mirrored, has changed colours (STRENGTH), none, or is blurred (SIGMA_PX). `width` is
    the columns of the projection, `bottleneck` those inside the prediction. `accelerator`, `precision` and `threads`
    are as in `config.Train`. `checkpoint` keeps an unfinished pre-training, at most every `checkpoint_every_s`;
    `progress` is called with the steps done since its last call.

    Raises:
        LabelwiseError: images or settings out of range, features that are not [b, D], a loss that is not finite.
    """
    settings = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "momentum": momentum,
        "seed": seed, "crop_scale": list(crop_scale), "flip": flip, "jitter": jitter, "grey": grey, "blur": blur,
        "width": width, "bottleneck": bottleneck, "precision": precision, "pixels": list(np.shape(pixels)),
    }  # fmt: skip
    _check(pixels, settings)
    fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    with _reproducible(fabric.device, threads):
        torch.manual_seed(seed)
        plain = _Siamese(fabric.to_device(backbone), _columns(fabric, backbone, pixels), width, bottleneck)
        sgd = torch.optim.SGD(plain.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
        model, optimiser = fabric.setup(plain, sgd)
        settings["weights"] = [[name, *value.shape] for name, value in plain.state_dict().items()]
        losses = _resume(plain, optimiser, checkpoint, settings)
        run = _Run(fabric, model, optimiser, pixels, settings, progress)
        first, started = len(losses), time.monotonic()
        saved, std, dimensions = started, 0.0, 0.0
        if progress is not None:
            progress(first * run.per_epoch)
        for epoch in range(first, epochs):
            loss, std, dimensions = run.epoch(epoch)
            losses.append(loss)
            if checkpoint is not None and epoch + 1 < epochs and time.monotonic() - saved >= checkpoint_every_s:
                checkpoint.save(_state(plain, optimiser, losses), {"settings": json.dumps(settings)})
                saved = time.monotonic()
    seconds = max(time.monotonic() - started, 1e-9)
    warning = _warning(std, dimensions, width)
    return Info(
        epochs=epochs, steps=epochs * run.per_epoch, loss=losses[-1], losses=losses, std=std, dimensions=dimensions,
        images_per_s=(epochs - first) * run.per_epoch * run.batch / seconds, std_expected=width**-0.5,
        collapsed=bool(warning), warning=warning,
    )  # fmt: skip


def view(
    images: Float[Tensor, "b 3 h w"], rng: np.random.Generator, *, crop_scale: tuple[float, float],
    flip: float, jitter: float, grey: float, blur: float,
) -> Float[Tensor, "b 3 h w"]:  # fmt: skip
    """One random view of each image (0..1), each by its own draw: crop and mirror, colours, blur."""
    return _blur(_colour(_crop(images, rng, crop_scale, flip), rng, jitter, grey), rng, blur)


def spread(outputs: Float[Tensor, "b d"]) -> float:
    """Mean over the columns of the standard deviation of the rows at length 1: 0 if all alike, 1 / sqrt(d) if not."""
    return float(functional.normalize(outputs, dim=1).std(dim=0).mean())


def dimensions_of(outputs: Float[Tensor, "b d"]) -> float:
    """How many directions the rows vary in: (sum of variances)² / sum of squares; 1 on a line, 0 for one point."""
    outputs = outputs.cpu().double()
    gram = (outputs - outputs.mean(dim=0)) @ (outputs - outputs.mean(dim=0)).T
    return float(gram.trace().square() / gram.square().sum().clamp(min=1e-300))


def _crop(images: Tensor, rng: np.random.Generator, scale: tuple[float, float], flip: float) -> Tensor:
    """Bilinear crops, each brought to the size of the image; positions in -1..1 from edge to edge."""
    b, _, height, width = images.shape
    aspect = np.exp(rng.uniform(-math.log(ASPECT), math.log(ASPECT), b))
    area, shape = rng.uniform(*scale, b), height / width
    size = np.sqrt(np.stack([area * aspect * shape, area / aspect / shape], axis=1)).clip(max=1)
    theta = np.zeros((b, 2, 3))
    theta[:, :, 2] = rng.uniform(-1, 1, (b, 2)) * (1 - size)
    theta[:, 0, 0] = np.where(rng.random(b) < flip, -size[:, 0], size[:, 0])
    theta[:, 1, 1] = size[:, 1]
    grid = functional.affine_grid(_on(images, theta), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _colour(images: Tensor, rng: np.random.Generator, jitter: float, grey: float) -> Tensor:
    """Brightness, contrast about the mean grey, saturation, hue, grey: one 3x3 matrix and one number per image."""
    b = len(images)
    drawn = rng.uniform(-1, 1, (4, b)) * np.array(STRENGTH)[:, None] * (rng.random(b) < jitter)
    brightness, contrast, saturation = 1 + drawn[:3]
    saturation, angle = np.where(rng.random(b) < grey, 0, saturation), 2 * np.pi * drawn[3]
    turn = np.zeros((b, 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    s = saturation[:, None, None]
    matrix = (np.linalg.inv(YIQ) @ turn @ YIQ) @ (s * np.eye(3) + (1 - s) * LUMA)  # rows sum to 1: grey stays grey
    mean = torch.einsum("bchw,c->b", images, _on(images, LUMA)) / images[0, 0].numel()
    shift = _on(images, brightness * (1 - contrast)) * mean
    turned = _on(images, matrix * (brightness * contrast)[:, None, None]) @ images.flatten(2)
    return (turned + shift.view(b, 1, 1)).clamp_(0, 1).view_as(images)


def _blur(images: Tensor, rng: np.random.Generator, blur: float) -> Tensor:
    """A Gaussian blur of the chosen images: a product with one matrix per side; its rows sum to 1 at the edges too."""
    chosen = np.flatnonzero(rng.random(len(images)) < blur)
    sigma = rng.uniform(*SIGMA_PX, len(images))[chosen]
    sides = []
    for length in images.shape[2:]:
        distance = np.subtract.outer(np.arange(length), np.arange(length))
        weights = np.exp(-0.5 * (distance / sigma[:, None, None]) ** 2)
        sides.append(_on(images, weights / weights.sum(axis=2, keepdims=True))[:, None])
    rows = torch.from_numpy(chosen).to(images.device)
    return images.index_copy(0, rows, sides[0] @ images[rows] @ sides[1].transpose(2, 3))


def _on(images: Tensor, values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).to(images.device, images.dtype)


class _Siamese(nn.Module):
    """Backbone, projection and prediction; two views to (p1, z1, p2, z2), where z is cut from the gradient."""

    def __init__(self, backbone: nn.Module, columns: int, width: int, bottleneck: int) -> None:
        super().__init__()
        heads, _ = _lightly()
        self.backbone = backbone
        self.projection = heads.SimSiamProjectionHead(columns, width, width)
        self.prediction = heads.SimSiamPredictionHead(width, bottleneck, width)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z1, z2 = (self.projection(self.backbone(x)) for x in (first, second))
        return self.prediction(z1), z1.detach(), self.prediction(z2), z2.detach()


def _lightly() -> tuple[Any, Any]:
    """Its modules `heads` and `loss`."""
    try:
        from lightly import loss  # type: ignore[import-untyped, import-not-found, unused-ignore]
        from lightly.models.modules import heads  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise LabelwiseError("pre-training needs the package lightly: install labelwise[ssl]") from error
    return heads, loss


@dataclass
class _Run:
    """What an epoch needs."""

    fabric: Fabric
    model: Any
    optimiser: Any
    pixels: np.ndarray
    settings: dict[str, Any]
    progress: Callable[[int], None] | None

    def __post_init__(self) -> None:
        self.distance = _lightly()[1].NegativeCosineSimilarity()
        self.batch = min(self.settings["batch_size"], len(self.pixels))
        self.per_epoch = len(self.pixels) // self.batch
        self.view = {k: self.settings[k] for k in ("crop_scale", "flip", "jitter", "grey", "blur")}

    def epoch(self, epoch: int) -> tuple[float, float, float]:
        """The mean loss and spread of the epoch, and the dimensions of its last outputs."""
        rng = np.random.default_rng((self.settings["seed"], epoch))
        torch.manual_seed(int(rng.integers(2**62)))
        order, steps = rng.permutation(len(self.pixels)), self.settings["epochs"] * self.per_epoch
        self.model.train()
        losses, spreads = [], []
        for number in range(self.per_epoch):
            turn = (epoch * self.per_epoch + number) / steps
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings["lr"] * self.batch / 256 * 0.5 * (1 + math.cos(math.pi * turn))
            loss, outputs = self._step(order[number * self.batch : (number + 1) * self.batch], rng, epoch)
            losses.append(loss)
            spreads.append(spread(outputs))
            if self.progress is not None:
                self.progress(1)
        return float(np.mean(losses)), float(np.mean(spreads)), dimensions_of(outputs)

    def _step(self, rows: np.ndarray, rng: np.random.Generator, epoch: int) -> tuple[float, Tensor]:
        images = self.fabric.to_device(torch.from_numpy(self.pixels[rows])).permute(0, 3, 1, 2).float().div_(255)
        images = images.contiguous()
        outputs = self.model(view(images, rng, **self.view), view(images, rng, **self.view))
        p1, z1, p2, z2 = (x.float() for x in outputs)
        loss = self.distance(p1, z2) / 2 + self.distance(p2, z1) / 2
        if not torch.isfinite(loss):
            raise LabelwiseError(
                f"epoch {epoch}: the loss is not finite for the images {', '.join(map(str, rows[:8]))}, ...; "
                f"expected a number in -1..1. Lower lr (now {self.settings['lr']:g})"
            )
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.optimiser.step()
        return float(loss.detach()), z1


def _columns(fabric: Fabric, backbone: nn.Module, pixels: np.ndarray) -> int:
    """D, found by asking the backbone for the features of two images."""
    images = fabric.to_device(torch.from_numpy(pixels[:2].astype(np.float32) / 255)).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = backbone.eval()(images)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        raise LabelwiseError(
            f"backbone: expected features [2, D] of two images, got {getattr(features, 'shape', type(features))}; "
            "pool its last feature map"
        )
    return features.shape[1]


def _state(model: nn.Module, optimiser: Any, losses: list[float]) -> dict[str, np.ndarray]:
    tensors = {f"model.{name}": value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    for number, slots in optimiser.state_dict()["state"].items():
        if slots.get("momentum_buffer") is not None:
            tensors[f"momentum.{number}"] = slots["momentum_buffer"].detach().cpu().numpy()
    return tensors | {"losses": np.array(losses)}


def _resume(model: nn.Module, optimiser: Any, checkpoint: Checkpoint | None, settings: dict[str, Any]) -> list[float]:
    """Loads an unfinished pre-training of the same settings; returns the losses of its epochs ([]: a new one)."""
    found = None if checkpoint is None else checkpoint.load()
    if found is None or found[1].get("settings") != json.dumps(settings):
        return []
    tensors = {name: torch.from_numpy(value.copy()) for name, value in found[0].items()}
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    slots = {int(k[9:]): {"momentum_buffer": v} for k, v in tensors.items() if k.startswith("momentum.")}
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    losses: list[float] = tensors["losses"].tolist()
    return losses


def _warning(std: float, dimensions: float, width: int) -> str:
    """Empty where the outputs are healthy."""
    do = "Its features are of no use: lower lr, raise batch_size, or look whether all images are alike"
    if std < 0.5 * width**-0.5:
        return (
            f"collapsed: the outputs of all images are nearly alike (standard deviation {std:.2g}, expected about "
            f"{width**-0.5:.2g} = 1 / sqrt({width})). {do}"
        )
    if dimensions < 2:
        return f"collapsed: the outputs of all images lie on one line ({dimensions:.2f} dimensions). {do}"
    return ""


def _check(pixels: np.ndarray, settings: dict[str, Any]) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or len(pixels) < 2 or not pixels.size:
        raise LabelwiseError(
            f"pixels: expected uint8 [n, h, w, 3] of at least 2 images, got {pixels.dtype} {list(pixels.shape)}"
        )
    least = {"epochs": 1, "batch_size": 2, "width": 1, "bottleneck": 1, "seed": 0, "weight_decay": 0, "momentum": 0}
    for name, bound in least.items():
        if not settings[name] >= bound:
            raise LabelwiseError(f"{name} = {settings[name]}: expected at least {bound}")
    for name in ("flip", "jitter", "grey", "blur"):
        if not 0 <= settings[name] <= 1:
            raise LabelwiseError(f"{name} = {settings[name]}: expected a probability, 0 to 1")
    low, high = settings["crop_scale"]
    if not 0 < low <= high <= 1:
        raise LabelwiseError(f"crop_scale = {low, high}: expected 0 < least <= largest <= 1")
    if not 0 < settings["lr"] < math.inf:
        raise LabelwiseError(f"lr = {settings['lr']}: expected a number above 0")
