"""A program of test_over_ray: a tiny detector predicts a pool here and by Ray, on one machine, or on two, one dying.

python ray_cluster.py FOLDER one|two; prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from labelwise import files
from labelwise.data.image_reader import Images
from labelwise.predict import detect
from labelwise.stages import over_ray, ray_predictions
from labelwise.stages.ray_predictions import DetectorPass
from labelwise.types import Pool

IMAGES, SHARD = 50, 4


class Tiny(nn.Module):
    """Boxes whose confidences hang on the pixels; slow, so that there is time to kill a machine."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.wait_s = nn.Linear(3, 4), wait_s

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        time.sleep(self.wait_s)
        return [self.of_image(image) for image in images]

    def of_image(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        said = self.layer(image.mean(dim=(1, 2))).sigmoid()
        probs = torch.stack([said, 1 - said], dim=1)
        corner = torch.arange(4.0)[:, None]
        boxes = torch.cat([corner, corner, corner + 5, corner + 6], dim=1)
        return {"boxes": boxes, "scores": said, "probs": probs, "features": probs * 2}


def pool_of(folder: Path) -> Pool:
    rng = np.random.default_rng(0)
    names = tuple(f"{k:02d}.png" for k in range(IMAGES))
    for k, name in enumerate(names):
        Image.fromarray(rng.integers(0, 256, (20 + k % 3, 30, 3), dtype=np.uint8)).save(folder / name)
    (folder / names[7]).write_bytes(b"no image")
    height = np.array([20 + k % 3 for k in range(IMAGES)])
    return Pool(folder, ("a", "b"), names, np.full(IMAGES, 30), height)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def main() -> None:
    warnings.simplefilter("ignore")
    folder, machines = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    (folder / "images").mkdir()
    pool = pool_of(folder / "images")
    wanted = np.setdiff1d(np.arange(IMAGES), np.arange(12, 20))  # three shards of which nothing is wanted
    settings: dict[str, Any] = {"views": [("flip", {})], "seed": 3, "round_number": 1, "batch_size": 2}
    settings |= {"min_score": 0.05, "keep": ["features"]}
    images, further = Images(pool, 32), [Tiny(0.0)]
    with files.DetectionWriter(folder / "here", IMAGES, SHARD) as writer:
        here = detect.predict(
            Tiny(0.0).eval(), images, wanted, writer, n_images=IMAGES, shard_images=SHARD, members=further,
            names=pool.names, **settings,
        )  # fmt: skip
    cluster, told, killed = None, list[int](), threading.Event()
    if machines == "two":
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        other = cluster.add_node(num_cpus=1)
        os.environ["RAY_ADDRESS"] = cluster.address

    def progress(done: int) -> None:
        told.append(done)
        if sum(told) >= 8 and not killed.is_set():
            killed.set()
            if cluster is None:
                raise KeyboardInterrupt
            cluster.remove_node(other, allow_graceful=False)

    def over() -> detect.Summary:
        one = DetectorPass((Tiny(0.2).eval(), *further), pool, 32, wanted, settings)
        return ray_predictions.predict(one, folder / "ray", shard_images=SHARD, progress=progress)

    try:
        summary = over()
    except KeyboardInterrupt:  # a run that was killed goes on
        said = len(list((folder / "ray-shards").glob("said-*")))
        began = {path.name: path.stat().st_mtime_ns for path in (folder / "ray-shards").glob("part-*")}
        summary = over()
        kept = sum((folder / "ray" / name).stat().st_mtime_ns == when for name, when in began.items())
        sys.stdout.write(json.dumps({"said": said, "kept": kept}) + "\n")
    same = content(folder / "here") == content(folder / "ray")
    sys.stdout.write(
        json.dumps(
            {"same": same, "killed": killed.is_set(), "counts": [summary.images, summary.detections, summary.passes],
             "here": [here.images, here.detections, here.passes], "skipped": summary.skipped == here.skipped,
             "first": len(here.skipped), "left": [p.name for p in folder.iterdir()], "told": sum(told)}
        ) + "\n"
    )  # fmt: skip
    sys.stdout.flush()
    over_ray.connect().shutdown()
    if cluster is not None:
        with suppress(Exception):
            cluster.shutdown()
    os._exit(0)  # what is left of a cluster that lost a machine ends in errors


if __name__ == "__main__":
    main()
