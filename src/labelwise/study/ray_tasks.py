"""The runs of a comparison as tasks of Ray (`compare --engine ray`): as many at a time as the cluster has cores.

A task runs one project to its end in a worker process of its own (`workers`), as a comparison on one machine does.
Where a machine is lost, Ray gives its tasks to others, and each goes on where its project was. All machines see the
folder of the comparison and the data under the same paths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from labelwise.errors import LabelwiseError
from labelwise.study import workers

if TYPE_CHECKING:
    from labelwise.study.compare import Task

LOOK_S = 2.0
"""How often finished rounds are counted."""


def project(comparison: str, task: str, threads: str, start: str = "") -> str:
    """Runs a project to its end; why it failed, or nothing. `start`: why what it begins from failed."""
    from labelwise.study.compare import Task

    if start:
        return start
    worker = workers.Worker(comparison, threads)
    try:
        worker.run(Task(**json.loads(task)), lambda: None)
    except LabelwiseError as error:
        return str(error)
    finally:
        worker.process.terminate()
        worker.process.wait()
        worker.close()
    return ""


def run(
    comparison: str,
    tasks: tuple[Sequence[Task], Sequence[Task]],
    rounds_done: Callable[[], int],
    progress: Callable[[int], None],
) -> None:
    """`workers.run` over a cluster. `rounds_done`: of all projects, by their files; `progress` gets those since last.

    Raises:
        LabelwiseError: Ray is not installed or cannot be reached; some runs failed (the others were run to their end).
    """
    from labelwise.stages.over_ray import connect

    ray = connect()
    threads, cores = os.environ.get("OMP_NUM_THREADS", "1"), ray.cluster_resources().get("CPU", 0)
    if int(threads) > cores:
        raise LabelwiseError(
            f"ray: the cluster has {cores:g} cores, and a run takes {threads}; set OMP_NUM_THREADS={cores:.0f} or less"
        )
    remote = ray.remote(num_cpus=int(threads), max_retries=-1)(project)
    starts = {task.seed: remote.remote(comparison, json.dumps(asdict(task)), threads) for task in tasks[0]}
    later = [remote.remote(comparison, json.dumps(asdict(task)), threads, starts[task.seed]) for task in tasks[1]]
    waiting, before = [*starts.values(), *later], rounds_done()
    runs = list(waiting)
    try:
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LOOK_S)
            done = rounds_done()
            progress(done - before)
            before = done
    except BaseException:
        for one in waiting:
            ray.cancel(one, force=True)
        raise
    try:
        failed = [why for why in ray.get(runs) if why]
    except ray.exceptions.RayError as error:
        raise LabelwiseError(
            f"ray: {str(error).strip().splitlines()[-1]}; is labelwise installed on every machine? The same command "
            "goes on with what is done"
        ) from error
    if failed:
        raise LabelwiseError(f"{len(failed)} of {len(runs)} runs failed; the first: {failed[0]}")
