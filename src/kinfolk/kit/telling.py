"""Events told by the statement that changes something, which then needs no round trip for it."""

from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func, literal_column

from kinfolk.kit.db import EVENTS_CHANNEL

_MOMENT = literal_column("""to_char(clock_timestamp(), 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"')""", Text)


def telling(name: str | ColumnElement[str], whats: ColumnElement[Any], owner: ColumnElement[Any]) -> ColumnElement[str]:
    """`events.tell` as a column of a statement; `whats` is an array in JSON."""
    named = _word(name) if isinstance(name, str) else name
    notice = [_word("name"), named, _word("when"), _MOMENT, _word("whats"), whats, _word("owner"), owner]
    return cast(func.pg_notify(_word(EVENTS_CHANNEL), cast(func.json_build_object(*notice), Text)), Text).label("told")


def what(**ids: ColumnElement[Any]) -> ColumnElement[Any]:
    """One of `whats`."""
    return func.json_build_object(*(part for name, value in ids.items() for part in (_word(name), value)))


def one(**ids: ColumnElement[Any]) -> ColumnElement[Any]:
    """`whats`, where there is one."""
    return func.json_build_array(what(**ids))


def _word(text: str) -> ColumnElement[str]:
    """In the text of the statement, for a parameter costs something with each call."""
    return literal_column(f"'{text}'", Text)
