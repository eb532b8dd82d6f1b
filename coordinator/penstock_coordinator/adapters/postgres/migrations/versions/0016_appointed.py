"""Whom a coordinator that gave its ownership up has appointed: the others leave the claim to it for a moment."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("alter table coordinators add column appointed boolean not null default false")
