"""The ML backend of Label Studio: its requests are answered, and what is submitted there is stored at once."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_exchange import Reply, by_label_studio, choice
from test_exchange_label_studio import TOKEN, called, free_port
from test_exchange_label_studio import studio as studio  # a fixture: the address of a server
from test_web import about, ask, project
from typer.testing import CliRunner

from labelwise import cli, files
from labelwise.exchange import label_studio
from labelwise.exchange.label_studio_server import Server
from labelwise.ledger import import_export
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.stages import interchange
from labelwise.types import Detections, LabelwiseError

testclient = pytest.importorskip("starlette.testclient")
ml_backend = pytest.importorskip("labelwise.web.ml_backend")
UNITS = ("box", "region", "image", "box")


class Studio:
    """Label Studio's side: the project that was exported there, and the requests that it makes."""

    def __init__(self, opened: Context) -> None:
        self.opened = opened
        self.secret = ml_backend.secret_of(opened.project.ledger)
        self.backend = ml_backend.Backend(opened)
        self.client = testclient.TestClient(ml_backend.create(self.backend, self.secret))

    def post(self, path: str, body: Any, secret: str | None = None) -> Any:
        return self.client.post(f"/{self.secret if secret is None else secret}/{path}", json=body)

    def exported(self, *ids: int) -> dict[str, bytes]:
        """What an export writes for these queries, which are of one unit."""
        queries = [query for query in self.opened.project.ledger.queries(1) if query.id in ids]
        return interchange.query_files(self.opened, "label_studio", queries)

    def tasks(self, *ids: int) -> list[dict[str, Any]]:
        return [one | {"id": 70 + k} for k, one in enumerate(json.loads(self.exported(*ids)["tasks.json"]))]

    def predict(self, tasks: list[Any]) -> list[dict[str, Any]]:
        """The request of `make_predictions` in Label Studio's ml/api_connector.py."""
        body = {"tasks": tasks, "model_version": "", "project": "7.1700000000", "label_config": "<View/>"}
        params = {"login": None, "password": None, "context": None}
        reply = self.post("predict", body | {"params": params})
        assert reply.status_code == 200, reply.text
        return list(reply.json()["results"])

    def submit(self, number: int, reply: Reply, action: str = "ANNOTATION_CREATED", user: int = 1) -> dict[str, Any]:
        """What the webhook of an annotation sends."""
        [task] = json.loads(by_label_studio(self.exported(number), {number: reply}, (64, 48)))
        [annotation] = task.pop("annotations")
        body = {"action": action, "annotation": annotation | {"completed_by": user}, "task": task}
        sent = self.post("webhook", body | {"project": {"id": 7, "label_config": "<View/>"}})
        assert sent.status_code == 200, sent.text
        return dict(sent.json()["result"])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Studio]:
    opened = project(tmp_path)
    ask(opened, *(about(rank, opened, unit) for rank, unit in enumerate(UNITS)))
    yield Studio(opened)
    opened.project.close()


def ids(here: Studio) -> list[int]:
    return [query.id or 0 for query in here.opened.project.ledger.queries(1)]


def found(opened: Context) -> Detections:
    """One sure box per image."""
    n = len(opened.pool)
    boxes = np.array([[4 + k, 5, 24 + k, 30] for k in range(n)], np.float32)
    probs, scores = np.tile(np.float32([0.8, 0.1]), (n, 1)), np.full(n, 0.8, np.float32)
    return Detections(np.arange(n + 1), boxes, probs, scores, np.zeros((n, 0), np.float32))


def test_the_protocol_is_spoken_below_a_secret_alone(here: Studio) -> None:
    assert here.client.get(f"/{here.secret}/health").json()["status"] == "UP"
    setup = {"project": "7.1700000000", "schema": "<View/>", "hostname": "http://localhost:8080", "access_token": "x"}
    assert here.post("setup", setup).json() == {"model_version": "labelwise, round 1"}
    for path in ("health", "setup", "predict", "webhook"):
        for secret in ("", "wrong"):
            assert here.post(path, {}, secret).status_code in (404, 405)
    assert ml_backend.secret_of(here.opened.project.ledger) == here.secret, "Label Studio keeps the address"
    assert here.post("predict", {"tasks": 3}).status_code == 400
    assert here.client.post(f"/{here.secret}/predict", content=b"{").status_code == 400
    assert here.post("webhook", {"action": "PROJECT_UPDATED"}).json()["status"] == "ok"
    train = {"action": "START_TRAINING", "project": {"id": 7}}
    assert "labelwise run" in here.post("webhook", train).json()["result"]


def test_it_predicts_what_an_export_writes_and_nothing_for_other_tasks(here: Studio) -> None:
    opened = here.opened
    files.write_detections(Round(opened, 1).folder.predictions(), found(opened))
    first, region, image, second = ids(here)
    boxes, areas, images = here.tasks(first, second), here.tasks(region), here.tasks(image)
    other = {"id": 1, "data": {"image": "cat.jpg"}}
    mixed = [images[0], other, boxes[1], areas[0], boxes[0], {"id": 2}, None]
    results = here.predict(mixed)
    for task, result in zip(mixed, results, strict=True):
        sent = [] if task is None else task.get("predictions", [])
        assert result["result"] == (sent[0]["result"] if sent else [])
    assert results[0]["score"] == 0.8 and results[0]["result"][0]["score"] == 0.8
    assert results[0]["result"][0]["value"]["rectanglelabels"] == [opened.pool.classes[0]]
    assert {one["model_version"] for one in results} == {"labelwise, round 1"}
    assert here.predict([]) == []


def test_a_submitted_annotation_is_stored_at_once_and_once(here: Studio) -> None:
    opened, (first, region, image, second) = here.opened, ids(here)
    names, [query, *_] = opened.pool.classes, opened.project.ledger.queries(1)
    assert query.box is not None
    assert here.submit(first, Reply("accept", ((query.box, names[0]),))) == {"stored": 1, "known": 0, "problems": []}
    assert here.submit(first, Reply("accept", ((query.box, names[0]),)))["known"] == 1, "a webhook that comes again"
    assert here.submit(region, Reply("complete", (((5.0, 5.0, 20.0, 20.0), names[1]),)))["stored"] == 1
    assert here.submit(image, Reply("complete"))["stored"] == 1
    ledger = opened.project.ledger
    assert ledger.verdicts(1) == {first: "object", region: "all", image: "all"}
    rows = import_export.current_annotations(ledger)
    assert [(row["label"], row["origin"]) for row in rows] == [(0, "import label_studio"), (1, "import label_studio")]
    assert ledger.cost().queries == 3 and ledger.cost().seconds == pytest.approx(3 * 3.5)
    whole = json.loads(by_label_studio(here.exported(second), {second: Reply("reject")}, (64, 48)))
    whole[0]["annotations"][0]["completed_by"] = 1
    here.submit(second, Reply("reject"))
    taken = interchange.take_in(opened, json.dumps(whole).encode(), "label_studio")
    assert (taken.written, taken.known) == (0, 1), "an import of the same says nothing new"


def test_another_person_is_a_second_opinion_and_a_change_is_told(
    here: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    first, *_ = ids(here)
    here.submit(first, Reply("reject"))
    assert here.submit(first, Reply("duplicate"), user=2)["stored"] == 1
    with caplog.at_level(logging.WARNING, "labelwise"):
        changed = here.submit(first, Reply("duplicate"), action="ANNOTATION_UPDATED")
    assert changed["stored"] == 0 and "answered before" in changed["problems"][0] and "answered before" in caplog.text
    assert here.opened.project.ledger.verdicts(1)[first] == "background", "the first counts"


def test_what_does_not_fit_is_told_and_leaves_the_question_open(here: Studio) -> None:
    first, region, *_ = ids(here)
    told = here.submit(region, Reply("complete", (((5.0, 5.0, 20.0, 20.0), "no class"),)))
    assert told["stored"] == 0 and "unknown class" in told["problems"][0]
    [task] = here.tasks(first)
    task["data"]["box"] = [0.0, 0.0, 9.0, 9.0]
    body = {"action": "ANNOTATION_CREATED", "task": task, "annotation": {"result": [], "completed_by": 1}}
    assert "edited by hand" in here.post("webhook", body).json()["result"]["problems"][0]
    assert here.opened.project.ledger.verdicts(1) == {}


def test_a_project_whose_questions_change_or_that_asks_nobody_is_refused(tmp_path: Path) -> None:
    opened = project(tmp_path, 'ask.who="oracle"')
    with pytest.raises(LabelwiseError, match="the simulated oracle answers this project"):
        ml_backend.Backend(opened)
    rule = opened.run.ask.model_copy(update={"who": "people", "live_answers": 5})
    opened.run = opened.run.model_copy(update={"ask": rule})
    with pytest.raises(LabelwiseError, match=r"take it out of run\.toml"):
        ml_backend.Backend(opened)
    opened.project.close()


def test_the_version_is_that_of_an_export(here: Studio) -> None:
    [query, *_] = here.opened.project.ledger.queries(1)
    assert here.backend.version() == label_studio.version(query)


@pytest.mark.slow
def test_a_real_label_studio_gets_boxes_and_what_is_submitted_there_is_stored(studio: str, here: Studio) -> None:
    """How the server is found: test_exchange_label_studio. Health, setup, predict and webhook are its own requests."""
    import uvicorn

    opened, (_, _, image, _), port = here.opened, ids(here), free_port()
    files.write_detections(Round(opened, 1).folder.predictions(), found(opened))
    app = ml_backend.create(here.backend, here.secret)
    backend = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=backend.run)
    thread.start()
    try:
        server, [task] = Server(studio, TOKEN), here.tasks(image)
        number = server.create("labelwise as a model", here.exported(image)["config.xml"].decode())
        [there] = server.send(number, [{"data": task["data"]}])
        address = f"http://127.0.0.1:{port}/{here.secret}"
        connected = called(studio, "/api/ml/", {"project": number, "url": address, "title": "labelwise"})
        assert connected["readable_state"] == "Connected" and connected["model_version"] == "labelwise, round 1"
        every = {"selectedItems": {"all": True, "excluded": []}}
        called(studio, f"/api/dm/actions?id=retrieve_tasks_predictions&project={number}", every)
        [given] = server.fetch(number)[0]["predictions"]
        [sent] = task["predictions"]
        assert given["result"] == sent["result"] and given["model_version"] == sent["model_version"]
        assert given["score"] == pytest.approx(sent["score"])
        result = [*sent["result"], choice("verdict", "complete")]
        called(studio, f"/api/tasks/{there}/annotations/", {"result": result, "lead_time": 4.5})
        deadline = time.monotonic() + 60
        while not opened.project.ledger.verdicts(1) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert opened.project.ledger.verdicts(1) == {image: "all"}
        rows = import_export.current_annotations(opened.project.ledger)
        assert [row["label"] for row in rows] == [0] and opened.project.ledger.cost().seconds == pytest.approx(4.5)
        content = json.dumps(server.fetch(number)).encode()
        assert interchange.take_in(opened, content, "label_studio").known == 1, "an import says the same, of the same"
    finally:
        backend.should_exit = True
        thread.join()


def test_the_command_tells_the_address(here: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr(ml_backend, "run", lambda _backend, host, port: served.append((host, port)))
    result = CliRunner().invoke(cli.app, ["serve-ml", "--project", str(here.opened.project.folder), "--port", "9191"])
    assert result.exit_code == 0, result.exception
    assert f"http://localhost:9191/{here.secret}" in result.output and served == [("127.0.0.1", 9191)]
