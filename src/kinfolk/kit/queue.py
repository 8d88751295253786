"""PgQueuer, as we use it: under names of ours, whatever the environment says, and never with a pool's driver.

A pool's driver would take another connection than the one whose transaction owes the job: a rollback would then leave
a job that nobody asked for, and the job might be taken before what it is about is committed.
"""

import re

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import Channel

from kinfolk.kit.db import Connection
from kinfolk.kit.ledger import CHANNEL

# All are given, for what is not given it would read from variables as common as CHANNEL and TRIGGER.
SETTINGS = DBSettings(
    prefix="",
    db_schema=None,
    channel=Channel(CHANNEL),
    function="fn_pgqueuer_changed",
    statistics_table="pgqueuer_statistics",
    queue_status_type="pgqueuer_status",
    queue_table="pgqueuer",
    queue_table_log="pgqueuer_log",
    trigger="tg_pgqueuer_changed",
    schedules_table="pgqueuer_schedules",
)
_TABLES = QueryBuilderEnvironment(SETTINGS)
_QUEUE = QueryQueueBuilder(SETTINGS)
_SCHEDULES = QuerySchedulerBuilder(SETTINGS)


def queue(conn: Connection) -> Queries:
    """The queue as seen from the transaction of `conn`."""
    return Queries(AsyncpgDriver(conn), _TABLES, _QUEUE, _SCHEDULES)  # type: ignore[arg-type]  # a pool's is as good


def creation() -> list[str]:
    """The statements that make its tables, as the pinned version has them."""
    return _statements(_TABLES.build_install_query())


def removal() -> list[str]:
    return _statements(_TABLES.build_uninstall_query())


def _statements(script: str) -> list[str]:
    """One by one, which is how the driver takes them; what stands between dollar signs is a function."""
    return re.findall(r"(?:[^;$]|\$\$.*?\$\$)+;", script, re.DOTALL)
