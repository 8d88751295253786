"""Choosing a store, and what only the folder of files has to stand."""

import asyncio
import fcntl
import json
import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from tests.modules.contacts.entries import add, an_entry, refusal
from tests.running import kinfolk

from kinfolk.kit.db import Database
from kinfolk.kit.ending import Missing, WrongSetting
from kinfolk.kit.forgetting import CHANNEL
from kinfolk.modules.contacts.contacts import WHOLE_BOOK
from kinfolk.modules.contacts.stores import choose

PATIENCE_SECONDS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """That the application in this process keeps contacts in."""
    choose(f"fs:{tmp_path}")
    yield tmp_path
    choose("sql")


@pytest.mark.parametrize("words", ["", "x", "fs", "fs:", "SQL", "memory:x"])
def test_a_store_that_is_none(words: str) -> None:
    with pytest.raises(WrongSetting, match="it is sql, memory or fs:FOLDER"):
        choose(words)


def test_memory_is_for_one_worker() -> None:
    with pytest.raises(WrongSetting, match="--workers 1"):
        choose("memory", 2)
    choose("memory", 1)
    choose("sql", 2)


def test_a_folder_that_is_not_there_or_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="mkdir -p"):
        choose(f"fs:{tmp_path}/none")
    (tmp_path / "file").touch()
    with pytest.raises(Missing, match="there is no such folder"):
        choose(f"fs:{tmp_path}/file")
    (tmp_path / ".locks").touch()
    with pytest.raises(Missing, match="it cannot be written"):
        choose(f"fs:{tmp_path}")
    with pytest.raises(Missing, match=r"cannot be written: File name too long|there is no such folder"):
        choose(f"fs:{tmp_path}/{'x' * 300}")


def test_a_folder_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell reads a ~ behind a colon."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "book").mkdir()
    choose("fs:~/book")
    choose("sql")
    assert (tmp_path / "book/.locks").is_dir()
    with pytest.raises(Missing, match="there is no such folder"):
        choose("fs:~nobody-at-all/book")


def test_a_service_does_not_start_with_a_wrong_one_and_asks_no_database_before() -> None:
    where = ("--api-port", "0", "--pg-url", "postgresql://127.0.0.1:1/none")
    ended = kinfolk("up", *where, "--contacts-store", "memory", "--workers", "2")
    assert ended.returncode == 2
    assert "--workers 1" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


async def test_the_kept_list_goes_with_one_who_is_removed(client: httpx.AsyncClient, db: Database) -> None:
    """In all processes: that it does, once it is told, is shown elsewhere."""
    told: asyncio.Queue[str] = asyncio.Queue()
    ear = db.listen(CHANNEL, told.put_nowait, lambda: None)
    try:
        async with asyncio.timeout(60):
            await ear.begun.wait()
            place = await add(client)
            assert (await client.put(place, json=an_entry("Vera"))).status_code == 204
            assert (await client.delete(place)).status_code == 204
            assert (await told.get(), told.empty()) == (WHOLE_BOOK, True)
    finally:
        ear.end()


async def test_a_file_is_for_looking_at(client: httpx.AsyncClient, folder: Path) -> None:
    place = await add(client, "Анна")
    (file,) = folder.glob("*.json")
    assert f"/addresses/{file.stem}" == place
    assert json.loads(file.read_text()) == an_entry("Анна")
    before = (await client.get(place)).headers["etag"]
    whole = (await client.get("/addresses")).headers["etag"]
    file.write_text('{"full_name": "By hand"}')
    changed = await client.get(place)
    assert changed.json() == an_entry("By hand")
    assert changed.headers["etag"] != before
    assert (await client.get("/addresses", headers={"if-none-match": whole})).json() == {file.stem: an_entry("By hand")}
    assert (await client.put(place, json=an_entry("V"), headers={"if-match": before})).status_code == 412


FOREIGN = ("notes.txt", "a" * 31 + ".json", "A" * 32 + ".json", "b" * 32 + ".json.bak", "a name\nof two lines")
BROKEN: dict[str, bytes] = {
    "1" * 32: b"",
    "2" * 32: b'{"full_name":"An',
    "3" * 32: b'{"full_name":"Anna","age":1}',
    "4" * 32: b"\xff\xfe\0",
    "5" * 32: b"[" * 100_000,
}


async def test_what_is_foreign_or_broken_is_reported_once_and_left_alone(
    client: httpx.AsyncClient, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = await add(client)
    for name in FOREIGN:
        (folder / name).write_text("{}")
    for contact_id, content in BROKEN.items():
        (folder / f"{contact_id}.json").write_bytes(content)
    (folder / f"{'6' * 32}.json").mkdir()
    (folder / f"{'7' * 32}.json").symlink_to(f"{'7' * 32}.json")
    os.mkfifo(folder / f"{'8' * 32}.json")
    (folder / f"{'9' * 32}.json").symlink_to("nowhere")
    with (folder / f"{'0' * 32}.json").open("w") as endless:
        endless.truncate(1 << 40)
    before = sorted(path.name for path in folder.iterdir())
    for _ in range(3):
        listed = await client.get("/addresses")
        assert list(listed.json()) == [place.rpartition("/")[2]]
        searched = await client.get("/addresses?q=anna&limit=1")
        assert list(searched.json()) == [place.rpartition("/")[2]]
        seen = await client.get("/addresses", headers={"if-none-match": listed.headers["etag"]})
        assert seen.status_code == 304
    for number in range(10):
        contact_id = str(number) * 32
        for method, body in (("GET", None), ("PUT", an_entry()), ("DELETE", None)):
            answer = await client.request(method, f"/addresses/{contact_id}", json=body)
            assert refusal(answer)[:2] == (404, "no-such-contact")
        card = f"BEGIN:VCARD\nVERSION:4.0\nFN:Anna\nUID:{UUID(contact_id)}\nEND:VCARD"
        taken = await client.post("/addresses", content=card, headers={"content-type": "text/vcard"})
        assert taken.json() == {"added": [], "known": [contact_id], "refused": []}
    events = [getattr(record, "event", {}) for record in caplog.records]
    reported = [event["file"] for event in events if event.get("event") == "file_skipped"]
    assert sorted(reported) == sorted([*FOREIGN, *(f"{str(number) * 32}.json" for number in range(10))])
    assert sorted(path.name for path in folder.iterdir()) == before
    assert stat.S_ISFIFO((folder / f"{'8' * 32}.json").stat().st_mode)
    (folder / f"{'1' * 32}.json").write_text('{"full_name": "Mended"}')
    assert len((await client.get("/addresses")).json()) == 2


async def test_a_card_beside_that_is_broken_is_left_out(client: httpx.AsyncClient, folder: Path) -> None:
    added = await client.post(
        "/addresses",
        content=b"BEGIN:VCARD\nVERSION:4.0\nFN:Anna\nNOTE:kept\nEND:VCARD\n",
        headers={"content-type": "text/vcard"},
    )
    place, as_card = added.headers["location"], {"accept": "text/vcard"}
    (card,) = folder.glob("*.vcf")
    assert "NOTE:kept" in (await client.get(place, headers=as_card)).text
    card.write_bytes(b"\xff")
    assert "NOTE:kept" not in (await client.get(place, headers=as_card)).text
    assert (await client.delete(place)).status_code == 204
    assert [path.name for path in folder.iterdir()] == [".locks"]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 8 kB meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_loses_nothing(client: httpx.AsyncClient, folder: Path) -> None:
    place = await add(client)
    large = an_entry("x" * 20_000)
    emails = [f"EMAIL:{'a' * 40}@b.de"] * 150  # as JSON too long, and as lines too few for a process beside
    card = "\n".join(["BEGIN:VCARD", "VERSION:4.0", "FN:Anna", *emails, "END:VCARD"])
    with full_disk():
        replaced = await client.put(place, json=large)
        added = await client.post("/addresses", json=large)
        taken = await client.post("/addresses", content=card, headers={"content-type": "text/vcard"})
        assert (await client.get(place)).json() == an_entry()
    for answer in (replaced, added, taken):
        assert refusal(answer)[:2] == (503, "folder-takes-nothing")
        assert "retry-after" in answer.headers
    assert [path.name for path in folder.iterdir() if path.is_file()] == [f"{place.rpartition('/')[2]}.json"]
    assert (await client.put(place, json=large)).status_code == 204
    assert (await client.get(place)).json() == large


async def test_no_file_can_be_opened(client: httpx.AsyncClient, folder: Path) -> None:
    """That is no reason to take an entry for gone."""
    place = await add(client)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        answers = [await client.get(place), await client.get("/addresses"), await client.delete(place)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [refusal(answer)[:2] for answer in answers] == [(503, "folder-takes-nothing")] * 3
    assert (await client.get(place)).json() == an_entry()


async def test_a_folder_that_has_gone(client: httpx.AsyncClient, folder: Path) -> None:
    place = await add(client)
    folder.rename(folder.with_name("gone"))
    for method, path, body in (
        ("GET", place, None),
        ("GET", "/addresses", None),
        ("POST", "/addresses", an_entry()),
        ("PUT", place, an_entry()),
        ("DELETE", place, None),
    ):
        assert refusal(await client.request(method, path, json=body))[:2] == (503, "folder-takes-nothing")
    folder.with_name("gone").rename(folder)
    assert (await client.get(place)).json() == an_entry()


async def test_a_file_that_hangs_holds_up_nobody_else(client: httpx.AsyncClient, folder: Path) -> None:
    """Another process has the lock of a contact for long; all else goes on in this one."""
    place = await add(client)
    with (folder / ".locks" / place.rpartition("/")[2][:2]).open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        release = threading.Timer(PATIENCE_SECONDS, fcntl.flock, (lock, fcntl.LOCK_UN))  # or a fault would hang here
        release.start()
        changing = asyncio.create_task(client.put(place, json=an_entry("Vera")))
        for _ in range(5):
            found = await asyncio.wait_for(client.get(place), PATIENCE_SECONDS)
            assert found.json() == an_entry("Anna")
            assert (await asyncio.wait_for(client.get("/health"), PATIENCE_SECONDS)).status_code == 200
        assert not changing.done()
        release.cancel()
    assert (await asyncio.wait_for(changing, PATIENCE_SECONDS)).status_code == 204
    assert (await client.get(place)).json() == an_entry("Vera")


async def test_what_was_left_unfinished_is_cleared_away(tmp_path: Path, client: httpx.AsyncClient) -> None:
    unfinished = [tmp_path / f".{'1' * 32}.{kind}.new" for kind in ("json", "vcf")]
    for path in unfinished:
        path.write_text('{"full_na')
    unfinished.append(tmp_path / f"{'2' * 32}.vcf")  # the card of one who was being added, or removed
    unfinished[-1].touch()
    others = [tmp_path / name for name in (".DS_Store", f"{'3' * 32}.vcf", f"{'3' * 32}.json")]
    for path in others:
        path.write_text('{"full_name": "Anna"}')
    (tmp_path / f"{'4' * 32}.vcf").mkdir()
    choose(f"fs:{tmp_path}")
    try:
        assert list((await client.get("/addresses")).json()) == ["3" * 32]
        assert [path.exists() for path in (*unfinished, *others)] == [False] * 3 + [True] * 3
    finally:
        choose("sql")
