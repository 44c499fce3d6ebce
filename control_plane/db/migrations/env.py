"""What alembic runs to migrate. The connection, its transaction and its lock come from control_plane.db.migrate."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
