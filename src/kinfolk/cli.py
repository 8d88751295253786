"""`kinfolk`: one word for each role and each errand."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.config import Env

from kinfolk import __version__
from kinfolk.kit.settings import (
    PREFIX,
    ClientSettings,
    DatabaseSettings,
    FileSettings,
    LogSettings,
    Missing,
    ProcessSettings,
    Sources,
    WebSettings,
    WrongSetting,
    default_data_dir,
    masked,
)

EPILOGUE = """Every option is also a variable KINFOLK_… and a key of the file given by --config.
Exit codes: 0 ended as asked, 1 failed, 2 wrong usage or settings, 3 something needed is not there, 130 interrupted."""

sources = Sources()
app = App(
    name="kinfolk",
    help="Registers of citizens in, kinship kept two-way, answers out.",
    help_epilogue=EPILOGUE,
    version=__version__,
    default_parameter=Parameter(show_env_var=False),
    config=[Env(PREFIX, command=False), sources],
)


@contextmanager
def database_url(settings: DatabaseSettings) -> Iterator[str]:
    """The server named by `--pg-url`, else the embedded one for as long as this lasts."""
    if settings.pg_url is not None:
        if not settings.pg_url.startswith(("postgresql://", "postgres://")):
            raise WrongSetting("--pg-url must look like postgresql://user:password@host:port/name")
        yield settings.pg_url
        return
    from kinfolk.kit.embedded_postgres import EmbeddedPostgres

    server = EmbeddedPostgres(settings.data_dir or default_data_dir(), binaries=settings.pg_bin)
    url = server.start()
    try:
        yield url
    finally:
        server.stop()


@app.command
def up(
    database: DatabaseSettings = DatabaseSettings(),
    web: WebSettings = WebSettings(),
    process: ProcessSettings = ProcessSettings(),
    logs: LogSettings = LogSettings(),
    file: FileSettings = FileSettings(),
) -> int:
    """Start everything: the database, its migrations, the API and its pages."""
    from kinfolk.kit.migrate import upgrade

    with database_url(database) as url:
        upgrade(url)
        return _serve(url, database, web, process, logs, is_greeting=True)


@app.command
def api(
    database: DatabaseSettings = DatabaseSettings(),
    web: WebSettings = WebSettings(),
    process: ProcessSettings = ProcessSettings(),
    logs: LogSettings = LogSettings(),
    file: FileSettings = FileSettings(),
) -> int:
    """Answer HTTP. The tables must be there: `kinfolk db upgrade head`."""
    with database_url(database) as url:
        return _serve(url, database, web, process, logs, is_greeting=False)


def _serve(
    url: str,
    database: DatabaseSettings,
    web: WebSettings,
    process: ProcessSettings,
    logs: LogSettings,
    *,
    is_greeting: bool,
) -> int:
    from kinfolk.kit import log, metrics
    from kinfolk.kit.process import Child, Supervisor, become, listen

    bound = listen(web)
    folder = metrics.share_folder()
    try:
        if process.user is not None:
            become(process.user, folder)
        log.start(logs, in_thread=False)

        from kinfolk.app import MODULES
        from kinfolk.kit.db import Database
        from kinfolk.kit.http.application import application
        from kinfolk.kit.http.server import serve

        def run(on_ready: Callable[[], None]) -> None:
            db = Database(url, size=database.pool_size)
            serve(application(MODULES, db), db, bound, process.grace_seconds, on_ready)

        def announce() -> None:
            place = f"uds={web.uds}" if web.uds else "address={} port={}".format(*bound.getsockname()[:2])
            print(f"ready role=api {place} pid={os.getpid()}", file=sys.stderr, flush=True)
            if is_greeting and web.uds is None:
                print(_greeting(bound, database), flush=True)

        workers = [Child(f"api {number}", run) for number in range(1, web.workers + 1)]
        return Supervisor(workers, logs, process.grace_seconds).run(announce)
    finally:
        metrics.drop_folder(folder)


def _greeting(bound: socket.socket, database: DatabaseSettings) -> str:
    address, port = bound.getsockname()[:2]
    home = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    lines = [
        f"Kinfolk {__version__} is up.",
        f"  page           {home}/",
        f"  API            {home}/docs",
        "  log            here, on standard error",
    ]
    if database.pg_url is None:
        data_dir = database.data_dir or default_data_dir()
        lines += [f"  database       {data_dir} (its log: {data_dir / 'postgres.log'})"]
    return "\n".join([*lines, "Ctrl-C ends it."])


@app.command
def db(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    database: DatabaseSettings = DatabaseSettings(),
    file: FileSettings = FileSettings(),
) -> int:
    """Look after the tables, with the words of Alembic.

    upgrade head, downgrade -1, current, history, check, revision -m "what" --autogenerate, …
    """
    from kinfolk.kit.migrate import run_words

    with database_url(database) as url:
        return run_words(url, words)


@app.command
def settings(
    file: FileSettings = FileSettings(),
    database: DatabaseSettings = DatabaseSettings(),
    web: WebSettings = WebSettings(),
    process: ProcessSettings = ProcessSettings(),
    logs: LogSettings = LogSettings(),
    client: ClientSettings = ClientSettings(),
) -> None:
    """Show every setting, its value and where it came from; passwords are masked."""
    rows = [
        (name, masked(name, getattr(group, name)), sources.origins.get(name, "default"))
        for group in (file, database, web, process, logs, client)
        for name in type(group).__dataclass_fields__
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        print(f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}")


def _add_module_commands() -> None:
    from kinfolk.app import MODULES

    for module in MODULES:
        for name, function in module.commands.items():
            app.command(function, name=name)


def run(words: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    try:
        _add_module_commands()
        result: Any = app(words, result_action="return_value")
    except (Missing, WrongSetting) as error:
        print(f"kinfolk: {error}", file=sys.stderr)
        return 3 if isinstance(error, Missing) else 2
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0


def main() -> None:
    sys.exit(run())


def main_db() -> None:
    """`kinfolk-db …` is `kinfolk db …`."""
    sys.exit(run(["db", *sys.argv[1:]]))
