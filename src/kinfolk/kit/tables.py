"""Where the kit keeps tokens, jobs, ticks, which messages had their effect or ended consumers, and the audit log."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Enum,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
    func,
)

from kinfolk.kit.sql import metadata

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column(
        "status",
        Enum("queued", "running", "done", "failed", "cancelled", name="job_status"),
        nullable=False,
        server_default="queued",
    ),
    Column("arguments", JSON, nullable=False),
    Column("request_id", Text),
    Column("by", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("accidents", Integer, nullable=False, server_default="0"),
    Column("is_unwanted", Boolean, nullable=False, server_default=false()),
    Column("progress_done", BigInteger),
    Column("progress_total", BigInteger),
    Column("result", JSON),
    Column("error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
)


ticks = Table(
    "ticks",
    metadata,
    Column("name", Text, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("job_id", BigInteger),
    PrimaryKeyConstraint("name", "due_at"),
)

inbox = Table(
    "inbox",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
)

beginnings = Table(
    "beginnings",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("times", Integer, nullable=False),
    Column("begun_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

USER_ROLE = Enum("supplier", "analyst", "admin", name="user_role")

# Logged, unlike a cache: a crash must not send every supplier's program to a login that nobody watches.
tokens = Table(
    "tokens",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("user_id", BigInteger, nullable=False, index=True),
    Column("role", USER_ROLE, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
)

# Triggers refuse to change, remove and truncate: see the migration. Only the last three columns are written later,
# and once, by which an entry gets its place in the chain.
audit = Table(
    "audit",
    metadata,
    Column("entry_id", BigInteger, Identity(), primary_key=True),
    Column("happened_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("deed", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("request_id", Text),
    Column("address", Text),
    Column("import_id", BigInteger),
    Column("citizen_id", BigInteger),
    Column("facts", JSON),
    Column("number", BigInteger, unique=True),
    Column("previous_hash", LargeBinary),
    Column("hash", LargeBinary),
    Index(None, "import_id", "citizen_id"),
)
