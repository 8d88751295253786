"""One WebSocket: what it takes, how it refuses the rest, and that nobody holds up the others."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop
from tests.listeners import SECONDS, deaf, end_of, heard, heard_until, listening, served
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode

from kinfolk.kit import events
from kinfolk.kit.auth import Who
from kinfolk.kit.db import Database
from kinfolk.kit.http import audience, websocket
from kinfolk.kit.http.application import application
from kinfolk.kit.http.websocket import LARGEST_MESSAGE_BYTES, MOST_FRAMES_A_SECOND, TOKEN_DEAD, TOO_SLOW, Socket

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: kinfolk\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
TELLINGS = 60


@pytest.fixture(scope="module")
async def place(db: Database) -> AsyncIterator[str]:
    async with served(application([], db)) as place:
        yield place


@pytest.fixture
async def ears(place: str) -> AsyncIterator[ClientConnection]:
    async with listening(place) as ears:
        yield ears


async def echo(ears: ClientConnection, words: str) -> Any:
    await ears.send(json.dumps({"say": words}))
    return (await heard(ears))["echo"]


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def write(ears: ClientConnection, data: bytes) -> None:
    """Bytes as they are, past the client."""
    ears.transport.write(data)


@pytest.mark.parametrize("words", ["", "hello", "Привет \U0001f600", '"\\/\n\t', "x" * (LARGEST_MESSAGE_BYTES - 11)])
async def test_what_is_said_is_echoed(ears: ClientConnection, words: str) -> None:
    await ears.send(json.dumps({"say": words}, ensure_ascii=False))
    assert await heard(ears) == {"echo": words}


WRONG: list[tuple[Any, int]] = [
    (b'{"say":"binary"}', 1003),
    ("", 1007),
    ("hello", 1007),
    ('{"say":', 1007),
    ('{"say":NaN}', 1008),
    ("[" * LARGEST_MESSAGE_BYTES, 1007),
    ('{"say":1}', 1008),
    ('{"say":null}', 1008),
    ('{"echo":"a"}', 1008),
    ('{"say":"a","say":"b"}', 1008),
    ('{"say":"a","more":1}', 1008),
    (r'{"say":"\u0000"}', 1008),
    (r'{"say":"\ud800"}', 1008),
    ("[]", 1008),
    ("[" * 1_000_000, 1009),
    ("x" * (LARGEST_MESSAGE_BYTES + 1), 1009),
    (["x" * 10_000, "x" * 10_000], 1009),
]


@pytest.mark.parametrize(("message", "code"), WRONG, ids=lambda value: str(value)[:20])
async def test_anything_else_ends_this_socket_and_no_other(
    place: str, ears: ClientConnection, message: Any, code: int
) -> None:
    async with listening(place) as wrong:
        await wrong.send(message)
        assert await end_of(wrong) == code
    assert await echo(ears, "still here") == "still here"


RAW = {
    "not UTF-8": (frame(Opcode.TEXT, b'{"say":"\xff"}'), 1007),
    "not masked": (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
    "a continuation of nothing": (frame(Opcode.CONT, b"x"), 1002),
    "a reserved bit": (b"\xc1\x80\0\0\0\0", 1002),
    "a reserved opcode": (b"\x83\x80\0\0\0\0", 1002),
    "a ping of many frames": (b"\x09\x80\0\0\0\0", 1002),
    "a length of 2^63": (b"\x81\xff" + b"\xff" * 8, 1009),
    "an end that is cut off": (b"\x88\x81\0\0\0\0\x03", 1002),
    "a message after another began": (frame(Opcode.TEXT, b"x", fin=False) + frame(Opcode.TEXT, b"x"), 1002),
}


@pytest.mark.parametrize("name", RAW)
async def test_what_is_no_websocket_ends_this_socket_and_no_other(
    place: str, ears: ClientConnection, name: str
) -> None:
    data, code = RAW[name]
    async with listening(place) as wrong:
        write(wrong, data)
        assert await end_of(wrong) == code
    assert await echo(ears, "still here") == "still here"


async def test_a_message_may_come_in_pieces_with_a_ping_between(ears: ClientConnection) -> None:
    begun = frame(Opcode.TEXT, b'{"say":', fin=False) + frame(Opcode.CONT, b"", fin=False) * 10
    write(ears, begun + frame(Opcode.PING, b"there?") + frame(Opcode.CONT, b'"a"}'))
    assert await heard(ears) == {"echo": "a"}
    for byte in frame(Opcode.TEXT, b'{"say":"b"}'):
        write(ears, bytes([byte]))
        await asyncio.sleep(0)
    assert await heard(ears) == {"echo": "b"}


async def test_it_answers_pings(ears: ClientConnection) -> None:
    async with asyncio.timeout(SECONDS):
        assert await (await ears.ping(b"x" * 125)) > 0  # the seconds that the answer took


async def test_who_talks_fast_is_read_slowly_and_loses_nothing(place: str, ears: ClientConnection) -> None:
    many = 3 * MOST_FRAMES_A_SECOND
    async with listening(place) as talker:
        write(talker, frame(Opcode.TEXT, b'{"say":"x"}') * many)
        echoed = asyncio.create_task(_count(talker, many))
        begun = asyncio.get_running_loop().time()
        assert await echo(ears, "in between") == "in between"
        assert not echoed.done(), "he waits, and others do not"
        await echoed
        assert asyncio.get_running_loop().time() - begun > 1, "that was more than a second's worth"
        assert await echo(talker, "more") == "more"


async def _count(ears: ClientConnection, many: int) -> None:
    for _ in range(many):
        assert await heard(ears) == {"echo": "x"}


async def test_a_flood_of_empty_frames_is_read_slowly(place: str, ears: ClientConnection) -> None:
    async with listening(place) as flood:
        write(flood, frame(Opcode.TEXT, b"{", fin=False) + frame(Opcode.CONT, b"", fin=False) * 200_000)
        assert await echo(ears, "in between") == "in between"
        flood.transport.abort()


async def test_who_reads_slowly_is_dropped_with_a_code(
    db: Database, place: str, ears: ClientConnection, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(websocket, "MOST_UNSENT_BYTES", 20_000)
    monkeypatch.setattr(websocket, "SECONDS_TO_CLOSE", SECONDS)
    slow, writer = await asyncio.open_connection(sock=deaf(place), limit=1_000)
    writer.write(HANDSHAKE)
    async with asyncio.timeout(SECONDS):
        await slow.readuntil(b"\r\n\r\n")
        for turn in range(TELLINGS):
            async with db.connection() as conn:
                await events.tell_each(conn, "told.much", [{"turn": turn, "n": "x" * 60}] * 64)
            for _ in range(64):
                await heard_until(ears, "told.much", turn=turn)
        received = b""
        while TOO_SLOW.to_bytes(2, "big") not in received[-60:]:
            piece = await slow.read(2**24)
            assert piece, "it ended without a word"
            received += piece
        writer.close()
        while not (dropped := [line for line in _ended(lines) if line["code"] == 4408]):
            await asyncio.sleep(0.01)
    [line] = dropped
    assert line["sent"] == received.count(b"told.much") < TELLINGS * 64
    assert line["dropped"] > 0
    assert await echo(ears, "still here") == "still here"


def _ended(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "socket"]


async def test_who_does_not_read_his_echoes_is_dropped(
    place: str, ears: ClientConnection, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(websocket, "MOST_UNSENT_BYTES", 20_000)
    monkeypatch.setattr(websocket, "MOST_FRAMES_A_SECOND", 1_000_000)
    monkeypatch.setattr(websocket, "SECONDS_TO_CLOSE", 0.1)
    saying = frame(Opcode.TEXT, b'{"say":"%s"}' % (b"x" * 16_000))
    async with listening(place, sock=deaf(place)) as slow:
        slow.transport.pause_reading()
        async with asyncio.timeout(SECONDS):
            while not _ended(lines):
                write(slow, saying)
                await asyncio.sleep(0)
        slow.transport.abort()
    assert _ended(lines)[0]["code"] == 4408
    assert await echo(ears, "still here") == "still here"


async def test_who_is_silent_is_pinged_and_who_does_not_answer_is_given_up(
    place: str, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(websocket, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(audience, "ROUND_SECONDS", 0.05)
    async with listening(place, ping_interval=None) as alive:
        async with listening(place, ping_interval=None) as gone:
            gone.transport.pause_reading()
            async with asyncio.timeout(SECONDS):
                while not _ended(lines):
                    await asyncio.sleep(0.05)
            assert _ended(lines)[0]["code"] == 1006
            gone.transport.abort()
        assert await echo(alive, "still here") == "still here"


@pytest.mark.parametrize("how", ["closes", "hangs up", "stops speaking", "vanishes"])
async def test_a_client_may_go_as_it_likes(place: str, how: str, lines: list[dict[str, Any]]) -> None:
    async with listening(place) as ears:
        assert await echo(ears, "here") == "here"
        match how:
            case "closes":
                await ears.close(4321, "bye")
            case "hangs up":
                ears.transport.close()
            case "stops speaking":
                ears.transport.write_eof()
            case "vanishes":
                ears.transport.abort()
        async with asyncio.timeout(SECONDS):
            while not _ended(lines):
                await asyncio.sleep(0.01)
    [line] = _ended(lines)
    assert line["code"] == (4321 if how == "closes" else 1006)
    assert (line["sent"], line["received"], line["dropped"]) == (0, 1, 0)


async def test_what_is_said_after_the_end_is_not_heard(place: str, lines: list[dict[str, Any]]) -> None:
    host, port = place.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(HANDSHAKE)
    async with asyncio.timeout(SECONDS):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(Opcode.BINARY, b"x") + frame(Opcode.TEXT, b'{"say":"a"}') * 3)
        assert (await reader.readexactly(4))[2:] == (1003).to_bytes(2, "big")
        writer.write(frame(Opcode.CLOSE, (1003).to_bytes(2, "big")))
        await reader.read()
        writer.write(frame(Opcode.TEXT, b'{"say":"a"}'))
        await asyncio.sleep(0.01)
        writer.close()
        while not _ended(lines):
            await asyncio.sleep(0.01)
    [line] = _ended(lines)
    assert (line["code"], line["received"]) == (1003, 4)


async def test_who_does_not_end_after_the_end_is_cut_off(
    place: str, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(websocket, "SECONDS_TO_CLOSE", 0.1)
    async with listening(place) as ears:
        ears.transport.pause_reading()
        write(ears, frame(Opcode.BINARY, b"x"))
        async with asyncio.timeout(SECONDS):
            while not _ended(lines):
                write(ears, frame(Opcode.PING))
                await asyncio.sleep(0.01)
        ears.transport.abort()
    assert _ended(lines)[0]["code"] == 1003


async def test_an_end_is_the_last_that_is_said(
    db: Database, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    """And a server that ends waits for the answer to it, but not long."""
    monkeypatch.setattr(websocket, "SECONDS_TO_CLOSE", 1)
    async with served(application([], db)) as place:
        ears = await connect(f"ws://{place}/ws")
        host, port = place.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(HANDSHAKE)
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(frame(Opcode.BINARY, b"x"))
            assert (await reader.readexactly(4))[2:] == (1003).to_bytes(2, "big")
            end = await reader.readexactly(len("text is taken, and nothing else"))
            assert end == b"text is taken, and nothing else"
            async with db.connection() as conn:
                await events.tell(conn, "told.after")
            await heard_until(ears, "told.after")
    async with asyncio.timeout(SECONDS):
        assert await end_of(ears) == 1001
        assert await reader.read() == b""
    writer.close()
    assert sorted(line["code"] for line in _ended(lines)) == [1001, 1003]


def test_who_was_lost_a_moment_ago_is_not_spoken_to() -> None:
    """On uvloop, as a worker runs: it raises where asyncio is silent, and who looks after all would die of one."""
    lost: list[int] = []

    class Nobody:
        def join(self, socket: Any) -> None:
            sockets.append(socket)

        def leave(self, _socket: Any, code: int) -> None:
            lost.append(code)

    sockets: list[Socket] = []

    class Switched(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            Socket(Nobody(), Who(1, "admin"), "token", "asked").take_over(transport, set())

    async def lose() -> None:
        server = await asyncio.get_running_loop().create_server(Switched, "127.0.0.1", 0)
        async with server, asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            while not sockets:
                await asyncio.sleep(0.01)
            line = writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, without an end
            writer.transport.abort()
            while not lost:
                await asyncio.sleep(0.01)
            sockets[0].close(TOKEN_DEAD, "this token is known no longer")
            sockets[0].give(b"", 1)
            sockets[0].look()

    uvloop.run(lose())
    assert lost == [1006]
