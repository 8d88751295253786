"""What is asked of the kit's own tables: tokens, jobs, ticks and the inbox."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Integer,
    Interval,
    LargeBinary,
    Text,
    any_,
    case,
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
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit.sql import param, sql
from kinfolk.kit.tables import beginnings, inbox, jobs, ticks, tokens

_NOW = func.clock_timestamp()
_WAITS = jobs.c.status == "queued"
_THIS_ATTEMPT = (
    jobs.c.job_id == param("job_id", BigInteger),
    jobs.c.attempts == param("attempt", Integer),
    jobs.c.ended_at.is_(None),
)

# PgQueuer's queue, as far as it concerns whoever owes a job: to load PgQueuer itself would cost each process 13 MB.
_queue = table("pgqueuer", *map(column, ("id", "priority", "entrypoint", "execute_after", "status")))
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
    .returning(jobs.c.job_id)
)
_owed = _noted.cte()
NOTED = sql(_noted)
OWED = sql(
    insert(_queue)
    .from_select(
        ["id", "priority", "entrypoint", "execute_after", "status"],
        select(
            _owed.c.job_id,
            literal_column("0"),
            param("kind", Text),
            func.now() + param("pause", Interval),
            literal_column("'queued'::pgqueuer_status"),
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
    )
)
DONE = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(status="done", result=param("result", JSON), error=None, ended_at=_NOW)
    .returning(jobs.c.job_id)
)
ENDED = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(status=param("status", jobs.c.status.type), error=param("error", Text), ended_at=_NOW)
    .returning(jobs.c.job_id)
)
PUT_BACK = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(
        status="queued", accidents=param("accidents", Integer), error=func.coalesce(param("error", Text), jobs.c.error)
    )
    .returning(jobs.c.job_id)
)
PROGRESSED = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(progress_done=param("done", BigInteger), progress_total=param("total", BigInteger))
    .returning(jobs.c.job_id)
)
UNWANTED = sql(
    update(jobs)
    .where(jobs.c.job_id == param("job_id", BigInteger), jobs.c.ended_at.is_(None))
    .values(
        is_unwanted=True,
        status=case((_WAITS, literal("cancelled", jobs.c.status.type)), else_=jobs.c.status),
        ended_at=case((_WAITS, _NOW)),
    )
    .returning(jobs.c.status)
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
TOKEN_KEPT = sql(
    insert(tokens).values(
        token_hash=param("token_hash"),
        user_id=param("user_id"),
        role=param("role"),
        expires_at=func.now() + param("lifetime", Interval),
    )
)
TOKENS_STANDING = sql(
    select(tokens.c.token_hash, tokens.c.user_id, tokens.c.role).where(
        tokens.c.token_hash == any_(param("hashes", ARRAY(LargeBinary))), tokens.c.expires_at > func.now()
    )
)
TOKEN_REVOKED = sql(delete(tokens).where(tokens.c.token_hash == param("token_hash")))
ALL_TOKENS_REVOKED = sql(delete(tokens).where(tokens.c.user_id == param("user_id")))
TOKENS_EXPIRED = sql(delete(tokens).where(tokens.c.expires_at <= func.now()).returning(tokens.c.user_id))
