"""Users, their roles in pools, invitations and one-time enrolment tokens; sessions of users; tokens with owners.

Revision c3e91f5a7d26, after b3e61f0a92d7, 2026-11-23 15:00:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "c3e91f5a7d26"
down_revision = "b3e61f0a92d7"
branch_labels = None
depends_on = None


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=True),
        _moment("created_at"),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        _moment("disabled_at", nullable=True),
        _moment("last_sign_in_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "role_grants",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name=op.f("fk_role_grants_pool_id_pools")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_role_grants_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_grants")),
        sa.UniqueConstraint("user_id", "pool_id", name=op.f("uq_role_grants_user_id_pool_id")),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        _moment("created_at"),
        _moment("expires_at"),
        _moment("used_at", nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_invitations_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_invitations_secret_hash")),
    )
    op.create_index(op.f("ix_invitations_user_id"), "invitations", ["user_id"])
    op.create_table(
        "enrolment_tokens",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("note", sa.String(length=128), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        _moment("created_at"),
        _moment("expires_at"),
        _moment("used_at", nullable=True),
        sa.Column("used_by", sa.String(length=36), nullable=True),
        _moment("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_enrolment_tokens_token_hash")),
    )
    # SQLite makes the table of tokens anew, which it refuses while rows refer to it. People sign in again.
    op.execute("DELETE FROM web_sessions")
    with op.batch_alter_table("api_tokens") as table:
        table.add_column(sa.Column("owner_id", sa.String(length=36), nullable=True))
        table.add_column(sa.Column("pool_id", sa.String(length=36), nullable=True))
        table.create_foreign_key(op.f("fk_api_tokens_owner_id_users"), "users", ["owner_id"], ["id"])
        table.create_foreign_key(op.f("fk_api_tokens_pool_id_pools"), "pools", ["pool_id"], ["id"])
        table.create_index(op.f("ix_api_tokens_owner_id"), ["owner_id"])
    with op.batch_alter_table("web_sessions") as table:
        table.alter_column("token_id", existing_type=sa.String(length=36), nullable=True)
        table.add_column(sa.Column("user_id", sa.String(length=36), nullable=True))
        table.add_column(sa.Column("address", sa.String(length=64), server_default="", nullable=False))
        table.add_column(sa.Column("browser", sa.String(length=200), server_default="", nullable=False))
        table.add_column(_moment("last_seen_at", nullable=True))
        table.create_foreign_key(op.f("fk_web_sessions_user_id_users"), "users", ["user_id"], ["id"])
        table.create_index(op.f("ix_web_sessions_user_id"), ["user_id"])
        table.create_check_constraint("of_a_user_or_a_token", "(user_id IS NULL) <> (token_id IS NULL)")


def downgrade() -> None:
    # What users own means nothing to the version before.
    op.execute("DELETE FROM web_sessions")
    op.execute("DELETE FROM api_tokens WHERE owner_id IS NOT NULL OR pool_id IS NOT NULL")
    with op.batch_alter_table("web_sessions") as table:
        table.drop_constraint(op.f("ck_web_sessions_of_a_user_or_a_token"), type_="check")
        table.drop_index(op.f("ix_web_sessions_user_id"))
        table.drop_constraint(op.f("fk_web_sessions_user_id_users"), type_="foreignkey")
        for column in ("last_seen_at", "browser", "address", "user_id"):
            table.drop_column(column)
        table.alter_column("token_id", existing_type=sa.String(length=36), nullable=False)
    with op.batch_alter_table("api_tokens") as table:
        table.drop_index(op.f("ix_api_tokens_owner_id"))
        table.drop_constraint(op.f("fk_api_tokens_owner_id_users"), type_="foreignkey")
        table.drop_constraint(op.f("fk_api_tokens_pool_id_pools"), type_="foreignkey")
        table.drop_column("pool_id")
        table.drop_column("owner_id")
    op.drop_table("enrolment_tokens")
    op.drop_table("invitations")
    op.drop_table("role_grants")
    op.drop_table("users")
