"""Where imports, citizens and ties are kept."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Enum,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
)

from kinfolk.kit.sql import metadata

# The row of an import is the lock and the version of its citizens.
imports = Table(
    "imports",
    metadata,
    Column("import_id", BigInteger, Identity(), primary_key=True),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("owner_id", BigInteger),  # the user who added it; none where nobody is asked, and by message
)

# No foreign key to imports: it doubles the time of a load, and only two operations add or remove an import.
citizens = Table(
    "citizens",
    metadata,
    Column("import_id", BigInteger, nullable=False),
    Column("citizen_id", BigInteger, nullable=False),
    Column("town", Text, nullable=False),
    Column("street", Text, nullable=False),
    Column("building", Text, nullable=False),
    Column("apartment", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("birth_date", Date, nullable=False),
    Column("gender", Enum("male", "female", name="gender"), nullable=False),
    PrimaryKeyConstraint("import_id", "citizen_id"),
)

# A tie is stored once, so that one-sided kinship cannot exist; (x, x) is somebody who lists oneself. RESTRICT asks
# once whether a citizen who goes is tied; NO ACTION asks twice, and this is nearly all that removing an import costs.
ties = Table(
    "ties",
    metadata,
    Column("import_id", BigInteger, nullable=False),
    Column("low_id", BigInteger, nullable=False),
    Column("high_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("import_id", "low_id", "high_id"),
    ForeignKeyConstraint(
        ["import_id", "low_id"],
        ["citizens.import_id", "citizens.citizen_id"],
        name="fk_ties_low",
        ondelete="RESTRICT",
    ),
    ForeignKeyConstraint(
        ["import_id", "high_id"],
        ["citizens.import_id", "citizens.citizen_id"],
        name="fk_ties_high",
        ondelete="RESTRICT",
    ),
    CheckConstraint("low_id <= high_id", name="low_first"),
    Index(None, "import_id", "high_id"),
)

# What was answered to a POST with an Idempotency-Key, for a day.
idempotent_imports = Table(
    "idempotent_imports",
    metadata,
    Column("key", Text, primary_key=True),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("import_id", BigInteger, nullable=False, index=True),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
)
