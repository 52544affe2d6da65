"""What every part of a configuration is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen; unknown fields, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoStage(Strict):
    """The stage does nothing."""

    method: Literal["none"] = "none"
