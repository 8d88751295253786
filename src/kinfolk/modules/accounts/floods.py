"""How often one may fail to log in: counted for all processes, before a password is looked at.

In two minutes an address may fail five times for one account, and fifty times in all. An account that has failed
twenty times, from wherever, leaves each address one attempt instead of five. So whatever others do elsewhere, nobody
is kept from logging in with the right password.
"""

import hashlib
from collections import Counter
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil

from kinfolk.kit import problems
from kinfolk.kit.db import Connection
from kinfolk.modules.accounts.statements import COUNTED, FORGIVEN, FORGOTTEN

MOST_OF_ONE = 5
MOST_OF_ONE_IN_A_FLOOD = 1
MOST_OF_ADDRESS = 50
MOST_OF_ACCOUNT = 20
LONGEST_WAIT_SECONDS = 120
NETWORK_BITS = 64  # what one customer of a provider has of IPv6


class TooManyFailures(problems.TooMany):
    """Too many attempts to log in have failed: wait."""


class Attempt:
    """Somebody tries to log in."""

    def __init__(self, username: str, address: str) -> None:
        name, place = _one_spelling(username), _network(address)
        self.of_address = _subject(1, place)
        self.of_one = _subject(2, name, place)
        self.of_account = _subject(3, name)

    async def forgive(self, conn: Connection) -> None:
        """It was no failure."""
        await FORGIVEN.execute(conn, subjects=[self.of_one, self.of_address, self.of_account])


async def count(conn: Connection, attempts: list[Attempt]) -> list[TooManyFailures | None]:
    """Count each as failed, until it is forgiven; in its place, that it is one too many.

    What is refused costs the account nothing, nor its owner; and what an address sends beyond its measure costs the
    database no more than one row.
    """
    refused: dict[Attempt, TooManyFailures] = {}
    found: dict[Attempt, tuple[int, float]] = {}
    for attempt, failures, seconds in await _count(conn, [(each, each.of_address) for each in attempts]):
        if failures > MOST_OF_ADDRESS:
            refused[attempt] = _wait(seconds)
    left = [each for each in attempts if each not in refused]
    for attempt, failures, seconds in await _count(conn, [(each, each.of_one) for each in left]):
        found[attempt] = failures, seconds
        if failures > MOST_OF_ONE:
            refused[attempt] = _wait(seconds)
    left = [each for each in left if each not in refused]
    for attempt, of_account, _ in await _count(conn, [(each, each.of_account) for each in left]):
        of_one, seconds = found[attempt]
        if of_account > MOST_OF_ACCOUNT and of_one > MOST_OF_ONE_IN_A_FLOOD:
            refused[attempt] = _wait(seconds)
    return [refused.get(each) for each in attempts]


async def forget_old(conn: Connection) -> int:
    """Forget failures that no longer count; of how many."""
    return len(await FORGOTTEN.fetch(conn))


async def _count(conn: Connection, asked: list[tuple[Attempt, bytes]]) -> list[tuple[Attempt, int, float]]:
    """How often its subject has failed, one attempt after another, and the seconds until that no longer counts."""
    times = Counter(subject for _, subject in asked)
    if not times:
        return []
    # In one order, so that nobody waits in a circle; so are the kinds of subjects, see `count` and `_subject`.
    rows = await COUNTED.fetch(conn, subjects=sorted(times), times=[times[each] for each in sorted(times)])
    failures = {subject: total - times[subject] for subject, total, _ in rows}
    seconds = {subject: left for subject, _, left in rows}
    counted = []
    for attempt, subject in asked:
        failures[subject] += 1
        counted.append((attempt, failures[subject], seconds[subject]))
    return counted


def _wait(seconds: float) -> TooManyFailures:
    return TooManyFailures(retry_after_seconds=min(max(1, ceil(seconds)), LONGEST_WAIT_SECONDS))


def _one_spelling(username: str) -> str:
    """Of all that the database takes for one name: to its `lower` no letter becomes two, as `İ` does to Python's."""
    return "".join(letter.lower()[0] for letter in username).casefold()


def _network(address: str) -> str:
    """Whom an address stands for."""
    try:
        found = ip_address(address)
    except ValueError:  # a unix socket has none
        return ""
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, NETWORK_BITS), strict=False))
    return str(found)


def _subject(kind: int, *words: str) -> bytes:
    """By kind first: who counts and who forgives take the rows in one order."""
    return bytes([kind]) + hashlib.sha256("\0".join(words).encode()).digest()
