"""What all models of the contract share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Percent = Annotated[float, Field(gt=0, le=100)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Model(BaseModel):
    """Base: frozen, strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
