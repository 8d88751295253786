"""Alembic runs this file."""

from alembic import context

import kinfolk.kit.inbox
import kinfolk.kit.ledger  # these have tables, and are no module's
import kinfolk.kit.schedule  # noqa: F401
from kinfolk.app import MODULES
from kinfolk.kit.migrate import run_migrations

for module in MODULES:
    module.load_tables()
run_migrations(context)
