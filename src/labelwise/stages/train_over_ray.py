"""Training by workers on the machines of a Ray cluster (`train.engine = "ray"`): one model, `train.devices` workers.

Ray places the workers (a placement group, close to one another) and tells which are lost. In each runs what a process
of this machine runs, `train.fit`, with Fabric's DDP; they exchange gradients among themselves (nccl on GPUs, gloo on
cores). So the weights are those of as many processes here: on cores with as many threads, to the bit.

The first worker tells the driver, which looks every `LOOK_S`: how far it is; of every epoch the weights, where somebody
is to be called after it; and the checkpoints, which the driver keeps and hands to all workers when they begin. A worker
needs no project folder, but the images, under the path they have here. Where a worker or its machine is lost, all begin
anew from the last checkpoint if there is room for them, at most `RETRIES` times without a newer one; else the training
ends, and the same command goes on.
"""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from queue import Empty, Queue
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from labelwise.config.sections import Train
from labelwise.data.image_reader import Images
from labelwise.stages.over_ray import Place, connect, machines_of, place_of, room, sendable
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import AfterEpoch, Checkpoint, Data, fit_among, require_images
from labelwise.train.images import ImageSet
from labelwise.types import LabelwiseError

LOOK_S = 0.5
"""How often the driver looks what the first worker has to say."""
CUT_OFF = ("gloo", "nccl", "connection", "peer", "socket")
"""One of these is in what torch says where another worker is gone."""
RETRIES = 2
"""So often in a row a training begins anew that lost a worker before its next checkpoint."""
Found = tuple[Mapping[str, np.ndarray], Mapping[str, str]] | None
"""A checkpoint."""


@dataclass(frozen=True)
class Job:
    """What every worker is given. `place`: of the images, if they are files. `keeps`, `calls`: whether checkpoints are
    kept, whether somebody is called after an epoch.
    """

    model: nn.Module
    data: Data
    rule: Train
    seed: int
    round_number: int
    threads: int
    place: Place | None
    keeps: bool
    calls: bool


@dataclass(frozen=True)
class Epoch:
    """An epoch has ended with these weights."""

    number: int
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Kept:
    """The checkpoint of a worker: what all begin from; what is saved is said to the driver."""

    found: Found
    said: Queue[Any]

    def load(self) -> Found:
        return self.found

    def save(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
        self.said.put(({name: value.copy() for name, value in tensors.items()}, dict(metadata)))


class Worker:
    """An actor: one of the processes that train."""

    def __init__(self) -> None:
        self.steps = 0
        self.said: Queue[Any] = Queue(2)  # full: the training waits until the driver has looked

    def address(self) -> tuple[str, int]:
        """Of this machine, with a port that is free."""
        where: str = import_module("ray").util.get_node_ip_address()
        with socket.socket() as free:
            free.bind(("", 0))
            return where, free.getsockname()[1]

    def news(self) -> tuple[int, list[Any]]:
        """How many steps are done, and what is said since the last call, in order."""
        steps, said = self.steps, list[Any]()
        with suppress(Empty):
            while True:
                said.append(self.said.get_nowait())
        return steps, said

    def train(self, job: Job, found: Found, rank: int, address: tuple[str, int]) -> Any:
        """Trains; what `fit` returns and, of the first worker, the weights."""
        if job.place is not None:
            job.place.open()
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(job.rule.devices), "LOCAL_RANK": "0"}
        os.environ |= {"MASTER_ADDR": address[0], "MASTER_PORT": str(address[1])}
        torch.set_num_threads(job.threads)
        data = job.data.alone("cuda") if isinstance(job.data, ImageSet) and job.rule.accelerator == "cuda" else job.data
        info = fit_among(
            job.model, data, job.rule, seed=job.seed, round_number=job.round_number,
            checkpoint=Kept(found, self.said) if job.keeps else None, progress=self._advance,
            after_epoch=self._after_epoch if job.calls else None,
        )  # fmt: skip
        return info, _weights(job.model) if rank == 0 else None

    def _advance(self, steps: int) -> None:
        self.steps += steps

    def _after_epoch(self, model: nn.Module, epoch: int) -> None:
        self.said.put(Epoch(epoch, _weights(model)))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


class _Lost(Exception):
    """A worker, or its machine."""


@dataclass
class _Driver:
    """One training from here. `bundle`: what a worker takes of a machine. `told`: steps that the bar shows."""

    ray: Any
    model: nn.Module
    job: Job
    bundle: Mapping[str, int]
    checkpoint: Checkpoint | None
    progress: Callable[[int], None] | None
    after_epoch: AfterEpoch | None
    told: int = 0
    losses: int = 0

    def run(self) -> dict[str, float]:
        with sendable("what is trained", "train.engine"):
            given = self.ray.put(self.job)
        while True:
            try:
                return self._attempt(given)
            except _Lost as error:
                self.losses += 1
                if self.losses > RETRIES:
                    raise LabelwiseError(
                        f"ray: the training failed {self.losses} times without a further checkpoint: {error}. The same "
                        "command goes on from the last one; --set train.engine=here trains on this machine"
                    ) from error

    def _attempt(self, given: Any) -> dict[str, float]:
        """From the last checkpoint to the end."""
        found = None if self.checkpoint is None else self.checkpoint.load()
        with self._workers() as workers, self._errors():
            address = self.ray.get(workers[0].address.remote())
            runs = [one.train.remote(given, found, rank, address) for rank, one in enumerate(workers)]
            waiting = runs
            while waiting:
                ready, waiting = self.ray.wait(waiting, num_returns=len(waiting), timeout=LOOK_S)
                self._hear(*self.ray.get(workers[0].news.remote()))
                self.ray.get(ready)
            info, weights = self.ray.get(runs[0])
        self.model.load_state_dict(weights)
        return dict(info)

    def _hear(self, steps: int, said: list[Any]) -> None:
        """What the first worker says since the last time."""
        if self.progress is not None and steps > self.told:
            self.progress(steps - self.told)
        self.told = max(steps, self.told)
        for one in said:
            if isinstance(one, Epoch):
                assert self.after_epoch is not None
                self.model.load_state_dict(one.weights)
                self.after_epoch(self.model, one.number)
            else:
                assert self.checkpoint is not None
                self.checkpoint.save(*one)
                self.losses = 0

    @contextmanager
    def _workers(self) -> Iterator[list[Any]]:
        """The workers, each in its place; they end with it."""
        ray, count = self.ray, self.job.rule.devices
        strategies = import_module("ray.util.scheduling_strategies")
        group, workers = ray.util.placement_group([dict(self.bundle)] * count, strategy="PACK"), list[Any]()
        try:
            while not group.wait(2 * LOOK_S):
                self._require_room()
            for place in range(count):
                where = strategies.PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=place)
                one = ray.remote(Worker).options(
                    num_cpus=self.bundle["CPU"], num_gpus=self.bundle.get("GPU", 0), max_concurrency=2,
                    scheduling_strategy=where,
                )  # fmt: skip
                workers.append(one.remote())
            yield workers
        finally:
            for one in workers:
                ray.kill(one)
            ray.util.remove_placement_group(group)

    def _require_room(self) -> None:
        """Raises a LabelwiseError where the machines, were they idle, would not hold all workers."""
        count = room(machines_of(self.ray), self.bundle)
        if count < self.job.rule.devices:
            what = " and ".join(f"{number} {name}" for name, number in self.bundle.items())
            raise LabelwiseError(
                f"ray: the cluster has room for {count} workers of {what} each, and train.devices is "
                f"{self.job.rule.devices}; start further machines, or lower train.devices or train.threads; the same "
                "command goes on from the last checkpoint"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Our own errors as they are; where a worker is lost, the others are cut off in the middle of an exchange."""
        errors = self.ray.exceptions
        try:
            yield
        except errors.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, LabelwiseError):
                raise cause from error
            why = str(cause or error).strip().splitlines()[-1]
            cut_off = isinstance(cause, RuntimeError) and any(word in str(cause).lower() for word in CUT_OFF)
            if cut_off or not isinstance(error, errors.RayTaskError):
                raise _Lost(why) from error
            if isinstance(cause, ImportError | errors.RaySystemError):
                raise LabelwiseError(f"ray: {why}; every machine needs labelwise, and your own code") from error
            raise


def fit(
    model: nn.Module,
    data: TrainingSet | ImageSet,
    rule: Train,
    *,
    seed: int,
    round_number: int,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int], None] | None = None,
    after_epoch: AfterEpoch | None = None,
) -> dict[str, float]:
    """`train.fit.fit` by `rule.devices` workers of Ray. Here, `after_epoch` is called, and checkpoints are kept.

    Raises:
        LabelwiseError: as `train.fit.fit`; Ray is not installed or cannot be reached, the cluster has no room for the
            workers, data or model cannot be sent to them, or workers were lost again and again.
    """
    require_images(data, round_number)
    ray = connect()
    on_gpu = _on_gpu(ray, rule)
    most = torch.get_num_threads()
    threads = (
        most if rule.threads is None and "OMP_NUM_THREADS" in os.environ else threads_of(machines_of(ray), rule, most)
    )
    where: Literal["cuda", "cpu"] = "cuda" if on_gpu else "cpu"
    model.to("cuda" if on_gpu and torch.cuda.is_available() else "cpu")  # for who is called after an epoch
    with sendable("what is trained", "train.engine"):
        own = copy.deepcopy(model).cpu()
    job = Job(
        own, data.alone("cpu") if isinstance(data, ImageSet) else data, rule.model_copy(update={"accelerator": where}),
        seed, round_number, threads, _place(data), checkpoint is not None, after_epoch is not None,
    )  # fmt: skip
    bundle = {"CPU": 1, "GPU": 1} if on_gpu else {"CPU": threads}
    return _Driver(ray, model, job, bundle, checkpoint, progress, after_epoch).run()


def threads_of(machines: Sequence[Mapping[str, float]], rule: Train, most: int) -> int:
    """Threads of a worker: `train.threads`, or at most so many, fewer where else there is no room for all workers.

    >>> machines = [{"CPU": 4.0}, {"CPU": 3.0}, {"CPU": 3.0}]
    >>> [threads_of(machines, Train(devices=k), 4) for k in (1, 3, 5, 20)]
    [4, 3, 1, 1]
    >>> threads_of(machines, Train(devices=2, threads=6), 4)
    6
    """
    if rule.threads is not None:
        return rule.threads
    return next((few for few in range(most, 1, -1) if room(machines, {"CPU": few}) >= rule.devices), 1)


def _place(data: TrainingSet | ImageSet) -> Place | None:
    """Where the images are, if they are files."""
    if not isinstance(data, TrainingSet) or not isinstance(data.images, Images):
        return None
    pool = data.images.pool
    return place_of(pool) if pool.root.exists() else None


def _on_gpu(ray: Any, rule: Train) -> bool:
    there = ray.cluster_resources().get("GPU", 0) > 0
    if rule.accelerator == "mps" or (rule.accelerator in ("gpu", "cuda") and not there):
        raise LabelwiseError(
            f'train.accelerator is "{rule.accelerator}", and the machines of the cluster have none that Ray knows; '
            'set train.accelerator = "auto", or train here: --set train.engine=here'
        )
    return bool(there and rule.accelerator != "cpu")
