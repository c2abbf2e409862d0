"""File name -> method, or recipe. A method's inputs are its positional parameters, its settings its keyword-only ones.

There is no registry: a method is a file in a stage folder that defines the folder's verb. Names, settings and constants
are read from the text of the files; a method is imported when it is called, so that a broken or heavy one cannot break
or slow the command line. A dotted name
(`my_lab.ideas.novelty`) loads a user's own module.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelwise.errors import LabelwiseError
from labelwise.signature import PACKAGE, Unreadable, source

if TYPE_CHECKING:
    from pydantic import TypeAdapter

VERBS = {
    "data": "detect",
    "models": "build",
    "predict/views": "apply",
    "score": "score",
    "select": "select",
    "labels": "weigh",
    "merge": "merge",
    "review": "doubt",
    "units": "candidates",
    "exchange": "write",
    "log": "log",
}
RESERVED = frozenset({"explain", "progress"})
"""Keyword-only parameters that the loop sets itself; never a setting."""


@dataclass(frozen=True)
class Method:
    """One method of a folder: what it needs from the menu, what can be set (with the type of each), how to call it."""

    folder: str
    name: str
    module: str
    inputs: tuple[str, ...]
    settings: Mapping[str, inspect.Parameter]

    @property
    def function(self) -> Callable[..., Any]:
        """The method itself; this imports its file."""
        return _function(self.folder, self.name, self.module)

    def constant(self, name: str, default: Any = None) -> Any:
        """A constant that the folder's methods declare beside their verb; those without it have the default, if any."""
        if "." not in self.name:
            text = source(PACKAGE / self.folder / f"{self.name}.py")
            if name not in text and default is not None:
                return default
            with contextlib.suppress(Unreadable):
                return text.constant(name)
        module = importlib.import_module(self.module)
        if default is not None and not hasattr(module, name):
            return default
        if not hasattr(module, name):
            raise LabelwiseError(f"{module.__name__} lacks the constant {name} that a {self.folder} method declares")
        return getattr(module, name)

    def problems(self, settings: Mapping[str, Any]) -> list[str]:
        """Everything that is wrong with these settings, in words; empty when they can be used."""
        from pydantic import ValidationError

        found = []
        for key, value in settings.items():
            if key not in self.settings:
                found.append(unknown(f"setting of {self.folder}/{self.name}", key, sorted(self.settings)))
                continue
            try:
                _adapter(self.settings[key].annotation).validate_python(value)
            except ValidationError as error:
                found.append(f"{self.folder}/{self.name}: {key} = {value!r}: {error.errors()[0]['msg']}")
        required = [k for k, p in self.settings.items() if p.default is p.empty and k not in settings]
        return found + [f"{self.folder}/{self.name} needs the setting {key!r}" for key in required]

    @functools.cached_property
    def explains_by(self) -> tuple[str, ...] | None:
        """The parameters of the file's `explain`, which says in words what the method found; None: it has none."""
        function = getattr(importlib.import_module(self.module), "explain", None)
        return None if function is None else tuple(inspect.signature(function).parameters)

    def explain(self, menu: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
        """What the file's `explain` says of each row; it is given what it names, from the menu and the settings."""
        names = self.explains_by or ()
        missing = [name for name in names if name not in menu and name not in self.settings]
        if missing:
            raise LabelwiseError(
                f"`explain` of {self.folder}/{self.name} asks for {', '.join(missing)}; here there is only: "
                f"{', '.join(sorted(menu))}. Let it ask for what the method itself takes, `value` or `classes`"
            )
        kept = {name: one.default for name, one in self.settings.items()} | dict(settings)
        function: Callable[..., list[str]] = importlib.import_module(self.module).explain
        return function(**{name: menu[name] if name in menu else kept[name] for name in names})

    def call(self, menu: Mapping[str, Any], settings: Mapping[str, Any], **reserved: Any) -> Any:
        """Calls the method with the inputs that it names, taken from the menu."""
        missing = [name for name in self.inputs if name not in menu]
        if missing:
            raise LabelwiseError(
                f"{self.folder}/{self.name} needs {', '.join(missing)}; here there is only: {', '.join(sorted(menu))}. "
                "Choose another method, or let predict produce these inputs"
            )
        kinds = {key: self.settings[key].annotation if key in self.settings else Any for key in settings}
        checked = {key: _adapter(kinds[key]).validate_python(value) for key, value in settings.items()}
        return self.function(*(menu[name] for name in self.inputs), **checked, **reserved)


def _adapter(hint: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # a type with its own config, or one that pydantic does not know: taken as it is
        return TypeAdapter(Any)


def unknown(what: str, name: str, known: list[str]) -> str:
    """The sentence for a name that does not exist, with the nearest one that does."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {name!r}; known: {', '.join(known) or 'none'}.{hint}"


@functools.cache
def _names(folder: str) -> tuple[str, ...]:
    verb = re.compile(rf"^def {VERBS[folder]}\(", re.MULTILINE)
    paths = [path for path in sorted((PACKAGE / folder).glob("*.py")) if not path.name.startswith("_")]
    return tuple(path.stem for path in paths if verb.search(path.read_text(encoding="utf-8")))


def names(folder: str) -> list[str]:
    """Names of the methods in a stage folder, by reading its files (nothing is imported)."""
    return list(_names(folder))


def defining(folder: str, function: str) -> list[str]:
    """Names of the methods in a folder whose files define this function beside the verb (nothing is imported)."""
    found = re.compile(rf"^def {function}\(", re.MULTILINE)
    return [n for n in names(folder) if found.search((PACKAGE / folder / f"{n}.py").read_text(encoding="utf-8"))]


def writable() -> dict[str, str]:
    """The data formats that can be written by the name that people call them (`cvat`), and the name of their file."""
    return {name.removesuffix("_xml"): name for name in defining("data", "write")}


def summary(folder: str, name: str) -> str:
    """First line of a method's docstring, by reading its file."""
    return source(PACKAGE / folder / f"{name}.py").doc.split("\n", 1)[0]


def origin(folder: str, name: str) -> str:
    """What the method's docstring names as its source, in one line; empty where it names none."""
    _, found, after = source(PACKAGE / folder / f"{name}.py").doc.partition("\nSource: ")
    lines = after.split("\n") if found else []
    end = next((k for k, line in enumerate(lines) if not line or re.match(r"[A-Z][a-z ]+:", line)), len(lines))
    return " ".join(lines[:end])


def find(folder: str, name: str) -> Method:
    """The method of that name; a dotted name is a module of the user's own.

    Raises:
        LabelwiseError: no such method (with "did you mean"), or the module lacks the folder's verb.
    """
    if "." in name:
        if not all(map(str.isidentifier, name.split("."))):
            raise LabelwiseError(
                f"{folder} method {name!r}: expected one of {', '.join(names(folder))}, or a module of your own such "
                "as my_lab.ideas"
            )
        return _method(folder, name, name)
    if name not in names(folder):
        raise LabelwiseError(unknown(f"{folder} method", name, names(folder)))
    return _built_in(folder, name)


@functools.cache
def _built_in(folder: str, name: str) -> Method:
    return _method(folder, name, f"labelwise.{folder.replace('/', '.')}.{name}")


def _method(folder: str, name: str, module: str) -> Method:
    parameters = None
    if "." not in name:
        with contextlib.suppress(Unreadable):
            parameters = source(PACKAGE / folder / f"{name}.py").parameters(VERBS[folder])
    if parameters is None:
        function = _function(folder, name, module)
        hints = typing.get_type_hints(function, include_extras=True)
        given = inspect.signature(function).parameters
        parameters = {n: p.replace(annotation=hints.get(n, Any)) for n, p in given.items()}
    inputs = tuple(n for n, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    settings = {n: p for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY and n not in RESERVED}
    return Method(folder, name, module, inputs, settings)


def _function(folder: str, name: str, module: str) -> Callable[..., Any]:
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise LabelwiseError(
            f"{folder} method {name!r}: cannot import {error.name!r}; install it or fix the name"
        ) from None
    function: Callable[..., Any] | None = getattr(loaded, VERBS[folder], None)
    if function is None:
        raise LabelwiseError(f"{module} has no function {VERBS[folder]!r}; a {folder} method is a file that defines it")
    return function


def recipes() -> dict[str, Path]:
    """The recipes that come along, by name."""
    beside = PACKAGE / "recipes"  # in a wheel; in a checkout they are at its top
    folder = beside if beside.is_dir() else PACKAGE.parents[1] / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def recipe_files(recipe: str) -> list[Path]:
    """The files of a recipe: names or files, laid over each other from left to right (`bccd+u_cb_tspl`)."""
    paths = []
    for name in recipe.split("+"):
        if Path(name).suffix in (".toml", ".yaml", ".yml"):
            paths.append(Path(name))
        elif name in recipes():
            paths.append(recipes()[name])
        else:
            raise LabelwiseError(unknown("recipe", name, sorted(recipes())))
    return paths
