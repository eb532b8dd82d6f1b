"""Lines of steps in the artifact store: which packs there are, what each has of which attempt, and the names under
which something may be stored that no pack has (yet, or any more)."""

from alembic import op

revision = "0013"
down_revision = "0012"

_STATEMENTS = (
    """
    create table log_packs (
        run_id uuid not null,
        last_position bigint not null,
        first_position bigint not null,
        name text collate "C" not null,
        rows integer not null,
        lines integer not null,
        size integer not null,
        digest bytea not null,
        first_time bigint not null,
        last_time bigint not null,
        primary key (run_id, last_position)
    )
    """,
    """
    create table log_parts (
        run_id uuid not null,
        pack bigint not null,
        step integer not null,
        item integer not null,
        attempt integer not null,
        lines integer not null,
        first_number bigint not null,
        last_number bigint not null,
        first_time bigint not null,
        last_time bigint not null,
        primary key (run_id, pack, step, item, attempt)
    )
    """,
    # Whether lines that come again are there already.
    "create index log_parts_of_attempt on log_parts (run_id, step, item, attempt, last_number)",
    # `at` 0: its pack was removed.
    """
    create table log_names (
        name text collate "C" primary key,
        run_id uuid not null,
        at bigint not null
    )
    """,
    "create index log_names_by_time on log_names (at, name)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
