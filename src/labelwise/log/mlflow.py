"""MLflow: a run of its own in a tracking store; without a server in the project's folder `log/mlflow`.

The store is that of `uri`, else of MLFLOW_TRACKING_URI, else files in the project (`mlflow ui --backend-store-uri
FOLDER`). The run is found again by a tag with the project's key, and what it holds is read before anything is added. A
stage that is done again adds its new values at the same step, and MLflow shows the newest. Parameters of MLflow cannot
change: a setting that changed stands in a tag, `changed KEY`. Signs of a name that
MLflow does not take are `_`.

Fails when: the store cannot be reached, which is told; the next stage or `labelwise run` adds what is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from labelwise.log._entries import About, Entry, load
from labelwise.types import LabelwiseError

Point = tuple[str, int, float, int]
"""Name, step, value, milliseconds since 1970: MLflow's own four."""
KEY = "labelwise"
"""The tag by which a run is found again."""
MOST = 500
"""Metrics in one request: MLflow takes 1000."""
MOST_PARAMS = 100
LONGEST = 500
"""Characters of a setting's value."""


def log(entries: Sequence[Entry], about: About, *, uri: str | None = None, experiment: str = "labelwise") -> None:
    """Adds the points that the run in the store lacks.

    Args:
        entries: what the run has to say so far.
        about: the run.
        uri: the tracking store; none: MLFLOW_TRACKING_URI, else files in the project.
        experiment: the experiment that the run belongs to; it is made where there is none.

    Raises:
        LabelwiseError: mlflow is not installed, or MLflow knows no store like `uri`.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # 7 hold the run up for minutes, after every stage
    load("mlflow", "mlflow", "labelwise[mlflow]")
    store = uri or os.environ.get("MLFLOW_TRACKING_URI") or (about.folder / "mlflow").resolve().as_uri()
    if "://" not in store or store.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow asks for that since its version 3.17
    client = _client(store)
    run = _run(store, experiment, about.key, about.name)
    held = _held(store, run)
    lacking = [one for one in _points(entries) if one not in held]
    metrics = load("mlflow.entities", "mlflow", "labelwise[mlflow]")
    for start in range(0, len(lacking), MOST):
        some = lacking[start : start + MOST]
        made = [metrics.Metric(name, value, time_ms, step) for name, step, value, time_ms in some]
        try:
            client.log_batch(run, metrics=made)
        except BaseException:
            _held.cache_clear()  # a part may be there
            raise
        held.update(some)
    _settings(client, run, about, metrics.Param)


def _points(entries: Sequence[Entry]) -> list[Point]:
    every = [(name, step, value, entry) for entry in entries for name, step, value in entry.points()]
    names = metric_names(name for name, *_ in every)
    return [(names[name], step, float(value), round(1000 * entry.ended_s)) for name, step, value, entry in every]


def metric_names(names: Iterable[str]) -> dict[str, str]:
    """The names in MLflow, which takes letters, digits and few signs; a class may have any, and `/` makes folders.

    >>> metric_names(["class/a/b", "class/a_b", "class/a/b"])
    {'class/a/b': 'class/a_b', 'class/a_b': 'class/a_b 2'}
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        prefix, slash, rest = name.partition("/")
        made = again = re.sub(r"[^\w\- ]", "_", prefix) + slash + re.sub(r"[^\w\- ]", "_", rest)
        number = 1
        while again in found.values():
            number += 1
            again = f"{made} {number}"
        found[name] = again
    return found


@cache
def _client(store: str) -> Any:
    tracking = load("mlflow.tracking", "mlflow", "labelwise[mlflow]")
    try:
        return tracking.MlflowClient(tracking_uri=store)
    except Exception as error:
        if isinstance(error, ImportError) or type(error).__name__.endswith("URIException"):
            raise LabelwiseError(
                f"log.to: mlflow cannot use the store {store} ({error}). Set uri to a server (https://...) or a "
                "folder (file:///...), or take mlflow out of log.to"
            ) from None
        raise


@cache
def _run(store: str, experiment: str, key: str, name: str) -> str:
    """The id of this run in the store; a run that is not there is made."""
    client = _client(store)
    found = client.get_experiment_by_name(experiment)
    number = client.create_experiment(experiment) if found is None else found.experiment_id
    runs = client.search_runs([number], filter_string=f"tags.{KEY} = '{key}'")
    return str(runs[0].info.run_id if runs else client.create_run(number, run_name=name, tags={KEY: key}).info.run_id)


@cache
def _held(store: str, run: str) -> set[Point]:
    """The points that the store holds, read once in a process; what the process adds is added."""
    client = _client(store)
    names = client.get_run(run).data.metrics
    return {
        (one.key, one.step, one.value, one.timestamp) for name in names for one in client.get_metric_history(run, name)
    }


def _settings(client: Any, run: str, about: About, param: Any) -> None:
    data = client.get_run(run).data
    settings = {re.sub(r"[^\w\-./ ]", "_", key): value[:LONGEST] for key, value in about.settings.items()}
    fresh = [param(key, value) for key, value in settings.items() if key not in data.params]
    for start in range(0, len(fresh), MOST_PARAMS):
        client.log_batch(run, params=fresh[start : start + MOST_PARAMS])
    for key, value in settings.items():
        if data.tags.get(f"changed {key}", data.params.get(key, value)) != value:
            client.set_tag(run, f"changed {key}", value)
