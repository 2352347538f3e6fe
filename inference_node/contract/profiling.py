"""Recordings of what a node does, asked for over HTTP: what can be recorded, and how one of them stands."""

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

LONGEST_S = 30.0


class ProfileKind(StrEnum):
    """`cpu`: where processor time goes, a flame graph. `torch`: every operation of some steps, a trace over time."""

    CPU = "cpu"
    TORCH = "torch"


class ProfileState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ProfileRequest(BaseModel):
    """What to record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ProfileKind
    seconds: float = Field(default=5.0, ge=0.1, le=LONGEST_S, allow_inf_nan=False)


class ProfileRecording(BaseModel):
    """One recording. Its file is there once the state is done, and goes an hour later (`expires_at`)."""

    # Unknown fields are ignored on the wire, so that an older side understands a newer one.
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    kind: ProfileKind
    state: ProfileState
    seconds: float = Field(description="asked for; a torch trace ends earlier when it is large enough")
    started_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    file_name: str | None = Field(
        default=None, description="*.speedscope.json (cpu; speedscope), *.trace.json.gz (torch; Perfetto)"
    )
    size_bytes: int = Field(default=0, ge=0)
    error: str | None = None


class ProfileList(BaseModel):
    """Newest first."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    items: tuple[ProfileRecording, ...] = ()
