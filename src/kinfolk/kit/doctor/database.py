"""What PostgreSQL says of itself: version, revision, backup, habits that lose data, vacuum, locks, connections."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from kinfolk.kit import revision
from kinfolk.kit.backup import BACKED_UP
from kinfolk.kit.doctor.findings import Finding, Findings, Place, look, ok, wrong
from kinfolk.kit.embedded_postgres import EmbeddedPostgres
from kinfolk.kit.ending import Ended
from kinfolk.kit.migrate import connect
from kinfolk.kit.postgres_binaries import MAJORS

MOST_SECONDS_APART = 2.0
LONG_SECONDS = 300
LEAST_DEAD_ROWS = 10_000
OLD_BACKUP = timedelta(days=2)

MUST_BE_ON = ("fsync", "full_page_writes", "synchronous_commit")
# Others' transactions are shown to a role that may read all statistics, else only our own.
LONG_TRANSACTIONS = """
    SELECT pid, state, extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds,
           (SELECT count(*) FROM pg_stat_activity AS other WHERE act.pid = ANY(pg_blocking_pids(other.pid))) AS waiting
    FROM pg_stat_activity AS act
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND clock_timestamp() - xact_start > make_interval(secs => $1)
"""
UNVACUUMED = """
    SELECT relname, n_dead_tup FROM pg_stat_user_tables
    WHERE n_dead_tup > $1 AND n_dead_tup > n_live_tup / 2 ORDER BY n_dead_tup DESC
"""

CONNECTIONS_LEFT = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true), '0')::int
"""
LAST_BACKUP = "SELECT happened_at FROM audit WHERE deed = $1 ORDER BY entry_id DESC LIMIT 1"

Question: TypeAlias = Callable[[Any, Place], AsyncIterator[Finding]]


async def postgresql(place: Place) -> Findings:
    """Everything that needs a connection; an embedded server that does not run is not started."""
    url = place.settings.database.pg_url
    if url is None:
        url = EmbeddedPostgres(place.settings.database.data_dir).url_if_running()
        if url is None:
            yield look("the embedded PostgreSQL does not run, so nothing is said of the database", "kinfolk up")
            return
    try:
        conn = await connect(url)
    except Ended as refusal:
        yield wrong(str(refusal), "start the server, or mend --pg-url")
        return
    try:
        for question in QUESTIONS:
            async for finding in question(conn, place):
                yield finding
    finally:
        await conn.close()


async def _version(conn: Any, _place: Place) -> Findings:
    name, size, extensions = await conn.fetchrow(
        "SELECT current_database(), pg_size_pretty(pg_database_size(current_database())),"
        " (SELECT string_agg(extname, ', ' ORDER BY extname) FROM pg_extension)"
    )
    version = conn.get_server_version()
    if version.major in MAJORS:
        yield ok(f"PostgreSQL {version.major}.{version.micro}, database {name}, {size}, extensions {extensions}")
    else:
        yield look(
            f"PostgreSQL {version.major} is newer than any that was tried", f"use {MAJORS[-1]}, or a newer Kinfolk"
        )


async def _encoding(conn: Any, _place: Place) -> Findings:
    encoding = await conn.fetchval("SHOW server_encoding")
    if encoding == "UTF8":
        yield ok("the database is in UTF8")
    else:
        yield wrong(
            f"the database is in {encoding}", "make one with ENCODING 'UTF8' TEMPLATE template0, and restore into it"
        )


async def _revision(conn: Any, _place: Place) -> Findings:
    found = await revision.revision_of(conn)
    if found == revision.head():
        yield ok(f"the tables are at revision {found}")
    elif found is None:
        yield wrong("there are no tables", "kinfolk db upgrade head")
    elif found in revision.known():
        yield wrong(f"the tables are at revision {found}, not {revision.head()}", "kinfolk db upgrade head")
    else:
        yield look(
            f"the tables are at revision {found}, which this Kinfolk does not know",
            "run the newer Kinfolk, whose they are",
        )


async def _backup(conn: Any, _place: Place) -> Findings:
    """Each `kinfolk backup` is an entry of the audit log."""
    if not await conn.fetchval("SELECT to_regclass('audit') IS NOT NULL"):
        return
    moment = await conn.fetchval(LAST_BACKUP, BACKED_UP)
    if moment is None:
        yield look("no backup was made by kinfolk backup", "kinfolk backup FILE, each night")
        return
    said = f"the last backup is of {moment:%Y-%m-%d %H:%M} UTC"
    is_old = datetime.now(UTC) - moment > OLD_BACKUP
    yield look(said, "does what makes it each night still run? kinfolk backup FILE") if is_old else ok(said)


async def _durable(conn: Any, _place: Place) -> Findings:
    off = [name for name in MUST_BE_ON if await conn.fetchval("SELECT current_setting($1)", name) == "off"]
    for name in off:
        yield wrong(f"{name} is off: what was answered may be lost", f"set {name} = on in postgresql.conf, and reload")
    if not off:
        yield ok("what was answered is on the disk")


async def _vacuum(conn: Any, _place: Place) -> Findings:
    if await conn.fetchval("SHOW autovacuum") == "off":
        yield wrong("autovacuum is off: tables grow and plans get worse", "set autovacuum = on, and reload")
    else:
        yield ok("autovacuum is on")
    for table, dead in await conn.fetch(UNVACUUMED, LEAST_DEAD_ROWS):
        yield look(f"{table} has {dead} dead rows", f'VACUUM (ANALYZE) "{table}"')


async def _locks(conn: Any, _place: Place) -> Findings:
    long = await conn.fetch(LONG_TRANSACTIONS, LONG_SECONDS)
    for pid, state, seconds, waiting in long:
        said = f"a transaction of process {pid} is {seconds} s old ({state}), and {waiting} wait for it"
        yield (wrong if waiting else look)(said, f"SELECT pg_terminate_backend({pid})")
    if not long:
        yield ok(f"no transaction is older than {LONG_SECONDS} s")


async def _connections(conn: Any, place: Place) -> Findings:
    """A worker and `work` have one beside their pools, by which they are told; who reads large registers has one."""
    most = await conn.fetchval(CONNECTIONS_LEFT)
    size, amqp = place.settings.database.pool_size, place.settings.amqp.amqp_url
    wanted = (place.settings.web.workers + 1) * (size + 1) + size * (1 if amqp is None else 2) + 1
    said = f"up may take {wanted} connections (--pool-size {size} in each of its processes), the server has {most}"
    yield look(said, "raise max_connections, or lower --pool-size") if wanted > most else ok(said)


async def _clock(conn: Any, _place: Place) -> Findings:
    before = datetime.now(UTC)
    theirs = await conn.fetchval("SELECT clock_timestamp()")
    ours = before + (datetime.now(UTC) - before) / 2
    apart = abs((theirs - ours).total_seconds())
    if apart > MOST_SECONDS_APART:
        yield wrong(f"the clocks here and at the database are {apart:.0f} s apart", "timedatectl set-ntp true, on both")
    else:
        yield ok("the clocks here and at the database agree")


QUESTIONS: Sequence[Question] = (
    _version,
    _encoding,
    _revision,
    _backup,
    _durable,
    _vacuum,
    _locks,
    _connections,
    _clock,
)
