"""The coordinators of the database, and the ownership lease of each: a number that it raises again and again.

One of an earlier release has no row until it is started again with this one.
"""

from alembic import op

revision = "0012"
down_revision = "0011"

_STATEMENTS = (
    """
    create table coordinators (
        coordinator_id text collate "C" primary key,
        state smallint not null,
        epoch bigint not null,
        renewals bigint not null,
        lease bigint not null,
        address text collate "C" not null,
        http_address text collate "C" not null,
        began bigint not null
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
