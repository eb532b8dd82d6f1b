"""Agents that a person has paused: kept over reconnects and restarts."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("alter table agents add column paused boolean not null default false")
