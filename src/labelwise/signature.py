"""What a function of a file takes, read from the file's text: nothing is imported, so that a model's settings are known
without loading torch.

Types and defaults may be literals, names of `typing`, `collections.abc` and `pydantic`, constants of the file itself or
of a file of labelwise that it imports them from. Anything else is an `Unreadable`; then the file must be imported.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
LIGHT = ("typing", "collections.abc", "pydantic")
"""Modules whose names may be looked up: they load nothing heavy."""
_PARSING = threading.Lock()  # ast.parse in several threads at once can fail in Python 3.11


class Unreadable(Exception):
    """The text alone does not tell."""


class Source:
    """The text of a Python file, whose functions and constants can be looked at."""

    def __init__(self, path: Path) -> None:
        with _PARSING:
            self._body = ast.parse(path.read_text(encoding="utf-8")).body
        self.doc = ast.get_docstring(ast.Module(self._body, [])) or ""
        self._constants: dict[str, ast.expr] = {}
        self._imports: dict[str, tuple[str, str]] = {}
        for node in self._body:
            if isinstance(node, ast.Assign):
                self._constants |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                self._constants[node.target.id] = node.value
            elif isinstance(node, ast.ImportFrom) and node.module:
                self._imports |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}

    def parameters(self, name: str) -> Mapping[str, inspect.Parameter] | None:
        """Parameters of a function of the file, with evaluated types and defaults; None if it has no such function."""
        node = next((n for n in self._body if isinstance(n, ast.FunctionDef) and n.name == name), None)
        if node is None:
            return None
        given = node.args
        if given.vararg or given.kwarg:
            raise Unreadable(f"{name} takes any number of parameters")
        names = [*given.posonlyargs, *given.args]
        found = [inspect.Parameter(one.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in names]
        for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
            kind = Any if one.annotation is None else self._value(one.annotation)
            known = inspect.Parameter.empty if default is None else self._value(default)
            found.append(inspect.Parameter(one.arg, inspect.Parameter.KEYWORD_ONLY, default=known, annotation=kind))
        return {one.name: one for one in found}

    def __contains__(self, name: str) -> bool:
        """Whether the file has a constant, or imports something, of this name."""
        return name in self._constants or name in self._imports

    def constant(self, name: str) -> Any:
        """The value of a constant of the file, or of one that it imports from a file of labelwise."""
        if name in self._constants:
            return self._value(self._constants[name])
        if name not in self._imports:
            raise Unreadable(name)
        module, original = self._imports[name]
        if module in LIGHT:
            return getattr(importlib.import_module(module), original)
        folder = PACKAGE.joinpath(*module.split(".")[1:])
        if module.split(".")[0] != "labelwise":
            raise Unreadable(f"{module}.{original}")
        beside = folder / f"{original}.py"
        if beside.is_file():
            return source(beside)
        return source(folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")).constant(original)

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return self.constant(name) if name in self else _builtin(name)
            case ast.Attribute(owner, name):
                module = self._value(owner)
                if isinstance(module, Source):
                    return module.constant(name)
            case ast.Tuple(items):
                return tuple(map(self._value, items))
            case ast.Subscript(what, index):
                return self._value(what)[self._value(index)]
            case ast.BinOp(left, ast.BitOr(), right):
                return self._value(left) | self._value(right)
            case ast.UnaryOp(ast.USub(), number):
                return -self._value(number)
            case ast.Call(function, items, named):
                return self._value(function)(
                    *map(self._value, items), **{one.arg: self._value(one.value) for one in named if one.arg}
                )
        raise Unreadable(ast.unparse(node))


def _builtin(name: str) -> Any:
    if not isinstance(getattr(builtins, name, None), type):
        raise Unreadable(name)
    return getattr(builtins, name)


@functools.cache
def source(path: Path) -> Source:
    """A file, read once."""
    return Source(path)
