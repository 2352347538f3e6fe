"""What clients see of sign-in and tokens."""

from pydantic import AwareDatetime, Field

from controlplane.accounts.roles import Role
from controlplane.schemas import Body, Out, UtcTime


class SignIn(Body):
    token: str = Field(min_length=1, max_length=512, description="an API token: `tt_…`")


class SessionOut(Out):
    name: str
    role: Role


class TokenIn(Body):
    name: str = Field(min_length=1, max_length=128, description="whom or what it is for")
    role: Role
    expires_at: AwareDatetime | None = None


class TokenOut(Out):
    id: str
    name: str
    prefix: str
    role: Role
    created_at: UtcTime
    expires_at: UtcTime | None
    last_used_at: UtcTime | None
    revoked_at: UtcTime | None


class TokenCreated(TokenOut):
    token: str = Field(description="the secret: shown here and never again")
