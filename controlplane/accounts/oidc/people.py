"""Who a person of the provider is here: their user, made at the first sign-in, and the roles that their groups give them.

A user belongs to an issuer and a subject, never to a name or an e-mail address: whoever gets hold of such a name at the provider
does not become the user who bears it here. Roles follow the provider at each sign-in.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import column, select, table
from sqlalchemy.orm import Session

from controlplane.accounts import users
from controlplane.accounts.models import User, UserIdentity
from controlplane.accounts.oidc.terms import Person
from controlplane.accounts.roles import Role, greater
from controlplane.db import insert_if_absent
from controlplane.errors import Conflict, Forbidden
from controlplane.ids import new_id
from controlplane.settings import ControlPlaneSettings

log = structlog.get_logger(__name__)
ACTOR = "single-sign-on"
# The floor above owns these tables.
_pools = table("pools", column("id"), column("name"), column("fleet_id"))
_fleets = table("fleets", column("id"), column("name"))


class NotAllowed(Forbidden):
    title = "None of your groups may come in"


class NoName(Forbidden):
    title = "No name to go by"


class Disabled(Forbidden):
    title = "This user is disabled"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The role everywhere, and more by pool id."""

    role: Role
    in_pools: Mapping[str, Role]


def welcome(session: Session, person: Person, settings: ControlPlaneSettings, now: datetime) -> User:
    """The user, with the roles of now. Raises NotAllowed, NoName, Disabled, and NameTaken for one that is somebody else's."""
    allowed = roles_of(session, groups_of(person.claims, settings.oidc_groups_claim), settings)
    known = _known(session, person)
    if known is None:
        if allowed is None:
            raise NotAllowed(f"{_who(person, settings)} is in no group that has a role here: ask an admin")
        known = _first_time(session, person, allowed, settings, now)
    user = users.get_user(session, known.user_id)
    if user.disabled_at is not None:
        raise Disabled(f"an admin disabled {user.name}: only an admin can enable them again")
    if allowed is None:
        raise NotAllowed(f"{user.name} is in no group that has a role here any more: ask an admin")
    _give(session, user, allowed, now)
    known.last_seen_at = user.last_sign_in_at = now
    session.flush()
    return user


def groups_of(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """A list of texts, or one text; a dotted name leads into objects (`realm_access.roles`)."""
    found: Any = claims.get(name)
    if found is None and "." in name:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return frozenset({found})
    return frozenset(each for each in found if isinstance(each, str)) if isinstance(found, list) else frozenset()


def roles_of(session: Session, groups: frozenset[str], settings: ControlPlaneSettings) -> Allowed | None:
    """What the configuration gives to these groups; None where that is nothing."""
    everywhere = settings.oidc_default_role
    role: Role | None = None if everywhere is None else Role(everywhere)
    in_pools: dict[str, Role] = {}
    for rule in settings.oidc_roles:
        if rule.group not in groups:
            continue
        given = Role(rule.role)
        if rule.pool is None:
            role = given if role is None else greater(role, given)
            continue
        for pool_id in _pool_ids(session, rule.pool):
            in_pools[pool_id] = greater(in_pools.get(pool_id, given), given)
    if role is None and not in_pools:
        return None
    base = role or Role.VIEWER  # who is signed in reads everything
    return Allowed(base, {pool: given for pool, given in in_pools.items() if not base.includes(given)})


def _pool_ids(session: Session, pool: str) -> list[str]:
    """Of `fleet/pool`, or of the pools that bear a name. Those that are not there yet count from the next sign-in on."""
    fleet, _, name = pool.rpartition("/")
    query = select(_pools.c.id).where(_pools.c.name == name)
    if fleet:
        query = query.join(_fleets, _fleets.c.id == _pools.c.fleet_id).where(_fleets.c.name == fleet)
    found = list(session.scalars(query))
    if not found:
        log.warning("oidc_role_of_unknown_pool", pool=pool)
    return found


def _known(session: Session, person: Person) -> UserIdentity | None:
    mine = (UserIdentity.issuer == person.issuer, UserIdentity.subject == person.subject)
    return session.scalar(select(UserIdentity).where(*mine).with_for_update())


def _first_time(
    session: Session, person: Person, allowed: Allowed, settings: ControlPlaneSettings, now: datetime
) -> UserIdentity:
    name = str(person.claims.get(settings.oidc_name_claim) or "").strip().casefold()
    if not re.fullmatch(users.NAME_RULE, name):
        raise NoName(
            f"the provider's claim {settings.oidc_name_claim!r} holds no name that can stand in the history: "
            "set CONTROLPLANE_OIDC_NAME_CLAIM to one that does, for example email"
        )
    user = users.create_user(session, name=name, role=allowed.role, by=ACTOR, now=now)
    added = insert_if_absent(
        session, UserIdentity, id=new_id(), user_id=user.id, issuer=person.issuer, subject=person.subject,
        created_at=now, last_seen_at=now,
    )  # fmt: skip
    if not added:  # the same person, in two tabs at once
        raise Conflict("you have just been let in elsewhere: sign in once more")
    found = _known(session, person)
    assert found is not None
    return found


def _give(session: Session, user: User, allowed: Allowed, now: datetime) -> None:
    try:
        users.set_role(session, user, allowed.role, by=ACTOR, now=now)
    except Conflict:
        log.warning("oidc_last_admin_stays", user=user.name)  # nobody could let anybody in any more
    users.set_grants(session, user, allowed.in_pools, by=ACTOR, now=now)


def _who(person: Person, settings: ControlPlaneSettings) -> str:
    return str(person.claims.get(settings.oidc_name_claim) or "this person")[:64]
