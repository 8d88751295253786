"""Jobs a second through one worker, as a process with its log on: each inserts a row in its own transaction.

python -m bench.jobs [--jobs 5000]    prints one JSON object
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.processes import cpu_seconds, family
from bench.servers import postgres
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.jobs import job
from kinfolk.kit.process import Child, Supervisor
from kinfolk.kit.role import role
from kinfolk.kit.settings import LogSettings
from kinfolk.kit.worker import worker

POOL_SIZE = 10
PACE_SECONDS = 0.1


@job(name="bench.row")
async def add_row(conn: Connection, *, number: int) -> None:
    """One insert."""
    await conn.execute("INSERT INTO bench_rows VALUES ($1)", number)


def serve(url: str) -> int:
    """The worker, as `kinfolk work` runs it."""
    db = Database(url, size=POOL_SIZE)
    child = Child("work", role(db, worker(db, [add_row], POOL_SIZE - 1), 20))
    return Supervisor("work", [child], LogSettings(), 20).run(lambda: None, lambda: None)


async def measure(url: str, pg_pid: int, jobs: int, log: Path) -> dict[str, float]:
    async with Database(url) as db:
        async with db.transaction() as conn:
            await conn.execute("CREATE TABLE bench_rows (number bigint NOT NULL)")
            await add_row.later_each(conn, [{"number": number} for number in range(jobs)])
        with log.open("wb") as file:
            words = [sys.executable, "-m", "bench.jobs", "--serve", url]
            process = subprocess.Popen(words, stdout=file, stderr=file)
        try:
            first = await _ended(db, at_least=1)
            begun, cpu, pg_cpu = time.monotonic(), cpu_seconds(family(process.pid)), cpu_seconds(family(pg_pid))
            await _ended(db, at_least=jobs)
            seconds = time.monotonic() - begun
            cpu = cpu_seconds(family(process.pid)) - cpu
            pg_cpu = cpu_seconds(family(pg_pid)) - pg_cpu
        finally:
            process.terminate()
            process.wait()
        async with db.connection() as conn:
            assert await conn.fetchval("SELECT count(DISTINCT number) FROM bench_rows") == jobs
    done = jobs - first
    return {
        "jobs": done,
        "jobs_per_second": done / seconds,
        "worker_cpu_us": cpu / done * 1e6,
        "postgres_cpu_us": pg_cpu / done * 1e6,
    }


async def _ended(db: Database, at_least: int) -> int:
    """Wait until so many have ended; how many have."""
    while True:
        async with db.connection() as conn:
            ended: int = await conn.fetchval("SELECT count(*) FROM bench_rows")
        if ended >= at_least:
            return ended
        await asyncio.sleep(PACE_SECONDS)


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--jobs", type=int, default=5_000)
    words.add_argument("--serve")
    asked = words.parse_args()
    if asked.serve:
        return serve(asked.serve)
    with tempfile.TemporaryDirectory(prefix="kinfolk-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with postgres(folder / "data") as (url, pid):
            print(json.dumps(asyncio.run(measure(url, pid, asked.jobs, folder / "log"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
