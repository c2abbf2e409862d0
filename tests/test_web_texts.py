"""The catalogue of the page: every text has its German one, with the same places, and none is left over."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest

from labelwise import catalog

STATIC = catalog.PACKAGE / "web" / "static"
STRING = r'"((?:[^"\\]|\\.)*)"'
PAGES = ("index.html", "enter.html")
THEIRS = {"owner.js", "german.js"}
"""Scripts whose texts are not of the labelling page."""


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
    for name in PAGES:
        page = Texts()
        page.feed((STATIC / name).read_text(encoding="utf-8"))
        found |= page.found
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        found |= set() if path.name in THEIRS else spoken(text)
        if path.name in ("units.js", "help.js"):  # tables of texts
            rows = re.findall(rf"\[{STRING}, {STRING}(?:, {STRING})?", re.sub(r"//.*", "", text))
            found |= {one for row in rows for one in row}
    return {re.sub(r"\\n", "\n", one) for one in found if re.search(r"[a-zA-Z]{3}", one) and not is_a_name(one)}


def is_a_name(text: str) -> bool:
    """A unit or a button's action in `units.js`."""
    return text in {"image", "region", "accept", "reject", "duplicate", "nothing", "add", "remove"}


def german() -> dict[str, str]:
    rows = re.findall(rf"^  {STRING}:\s+{STRING},$", (STATIC / "german.js").read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"\\n", "\n", key): re.sub(r"\\n", "\n", value) for key, value in rows}


def test_every_text_has_its_german_one() -> None:
    assert len(wanted()) > 150, "the texts are found"
    assert sorted(wanted() - set(german())) == []


def test_no_text_is_left_over() -> None:
    assert sorted(set(german()) - wanted()) == []


@pytest.mark.parametrize("text", sorted(german()) or ["none"])
def test_the_places_are_the_same(text: str) -> None:
    assert sorted(re.findall(r"\{\w+\}", german()[text])) == sorted(re.findall(r"\{\w+\}", text))
    assert german()[text].strip()
