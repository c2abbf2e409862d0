"""A method as a config names it: its file's name, with what is set of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from labelwise import catalog
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


def method(folder: str, default: str | None = None) -> Any:
    """Type of a config key that names a method of `folder`; its settings are checked against the method's signature.
    A table without a name sets something of the `default`.
    """

    def check(choice: Choice) -> Choice:
        try:
            found = catalog.find(folder, choice.name).problems(choice.settings)
        except LabelwiseError as error:
            raise ValueError(str(error)) from None
        if found:
            raise ValueError("; ".join(found))
        return choice

    def named(value: Any) -> Any:
        if isinstance(value, dict) and default is not None:
            return {"name": default, **value}
        return {"name": value} if isinstance(value, str) else value

    return Annotated[Step if folder == "select" else Choice, BeforeValidator(named), AfterValidator(check)]


def listed(value: Any) -> Any:
    """One selector is a chain of one."""
    return value if isinstance(value, list | tuple) else [value]
