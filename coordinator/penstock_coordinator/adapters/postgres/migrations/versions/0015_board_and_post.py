"""The board and the post: what coordinators publish for a moment, and their letters. Unlogged: a crash of the database
empties them, and they fill again.
"""

from alembic import op

revision = "0015"
down_revision = "0014"

_STATEMENTS = (
    """
    create unlogged table board (
        coordinator_id text collate "C" primary key,
        entry bytea not null,
        publish_time timestamptz not null,
        expire_time timestamptz not null
    )
    """,
    """
    create unlogged table post (
        letter_id bigint generated always as identity primary key,
        recipient text collate "C" not null,
        letter bytea not null,
        expire_time timestamptz not null
    )
    """,
    "create index post_by_recipient on post (recipient, letter_id)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
