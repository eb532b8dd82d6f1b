"""Secrets of users: encrypted by the coordinator, whose key is not in the database."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        """
        create table secrets (
            name text collate "C" primary key,
            key_id text collate "C" not null,
            content bytea not null,
            create_time bigint not null,
            update_time bigint not null
        )
        """
    )
