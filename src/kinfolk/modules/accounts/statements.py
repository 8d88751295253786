"""What is asked of users, and of those who fail to log in."""

from datetime import timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Text,
    any_,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit.sql import moment, param, sql
from kinfolk.kit.tables import USER_ROLE
from kinfolk.modules.accounts.tables import login_failures, users

_WINDOW, _AHEAD = timedelta(seconds=120), timedelta(seconds=10)

_COLUMNS = (users.c.user_id, users.c.username, users.c.role, users.c.is_active, moment(users.c.created_at))
_IS_MEANT = users.c.user_id == param("user_id")
ADDED = sql(
    postgresql.insert(users)
    .values(
        username=param("username"),
        password_hash=param("password_hash"),
        password_until=func.now() + param("lifetime", Interval),
        role=param("role"),
    )
    .on_conflict_do_nothing(index_elements=[func.lower(users.c.username)])
    .returning(*_COLUMNS)
)
ALL = sql(select(*_COLUMNS).order_by(users.c.user_id))
AMONG = sql(select(*_COLUMNS).where(users.c.user_id == any_(param("numbers", ARRAY(BigInteger)))))
NAMED = sql(select(*_COLUMNS).where(func.lower(users.c.username) == func.lower(param("username", Text))))
CHANGED = sql(
    update(users)
    .where(_IS_MEANT, users.c.password_hash == func.coalesce(param("proved_hash", Text), users.c.password_hash))
    .values(
        role=func.coalesce(param("role", USER_ROLE), users.c.role),
        is_active=func.coalesce(param("is_active", Boolean), users.c.is_active),
        password_hash=func.coalesce(param("password_hash", Text), users.c.password_hash),
        password_until=case((param("password_hash", Text).is_(None), users.c.password_until)),
    )
    .returning(*_COLUMNS)
)
REMOVED = sql(delete(users).where(_IS_MEANT).returning(users.c.user_id))
ADMINS = sql(select(users.c.user_id).where(users.c.role == "admin", users.c.is_active))
IS_EMPTY = sql(select(~select(users.c.user_id).exists()))
# Whoever changes who is administrator. Not by locks on their rows: one that has ceased to be one while somebody waited
# for it stays locked, and who counts it no longer waits for it.
ONE_AT_A_TIME = sql(select(func.pg_advisory_xact_lock(func.hashtextextended("kinfolk administrators", 0))))
_is_let_in = (users.c.is_active, or_(users.c.password_until.is_(None), users.c.password_until > func.now()))
_is_unchanged = (users.c.user_id == param("user_id"), users.c.password_hash == param("password_hash"))
KNOWN = sql(
    select(users.c.user_id, users.c.password_hash).where(
        func.lower(users.c.username) == func.lower(param("username", Text)), *_is_let_in
    )
)
PROVABLE = sql(select(users.c.username, users.c.password_hash).where(_IS_MEANT, *_is_let_in))
# Locked until the token is kept: whoever changes the user meanwhile waits, and then ends this token, too.
STILL_SO = sql(select(users.c.role).where(*_is_unchanged, *_is_let_in).with_for_update(read=True))
RENEWED = sql(
    update(users).where(*_is_unchanged, *_is_let_in).values(password_hash=param("renewed")).returning(users.c.role)
)
# Those of a moment that is still to come, too, for then the clock was put back; but who counts at the same time may
# have begun a moment later.
_is_over = or_(login_failures.c.since <= func.now() - _WINDOW, login_failures.c.since > func.now() + _AHEAD)
_is_among = login_failures.c.subject == any_(param("subjects", ARRAY(LargeBinary)))
_counted = postgresql.insert(login_failures).from_select(
    ["subject", "failures", "since"],
    select(func.unnest(param("subjects", ARRAY(LargeBinary))), func.unnest(param("times", ARRAY(Integer))), func.now()),
)
COUNTED = sql(
    _counted.on_conflict_do_update(
        index_elements=["subject"],
        set_={
            "failures": _counted.excluded.failures + case((_is_over, 0), else_=login_failures.c.failures),
            "since": case((_is_over, func.now()), else_=login_failures.c.since),
        },
    ).returning(
        login_failures.c.subject,
        login_failures.c.failures,
        func.extract("epoch", login_failures.c.since + _WINDOW - func.now()).cast(Float),
    )
)
_in_order = select(login_failures.c.subject).where(_is_among).order_by(login_failures.c.subject).with_for_update()
FORGIVEN = sql(
    update(login_failures)
    .where(login_failures.c.subject.in_(_in_order))
    .values(failures=func.greatest(login_failures.c.failures - 1, 0))
)
FORGOTTEN = sql(
    delete(login_failures).where(login_failures.c.since < func.now() - _WINDOW).returning(login_failures.c.subject)
)
