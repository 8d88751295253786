"""A parsed JSON document compared with a msgspec shape: every bad place, in the order of the shape."""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from math import isinf
from typing import Any, TypeAlias, cast
from uuid import UUID

import msgspec
from msgspec import inspect

from kinfolk.kit.problems import MOST_ERRORS_SHOWN, BadPlace, InvalidDocument

Path = list[str | int]
Check = Callable[[Any, Any, Path, "BadPlaces"], None]
Keeps: TypeAlias = Callable[[Any], bool]

LONGEST_NAME_SHOWN = 64
ABSENT = object()
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Doubled(dict[str, Any]):
    """An object that gives keys more than once: the last values, and how many times each such key came."""

    def __init__(self, members: dict[str, Any], times: dict[str, int]) -> None:
        super().__init__(members)
        self.times = times


class NotJson(str):
    """NaN, Infinity or -Infinity, standing where a value should be."""

    __slots__ = ()


class BadPlaces:
    """What is wrong with a document: every place counted, the first thousand kept."""

    def __init__(self) -> None:
        self.kept: list[BadPlace] = []
        self.count = 0

    def add(self, path: Sequence[str | int], sentence: str) -> None:
        self.count += 1
        if len(self.kept) < MOST_ERRORS_SHOWN:
            self.kept.append(BadPlace(pointer(path), sentence))

    def raise_if_any(self, problem: type[InvalidDocument]) -> None:
        if self.count:
            raise problem(self.kept, self.count)


def pointer(path: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901). Names that a client made up are shortened and made storable."""
    return "".join("/" + presentable(str(token)).replace("~", "~0").replace("/", "~1") for token in path)


def presentable(name: str) -> str:
    short = name if len(name) <= LONGEST_NAME_SHOWN else name[:LONGEST_NAME_SHOWN] + "…"
    return UNSTORABLE.sub("\ufffd", short)


def walk(document: Any, shape: Any, places: BadPlaces) -> None:
    """Add every place where the document, as `parse` gives it, breaks the shape.

    A list longer than its `max_length` is one bad place, and its surplus is not looked at. Types that JSON writes as
    strings (dates, UUIDs) are judged by msgspec; what the walk does not know (custom types, tagged unions) it trusts.
    """
    check(document, type_of(shape), [], places)


@cache
def type_of(shape: Any) -> inspect.Type:
    return inspect.type_info(shape)


def keeps_rules(document: Any, shape: Any) -> bool:
    """Whether a document that msgspec has found right keeps the rules beyond it; where not, `walk` says what is wrong.

    It takes a fraction of the time, since it looks at nothing that no rule is for. False may mean that it cannot tell.
    """
    keeps = _keeper_of(shape)
    return keeps is None or keeps(document)


@cache
def _keeper_of(shape: Any) -> Keeps | None:
    return _keeper(type_of(shape), ())


def _keeper(info: Any, within: tuple[Any, ...]) -> Keeps | None:
    """None where there is no rule to keep. A shape that holds itself is left to `walk`, as is what is rare."""
    if not _holds_rule(info, set()):
        return None
    inside = (*within, info)
    match info:
        case _ if any(info is outer for outer in within):
            pass
        case inspect.Metadata(type=inner):
            keeps, rule = _keeper(inner, inside), (info.extra or {}).get("rule")
            return keeps if rule is None else lambda value: (keeps is None or keeps(value)) and rule(value) is None
        case inspect.StructType(fields=fields):
            keepers = [(field.encode_name, keeps) for field in fields if (keeps := _keeper(field.type, inside))]
            return lambda value: all(name not in value or keeps(value[name]) for name, keeps in keepers)
        case inspect.ListType(item_type=item) if keeps_item := _keeper(item, inside):
            return lambda value: all(map(keeps_item, value))
        case inspect.UnionType(types=members):
            of_types = {kind: _keeper(member, inside) for member in members for kind in json_types(member)}
            most = sum(len(json_types(member)) for member in members)
            if len(of_types) == most:  # pragma: no branch  # whether a shape has two members of one type is chance
                return lambda value: (keeps := of_types.get(type(value))) is None or keeps(value)
    return _only_walk_can_tell


def _only_walk_can_tell(_: Any) -> bool:
    return False


def _holds_rule(part: Any, seen: set[int]) -> bool:
    if isinstance(part, tuple):
        return any(_holds_rule(each, seen) for each in part)
    if not isinstance(part, inspect.Type | inspect.Field) or id(part) in seen:
        return False
    seen.add(id(part))
    if isinstance(part, inspect.Metadata) and "rule" in (part.extra or {}):
        return True
    return any(_holds_rule(getattr(part, name), seen) for name in part.__struct_fields__)


def check(value: Any, info: Any, path: Path, places: BadPlaces) -> None:
    kind = type(info)
    if kind is inspect.Metadata:
        check_rule(value, info, path, places)
    elif type(value) in (welcome := json_types(info)):
        if look := CHECKS.get(kind):
            look(value, info, path, places)
    elif welcome:
        nouns = dict.fromkeys(NOUNS[each] for each in welcome if each is not int or float not in welcome)
        places.add(path, f"must be {' or '.join(nouns)}, not {GIVEN.get(type(value), value)}")


def json_types(info: Any) -> tuple[type, ...]:
    """The Python types of the JSON values that may stand here; none if that is not known."""
    match info:
        case inspect.Metadata():
            return json_types(info.type)
        case inspect.UnionType():
            each = [json_types(member) for member in info.types]
            return tuple(dict.fromkeys(sum(each, ()))) if all(each) else ()
        case inspect.LiteralType() | inspect.EnumType():
            return tuple(dict.fromkeys(map(type, allowed_values(info))))
        case inspect.StructType(array_like=True):
            return ()
        case _:
            return JSON_TYPES.get(type(info), ())


def check_rule(value: Any, info: inspect.Metadata, path: Path, places: BadPlaces) -> None:
    before = places.count
    check(value, info.type, path, places)
    rule = (info.extra or {}).get("rule")
    if rule and places.count == before and (sentence := rule(value)):
        places.add(path, sentence)


def check_string(value: str, info: inspect.StrType, path: Path, places: BadPlaces) -> None:
    if UNSTORABLE.search(value):
        places.add(path, UNSTORABLE_SENTENCE)
    elif sentence := wrong_length(value, info, "character"):
        places.add(path, sentence)
    elif info.pattern is not None and not re.search(info.pattern, value):
        places.add(path, f"must match the pattern {info.pattern}")


def check_number(value: float, info: inspect.IntType | inspect.FloatType, path: Path, places: BadPlaces) -> None:
    if sentence := out_of_bounds(value, info):
        places.add(path, sentence)


def check_list(value: list[Any], info: inspect.ListType, path: Path, places: BadPlaces) -> None:
    if sentence := wrong_length(value, info, "item"):
        places.add(path, sentence)
    judged = value[: info.max_length]
    if isinstance(info.item_type, inspect.IntType) and are_right_integers(judged, info.item_type):
        return
    for position, item in enumerate(judged):
        path.append(position)
        check(item, info.item_type, path, places)
        path.pop()


def check_dict(value: dict[str, Any], info: inspect.DictType, path: Path, places: BadPlaces) -> None:
    check_doubled(value, path, places)
    if sentence := wrong_length(value, info, "member"):
        places.add(path, sentence)
    for name, item in value.items():
        path.append(name)
        if str in json_types(info.key_type):
            check(name, info.key_type, path, places)
        check(item, info.value_type, path, places)
        path.pop()


def check_struct(value: dict[str, Any], info: inspect.StructType, path: Path, places: BadPlaces) -> None:
    check_doubled(value, path, places)
    unknown = dict.fromkeys(value)
    unknown.pop(cast("str", info.tag_field), None)
    for field in info.fields:
        unknown.pop(field.encode_name, None)
        item = value.get(field.encode_name, ABSENT)
        path.append(field.encode_name)
        if item is not ABSENT:
            check(item, field.type, path, places)
        elif field.required:
            places.add(path, "is missing")
        path.pop()
    if info.forbid_unknown_fields:
        for name in unknown:
            places.add([*path, name], "is not a known field")


def check_doubled(value: dict[str, Any], path: Path, places: BadPlaces) -> None:
    if isinstance(value, Doubled):
        for name, times in value.times.items():
            places.add([*path, name], f"is given {times} times in one object")


def check_choice(value: Any, info: inspect.LiteralType | inspect.EnumType, path: Path, places: BadPlaces) -> None:
    choices = allowed_values(info)
    if not any(type(choice) is type(value) and choice == value for choice in choices):
        places.add(path, "must be one of " + ", ".join(msgspec.json.encode(choice).decode() for choice in choices))


def check_union(value: Any, info: inspect.UnionType, path: Path, places: BadPlaces) -> None:
    """Of the members that take this type of JSON value one must fit; else the complaints of the first stand."""
    members = [member for member in info.types if type(value) in json_types(member)]
    if len(members) > 1:
        attempts = [BadPlaces() for _ in members]
        for member, attempt in zip(members, attempts, strict=True):
            check(value, member, path, attempt)
        if not all(attempt.count for attempt in attempts):
            return
    check(value, members[0], path, places)


def check_anything(value: Any, _: inspect.AnyType, path: Path, places: BadPlaces) -> None:
    match value:
        case NotJson():
            places.add(path, f"{value} is not JSON")
        case str():
            check_string(value, ANY_STRING, path, places)
        case list():
            check_list(value, ANY_LIST, path, places)
        case dict():
            check_dict(value, ANY_DICT, path, places)
        case float():
            check_number(value, ANY_FLOAT, path, places)


def check_written(value: str, info: Any, path: Path, places: BadPlaces) -> None:
    """A value that JSON writes as a string: msgspec has read it once, and says what it has against it."""
    try:
        msgspec.convert(value, WRITTEN[type(info)])
    except msgspec.ValidationError as fault:
        places.add(path, str(fault))


def allowed_values(info: inspect.LiteralType | inspect.EnumType) -> list[Any]:
    return list(info.values) if isinstance(info, inspect.LiteralType) else [member.value for member in info.cls]


def wrong_length(value: Any, info: Any, of_what: str) -> str | None:
    size = len(value)
    if info.max_length is not None and size > info.max_length:
        return f"may have at most {plural(info.max_length, of_what)}, and has {size}"
    if info.min_length is not None and size < info.min_length:
        return f"must have at least {plural(info.min_length, of_what)}" + (f", and has {size}" if size else "")
    return None


def plural(count: int, of_what: str) -> str:
    return f"{count} {of_what}" + ("" if count == 1 else "s")


def out_of_bounds(value: float, info: inspect.IntType | inspect.FloatType) -> str | None:
    if isinstance(info, inspect.FloatType) and (abs(value) >= 2**1024 if isinstance(value, int) else isinf(value)):
        return "is larger than a number may be"
    for name, is_broken, words in BOUNDS:
        bound = getattr(info, name)
        if bound is not None and is_broken(value, bound):
            return f"must be {words} {bound}"
    return None


def are_right_integers(items: list[Any], info: inspect.IntType) -> bool:
    """The common case, a list of ten million relatives, without a call for each."""
    if info.multiple_of is not None or set(map(type, items)) != {int}:
        return False
    return not out_of_bounds(min(items), info) and not out_of_bounds(max(items), info)


UNSTORABLE_SENTENCE = "holds a NUL or half a surrogate pair, which cannot be stored"
ANY_STRING, ANY_FLOAT = inspect.StrType(), inspect.FloatType()
ANY_LIST = inspect.ListType(inspect.AnyType())
ANY_DICT = inspect.DictType(ANY_STRING, inspect.AnyType())
BOUNDS: tuple[tuple[str, Callable[[Any, Any], Any], str], ...] = (
    ("ge", operator.lt, "at least"),
    ("gt", operator.le, "more than"),
    ("le", operator.gt, "at most"),
    ("lt", operator.ge, "less than"),
    ("multiple_of", operator.mod, "a multiple of"),
)
NOUNS: dict[type, str] = {
    dict: "an object",
    Doubled: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}
GIVEN = NOUNS | {float: "a number with a fraction or an exponent"}
WRITTEN: dict[type, Any] = {
    inspect.DateType: date,
    inspect.TimeType: time,
    inspect.DateTimeType: datetime,
    inspect.UUIDType: UUID,
    inspect.DecimalType: Decimal,
}
LISTS = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)
JSON_TYPES: dict[type, tuple[type, ...]] = {
    inspect.AnyType: (*NOUNS, NotJson),
    inspect.StrType: (str,),
    inspect.IntType: (int,),
    inspect.FloatType: (float, int),
    inspect.BoolType: (bool,),
    inspect.NoneType: (type(None),),
    inspect.DictType: (dict, Doubled),
    inspect.StructType: (dict, Doubled),
    **dict.fromkeys(LISTS, (list,)),
    **dict.fromkeys(WRITTEN, (str,)),
    inspect.DecimalType: (str, int, float),
}
CHECKS: dict[type, Check] = {
    inspect.AnyType: check_anything,
    inspect.StrType: check_string,
    inspect.IntType: check_number,
    inspect.FloatType: check_number,
    inspect.DictType: check_dict,
    inspect.StructType: check_struct,
    inspect.LiteralType: check_choice,
    inspect.EnumType: check_choice,
    inspect.UnionType: check_union,
    **dict.fromkeys(LISTS, check_list),
    **dict.fromkeys(WRITTEN, check_written),
}
