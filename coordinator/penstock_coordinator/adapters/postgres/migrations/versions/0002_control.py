"""Runs that are opened again, that are steps of other runs, and that are asked for with a priority or a key; jobs over
many runs.

Only what is searched by has a column of its own; the rest of how a run was asked for is packed (see `batch.py`).
"""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    "alter table runs add column generation integer not null default 1",
    "alter table runs add column parent_run_id uuid",
    "alter table runs add column run_key text collate \"C\" not null default ''",
    "alter table runs add column origin bytea not null default ''",
    "alter table runs add column output bytea",
    "create index runs_of_parent on runs (parent_run_id, run_id) where parent_run_id is not null",
    "create index runs_by_key on runs (pipeline, run_key, run_id) where run_key <> ''",
    # The newest run of each key. A table of its own, because a unique index over partitions would need the run id.
    """
    create table run_keys (
        pipeline text collate "C" not null,
        run_key text collate "C" not null,
        run_id uuid not null,
        primary key (pipeline, run_key)
    )
    """,
    """
    create table bulk_jobs (
        job_id uuid primary key,
        state smallint not null,
        create_time bigint not null,
        end_time bigint,
        cursor uuid,
        description bytea not null,
        progress bytea not null
    )
    """,
    "create index bulk_jobs_live on bulk_jobs (job_id) where state = 1",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
