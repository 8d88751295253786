"""An import can be removed: quickly, and with the key it came with."""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _tie_to_citizens("RESTRICT")
    op.create_index(op.f("ix_idempotent_imports_import_id"), "idempotent_imports", ["import_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_idempotent_imports_import_id"), table_name="idempotent_imports")
    _tie_to_citizens(None)


def _tie_to_citizens(ondelete: str | None) -> None:
    for side in ("low", "high"):
        op.drop_constraint(f"fk_ties_{side}", "ties", type_="foreignkey")
        op.create_foreign_key(
            f"fk_ties_{side}",
            "ties",
            "citizens",
            ["import_id", f"{side}_id"],
            ["import_id", "citizen_id"],
            ondelete=ondelete,
        )
