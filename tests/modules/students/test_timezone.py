"""The clock elsewhere, from an outside service and from the machine."""

import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from tests.outside_service import Behaviour, OutsideService, answer, hang, outside_service, raw
from tests.postgres_places import REPOSITORY
from tests.running import kinfolk

from kinfolk.kit import outside
from kinfolk.modules.students.timezone import SERVICE

HOME = "/api/v1/timezone"
MOSCOW = {"area": "Europe", "city": "Moscow"}
TOLD = b'{"datetime": "2020-11-21T18:04:05.123456+03:00", "timezone": "Europe/Moscow", "week_number": 47}'

ILL_FORMED = [
    ("..", ".."),
    ("Europe/..", "Moscow"),
    ("Europe", "Moscow/../../secret"),
    ("Europe", "Moscow?format=x"),
    ("Europe", "Moscow#"),
    ("Europe", "%2e%2e"),
    ("Europe", "Мoscow"),
    ("Europe", "Moscow\n"),
    ("", "Moscow"),
    ("Europe", ""),
    ("Europe", "M" * 65),
    ("/etc", "passwd"),
]


async def service_that(*script: Behaviour) -> AsyncIterator[OutsideService]:
    async with outside_service(*script) as service, outside.connections():
        outside.know(timezone=f"{service.url}/api/timezone")
        try:
            yield service
        finally:
            outside.know(timezone=None)


@pytest.fixture
async def service() -> AsyncIterator[OutsideService]:
    async for service in service_that(answer(TOLD)):
        yield service


async def test_the_service_is_asked(client: httpx.AsyncClient, service: OutsideService) -> None:
    found = await client.get(HOME, params=MOSCOW, headers={"x-request-id": "asked-by"})
    clock = '{"timezone":"Europe/Moscow","datetime":"2020-11-21T18:04:05+03:00"}'
    assert (found.status_code, found.text) == (200, f'{{"success":true,"result":{clock}}}')
    assert service.paths == ["/api/timezone/Europe/Moscow"]
    assert service.heard[0].headers["x-request-id"] == "asked-by"


@pytest.mark.parametrize(
    ("step", "status", "kind"),
    [
        (answer(b'{"error": "unknown location"}', 404), 404, "no-such-timezone"),
        (answer(b'{"error": "no"}', 400), 502, "bad-gateway"),
        (answer(b"<html>"), 502, "bad-gateway"),
        (answer(b'{"datetime": "noon"}'), 502, "bad-gateway"),
        (answer(b'{"datetime": "2020-11-21T18:04:05"}'), 502, "bad-gateway"),
        (answer(TOLD, 200, "text/plain"), 502, "bad-gateway"),
        (raw(b""), 504, "gateway-timeout"),
        (hang, 504, "gateway-timeout"),
    ],
)
async def test_what_goes_wrong_there_is_said(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, step: Behaviour, status: int, kind: str
) -> None:
    monkeypatch.setattr(SERVICE, "limit_seconds", 1.0)
    async for _ in service_that(step):
        found = await client.get(HOME, params=MOSCOW)
        assert (found.status_code, found.json()["type"]) == (status, f"/problems/{kind}")


@pytest.mark.parametrize(("area", "city"), ILL_FORMED)
async def test_no_name_reaches_another_path(
    client: httpx.AsyncClient, service: OutsideService, area: str, city: str
) -> None:
    found = await client.get(HOME, params={"area": area, "city": city})
    assert (found.status_code, found.json()["type"]) == (404, "/problems/no-such-timezone")
    assert service.connections == 0


@pytest.mark.parametrize(("area", "city"), [*ILL_FORMED, ("Europe", "Atlantis"), ("America", "Indiana")])
async def test_the_machine_does_not_know_what_is_not_there(client: httpx.AsyncClient, area: str, city: str) -> None:
    found = await client.get(HOME, params={"area": area, "city": city})
    assert (found.status_code, found.json()["type"]) == (404, "/problems/no-such-timezone")


@pytest.mark.parametrize(("area", "city", "hours"), [("Europe", "Moscow", 3), ("Etc", "GMT+5", -5), ("Etc", "UTC", 0)])
async def test_the_machine_knows_its_zones(client: httpx.AsyncClient, area: str, city: str, hours: int) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    found = await client.get(HOME, params={"area": area, "city": city})
    assert found.status_code == 200
    clock = found.json()["result"]
    told = datetime.fromisoformat(clock["datetime"])
    assert clock["timezone"] == f"{area}/{city}"
    assert told.utcoffset() == timedelta(hours=hours)
    assert before <= told <= datetime.now(UTC)


def test_zone_data_is_there_on_a_machine_without() -> None:
    script = (
        "import asyncio; from kinfolk.modules.students.timezone import Place, read_clock; "
        "print(asyncio.run(read_clock(Place('Europe', 'Moscow'))).datetime)"
    )
    environment = {"PYTHONTZPATH": "", "PYTHONPATH": str(REPOSITORY / "src")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.endswith("+03:00\n")


@pytest.mark.parametrize(
    ("asked", "places"), [("", ["/area", "/city"]), ("area=Europe&town=Moscow", ["/city", "/town"])]
)
async def test_a_place_has_two_parts(client: httpx.AsyncClient, asked: str, places: list[str]) -> None:
    found = await client.get(f"{HOME}?{asked}")
    assert found.status_code == 400
    assert [error["pointer"] for error in found.json()["errors"]] == places


def test_a_wrong_address_stops_the_program() -> None:
    done = kinfolk("up", "--pg-url", "postgresql://127.0.0.1:1/none", "--timezone-url", "clock.example:secret")
    assert done.returncode == 2
    assert "--timezone-url must look like https://host/path" in done.stderr
    assert "secret" not in done.stderr
