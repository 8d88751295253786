"""Alembic runs this file."""

from alembic import context

import kinfolk.app  # noqa: F401  # the modules' tables register themselves
from kinfolk.kit.migrate import run_migrations

run_migrations(context)
