"""The section `log`: where a run's numbers go beside its report."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from labelwise.config.choice import Choice, MethodOf, as_list
from labelwise.config.section import Section


class LogRule(Section):
    """Loggers."""

    to: Annotated[tuple[Annotated[Choice, MethodOf("log")], ...], BeforeValidator(as_list)] = ()
    """Loggers that are told curve, costs, losses and settings after every stage (`labelwise list log`):
    ["tensorboard", { name = "mlflow", uri = "http://tracking:5000" }]; each needs its package. It changes no result."""
