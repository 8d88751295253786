"""Where a call to an outside service goes: by its address, along a path, after redirects, and nowhere else."""

from collections.abc import AsyncIterator

import pytest
from tests.outside_service import GOOD, a_clock, answer, ask, outside_service, redirect

from kinfolk.kit import outside
from kinfolk.kit.calls import MOST_REDIRECTS, Reply
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.outside import is_plain, know
from kinfolk.kit.problems import BadGateway


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    async with outside.connections():
        yield
    know(clock=None)


async def test_redirects_within_the_service_are_followed() -> None:
    service, reply, _ = await ask(redirect("/later"), redirect("?at=7", 307), answer(GOOD))
    assert isinstance(reply, Reply)
    assert reply.body == GOOD
    assert service.paths == ["/now", "/later", "/later?at=7"]


async def test_redirects_elsewhere_are_not() -> None:
    async with outside_service(answer(GOOD)) as elsewhere:
        for location in (elsewhere.url, elsewhere.url.replace("http", "https"), elsewhere.url.replace(".1:", ".2:")):
            service, error, told = await ask(redirect(location))
            assert isinstance(error, BadGateway)
            assert len(service.heard) == 1
            assert told["clock_failure"].startswith("a redirect to")
        assert elsewhere.connections == 0


async def test_a_body_is_not_carried_to_another_place() -> None:
    service, error, _ = await ask(redirect("/later", 307), answer(GOOD), method="PUT")
    assert isinstance(error, BadGateway)
    assert len(service.heard) == 1


async def test_redirects_in_circles_end() -> None:
    service, error, _ = await ask(redirect("/now"))
    assert isinstance(error, BadGateway)
    assert len(service.heard) == MOST_REDIRECTS + 1


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "../secret", "a..b"])
async def test_a_part_of_the_path_cannot_lead_to_another(part: str) -> None:
    async with outside_service(answer(GOOD)) as service:
        know(clock=service.url)
        with pytest.raises(ValueError, match="part of a path"):
            await a_clock().get("zones", part)
        assert service.heard == []


def test_a_plain_part_is_told_from_others() -> None:
    parts = ["Port-au-Prince", "GMT+3", "x" * 64, "x" * 65, "", ".", "a.b", "a/b", "Мoscow", "a b", "a\n", "%2e"]
    assert [part for part in parts if is_plain(part)] == parts[:3]


async def test_a_path_is_quoted() -> None:
    async with outside_service(answer(GOOD)) as service:
        know(clock=f"{service.url}/api/v1/")
        clock = a_clock()
        await clock.get("zones", "Etc", "GMT+5", query={"at": "7&x=1"})
        await clock.get("a?b", "c#d", "%2e%2e", "Москва", "e\\f\r\n")
        await clock.get()
        assert service.paths == [
            "/api/v1/zones/Etc/GMT%2B5?at=7%26x%3D1",
            "/api/v1/a%3Fb/c%23d/%252e%252e/%D0%9C%D0%BE%D1%81%D0%BA%D0%B2%D0%B0/e%5Cf%0D%0A",
            "/api/v1",
        ]
        know(clock=service.url)
        await clock.get()
        assert service.paths[-1] == "/"


@pytest.mark.parametrize(
    "address", ["secret", "ftp://secret", "http://", "http://secret?a=1", "http://secret/#a", "http://secret:port", ""]
)
def test_an_address_must_be_one(address: str) -> None:
    with pytest.raises(WrongSetting, match="clock-url must look like https://host/path") as refused:
        know(clock=address)
    assert "secret" not in str(refused.value)
    assert not a_clock().is_known


def test_a_service_is_known_until_it_is_not() -> None:
    know(clock="http://user:secret@clock/path")
    assert a_clock().is_known
    know(clock=None)
    assert not a_clock().is_known
