"""What clients see of sign-in, people, tokens and sessions."""

from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from controlplane.accounts.roles import Role
from controlplane.schemas import Body, Out, UtcTime

Password = Field(min_length=1, max_length=256, description="at least 15 characters; a few words with spaces do well")


class SignIn(Body):
    """Either a token, or a user's name and password."""

    token: str | None = Field(default=None, min_length=1, max_length=512, description="an API token: `tt_…`")
    name: str | None = Field(default=None, min_length=1, max_length=64, description="a user's name")
    password: str | None = Field(default=None, min_length=1, max_length=256)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        person = self.name is not None and self.password is not None
        part = self.name is not None or self.password is not None
        if (self.token is not None) == part or (part and not person):
            raise ValueError("send `token`, or `name` and `password`")
        return self


class SignInWays(Out):
    """What the sign-in page must know before anybody is signed in."""

    password: bool = Field(description="whether there are users, so that a name and password can be asked for")
    oidc: "OidcWay | None" = Field(description="sign-in at the identity provider; null where none is set up")


class OidcWay(Out):
    name: str = Field(description="what people call the provider: `Sign in with NAME`")
    url: str = Field(description="where the link leads, with `?then=` the page to open afterwards")


class SignedOutOut(Out):
    url: str | None = Field(description="where the identity provider's own session is ended; null where there is none")


class SessionOut(Out):
    name: str
    role: Role = Field(description="what they may do everywhere")
    pools: dict[str, Role] = Field(default_factory=dict, description="what they may do in single pools, by pool id")
    user_id: str | None = Field(default=None, description="absent for a token that belongs to no user")
    session_id: str | None = Field(default=None, description="the browser session; absent for a token")
    set_up_due: bool = Field(default=False, description="an admin's token is all there is: no user exists yet")


class SetUp(Body):
    name: str = Field(min_length=1, max_length=64, description="lower case; an e-mail address will do")
    password: str = Password


class UserIn(Body):
    name: str = Field(min_length=1, max_length=64, description="lower case; an e-mail address will do")
    role: Role
    pools: dict[str, Role] = Field(
        default_factory=dict, max_length=200, description="roles in single pools, by pool id"
    )


class UserPatch(Body):
    """What is left out stays as it is."""

    role: Role | None = None
    pools: dict[str, Role] | None = Field(
        default=None, max_length=200, description="all roles in single pools, by pool id: those that are not named end"
    )
    disabled: bool | None = None


class UserOut(Out):
    id: str
    name: str
    role: Role
    pools: dict[str, Role] = Field(description="roles in single pools, by pool id")
    state: Literal["active", "invited", "disabled"]
    created_at: UtcTime
    created_by: str
    last_sign_in_at: UtcTime | None
    provider: str | None = Field(description="the identity provider that they come in by, which gives their roles")


class InvitationOut(Out):
    """A link for one person. Whoever opens it chooses that person's password, so hand it over in private."""

    user: UserOut
    url: str = Field(description="shown here and never again; good once")
    expires_at: UtcTime


class InvitationSecret(Body):
    secret: str = Field(min_length=1, max_length=256, description="what the link carries after `#invitation=`")


class InvitedOut(Out):
    name: str
    role: Role
    expires_at: UtcTime


class Acceptance(InvitationSecret):
    password: str = Password


class PasswordChange(Body):
    present: str = Field(min_length=1, max_length=256)
    password: str = Password


class WebSessionOut(Out):
    id: str
    name: str = Field(description="the user's, or the token's that opened it")
    role: Role
    address: str
    browser: str = Field(description="its User-Agent")
    created_at: UtcTime
    last_seen_at: UtcTime
    expires_at: UtcTime
    current: bool = Field(description="whether this very request came by it")


class TokenIn(Body):
    name: str = Field(min_length=1, max_length=128, description="whom or what it is for")
    role: Role
    pool_id: str | None = Field(default=None, max_length=36, description="the one pool that the role counts in")
    expires_at: AwareDatetime | None = Field(default=None, description="absent: it stays until it is revoked")


class TokenOut(Out):
    id: str
    name: str
    prefix: str
    role: Role
    pool_id: str | None = Field(default=None, description="the one pool that the role counts in; elsewhere it reads")
    owner: str | None = Field(default=None, description="the user under whose name it acts; absent for a service's")
    created_at: UtcTime
    expires_at: UtcTime | None
    last_used_at: UtcTime | None
    revoked_at: UtcTime | None


class TokenCreated(TokenOut):
    token: str = Field(description="the secret: shown here and never again")


class EnrolmentTokenIn(Body):
    note: str = Field(default="", max_length=128, description="which machine it is for")
    valid_hours: float = Field(default=24.0, gt=0, le=24 * 30)


class EnrolmentTokenOut(Out):
    id: str
    note: str
    prefix: str
    state: Literal["open", "used", "revoked", "expired"]
    created_by: str
    created_at: UtcTime
    expires_at: UtcTime
    used_at: UtcTime | None
    used_by: str | None = Field(description="id of the node that joined with it")


class EnrolmentTokenCreated(EnrolmentTokenOut):
    token: str = Field(description="what the node gets as NODE_ENROLMENT_TOKEN: shown here and never again")
