"""Whatever is sent to the service: that client is told the reason (or served), and all others go on being served."""

import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen
from tests.running import Service
from tests.wire import Wire, request

LONGEST_WAIT_SECONDS = 2.0
"""Of anybody else, beyond what the machine itself, busy with other work, makes one wait: that shows in what one waits
at a service in peace, and in how long the hostile one is at work."""
MEGABYTE = 1_000_000


class Hostile(NamedTuple):
    name: str
    status: int
    kind: str | None
    body: Callable[[], bytes]
    headers: dict[str, str] = {}  # noqa: RUF012  # nobody changes it
    pointer: str | None = None


def register(*citizens: dict[str, Any]) -> str:
    return json.dumps({"citizens": citizens}, ensure_ascii=False)


def changed(old: str, new: str) -> Callable[[], bytes]:
    """A right register of one citizen, but for one place."""
    right = register(a_citizen(1))
    assert right.count(old) == 1
    return lambda: right.replace(old, new).encode("utf-8", "surrogatepass")


def bomb(pieces: int) -> Callable[[], bytes]:
    """About 100 kB for each 100 MB that they unpack to."""

    def make() -> bytes:
        packing = zlib.compressobj(9, wbits=31)
        zeros = b" " * (100 * MEGABYTE)
        first, again = (packing.compress(zeros) + packing.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
        return first + again * (pieces - 1)

    return make


def the_worst_that_is_right() -> bytes:
    """10,000 citizens in about 63 MB."""
    long, escaped = "𐐀" * 256, "\\ud801\\udc00" * 256
    citizen = json.dumps(a_citizen(0, town=long, street=long, building=long, name="NAME"), ensure_ascii=False)
    start, end = citizen.replace("NAME", escaped).split('"citizen_id": 0')
    citizens = ",".join(f'{start}"citizen_id": {number}{end}' for number in range(10_000))
    return f'{{"citizens":[{citizens}]}}'.encode()


GZIP = {"content-encoding": "gzip"}
NAME = '"name": "Иванов Иван Иванович"'
INVALID, MALFORMED, LARGE = "invalid-citizens", "malformed-json", "body-too-large"
TABLE = [
    Hostile("nothing", 400, MALFORMED, lambda: b""),
    Hostile("white space", 400, MALFORMED, lambda: b" \n"),
    Hostile("NUL in a string", 400, INVALID, changed(NAME, '"name": "a\\u0000b"'), pointer="/citizens/0/name"),
    Hostile("NUL in a key", 400, INVALID, changed('"name"', '"na\\u0000me"')),
    Hostile("a bare NUL", 400, MALFORMED, changed(NAME, '"name": "a\0b"')),
    Hostile("half a surrogate pair", 400, INVALID, changed(NAME, '"name": "\\ud800"'), pointer="/citizens/0/name"),
    Hostile("the other half", 400, INVALID, changed(NAME, '"name": "\\udc00 x"'), pointer="/citizens/0/name"),
    Hostile("a surrogate as bytes", 400, MALFORMED, changed(NAME, '"name": "\ud800"')),
    Hostile("2^31", 201, None, changed('"apartment": 7', '"apartment": 2147483648')),
    Hostile("2^63 - 1", 201, None, changed('"apartment": 7', '"apartment": 9223372036854775807')),
    Hostile("2^63", 400, INVALID, changed('"apartment": 7', f'"apartment": {2**63}'), pointer="/citizens/0/apartment"),
    Hostile("-2^63", 400, INVALID, changed('"apartment": 7', f'"apartment": {-(2**63)}')),
    Hostile("10^400", 400, INVALID, changed('"apartment": 7', f'"apartment": {10**400}')),
    Hostile("1e400", 400, INVALID, changed('"apartment": 7', '"apartment": 1e400')),
    Hostile("10^100000", 400, INVALID, changed('"apartment": 7', f'"apartment": 1{"0" * 100_000}')),
    Hostile("1.0", 400, INVALID, changed('"apartment": 7', '"apartment": 1.0')),
    Hostile("NaN", 400, INVALID, changed('"apartment": 7', '"apartment": NaN')),
    Hostile("-Infinity", 400, INVALID, changed('"apartment": 7', '"apartment": -Infinity')),
    Hostile("a key of the register twice", 400, INVALID, lambda: b'{"citizens":[],"citizens":[]}', pointer="/citizens"),
    Hostile("a key of a citizen twice", 400, INVALID, changed(NAME, f"{NAME}, {NAME}"), pointer="/citizens/0/name"),
    Hostile("a key twice, once escaped", 400, INVALID, changed(NAME, NAME + ', "n\\u0061me": "b"')),
    Hostile("a million brackets", 400, MALFORMED, lambda: b"[" * MEGABYTE),
    Hostile(
        "a million brackets inside", 400, MALFORMED, lambda: b'{"citizens":' + b"[" * MEGABYTE + b"]" * MEGABYTE + b"}"
    ),
    Hostile("a million braces", 400, MALFORMED, lambda: b'{"a":' * MEGABYTE),
    Hostile("60 million brackets", 400, INVALID, lambda: b"[" * (60 * MEGABYTE)),
    Hostile("60 MB in one string", 400, INVALID, lambda: b'{"citizens":"' + b"x" * (60 * MEGABYTE) + b'"}'),
    Hostile("not UTF-8", 400, MALFORMED, lambda: b'{"citizens":["\xff"]}'),
    Hostile("UTF-8 longer than it must be", 400, MALFORMED, lambda: b'{"citizens":["\xc0\x80"]}'),
    Hostile("a byte order mark", 400, MALFORMED, lambda: b'\xef\xbb\xbf{"citizens":[]}'),
    Hostile("UTF-16", 400, MALFORMED, lambda: '{"citizens":[]}'.encode("utf-16")),
    Hostile("UTF-16 without a mark", 400, MALFORMED, lambda: '{"citizens":[]}'.encode("utf-16-le")),
    Hostile("UTF-32", 400, MALFORMED, lambda: '{"citizens":[]}'.encode("utf-32-be")),
    Hostile("half a document", 400, MALFORMED, lambda: register(a_citizen(1)).encode()[:100]),
    Hostile("two documents", 400, MALFORMED, lambda: b'{"citizens":[]}{"citizens":[]}'),
    Hostile("not an object", 400, INVALID, lambda: b"[]"),
    Hostile(
        "an unknown charset",
        400,
        "unknown-charset",
        lambda: register().encode(),
        {"content-type": "application/json; charset=klingon"},
    ),
    Hostile(
        "a form with a file",
        400,
        MALFORMED,
        lambda: (
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="r.json"\r\n\r\n{"citizens":[]}\r\n--x--\r\n'
        ),
        {"content-type": "multipart/form-data; boundary=x"},
    ),
    Hostile("a form", 400, MALFORMED, lambda: b"citizens=", {"content-type": "application/x-www-form-urlencoded"}),
    Hostile("a bomb of 100 kB", 413, LARGE, bomb(1), GZIP),
    Hostile("a bomb of 10 GB", 413, LARGE, bomb(100), GZIP),
    Hostile("a bomb in a bomb", 400, MALFORMED, lambda: gzip.compress(gzip.compress(b" " * MEGABYTE)), GZIP),
    Hostile("no gzip", 400, "broken-body", lambda: b'{"citizens":[]}', GZIP),
    Hostile("half a gzip", 400, "broken-body", lambda: gzip.compress(b'{"citizens":[]}')[:-9], GZIP),
    Hostile("a million empty gzips", 400, "broken-body", lambda: gzip.compress(b"") * MEGABYTE, GZIP),
    Hostile("an unknown coding", 415, "unknown-coding", lambda: b"{}", {"content-encoding": "lzma"}),
    Hostile("70 MB and a byte", 413, LARGE, lambda: b" " * (70 * MEGABYTE + 1)),
    Hostile("70 MB of nothing", 400, MALFORMED, lambda: b" " * (70 * MEGABYTE)),
    Hostile(
        "100,000 unknown keys",
        400,
        INVALID,
        lambda: json.dumps({"citizens": []} | {f"key{number}": number for number in range(100_000)}).encode(),
    ),
    Hostile("100,000 doubled keys", 400, INVALID, lambda: b'{"citizens":[' + b'{"a":1,"a":2},' * 100_000 + b"{}]}"),
    Hostile("100,000 empty citizens", 400, INVALID, lambda: b'{"citizens":[' + b"{}," * 99_999 + b"{}]}"),
    Hostile("10,000 empty citizens", 400, INVALID, lambda: b'{"citizens":[' + b"{}," * 9_999 + b"{}]}"),
    Hostile("a list of 20 million relatives", 400, INVALID, changed("[]", f"[{'1,' * 20_000_000}1]")),
    Hostile("the worst that is right", 201, None, the_worst_that_is_right),
    Hostile("the worst that is right, packed", 201, None, lambda: gzip.compress(the_worst_that_is_right(), 1), GZIP),
]


class Other(threading.Thread):
    """Another client, asking all the time; how long it waited for each answer since it was last looked at.

    It asks a service that is left in peace, too: what one waits there is the machine's doing.
    """

    def __init__(self, url: str, peaceful_url: str) -> None:
        super().__init__()
        self.url = url
        self.peaceful_url = peaceful_url
        self.waits: list[float] = []
        self.peaceful_waits: list[float] = []
        self.statuses = set[int]()
        self.is_done = False

    def run(self) -> None:
        with httpx.Client(timeout=120) as client:
            while not self.is_done:
                for url, waits in ((self.peaceful_url, self.peaceful_waits), (self.url, self.waits)):
                    begun = time.monotonic()
                    self.statuses.add(client.get(f"{url}/imports/1/citizens").status_code)
                    waits.append(time.monotonic() - begun)
                time.sleep(0.005)

    @contextmanager
    def is_served(self) -> Iterator[None]:
        self.waits.clear()
        self.peaceful_waits.clear()
        begun = time.monotonic()
        yield
        seconds = time.monotonic() - begun
        last = len(self.waits) + 2  # the one under way, and one more
        while len(self.waits) < last and self.is_alive():
            time.sleep(0.001)
        assert self.statuses == {200}
        assert max(self.waits) < LONGEST_WAIT_SECONDS + max(self.peaceful_waits) + seconds / 4


@pytest.fixture(scope="module")
def lonely(make_database: Any) -> Iterator[Service]:
    """A service of one worker: who holds it up holds up everybody."""
    with with_one_citizen(make_database("hostile")) as service:
        yield service


@contextmanager
def with_one_citizen(pg_url: str) -> Iterator[Service]:
    with Service("up", "--workers", "1", "--pg-url", pg_url) as service:
        added = httpx.post(f"{service.url}/imports", content=register(a_citizen(1)).encode())
        assert added.headers["location"] == "/imports/1/citizens"
        yield service


@pytest.fixture(scope="module")
def peaceful(make_database: Any) -> Iterator[Service]:
    with with_one_citizen(make_database("peaceful")) as service:
        yield service


@pytest.fixture(scope="module")
def other(lonely: Service, peaceful: Service) -> Iterator[Other]:
    other = Other(lonely.url, peaceful.url)
    other.start()
    yield other
    other.is_done = True
    other.join()


@pytest.mark.parametrize("hostile", TABLE, ids=lambda hostile: hostile.name)
def test_one_is_answered_and_others_go_on(lonely: Service, other: Other, hostile: Hostile) -> None:
    body = hostile.body()
    with other.is_served():
        answer = httpx.post(f"{lonely.url}/imports", content=body, headers=hostile.headers, timeout=120)
    document = answer.json()
    assert answer.status_code == hostile.status, document
    assert document.get("type") == (hostile.kind and f"/problems/{hostile.kind}")
    if hostile.pointer is not None:
        assert hostile.pointer in [error["pointer"] for error in document["errors"]]
    assert len(answer.content) < 300_000
    lonely.never_said(" level=error ")


def test_half_a_body_holds_up_nobody(lonely: Service, other: Other) -> None:
    with other.is_served(), ExitStack() as connections:
        for _ in range(20):
            wire = connections.enter_context(Wire(lonely.url))
            wire.say(request("POST", "/imports", "Content-Length: 1000") + b'{"citizens":')
        time.sleep(0.3)
    lonely.never_said(" level=error ")


def test_a_correction_is_as_strict(lonely: Service) -> None:
    place = f"{lonely.url}/imports/1/citizens/1"
    before = httpx.get(f"{lonely.url}/imports/1/citizens").content
    for body in (
        b"",
        b"[" * MEGABYTE,
        b'{"name":"\\u0000"}',
        b'{"name":"a","name":"b"}',
        b'{"apartment":1e400}',
        b"{}",
    ):
        answer = httpx.patch(place, content=body)
        assert answer.status_code == 400, body[:20]
    assert httpx.patch(place, content=b" " * (2 * MEGABYTE)).status_code == 413
    assert httpx.get(f"{lonely.url}/imports/1/citizens").content == before
    assert httpx.patch(place, content=b'{"name":"a"}').status_code == 200
    lonely.never_said(" level=error ")
