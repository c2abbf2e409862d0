"""Images per second of every detector at 640 px, training and prediction, fp32 and bf16, and how long each waits.

Training is `fit` as a round calls it: images in memory as bytes, zoomed, recoloured and mirrored while the model
trains, batches of 16; `train_waiting_share`: of its time, a step had nothing to train on; `in_turn_`: the same where
nothing is made ahead. Prediction is `predict` in batches of 16, from memory, and with every JPEG decoded anew;
`predict_waiting_share`: by how much that is slower. Models are trained before they predict, for suppression takes its
time from what is found. Weights are random: the speed does not depend on them.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from labelwise.config.features import Features
from labelwise.config.sections import Train
from labelwise.data import voc
from labelwise.data.image_reader import Images
from labelwise.models import classifier, faster_rcnn, retinanet, yolox_files
from labelwise.models.proposals import proposals
from labelwise.predict.detect import predict_detections
from labelwise.project.objects import Objects
from labelwise.targets import partial as partial_targets
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import fit
from labelwise.train.images import ImageSet
from labelwise.types import Labels, Pool, Rects

SIZE_PX, DRY_PX, BATCH = 640, 64, 16
RESNET50: dict[str, Any] = {"backbone": "resnet50", "fpn_channels": 256, "anchor_sizes": (32, 64, 128, 256, 512)}
RESNET50 |= {"trainable_stages": 4, "frozen_norms": True}
"""What COCO's weights make of it: the first stage and the norms stay."""
BUILD: dict[str, Callable[[int], nn.Module]] = {
    "retinanet, resnet50, paper size": lambda n: retinanet.build(n, head_convs=4, anchors_per_octave=3, **RESNET50),
    "faster_rcnn, resnet50, paper size": lambda n: faster_rcnn.build(
        n, proposals=1000, rpn_sampled=256, rois=512, roi_size=7, box_width=1024, **RESNET50
    ),
    "retinanet, shufflenet x1.0 (of boxes)": lambda n: retinanet.build(
        n, backbone="shufflenet_v2_x1_0", trainable_stages=3
    ),
}
SMALL: dict[str, Callable[[int], nn.Module]] = {"retinanet, small": lambda n: retinanet.build(n, fpn_channels=16)}
CIFAR_BATCH = 128
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
Lines = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Repeated:
    """A few images again and again, under as many numbers as are wanted."""

    images: Images

    def __getitem__(self, image: int, /) -> tuple[np.ndarray, np.ndarray]:
        return self.images[image % len(self.images)]


@dataclass(frozen=True)
class InTurn:
    """A training set whose batches are made one after the other, as a step needs them: how it was before."""

    data: TrainingSet
    teacher: None = None

    @property
    def whole(self) -> np.ndarray:
        return self.data.whole

    @property
    def occupied(self) -> np.ndarray:
        return self.data.occupied

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: np.ndarray, rng: np.random.Generator, /) -> tuple[Any, Any]:
        return self.data.batch(indices, rng)

    def names(self, indices: np.ndarray, /) -> str:
        return self.data.names(indices)


def training_set(pool: Pool, images: Images) -> TrainingSet:
    """All images, wholly looked over, changed as `labelwise init` has it."""
    assert pool.truth is not None
    n, size = len(pool), np.stack([pool.width_px, pool.height_px], axis=1)
    whole = Rects.from_rows(np.arange(n), np.concatenate([np.zeros_like(size), size], axis=1), n)
    known, nothing = Labels(pool.truth, whole, Rects.empty(n), np.ones(n, np.bool_)), np.zeros(0, np.float32)
    made = partial_targets.targets(
        known, None, lambda _: (nothing > 0, nothing, nothing), "everywhere", pool.width_px, pool.height_px, pool.crowd
    )
    images.warm(made.images)
    return TrainingSet(images, made, np.arange(len(made)), Augment(flip=0.5, scale=(0.6, 1.4), photometric=1.0))


def where(dry: bool) -> str:
    """The device."""
    return "cpu" if dry or not torch.cuda.is_available() else "cuda"


def timed(work: Callable[[], Any], at_least_s: float) -> float:
    """Runs of `work` a second, measured for at least so long, after one to warm up."""

    def once() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    once()
    runs, began = 0, time.perf_counter()
    while not runs or time.perf_counter() - began < at_least_s:
        once()
        runs += 1
    return runs / (time.perf_counter() - began)


def trained(model: nn.Module, data: Any, precision: Precision, steps: int, batch: int, device: str) -> dict[str, Any]:
    """Images a second of a training after a short one to warm up, and its waiting share."""
    wanted: Any = "32-true" if precision == "fp32" else "bf16-mixed"
    for count in (max(1, steps // 3), steps):
        rule = Train(steps=count, batch_size=batch, lr=5e-4, precision=wanted, accelerator=device)  # type: ignore[arg-type]
        said = fit(model, data, rule, seed=0, round_number=0)
    return {"images_per_s": round(said["images_per_s"], 1), "waiting_share": round(said["waiting_share"], 3)}


def named(prefix: str, found: dict[str, Any]) -> dict[str, Any]:
    """Figures of a training under names that say which."""
    return {f"{prefix}_{name}": value for name, value in found.items()}


def predicted(model: nn.Module, pool: Pool, size_px: int, precision: Precision, at_least_s: float) -> dict[str, Any]:
    """Images a second of a prediction from memory, and from files."""
    rates = []
    count = BATCH if at_least_s < 1 else 8 * BATCH
    for cache_bytes in (2_000_000_000, 0):
        source = Repeated(Images(pool, size_px, cache_bytes))
        settings: dict[str, Any] = {"n_images": count, "batch_size": BATCH, "precision": precision}

        def run(source: Repeated = source, settings: dict[str, Any] = settings) -> None:
            predict_detections(model, source, np.arange(count), **settings)

        rates.append(count * timed(run, at_least_s))
    names = ("predict_images_per_s", "predict_from_files_images_per_s")
    found: dict[str, Any] = {name: round(rate, 1) for name, rate in zip(names, rates, strict=True)}
    return found | {"predict_waiting_share": round(max(0.0, 1 - rates[1] / rates[0]), 3)}


@torch.no_grad()
def settle_norms(model: Any, data: TrainingSet) -> None:
    """Gives frozen norms of random weights the statistics of some images, that activations neither fade nor explode."""
    norms = [module for module in model.backbone.body.modules() if isinstance(module, nn.BatchNorm2d)]
    images = data.batch(np.arange(2), np.random.default_rng(0))[0]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    model.backbone.body(torch.stack(images).to(next(model.parameters()).device))
    for norm in norms:
        norm.eval()


def detector(name: str, build: Callable[[int], nn.Module], data: TrainingSet, pool: Pool, dry: bool) -> Lines:
    """A detector that is trained."""
    size_px, device = (DRY_PX if dry else SIZE_PX), where(dry)
    for precision in PRECISIONS:
        torch.manual_seed(0)
        model = build(len(pool.classes)).to(device)
        settle_norms(model, data)
        steps, batch = (2, 2) if dry else (40, BATCH)
        line: dict[str, Any] = {"model": name, "precision": precision, "size_px": size_px, "batch": batch}
        line |= named("train", trained(model, data, precision, steps, batch, device))
        line |= named("in_turn", trained(model, InTurn(data), precision, steps // 2, batch, device))
        yield line | predicted(model.to(device).eval(), pool, size_px, precision, 0.0 if dry else 3.0)


def frozen(pool: Pool, weights: Path, dry: bool) -> Lines:
    """YOLOX-nano's proposals, alone and with MobileNetV2 looking at the crops of ten: the frozen detector."""
    size_px, device = (DRY_PX if dry else SIZE_PX), where(dry)
    source, yolox_file = Images(pool, size_px), next(weights.glob("yolox_nano*"))
    given = [source[i % len(pool)][0].copy() for i in range(2 if dry else BATCH)]
    shown = [torch.from_numpy(one).to(device) for one in given]
    model = yolox_files.load(yolox_file).to(device)
    for precision in PRECISIONS:

        def run(bf16: bool = precision == "bf16") -> None:
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                proposals(model, shown, size_px=size_px, count=10)

        rate = len(given) * timed(run, 0.0 if dry else 2.0)
        yield {
            "model": "yolox_nano",
            "precision": precision,
            "size_px": size_px,
            "predict_images_per_s": round(rate, 1),
        }
    body = next(weights.glob("mobilenet_v2*"), None)
    rule = Features(
        body="mobilenet_v2", weights=str(body) if body else "none", objects=str(yolox_file), objects_px=size_px
    )
    looker = Objects(rule, device)
    looker.begin()
    rate = len(given) * timed(lambda: looker.run(given, lambda _: None), 0.0 if dry else 2.0)
    yield {"model": "frozen", "precision": "fp32", "size_px": size_px, "predict_images_per_s": round(rate, 1)}


def classes(dry: bool) -> Lines:
    """CIFAR-10's ResNet-18 on random images that lie on the GPU."""
    count, batch, device = (*((8, 4) if dry else (4096, CIFAR_BATCH)), where(dry))
    squares = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8).to(device)
    rule = Train(pad_px=4)
    data = ImageSet(squares, np.arange(count), np.arange(count) % 10, np.ones(count, np.float32), rule)
    for precision in PRECISIONS:
        model = classifier.build(10, backbone="small" if dry else "resnet18_cifar").to(device)
        line: dict[str, Any] = {"model": "classifier, resnet18_cifar", "precision": precision, "size_px": 32}
        found = trained(model, data, precision, 2 if dry else 300, batch, device)
        yield line | {"batch": batch} | named("train", found)


def speeds(data: Path, *, dry: bool) -> Lines:
    """A line for every model and precision; where one fails, a line with its error, and the others go on."""
    pool = voc.read(data / "bccd/BCCD", "test")
    images = training_set(pool, Images(pool, DRY_PX if dry else SIZE_PX))
    parts = {
        name: partial(detector, name, build, images, pool, dry) for name, build in (SMALL if dry else BUILD).items()
    }
    parts |= {"frozen": partial(frozen, pool, data / "weights", dry), "classes": partial(classes, dry)}
    for name, part in parts.items():
        try:
            for line in part():
                print(line, flush=True)
                yield line
        except Exception as error:
            if dry:
                raise
            traceback.print_exc()
            yield {"model": name, "error": f"{type(error).__name__}: {error}"[:200]}
