"""A program of test_over_ray: two machines of Ray predict images of an object store, and each keeps its own part; then
they train on others.

python ray_store.py FOLDER; prints a line of JSON.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from moto.server import ThreadedMotoServer
from ray_cluster import IMAGES, SHARD, Tiny, content, pool_of
from ray_training import RULE, detector, equal, files_of

from labelwise import files
from labelwise.data import mirror, mirror_files
from labelwise.data.image_reader import Images
from labelwise.errors import LabelwiseError
from labelwise.predict import detect
from labelwise.project.context import silent
from labelwise.stages import over_ray, ray_predictions, train_over_ray
from labelwise.stages.ray_predictions import DetectorPass
from labelwise.train.batches import TrainingSet
from labelwise.types import Pool

MOST_BYTES = 20_000
SETTINGS: dict[str, Any] = {"views": [("flip", {})], "seed": 3, "round_number": 1, "batch_size": 2}
SETTINGS |= {"min_score": 0.05, "keep": ["features"]}


def in_store(folder: Path, pool: Pool, bucket: str, *lost: str) -> Pool:
    """The pool whose images are in a store alone; its mirror is made below `folder`."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    for name in pool.names:
        client.upload_file(str(pool.root / name), bucket, name)
    for name in lost:
        client.delete_object(Bucket=bucket, Key=name)
    return replace(pool, root=mirror.make(folder, f"s3://{bucket}", None, most_bytes=MOST_BYTES, bar=silent))


def kept(home: Path) -> int:
    """Bytes of images below a folder."""
    return sum(path.stat().st_size for path in home.glob(f"**/{mirror_files.KEPT}/*/*"))


def over(pool: Pool, folder: Path, seed: int) -> detect.Summary:
    one = DetectorPass((Tiny(0.1).eval(),), pool, 32, np.arange(IMAGES), SETTINGS | {"seed": seed})
    return ray_predictions.predict(one, folder, shard_images=SHARD, progress=lambda _done: None)


def trained(data: TrainingSet) -> dict[str, torch.Tensor]:
    """The weights after a training by a worker on each machine."""
    torch.manual_seed(0)
    model = detector()
    train_over_ray.fit(model, data, RULE, seed=0, round_number=1)
    return model.state_dict()


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_MAX_ATTEMPTS": "1"}
    (folder / "images").mkdir()
    pool = pool_of(folder / "images")
    images = Images(in_store(folder / "driver", pool, "far", pool.names[30]), 32)
    with files.DetectionWriter(folder / "here", IMAGES, SHARD) as writer:
        here = detect.predict(
            Tiny(0.0).eval(), images, np.arange(IMAGES), writer, n_images=IMAGES, shard_images=SHARD,
            names=images.pool.names, **SETTINGS,
        )  # fmt: skip
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1, env_vars={"LABELWISE_CACHE": str(folder / "other")})
    os.environ["RAY_ADDRESS"] = cluster.address
    summary = over(images.pool, folder / "ray", 3)
    said: dict[str, Any] = {"same": content(folder / "here") == content(folder / "ray"), "most": MOST_BYTES}
    said |= {"driver": kept(folder / "driver"), "other": kept(folder / "other")}
    said |= {"skipped": [[k, why] for k, why in summary.skipped], "here": [[k, why] for k, why in here.skipped]}
    local = files_of(folder / "training")
    far = copy.copy(local)
    far.images = Images(in_store(folder / "driver", local.images.pool, "near"), 64)
    said |= {"weights": equal(trained(local), trained(far)), "trained": kept(folder / "other") - said["other"]}
    server.stop()
    try:
        over(images.pool, folder / "again", 4)
    except LabelwiseError as error:
        said |= {"error": type(error).__name__, "says": str(error)}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    over_ray.connect().shutdown()
    with suppress(Exception):
        cluster.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
