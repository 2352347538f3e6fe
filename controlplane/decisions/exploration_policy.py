"""How far the controller may try settings on one node by itself, to learn where its model is wrong (docs/exploration.md)."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ExplorationMode(StrEnum):
    """off: nothing is tried. random: any of the settings that are held for safe. model: the one that promises most."""

    OFF = "off"
    RANDOM = "random"
    MODEL = "model"


class ExplorationPolicy(BaseModel):
    """Only knobs on `auto` are tried, in a calm pool, on one node under a lease. Nothing that is tried is promoted by it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mode: ExplorationMode = Field(
        default=ExplorationMode.OFF,
        description="off, random (the control arm: any safe settings) or model (what promises most)",
    )
    per_h: int = Field(default=1, ge=1, le=12, description="tries within an hour at most")
    lease_s: float = Field(
        default=900.0,
        ge=60,
        le=3600,
        description="after so long the node goes back by itself; a verdict needs the settle time and six windows",
    )
    min_budget_left: float = Field(
        default=0.5, ge=0, le=1, description="share of the burn window's error budget that must be unspent"
    )

    @model_validator(mode="after")
    def _fits_into_an_hour(self) -> Self:
        if self.per_h * self.lease_s > 3600:
            raise ValueError(
                f"per_h: {self.per_h} tries of lease_s {self.lease_s:g} do not fit into an hour, and only one runs at a time"
            )
        return self
