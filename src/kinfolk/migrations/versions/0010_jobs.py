"""Jobs: PgQueuer's queue, and the ledger beside it."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from kinfolk.kit.queue import creation, removal

revision: str = "0010"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Our ledger tells what became of a job. PgQueuer would write three lines for each and never forget one.
NO_LOG = (
    "CREATE FUNCTION kinfolk_write_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER kinfolk_no_log BEFORE INSERT ON pgqueuer_log FOR EACH ROW EXECUTE FUNCTION kinfolk_write_nothing()",
)


def upgrade() -> None:
    for statement in (*creation(), *NO_LOG):
        op.execute(statement)
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum("queued", "running", "done", "failed", "cancelled", name="job_status"),
            server_default="queued",
            nullable=False,
        ),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("accidents", sa.Integer(), server_default="0", nullable=False),
        sa.Column("is_unwanted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("progress_done", sa.BigInteger(), nullable=True),
        sa.Column("progress_total", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
    )


def downgrade() -> None:
    op.drop_table("jobs")
    sa.Enum(name="job_status").drop(op.get_bind())
    for statement in removal():
        op.execute(statement)
    op.execute("DROP FUNCTION kinfolk_write_nothing()")
