from alembic import context
from sqlalchemy import text

from restore_lib.catalog.tables import metadata

_LOCK = 0x7A9EF10  # one number for the migrations of all tapeflow catalogs

with context.config.attributes["engine"].connect() as plain:
    connection = plain.execution_options(tapeflow_write=True)
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        transactional_ddl=True,
        user_module_prefix="columns.",
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.run_migrations()
    connection.commit()
