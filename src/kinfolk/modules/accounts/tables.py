"""Where users are kept, and how often somebody failed to log in."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Identity, Index, Integer, LargeBinary, Table, Text, func
from sqlalchemy.sql.expression import true

from kinfolk.kit.sql import metadata
from kinfolk.kit.tables import USER_ROLE

users = Table(
    "users",
    metadata,
    Column("user_id", BigInteger, Identity(), primary_key=True),
    Column("username", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("password_until", DateTime(timezone=True)),  # the first administrator's, which Kinfolk made up, ends
    Column("role", USER_ROLE, nullable=False),
    Column("is_active", Boolean, nullable=False, server_default=true()),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
# Nobody may pass for somebody else by a capital letter.
Index("uq_users_username", func.lower(users.c.username), unique=True)

# Who is meant stands here only as a hash: names that were tried, right or wrong, are nobody's business.
login_failures = Table(
    "login_failures",
    metadata,
    Column("subject", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, index=True),
)
