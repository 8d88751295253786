"""Alembic runs this file."""

from alembic import context

from kinfolk.app import MODULES
from kinfolk.kit.migrate import run_migrations

for module in MODULES:
    module.load_tables()
run_migrations(context)
