"""The journal, its projections, and what else the first release keeps.

Conventions: instants are bigint microseconds since 1970 (exact, and what the code counts in); text is compared
bytewise; what users wrote is bytea, because text refuses NUL and lone surrogates. Tables that grow with runs are
partitioned by the run id, a UUIDv7, which is by time; the partitions of the months are made by `partitions.py`, and a
default one takes what none of them covers.
"""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    # --- who may write
    """
    create table fences (
        coordinator_id text collate "C" not null,
        lane integer not null,
        epoch bigint not null,
        primary key (coordinator_id, lane)
    )
    """,
    "create sequence coordinator_epochs",
    # --- the journal
    """
    create table run_events (
        run_id uuid not null,
        first_seq bigint not null,
        last_seq bigint not null,
        at bigint not null,
        payload bytea not null,
        primary key (run_id, first_seq)
    ) partition by range (run_id)
    """,
    "create table run_events_default partition of run_events default",
    """
    create table requests (
        key bytea primary key,
        digest bytea not null,
        answer bytea not null,
        run_id uuid,
        create_time bigint not null
    )
    """,
    "create index requests_by_time on requests (create_time)",
    # --- its projections
    """
    create table runs (
        run_id uuid primary key,
        pipeline text collate "C" not null,
        version_number integer not null,
        version_digest text collate "C" not null,
        owner text collate "C" not null,
        state smallint not null,
        create_time bigint not null,
        start_time bigint,
        end_time bigint,
        labels text[] collate "C" not null,
        reason bytea not null,
        trace_context bytea not null,
        parameters bytea not null,
        summary bytea
    ) partition by range (run_id)
    """,
    "create table runs_default partition of runs default",
    # States from 6 are those at rest.
    "create index runs_live on runs (owner, run_id) where state < 6",
    "create index runs_live_of_pipeline on runs (pipeline) where state < 6",
    "create index runs_of_pipeline on runs (pipeline, run_id)",
    "create index runs_by_label on runs using gin (labels) where labels <> '{}'",
    """
    create table step_runs (
        run_id uuid not null,
        step integer not null,
        item integer not null,
        generation integer not null,
        state smallint not null,
        attempts integer not null,
        ready_time bigint,
        start_time bigint,
        end_time bigint not null,
        agent text collate "C" not null,
        output bytea,
        failure bytea,
        primary key (run_id, step, item, generation)
    ) partition by range (run_id)
    """,
    "create table step_runs_default partition of step_runs default",
    """
    create table attempts (
        run_id uuid not null,
        step integer not null,
        item integer not null,
        number integer not null,
        token bigint not null,
        outcome smallint not null,
        start_time bigint not null,
        end_time bigint not null,
        agent text collate "C" not null,
        detail bytea not null,
        primary key (run_id, step, item, number, token)
    ) partition by range (run_id)
    """,
    "create table attempts_default partition of attempts default",
    # --- pipelines and their code
    """
    create table pipelines (
        name text collate "C" primary key,
        create_time bigint not null,
        delete_time bigint,
        latest integer not null
    )
    """,
    """
    create table pipeline_versions (
        pipeline text collate "C" not null references pipelines,
        number integer not null,
        digest text collate "C" not null,
        step_count integer not null,
        create_time bigint not null,
        spec bytea not null,
        primary key (pipeline, number),
        unique (pipeline, digest)
    )
    """,
    "create index pipeline_versions_by_digest on pipeline_versions (digest)",
    """
    create table bundles (
        digest text collate "C" primary key,
        create_time bigint not null,
        content bytea not null
    )
    """,
    # Archives are compressed already, and a slice of an uncompressed value is read without the rest of it.
    "alter table bundles alter column content set storage external",
    # --- agents
    """
    create table agents (
        agent_id text collate "C" primary key,
        session_epoch bigint not null,
        connect_time bigint not null,
        goodbye boolean not null,
        description bytea not null
    )
    """,
    "create sequence session_epochs",
    # --- what steps wrote
    """
    create table log_chunks (
        run_id uuid not null,
        position bigint not null,
        step integer not null,
        item integer not null,
        attempt integer not null,
        first_number bigint not null,
        at bigint not null,
        lines bytea not null,
        primary key (run_id, position),
        unique (run_id, step, item, attempt, first_number)
    ) partition by range (run_id)
    """,
    "create table log_chunks_default partition of log_chunks default",
    "create sequence log_positions",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
