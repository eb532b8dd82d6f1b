"""What attempts used of the budgets that pipelines have by the day, the week or the month, as rows that are only ever
added; and what these were raised to.
"""

from alembic import op

revision = "0014"
down_revision = "0013"

_STATEMENTS = (
    """
    create table budget_charges (
        run_id uuid not null,
        first_seq bigint not null,
        pipeline text collate "C" not null,
        at bigint not null,
        slot_time bigint not null,
        cpu_time bigint not null,
        price bigint not null,
        primary key (run_id, first_seq)
    )
    """,
    "create index budget_charges_by_pipeline on budget_charges (pipeline, at)",
    "create index budget_charges_by_time on budget_charges (at)",
    """
    create table budget_raises (
        pipeline text collate "C" not null,
        window_start bigint not null,
        slot_time bigint not null,
        cpu_time bigint not null,
        price bigint not null,
        requested_by bytea not null,
        at bigint not null,
        primary key (pipeline, window_start)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
