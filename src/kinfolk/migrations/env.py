"""Alembic runs this file."""

from alembic import context

import kinfolk.kit.tables  # noqa: F401  # these are no module's
from kinfolk.app import MODULES
from kinfolk.kit.migrate import run_migrations

for module in MODULES:
    module.load_tables()
run_migrations(context)
