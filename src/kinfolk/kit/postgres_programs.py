"""`pg_dump`, `pg_restore` and `psql`, which say how they ended; no password stands on their command lines."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from kinfolk.kit.ending import FAILED, Ended
from kinfolk.kit.postgres_account import last_words


@dataclass(frozen=True)
class Programs:
    """The programs of one folder."""

    folder: Path

    def run(self, program: str, *words: str, url: str | None = None) -> bytes:
        """What a program printed; `url` is the database it connects to. Raises Ended where it fails."""
        with self.begun(program, *words, url=url, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            return process.stdout.read()

    @contextmanager
    def begun(
        self,
        program: str,
        *words: str,
        url: str | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A program at work, waited for at the end. Raises Ended where it fails, and ends it where the caller does."""
        where, environment = _connection(url) if url is not None else ((), {})
        with TemporaryFile() as errors:
            process = subprocess.Popen(
                [self.folder / program, *words, *where],
                stdin=stdin,
                stdout=stdout,
                stderr=errors,
                env=os.environ | environment | {"LC_ALL": "C"},
            )
            with process:
                try:
                    yield process
                except BaseException as error:
                    if process.stdin is not None and isinstance(error, BrokenPipeError):
                        with suppress(BrokenPipeError):
                            process.stdin.close()  # it wants no more, and says why
                    else:
                        process.kill()
                        raise
            if process.returncode:
                raise Ended(FAILED, f"{program} failed:\n{_said(errors)}")


def _said(errors: IO[bytes]) -> str:
    errors.seek(0)
    return last_words(errors.read().decode(errors="replace"))


def _connection(url: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The word that names the database, and the variable that holds the password: everybody sees what `ps` shows."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    passwords = [value for name, value in query if name == "password"]
    if parts.password is not None:
        passwords.append(unquote(parts.password))
    user, _, place = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}@{place}" if user else place
    kept = urlencode([(name, value) for name, value in query if name != "password"])
    plain = urlunsplit(parts._replace(netloc=netloc, query=kept))
    return ("--dbname", plain), {"PGPASSWORD": passwords[-1]} if passwords else {}
