"""Accounts: whose an import is, and who owed a job."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0040"
down_revision: str | Sequence[str] | None = "0030"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("by", sa.Text(), nullable=True))
    op.add_column("imports", sa.Column("owner_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("imports", "owner_id")
    op.drop_column("jobs", "by")
