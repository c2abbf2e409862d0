"""Reading annotation files of any encoding, so that a broken one is a `LabelwiseError` that names file and line.

Bounds: a file above `MOST_BYTES`, YAML above `MOST_YAML_BYTES` or with aliases, XML that declares entities, and
anything nested deeper than Python's own parsers go.
"""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import charset_normalizer
import yaml

from labelwise.types import LabelwiseError

MOST_BYTES = 4_000_000_000
MOST_YAML_BYTES = 400_000
MOST_LINE = 1_000_000

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_DECLARED = re.compile(r"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")
_LONE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_OF_TAGS = (AttributeError, LookupError, TypeError)
"""What PyYAML raises for values such as `!!timestamp x`."""
_LIKELY = ("utf_8", "gb18030", "big5", "shift_jis", "euc_jp", "cp949", "cp1252")


def head(path: Path, n_bytes: int = 4096) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(n_bytes)
    except OSError:
        return b""


def content(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        LabelwiseError: it is not there, no regular file, or too large.
    """
    try:
        if not path.is_file():
            raise LabelwiseError(f"{path}: no such file")
        if path.stat().st_size > MOST_BYTES:
            raise LabelwiseError(f"{path}: {path.stat().st_size} bytes; split it into files below {MOST_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise LabelwiseError(f"{path}: cannot be read ({error.strerror or error})") from error


def decode(raw: bytes, declared: str | None = None) -> str:
    """The text: by its byte order mark, the encoding that is declared, UTF-8, else by what is likely.

    >>> decode("名".encode("gb18030"), "GBK"), decode(b"\\xef\\xbb\\xbfa"), decode("é".encode("utf-16"))
    ('名', 'a', 'é')
    """
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            return raw.decode(encoding, "replace")
    for encoding in filter(None, (declared, "utf-8")):
        try:
            return raw.decode("gb18030" if encoding.lower() in ("gb2312", "gbk") else encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    best = charset_normalizer.from_bytes(raw[:100_000], cp_isolation=list(_LIKELY)).best()
    return raw.decode(best.encoding if best is not None else "utf-8", "replace")


def text(path: Path) -> str:
    """The text of a file, whatever its encoding; line ends are those of the file."""
    return decode(content(path))


def lines(path: Path) -> list[str]:
    """The lines of a text file, without blanks at their ends; line 1 is the first."""
    raw = content(path)
    if b"\0" in raw[:4096] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LabelwiseError(f"{path}: not a text file. Export it again")
    return [line.strip() for line in re.split("\r\n|\n|\r", decode(raw))]


def json_of(path: Path) -> Any:
    """What a JSON file holds. Half a character (a lone surrogate) becomes the replacement character."""
    return json_from(text(path), path)


def json_from(said: str, where: object, line: int = 1, **how: Any) -> Any:
    """What JSON text holds, as `json_of`. `where` names its file in errors, `line` is where it begins there; `how` goes
    to `json.loads`.
    """
    try:
        return json.loads(_LONE.sub(r"\\ufffd", said) if "\\u" in said else said, **how)
    except (ValueError, RecursionError) as error:
        place = f":{line + error.lineno - 1}" if isinstance(error, json.JSONDecodeError) else ""
        what = "nested too deeply" if isinstance(error, RecursionError) else error
        raise LabelwiseError(f"{where}{place}: broken JSON ({what}). Export the file again.") from error


def xml_of(path: Path) -> ET.Element:
    """The root of an XML file of any encoding; names of elements without their namespace."""
    return xml_from(content(path), path)


def xml_from(raw: bytes, where: object) -> ET.Element:
    """The root of these bytes as XML; `where` names them in an error."""
    declared = _DECLARED.match(raw[:200].decode("latin-1"))
    said = decode(raw, declared.group(1) if declared else None)
    if "<!ENTITY" in said:
        raise LabelwiseError(f"{where}: declares XML entities, which no annotation needs. Export the file again.")
    try:
        root = ET.fromstring(re.sub(r"^\s*<\?xml.*?\?>", "", said.lstrip("\ufeff"), count=1, flags=re.DOTALL))
    except (ET.ParseError, ValueError, RecursionError) as error:
        line = f":{error.position[0]}" if isinstance(error, ET.ParseError) else ""
        raise LabelwiseError(f"{where}{line}: broken XML ({error}). Export the file again.") from error
    for element in root.iter():
        if isinstance(element.tag, str) and element.tag.startswith("{"):
            element.tag = element.tag.rpartition("}")[2]
    return root


class _Loader(yaml.SafeLoader):
    """Refuses aliases: a few lines of them stand for more than fits in memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which no data set needs")
        return super().compose_node(parent, index)


def yaml_of(path: Path) -> Any:
    """What a YAML file holds."""
    raw = content(path)
    if len(raw) > MOST_YAML_BYTES:
        raise LabelwiseError(f"{path}: {len(raw)} bytes; a YAML file of a data set is below {MOST_YAML_BYTES}")
    try:
        return yaml.load(decode(raw), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, *_OF_TAGS) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise LabelwiseError(f"{path}{line}: broken YAML ({what}). Mend the file.") from error


def table_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row of a CSV or TSV file that is not empty; the separator is found by itself.

    Where a quote is never closed each line is read by itself: else it would take the rows after it into its cell.
    """
    said = text(path)
    first = said.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    if said.count('"') % 2:
        for line, one in enumerate(said.splitlines(), start=1):
            cells = next(csv.reader([one], delimiter=separator), [])
            if any(cell.strip() for cell in cells):
                yield line, [cell.strip() for cell in cells]
        return
    reader = csv.reader(io.StringIO(said, newline=""), delimiter=separator)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise LabelwiseError(f"{path}:{reader.line_num}: broken table ({error}). Export the file again.") from error
