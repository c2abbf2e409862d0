"""A method as a config names it: its file's name, with what is set of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import core_schema

from labelwise import catalog
from labelwise.config import inputs
from labelwise.errors import LabelwiseError


class Choice(BaseModel):
    """A method by its file's name, settings beside it: `{name = "consistency", beta = 1.3}` or `"consistency"`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """What is set of the method."""
        return dict(self.model_extra or {})


class Step(Choice):
    """One selector of a chain. It leaves `keep` times the round's budget to the selector after it (all, if not set)."""

    keep: float | None = Field(None, ge=1)


@dataclass(frozen=True, slots=True)
class MethodOf:
    """Annotates a `Choice` that names a method of `folder`: its settings are checked against the method's signature,
    its inputs against the menu. A table without a name sets something of the `default`.
    """

    folder: str
    default: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        named = core_schema.no_info_before_validator_function(self._name, handler(source))
        return core_schema.no_info_after_validator_function(self._check, named)

    def _name(self, value: Any) -> Any:
        if isinstance(value, dict) and self.default is not None:
            return {"name": self.default, **value}
        return {"name": value} if isinstance(value, str) else value

    def _check(self, choice: Choice) -> Choice:
        try:
            method = catalog.find(self.folder, choice.name)
            found = inputs.problems(method) + method.problems(choice.settings)
        except LabelwiseError as error:
            raise ValueError(str(error)) from None
        if found:
            raise ValueError("; ".join(found))
        return choice


@dataclass(frozen=True, slots=True)
class NameOf:
    """Says of a text that it names a file of `folder`: the table of settings lists them."""

    folder: str


def as_list(value: Any) -> Any:
    """One selector is a chain of one."""
    return value if isinstance(value, list | tuple) else [value]
