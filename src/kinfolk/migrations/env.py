"""Alembic runs this file."""

from alembic import context

import kinfolk.kit.ledger  # has tables, and is no module's, as the next
import kinfolk.kit.schedule  # noqa: F401
from kinfolk.app import MODULES
from kinfolk.kit.migrate import run_migrations

for module in MODULES:
    module.load_tables()
run_migrations(context)
