"""API tokens of services, which an admin hands out, and of oneself; tokens with which one node joins."""

from datetime import timedelta

from fastapi import APIRouter

from controlplane.accounts import enrolment, tokens, users
from controlplane.accounts.dependencies import Admin
from controlplane.accounts.endpoints import Myself
from controlplane.accounts.known import CHANGES_WHO
from controlplane.accounts.models import ApiToken, EnrolmentToken
from controlplane.accounts.schemas import (
    EnrolmentTokenCreated,
    EnrolmentTokenIn,
    EnrolmentTokenOut,
    TokenCreated,
    TokenIn,
    TokenOut,
)
from controlplane.dependencies import Now, ReadSession, WriteSession
from controlplane.problem import declared
from controlplane.schemas import Page

router = APIRouter(tags=["accounts"], dependencies=[CHANGES_WHO])


@router.get("/tokens", responses=declared(401, 403))
def list_tokens(_: Admin, session: ReadSession) -> Page[TokenOut]:
    """All API tokens, also revoked ones, without their secrets."""
    return Page(items=[_token(token) for token in tokens.list_tokens(session)])


@router.post("/tokens", status_code=201, responses=declared(401, 403, 409, 422))
def create_token(body: TokenIn, who: Admin, session: WriteSession, now: Now) -> TokenCreated:
    """Makes a service's API token, under whose name it acts. Its secret is in this answer only."""
    token, secret = tokens.create_token(
        session, name=body.name, role=body.role, now=now, by=who.name, expires_at=body.expires_at, pool_id=body.pool_id
    )
    return TokenCreated(**_token(token).model_dump(), token=secret)


@router.delete("/tokens/{token_id}", status_code=204, responses=declared(401, 403, 404, 409))
def revoke_token(token_id: str, who: Admin, session: WriteSession, now: Now) -> None:
    """Ends a token and the browser sessions that were opened with it, as of the next request."""
    tokens.revoke_token(session, token_id, now, by=who.name)


@router.get("/account/tokens", responses=declared(401, 403))
def list_own_tokens(who: Myself, session: ReadSession) -> Page[TokenOut]:
    """One's own API tokens, also revoked ones."""
    return Page(items=[_token(token) for token in tokens.list_tokens(session, owner_id=who.user_id)])


@router.post("/account/tokens", status_code=201, responses=declared(401, 403, 422))
def create_own_token(body: TokenIn, who: Myself, session: WriteSession, now: Now) -> TokenCreated:
    """Makes a token that acts under one's own name, with at most one's own role at the time of each use."""
    assert who.user_id is not None
    owner = users.get_user(session, who.user_id)
    token, secret = tokens.create_token(
        session, name=body.name, role=body.role, now=now, by=who.name, expires_at=body.expires_at, owner=owner,
        most=who.role_in(body.pool_id), pool_id=body.pool_id,
    )  # fmt: skip
    return TokenCreated(**_token(token).model_dump(), token=secret)


@router.delete("/account/tokens/{token_id}", status_code=204, responses=declared(401, 403, 404))
def revoke_own_token(token_id: str, who: Myself, session: WriteSession, now: Now) -> None:
    """Ends one of one's own tokens."""
    tokens.revoke_token(session, token_id, now, by=who.name, owner_id=who.user_id)


@router.get("/enrolment-tokens", responses=declared(401, 403))
def list_enrolment_tokens(_: Admin, session: ReadSession, now: Now) -> Page[EnrolmentTokenOut]:
    """Tokens with which one node each may join or has joined, newest first."""
    return Page(items=[_enrolment(token, enrolment.state_of(token, now)) for token in enrolment.list_all(session)])


@router.post("/enrolment-tokens", status_code=201, responses=declared(401, 403, 422))
def create_enrolment_token(
    body: EnrolmentTokenIn, who: Admin, session: WriteSession, now: Now
) -> EnrolmentTokenCreated:
    """Makes a token that lets one node join. Its secret is in this answer only."""
    expires_at = now + timedelta(hours=body.valid_hours)
    token, secret = enrolment.create(session, note=body.note, by=who.name, now=now, expires_at=expires_at)
    return EnrolmentTokenCreated(**_enrolment(token, "open").model_dump(), token=secret)


@router.delete("/enrolment-tokens/{token_id}", status_code=204, responses=declared(401, 403, 404, 409))
def revoke_enrolment_token(token_id: str, who: Admin, session: WriteSession, now: Now) -> None:
    """Ends one that no node has joined with yet."""
    enrolment.revoke(session, token_id, now, by=who.name)


def _token(token: ApiToken) -> TokenOut:
    owner = token.owner.name if token.owner is not None else None
    return TokenOut(
        id=token.id, name=token.name, prefix=token.prefix, role=token.role, pool_id=token.pool_id, owner=owner,
        created_at=token.created_at, expires_at=token.expires_at, last_used_at=token.last_used_at, revoked_at=token.revoked_at,
    )  # fmt: skip


def _enrolment(token: EnrolmentToken, state: enrolment.State) -> EnrolmentTokenOut:
    return EnrolmentTokenOut(
        id=token.id, note=token.note, prefix=token.prefix, state=state, created_by=token.created_by,
        created_at=token.created_at, expires_at=token.expires_at, used_at=token.used_at, used_by=token.used_by,
    )  # fmt: skip
