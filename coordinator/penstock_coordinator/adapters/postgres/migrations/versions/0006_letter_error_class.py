"""Dead letters say the class of the exception. Those of before have none."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("alter table dead_letters add column error_class bytea not null default ''")
