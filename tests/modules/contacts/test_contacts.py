"""What is right in an entry, and what a search looks through."""

import asyncio
import json
import time

import pytest

from kinfolk.modules.contacts.contacts import Entry, email_fault, read_entry


@pytest.mark.parametrize("address", ["anna@example.com", "a.b+c@sub.example.org", "Анна@пример.рф"])
def test_an_address_is_judged_by_its_form(address: str) -> None:
    assert email_fault(address) is None
    assert str(email_fault(address.replace("@", ""))).startswith("is not an e-mail address: ")


async def test_a_long_entry_holds_up_nobody() -> None:
    emails = [{"kind": "home", "email": f"a{number}@пример.рф"} for number in range(500)]
    reading = asyncio.ensure_future(read_entry(json.dumps({"full_name": "Anna", "emails": emails}).encode()))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert len((await reading).emails) == 500
    assert turns > 1, "it was read in one turn of the event loop"


def test_accents_without_end_hold_up_nobody() -> None:
    """Twenty thousand of them on one letter take about as long as on as many as they need; not sixty times that."""
    on_many, on_one = "a\u0300\u0316 " * 10_000, "a" + "\u0300\u0316" * 10_000
    assert seconds_to_fold(on_one) < 10 * seconds_to_fold(on_many)


def seconds_to_fold(name: str) -> float:
    """CPU time, at its best."""
    taken = []
    for _ in range(3):
        begun = time.process_time()
        assert len(Entry(full_name=name).searched) >= 20_000
        taken.append(time.process_time() - begun)
    return min(taken)
