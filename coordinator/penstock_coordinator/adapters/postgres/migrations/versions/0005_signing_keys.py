"""The keys that sign the credentials of leases and the addresses of the store; the newest has no end."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    """
    create table signing_keys (
        number integer generated always as identity primary key,
        secret bytea not null,
        create_time bigint not null,
        expire_time bigint
    )
    """,
    "create unique index signing_keys_newest on signing_keys ((true)) where expire_time is null",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
