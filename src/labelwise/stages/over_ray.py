"""The pass of a detector over the pool as a Ray Data pipeline (`predict.engine = "ray"`): one machine's cores, or many.

A row of the pipeline is a shard: a range of images. An actor holds the model, reads the images of a shard, predicts
them as one process does (`predict.detect`) and writes the shard's file beside the others; the driver counts. Ray starts
actors anew where a machine is lost, and gives their shards to others; a shard that was written twice is the same file.
With the last shard the folder takes its place. A run that was killed goes on with the shards that are not written.

All machines have labelwise installed, and see the project folder and the images under the same paths. Ray is where
RAY_ADDRESS says (`ray start --head`), else on this machine. An actor takes a GPU where the cluster has some, else as
many cores as this process has threads for arithmetic, since the last bits of a convolution may hang on their number.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from labelwise import files
from labelwise.data.image_reader import Images
from labelwise.predict import detect
from labelwise.types import Detections, LabelwiseError, Pool
from labelwise.types.disk import remove_leftovers, temporary

ABOUT = "about.json"
"""In a folder of shards that is not complete: what they are shards of."""


@dataclass(frozen=True)
class Job:
    """What every actor is given: once for all its shards. `settings` are those of `predict.detect.predict`."""

    model: nn.Module
    members: tuple[nn.Module, ...]
    pool: Pool
    size_px: int
    wanted: np.ndarray
    folder: Path
    shard_images: int
    settings: Mapping[str, Any]
    threads: int

    def key(self) -> str:
        """Two jobs of one key write the same shards."""
        digest = hashlib.sha256()
        for model in (self.model, *self.members):
            for name, tensor in model.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().numpy().tobytes())
        digest.update(self.wanted.tobytes())
        rest = {"names": self.pool.names, "size_px": self.size_px, "shard_images": self.shard_images}
        digest.update(json.dumps([rest, {k: repr(v) for k, v in sorted(self.settings.items())}]).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class _OneShard:
    """Takes the detections of one shard; its files appear in one step each, the detections last."""

    folder: Path
    number: int
    n_images: int

    def append(self, first_image: int, detections: Detections, /) -> None:
        partial = temporary(self.folder / str(self.number))
        partial.mkdir()
        files.write_shard(partial, self.number, first_image, self.n_images, [detections])
        for path in sorted(partial.iterdir()):
            path.replace(self.folder / path.name)
        partial.rmdir()


class ShardPredictor:
    """An actor of the pipeline."""

    def __init__(self, job: tuple[Any]) -> None:
        ray = import_module("ray")
        self.job: Job = ray.get(job[0])
        if not (self.job.folder / ABOUT).exists():
            raise LabelwiseError(
                f"{self.job.folder} is not on {platform.node()}: with the engine ray every machine must see the "
                "project folder under the same path; put it on storage that they share"
            )
        torch.set_num_threads(self.job.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, *self.members = (one.to(device).eval() for one in (self.job.model, *self.job.members))
        self.images = Images(self.job.pool, self.job.size_px, cache_bytes=0)

    def __call__(self, rows: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
        """Predicts shards (one), given by their numbers; what is said of each, as JSON."""
        return {"said": [json.dumps(self._shard(int(number))) for number in rows["shard"]]}

    def _shard(self, number: int) -> dict[str, Any]:
        job, n = self.job, len(self.job.pool)
        first = number * job.shard_images
        span = first, min(first + job.shard_images, n)
        sink = _OneShard(job.folder, number, n)
        summary = detect.predict(
            self.model, self.images, job.wanted, sink, n_images=n, span=span, shard_images=job.shard_images,
            members=self.members, names=job.pool.names, **job.settings,
        )  # fmt: skip
        said: dict[str, Any] = {"shard": number, "images": summary.images, "detections": summary.detections}
        said |= {"without_area": summary.without_area, "skipped": summary.skipped, "passes": summary.passes}
        files.write_json(_said(job.folder, number), said)
        return said


def _said(folder: Path, number: int) -> Path:
    """What is said of a shard that is complete."""
    return folder / f"said-{number:05d}.json"


def predict(
    model: nn.Module,
    members: Sequence[nn.Module],
    images: Images,
    wanted: np.ndarray,
    folder: Path,
    *,
    shard_images: int,
    settings: Mapping[str, Any],
    progress: Callable[[int], None],
) -> detect.Summary:
    """Predicts the wanted images of a pool into `folder`, as `predict.detect.predict` does with a `DetectionWriter`.

    Raises:
        LabelwiseError: Ray is not installed or cannot be reached; the pool cannot be sent to other processes; an actor
            failed (what is written stays, and the same command goes on).
    """
    began = perf_counter()
    own = [copy.deepcopy(one).cpu() for one in (model, *members)]
    partial = folder.with_name(folder.name + "-shards")
    job = Job(
        own[0], tuple(own[1:]), images.pool, images.size_px, np.asarray(wanted, np.int64), partial, shard_images,
        dict(settings), torch.get_num_threads(),
    )  # fmt: skip
    _begin(job)
    n = -(-len(images.pool) // shard_images)
    found = {k: files.read_json(_said(partial, k)) for k in range(n) if _said(partial, k).exists()}
    progress(sum(said["images"] for said in found.values()))
    left = [k for k in range(n) if k not in found]
    if left:
        for said in _pipeline(job, left):
            if said["shard"] not in found:
                progress(said["images"])
            found[said["shard"]] = said
    remove_leftovers(partial)
    for path in [partial / ABOUT, *(_said(partial, k) for k in range(n))]:
        path.unlink()
    files.publish(partial, folder)
    skipped = tuple((int(i), str(why)) for k in range(n) for i, why in found[k]["skipped"])
    total, flat = (sum(said[name] for said in found.values()) for name in ("detections", "without_area"))
    return detect.Summary(len(wanted), total, flat, found[0]["passes"], perf_counter() - began, skipped)


def _begin(job: Job) -> None:
    """A folder for the shards of this job; those of another job are removed."""
    about = {"key": job.key()}
    if (job.folder / ABOUT).exists() and files.read_json(job.folder / ABOUT) == about:
        return
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    files.write_json(job.folder / ABOUT, about)


def _pipeline(job: Job, shards: Sequence[int]) -> Any:
    """What is said of every shard, as they are done."""
    ray = connect()
    cluster = ray.cluster_resources()
    gpus = int(cluster.get("GPU", 0))
    actors = gpus or int(cluster["CPU"] // job.threads)
    if not actors:
        raise LabelwiseError(
            f"ray: the cluster has {cluster['CPU']:g} cores, and an actor takes {job.threads} as this process does; "
            f"set OMP_NUM_THREADS={cluster['CPU']:.0f} or less"
        )
    try:
        given = ray.put(job)
    except (TypeError, AttributeError) as error:
        raise LabelwiseError(
            f"ray: the images of {job.pool.root} cannot be sent to another process ({error}); predict here instead: "
            "--engine here"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = ray.data.from_items([{"shard": k} for k in shards], override_num_blocks=len(shards))
    resources = {"num_gpus": 1} if gpus else {"num_cpus": job.threads}
    said = rows.map_batches(
        ShardPredictor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(shards))),
        fn_constructor_kwargs={"job": (given,)},  # in a tuple: an actor that is started anew asks for it again
        **resources,
    )
    try:
        for row in said.iter_rows():
            yield json.loads(row["said"])
    except ray.exceptions.RayError as error:
        raise LabelwiseError(_why(error)) from error


def _why(error: BaseException) -> str:
    """Our own error in what Ray made of it, else Ray's."""
    one: BaseException | None = error
    while one is not None:
        own = getattr(one, "cause", None)
        if isinstance(one, LabelwiseError) or isinstance(own, LabelwiseError):
            return str(own if isinstance(own, LabelwiseError) else one)
        one = own if isinstance(own, BaseException) else one.__cause__
    return f"ray: {str(error).strip().splitlines()[-1]}; the same command goes on with the shards that are written"


def connect() -> Any:
    """The module ray, connected to a cluster (RAY_ADDRESS) or to one of this machine's own.

    Raises:
        LabelwiseError: it is not installed, or there is no cluster at RAY_ADDRESS.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray = import_module("ray")
        import_module("ray.data")
    except ModuleNotFoundError as error:
        raise LabelwiseError(
            f"the engine ray is not installed ({error}): pip install 'labelwise[ray]', on every machine of the cluster"
        ) from error
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        where: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **where)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise LabelwiseError(
                f"ray: no cluster at {address or 'this machine'} ({error}); start one with `ray start --head`, or "
                "unset RAY_ADDRESS to use this machine alone"
            ) from error
    return ray
