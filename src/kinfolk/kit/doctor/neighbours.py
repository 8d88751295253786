"""Who else is there: at the port, in the running service, at Redis and at RabbitMQ."""

import asyncio
import errno
import re
import socket
from pathlib import Path

import aiormq
import httpx

from kinfolk.kit.client import checked_url
from kinfolk.kit.doctor.findings import Findings, Place, look, ok, wrong
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.rabbit import AWAY, Amqp, connected

SECONDS_TO_ANSWER = 5.0
PROC = Path("/proc")
LISTENS = "0A"


async def port(place: Place) -> Findings:
    """Whether `--api-port` is free, or taken by Kinfolk, or by whom."""
    address, number = place.settings.web.api_address, place.settings.web.api_port
    if place.settings.web.uds is not None or number == 0:
        return
    try:
        family, _, _, _, where = socket.getaddrinfo(address, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            yield wrong(
                f"nobody can listen on {address} port {number} ({error.strerror})", "mend --api-address or --api-port"
            )
            return
    else:
        yield ok(f"port {number} is free")
        return
    shown = f"[{address}]" if ":" in address else address
    if await _is_kinfolk(f"http://{shown}:{number}"):
        yield ok(f"port {number} is taken by Kinfolk")
    else:
        yield wrong(f"port {number} is taken by {_listener(number)}", "end that, or choose another --api-port")


async def service(place: Place) -> Findings:
    """What `/ready` says of the service at `--api-url`."""
    try:
        url = str(checked_url(place.client.api_url))
    except WrongSetting as refusal:
        yield wrong(str(refusal), "mend --api-url")
        return
    shown = re.sub(r"//[^/@]*@", "//", url)
    try:
        answer = await _ask(url, "ready")
        said = ", ".join(f"{name} {value}" for name, value in answer.json().items() if name != "status")
    except httpx.TransportError:
        yield look(f"no service answers at {shown}", "kinfolk up, or name another with --api-url")
    except (ValueError, AttributeError):
        yield wrong(f"what answers at {shown} is not Kinfolk", "name the service with --api-url")
    else:
        yield ok(f"{shown} is ready: {said}") if answer.is_success else wrong(f"{shown} is not ready", said)


async def redis(place: Place) -> Findings:
    url = place.settings.cache.redis_url
    if url is None:
        return
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    try:
        client = Redis.from_url(url, socket_timeout=SECONDS_TO_ANSWER, socket_connect_timeout=SECONDS_TO_ANSWER)
        async with client:
            await client.ping()
    except (RedisError, OSError, ValueError) as error:
        yield wrong(
            f"Redis does not answer ({error})", "start it, or mend --redis-url; without it each process is alone"
        )
    else:
        yield ok("Redis answers")


async def rabbitmq(place: Place) -> Findings:
    """Whether each lane has its queues, somebody who takes from them, and messages that wait for people."""
    broker = Amqp.of(place.settings.amqp.amqp_url, place.settings.amqp.amqp_vhosts)
    if broker.url is None:
        return
    for lane in place.lanes:
        try:
            async with connected(broker.address(lane.vhost)) as connection:
                work = await _queue(connection, lane.name)
                parked = await _queue(connection, lane.parking)
        except AWAY as error:
            reason = str(error) or type(error).__name__
            yield wrong(f"RabbitMQ does not let us in ({reason})", "start it, or mend --amqp-url")
            return
        if work is None or parked is None:
            yield look(f"the queues of {lane.name} are not there", "kinfolk consume makes them")
            continue
        waiting, consumers = work
        if consumers == 0:
            yield look(f"nobody takes from {lane.name}, where {waiting} wait", "kinfolk consume")
        if parked[0]:
            yield look(f"{parked[0]} messages of {lane.name} are parked", f"kinfolk messages parked {lane.name}")
        if consumers and not parked[0]:
            yield ok(f"{lane.name} has {consumers} consumers, and nothing is parked")


async def _queue(connection: aiormq.Connection, name: str) -> tuple[int, int] | None:
    """How many messages wait in it, and how many consumers it has; None where it is not."""
    channel = await connection.channel()  # its own: a queue that is not there closes it
    try:
        declared = await channel.queue_declare(name, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return None
    return declared.message_count or 0, declared.consumer_count or 0


async def _is_kinfolk(url: str) -> bool:
    try:
        return bool((await _ask(url, "health")).json() == {"status": "alive"})
    except (httpx.TransportError, ValueError):
        return False


async def _ask(url: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, timeout=SECONDS_TO_ANSWER, trust_env=False) as client:
        async with asyncio.timeout(SECONDS_TO_ANSWER):
            return await client.get(path)


def _listener(number: int) -> str:
    """Which process listens on the port, as far as this user may see it (Linux)."""
    inodes = set()
    for table in (PROC / "net/tcp", PROC / "net/tcp6"):
        if table.exists():
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
            inodes |= {
                f"socket:[{row[9]}]" for row in rows if row[3] == LISTENS and int(row[1].split(":")[1], 16) == number
            }
    for link in PROC.glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in inodes:
                return f"{(link.parent.parent / 'comm').read_text().strip()}, process {link.parent.parent.name}"
        except OSError:  # pragma: no cover  # it has ended, or is somebody else's
            continue
    return "a process that this user cannot see"
