"""Every exchange format keeps the contract of its folder: there and back, degenerate and damaged files, what it tells.

A format is picked up by its being there. The way back goes by a person of `test_exchange`, or by the format's own
`write_answers`.
"""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exchange import CLASSES, PROJECT, TOOLS, Reply, boxes, known, pool, query, reply, write
from test_exchange_project import call
from test_exchange_project import opened as opened  # a fixture

from labelwise import catalog, units
from labelwise.exchange._questions import buttons
from labelwise.project.context import Context
from labelwise.stages import interchange
from labelwise.types import Answer, LabelwiseError, Pool, Problem, Query

INPUTS = {"queries", "pool", "project", "known", "one_class", "suggested"}
each_format = pytest.mark.parametrize("name", TOOLS)


def read(name: str, content: bytes, queries: list[Query], images: Pool) -> tuple[list[Answer], list[Problem]]:
    found: tuple[list[Answer], list[Problem]] = TOOLS[name].read(content, queries, images, PROJECT)
    return found


@st.composite
def conversations(draw: Any) -> tuple[list[Query], dict[int, Reply]]:
    """Queries of one unit, each on its own image, and any verdict that it takes with as many objects as it has."""
    unit = draw(st.sampled_from(units.names()))
    queries, replies = [], {}
    for number in range(draw(st.integers(1, 4))):
        area = draw(boxes()) if units.find(unit).RECTANGLE else None
        asked = Query(
            2, number, f"sub {number}/b&w-{number}.jpg", unit, area, 1 if units.find(unit).CLASS else None, id=number
        )
        word, verdict = draw(st.sampled_from(sorted(buttons(asked).items())))
        most = {"none": (0, 0), "one": (1, 1), "any": (0, 3)}[units.find(unit).VERDICTS[verdict].boxes]
        within = area if area is not None and not units.find(unit).CLASS else (0.0, 0.0, 640.0, 427.0)
        one = st.tuples(boxes(within), st.sampled_from(CLASSES))
        queries.append(asked)
        replies[number] = Reply(word, tuple(draw(st.lists(one, min_size=most[0], max_size=most[1]))))
    return queries, replies


@each_format
def test_a_format_defines_what_its_folder_asks_for(name: str) -> None:
    method, module = catalog.find("exchange", name), TOOLS[name]
    assert set(method.inputs) <= INPUTS
    assert set(inspect.signature(module.read).parameters) <= {"content", "queries", "pool", "project"} | {
        "one_class",
        "unfinished",
        "who",
        "rename",
        "unanswered",
    }
    assert callable(module.detect)
    assert isinstance(module.CANNOT_CARRY, tuple)
    assert all(isinstance(line, str) and len(line) > 10 for line in module.CANNOT_CARRY)
    assert len(catalog.summary("exchange", name)) > 10


@each_format
@settings(max_examples=25, deadline=None)
@given(conversation=conversations())
def test_any_answer_comes_back(name: str, conversation: tuple[list[Query], dict[int, Reply]]) -> None:
    queries, replies = conversation
    images = pool(4)
    files = write(name, queries, images, known(images))
    assert files and all(Path(file).name == file and isinstance(content, bytes) for file, content in files.items())
    content = reply(name, files, replies, queries, images)
    assert [tool for tool in TOOLS if TOOLS[tool].detect(content)] == [name]
    found, problems = read(name, content, queries, images)
    assert problems == []
    assert sorted(answer.query for answer in found) == sorted(replies)
    for answer in found:
        word, objects = replies[answer.query]
        assert answer.verdict == buttons(queries[answer.query])[word]
        assert [CLASSES[label] for label in answer.labels] == [label for _, label in objects]
        got, wanted = np.array(answer.boxes).reshape(-1, 4), np.array([box for box, _ in objects]).reshape(-1, 4)
        assert np.abs(got - wanted).max(initial=0) < 0.01


@each_format
def test_the_same_queries_make_the_same_files(name: str) -> None:
    queries = [query(0, "box", (10, 20, 30, 40)), query(1, "box", (50, 60, 70, 80))]
    assert write(name, queries, pool(2), known(pool(2))) == write(name, queries, pool(2), known(pool(2)))


@each_format
def test_degenerate_queries_go_there_and_back(name: str) -> None:
    whole = [query(0, "image", image=0)]
    for images, asked, word, objects in (
        (pool(1, 1, 1), whole, "complete", (((0.0, 0.0, 1.0, 1.0), CLASSES[2]),)),
        (pool(1), whole, "complete", ()),
        (pool(1), [query(0, "region", (0, 0, 640, 427))], "complete", (((0.0, 0.0, 640.0, 427.0), CLASSES[0]),)),
        (pool(1), [query(0, "box", (639, 426, 640, 427))], "accept", (((639.0, 426.0, 640.0, 427.0), CLASSES[1]),)),
        (pool(1, 100_000, 3), [query(0, "box", (0, 0, 100_000, 3))], "reject", ()),
    ):
        size = {"size": (int(images.width_px[0]), int(images.height_px[0]))} if name == "label_studio" else {}
        content = reply(name, write(name, asked, images), {0: Reply(word, objects)}, asked, images, **size)
        found, problems = read(name, content, asked, images)
        assert problems == []
        assert [(one.verdict, len(one.boxes)) for one in found] == [(buttons(asked[0])[word], len(objects))]
        assert np.allclose(np.array(found[0].boxes).reshape(-1, 4), np.array([b for b, _ in objects]).reshape(-1, 4))
    nothing = write(name, [], pool(1))
    assert nothing and all(isinstance(content, bytes) for content in nothing.values())


@each_format
def test_what_was_not_answered_is_no_answer(name: str) -> None:
    """The files as they were sent: nothing in them is taken for an answer."""
    asked = [query(0, "box", (10, 20, 30, 40)), query(1, "box", (50, 60, 70, 80))]
    for content in write(name, asked, pool(2), known(pool(2))).values():
        try:
            found, problems = read(name, content, asked, pool(2))
        except LabelwiseError:
            continue
        assert found == [] and problems


@each_format
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_an_error_or_told(name: str, data: Any) -> None:
    asked = [query(0, "box", (10, 20, 30, 40)), query(1, "box", (50, 60, 70, 80))]
    one = Reply("accept", (((10.0, 20.0, 30.0, 40.0), "cat"),))
    content = bytearray(reply(name, write(name, asked, pool(2)), {0: one, 1: Reply("skip")}, asked, pool(2)))
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        damaged = bytes(content[:at])
    else:
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        damaged = bytes(content)
    try:
        found, _ = read(name, damaged, asked, pool(2))
    except LabelwiseError:
        return
    assert {answer.query for answer in found} <= {0, 1}


@each_format
def test_answers_of_another_project_are_refused(name: str) -> None:
    asked, replies = [query(0, "box", (10, 20, 30, 40))], {0: Reply("reject")}
    content = reply(name, write(name, asked, pool(1)), replies, asked, pool(1))
    found, problems = TOOLS[name].read(content, asked, pool(1), "ffff00000000")
    assert found == [] and [problem.handling for problem in problems] == ["refused"]


@each_format
def test_what_it_cannot_carry_stands_in_the_list(name: str) -> None:
    shown = call("list", "exchange").partition(f"│ {name} ")[2].partition("├──")[0]
    text = " ".join(shown.replace("│", " ").split())
    assert all(line in text for line in TOOLS[name].CANNOT_CARRY)
    assert catalog.summary("exchange", name) in text


@each_format
def test_no_other_file_knows_a_format_by_its_name(name: str) -> None:
    """`json` is the name of a module, too, and COCO a data format: these two are exempt, as is the room that reads data
    sets of whatever tool (`data/`).
    """
    source = Path(catalog.__file__).parent
    for path in source.rglob("*.py") if name not in ("json", *catalog.names("data")) else ():
        nodes = (
            ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if path.parent.name not in ("exchange", "data")
            else ()
        )
        named = [node.lineno for node in nodes if isinstance(node, ast.Constant) and node.value == name]
        assert named == [], f"{path}: line {named}"


# ---- a format of the user's own -----------------------------------------------------------------------------------

OWN = '''"""One line per query: its reference and its verdict."""
from labelwise.exchange._questions import check_queries, reference
from labelwise.exchange._reader import AnswerReader

CANNOT_CARRY = ("boxes: any answer with an object",)

def write(queries, pool, project, *, separator: str = " "):
    check_queries(queries, pool, "lines")
    lines = [reference(project, query, len(pool.classes)) + separator + "?\\n" for query in queries]
    return {"lines.txt": "".join(lines).encode()}

def read(content, queries, pool, project):
    reader = AnswerReader.of(queries, pool, project, False)
    lines = [line.split() for line in content.decode().splitlines()]
    asked = [(reader.query(ref, ref), verdict) for ref, verdict in lines]
    return [reader.answer(query, verdict, "here", who="x") for query, verdict in asked if query], reader.problems
'''


def test_a_dotted_name_is_a_format_of_the_users_own(
    opened: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "my_lines.py").write_text(OWN)
    (tmp_path / "my_lab" / "half.py").write_text(OWN.partition("def read")[0])
    monkeypatch.syspath_prepend(tmp_path)
    folder, out = opened.project.folder, tmp_path / "out"
    shown = call("export", "queries", "--to", "my_lab.my_lines", "--project", folder, "--round", 1, "-o", out)
    assert "2 open queries" in shown and "boxes: any answer with an object" in shown
    lines = (out / "lines.txt").read_text()
    assert lines.count("?") == 2
    (out / "back.txt").write_text(lines.replace("?", "background"))
    shown = call("import", out / "back.txt", "--from", "my_lab.my_lines", "--who", "Ada", "--project", folder)
    assert "2 answers recorded" in shown
    assert [answer.who for _, answer in interchange.import_export.current_answers(opened.project.ledger)] == [
        "Ada",
        "Ada",
    ]
    with pytest.raises(LabelwiseError, match=r"my_lab\.half lacks read"):
        interchange.cannot_carry("my_lab.half")
    with pytest.raises(LabelwiseError, match="cannot import"):
        interchange.cannot_carry("my_lab.nowhere")
    sys.modules.pop("my_lab", None)


UNIT = '''"""Is there any object?"""
from labelwise.units import SKIPPED, Meaning
from labelwise.units.image import candidates, answer, lift

VERDICTS = {
    "empty": Meaning("nothing", look="inspect", covers=True),
    "present": Meaning("something", look="verify"),
    SKIPPED: Meaning("skip", look="verify"),
}
DEFAULT, RECTANGLE, CLASS, ONE_PER_IMAGE, CLASSIFIES, SCALES, OVERLAPS = None, False, False, True, False, False, False
AT_MOST_ONE, PAGE = frozenset({"queries"}), "presence"
'''


def test_a_unit_that_no_format_knows_goes_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_units").mkdir()
    (tmp_path / "my_units" / "presence.py").write_text(UNIT)
    monkeypatch.syspath_prepend(tmp_path)
    queries = [query(number, "my_units.presence") for number in range(3)]
    replies = {0: Reply("nothing"), 1: Reply("something"), 2: Reply("skip")}
    for name in TOOLS:
        files = write(name, queries, pool(3), known(pool(3)))
        if name == "label_studio":
            assert b"Choose: nothing, something, skip." in files["tasks.json"]
        if name == "cvat":
            assert b"something" in files["labels.json"]
        content = reply(name, files, replies, queries, pool(3))
        if name == "json":
            content = content.replace(b'"nothing"', b'"empty"').replace(b'"something"', b'"present"')
        found, problems = read(name, content, queries, pool(3))
        assert problems == [], name
        assert [answer.verdict for answer in found] == ["empty", "present", "skipped"], name


def test_an_unknown_tool_is_wrong_usage_and_names_those_that_exist() -> None:
    from typer.testing import CliRunner

    from labelwise import cli

    result = CliRunner().invoke(cli.app, ["export", "queries", "--to", "cvatt"], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert all(repr(name) in result.output for name in TOOLS)
