"""Questions out and answers in, in every format, with any name that an image or a class may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exchange import PROJECT, TOOLS, Reply, boxes, reply, write

from labelwise import units
from labelwise.exchange._questions import buttons
from labelwise.types import Boxes, LabelwiseError, Pool, Query

ODD = (
    *(
        "a b",
        "two  blanks",
        " a",
        "-dash",
        "--flag",
        "v1.0.b",
        "...",
        "a%20b",
        "100%",
        "#1",
        "a#b?c=d&e",
        "it's",
        '"q"',
    ),
    *(
        "<x>",
        "&amp;",
        "käfer",
        "ka\u0308fer",
        "猫",
        "\u202eabc",
        "😀",
        "a,b;c",
        "a:b",
        "{name}",
        "a|b",
        "a=b",
        "$HOME",
        "~",
    ),
    *("labelwise", "known", "open", "True", "null", "1", "a\\b", "`ls`", "%s", "C:", "\u00a0x", "a\u2028b"),
)
letters = st.characters(min_codepoint=33, max_codepoint=0x1F9FF, exclude_categories=("Cs", "Cc", "Cn", "Zl", "Zp"))
parts = st.sampled_from(ODD) | st.text(letters, min_size=1, max_size=12)
folders = st.lists(parts.filter(lambda part: part not in ("..", ".")), max_size=2)
file_names = st.builds(lambda above, name: "/".join([*above, name + ".jpg"]), folders, parts)
class_names = parts.map(str.strip).filter(bool)


@st.composite
def conversations(draw: Any) -> tuple[Pool, list[Query], dict[int, Reply]]:
    """A pool of odd names, queries of one unit on its images, and what somebody says to each."""
    names = tuple(draw(st.lists(file_names, min_size=1, max_size=3, unique=True)))
    classes = tuple(draw(st.lists(class_names, min_size=2, max_size=3, unique=True)))
    n, unit = len(names), draw(st.sampled_from(units.names()))
    images = Pool(Path("data"), classes, names, np.full(n, 640), np.full(n, 427))
    queries, replies = [], {}
    for number, name in enumerate(names):
        area = draw(boxes()) if units.find(unit).RECTANGLE else None
        asked = Query(2, number, name, unit, area, 1 if units.find(unit).CLASS else None, id=number)
        word, verdict = draw(st.sampled_from(sorted(buttons(asked).items())))
        least, most = {"none": (0, 0), "one": (1, 1), "any": (0, 2)}[units.find(unit).VERDICTS[verdict].boxes]
        within = area if area is not None and not units.find(unit).CLASS else (0.0, 0.0, 640.0, 427.0)
        one = st.tuples(boxes(within), st.sampled_from(classes))
        queries.append(asked)
        replies[number] = Reply(word, tuple(draw(st.lists(one, min_size=least, max_size=most))))
    return images, queries, replies


def check(name: str, conversation: tuple[Pool, list[Query], dict[int, Reply]]) -> None:
    images, queries, replies = conversation
    before = Boxes.from_rows(np.array([0]), np.float32([[600, 400, 640, 427]]), np.array([1]), len(images))
    content = reply(name, write(name, queries, images, before), replies, queries, images)
    found, problems = TOOLS[name].read(content, queries, images, PROJECT)
    assert problems == []
    assert sorted(answer.query for answer in found) == sorted(replies)
    for answer in found:
        word, objects = replies[answer.query]
        assert answer.verdict == buttons(queries[answer.query])[word]
        assert [images.classes[label] for label in answer.labels] == [label for _, label in objects]
        got, wanted = np.array(answer.boxes).reshape(-1, 4), np.array([box for box, _ in objects]).reshape(-1, 4)
        assert np.abs(got - wanted).max(initial=0) < 0.01


@pytest.mark.parametrize("name", TOOLS)
@settings(max_examples=25, deadline=None)
@given(conversation=conversations())
def test_any_name_comes_back(name: str, conversation: tuple[Pool, list[Query], dict[int, Reply]]) -> None:
    check(name, conversation)


@pytest.mark.parametrize("name", TOOLS)
def test_every_odd_name_comes_back(name: str) -> None:
    classes = tuple(dict.fromkeys(one.strip() for one in ODD if one.strip().isprintable()))
    names = tuple(f"{one}/{one}.jpg" for one in ODD)
    size = np.full(len(names), 640), np.full(len(names), 427)
    images, box = Pool(Path("data"), classes, names, *size), (10.0, 20.0, 30.0, 40.0)
    queries = [Query(2, k, image, "box", box, k % len(classes), id=k) for k, image in enumerate(names)]
    replies = {k: Reply("accept", ((box, classes[k % len(classes)]),)) for k in range(len(names))}
    try:
        check(name, (images, queries, replies))
    except LabelwiseError as error:  # a name that the file cannot hold is refused on its way out
        raise AssertionError(error) from error
