"""Imports, citizens and their ties."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "citizens",
        sa.Column("import_id", sa.BigInteger(), nullable=False),
        sa.Column("citizen_id", sa.BigInteger(), nullable=False),
        sa.Column("town", sa.Text(), nullable=False),
        sa.Column("street", sa.Text(), nullable=False),
        sa.Column("building", sa.Text(), nullable=False),
        sa.Column("apartment", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Date(), nullable=False),
        sa.Column("gender", sa.Enum("male", "female", name="gender"), nullable=False),
        sa.PrimaryKeyConstraint("import_id", "citizen_id", name=op.f("pk_citizens")),
    )
    op.create_table(
        "idempotent_imports",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("import_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotent_imports")),
    )
    op.create_index(op.f("ix_idempotent_imports_created_at"), "idempotent_imports", ["created_at"], unique=False)
    op.create_table(
        "imports",
        sa.Column("import_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("import_id", name=op.f("pk_imports")),
    )
    op.create_table(
        "ties",
        sa.Column("import_id", sa.BigInteger(), nullable=False),
        sa.Column("low_id", sa.BigInteger(), nullable=False),
        sa.Column("high_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("low_id <= high_id", name=op.f("ck_ties_low_first")),
        sa.ForeignKeyConstraint(
            ["import_id", "high_id"], ["citizens.import_id", "citizens.citizen_id"], name="fk_ties_high"
        ),
        sa.ForeignKeyConstraint(
            ["import_id", "low_id"], ["citizens.import_id", "citizens.citizen_id"], name="fk_ties_low"
        ),
        sa.PrimaryKeyConstraint("import_id", "low_id", "high_id", name=op.f("pk_ties")),
    )
    op.create_index(op.f("ix_ties_import_id_high_id"), "ties", ["import_id", "high_id"], unique=False)
    # Every statement names its import, and statistics of a column that grows with each import are always of yesterday.
    for table in ("citizens", "ties"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN import_id SET STATISTICS 0")


def downgrade() -> None:
    op.drop_index(op.f("ix_ties_import_id_high_id"), table_name="ties")
    op.drop_table("ties")
    op.drop_table("imports")
    op.drop_index(op.f("ix_idempotent_imports_created_at"), table_name="idempotent_imports")
    op.drop_table("idempotent_imports")
    op.drop_table("citizens")
    sa.Enum(name="gender").drop(op.get_bind())
