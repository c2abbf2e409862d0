"""What is read from a method's text is what importing it tells."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

import pytest

from labelwise import catalog
from labelwise.signature import Source, Unreadable

METHODS = [(folder, name) for folder in catalog.VERBS for name in catalog.names(folder)]


@pytest.mark.parametrize(("folder", "name"), METHODS, ids=["/".join(pair) for pair in METHODS])
def test_the_text_of_a_method_tells_what_importing_it_tells(folder: str, name: str) -> None:
    method = catalog.find(folder, name)
    path = catalog.PACKAGE / folder / f"{name}.py"
    assert Source(path).parameters(catalog.VERBS[folder]) is not None, "it can only be imported: mend its signature"
    hints = typing.get_type_hints(method.function, include_extras=True)
    parameters = inspect.signature(method.function).parameters.values()
    assert method.inputs == tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
    own = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in catalog.RESERVED}
    assert list(method.settings) == list(own)
    for key, parameter in own.items():
        assert method.settings[key].default == parameter.default
        assert repr(method.settings[key].annotation) == repr(hints[key])


@pytest.mark.parametrize("expression", ["open", "os.sep", "[1]", "undefined", "print('x')"])
def test_what_the_text_does_not_tell_is_said(tmp_path: Path, expression: str) -> None:
    (tmp_path / "one.py").write_text(f"import os\n\ndef score(n, *, power: float = {expression}): ...\n")
    with pytest.raises(Unreadable):
        Source(tmp_path / "one.py").parameters("score")


def test_constants_types_and_defaults_are_evaluated(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "from typing import Literal\n\nfrom labelwise.models import _normalise\n\nKind = Literal['a', 'b'] | None\n"
        "TASK = 'classification'\n\n"
        "def build(n, *, kind: Kind = 'a', low: float = -1.5, by: _normalise.Normalise = 'paper', free=(1, 2)): ...\n"
    )
    found = Source(tmp_path / "one.py")
    assert found.constant("TASK") == "classification"
    parameters = found.parameters("build")
    assert parameters is not None
    assert parameters["low"].default == -1.5
    assert parameters["kind"].annotation == typing.Literal["a", "b"] | None
    assert parameters["by"].annotation == typing.Literal["torchvision", "paper", "batch"]
    assert parameters["free"].default == (1, 2)
    assert found.parameters("absent") is None
