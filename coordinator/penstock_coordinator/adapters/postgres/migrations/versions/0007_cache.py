"""The cache: values of steps, and who computes those that are not there yet.

Entries are only ever inserted and deleted: two runs that compute the same value at once do not meet in one row. They
outlive their runs, and have no partitions: they go row by row, by age, number and expiry.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS = (
    """
    create table cache_entries (
        id bigint generated always as identity primary key,
        key bytea not null,
        run_id uuid not null,
        step integer not null,
        item integer not null,
        attempt integer not null,
        create_time bigint not null,
        expire_time bigint,
        pipeline text collate "C" not null,
        step_name text collate "C" not null,
        display_name text collate "C" not null,
        artifacts text[] collate "C" not null,
        output bytea not null
    )
    """,
    "create index cache_entries_by_key on cache_entries (key, id)",
    "create index cache_entries_by_time on cache_entries (create_time)",
    "create index cache_entries_by_expiry on cache_entries (expire_time) where expire_time is not null",
    """
    create table cache_reservations (
        key bytea primary key,
        run_id uuid not null,
        step integer not null,
        item integer not null,
        token bigint not null,
        display_name text collate "C" not null,
        expire_time timestamptz not null
    )
    """,
    "alter table step_runs add column source bytea",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
