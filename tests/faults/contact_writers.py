"""Those who write contacts into a folder until they are killed, in a process that imports little, to begin soon."""

import asyncio
import random
from multiprocessing.connection import Connection
from pathlib import Path

from kinfolk.modules.contacts.contacts import Entry, NewContact
from kinfolk.modules.contacts.file_store import FileStore

FILES = 100
WRITERS = 32
SIZES = (1, 3_000, 60_000)
IDS = [f"{number:032x}" for number in range(FILES)]


def write(folder: Path, begin: int, tells: "Connection[tuple[str, int], None]") -> None:
    """Replace contacts, each by a count that goes up from `begin`, and tell of each count once it is answered."""
    asyncio.run(_write(folder, begin, tells))


async def _write(folder: Path, begin: int, tells: "Connection[tuple[str, int], None]") -> None:
    store = FileStore(folder)
    store.open()
    counts = dict.fromkeys(IDS, begin)
    turns = {contact_id: asyncio.Lock() for contact_id in IDS}
    await store.add([NewContact(contact_id, Entry(full_name=f"{begin} ")) for contact_id in IDS])

    async def go_on(seed: int) -> None:
        chosen = random.Random(seed)
        while True:
            contact_id = chosen.choice(IDS)
            async with turns[contact_id]:
                counts[contact_id] += 1
                entry = Entry(full_name=f"{counts[contact_id]} " + "x" * chosen.choice(SIZES))
                await store.replace(contact_id, entry, lambda _tag: None)
                tells.send((contact_id, counts[contact_id]))

    await asyncio.gather(*map(go_on, range(WRITERS)))
