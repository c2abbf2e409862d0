"""Images per second of the detectors, training and inference, beside torchvision's own, with what was tried on the way.

    python benchmarks/detector_speed.py                    # wall clock, 2 threads: on a quiet machine
    python benchmarks/detector_speed.py --clock cpu        # processor time of 1 thread: on a busy one

Prints a table and appends it to `results/detector_speed.csv` with machine, versions and commit. Random images and boxes
(12 per image), learned for 25 steps first, for suppression takes its time from what is found. Every figure is the
median of the repetitions.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.ops import MultiScaleRoIAlign

from labelwise.models import faster_rcnn, retinanet

RESULTS = Path(__file__).parent / "results" / "detector_speed.csv"
N_CLASSES = 3
SIZE = 256
UNCHANGED = {"min_size": SIZE, "max_size": SIZE}
"""torchvision's own resizing finds nothing to do."""


def plain_retinanet(channels_last: bool) -> nn.Module:
    """Torchvision's RetinaNet on the same small backbone: four convolutions per tower."""
    ours = retinanet.build(N_CLASSES, head_convs=4, anchors_per_octave=3)
    model = RetinaNet(ours.backbone, N_CLASSES, anchor_generator=ours.anchors.generator, head=ours.head, **UNCHANGED)
    return model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def plain_faster_rcnn(channels_last: bool) -> nn.Module:
    """Torchvision's Faster R-CNN with the same sizes."""
    ours = faster_rcnn.build(N_CLASSES)
    model = FasterRCNN(
        ours.backbone,
        rpn_anchor_generator=ours.rpn.anchors.generator,
        rpn_head=ours.rpn.head,
        rpn_pre_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=100,
        rpn_post_nms_top_n_test=100,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 5, 2),
        box_head=ours.roi_heads.box_head,
        box_predictor=ours.roi_heads.box_predictor,
        box_batch_size_per_image=64,
        **UNCHANGED,
    )
    return model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "torchvision RetinaNet": lambda: plain_retinanet(False),
    "torchvision RetinaNet, channels last": lambda: plain_retinanet(True),
    "retinanet, head_convs 4, 3 anchors per octave": lambda: retinanet.build(
        N_CLASSES, head_convs=4, anchors_per_octave=3
    ),
    "retinanet, head_convs 2": lambda: retinanet.build(N_CLASSES, head_convs=2),
    "retinanet, all stages": lambda: retinanet.build(N_CLASSES),
    "retinanet": lambda: retinanet.build(N_CLASSES, trainable_stages=3),
    "retinanet, fpn_channels 48": lambda: retinanet.build(N_CLASSES, trainable_stages=3, fpn_channels=48),
    "retinanet, shufflenet x1.0": lambda: retinanet.build(N_CLASSES, trainable_stages=3, backbone="shufflenet_v2_x1_0"),
    "torchvision Faster R-CNN": lambda: plain_faster_rcnn(False),
    "torchvision Faster R-CNN, channels last": lambda: plain_faster_rcnn(True),
    "faster_rcnn, all stages": lambda: faster_rcnn.build(N_CLASSES),
    "faster_rcnn": lambda: faster_rcnn.build(N_CLASSES, trainable_stages=3),
    "faster_rcnn, rois 32": lambda: faster_rcnn.build(N_CLASSES, trainable_stages=3, rois=32),
    "faster_rcnn, roi_size 4": lambda: faster_rcnn.build(N_CLASSES, trainable_stages=3, roi_size=4),
}
"""With pre-trained weights `trainable_stages` is 3 by default."""


def batch(size: int, count: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Random images with a dozen boxes each."""
    rng = torch.Generator().manual_seed(0)
    images, targets = [], []
    for _ in range(count):
        corner = torch.rand(12, 2, generator=rng) * (size - 50)
        boxes = torch.cat((corner, corner + 10 + 35 * torch.rand(12, 2, generator=rng)), 1)
        images.append(torch.rand(3, size, size, generator=rng))
        targets.append({"boxes": boxes, "labels": torch.randint(1, N_CLASSES, (12,), generator=rng)})
    return images, targets


def rate(step: Callable[[], Any], clock: Callable[[], float], images: int, repetitions: int) -> float:
    """Images per second, median over the repetitions after one to warm up."""
    step()
    seconds = []
    for _ in range(repetitions):
        start = clock()
        step()
        seconds.append(clock() - start)
    return images / sorted(seconds)[repetitions // 2]


def measure(
    model: nn.Module, size: int, count: int, clock: Callable[[], float], repetitions: int
) -> tuple[float, float]:
    """Training and inference rate."""
    images, targets = batch(size, count)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)

    def learn() -> None:
        optimiser.zero_grad()
        torch.stack(list(model(images, targets).values())).sum().backward()
        optimiser.step()

    for _ in range(25):
        learn()
    train = rate(learn, clock, count, repetitions)
    model.eval()
    with torch.inference_mode():
        return train, rate(lambda: model(images), clock, count, repetitions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--threads", type=int, default=2, help="with --clock wall; the processor time is that of 1")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", default="", help="variants whose name contains this")
    options = parser.parse_args()
    threads = 1 if options.clock == "cpu" else options.threads
    torch.set_num_threads(threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    RESULTS.parent.mkdir(exist_ok=True)
    print(f"{'variant':46s} {'train':>7s} {'infer':>7s}   images per second ({options.clock}, {threads} threads)")
    for name, build in VARIANTS.items():
        if options.only not in name:
            continue
        torch.manual_seed(0)
        train, infer = measure(build(), SIZE, options.batch, clock, options.repetitions)
        print(f"{name:46s} {train:7.1f} {infer:7.1f}", flush=True)
        row = {
            "variant": name,
            "size_px": SIZE,
            "batch": options.batch,
            "threads": threads,
            "clock": options.clock,
            "train_images_per_s": round(train, 1),
            "infer_images_per_s": round(infer, 1),
            "load": round(os.getloadavg()[0], 1),
            "machine": f"{os.cpu_count()} x {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
            "commit": commit.stdout.strip(),
        }
        new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    main()
