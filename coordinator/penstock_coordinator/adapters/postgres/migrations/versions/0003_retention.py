"""Notes of removed runs: as long as one is not `gone`, rows of the run may be left, and the janitor goes on from it.

Afterwards it tells who asks for the run that there was one. There is no index for the removal itself: run ids begin
with the time, so what is old enough is the lower end of the primary keys that are there already. What is new is how
runs that are live are found below one that may have many that are not.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    """
    create table removed_runs (
        run_id uuid primary key,
        remove_time bigint not null,
        pipeline text collate "C" not null default '',
        run_key text collate "C" not null default '',
        gone boolean not null default false
    )
    """,
    "create index removed_runs_left on removed_runs (run_id) where not gone",
    "create index runs_live_of_parent on runs (parent_run_id) where state < 6 and parent_run_id is not null",
    "create index removed_runs_by_time on removed_runs (remove_time) where gone",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
