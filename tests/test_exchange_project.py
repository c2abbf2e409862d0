"""Exchange of a whole project: imports are all or nothing, a file twice writes nothing, exports invent no negatives."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from test_exchange import TOOLS, Reply
from test_exchange import reply as reply_of
from typer.testing import CliRunner

from labelwise import cli
from labelwise.cli import transfer as cli_exchange
from labelwise.data import find
from labelwise.generated import scenes
from labelwise.ledger import import_export as store
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.stages import interchange, training_export
from labelwise.types import Answer, Cost, LabelwiseError, Query

assert cli_exchange.PANEL


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Context]:
    """A project of 6 images that has asked 2 images, 2 boxes and a region, and has no answer."""
    scenes.write(tmp_path / "d", train=6, test=1, size_px=96, digits=(2, 4), scale=(0.2, 0.4))
    made = opening.start(tmp_path / "p", "starter", [f"data.root={tmp_path / 'd'}", 'data.pool_split="train"'])
    ledger, names = made.project.ledger, made.pool.names
    ledger.add_images(made.pool)
    ledger.add_queries(0, [Query(0, k, names[k], "image") for k in range(2)])
    box = Query(1, 0, names[2], "box", (10.5, 20, 30, 40), 3, 0.5, {"entropy": 0.5})
    ledger.add_queries(1, [box, replace(box, rank=1, image=names[3])])
    ledger.add_queries(2, [Query(2, 0, names[4], "region", (0, 0, 48, 48))])
    yield made
    made.project.close()


def said(made: Context, queries: list[Query]) -> dict[int, Reply]:
    one, other = ((12.0, 20.0, 30.0, 40.0), made.pool.classes[3]), ((50.0, 20.0, 90.0, 40.5), made.pool.classes[3])
    of = {"box": Reply("accept", (one,)), "region": Reply("complete", (one,)), "image": Reply("complete", (one, other))}
    return {query.id or 0: of[query.unit] for query in queries}


def reply(made: Context, tool: str, round_number: int) -> bytes:
    """What comes back from a tool for the open queries of a round."""
    queries = interchange.open_queries(made, round_number)
    sent = interchange.query_files(made, tool, queries)
    size = {"size": (96, 96)} if tool == "label_studio" else {}
    project = store.project_id(made.project.ledger)
    return reply_of(tool, sent, said(made, queries), queries, made.pool, project, **size)


def state(made: Context) -> tuple[Any, ...]:
    ledger = made.project.ledger
    labels = ledger.labels(made.pool)
    return (
        store.current_answers(ledger),
        ledger.cost(),
        labels.annotations.xyxy.tolist(),
        labels.coverage.xyxy.tolist(),
        labels.background.xyxy.tolist(),
    )


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("round_number", [0, 1, 2])
def test_a_file_is_taken_in_once(opened: Context, tool: str, round_number: int) -> None:
    content = reply(opened, tool, round_number)
    assert interchange.tool_of(content) == tool
    n = len(opened.project.ledger.open_queries(round_number))
    taken = interchange.take_in(opened, content, tool)
    assert (taken.written, taken.known, taken.problems) == (n, 0, ())
    assert opened.project.ledger.open_queries(round_number) == []
    after = state(opened)
    assert len(after[2]) == (4 if round_number == 0 else n)
    assert len(after[3]) == (0 if round_number == 1 else n), "images and regions are covered from now on, boxes are not"
    assert interchange.take_in(opened, content, tool) == store.ImportResult(0, n)
    assert state(opened) == after


def test_one_problem_refuses_the_whole_file(opened: Context) -> None:
    content = json.loads(reply(opened, "json", 1))
    content["answers"][1]["objects"][0]["class"] = "no class"
    before = state(opened)
    taken = interchange.take_in(opened, json.dumps(content).encode(), "json")
    assert (taken.written, [p.kind for p in taken.problems]) == (0, ["unknown class"])
    assert state(opened) == before


def test_another_answer_is_a_problem_or_a_second_opinion(opened: Context) -> None:
    content = reply(opened, "json", 1)
    interchange.take_in(opened, content, "json")
    before = state(opened)
    other = json.loads(content)
    other["answers"][0] |= {"who": "bob", "verdict": "background", "objects": []}
    taken = interchange.take_in(opened, json.dumps(other).encode(), "json")
    assert (taken.written, taken.known, [p.kind for p in taken.problems]) == (0, 1, ["answered before"])
    assert "answered by ann@x.org (object), here by bob (background)" in taken.problems[0].what
    assert state(opened) == before
    taken = interchange.take_in(opened, json.dumps(other).encode(), "json", second_opinions=True)
    assert (taken.written, taken.known, taken.problems) == (1, 1, ())
    assert state(opened)[2:] == before[2:], "a second opinion makes no labels"
    assert state(opened)[1].queries == 3
    assert interchange.take_in(opened, json.dumps(other).encode(), "json", second_opinions=True).written == 0


def test_two_people_in_one_file_need_a_word(opened: Context) -> None:
    content = json.loads(reply(opened, "json", 1))
    content["answers"].append(content["answers"][0] | {"who": "bob"})
    text = json.dumps(content).encode()
    assert [p.kind for p in interchange.take_in(opened, text, "json").problems] == ["answered twice"]
    assert interchange.take_in(opened, text, "json", second_opinions=True).written == 3


def test_half_a_file_is_taken_where_one_says_so(opened: Context) -> None:
    content = json.loads(reply(opened, "label_studio", 1))
    content[0]["annotations"] = []
    text = json.dumps(content).encode()
    assert interchange.take_in(opened, text, "label_studio").written == 0
    taken = interchange.take_in(opened, text, "label_studio", unfinished=True)
    assert (taken.written, [p.handling for p in taken.problems]) == (1, ["left open"])
    assert len(opened.project.ledger.open_queries(1)) == 1


def test_what_a_file_says_is_what_the_page_would_have_written(opened: Context, tmp_path: Path) -> None:
    content = reply(opened, "label_studio", 2)
    interchange.take_in(opened, content, "label_studio")
    ((query, answer),) = store.current_answers(opened.project.ledger)
    assert query.id is not None
    assert answer == Answer(query.id, "all", ((12.0, 20.0, 30.0, 40.0),), (3,), "ann@x.org", 3.5)
    assert opened.project.ledger.cost() == Cost(boxes=1, queries=1, images=0, seconds=3.5)
    (row,) = store.current_annotations(opened.project.ledger)
    assert (row["origin"], row["who"]) == ("import label_studio", "ann@x.org")


def test_another_project_is_another_project(opened: Context, tmp_path: Path) -> None:
    content = reply(opened, "coco", 1)
    other = opening.start(tmp_path / "q", "starter", [f"data.root={tmp_path / 'd'}", 'data.pool_split="train"'])
    other.project.ledger.add_images(other.pool)
    for round_number in range(3):
        there = [replace(query, id=None) for query in opened.project.ledger.queries(round_number)]
        other.project.ledger.add_queries(round_number, there)
    taken = interchange.take_in(other, content, "coco")
    assert [p.kind for p in taken.problems] == ["another project"] * 2
    other.project.close()


# ---- the training set ---------------------------------------------------------------------------------------------


@pytest.fixture
def answered(opened: Context) -> Context:
    for round_number in range(3):
        content = json.loads(reply(opened, "json", round_number))
        if round_number == 0:  # the second image is looked at and empty
            content["answers"][1]["objects"] = []
        assert interchange.take_in(opened, json.dumps(content).encode(), "json").problems == ()
    return opened


@pytest.mark.parametrize("format_name", training_export.set_formats())
def test_the_training_set_holds_what_was_looked_at_and_nothing_else(
    answered: Context, format_name: str, tmp_path: Path
) -> None:
    told = training_export.write_set(answered, format_name, tmp_path / "set")
    if format_name == "coco":
        content = json.loads((tmp_path / "set" / "annotations" / "instances_train.json").read_text())
        assert [image["file_name"] for image in content["images"]] == list(answered.pool.names[:2])
        assert [row["image_id"] for row in content["annotations"]] == [1, 1]
        assert content["annotations"][0]["attributes"]["who"] == "ann@x.org"
        part = json.loads((tmp_path / "set" / "partly_labelled.json").read_text())
        assert [image["file_name"] for image in part["images"]] == list(answered.pool.names[2:5])
        assert [len(image["labelwise"]["coverage"]) for image in part["images"]] == [0, 0, 1]
        assert part["info"]["description"].startswith("PARTLY LABELLED")
        back = find.read(tmp_path / "set", "train")  # where the images are stands in the file
        assert back.truth is not None and np.diff(back.truth.offsets).tolist() == [2, 0]
        assert [Path(name).name for name in back.names] == [Path(name).name for name in answered.pool.names[:2]]
        assert any("1 images that nobody looked at" in line for line in told)
    else:
        back = find.read(tmp_path / "set", "train")
        assert len(back) == 2 and back.truth is not None
        assert np.diff(back.truth.offsets).tolist() == [2, 0]
        assert np.allclose(back.truth.xyxy, [[12, 20, 30, 40], [50, 20, 90, 40.5]], atol=0.01)
        assert any("3 images with 3 boxes" in line for line in told)
    text = (tmp_path / "set" / "DATA_CARD.md").read_text()
    for part_of_it in (
        "Of 6 images of the pool 2 were looked at as a whole, 3 in part",
        "query.score",
        "5 queries",
        "ann@x",
    ):
        assert part_of_it in text.replace("\\", "")
    with pytest.raises(LabelwiseError, match="exists already"):
        training_export.write_set(answered, format_name, tmp_path / "set")


@pytest.mark.parametrize("format_name", training_export.set_formats())
def test_a_training_set_appears_in_one_step_or_not_at_all(
    answered: Context, format_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_card: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training_export.card, "text", stopped)
        with pytest.raises(KeyboardInterrupt):
            training_export.write_set(answered, format_name, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    (tmp_path / ".set.0.labelwise-tmp" / "annotations").mkdir(parents=True)  # as a kill leaves it
    training_export.write_set(answered, format_name, tmp_path / "set")
    assert (tmp_path / "set" / "DATA_CARD.md").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".set")] == []


def test_boxes_alone_make_no_yolo_set(opened: Context, tmp_path: Path) -> None:
    interchange.take_in(opened, reply(opened, "json", 1), "json")
    with pytest.raises(LabelwiseError, match="no image was looked at as a whole"):
        training_export.write_set(opened, "yolo", tmp_path / "set")


# ---- the commands -------------------------------------------------------------------------------------------------


def call(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], env={"COLUMNS": "300"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_go_out_and_back(opened: Context, tmp_path: Path) -> None:
    folder = opened.project.folder
    shown = call("export", "queries", "--to", "json", "--project", folder, "--round", 1, "-o", tmp_path / "out")
    assert "2 open queries" in shown
    for tool in ("label_studio", "cvat", "coco", "fiftyone"):
        shown = call("export", "queries", "--to", tool, "--project", folder)
        assert "1 open queries" in shown and "Not carried" in shown
    assert (folder / "export" / "queries_label_studio" / "config.xml").is_file()
    (tmp_path / "back.json").write_bytes(reply(opened, "json", 1))
    assert "2 answers recorded, 0 were there before" in call("import", tmp_path / "back.json", "--project", folder)
    assert "0 answers recorded, 2 were there before" in call("import", tmp_path / "back.json", "--project", folder)
    assert "DATA_CARD.md" in call("export", "labels", "--to", "coco", "--project", folder, "-o", tmp_path / "set")


def test_a_server_is_filled_and_read_with_what_the_files_hold(
    opened: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {}

    class Fake:
        def __init__(self, *_: object) -> None: ...

        def create(self, title: str, config: str) -> int:
            sent["title"], sent["config.xml"] = title, config.encode()
            return 7

        def send(self, project: int, tasks: list[dict[str, Any]]) -> None:
            sent["tasks.json"] = json.dumps(tasks).encode()

        def fetch(self, project: int) -> Any:
            queries = interchange.open_queries(opened, 1)
            return json.loads(
                reply_of("label_studio", sent, said(opened, queries), queries, opened.pool, size=(96, 96))
            )

    monkeypatch.setattr("labelwise.exchange.label_studio_server.Server", Fake)
    folder, there = opened.project.folder, ("--server", "http://labels")
    shown = call("export", "queries", "--to", "label_studio", "--project", folder, "--round", 1, *there)
    assert "http://labels/projects/7" in shown and "labelwise import 7 --server http://labels" in shown
    files = interchange.query_files(opened, "label_studio", interchange.open_queries(opened, 1))
    assert sent["title"].endswith(", round 1") and sent["config.xml"] == files["config.xml"]
    assert json.loads(sent["tasks.json"]) == json.loads(files["tasks.json"])
    assert "2 answers recorded" in call("import", 7, *there, "--project", folder)
    with pytest.raises(LabelwiseError, match="not coco: leave it out"):
        call("export", "queries", "--to", "coco", "--project", folder, *there)


def test_frames_are_written_as_images_for_tools_that_show_files(opened: Context, tmp_path: Path) -> None:
    names = tuple(f"v/a.mp4#{k:06d}" for k in range(6))
    was = dict(zip(opened.pool.names, names, strict=True))
    opened.pool = replace(opened.pool, names=names, frames=lambda k: np.full((96, 96, 3), k, np.uint8))
    asked = [was[query.image] for query in interchange.open_queries(opened, 1)]
    assert [np.asarray(Image.open(path)).max() for path in interchange.draw(opened, asked, tmp_path)] == [2, 3]
    assert (tmp_path / "v" / "a.mp4#000002.png").is_file()
    opened.pool = replace(opened.pool, names=("../up.mp4#0", *names[1:]))
    with pytest.raises(LabelwiseError, match="cannot be written below"):
        interchange.draw(opened, ["../up.mp4#0"], tmp_path)


def test_a_training_set_of_frames_is_read_back(answered: Context, tmp_path: Path) -> None:
    given, frames = answered.pool, [np.full((96, 96, 3), 40 * k, np.uint8) for k in range(len(answered.pool))]
    answered.pool = replace(given, frames=lambda k: frames[k])
    training_export.write_set(answered, "coco", tmp_path / "set")
    back = find.read(tmp_path / "set", "train")
    assert back.names == tuple(f"images/{name}.png" for name in given.names[:2]) and back.problems == ()
    assert back.truth is not None and np.diff(back.truth.offsets).tolist() == [2, 0]
    assert np.asarray(Image.open(back.path(1))).max() == 40


def test_a_refused_import_shows_every_problem(opened: Context, tmp_path: Path, capsys: Any) -> None:
    content = json.loads(reply(opened, "json", 1))
    for row in content["answers"]:
        row["objects"][0]["class"] = "[cat]"
    (tmp_path / "back.json").write_text(json.dumps(content))
    result = CliRunner().invoke(cli.app, ["import", str(tmp_path / "back.json"), "-p", str(opened.project.folder)])
    assert isinstance(result.exception, LabelwiseError)
    assert "2 problems, nothing was written" in str(result.exception)
    assert result.output.count("'[cat]' is not a class") == 2
    assert opened.project.ledger.cost().queries == 0


def test_wrong_use_is_told(opened: Context, tmp_path: Path) -> None:
    folder = opened.project.folder
    with pytest.raises(LabelwiseError, match="no open query"):
        interchange.open_queries(opened, 9)
    with pytest.raises(LabelwiseError, match="Did you mean 'coco'"):
        training_export.write_set(opened, "cocoo", tmp_path / "x")
    with pytest.raises(LabelwiseError, match="no such file"):
        call("import", tmp_path / "none.json", "--project", folder)
    (tmp_path / "odd").write_text("hello")
    with pytest.raises(LabelwiseError, match="--from"):
        call("import", tmp_path / "odd", "--project", folder)
    with pytest.raises(LabelwiseError, match="number of a Label Studio project"):
        call("import", "x", "--server", "http://127.0.0.1:9", "--project", folder)
    with pytest.raises(LabelwiseError, match="the token of Label Studio is empty"):
        call("import", "3", "--server", "http://127.0.0.1:9", "--project", folder)


def killed_at(statement: int, folder: Path, content: bytes) -> bool:
    """Whether a process of its own that imports was killed at this statement of its database."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            made = opening.start(folder, None)
            seen = 0

            def count(*_: Any) -> None:
                nonlocal seen
                seen += 1
                if seen == statement:
                    os.kill(os.getpid(), signal.SIGKILL)

            sa.event.listen(made.project.ledger.engine, "before_cursor_execute", count)
            interchange.take_in(made, content, "json")
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_an_import_killed_at_any_statement_has_written_nothing_or_all(opened: Context) -> None:
    content = reply(opened, "json", 1)
    statement = 1
    while killed_at(statement, opened.project.folder, content):
        assert opened.project.ledger.cost().queries == 0
        statement += 1
    assert statement > 4
    assert opened.project.ledger.cost().queries == 2
