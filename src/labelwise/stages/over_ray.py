"""Work on shards of a pool by actors of Ray (`predict.engine = "ray"`): one machine's cores, or many.

A row of a Ray Data pipeline is the number of a shard. Every actor is sent the `Work` once and does one shard after the
other; what it says of each comes back as it is done. Ray starts actors anew where a machine is lost, and gives their
shards to others, so that a shard may be done twice. Errors of ours come back as the errors that they are.

All machines have labelwise installed, and see the images under the same paths. Images of an object store each machine
fetches by itself, and keeps `data.store_gb` of them at most: below $LABELWISE_CACHE as it is set there, else below its
folder of temporary files; on the machine of the driver in the project's own cache. Ray is where RAY_ADDRESS says
(`ray start --head`), else on this machine. An actor takes a GPU where the cluster has some, else as many cores as this
process has threads for arithmetic, since the last bits of a convolution may hang on their number.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from labelwise.data import image_store
from labelwise.types import LabelwiseError, Pool

RESTARTS, RETRIES = 3, 100
"""So often an actor is started anew (an image can end a process), and a shard given to one again: about once a second
until a machine that is lost is known to be."""


class Work(Protocol):
    """What actors do. `pool`: whose images they read (see `to_read`)."""

    @property
    def pool(self) -> Pool: ...

    def begin(self, device: torch.device, /) -> Callable[[int], Any]:
        """On an actor, once: builds the models or moves them to its device; what does a shard, given by its number,
        and says of it what can be pickled.
        """
        ...


@dataclass(frozen=True)
class Place:
    """Where images lie, for the processes of Ray. `mirror`: what this process knows of their object store. `node`: the
    machine of this process, as Ray calls it.
    """

    folder: Path
    mirror: image_store.Sent | None
    node: str
    file: str | None = None
    """The name of one that is there: a folder without it is not the same, such as a share that is not mounted."""

    def open(self, node: str | None = None) -> None:
        """On a machine of Ray (`node`; None: this one): the paths of the images can be read from now on.

        Raises:
            LabelwiseError: the folder is not there.
        """
        node = node or import_module("ray").get_runtime_context().get_node_id()
        if self.mirror is None:
            if not self.folder.is_dir() or not (self.file is None or (self.folder / self.file).exists()):
                raise LabelwiseError(
                    f"{self.folder}, the folder of the images, is not on {platform.node()}: with the engine ray every "
                    "machine must see it under the same path; put it on storage that they share, or in an object store"
                )
        elif node != self.node:  # there processes share the mirror itself
            image_store.receive(self.mirror, own_cache())


def place_of(pool: Pool) -> Place | None:
    """Where the images of a pool lie; None: in memory. Ray is connected."""
    if pool.pixels is not None:
        return None
    folder = pool.root.absolute()
    mirror = image_store.of(folder / "image")
    node = import_module("ray").get_runtime_context().get_node_id()
    if mirror is not None:
        return Place(folder, mirror.sent(), node)
    names = [pool.names[i] for i in np.flatnonzero(pool.available)[:99]]
    some = [name.split("#")[0] for name in names] if pool.frames is not None else names
    return Place(folder, None, node, next((name for name in some if (folder / name).exists()), None))


@dataclass(frozen=True)
class Sent:
    """What every actor is sent."""

    work: Work
    threads: int
    place: Place | None

    def begin(self) -> Callable[[int], Any]:
        """On an actor."""
        if self.place is not None:
            self.place.open()
        torch.set_num_threads(self.threads)
        return self.work.begin(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


class Actor:
    """An actor of the pipeline. `sent` refers to a `Sent`, in a tuple: one that is started anew asks for it again."""

    def __init__(self, sent: tuple[Any]) -> None:
        self.sent = sent
        self.do: Callable[[int], Any] | None = None

    def __call__(self, rows: Mapping[str, np.ndarray]) -> dict[str, list[bytes]]:
        """Does shards (one), given by their numbers; what is said of each, or our own error."""
        return {"said": [pickle.dumps(self._shard(int(number))) for number in rows["shard"]]}

    def _shard(self, number: int) -> Any:
        try:
            if self.do is None:
                self.do = import_module("ray").get(self.sent[0]).begin()
            return self.do(number)
        except LabelwiseError as error:  # raised here it would come back as text, among that of Ray
            return error


@contextmanager
def sendable(what: str, setting: str) -> Iterator[None]:
    """Errors of pickling as ours."""
    try:
        yield
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise LabelwiseError(
            f"ray: {what} cannot be sent to another process ({reason[0][:200]}); do it here instead: --set "
            f"{setting}=here"
        ) from error


def room(machines: Sequence[Mapping[str, float]], bundle: Mapping[str, int]) -> int:
    """How many workers machines would hold if they were idle; of each, and of a worker: what it has, what it takes.

    >>> room([{"CPU": 5.0}, {"CPU": 4.0, "GPU": 1.0}], {"CPU": 2})
    4
    """
    return sum(int(min(one.get(name, 0) // count for name, count in bundle.items())) for one in machines)


def machines_of(ray: Any) -> list[Mapping[str, float]]:
    """What each machine of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def to_read(pool: Pool) -> Pool:
    """Of a pool what is needed to read its images; annotations may take more than the images' names."""
    nothing: dict[str, Any] = {"truth": None, "crowd": None, "complete": None, "clips": None, "whole": None}
    return replace(pool, root=pool.root.absolute(), problems=(), sources=frozenset(), **nothing)


def run(work: Work, shards: Sequence[int]) -> Iterator[Any]:
    """What actors say of every shard, as they are done.

    Raises:
        LabelwiseError: Ray is not installed or cannot be reached; the pool cannot be sent to other processes; an actor
            failed, or raised this.
    """
    ray, threads = connect(), torch.get_num_threads()
    machines = machines_of(ray)
    gpus = int(sum(one.get("GPU", 0) for one in machines))
    actors = gpus or room(machines, {"CPU": threads})
    if not actors:
        most = max(one.get("CPU", 0) for one in machines)
        raise LabelwiseError(
            f"ray: no machine of the cluster has more than {most:g} cores, and an actor takes {threads} as this "
            f"process does; set OMP_NUM_THREADS={max(most, 1):.0f} or less"
        )
    with sendable(f"the model or the images of {work.pool.root}", "predict.engine"):
        sent = ray.put(Sent(work, threads, place_of(work.pool)))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = ray.data.from_items([{"shard": k} for k in shards], override_num_blocks=len(shards))
    said = rows.map_batches(
        Actor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(shards))),
        fn_constructor_kwargs={"sent": (sent,)},
        max_restarts=RESTARTS,
        max_task_retries=RETRIES,
        **({"num_gpus": 1} if gpus else {"num_cpus": threads}),
    )
    try:
        for row in said.iter_rows():
            found = pickle.loads(row["said"])
            if isinstance(found, LabelwiseError):
                raise found
            yield found
    except ray.exceptions.RayError as error:
        own = str(error).split("\n\nThe above exception")[0].strip().splitlines()
        raise LabelwiseError(
            f"ray: {own[-1] if own else type(error).__name__}; the same command goes on with the shards that are done"
        ) from error


def own_cache() -> Path:
    """The folder in which this machine keeps images of a store; machines that share a disk have one each.

    Raises:
        LabelwiseError: somebody else made it.
    """
    given, user = os.environ.get("LABELWISE_CACHE"), getattr(os, "getuid", lambda: None)()
    folder = Path(given) if given else Path(tempfile.gettempdir()) / f"labelwise-{user}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not given and user is not None and folder.stat().st_uid != user:
        raise LabelwiseError(f"{folder} on {platform.node()} is somebody else's: set LABELWISE_CACHE there to a folder")
    return folder / "actors" / platform.node()


def connect() -> Any:
    """The module ray, connected to a cluster (RAY_ADDRESS) or to one of this machine's own.

    Raises:
        LabelwiseError: it is not installed, or there is no cluster at RAY_ADDRESS.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # under `uv run` it would send the whole folder
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
