"""`kinfolk`: one word for each role and each errand."""

import os
import socket
import sys
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env

from kinfolk import __version__
from kinfolk.kit.database_url import check_redis_url, database_url
from kinfolk.kit.ending import OK, Missing, WrongSetting, ends_plainly, tell
from kinfolk.kit.settings import (
    PREFIX,
    AmqpSettings,
    CacheSettings,
    DatabaseSettings,
    EverySetting,
    FileSettings,
    RoleSettings,
    ServingSettings,
    WebSettings,
    masked,
    sources,
)

if TYPE_CHECKING:
    from kinfolk.kit.auth import Auth
    from kinfolk.kit.cache import Cache
    from kinfolk.kit.compiled import Compiled
    from kinfolk.kit.db import Database
    from kinfolk.kit.rabbit import Amqp
    from kinfolk.roles import Role

EPILOGUE = """Every setting is also a variable KINFOLK_… and a key of the file given by --config.
Exit codes: 0 ended as asked, 1 failed, 2 wrong usage or settings, 3 something needed is not there, 130 interrupted."""

KEEPING = {name: f"kinfolk.keeping:{name}" for name in ("backup", "restore", "doctor")}

app = App(
    name="kinfolk",
    help="Registers of citizens in, kinship kept two-way, answers out.",
    help_epilogue=EPILOGUE,
    version=__version__,
    default_parameter=Parameter(show_env_var=False),
    config=[Env(PREFIX, command=False), sources],
)


@app.command
def up(settings: ServingSettings = ServingSettings()) -> int:
    """Start everything: the database, its migrations, the API and its pages, and the roles beside it."""
    return _serve("up", settings)


def _load_statements(upgraded_url: str | None = None) -> None:
    """Compile the modules' statements aside, and there, too, bring a database to the head of the history."""
    from kinfolk.kit.compiled import compiled, stand_in
    from kinfolk.kit.errand import run_aside

    def prepare() -> "Compiled":
        from kinfolk.app import MODULES

        if upgraded_url is not None:
            from kinfolk.kit.migrate import upgrade

            upgrade(upgraded_url)
        return compiled(MODULES)

    stand_in(run_aside(prepare))


@app.command
def api(settings: ServingSettings = ServingSettings()) -> int:
    """Answer HTTP. The tables must be there: `kinfolk db upgrade head`."""
    return _serve("api", settings)


def _taken(settings: ServingSettings) -> "Amqp":
    """Take what can be taken before there is a database, so that none is started or migrated for a wrong setting.

    Returns where RabbitMQ is. Raises Ended.
    """
    from kinfolk.kit import telemetry
    from kinfolk.kit.errand import run_aside
    from kinfolk.kit.outside import know
    from kinfolk.kit.proxies import Proxies

    check_redis_url(settings.cache)
    Proxies(settings.web.trusted_proxies)
    know(timezone=settings.outside.timezone_url)
    telemetry.use(settings.telemetry)
    run_aside(partial(_try_out, settings))
    return _amqp(settings.amqp)


def _try_out(settings: ServingSettings) -> None:
    """What is done late in a start, as another user perhaps, done first in a child for what it raises: Ended."""
    from kinfolk.kit import log
    from kinfolk.kit.user import become

    store, user = settings.contacts.contacts_store, settings.process.user
    if store != "sql":  # of which nothing can be wrong, and loading it takes long
        from kinfolk.modules.contacts.stores import choose
    if user is not None:
        become(user)
    log.start(settings.logs, in_thread=False)
    if store != "sql":
        choose(store, settings.web.workers)


def _provide_admin(url: str, settings: WebSettings) -> None:
    """See to it that somebody can log in, where that is asked of everybody."""
    if settings.asks_who:
        from kinfolk.kit.errand import run_aside
        from kinfolk.modules.accounts.first import make_first_admin

        run_aside(partial(make_first_admin, url))


def _serve(role: str, settings: ServingSettings) -> int:
    from kinfolk.kit import log, metrics
    from kinfolk.kit.listening import is_here_only, listening, place_of
    from kinfolk.kit.process import Child, Supervisor
    from kinfolk.kit.role import role as beside
    from kinfolk.kit.user import become

    database, web, process, logs = settings.database, settings.web, settings.process, settings.logs
    amqp = _taken(settings)
    with (
        listening(web) as bound,
        database_url(database, process.user) as (url, mend),
        metrics.shared_folder() as folder,
    ):
        _load_statements(url if role == "up" else None)
        _provide_admin(url, web)
        from kinfolk.app import MODULES
        from kinfolk.kit.db import Database
        from kinfolk.kit.http.application import application
        from kinfolk.kit.http.server import server
        from kinfolk.kit.news import use
        from kinfolk.kit.passwords import hasher
        from kinfolk.kit.pool import new_line, reader
        from kinfolk.kit.revision import head
        from kinfolk.modules.contacts import cards
        from kinfolk.modules.contacts.stores import choose

        head()  # is remembered for /ready
        db = Database(url, size=database.pool_size)
        calls, taken = new_line()
        asked, heard = new_line()
        answers = _cache(settings.cache, url)
        use(amqp)
        auth = _auth(db, asked, url, settings)
        is_path = bound.family == socket.AF_UNIX
        is_local = not web.asks_who and is_here_only(bound)
        app = application(
            *(MODULES, db, answers, calls, web.uploads),
            amqp=amqp,
            auth=auth,
            is_local=is_local,
            most_sockets=web.sockets,
        )
        serve = server(app, db, bound, process.grace_seconds, answers, tokens=auth.tokens, is_audited=web.asks_who)
        roles = _roles(amqp) if role == "up" else {}
        others = [Child(name, beside(db, load(db), process.grace_seconds)) for name, load in roles.items()]
        if process.user is not None:  # after everything is loaded, which may lie where only root can read
            cards.load()
            become(process.user, folder)
        choose(settings.contacts.contacts_store, web.workers)
        log.start(logs, in_thread=False)
        greeting = _greeting(bound, database) if role == "up" and not is_path else None

        def announce() -> None:
            tell(f"ready role=api {place_of(bound)} pid={os.getpid()}")
            for name in roles:
                tell(f"ready role={name} pid={os.getpid()}")
            if roles and "consume" not in roles:
                tell("messages are off; --amqp-url amqp://user:password@host:port/vhost (RabbitMQ) turns them on")
            if greeting:
                print(greeting, flush=True)

        workers = [Child(f"api {number}", serve) for number in range(1, web.workers + 1)]
        others.append(Child("reader", reader(taken, url), call=taken))
        others.append(Child("passwords", hasher(heard), call=heard))
        return Supervisor(role, [*workers, *others], logs, process.grace_seconds).run(announce, bound.close, mend)


def _auth(db: "Database", asked: socket.socket, secret: str, settings: ServingSettings) -> "Auth":
    """Who may do what, and where the tokens are kept; `asked` leads to the process that knows passwords."""
    from kinfolk.kit.auth import Auth
    from kinfolk.kit.passwords import Passwords
    from kinfolk.kit.proxies import Proxies
    from kinfolk.kit.tokens import kept_tokens
    from kinfolk.rules import EVENTS, RULES

    web = settings.web
    tokens = kept_tokens(db, settings.cache.redis_url, secret)
    proxies = Proxies(web.trusted_proxies)
    return Auth(RULES, tokens, Passwords(asked), events=EVENTS, proxies=proxies, is_required=web.asks_who)


def _roles(amqp: "Amqp") -> "dict[str, Role]":
    """What `up` runs beside the API: the roles that have what they need."""
    from kinfolk.roles import consume, schedule, work

    taking: dict[str, Role] = {} if amqp.url is None else {"consume": partial(consume, amqp=amqp)}
    return {"work": work, "schedule": schedule} | taking


def _amqp(settings: AmqpSettings) -> "Amqp":
    """Where RabbitMQ is. Raises WrongSetting."""
    from kinfolk.kit.rabbit import Amqp

    return Amqp.of(settings.amqp_url, settings.amqp_vhosts, settings.amqp_delays)


def _cache(settings: CacheSettings, secret: str) -> "Cache":
    """Those who share a database share answers, and its URL is the secret that they know."""
    from kinfolk.kit.cache import Cache
    from kinfolk.kit.shelf import Shelf

    return Cache(settings.cache_bytes, Shelf(settings.redis_url, secret) if settings.redis_url else None)


@app.command
def work(settings: RoleSettings = RoleSettings(), amqp: AmqpSettings = AmqpSettings()) -> int:
    """Do the jobs in the queue. Any number of these may run."""
    from kinfolk.roles import work

    return _run_role("work", work, settings, _amqp(amqp))


@app.command
def schedule(
    settings: RoleSettings = RoleSettings(),
    *,
    is_list: Annotated[
        bool, Parameter(name="--list", negative="", help="Show when each tick is due next, and end.")
    ] = False,
) -> int:
    """Put jobs into the queue when they are due (cron), each once. Any number of these may run."""
    from kinfolk.roles import next_ticks, schedule

    if is_list:
        for line in next_ticks():
            print(line)
        return OK
    return _run_role("schedule", schedule, settings)


@app.command
def consume(settings: RoleSettings = RoleSettings(), amqp: AmqpSettings = AmqpSettings()) -> int:
    """Take messages from RabbitMQ. Any number of these may run."""
    from kinfolk.roles import consume

    broker = _amqp(amqp)
    if broker.url is None:
        raise Missing("there is nothing to consume from: --amqp-url amqp://user:password@host:port/vhost (RabbitMQ)")
    return _run_role("consume", partial(consume, amqp=broker), settings, broker)


def _run_role(name: str, load: "Role", settings: RoleSettings, amqp: "Amqp | None" = None) -> int:
    """A role by itself: one child, watched, which publishes at `amqp`."""
    from kinfolk.kit import log, metrics, telemetry
    from kinfolk.kit.process import Child, Supervisor
    from kinfolk.kit.role import role, watched_at
    from kinfolk.kit.user import become

    grace_seconds = settings.process.grace_seconds
    telemetry.use(settings.telemetry)
    with (
        database_url(settings.database, settings.process.user) as (url, mend),
        watched_at(settings.metrics) as watched,
        metrics.shared_folder() as folder,
    ):
        from kinfolk.kit.db import Database

        _load_statements()
        if amqp is not None:
            from kinfolk.kit.news import use

            use(amqp)
        db = Database(url, size=settings.database.pool_size)
        child = Child(name, role(db, load(db), grace_seconds, watched))
        if settings.process.user is not None:
            become(settings.process.user, folder)
        log.start(settings.logs, in_thread=False)
        place = "" if watched is None else f" metrics_port={watched.getsockname()[1]}"

        def announce() -> None:
            tell(f"ready role={name}{place} pid={os.getpid()}")

        return Supervisor(name, [child], settings.logs, grace_seconds).run(announce, lambda: None, mend)


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
        log = database.data_dir / "postgres.log"
        lines += [f"  database       {database.data_dir} (its log: {log})"]
    return "\n".join([*lines, "Ctrl-C ends it."])


@app.command
def db(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    database: DatabaseSettings = DatabaseSettings(),
    file: FileSettings = FileSettings(),
) -> int:
    """Look after the tables, with the words of Alembic.

    upgrade head, downgrade -1, current, history, check, revision -m "what" --autogenerate, …
    And of our own: distribute [--dry-run], which spreads them over a Citus cluster.
    """
    if words[:1] == ("distribute",):
        from kinfolk.app import MODULES
        from kinfolk.kit import distribution

        return distribution.run(words[1:], MODULES, database_url(database))
    from kinfolk.kit import migrate

    order = migrate.read_words(words)
    with database_url(database) as (url, _mend):
        migrate.run(url, order)
    return OK


@app.command
def new(what: Literal["module"], many: str, /, *, one: str | None = None) -> None:
    """Make a module of your own in a checkout: table, API, jobs, messages, migration, tests and page.

    Parameters
    ----------
    what
        What to make: a module, after the pattern of the students.
    many
        Its name, in the plural: pets.
    one
        The singular, where it is not the plural without its s.
    """
    from kinfolk.new_module import CHECKOUT, new_module

    for path in new_module(many, one):
        print(path.relative_to(CHECKOUT))


@app.command
def settings(every: EverySetting = EverySetting()) -> None:
    """Show every setting, its value and where it came from; passwords are masked."""
    rows = [
        (name, masked(name, getattr(group, name)), sources.origins.get(name, "default"))
        for group in vars(every).values()
        for name in vars(group)
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        print(f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}")


def add_commands(*, is_listing: bool) -> None:
    """Those of other files: each is loaded when called, or when its first line is to be listed."""
    from kinfolk.app import MODULES

    for commands in (KEEPING, *(module.commands for module in MODULES)):
        for name, place in commands.items():
            if name in app:  # run twice in one process
                continue
            app.command(resolve_name(place) if is_listing else place, name=name)


@ends_plainly
def run(words: list[str]) -> int:
    """Run one command line; returns the exit code."""
    add_commands(is_listing=not words or words[0] in {"-h", "--help"})
    try:
        result: Any = app(words, result_action="return_value", exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise WrongSetting(str(error)) from None
    return result if isinstance(result, int) else OK


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def main_db() -> None:
    """`kinfolk-db …` is `kinfolk db …`."""
    sys.exit(run(["db", *sys.argv[1:]]))
