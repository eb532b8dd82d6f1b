"""Run by Alembic. The connection is given by `penstock_coordinator.adapters.postgres.schema`; there is no other way in,
so that a migration never depends on somebody's alembic.ini."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
