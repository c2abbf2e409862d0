"""The catalogue of the pages: every text has its German one, with the same places, and none is left over."""

from __future__ import annotations

import ast
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from labelwise import catalog, units
from labelwise.files.round_files import STAGES
from labelwise.project.doubts import NAMES
from labelwise.report import outlook
from labelwise.report.results import RoundResult
from labelwise.stages import why
from labelwise.types import phrases

STATIC = catalog.PACKAGE / "web" / "static"
STRING = r'"((?:[^"\\]|\\.)*)"'
CLASSES = ["WBC", "RBC", "Platelet", "Other", "None of these"]
PLACE = r"\{\w+\}"
SPEAK = ("web/*.py", "queue/*.py", "ledger/class_list.py", "study/stop.py")
"""Files whose errors and sentences a person may read on a page."""
FOR_PROGRAMS = ("agent.py", "ml_backend.py")
"""Of these files the ones that speak to an assistant or to another tool."""
NEVER_READ = {"expected one of {}"}  # of a body that no page of ours sends


class Texts(HTMLParser):
    """What a page itself says: its texts, labels and placeholders, but for keys and names of languages."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.at: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.append(tag)
        self.found |= {value or "" for name, value in attrs if name in ("aria-label", "placeholder", "title")}

    def handle_endtag(self, tag: str) -> None:
        while self.at and self.at.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        text = re.sub(r"\s+", " ", data).strip()
        if text and not {"kbd", "title", "noscript", "script"} & set(self.at) and text != "labelwise":
            self.found.add(html.unescape(text))


def spoken(text: str) -> set[str]:
    """The texts that a script asks the catalogue for: `t("…")`, `count(n, "one", "many")`."""
    once = re.findall(rf"\bt\({STRING}", text) + re.findall(rf"\bt\([^()\"]*\? {STRING} : {STRING}", text)
    twice = re.findall(rf"\bcount\([^\"]*?, {STRING}, {STRING}", text)
    return {one for found in (*once, *twice) for one in ([found] if isinstance(found, str) else found)}


def wanted() -> set[str]:
    found = set[str]()
    for path in STATIC.glob("*.html"):
        page = Texts()
        page.feed(path.read_text(encoding="utf-8"))
        found |= page.found
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        found |= spoken(text)
        if path.name in ("units.js", "help.js"):  # tables of texts
            rows = re.findall(rf"\[{STRING}, {STRING}(?:, {STRING})?", re.sub(r"//.*", "", text))
            found |= {one for row in rows for one in row if not is_a_name(one)}
    return {re.sub(r"\\n", "\n", one) for one in found if re.search(r"[a-zA-Z]{2}", re.sub(PLACE, "", one))}


def is_a_name(text: str) -> bool:
    """A unit or a button's action in `units.js`, which is no text."""
    return text in {"image", "region", "accept", "reject", "duplicate", "nothing", "add", "remove"}


def rows(name: str) -> list[tuple[str, str]]:
    text = (STATIC / name).read_text(encoding="utf-8").partition("export const PARTS")[0]
    found: list[tuple[str, str]] = re.findall(rf"^  {STRING}:\s+{STRING},$", text, re.MULTILINE)
    assert len(found) == len(re.findall("^  .*,$", text, re.MULTILINE)), f"{name}: a line is no text"
    return [(re.sub(r"\\n", "\n", key), re.sub(r"\\n", "\n", value)) for key, value in found]


OF_PAGES = [*rows("german.js"), *rows("german_owner.js")]
OF_SERVER, OF_REASONS = dict(rows("german_server.js")), dict(rows("german_reasons.js"))


def test_every_text_has_its_german_one() -> None:
    assert len(wanted()) > 250, "the texts are found"
    assert sorted(wanted() - {text for text, _ in OF_PAGES}) == []


def test_no_text_is_left_over_or_twice() -> None:
    assert sorted({text for text, _ in OF_PAGES} - wanted()) == []
    assert len({text for text, _ in OF_PAGES}) == len(OF_PAGES)


@pytest.mark.parametrize("text, own", [*OF_PAGES, *OF_SERVER.items(), *OF_REASONS.items()])
def test_the_places_are_the_same(text: str, own: str) -> None:
    assert sorted(re.findall(PLACE, own)) == sorted(re.findall(PLACE, text))
    assert own.strip()


def text_of(node: ast.expr) -> str | None:
    """A text of Python with `{}` for every value; None: it is none, or nothing but a value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
    return "".join(map(str, parts)) if re.search("[a-z]{2}", "".join(map(str, parts))) else None


def said_by_the_server(*more: str) -> set[str]:
    """The texts of errors, of what is told of an answer, and of sentences about the run."""
    found = set[str]()
    for path in sorted(path for pattern in (*SPEAK, *more) for path in catalog.PACKAGE.glob(pattern)):
        if path.name in FOR_PROGRAMS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Raise(ast.Call(_, args)):
                    texts = args
                case ast.Call(ast.Name("error") | ast.Attribute(ast.Name("told"), "append"), args):
                    texts = args
                case ast.Assign([ast.Name("NONE") | ast.Attribute(_, "_failed")], value):
                    texts = [value, *(one for one in ast.walk(value) if isinstance(one, ast.JoinedStr))]
                case ast.Return(ast.JoinedStr() as value) if path.name == "stop.py":
                    texts = [value]
                case _:
                    continue
            found |= {text for one in texts if (text := text_of(one)) is not None}
    return {text for text in found if re.search("[a-z]{2}", text)} - NEVER_READ


def fits(said: str, key: str) -> bool:
    """Whether a key of the catalogue may be what is said; a value may hold a part of it."""
    return re.fullmatch(".*".join(map(re.escape, said.split("{}"))), key) is not None


@pytest.mark.parametrize("said", sorted(said_by_the_server()))
def test_what_the_server_says_has_its_german_text(said: str) -> None:
    assert any(fits(said, key) for key in OF_SERVER), "add it to german_server.js"


UNITS = tuple(name for name in catalog.names("units") if "." not in name)


def words() -> set[str]:
    doubts = {name.replace("_", " ", 1) for name in NAMES}
    return {
        *UNITS,
        *(word for name in UNITS for word in units.find(name).VERDICTS),
        *STAGES,
        *doubts,
        "owner",
        "annotator",
        "oracle",
        "accuracy",
    }


def test_words_of_the_server_have_their_german_ones() -> None:
    assert sorted(words() - set(OF_SERVER)) == []


def test_the_forecast_has_its_german_text() -> None:
    rounds = [RoundResult(k, 20 * k, 20 * k, 9 * k, 60.0 * k, quality=0.3 + 0.1 * k) for k in range(1, 5)]
    for unit in ("boxes", "queries", "images", "seconds"):
        told = outlook.of_rounds(rounds, "AP50", unit).sentences
        assert told and all(any(one_of(key, text) for key in OF_SERVER) for text in told), told
        assert any(one_of(key, re.sub("^The next (.*?) should.*", r"\1", told[0])) for key in OF_SERVER if " " in key)
    short = outlook.of_rounds(rounds[:1], "AP50", "boxes").sentences
    assert any(one_of(key, short[0]) for key in OF_SERVER)


def said_by_methods() -> set[str]:
    """Every sentence in the files that say why something is asked, `{}` for every value."""
    files = [path for name in ("score/*.py", "select/*.py") for path in catalog.PACKAGE.glob(name)]
    found = set[str]()
    for path in (*files, catalog.PACKAGE / "types" / "phrases.py", catalog.PACKAGE / "stages" / "why.py"):
        texts = map(text_of, (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.expr)))
        found |= {one for text in texts if text is not None for one in re.split(r"(?<=\.) (?=\S)", text)}
    return found


def test_no_reason_is_left_over() -> None:
    """A method needs no entry: what it says is English then."""
    said = {part for one in said_by_methods() if one.endswith(".") for part in (one, one.removeprefix("{} "))}
    assert sorted(key for key in OF_REASONS if not any(fits(one, key) for one in said)) == []


def test_what_methods_share_has_its_german_text() -> None:
    probs = np.array([[0.4, 0.4, 0.2], [0.9, 0.1, 0], [1, 0, 0], [0.25, 0.24, 0.26]])
    rare = [
        phrases.rarity(np.array([0, 2]), np.array([1, 9, 0]), CLASSES[:3], of)
        for of in ("the labels", "what the model finds")
    ]
    said = [*phrases.hesitation(probs, CLASSES), *phrases.unlike(["a.jpg", ""]), *rare[0], *rare[1], why.COVERING]
    said += [*phrases.hesitation(np.full((1, 5), 0.2), CLASSES), *why.FIRST.values()]
    said += phrases.confidence(np.array([0.43]), np.array([0]), CLASSES)
    assert [one for one in said if not any(one_of(key, one) for key in OF_REASONS)] == []


def one_of(key: str, text: str) -> bool:
    """As `said` in texts.js finds the key of a text."""
    return re.fullmatch("(.*?)".join(map(re.escape, re.split(PLACE, key))), text) is not None


def test_no_text_of_the_server_is_left_over() -> None:
    said = said_by_the_server("ledger/answers.py")
    forecast = {key for key in OF_SERVER if "more labels" in key or "annotation" in key or "so far ahead" in key}
    left = {key for key in OF_SERVER if not any(fits(one, key) for one in said)}
    assert sorted(left - words() - forecast - {key for key in left if key.startswith("The next ")}) == []
