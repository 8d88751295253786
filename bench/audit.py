"""What the audit log costs corrections: `python -m bench.audit ROUNDS` prints JSON.

64 at a time over eight imports, as the gathered corrections of one worker make them, on an embedded PostgreSQL with
fsync: by somebody whom the audit log names, and by nobody, turn by turn. What is noted is sealed meanwhile.
"""

import asyncio
import statistics
import sys
from datetime import date
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import msgspec
import uvloop

from bench.processes import cpu_seconds, family
from bench.servers import postgres
from kinfolk.kit import chain, log
from kinfolk.kit.db import Database
from kinfolk.modules.citizens.example_register import generate
from kinfolk.modules.citizens.imports import add_import
from kinfolk.modules.citizens.plain_correction import PlainCorrection, corrections_in
from kinfolk.modules.citizens.register import read_register

TODAY = date(2026, 11, 22)
IMPORTS = 8
CITIZENS = 1_000
CLIENTS = 64
CORRECTIONS = 64
"""Of each client in a round."""


async def corrected(db: Database, import_ids: list[int], by: str | None) -> None:
    corrections = corrections_in(db)

    async def correct(client: int) -> None:
        chance = Random(client)
        for number in range(CORRECTIONS):
            with log.facts(f"request-{number}", by):
                citizen_id = chance.randrange(1, CITIZENS + 1)
                await corrections.make(PlainCorrection(import_ids[client % IMPORTS], citizen_id, {"apartment": number}))

    await asyncio.gather(*map(correct, range(CLIENTS)))


async def measured(url: str, pid: int, rounds: int) -> dict[str, Any]:
    figures: dict[str, dict[str, list[float]]] = {}
    async with Database(url) as db, chain.sealing(db):
        import_ids = []
        for seed in range(IMPORTS):
            async with db.transaction() as conn:
                register = read_register(b"".join(generate(CITIZENS, seed)), TODAY)
                import_ids.append(await add_import(conn, register))
        for number in range(rounds + 1):
            for name, by in (("noted", "user:1"), ("not noted", None)):
                begun, ours, theirs = perf_counter(), process_time(), cpu_seconds(family(pid))
                await corrected(db, import_ids, by)
                seconds = perf_counter() - begun
                if by is not None:
                    await chain.seal_all(db)  # belongs to it, and to nobody's wait
                if number:
                    of = figures.setdefault(name, {"per_second": [], "our_us": [], "postgres_us": []})
                    count = CLIENTS * CORRECTIONS
                    of["per_second"].append(count / seconds)
                    of["our_us"].append((process_time() - ours) / count * 1e6)
                    of["postgres_us"].append((cpu_seconds(family(pid)) - theirs) / count * 1e6)
        async with db.connection() as conn:
            begun = perf_counter()
            found = await chain.verify(conn)
            verified = found.entries / (perf_counter() - begun)
            size = await conn.fetchval("SELECT pg_total_relation_size('audit')")
    assert found.wrong is None
    medians = {name: {key: statistics.median(runs) for key, runs in of.items()} for name, of in figures.items()}
    return {
        "rounds": rounds,
        "corrections": medians,
        "entries": found.entries,
        "bytes_an_entry": size / found.entries,
        "verified_per_second": verified,
    }


def main() -> None:
    with TemporaryDirectory(prefix="kinfolk-bench-") as folder:
        Path(folder).chmod(0o755)
        with postgres(Path(folder) / "data") as (url, pid):
            result = uvloop.run(measured(url, pid, int(sys.argv[1])))
    print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())


if __name__ == "__main__":
    main()
