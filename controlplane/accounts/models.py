"""Tables of people, their ways in, and what nodes join with. Secrets are kept as SHA-256, passwords as argon2id."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.db import Base, Id
from controlplane.ids import new_id


class User(Base):
    """A person. Without `password_hash` they have not been in yet, or their password was reset."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(128))
    disabled_at: Mapped[datetime | None]
    last_sign_in_at: Mapped[datetime | None]

    grants: Mapped[list["RoleGrant"]] = relationship(lazy="selectin", cascade="all, delete-orphan")
    identities: Mapped[list["UserIdentity"]] = relationship(viewonly=True)


class UserIdentity(Base):
    """Who a user is at an identity provider: `subject` never changes there, and is one user's here."""

    __tablename__ = "user_identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    issuer: Mapped[str] = mapped_column(String(255))
    subject: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


class RoleGrant(Base):
    """A role that a user has in one pool, besides the one that they have everywhere."""

    __tablename__ = "role_grants"
    __table_args__ = (UniqueConstraint("user_id", "pool_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"))
    role: Mapped[str] = mapped_column(String(16))


class ApiToken(Base):
    """`owner_id`: the user it belongs to, under whose name it acts; None for a service's. `pool_id`: the one pool that its
    role counts in; elsewhere it reads."""

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(128))
    prefix: Mapped[str] = mapped_column(String(16))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    owner_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"), index=True)
    pool_id: Mapped[str | None] = mapped_column(ForeignKey("pools.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    owner: Mapped[User | None] = relationship(lazy="joined")


class WebSession(Base):
    """A signed-in browser: of a user, or of the token that it was opened with. Ends with that one."""

    __tablename__ = "web_sessions"
    __table_args__ = (CheckConstraint("(user_id IS NULL) <> (token_id IS NULL)", name="of_a_user_or_a_token"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"), index=True)
    token_id: Mapped[str | None] = mapped_column(ForeignKey("api_tokens.id"), index=True)
    address: Mapped[str] = mapped_column(String(64), server_default="")
    browser: Mapped[str] = mapped_column(String(200), server_default="")
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]

    user: Mapped[User | None] = relationship(lazy="joined")
    token: Mapped[ApiToken | None] = relationship(lazy="joined")


class Invitation(Base):
    """A link, good once, with which a user chooses a password."""

    __tablename__ = "invitations"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class EnrolmentToken(Base):
    """What one node shows once to join; `used_by` is that node's id."""

    __tablename__ = "enrolment_tokens"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    note: Mapped[str] = mapped_column(String(128))
    prefix: Mapped[str] = mapped_column(String(16))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_by: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_by: Mapped[str | None] = mapped_column(Id)
    revoked_at: Mapped[datetime | None]
