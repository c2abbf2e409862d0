"""The loop as the ML backend of Label Studio: it predicts for tasks that labelwise made, and stores what is answered.

Label Studio calls `health`, `setup`, `predict` (boxes for tasks) and `webhook` (an annotation was created or changed).
A prediction is the one that an export writes (`exchange.label_studio`), by the model of the round that asks; an
annotation is taken in by the rules of an import: one that does not fit is refused, told and logged, and the question
stays open. Training is the loop's: `labelwise run` beside it goes on when a round has its answers.

Label Studio sends no password with a webhook, so the secret stands in the address: whoever knows it can answer.

Source: Label Studio's `ml/api_connector.py` and HumanSignal/label-studio-ml-backend (read; no code taken).
Fails when: a task is none of labelwise's (it gets an empty prediction), or an answer is changed after it was stored:
the first one counts, as with an import; correct it on the gallery of `labelwise serve`.
"""
# no `from __future__ import annotations` here: FastAPI reads the signatures of the routes

import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from labelwise.exchange import label_studio
from labelwise.exchange._questions import asks_class
from labelwise.exchange._reader import AnswerReader, shown
from labelwise.ledger import import_export, records
from labelwise.ledger.ledger import Ledger
from labelwise.project.context import Context
from labelwise.stages import interchange, prefill
from labelwise.types import LabelwiseError, Query

KEY = "secret of the ml backend"
MOST_BYTES = 64 * 2**20
"""Tasks of one request, with the boxes that are known on them."""
CREATED, UPDATED = "ANNOTATION_CREATED", "ANNOTATION_UPDATED"
"""The events that bring an annotation; all others are heard and change nothing."""
LOG = logging.getLogger("labelwise")


def secret_of(ledger: Ledger) -> str:
    """The secret in the address; it stays, since Label Studio keeps the address."""
    found = records.kept(ledger, KEY)
    if found is None:
        found = secrets.token_urlsafe(18)
        with ledger.write() as connection:
            records.keep(connection, KEY, found)
    return str(found)


class Backend:
    """One project as Label Studio's model.

    Raises:
        LabelwiseError: the project asks the simulated oracle, or ranks its questions anew while they are out.
    """

    def __init__(self, context: Context) -> None:
        ask = context.run.ask
        if ask.who != "people":
            raise LabelwiseError(
                "the simulated oracle answers this project; `labelwise run --oracle people` makes it wait for answers"
            )
        if ask.live_answers is not None:
            raise LabelwiseError(
                "ask.live_answers replaces open questions while their tasks are out: take it out of run.toml"
            )
        self.context = context
        self.ledger = context.project.ledger

    def version(self) -> str:
        """The model that predicts now, as the predictions name it."""
        asked = max((query.round for query in self.ledger.queries()), default=0)
        return label_studio.version(Query(asked, 0, "", "image"))

    def predict(self, tasks: Sequence[Any]) -> list[dict[str, Any]]:
        """One prediction for each task, in order; empty for one that labelwise did not make."""
        self.context.see_classes()
        pool, one_class = self.context.pool, self.context.run.classifies
        project = import_export.project_id(self.ledger)
        reader = AnswerReader.of(self.ledger.queries(), pool, project, unfinished=True)
        found = [reader.query(_reference(task), f"task {k}") for k, task in enumerate(tasks)]
        by_kind: dict[tuple[str, bool], dict[int, Query]] = {}
        for query in filter(None, found):
            kind = (query.unit, asks_class(query, one_class))
            by_kind.setdefault(kind, {})[query.id or 0] = query
        made: dict[int, list[dict[str, Any]]] = {}
        known = self.context.known().annotations
        for some in by_kind.values():
            queries = list(some.values())
            how: dict[str, Any] = {"project": project, "one_class": one_class}
            suggested = prefill.of_queries(self.context, queries)
            tasks_of = label_studio.tasks(queries, pool, known, suggested=suggested, **how)
            made |= dict(zip(some, (one["predictions"] for one in tasks_of), strict=True))
        empty = {"result": [], "score": 0.0, "model_version": self.version()}
        return [next(iter(made.get(query.id or 0, ())), empty) if query else empty for query in found]

    def take(self, task: Mapping[str, Any], annotation: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
        """Stores what was answered to a task; what came of it. A `new` one beside somebody's answer is an opinion."""
        self.context.see_classes()
        content = json.dumps([{**task, "annotations": [annotation]}]).encode()
        taken = interchange.take_in(
            self.context, content, label_studio.__name__.rpartition(".")[2], unfinished=True, second_opinions=new
        )
        problems = [f"{one.where}: {one.kind}: {one.what} ({one.handling})" for one in taken.problems]
        for line in problems:
            LOG.warning("%s", line)
        return {"stored": taken.written, "known": taken.known, "problems": problems}


def _reference(task: Any) -> Any:
    data = task.get("data") if isinstance(task, Mapping) else None
    return data.get("labelwise") if isinstance(data, Mapping) else None


def create(backend: Backend, secret: str) -> FastAPI:
    """The routes, all below the secret."""
    app = FastAPI(title="labelwise", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get(f"/{secret}/health")
    @app.get(f"/{secret}/")
    def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "labelwise"}

    @app.post(f"/{secret}/setup")
    def setup() -> dict[str, str]:
        return {"model_version": backend.version()}

    @app.post(f"/{secret}/predict")
    async def predict(request: Request) -> dict[str, Any]:
        tasks = (await _body(request)).get("tasks")
        if not isinstance(tasks, list):
            raise HTTPException(400, f"tasks is {shown(tasks)}; expected a list of tasks")
        return {"results": await run_in_threadpool(_told, backend.predict, tasks)}

    @app.post(f"/{secret}/train")
    @app.post(f"/{secret}/webhook")
    async def webhook(request: Request) -> dict[str, Any]:
        body = await _body(request)
        event, task, said = body.get("action"), body.get("task"), body.get("annotation")
        if event not in (CREATED, UPDATED) or not isinstance(task, dict) or not isinstance(said, dict):
            return {"status": "ok", "result": "heard; rounds are trained by `labelwise run`"}
        taken = await run_in_threadpool(_told, backend.take, task, said, new=event == CREATED)
        return {"status": "ok", "result": taken}

    return app


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise HTTPException(413, f"more than {MOST_BYTES} bytes; send fewer tasks at a time")
    try:
        found = json.loads(content)
    except ValueError as error:
        raise HTTPException(400, f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise HTTPException(400, f"{shown(found)}; expected an object")
    return found


def _told(work: Any, *given: Any, **how: Any) -> Any:
    try:
        return work(*given, **how)
    except LabelwiseError as error:
        raise HTTPException(409, str(error)) from None


def run(backend: Backend, host: str, port: int) -> None:
    """Serves it until Ctrl-C; the address, which holds the secret, is logged nowhere."""
    app = create(backend, secret_of(backend.ledger))
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)
