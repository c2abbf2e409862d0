"""Every setting of a run: its key, type, default and what it means, by reading `sections.py` and its neighbours.

What a setting means stands once: in the docstring below its field. It is read from the file when somebody asks.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from labelwise import catalog
from labelwise.ask.cost import CostTable
from labelwise.config import Run
from labelwise.config.choice import Choice, NameOf, Step
from labelwise.errors import LabelwiseError
from labelwise.signature import PACKAGE


class Setting(NamedTuple):
    """One setting. `default`: as run.toml would say it."""

    key: str
    type: str
    default: str
    meaning: str


def settings(part: str | None = None) -> list[Setting]:
    """Every setting, or those of a section ("train"), or one by its key ("train.epochs").

    Raises:
        LabelwiseError: no such section or key.
    """
    found = list(_of(Run, ""))
    if part is None:
        return found
    chosen = [one for one in found if one.key == part or one.key.startswith(f"{part}.")]
    if not chosen:
        known = sorted({one.key for one in found} | {one.key.rpartition(".")[0] for one in found} - {""})
        near = [key for key in known if key.rpartition(".")[2] == part.rpartition(".")[2]]
        if near:
            raise LabelwiseError(f"unknown setting {part!r}; there is {', '.join(near)}")
        raise LabelwiseError(catalog.unknown("setting", part, known))
    return chosen


def meanings() -> dict[str, str]:
    """What each setting means, by its key."""
    return {one.key: one.meaning for one in settings()}


def current(run: Run, key: str) -> str:
    """What a run sets a key to; "none" inside of a section that it does not have."""
    found: Any = run
    for part in key.split("."):
        found = getattr(found, part, None)
    return value(found)


def of_method(folder: str, name: str) -> dict[str, str]:
    """What the settings of a method mean, as far as its function says so below `Args:`; a user's own: nothing."""
    path = PACKAGE / folder / f"{name}.py"
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    verb = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == catalog.VERBS[folder]), None)
    args = ((ast.get_docstring(verb) if verb else None) or "").partition("Args:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", args, re.MULTILINE | re.DOTALL)
    return {key: " ".join(text.split()) for key, text in found}


def value(of: Any) -> str:
    """A value as run.toml says it; "none" where it would say nothing."""
    if of is None:
        return "none"
    if isinstance(of, bool):
        return str(of).lower()
    if isinstance(of, str):
        text = of.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text) + '"'
    if isinstance(of, BaseModel):
        said = of.model_dump(exclude_none=True)
        return value(said["name"]) if list(said) == ["name"] else value(said)
    if dataclasses.is_dataclass(of) and not isinstance(of, type):
        return value(dataclasses.asdict(of))
    if isinstance(of, dict):
        inside = ", ".join(f"{_key(key)} = {value(one)}" for key, one in of.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(of, list | tuple):
        return f"[{', '.join(map(value, of))}]"
    return str(of)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else value(key)


def _of(model: Any, before: str) -> Iterator[Setting]:
    """The settings of a section and of the sections in it."""
    said = _docs(model)
    for name, annotation, default in _fields(model):
        inner = _section(annotation)
        if inner is not None and default is not None:
            yield from _of(inner, f"{before}{name}.")
            continue
        shown = "required" if default is ... else value(default)
        yield Setting(before + name, _type(annotation), shown, said.get(name, ""))
        if inner is not None:
            yield from _of(inner, f"{before}{name}.")


def _fields(model: type[Any]) -> Iterator[tuple[str, Any, Any]]:
    if issubclass(model, BaseModel):
        fields: dict[str, FieldInfo] = model.model_fields
        for name, one in fields.items():
            named = [of.folder for of in one.metadata if isinstance(of, NameOf)]
            annotation = Literal[tuple(catalog.names(named[0]))] if named else one.annotation
            yield name, annotation, ... if one.is_required() else one.get_default(call_default_factory=True)
    else:
        hints = typing.get_type_hints(model)
        for field in dataclasses.fields(model):
            yield field.name, hints[field.name], field.default


def _section(annotation: Any) -> type[Any] | None:
    """The section that a field holds, also one that may be absent."""
    for one in (annotation, *typing.get_args(annotation)):
        is_model = isinstance(one, type) and issubclass(one, BaseModel) and not issubclass(one, Choice)
        if is_model or one is CostTable:
            return typing.cast("type[Any]", one)
    return None


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is Annotated:
        return _type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is Literal:
        return " or ".join(map(str, typing.get_args(annotation)))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_type, typing.get_args(annotation))))
    if typing.get_origin(annotation) in (tuple, list):
        inside = [_type(one) for one in typing.get_args(annotation) if one is not ...]
        return f"list of {inside[0]}" if ... in typing.get_args(annotation) else f"[{', '.join(inside)}]"
    if isinstance(annotation, type) and issubclass(annotation, Step | Choice):
        return "method"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "none"}
    return names.get(annotation, "table")


@cache
def _docs(model: Any) -> dict[str, str]:
    """The docstring below each field; of a table of costs what its own docstring says of each."""
    if not issubclass(model, BaseModel):
        said = re.findall(r"^(\w+): (.*?)(?=^\w+: |\Z)", inspect.getdoc(model) or "", re.MULTILINE | re.DOTALL)
        return {name: " ".join(text.split()) for name, text in said}
    tree = ast.parse(Path(inspect.getsourcefile(model) or "").read_text(encoding="utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == model.__name__).body
    found = {}
    for field, below in pairwise(body):
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
            found[field.target.id] = " ".join(text.split())
    return found
