"""How often one may fail to log in: counted for all processes, before a password is looked at.

In two minutes an address may fail five times for one account, and fifty times in all. An account that has failed
twenty times, from wherever, leaves each address one attempt instead of five. So whatever others do elsewhere, nobody
is kept from logging in with the right password.
"""

import hashlib
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil

from kinfolk.kit import problems
from kinfolk.kit.db import Connection
from kinfolk.modules.accounts.statements import COUNTED, FORGIVEN, FORGOTTEN

MOST_OF_ONE = 5
MOST_OF_ONE_IN_A_FLOOD = 1
MOST_OF_ADDRESS = 50
MOST_OF_ACCOUNT = 20
NETWORK_BITS = 64  # what one customer of a provider has of IPv6


class TooManyFailures(problems.TooMany):
    """Too many attempts to log in have failed: wait."""


class Attempt:
    """Somebody tries to log in."""

    def __init__(self, username: str, address: str) -> None:
        name, place = username.casefold(), _network(address)
        self._of_one = _subject("one", name, place)
        self._of_address = _subject("address", place)
        self._of_account = _subject("account", name)

    async def count(self, conn: Connection) -> None:
        """Count it as failed, until it is forgiven. Raises TooManyFailures where it is one too many."""
        counts = await _count(conn, self._of_one, self._of_address)
        of_one, seconds = counts[self._of_one]
        of_address, address_seconds = counts[self._of_address]
        if of_one > MOST_OF_ONE or of_address > MOST_OF_ADDRESS:
            raise _wait(seconds if of_one > MOST_OF_ONE else address_seconds)
        # What is refused above costs the account nothing, nor its owner.
        of_account, _ = (await _count(conn, self._of_account))[self._of_account]
        if of_account > MOST_OF_ACCOUNT and of_one > MOST_OF_ONE_IN_A_FLOOD:
            raise _wait(seconds)

    async def forgive(self, conn: Connection) -> None:
        """It was no failure."""
        await FORGIVEN.execute(conn, subjects=[self._of_one, self._of_address, self._of_account])


async def forget_old(conn: Connection) -> int:
    """Forget failures that no longer count; of how many."""
    return len(await FORGOTTEN.fetch(conn))


async def _count(conn: Connection, *subjects: bytes) -> dict[bytes, tuple[int, float]]:
    """How often each has failed, and the seconds until that no longer counts."""
    rows = await COUNTED.fetch(conn, subjects=sorted(subjects))  # in one order, so that nobody waits in a circle
    return {subject: (failures, seconds) for subject, failures, seconds in rows}


def _wait(seconds: float) -> TooManyFailures:
    return TooManyFailures(retry_after_seconds=max(1, ceil(seconds)))


def _network(address: str) -> str:
    """Whom an address stands for."""
    try:
        found = ip_address(address)
    except ValueError:  # a unix socket has none
        return ""
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, NETWORK_BITS), strict=False))
    return str(found)


def _subject(*words: str) -> bytes:
    return hashlib.sha256("\0".join(words).encode()).digest()
