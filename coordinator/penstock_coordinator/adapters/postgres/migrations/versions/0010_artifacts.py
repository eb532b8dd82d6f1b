"""Artifacts that steps made, and that they were given: written with the commit of the result and before the grant, so
the tables grow with references and not with steps."""

from alembic import op

revision = "0010"
down_revision = "0009"

_WORK = """
        step integer not null,
        item integer not null,
        generation integer not null,
        attempt integer not null,
        token bigint not null,
        pipeline text collate "C" not null,
        version_digest text collate "C" not null,
        step_name text collate "C" not null,
        display_name text collate "C" not null,
        code_digest text collate "C" not null,
        at bigint not null,
        digest text collate "C" not null
"""

_STATEMENTS = (
    f"""
    create table artifacts (
        run_id uuid not null,
        seq bigint not null,
        position integer not null,
        {_WORK},
        name bytea not null,
        size bigint not null,
        media_type bytea not null,
        kind text collate "C" not null,
        codec bytea not null,
        metadata bytea not null,
        primary key (run_id, seq, position)
    ) partition by range (run_id)
    """,
    "create table artifacts_default partition of artifacts default",
    "create index artifacts_by_time on artifacts (at, run_id, seq, position)",
    "create index artifacts_by_digest on artifacts (digest, at)",
    "create index artifacts_of_series on artifacts (pipeline, step_name, name, at)",
    f"""
    create table artifact_uses (
        run_id uuid not null,
        {_WORK},
        input text collate "C" not null,
        primary key (run_id, step, item, token, input, digest)
    ) partition by range (run_id)
    """,
    "create table artifact_uses_default partition of artifact_uses default",
    "create index artifact_uses_by_digest on artifact_uses (digest, at)",
    # Which artifacts the cache needs.
    "create index cache_entries_by_artifact on cache_entries using gin (artifacts) where artifacts <> '{}'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
