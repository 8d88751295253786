"""A lane, without RabbitMQ: its names, and where its bodies are read."""

import os

from tests.noting_product import NewNote, take

from kinfolk.kit.lanes import LARGE_BODY_BYTES, Lane

lane = Lane("notes.lane", exchange="notes.exchange", delays_seconds=(0.2, 5, 300))


def who_reads(_body: bytes) -> int:
    return os.getpid()


async def test_a_large_body_is_read_in_a_process_of_its_own() -> None:
    lane.takes(NewNote, who_reads)(take)
    assert await lane.read(b" " * LARGE_BODY_BYTES) == os.getpid()
    assert await lane.read(b" " * (LARGE_BODY_BYTES + 1)) not in {os.getpid(), None}


def test_the_names_of_its_queues_differ() -> None:
    names = [lane.name, lane.parking, *map(lane.delay_queue, lane.delays_seconds)]
    assert names == [
        "notes.lane", "notes.lane.error", "notes.lane.dlq.0.2", "notes.lane.dlq.5", "notes.lane.dlq.300"
    ]  # fmt: skip
