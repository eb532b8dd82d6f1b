"""Dead letters: written with the failure that they are of, so the table grows with failures and not with steps.

It has no partitions: letters go row by row, with their runs and when they have long been closed.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    """
    create table dead_letters (
        run_id uuid not null,
        seq bigint not null,
        step integer not null,
        item integer not null,
        generation integer not null,
        budget smallint not null,
        attempts integer not null,
        at bigint not null,
        pipeline text collate "C" not null,
        step_name text collate "C" not null,
        display_name text collate "C" not null,
        reason bytea not null,
        message bytea not null,
        state smallint not null default 1,
        close_time bigint,
        closed_by bytea not null default '',
        primary key (run_id, seq)
    )
    """,
    "create index dead_letters_by_time on dead_letters (at, run_id, seq)",
    "create index dead_letters_open on dead_letters (run_id) where state = 1",
    "create index dead_letters_closed on dead_letters (close_time) where state <> 1",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
