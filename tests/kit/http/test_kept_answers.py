"""Kept answers through the front door: made once, packed once, not touched for a 304, the same cold and warm."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar.handlers import HTTPRouteHandler

from kinfolk.kit.db import Database
from kinfolk.kit.http import Answer, Request, compression, get
from kinfolk.kit.http.application import application
from kinfolk.kit.module import Module

SIZES = {"small": 10, "long": 3_000, "large": 80_000}
CODINGS = ["identity", "gzip", "br", "zstd"]


class Story:
    """What stands now, and how often it was told."""

    version = 1
    told = 0


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
async def teller(db: Database, story: Story) -> AsyncIterator[httpx.AsyncClient]:
    @get("/stories/{size}", gives={200: "application/json", 304: None})
    async def get_story(request: Request) -> Answer:
        """A story."""
        size = request.path_params["size"]

        async def tell() -> tuple[str, object]:
            story.told += 1
            await asyncio.sleep(0.01)
            return f'"v{story.version}"', {"version": story.version, "words": "x" * SIZES[size]}

        return await request.answer_unless_seen(f"stories/{size}", f'"v{story.version}"', tell)

    routes: list[HTTPRouteHandler] = [get_story]
    stories = Module(name="stories", description="For tests.", is_at_root=True, routes=routes)
    transport = httpx.ASGITransport(application([stories], db))  # type: ignore[arg-type]
    headers = {"accept-encoding": "identity"}
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk", headers=headers) as client:
        yield client


def said(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, headers, answer.content


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", SIZES)
async def test_cold_and_warm_are_the_same(teller: httpx.AsyncClient, story: Story, size: str, coding: str) -> None:
    answers = [await teller.get(f"/stories/{size}", headers={"accept-encoding": coding}) for _ in range(3)]
    assert said(answers[0]) == said(answers[1]) == said(answers[2])
    assert answers[0].json() == {"version": 1, "words": "x" * SIZES[size]}
    assert story.told == 1
    is_packed = coding != "identity" and size != "small"
    assert answers[0].headers.get("content-encoding") == (coding if is_packed else None)
    assert answers[0].headers["etag"] == (f'"v1.{coding}"' if is_packed else '"v1"')


@pytest.mark.parametrize("coding", CODINGS)
async def test_both_faces_and_all_codings_share_one_answer(
    teller: httpx.AsyncClient, story: Story, coding: str
) -> None:
    await teller.get("/stories/long")
    answer = await teller.get("/api/v1/stories/long", headers={"accept-encoding": coding})
    assert answer.json()["version"] == 1
    assert story.told == 1


async def test_a_change_is_told_at_once(teller: httpx.AsyncClient, story: Story) -> None:
    for version in (1, 2, 3):
        story.version = version
        for coding in CODINGS * 2:
            answer = await teller.get("/stories/long", headers={"accept-encoding": coding})
            assert answer.json()["version"] == version
            assert answer.headers["etag"].startswith(f'"v{version}')
    assert story.told == 3


async def test_twenty_at_once_cause_one_telling(teller: httpx.AsyncClient, story: Story) -> None:
    answers = await asyncio.gather(*(teller.get("/stories/large") for _ in range(20)))
    assert {answer.json()["version"] for answer in answers} == {1}
    assert story.told == 1


@pytest.mark.parametrize("size", ["long", "large"])
@pytest.mark.parametrize("coding", CODINGS[1:])
async def test_it_is_packed_once(
    teller: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, coding: str, size: str
) -> None:
    packed = []
    pack = compression.PACK[coding]

    def noticed(body: bytes) -> bytes:
        packed.append(len(body))
        return pack(body)

    monkeypatch.setitem(compression.PACK, coding, noticed)
    answers = await asyncio.gather(
        *(teller.get(f"/stories/{size}", headers={"accept-encoding": coding}) for _ in range(20))
    )
    answers.append(await teller.get(f"/stories/{size}", headers={"accept-encoding": coding}))
    assert len(packed) == 1
    assert {answer.headers["content-encoding"] for answer in answers} == {coding}
    assert {answer.text for answer in answers} == {answers[0].text}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_304_tells_nothing(teller: httpx.AsyncClient, story: Story, method: str) -> None:
    seen = {"if-none-match": '"v1"'}
    answer = await teller.request(method, "/stories/large", headers=seen)
    assert (answer.status_code, answer.content, story.told) == (304, b"", 0)
    story.version = 2
    answer = await teller.request(method, "/stories/large", headers=seen)
    assert (answer.status_code, answer.headers["etag"], story.told) == (200, '"v2"', 1)


async def test_head_is_answered_as_get_is(teller: httpx.AsyncClient, story: Story) -> None:
    head = await teller.head("/stories/large")
    get = await teller.get("/stories/large")
    assert story.told == 1
    assert said(head)[:2] == said(get)[:2]
