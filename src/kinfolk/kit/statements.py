"""What is asked of the kit's own tables: tokens, jobs, ticks, the inbox and the audit log."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    FromClause,
    Insert,
    Integer,
    Interval,
    LargeBinary,
    Text,
    any_,
    case,
    cast,
    column,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from kinfolk.kit.sql import param, sql
from kinfolk.kit.tables import audit, beginnings, inbox, jobs, ticks, tokens
from kinfolk.kit.telling import one, telling

_NOW = func.clock_timestamp()
_WAITS = jobs.c.status == "queued"
_THIS_ATTEMPT = (
    jobs.c.job_id == param("job_id", BigInteger),
    jobs.c.attempts == param("attempt", Integer),
    jobs.c.ended_at.is_(None),
)


def _told(name: str | ColumnElement[str], **more: ColumnElement[Any]) -> ColumnElement[str]:
    return telling(name, one(job_id=jobs.c.job_id, kind=jobs.c.kind, **more), jobs.c.by)


# PgQueuer's queue, as far as it concerns whoever owes a job: to load PgQueuer itself would cost each process 13 MB.
_queue = table("pgqueuer", *map(column, ("id", "priority", "entrypoint", "execute_after", "status", "headers")))
_noted = (
    insert(jobs)
    .from_select(
        ["job_id", "kind", "arguments", "request_id", "by"],
        select(
            func.nextval("pgqueuer_id_seq"),
            param("kind", Text),
            func.unnest(param("arguments", ARRAY(JSON))),
            func.unnest(param("request_ids", ARRAY(Text))),
            func.unnest(param("bys", ARRAY(Text))),
        ),
    )
    .returning(jobs.c.job_id, jobs.c.request_id, _told("job.queued"))
)
_owed = _noted.cte()
NOTED = sql(_noted)
OWED = sql(
    insert(_queue)
    .from_select(
        ["id", "priority", "entrypoint", "execute_after", "status", "headers"],
        select(
            _owed.c.job_id,
            literal_column("0"),
            param("kind", Text),
            func.now() + param("pause", Interval),
            literal_column("'queued'::pgqueuer_status"),
            param("headers", JSONB).op("->")(_owed.c.request_id),
        ),
    )
    .returning(_queue.c.id)
)
TAKEN_BACK = sql(delete(_queue).where(_queue.c.id == param("job_id", BigInteger)))
TOLD = sql(select(func.pg_notify(param("channel", Text), param("event", Text))))
BEGUN = sql(
    update(jobs)
    .where(jobs.c.job_id == any_(param("job_ids", ARRAY(BigInteger))), jobs.c.ended_at.is_(None))
    .values(status="running", attempts=jobs.c.attempts + 1, started_at=_NOW, progress_done=None, progress_total=None)
    .returning(
        jobs.c.job_id,
        jobs.c.attempts,
        jobs.c.accidents,
        jobs.c.request_id,
        jobs.c.by,
        jobs.c.is_unwanted,
        jobs.c.arguments,
        _told("job.running"),
    )
)
DONE = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(status="done", result=param("result", JSON), error=None, ended_at=_NOW)
    .returning(jobs.c.job_id, _told("job.done"))
)
ENDED = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(status=param("status", jobs.c.status.type), error=param("error", Text), ended_at=_NOW)
    .returning(jobs.c.job_id, _told(literal_column("'job.'", Text) + cast(jobs.c.status, Text)))
)
PUT_BACK = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(
        status="queued", accidents=param("accidents", Integer), error=func.coalesce(param("error", Text), jobs.c.error)
    )
    .returning(jobs.c.job_id, _told("job.queued"))
)
PROGRESSED = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(progress_done=param("done", BigInteger), progress_total=param("total", BigInteger))
    .returning(jobs.c.job_id, _told("job.progress", done=jobs.c.progress_done, total=jobs.c.progress_total))
)
UNWANTED = sql(
    update(jobs)
    .where(jobs.c.job_id == param("job_id", BigInteger), jobs.c.ended_at.is_(None))
    .values(
        is_unwanted=True,
        status=case((_WAITS, literal("cancelled", jobs.c.status.type)), else_=jobs.c.status),
        ended_at=case((_WAITS, _NOW)),
    )
    .returning(jobs.c.status, case((jobs.c.status == "cancelled", _told("job.cancelled"))))
)
_STATE = (
    jobs.c.job_id,
    jobs.c.kind,
    jobs.c.status,
    jobs.c.progress_done,
    jobs.c.progress_total,
    jobs.c.attempts,
    jobs.c.result,
    jobs.c.error,
    jobs.c.created_at,
    jobs.c.started_at,
    jobs.c.ended_at,
)
WAITING = sql(
    select(jobs.c.job_id)
    .where(jobs.c.job_id == any_(param("job_ids", ARRAY(BigInteger))), _WAITS)
    .order_by(jobs.c.job_id)
)
_IS_SHOWN = or_(param("by", Text).is_(None), jobs.c.by == param("by", Text))
JOB = sql(select(*_STATE).where(jobs.c.job_id == param("job_id", BigInteger), _IS_SHOWN))
JOBS = sql(
    select(*_STATE)
    .where(
        jobs.c.job_id > param("after", BigInteger),
        _IS_SHOWN,
        or_(param("kind", Text).is_(None), jobs.c.kind == param("kind", Text)),
        or_(param("status", jobs.c.status.type).is_(None), jobs.c.status == param("status", jobs.c.status.type)),
    )
    .order_by(jobs.c.job_id)
    .limit(param("limit", BigInteger))
)

# Whoever comes second waits here for the first to commit, and then finds the tick owed.
TAKEN_TICK = sql(
    postgresql.insert(ticks)
    .values(name=param("name"), due_at=param("due_at"))
    .on_conflict_do_nothing()
    .returning(ticks.c.name)
)
TICK_OWED = sql(
    update(ticks).where(ticks.c.name == param("name"), ticks.c.due_at == param("due_at")).values(job_id=param("job_id"))
)
LAST_TICK = sql(select(func.max(ticks.c.due_at)).where(ticks.c.name == param("name")))
TICKS = sql(
    select(ticks.c.name, ticks.c.due_at, ticks.c.job_id)
    .where(or_(param("name", Text).is_(None), ticks.c.name == param("name", Text)))
    .order_by(ticks.c.due_at.desc(), ticks.c.name)
    .limit(param("limit", BigInteger))
)

# Sorted, so that two consumers with the same messages wait for each other and never in a circle.
NEW_MESSAGES = sql(
    postgresql.insert(inbox)
    .from_select(
        ["consumer", "message_id"],
        select(param("consumer", Text), func.unnest(param("message_ids", ARRAY(Text)))),
    )
    .on_conflict_do_nothing()
    .returning(inbox.c.message_id)
)
_old = delete(inbox).where(inbox.c.seen_at < func.now() - param("kept", Interval)).returning(inbox.c.message_id).cte()
FORGOTTEN_MESSAGES = sql(select(func.count()).select_from(_old))
_begun = postgresql.insert(beginnings).values(consumer=param("consumer"), fingerprint=param("fingerprint"), times=1)
MESSAGE_BEGUN = sql(
    _begun.on_conflict_do_update(
        index_elements=[beginnings.c.consumer, beginnings.c.fingerprint],
        set_={"times": beginnings.c.times + 1, "begun_at": func.now()},
    ).returning(beginnings.c.times)
)
MESSAGE_ENDED = sql(
    delete(beginnings).where(
        beginnings.c.consumer == param("consumer"), beginnings.c.fingerprint == param("fingerprint")
    )
)
FORGOTTEN_BEGINNINGS = sql(delete(beginnings).where(beginnings.c.begun_at < func.now() - param("kept", Interval)))

# To look at a queue is to take its messages and give them back: of two who look, one would see nothing.
ONE_AT_A_TIME = sql(select(func.pg_advisory_xact_lock(func.hashtextextended(param("queue", Text), 0))))
_kept = postgresql.insert(tokens).values(
    token_hash=param("token_hash"),
    user_id=param("user_id"),
    role=param("role"),
    expires_at=func.now() + param("lifetime", Interval),
)
TOKEN_KEPT = sql(
    _kept.on_conflict_do_update(index_elements=["token_hash"], set_={"expires_at": _kept.excluded.expires_at})
)
TOKENS_STANDING = sql(
    select(tokens.c.token_hash, tokens.c.user_id, tokens.c.role).where(
        tokens.c.token_hash == any_(param("hashes", ARRAY(LargeBinary))), tokens.c.expires_at > func.now()
    )
)
TOKEN_REVOKED = sql(delete(tokens).where(tokens.c.token_hash == param("token_hash")))
_IS_A_HASH = func.length(tokens.c.token_hash) == literal_column("32")
ALL_TOKENS_REVOKED = sql(delete(tokens).where(tokens.c.user_id == param("user_id"), _IS_A_HASH))
ARE_TOKENS_ELSEWHERE = sql(
    select(tokens.c.user_id).where(tokens.c.user_id == param("user_id"), ~_IS_A_HASH, tokens.c.expires_at > func.now())
)
TOKENS_EXPIRED = sql(delete(tokens).where(tokens.c.expires_at <= func.now()).returning(tokens.c.user_id))

# Of a deed that is done together with others, what is not the same for all.
ORIGIN_COLUMNS = ("by", "request_id", "address", "facts")
NOTED_COLUMNS = ("deed", *ORIGIN_COLUMNS, "import_id", "citizen_id")


def _lists(names: Sequence[str]) -> list[ColumnElement[Any]]:
    """One list a column, as parameters."""
    return [param(f"audit_{name}", ARRAY(audit.c[name].type)) for name in names]


def noting(
    deed: str, done: FromClause, *, place: str = "place", import_id: str = "import_id", citizen_id: str
) -> Insert:
    """Writes, in the statement that did them, those of many deeds that were done: the rows of `done`.

    The others are names of its columns: `place`, counted from 1, says which of the entries of `audit.origins` is its.
    """
    origins = (
        func.unnest(*_lists(ORIGIN_COLUMNS))
        .table_valued(
            *(column(name, audit.c[name].type) for name in ORIGIN_COLUMNS), with_ordinality="place", name="origins"
        )
        .render_derived()
    )
    told = (
        select(
            literal(deed, Text), *(origins.c[name] for name in ORIGIN_COLUMNS), done.c[import_id], done.c[citizen_id]
        )
        .where(origins.c.place == done.c[place], origins.c.by.is_not(None))
        .order_by(origins.c.place)
    )
    return insert(audit).from_select(NOTED_COLUMNS, told)


DEEDS_NOTED = sql(insert(audit).from_select(NOTED_COLUMNS, select(*map(func.unnest, _lists(NOTED_COLUMNS)))))
# What the hash of an entry is made of, beside its number.
_LINKED = (
    audit.c.happened_at,
    audit.c.deed,
    audit.c.by,
    audit.c.request_id,
    audit.c.address,
    audit.c.import_id,
    audit.c.citizen_id,
    audit.c.facts,
)
_SHOWN = (
    audit.c.number,
    *_LINKED,
    func.encode(audit.c.previous_hash, "hex"),
    func.encode(audit.c.hash, "hex"),
)
_DEED = or_(param("deed", Text).is_(None), audit.c.deed == param("deed", Text))
_BY = or_(param("by", Text).is_(None), audit.c.by == param("by", Text))
_OF_IMPORT = audit.c.import_id == param("import_id", BigInteger)
_CITIZEN = param("citizen_id", BigInteger)
_PAGE = (
    select(*_SHOWN)
    .where(audit.c.number > param("after", BigInteger), _DEED, _BY)
    .order_by(audit.c.number)
    .limit(param("limit", BigInteger))
)
NOTED_PAGE = sql(_PAGE)
NOTED_PAGE_OF_IMPORT = sql(_PAGE.where(_OF_IMPORT, or_(_CITIZEN.is_(None), audit.c.citizen_id == _CITIZEN)))
# What was done to all of an import was done to its citizens, too.
NOTED_OF_CITIZEN = sql(
    select(*_SHOWN)
    .where(_OF_IMPORT, or_(audit.c.citizen_id.is_(None), audit.c.citizen_id == _CITIZEN))
    .order_by(audit.c.entry_id)
)

_IS_UNSEALED = audit.c.number.is_(None)
_SEALING_LOCK: ColumnElement[int] = literal_column("7305812")  # beside that of migrations
SEALING_TRIED = sql(select(func.pg_try_advisory_xact_lock(_SEALING_LOCK)))
SEALING_HELD = sql(select(func.pg_advisory_xact_lock(_SEALING_LOCK)))
ANY_UNSEALED = sql(select(audit.c.entry_id).where(_IS_UNSEALED).limit(1))
UNSEALED = sql(select(audit.c.entry_id, *_LINKED).where(_IS_UNSEALED).limit(param("most", BigInteger)))
LAST_SEALED = sql(
    select(audit.c.number, audit.c.hash).where(audit.c.number.is_not(None)).order_by(audit.c.number.desc()).limit(1)
)
_SEAL_COLUMNS = ("number", "previous_hash", "hash")
_SEALS = (
    func.unnest(param("entry_ids", ARRAY(BigInteger)), *_lists(_SEAL_COLUMNS))
    .table_valued(
        column("entry_id", BigInteger),
        *(column(name, audit.c[name].type) for name in _SEAL_COLUMNS),
        name="seals",
    )
    .render_derived()
)
SEALED = sql(
    update(audit)
    .where(audit.c.entry_id == _SEALS.c.entry_id, _IS_UNSEALED)
    .values({name: _SEALS.c[name] for name in _SEAL_COLUMNS})
)
LINKS = sql(
    select(audit.c.number, audit.c.previous_hash, audit.c.hash, *_LINKED)
    .where(audit.c.number > param("after", BigInteger))
    .order_by(audit.c.number)
    .limit(param("limit", BigInteger))
)
OLDEST_TO_STAY = sql(
    select(func.min(audit.c.number)).where(audit.c.happened_at >= param("before", DateTime(timezone=True)))
)
CUT_ALLOWED = sql(select(func.set_config("kinfolk.audit_cut", param("through", Text), literal_column("true"))))
CUT_OFF = sql(
    delete(audit).where(audit.c.number <= param("through", BigInteger)).returning(audit.c.number, audit.c.hash)
)

FORGETTING_TOLD = sql(select(func.pg_notify(param("channel", Text), param("places", Text))))
EVENTS_TOLD = sql(select(func.pg_notify(param("channel", Text), func.unnest(param("payloads", ARRAY(Text))))))
