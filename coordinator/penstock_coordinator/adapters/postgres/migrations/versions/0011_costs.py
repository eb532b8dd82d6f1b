"""What attempts cost: sums by day, pipeline and labels of the runs that were removed, and a function that reads the
cost of an attempt out of its row. Attempts of before have none: the time that they had their lease counts.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

_STATEMENTS = (
    """
    create function attempt_cost(detail bytea, place integer) returns bigint
    language sql immutable parallel safe
    return case
        when length(detail) >= 33 and get_byte(detail, 0) = 193
        then ('x' || encode(substr(detail, 2 + 8 * place, 8), 'hex'))::bit(64)::bigint
    end
    """,
    """
    create table cost_days (
        day bigint not null,
        pipeline text collate "C" not null,
        labels_digest bytea not null,
        labels text[] collate "C" not null,
        attempts bigint not null,
        slot_time bigint not null,
        cpu_time bigint not null,
        peak_memory_bytes bigint not null,
        bytes_moved bigint not null,
        memory_time double precision not null,
        wasted_attempts bigint not null,
        wasted_slot_time bigint not null,
        wasted_cpu_time bigint not null,
        wasted_peak_memory_bytes bigint not null,
        wasted_bytes_moved bigint not null,
        wasted_memory_time double precision not null,
        primary key (day, pipeline, labels_digest)
    )
    """,
    """alter table removed_runs
        add column labels text[] collate "C" not null default '{}',
        add column create_time bigint not null default 0""",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
