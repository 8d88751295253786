"""The analyst's commands: `kinfolk generate` and `kinfolk import`."""

import os
import stat
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Annotated, BinaryIO

import httpx
import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from kinfolk.kit.client import connect, nobody_there, place, printable, refused
from kinfolk.kit.ending import FAILED, Ended, Missing, WrongSetting, ends_plainly, tell
from kinfolk.kit.settings import ClientSettings, FileSettings, whole

CHUNK_BYTES = 64 * 1024
PAUSES_SECONDS = (0.5, 1, 2, 4)


class ImportNumber(msgspec.Struct, frozen=True):
    import_id: int


class ImportAdded(msgspec.Struct, frozen=True):
    data: ImportNumber


@ends_plainly
def generate(
    count: Annotated[int, Parameter(help="How many citizens, 0 to 10,000.", converter=whole)],
    /,
    *,
    seed: Annotated[int | None, Parameter(help="The same seed gives the same register again.", converter=whole)] = None,
    ties: Annotated[
        int | None, Parameter(help="So many ties in all, instead of those that the families have.", converter=whole)
    ] = None,
) -> int:
    """Write an example register to standard output, as one JSON document.

    Families, streets and birthdays are believable, and invented. Without a seed, the one that was
    taken is told on standard error.
    """
    # Faker takes a third of a second to load, which the other command need not wait for.
    from kinfolk.modules.citizens import example_register

    taken_seed = SystemRandom().randrange(1_000_000) if seed is None else seed
    try:
        chunks = example_register.generate(count, taken_seed, ties)
    except ValueError as error:
        raise WrongSetting(str(error)) from None
    if seed is None:
        tell(f"--seed {taken_seed} gives this register again")
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    return 0


@ends_plainly
def import_register(
    file: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="The register as JSON, `.gz` for gzip, `-` for standard input.")
    ],
    /,
    *,
    client: ClientSettings = ClientSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Send a register to the running service and print the number of the import.

    The number is the last word on standard output; progress, and every bad place of a register that is
    refused, go to standard error. A lost connection is tried again where the file can be read again,
    and never imports twice.
    """
    with ExitStack() as stack:
        source = stack.enter_context(opened(file))
        service = stack.enter_context(connect(client.api_url, client.token_file))
        register = Register(file, source)
        sent = stack.enter_context(shown_progress(register, place(service)))
        answer = sent_until_answered(service, register, sent)
    if answer.status_code != httpx.codes.CREATED:
        raise refused(answer)
    try:
        import_id = msgspec.json.decode(answer.content, type=ImportAdded).data.import_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise refused(answer) from None
    tell(f"its answers: {place(service)}/?import={import_id}")
    print(f"import {import_id}", flush=True)  # the answer
    return 0


class Register:
    """A file on its way: its name, what is known of its size, and its bytes."""

    def __init__(self, file: str, source: BinaryIO) -> None:
        self.name = "standard input" if file == "-" else Path(file).name
        self.is_gzip = file.endswith(".gz")
        status = os.fstat(source.fileno())
        self.size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._source = source

    @property
    def can_be_sent_again(self) -> bool:
        """Whether it is a file proper, not a pipe."""
        return self.size_bytes is not None

    def headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json"}
        if self.is_gzip:
            headers["content-encoding"] = "gzip"
        if self.size_bytes is not None:
            headers["content-length"] = str(self.size_bytes)
        return headers

    def chunks(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The bytes from the beginning; `sent` hears how many there have been."""
        if self.can_be_sent_again:
            self._source.seek(0)
        total = 0
        while chunk := self._source.read(CHUNK_BYTES):
            total += len(chunk)
            self._check_size(total, is_end=False)
            yield chunk
            sent(total)
        self._check_size(total, is_end=True)

    def _check_size(self, total: int, *, is_end: bool) -> None:
        if self.size_bytes is not None and (total > self.size_bytes or (is_end and total < self.size_bytes)):
            raise Ended(FAILED, f"{self.name} changed while it was being sent")


def opened(file: str) -> BinaryIO:
    """The file for reading; standard input stays open. Raises Ended where there is none."""
    if file == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    if file.startswith("-"):
        raise WrongSetting(f"there is no option {printable(file)}; a file of this name is ./{printable(file)}")
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise WrongSetting(f"{printable(file)} cannot be read: {error.strerror}") from None


def sent_until_answered(client: httpx.Client, register: Register, sent: Callable[[int], None]) -> httpx.Response:
    """POST the register until somebody answers, a few times where the connection is lost.

    One key goes with every attempt, so that the service takes the register once, whichever arrived.
    """
    headers = register.headers() | {"idempotency-key": str(uuid.uuid4())}
    pauses = iter(PAUSES_SECONDS if register.can_be_sent_again else ())
    was_connected = False
    while True:
        try:
            return client.post("api/v1/imports", content=register.chunks(sent), headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if not was_connected:
                raise nobody_there(client) from None
        except httpx.TransportError:
            was_connected = True
        pause_seconds = next(pauses, None)
        if pause_seconds is None:
            raise Missing(f"the connection to {place(client)} was lost; whether the register arrived is not known")
        tell(f"the connection was lost; trying again in {pause_seconds:g} s")
        time.sleep(pause_seconds)


@contextmanager
def shown_progress(register: Register, service: str) -> Iterator[Callable[[int], None]]:
    """Show how much has been sent: a bar on a terminal, elsewhere one line; gives whom to tell the bytes."""
    if not sys.stderr.isatty():
        size = "" if register.size_bytes is None else f" ({register.size_bytes:,} bytes)"
        tell(f"sending {register.name}{size} to {service}")
        yield lambda _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"sending {escape(register.name)}", total=register.size_bytes)

        def sent(total: int) -> None:
            progress.update(task, completed=total)
            if total == register.size_bytes:
                progress.update(task, description="sent; the service checks it")

        yield sent
