import json
import time
from enum import Enum
from mmap import mmap
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType

from kinfolk.kit import documents
from kinfolk.kit.documents import MalformedJson, examine, parse, read_at_a_glance, read_json, structural_quotes
from kinfolk.kit.problems import InvalidDocument
from kinfolk.kit.shapes import BadPlaces

PATIENTLY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def is_capital(text: str) -> str | None:
    return None if text[:1].isupper() else "must begin with a capital"


class Leaf(Struct, forbid_unknown_fields=True):
    key: Annotated[str, Meta(min_length=1, max_length=5)]
    note: str = "none"


class Tree(Struct, forbid_unknown_fields=True):
    size: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    name: Annotated[str, Meta(max_length=20, extra={"rule": is_capital})]
    leaves: Annotated[list[Leaf], Meta(max_length=3)] = []
    colour: Colour | None = None
    kind: Literal["oak", "elm"] | UnsetType = UNSET
    weights: dict[str, float] = {}
    anything: Any = None


RIGHT: dict[str, Any] = {
    "size": 1,
    "name": "Дуб",
    "leaves": [{"key": "a"}, {"key": 'q"\\', "note": '\\"'}],
    "colour": "red",
    "kind": "oak",
    "weights": {"a": 1, "b/~": 2.5},
    "anything": [{"x": [None, True, 1.5]}],
}


class Refused(InvalidDocument):
    """The tree is wrong."""


def bad_places(body: bytes, shape: Any = Tree) -> dict[str, str]:
    with pytest.raises(Refused) as refusal:
        read_json(body, shape, Refused)
    return {place.pointer: place.detail for place in refusal.value.facts["errors"]}


def outcome(reader: Any, body: bytes) -> Any:
    try:
        return reader(body, Tree, Refused)
    except Refused as refusal:
        return refusal.facts
    except MalformedJson as refusal:
        return refusal.detail


def test_a_right_document_is_read() -> None:
    body = json.dumps(RIGHT).encode()
    tree = read_json(memoryview(body), Tree, Refused)
    assert (tree.size, tree.name, tree.leaves[1].note, tree.colour) == (1, "Дуб", '\\"', Colour.RED)
    assert examine(body, Tree, Refused) == tree


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"size":1,"name":"A","size":1}', "/size"),
        (b'{"size":1,"name":"A","\\u0073ize":1}', "/size"),
        (b'{"size":1,"name":"A","leaves":[{"key":"a","key":"a"}]}', "/leaves/0/key"),
        (b'{"size":1,"name":"A","weights":{"a/~":1,"a/~":1}}', "/weights/a~1~0"),
        (b'{"size":1,"name":"A","anything":[[{"x":{"y":1,"y":2}}]]}', "/anything/0/0/x/y"),
    ],
)
def test_a_key_given_twice_is_named_at_each_level(body: bytes, pointer: str) -> None:
    assert bad_places(body) == {pointer: "is given 2 times in one object"}


def test_defaults_do_not_make_up_for_a_doubled_key() -> None:
    """The value read from it has as many quotation marks as the document: `note` comes for the doubled `key`."""
    assert bad_places(b'{"key":"a","key":"b"}', Leaf) == {"/key": "is given 2 times in one object"}


def test_keys_that_only_look_alike_are_not_doubled() -> None:
    assert read_json(b'{"size":1,"name":"A","weights":{"a":1,"A":2,"a\\"":3,"\\"a":4}}', Tree).weights["A"] == 2


def test_nul_is_named_and_what_only_looks_like_it_is_taken() -> None:
    assert set(bad_places(b'{"size":1,"name":"A\\u0000","anything":["\\u0000"],"weights":{"\\u0000":1}}')) == {
        "/name",
        "/anything/0",
        "/weights/\ufffd",
    }
    assert read_json(b'{"size":1,"name":"A\\\\u0000"}', Tree).name == "A\\u0000"


def test_half_a_surrogate_pair_is_named_and_a_whole_one_taken() -> None:
    wrong = bad_places(b'{"size":1,"name":"A\\ud83d","anything":{"\\udc00\\ud800":1},"\\ud800":1}')
    assert set(wrong) == {"/name", "/anything/\ufffd\ufffd", "/\ufffd"}
    json.dumps(wrong).encode()
    assert read_json(b'{"size":1,"name":"A\\ud83d\\ude00"}', Tree).name == "A😀"


@pytest.mark.parametrize("number", ["-1", str(2**63), "1" + "0" * 400, "1" + "0" * 5_000, "-1" + "0" * 5_000])
def test_integers_out_of_range(number: str) -> None:
    (detail,) = bad_places(b'{"size":%b,"name":"A"}' % number.encode()).values()
    assert detail == ("must be at least 0" if number.startswith("-") else f"must be at most {2**63 - 1}")


def test_the_largest_integer_and_a_long_one_in_range() -> None:
    assert read_json(b'{"size":9223372036854775807,"name":"A"}', Tree).size == 2**63 - 1
    assert parse(b"[%b, -7]" % (b"1" + b"0" * 5_000))[1] == -7


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_named_where_it_stands(constant: str) -> None:
    body = f'{{"size":{constant},"name":"A","weights":{{"a":{constant}}},"anything":[{constant}]}}'.encode()
    assert bad_places(body) == {
        "/size": f"must be an integer, not {constant}",
        "/weights/a": f"must be a number, not {constant}",
        "/anything/0": f"{constant} is not JSON",
    }


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "The document is empty."),
        (b" \n", "The document is empty."),
        (b'\xef\xbb\xbf{"size":1}', "The document begins with a byte order mark; send UTF-8 without one."),
        ('{"size":1}'.encode("utf-16"), "The document looks like UTF-16 or UTF-32; send UTF-8."),
        ('{"size":1}'.encode("utf-16-le"), "The document looks like UTF-16 or UTF-32; send UTF-8."),
        ('{"size":1}'.encode("utf-32-be"), "The document looks like UTF-16 or UTF-32; send UTF-8."),
        (b'{"name":"\xff"}', "Byte 9 is not UTF-8."),
        (b'{"name":"\xed\xa0\x80"}', "Byte 9 is not UTF-8."),
        (b'{"size":1,\n "name":"A"', "Expecting ',' delimiter at line 2, column 12."),
        (b'{"size":1,"name":"A', "Unterminated string starting at line 1, column 18."),
        (b'{"size":1,"name":"A"} x', "Extra data at line 1, column 23."),
        (b'{"size":1,"name":"A\x00"}', "Invalid control character at line 1, column 20."),
        (b"[" * 1_000_000, "The document is nested too deeply."),
        (b'{"anything":' + b'{"a":' * 100_000, "The document is nested too deeply."),
        (b"multipart", "Expecting value at line 1, column 1."),
    ],
)
def test_what_is_not_json_says_where(body: bytes, detail: str) -> None:
    with pytest.raises(MalformedJson) as refusal:
        read_json(body, Tree, Refused)
    assert refusal.value.detail == detail


def test_beyond_adds_to_what_the_shape_says_on_both_ways() -> None:
    def odd_only(document: Any, places: BadPlaces) -> None:
        if document["size"] % 2 == 0:
            places.add(["size"], "must be odd")

    assert read_json(b'{"size":1,"name":"A"}', Tree, Refused, odd_only).size == 1
    for name in (b'"A"', b'"\\u0000"'):
        with pytest.raises(Refused) as refusal:
            read_json(b'{"size":2,"name":%b}' % name, Tree, Refused, odd_only)
        assert refusal.value.facts["errors"][-1].detail == "must be odd"
    assert examine(b'{"size":1,"name":"A"}', Tree, Refused, odd_only).size == 1


def test_a_glance_proves_or_leaves_open() -> None:
    def quotes(leaf: Leaf) -> int:
        return 4 if leaf.note == "none" else 8

    assert read_at_a_glance(b'{"key":"\\"a"}', Leaf, quotes) == Leaf('"a')
    assert read_at_a_glance(b'{"key":"a","key":"a"}', Leaf, quotes) is None
    assert read_at_a_glance(b'{"key":"\\u0000"}', Leaf, quotes) is None
    assert read_at_a_glance(b'{"key":""}', Leaf, quotes) is None


def test_a_shape_without_rules_is_read_at_once() -> None:
    assert read_json(b'{"key":"a"}', Leaf) == Leaf("a")


class Even(Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("must be even")


def test_what_only_msgspec_knows_is_told_in_its_words() -> None:
    assert read_json(b'{"evens":[{"number":2}]}', dict[str, list[Even]])["evens"][0].number == 2
    assert bad_places(b'[{"number":3}]', list[Even]) == {"/0": "must be even"}


def test_a_document_of_too_many_values_is_told_its_first_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"size":"1","name":1}'
    assert set(bad_places(body)) == {"/size", "/name"}
    monkeypatch.setattr(documents, "MOST_VALUES_EXAMINED", 10)
    assert bad_places(body) == {"/size": "Expected `int`, got `str`"}
    with pytest.raises(MalformedJson, match="truncated"):
        read_json(b'{"size":1,', Tree, Refused)
    assert set(bad_places(b'{"size":1,"name":"A","name":"A"}')) == {"/name"}


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b'{"size":1,"name":"A",%b}' % b",".join(b'"%d":1' % n for n in range(100_000)), 100_000),
        (b'{"size":1,"name":"A","weights":{%b}}' % b",".join(b'"%d":1,"%d":1' % (n, n) for n in range(50_000)), 50_000),
        (b'{"size":1,"name":"A",%b}' % b",".join([b'"size":1'] * 100_000), 1),
        (b'{"size":1,"name":"A","leaves":[%b]}' % b",".join([b"{}"] * 100_000), 4),
        (b'{"size":1,"name":"%b"}' % (b"A" * 10_000_000), 1),
        (b'{"size":1,"name":"A","%b":1}' % (b"A" * 10_000_000), 1),
    ],
)
def test_hostile_documents_cost_time_and_memory_in_proportion(body: bytes, count: int) -> None:
    start = time.process_time()
    with pytest.raises(Refused) as refusal:
        read_json(body, Tree, Refused)
    assert time.process_time() - start < 20
    assert refusal.value.facts["error_count"] == count
    assert len(msgspec.json.encode(refusal.value.facts)) < 150_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)


@PATIENTLY
@given(st.dictionaries(st.sampled_from([*sorted(RIGHT), "other"]), JSON, max_size=3), st.booleans())
def test_both_ways_agree_on_documents_with_wrong_members(wrong: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps(RIGHT | wrong, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert outcome(read_json, body) == outcome(examine, body)


@PATIENTLY
@given(st.data())
def test_both_ways_agree_on_mutated_bytes(data: st.DataObject) -> None:
    body = bytearray(json.dumps(RIGHT).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"\\u0000", b"0", b"1e9", b"}", b"[", b",", b":", b"\xff", b"null"])
        )
    assert outcome(read_json, bytes(body)) == outcome(examine, bytes(body))


@pytest.mark.parametrize("text", ["", '"', "\\", '\\"', '"\\', '\\\\"', '""\\\\\\', "\\u0022"])
def test_escapes_are_no_structural_quotes(text: str) -> None:
    assert structural_quotes(json.dumps([text, {text: text}]).encode()) == 6


@PATIENTLY
@given(JSON)
def test_structural_quotes_are_two_a_string(document: Any) -> None:
    def strings(value: Any) -> int:
        match value:
            case str():
                return 1
            case list():
                return sum(map(strings, value))
            case dict():
                return sum(1 + strings(inner) for inner in value.values())
        return 0

    assert structural_quotes(json.dumps(document).encode()) == 2 * strings(document)


@PATIENTLY
@given(JSON, JSON, st.text(max_size=3))
def test_a_doubled_key_never_passes(one: Any, other: Any, key: str) -> None:
    twice = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for value in (one, other))
    with pytest.raises(InvalidDocument):
        read_json(f"[{{{twice}}}]".encode("utf-8", "surrogatepass"), list[Any])


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 1_000])
@given(texts=st.lists(st.text(alphabet='\\"ж\n', max_size=9)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_quotes_are_counted_piece_by_piece(monkeypatch: pytest.MonkeyPatch, piece_bytes: int, texts: list[str]) -> None:
    """Also in a mapped file, and whatever is cut in two."""
    monkeypatch.setattr("kinfolk.kit.documents.PIECE_BYTES", piece_bytes)
    body = msgspec.json.encode(texts)
    assert structural_quotes(body) == 2 * len(texts)
    with mmap(-1, len(body)) as mapped:
        mapped[:] = body
        assert structural_quotes(mapped) == 2 * len(texts)
        assert read_at_a_glance(mapped, list[str], lambda found: 2 * len(found)) == texts
