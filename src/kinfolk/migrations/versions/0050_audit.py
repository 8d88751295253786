"""The audit log, which can only grow, and no statistics that quote citizens."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0050"
down_revision: str | Sequence[str] | None = "0040"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

REFUSE = """
CREATE FUNCTION kinfolk_refuse_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only added to' USING ERRCODE = 'insufficient_privilege';
END
$$
"""
NOTED = "entry_id, happened_at, deed, by, request_id, address, import_id, citizen_id, facts::text"
# An entry without a place in the chain may be given one, once. `kinfolk audit cut` says how far it cuts.
TRIGGERS = (
    f"""
    CREATE TRIGGER kinfolk_no_change BEFORE UPDATE ON audit FOR EACH ROW
    WHEN (OLD.number IS NOT NULL OR ({", ".join(f"OLD.{each}" for each in NOTED.split(", "))})
          IS DISTINCT FROM ({", ".join(f"NEW.{each}" for each in NOTED.split(", "))}))
    EXECUTE FUNCTION kinfolk_refuse_audit()
    """,
    """
    CREATE TRIGGER kinfolk_no_removal BEFORE DELETE ON audit FOR EACH ROW
    WHEN ((OLD.number <= nullif(current_setting('kinfolk.audit_cut', true), '')::bigint) IS NOT TRUE)
    EXECUTE FUNCTION kinfolk_refuse_audit()
    """,
    """
    CREATE TRIGGER kinfolk_no_truncation BEFORE TRUNCATE ON audit FOR EACH STATEMENT
    EXECUTE FUNCTION kinfolk_refuse_audit()
    """,
)
# PostgreSQL would keep samples of the values, also of citizens who are gone; no plan of ours asks for them.
PERSONAL = ("town", "street", "building", "apartment", "name", "birth_date")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("entry_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "happened_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("deed", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("import_id", sa.BigInteger(), nullable=True),
        sa.Column("citizen_id", sa.BigInteger(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_audit")),
        sa.UniqueConstraint("number", name=op.f("uq_audit_number")),
    )
    op.create_index(op.f("ix_audit_import_id_citizen_id"), "audit", ["import_id", "citizen_id"], unique=False)
    for statement in (REFUSE, *TRIGGERS):
        op.execute(statement)
    _keep_statistics(0)


def downgrade() -> None:
    op.drop_table("audit")
    op.execute("DROP FUNCTION kinfolk_refuse_audit()")
    _keep_statistics(-1)


def _keep_statistics(target: int) -> None:
    for name in PERSONAL:
        op.execute(f"ALTER TABLE citizens ALTER COLUMN {name} SET STATISTICS {target}")
