"""run.toml as text: short, with a line on each setting; and a setting changed in it without touching the rest."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelwise import config
from labelwise.config import keys
from labelwise.config.layers import OTHER_WORD
from labelwise.errors import LabelwiseError

_WIDTH = 36


def text(raw: Mapping[str, Any], head: Sequence[str]) -> str:
    """`raw` as TOML: one line per setting, with what it means; `head` goes before it as comments."""
    means = keys.meanings()
    model = raw.get("model")
    if isinstance(model, Mapping):
        means |= {f"model.{key}": text for key, text in keys.of_method("models", str(model.get("name"))).items()}
    lines = [f"# {line}".rstrip() for line in head]
    lines += [_line(key, value, means.get(key, "")) for key, value in raw.items() if not isinstance(value, Mapping)]
    for section, table in raw.items():
        if not isinstance(table, Mapping):
            continue
        about = means.get(section, "")
        lines += ["", f"[{section}]" + (f"  # {_short(about)}" if about else "")]
        lines += [_line(key, value, means.get(f"{section}.{key}", "")) for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, about: str) -> str:
    said, short = f"{key} = {keys.value(value)}", _short(about)
    return f"{said:{_WIDTH}}  # {short}" if short else said


def _short(about: str) -> str:
    """Its first sentence, as far as the first semicolon, without the point."""
    return re.split(r"(?<=[a-z0-9)`])[.;](?: |$)", about, maxsplit=1)[0].strip()


def change(path: Path, settings: Sequence[str]) -> str:
    """The text of the file with `settings` ("train.epochs=5") changed in it: comments and all other lines stay.

    A file in which a setting cannot be found by its line (a table of its own, a list over several lines) is written
    anew as a whole, with every setting and without comments.
    """
    run = config.load(path, settings)
    raw = config.layers([path], settings)
    lines = path.read_text(encoding="utf-8").splitlines()
    for override in settings:
        section, _, rest = override.partition("=")[0].strip().rpartition(".")
        section, key = (section, rest) if "." not in section else section.split(".")[:2]
        table = raw[section] if section else raw
        lines = _put(lines, section, key, keys.value(table[key]))
        if section == "query" and key in OTHER_WORD:
            lines = _without(lines, section, OTHER_WORD[key])
    changed = "\n".join(lines) + "\n"
    try:
        same = config.parse(tomllib.loads(changed), str(path)) == run
    except (tomllib.TOMLDecodeError, LabelwiseError):
        same = False
    return changed if same else config.dump(run)


def _put(lines: Sequence[str], section: str, key: str, value: str) -> list[str]:
    """The lines with one setting changed; it is added to its section, or the section to the end, if it is not there."""
    heads = [k for k, line in enumerate(lines) if re.match(r"\s*\[", line)]
    if section:
        start = next((k for k in heads if re.match(rf"\s*\[\s*{re.escape(section)}\s*\]", lines[k])), None)
        if start is None:
            return [*lines, "", f"[{section}]", f"{key} = {value}"]
    else:
        start = -1
    end = next((k for k in heads if k > start), len(lines))
    for k in range(start + 1, end):
        if re.match(rf"\s*{re.escape(key)}\s*=", lines[k]):
            said, comment = f"{key} = {value}", _comment(lines[k])
            return [*lines[:k], f"{said:{_WIDTH}}  {comment}" if comment else said, *lines[k + 1 :]]
    last = max((k for k in range(start, end) if k < 0 or lines[k].strip()), default=start)
    return [*lines[: last + 1], f"{key} = {value}", *lines[last + 1 :]]


def _without(lines: Sequence[str], section: str, key: str) -> list[str]:
    """The lines without those that set a key of a section."""
    here, kept = "", list[str]()
    for line in lines:
        if head := re.match(r"\s*\[\s*([^\]]*?)\s*\]", line):
            here = head[1]
        if here != section or not re.match(rf"\s*{re.escape(key)}\s*=", line):
            kept.append(line)
    return kept


def _comment(line: str) -> str:
    """The comment at the end of a line; empty where there is none, or none that is surely one."""
    for match in re.finditer(r"#", line):
        try:
            tomllib.loads(line[: match.start()])
        except tomllib.TOMLDecodeError:
            continue
        return line[match.start() :]
    return ""
