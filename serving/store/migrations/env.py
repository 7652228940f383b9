"""What Alembic runs: the migrations, in the transaction of the connection that `upgrade` gives."""

from alembic import context

from serving.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite, too, undoes its changes of tables with a transaction, as we begin it ourselves
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
