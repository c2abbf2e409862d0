"""What every section of a run's config is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Settings that may not be misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)
