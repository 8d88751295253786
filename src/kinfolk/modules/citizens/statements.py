"""What is asked of imports, citizens and ties: to read and to add, to correct one and many, to remove, to answer."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    CompoundSelect,
    Date,
    Integer,
    Interval,
    Text,
    and_,
    any_,
    cast,
    column,
    delete,
    extract,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.visitors import replacement_traverse

from kinfolk.kit.sql import moment, names_of, param, sql
from kinfolk.kit.statements import noting
from kinfolk.kit.telling import one, telling, what
from kinfolk.modules.citizens.tables import citizens, idempotent_imports, imports, ties

_FIELDS = [each for each in citizens.columns if not each.primary_key]
CITIZEN_COLUMNS = names_of(citizens.columns)
TIE_COLUMNS = names_of(ties.columns)
CORRECTABLE = names_of(_FIELDS)

_IMPORT = param("import_id")
# asyncpg sends 1 January of the year 1, which is Python's first day, as "-infinity"; so that is how it is stored.
_BIRTH_DATE = func.greatest(citizens.c.birth_date, literal_column("date '0001-01-01'"), type_=Date)
# A citizen's own fields as the contract orders them, the date as it writes it.
_SHOWN_COLUMNS = (
    citizens.c.citizen_id,
    citizens.c.town,
    citizens.c.street,
    citizens.c.building,
    citizens.c.apartment,
    citizens.c.name,
    func.to_char(_BIRTH_DATE, "DD.MM.YYYY"),
    citizens.c.gender,
)

NEW_IMPORT_ID = sql(insert(imports).values(version=1, owner_id=param("owner_id")).returning(imports.c.import_id))
EDITIONS_OF_IMPORTS = sql(
    select(imports.c.import_id, imports.c.version, imports.c.created_at, imports.c.owner_id).where(
        imports.c.import_id == any_(param("import_ids", ARRAY(BigInteger)))
    )
)
CITIZENS_OF_IMPORT = sql(select(*_SHOWN_COLUMNS).where(citizens.c.import_id == _IMPORT).order_by(citizens.c.citizen_id))
TIES_OF_IMPORT = sql(
    select(ties.c.low_id, ties.c.high_id).where(ties.c.import_id == _IMPORT).order_by(ties.c.low_id, ties.c.high_id)
)
# An update that changes nothing waits for whoever came first with the key, and returns what stands there.
FIRST_OF_KEY = sql(
    postgresql.insert(idempotent_imports)
    .values(key=param("key"), body_sha256=param("body_sha256"), import_id=param("import_id"))
    .on_conflict_do_update(index_elements=["key"], set_={"key": idempotent_imports.c.key})
    .returning(idempotent_imports.c.import_id, idempotent_imports.c.body_sha256)
)
# Those that somebody else is just forgetting are left to him: nobody waits here, so nobody can wait in a circle.
FORGOTTEN_KEYS = sql(
    delete(idempotent_imports).where(
        idempotent_imports.c.key.in_(
            select(idempotent_imports.c.key)
            .where(idempotent_imports.c.created_at < func.now() - param("kept", Interval))
            .with_for_update(skip_locked=True)
        )
    )
)
REMOVED_IMPORT = sql(delete(imports).where(imports.c.import_id == _IMPORT))

# Versions go back with a backup. From here on they count from the microsecond of the restore, which is more than any
# import has changes, so that none comes that had been handed out.
_MICROSECONDS = cast(extract("epoch", func.clock_timestamp()) * literal_column("1000000"), BigInteger)
RENEWALS = [sql(update(imports).values(version=func.greatest(imports.c.version + literal_column("1"), _MICROSECONDS)))]

_CITIZEN = param("citizen_id")
_CITIZEN_IDS = param("citizen_ids", ARRAY(BigInteger))
_ENDED_IDS = param("ended_ids", ARRAY(BigInteger))

# As `Who.by` names whom an import belongs to; null where it is nobody's.
_OWNER = literal_column("'user:'", Text) + cast(imports.c.owner_id, Text)
_THIS_CITIZEN = and_(citizens.c.import_id == _IMPORT, citizens.c.citizen_id == _CITIZEN)
_CHANGED = {each: func.coalesce(param(each.name, each.type), each) for each in _FIELDS}


def _relatives_of(import_id: ColumnElement[int], citizen_id: ColumnElement[int]) -> CompoundSelect[int]:
    """Selects the ids of a citizen's relatives, ascending. Each end is looked up by itself, so by its own index."""
    as_low = select(ties.c.high_id.label("relative_id")).where(
        ties.c.import_id == import_id, ties.c.low_id == citizen_id
    )
    as_high = select(ties.c.low_id).where(
        ties.c.import_id == import_id, ties.c.high_id == citizen_id, ties.c.low_id < citizen_id
    )
    both = union_all(as_low.correlate_except(ties), as_high.correlate_except(ties))
    return both.order_by("relative_id")


_RELATIVES = _relatives_of(_IMPORT, _CITIZEN)
RELATIVES_OF_CITIZEN = sql(_RELATIVES)
# Taking the row of the import makes changes to its citizens serial, and gives the new version. It is taken before the
# citizen's, for that needs its columns; and not at all where there is no such citizen.
_TAKEN = (
    update(imports)
    .where(imports.c.import_id == _IMPORT, select(citizens.c.citizen_id).where(_THIS_CITIZEN).exists())
    .values(version=imports.c.version + 1)
    .returning(
        imports.c.import_id,
        imports.c.version,
        imports.c.created_at,
        _OWNER.label("owner"),
        telling("citizen.changed", one(import_id=imports.c.import_id, citizen_id=cast(_CITIZEN, BigInteger)), _OWNER),
    )
    .cte("taken")
)
_CORRECTED = (
    update(citizens)
    .where(_THIS_CITIZEN, citizens.c.import_id == _TAKEN.c.import_id)
    .values(_CHANGED)
    .returning(_TAKEN.c.version, _TAKEN.c.created_at, _TAKEN.c.owner, *_SHOWN_COLUMNS)
    .cte("corrected")
)
# The relatives and the version seen are those of the moment when the statement began, before it had to wait.
_SEEN = select(imports.c.version).where(imports.c.import_id == _IMPORT).scalar_subquery()
CORRECTED_CITIZEN = sql(
    select(_CORRECTED, func.array(_RELATIVES.scalar_subquery()), _SEEN.label("seen")).select_from(_CORRECTED)
)
KNOWN_CITIZENS = sql(
    select(citizens.c.citizen_id).where(citizens.c.import_id == _IMPORT, citizens.c.citizen_id == any_(_CITIZEN_IDS))
)
# Each end by itself, as above.
_ENDED_AS_LOW = (
    delete(ties)
    .where(ties.c.import_id == _IMPORT, ties.c.low_id == _CITIZEN, ties.c.high_id == any_(_ENDED_IDS))
    .cte("ended_as_low")
)
_ENDED_AS_HIGH = (
    delete(ties)
    .where(
        ties.c.import_id == _IMPORT,
        ties.c.high_id == _CITIZEN,
        ties.c.low_id == any_(_ENDED_IDS),
        ties.c.low_id < _CITIZEN,
    )
    .cte("ended_as_high")
)
NEW_TIES = sql(
    insert(ties)
    .from_select(
        ["import_id", "low_id", "high_id"],
        select(
            citizens.c.import_id,
            func.least(citizens.c.citizen_id, _CITIZEN),
            func.greatest(citizens.c.citizen_id, _CITIZEN),
        ).where(citizens.c.import_id == _IMPORT, citizens.c.citizen_id == any_(_CITIZEN_IDS)),
    )
    .returning(ties.c.low_id)
    .add_cte(_ENDED_AS_LOW, _ENDED_AS_HIGH)
)

_IMPORT_IDS = param("import_ids", ARRAY(BigInteger))
_ASKED = select(
    func.unnest(
        _IMPORT_IDS,
        _CITIZEN_IDS,
        param("are_last", ARRAY(Boolean)),
        *(param(each.name, ARRAY(each.type)) for each in _FIELDS),
    )
    .table_valued(
        column("import_id", BigInteger),
        column("citizen_id", BigInteger),
        column("is_last", Boolean),
        *(column(each.name, each.type) for each in _FIELDS),
        with_ordinality="place",
        name="asked",
    )
    .render_derived()
).cte("asked")
# Nobody waits here: an import that somebody is changing, or has changed since this statement began, is left out, for
# its relatives would be those of before.
_SEEN_IMPORT = imports.alias("seen")
_FREE = (
    select(imports, _OWNER.label("owner"))
    .where(imports.c.import_id == any_(_IMPORT_IDS))
    .with_for_update(skip_locked=True)
    .cte("free")
)
_TAKEN_IMPORTS = (
    select(_FREE)
    .where(
        _FREE.c.version
        == select(_SEEN_IMPORT.c.version).where(_SEEN_IMPORT.c.import_id == _FREE.c.import_id).scalar_subquery()
    )
    .cte("taken")
)
# By index whatever the statistics say: the planner thinks that hardly anybody passes a comparison with a subquery.
_CHANGED_CITIZENS = (
    update(citizens)
    .where(
        citizens.c.import_id == _ASKED.c.import_id,
        citizens.c.citizen_id == _ASKED.c.citizen_id,
        citizens.c.import_id == _TAKEN_IMPORTS.c.import_id,
        _ASKED.c.is_last,
    )
    .values({field: func.coalesce(_ASKED.c[field.name], field) for field in _FIELDS})
    .returning(citizens, _TAKEN_IMPORTS.c.version, _TAKEN_IMPORTS.c.created_at, _TAKEN_IMPORTS.c.owner)
    .cte("corrected")
)


def _as_corrected(element: Any, **_options: Any) -> ColumnElement[Any] | None:
    """A citizen's column as one correction left it; those of one citizen that go together change the same columns."""
    if getattr(element, "table", None) is not citizens:
        return None
    return func.coalesce(_ASKED.c[element.name], _CHANGED_CITIZENS.c[element.name])


_SHOWN = [
    replacement_traverse(each, {}, _as_corrected).label(f"shown_{place}") for place, each in enumerate(_SHOWN_COLUMNS)
]
_ANSWERED = (
    select(
        _ASKED.c.place,
        _ASKED.c.import_id,
        (
            _CHANGED_CITIZENS.c.version
            + func.row_number().over(partition_by=_ASKED.c.import_id, order_by=_ASKED.c.place)
        ).label("version"),
        _CHANGED_CITIZENS.c.created_at,
        *_SHOWN,
    )
    .where(_ASKED.c.import_id == _CHANGED_CITIZENS.c.import_id, _ASKED.c.citizen_id == _CHANGED_CITIZENS.c.citizen_id)
    .cte("answered")
)
_NEWEST = (
    select(_ANSWERED.c.import_id, func.max(_ANSWERED.c.version).label("version"))
    .group_by(_ANSWERED.c.import_id)
    .subquery("newest")
)
_RAISED = (
    update(imports).where(imports.c.import_id == _NEWEST.c.import_id).values(version=_NEWEST.c.version).cte("raised")
)
# One notice for all of an owner; whoever is corrected twice stands in it once.
_TELLING = (
    select(
        telling(
            "citizen.changed",
            func.json_agg(what(import_id=_CHANGED_CITIZENS.c.import_id, citizen_id=_CHANGED_CITIZENS.c.citizen_id)),
            _CHANGED_CITIZENS.c.owner,
        )
    )
    .group_by(_CHANGED_CITIZENS.c.owner)
    .subquery("telling")
)
_TOLD = select(
    _ANSWERED.c.place,
    _ANSWERED.c.version,
    _ANSWERED.c.created_at,
    *(_ANSWERED.c[each.name] for each in _SHOWN),
    func.array(_relatives_of(_ANSWERED.c.import_id, _ANSWERED.c[_SHOWN[0].name]).scalar_subquery()),
    select(func.count(_TELLING.c.told)).scalar_subquery(),
).add_cte(_RAISED)
CORRECTED_CITIZENS = sql(_TOLD)
CORRECTED_AND_NOTED = sql(_TOLD.add_cte(noting("citizen.changed", _ANSWERED, citizen_id=_SHOWN[0].name).cte("noted")))
HELD_IMPORT = sql(select(imports.c.import_id).where(imports.c.import_id == param("import_id")).with_for_update())

LAST_EDITION = sql(
    delete(imports)
    .where(imports.c.import_id == _IMPORT)
    .returning(
        imports.c.version,
        imports.c.created_at,
        telling("import.removed", one(import_id=imports.c.import_id), _OWNER),
    )
)
REMOVED_TIES = sql(delete(ties).where(ties.c.import_id == _IMPORT))
REMOVED_CITIZENS = sql(delete(citizens).where(citizens.c.import_id == _IMPORT))
HELD_CITIZEN = sql(
    select(
        imports.c.version,
        moment(imports.c.created_at),
        imports.c.owner_id,
        idempotent_imports.c.key,
        func.encode(idempotent_imports.c.body_sha256, literal_column("'hex'")),
        moment(idempotent_imports.c.created_at),
        func.array(_RELATIVES.scalar_subquery()),
        *_SHOWN_COLUMNS,
    )
    .select_from(citizens)
    .join(imports, imports.c.import_id == citizens.c.import_id)
    .outerjoin(idempotent_imports, idempotent_imports.c.import_id == imports.c.import_id)
    .where(_THIS_CITIZEN)
)
# The row of the import first, as whoever changes its citizens: what is removed afterwards is seen as it then stands.
TAKEN_IMPORT = sql(
    update(imports)
    .where(imports.c.import_id == _IMPORT, select(citizens.c.citizen_id).where(_THIS_CITIZEN).exists())
    .values(version=imports.c.version + 1)
    .returning(imports.c.version, imports.c.created_at, _OWNER.label("owner"))
)
# Each end by itself, so by its own index.
_ALL_AS_LOW = (
    delete(ties)
    .where(ties.c.import_id == _IMPORT, ties.c.low_id == _CITIZEN)
    .returning(ties.c.high_id.label("relative_id"))
    .cte("ended_as_low")
)
_ALL_AS_HIGH = (
    delete(ties)
    .where(ties.c.import_id == _IMPORT, ties.c.high_id == _CITIZEN, ties.c.low_id < _CITIZEN)
    .returning(ties.c.low_id.label("relative_id"))
    .cte("ended_as_high")
)
RELATIVES_ENDED = sql(select(_ALL_AS_LOW).union_all(select(_ALL_AS_HIGH)))
REMOVED_CITIZEN = sql(delete(citizens).where(_THIS_CITIZEN).returning(citizens.c.citizen_id))
FORGOTTEN_BODY = sql(
    update(idempotent_imports).where(idempotent_imports.c.import_id == _IMPORT).values(body_sha256=param("body_sha256"))
)
REMOVED_KEY = sql(delete(idempotent_imports).where(idempotent_imports.c.import_id == _IMPORT))

_EDITION = (imports.c.version, imports.c.created_at)

# Rows by the thousand cost more on their way than all that is done with them; arrays cost a tenth. And a statement
# sees one state, so each brings the edition along.
_MONTHS = (
    select(
        func.array_agg(citizens.c.citizen_id).label("citizen_ids"),
        func.array_agg(cast(func.date_part("month", _BIRTH_DATE), Integer)).label("months"),
    )
    .where(citizens.c.import_id == _IMPORT)
    .subquery("months")
)
_TIES = (
    select(func.array_agg(ties.c.low_id).label("low_ids"), func.array_agg(ties.c.high_id).label("high_ids"))
    .where(ties.c.import_id == _IMPORT)
    .subquery("both_ends")
)
BIRTH_MONTHS_AND_TIES = sql(
    select(*_EDITION, *_MONTHS.c, *_TIES.c)
    .select_from(imports.join(_MONTHS, true()).join(_TIES, true()))
    .where(imports.c.import_id == _IMPORT)
)
# Packed, for an array of numbers is read one by one.
_TOWNS = (
    select(citizens.c.town, func.string_agg(func.date_send(citizens.c.birth_date), null()).label("births"))
    .where(citizens.c.import_id == _IMPORT)
    .group_by(citizens.c.town)
    .subquery("towns")
)
BIRTHS_OF_TOWNS = sql(
    select(*_EDITION, *_TOWNS.c).select_from(imports.outerjoin(_TOWNS, true())).where(imports.c.import_id == _IMPORT)
)
