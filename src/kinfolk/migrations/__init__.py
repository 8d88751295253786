"""One linear history of the schema, for all modules (Alembic)."""
