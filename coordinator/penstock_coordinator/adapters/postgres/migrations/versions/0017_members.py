"""Members: coordinators that own runs beside the head, each by its own lease; and the sessions of agents with them."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("""
        alter table coordinators
            add column head_epoch bigint not null default 0,
            add column secrets_key text not null default ''
    """)
    op.execute("""
        create table agent_links (
            agent_id text collate "C" not null,
            coordinator_id text collate "C" not null,
            session_epoch bigint not null,
            boot_id text not null,
            primary key (agent_id, coordinator_id)
        )
    """)
