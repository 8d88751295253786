"""JSON documents, read strictly: what is right at full speed, what is wrong with every bad place named.

A shape is a msgspec type. Beyond what msgspec checks, a document is wrong if an object gives a key twice, if a string
holds what PostgreSQL cannot store (NUL, a lone surrogate), or if a rule of the shape says so: a rule is a function in
`Meta(extra={"rule": …})` that takes the JSON value, right in type and length, and returns None or a sentence.

    read_json          a look at msgspec's speed; what it cannot prove to be right is examined
    read_flat          names and values that are all text, such as a query
    read_at_a_glance   the look alone, for whoever has rules of its own to check at speed
    examine            the slow way: the whole document walked, every bad place reported
    walk               a parsed document compared with a shape (`kit/shapes.py`)

Pointers are those of RFC 6901. A missing field, an unknown one and a doubled one are named by their own pointer.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from mmap import mmap
from typing import Any, NoReturn, TypeVar

import msgspec
import msgspec.structs

from kinfolk.kit.problems import BadInput, BadPlace, InvalidDocument
from kinfolk.kit.shapes import BadPlaces, Doubled, NotJson, json_types, keeps_rules, pointer, type_of, walk

T = TypeVar("T")
Beyond = Callable[[Any, BadPlaces], None]
"""Adds the bad places that a shape cannot express; it is given the parsed document, right or wrong."""

FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,99})")
MOST_VALUES_EXAMINED = 12_000_000
"""Python's form of a document takes up to thirty times its bytes. Past this many values (a list or an object counts as
ten) a wrong document is told its first fault only; the largest right register, 10,000 citizens with 1,000 relatives
each, stays below it."""


PIECE_BYTES = 4_194_304


class MalformedJson(BadInput):
    """The body is not JSON."""


def read_json(
    body: bytes | memoryview,
    shape: type[T],
    problem: type[InvalidDocument] = InvalidDocument,
    beyond: Beyond | None = None,
) -> T:
    """The document in its shape. Raises `MalformedJson`, or `problem` with every bad place."""
    body = bytes(body)
    try:
        value: T = decoded(body, shape)
        plain = msgspec.json.decode(body)
    except FAULTS:
        return examine(body, shape, problem, beyond)
    if may_hold_nul(body) or structural_quotes(body) != structural_quotes(msgspec.json.encode(plain)):
        return examine(body, shape, problem, beyond)
    if beyond or not keeps_rules(plain, shape):
        places = BadPlaces()
        walk(plain, shape, places)
        if beyond:
            beyond(plain, places)
        places.raise_if_any(problem)
    return value


def read_at_a_glance(body: bytes | mmap, shape: type[T], fewest_quotes: Callable[[T], int]) -> T | None:
    """The document, if one look proves that msgspec's checks hold, no key is doubled and no NUL is in it; else None.

    None is no verdict: `examine` the document then. `fewest_quotes` says how many quotation marks the shortest
    document with this value has; each doubled key brings two more. Rules of the shape are left to the caller.
    """
    try:
        value: T = decoded(body, shape)
    except FAULTS:
        return None
    return None if may_hold_nul(body) or structural_quotes(body) != fewest_quotes(value) else value


def examine(
    body: bytes | mmap, shape: type[T], problem: type[InvalidDocument] = InvalidDocument, beyond: Beyond | None = None
) -> T:
    """As `read_json`, the slow way: takes time and memory linear in the document, whatever it holds."""
    body = bytes(body)
    fault = first_fault(body, shape)
    if fault and 10 * (body.count(b"{") + body.count(b"[")) + body.count(b",") > MOST_VALUES_EXAMINED:
        refuse_for(fault, problem)
    places = BadPlaces()
    try:
        document = parse(body)
        walk(document, shape, places)
        if beyond:
            beyond(document, places)
    except RecursionError:
        raise MalformedJson("The document is nested too deeply.") from None
    places.raise_if_any(problem)
    if fault:
        refuse_for(fault, problem)
    value: T = decoded(body, shape)
    return value


def parse(body: bytes) -> Any:
    """Python's form of the document: an object with doubled keys becomes a `Doubled`, NaN and its like a `NotJson`.

    Integers of more than 4,300 digits lose their value, not their size. Raises `MalformedJson`, `RecursionError`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedJson(other_encoding(body) or f"Byte {error.start} is not UTF-8.") from None
    if not text or text.isspace():
        raise MalformedJson("The document is empty.")
    if encoding := other_encoding(body):
        raise MalformedJson(encoding)
    try:
        return SCANNER.decode(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        raise MalformedJson(f"{what} at line {error.lineno}, column {error.colno}.") from None
    except ValueError:  # an integer longer than Python turns into one
        return SCANNER_OF_LONG_INTEGERS.decode(text)


def structural_quotes(body: bytes | mmap) -> int:
    """How many quotation marks of a right JSON document open or close a string."""
    is_escaped = body.find(b"\\") >= 0
    count = begin = 0
    while begin < len(body):  # a piece at a time, for what is taken out of it leaves a copy
        end = begin + PIECE_BYTES
        while body[end - 1 : end] == b"\\":  # no piece ends within an escape
            end += 1
        piece = body[begin:end]
        if is_escaped:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        count += piece.count(b'"')
        begin = end
    return count


def may_hold_nul(body: bytes | mmap) -> bool:
    return body.find(rb"\u0000") >= 0


def read_flat(pairs: Sequence[tuple[str, str]], shape: type[T], problem: type[InvalidDocument]) -> T:
    """Names and values that are all written as text, as those of a query; raises `problem` with every bad place."""
    integers = integer_fields(shape)  # type: ignore[arg-type]  # to mypy no type is Hashable
    document = read_object(
        [(name, int(text) if name in integers and INTEGER.fullmatch(text) else text) for name, text in pairs]
    )
    places = BadPlaces()
    walk(document, shape, places)
    places.raise_if_any(problem)
    return msgspec.convert(document, shape)


@cache
def integer_fields(shape: type[Any]) -> set[str]:
    """Those that are whole numbers, and nothing else where they are there."""
    kinds = {field.encode_name: set(json_types(type_of(field.type))) for field in msgspec.structs.fields(shape)}
    return {name for name, types in kinds.items() if types - {type(None)} == {int}}


@cache
def decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def decoded(body: bytes | mmap, shape: Any) -> Any:
    return decoder(shape).decode(body)


def first_fault(body: bytes, shape: Any) -> Exception | None:
    """What msgspec says against the document."""
    try:
        decoded(body, shape)
    except FAULTS as fault:
        return fault
    return None


def refuse_for(fault: Exception, problem: type[InvalidDocument]) -> NoReturn:
    """Refuse with what msgspec found, where the document was not walked or the walk found nothing."""
    if not isinstance(fault, msgspec.ValidationError):
        raise MalformedJson(f"{fault}.") from None
    sentence, _, path = str(fault).partition(" - at `$")
    raise problem([BadPlace(pointer(re.findall(r"[^.\[\]`]+", path)), sentence)]) from None


def other_encoding(body: bytes) -> str | None:
    if body.startswith(b"\xef\xbb\xbf"):
        return "The document begins with a byte order mark; send UTF-8 without one."
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:4]:
        return "The document looks like UTF-16 or UTF-32; send UTF-8."
    return None


def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    times = Counter(name for name, _ in pairs)
    return Doubled(members, {name: count for name, count in times.items() if count > 1})


def read_long_integer(digits: str) -> int:
    return int(digits) if len(digits) < 4_300 else (-1 if digits[0] == "-" else 1) * 10**4_299


SCANNER = json.JSONDecoder(object_pairs_hook=read_object, parse_constant=NotJson)
SCANNER_OF_LONG_INTEGERS = json.JSONDecoder(
    object_pairs_hook=read_object, parse_constant=NotJson, parse_int=read_long_integer
)
