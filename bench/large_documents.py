"""What the largest document costs: everybody else's answers meanwhile, and memory.

`python -m bench.large_documents URL FILE HOW_MANY` imports the file so often, one after another.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from bench.bars import Bar
from bench.client import Connection
from bench.operations import OURS, Comparison
from bench.processes import family, pss_megabytes
from bench.report import Result
from bench.rounds import Figures
from bench.servers import beside

PROBE_PAUSE_SECONDS = 0.005
SAMPLE_PAUSE_SECONDS = 0.01
LONGEST_FIELD = 256
DOCUMENTS = 8
DOCUMENTS_FOR_MEMORY = 3


def largest_document(size: int) -> bytes:
    """Every text as long as the contract allows, Cyrillic in JSON's escapes: 63 MB for 10,000 citizens."""
    letters = [f"\\u{code:04x}" for code in range(0x0430, 0x0450)]
    long = {
        name: "".join(letters[(place * 7 + number) % 32] for place in range(LONGEST_FIELD - 8))
        for number, name in enumerate(("town", "street", "building", "name"))
    }
    citizens = []
    for number in range(1, size + 1):
        own = "".join(letters[int(digit)] for digit in f"{number:08}")
        texts = ",".join(f'"{name}":"{own}{text}"' for name, text in long.items())
        relative = number + 1 if number % 2 else number - 1
        relatives = [relative] if relative <= size else []
        citizens.append(
            f'{{"citizen_id":{number},{texts},"apartment":{number},"birth_date":"01.02.1990","gender":"male",'
            f'"relatives":{relatives}}}'
        )
    return f'{{"citizens":[{",".join(citizens)}]}}'.encode()


def import_in_a_row(url: str, document: bytes, how_many: int) -> list[float]:
    """How many milliseconds each took."""
    taken = []
    with closing(Connection(url)) as connection:
        request = connection.request("POST", "/imports", document)
        for _ in range(how_many):
            begun = time.perf_counter()
            connection.ask(request, 201)
            taken.append((time.perf_counter() - begun) * 1_000)
    return taken


def probe_meanwhile(url: str, file: Path, how_many: int) -> Result:
    """How long `/health` takes while documents are imported, and while nothing else is asked.

    A probe is due every few milliseconds and is counted from then on, sent or not: a server that stops for a while
    is slow for all who would have asked.
    """
    busy, idle = f"{OURS}, while the largest documents are imported", f"{OURS}, idle"
    with closing(Connection(url)) as connection:
        command = [sys.executable, "-m", "bench.large_documents", url, str(file), str(how_many)]
        with beside(command) as importing:
            meanwhile = _probe(connection, lambda: importing.poll() is None)
            printed, _ = importing.communicate()
        if importing.returncode:
            raise SystemExit("the documents could not be imported")
        probes = iter(range(len(meanwhile) - 1))
        alone = _probe(connection, lambda: next(probes, None) is not None)
    taken = {
        busy: meanwhile,
        idle: alone,
        f"{OURS}, the imports themselves": msgspec.json.decode(printed, type=list[float]),
    }
    return Result(
        name="/health",
        figures=[Figures.of(name, runs_ms, {}, is_batch=False) for name, runs_ms in taken.items()],
        comparisons=[Comparison(busy, idle, Bar("most", 25), is_by_p99=True)],
    )


def _probe(connection: Connection, goes_on: Callable[[], bool]) -> list[float]:
    asking = connection.request("GET", "/health")
    taken, due = [], time.perf_counter()
    while True:
        connection.ask(asking, 200)
        now = time.perf_counter()
        taken.append((now - due) * 1_000)
        if not goes_on():
            return taken
        due += PROBE_PAUSE_SECONDS
        time.sleep(max(0.0, due - now))


def peak_while_imported(url: str, pid: int, document: bytes) -> float:
    """Megabytes of all processes of the service, each shared page counted once, at their most."""
    peak, is_over = 0.0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not is_over.wait(SAMPLE_PAUSE_SECONDS):
            peak = max(peak, pss_megabytes(family(pid)))

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        import_in_a_row(url, document, DOCUMENTS_FOR_MEMORY)
        time.sleep(2 * SAMPLE_PAUSE_SECONDS)
    finally:
        is_over.set()
        sampling.join()
    return max(peak, pss_megabytes(family(pid)))


if __name__ == "__main__":
    print(msgspec.json.encode(import_in_a_row(sys.argv[1], Path(sys.argv[2]).read_bytes(), int(sys.argv[3]))).decode())
