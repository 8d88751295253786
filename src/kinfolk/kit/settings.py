"""Every setting of Kinfolk: flag > environment `KINFOLK_*` > file of `--config` > default.

A setting is a field of one of the groups below; a command takes the groups it needs. Cyclopts makes the flag, the
variable and the file's key out of the field's name, and `--help` out of its docstring.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter
from cyclopts.config import ConfigFromFile, Toml, Yaml
from cyclopts.validators import Number

PREFIX = "KINFOLK_"
PORT = Number(gte=0, lte=65_535)


class WrongSetting(Exception):  # noqa: N818  # read by an operator
    """A setting that cannot be; the text is for the operator (exit code 2)."""


class Missing(Exception):  # noqa: N818  # read by an operator
    """Something that Kinfolk needs is not there; the text says what and how to mend it (exit code 3)."""


def default_data_dir() -> Path:
    """As root `/var/lib/kinfolk`, else `$XDG_DATA_HOME/kinfolk` (the XDG Base Directory Specification)."""
    if os.geteuid() == 0:
        return Path("/var/lib/kinfolk")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "kinfolk"


@Parameter(name="*", group="Settings", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class FileSettings:
    config: Path | None = None
    """A TOML or YAML file of settings; its keys are the flags' names with `_`."""


@Parameter(name="*", group="Database", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    pg_url: str | None = None
    """PostgreSQL 15 to 18 as postgresql://user:password@host:port/name. Without it: the embedded server."""
    data_dir: Path | None = None
    """Where the embedded server lives. Default: $XDG_DATA_HOME/kinfolk, as root /var/lib/kinfolk."""
    pg_bin: Path | None = None
    """The folder of PostgreSQL's programs for the embedded server. Default: those Kinfolk brings."""
    pool_size: Annotated[int, Parameter(validator=Number(gte=1, lte=1_000))] = 10
    """Connections to PostgreSQL that each process keeps at the most."""


@Parameter(name="*", group="Web", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class WebSettings:
    api_address: str = "127.0.0.1"
    """The address to listen on."""
    api_port: Annotated[int, Parameter(validator=PORT)] = 8080
    """The port to listen on; 0 takes a free one and prints it."""
    uds: Path | None = None
    """Listen on this unix socket instead of an address and port."""
    workers: Annotated[int, Parameter(validator=Number(gte=1, lte=256))] = 1
    """Processes that share the socket."""
    insecure: bool = False
    """Listen beyond loopback although nobody is asked who they are."""


@Parameter(name="*", group="Process", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    user: str | None = None
    """Become this user once the sockets are bound."""
    grace_seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 20.0
    """How long work under way may take to finish after SIGTERM or SIGINT."""


@Parameter(name="*", group="Log", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class LogSettings:
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    log_format: Literal["logfmt", "json", "color"] | None = None
    """How a line is written. Default: color on a terminal, else logfmt."""
    log_config: Path | None = None
    """A YAML file for logging.config.dictConfig, instead of all of the above."""


@Parameter(name="*", group="Service", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    api_url: str = "http://127.0.0.1:8080"
    """The address of the running service."""
    token_file: Path | None = None
    """A file that holds the token to show to the service."""


GROUPS: tuple[type[Any], ...] = (
    FileSettings,
    DatabaseSettings,
    WebSettings,
    ProcessSettings,
    LogSettings,
    ClientSettings,
)
SECRETS = frozenset({"pg_url"})


def every_setting() -> list[str]:
    return [name for group in GROUPS for name in group.__dataclass_fields__]


def masked(name: str, value: Any) -> str:
    """`value` as it may be shown: a URL without its password."""
    if value is None:
        return "-"
    if name not in SECRETS:
        return str(value)
    parts = urlsplit(str(value))
    if parts.password is None:
        return str(value)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))


class Sources:
    """What Cyclopts asks, after flags and environment, for values: the file.

    It names what no setting knows, remembers where each value came from, and takes `KINFOLK_*` out of the environment,
    so that no child process inherits a secret by chance.
    """

    def __init__(self) -> None:
        self.origins: dict[str, str] = {}
        self._variables = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        mine = {name.removeprefix("--").replace("-", "_") for name in _names(arguments)} & set(every_setting())
        if not mine:
            return
        self._refuse_strangers("the environment", [name[len(PREFIX) :].lower() for name in self._variables])
        for argument in arguments:
            if argument.name == "--config" and argument.tokens:
                self._read_file(Path(argument.tokens[0].value))(app, commands, arguments)
        for argument in arguments:
            for token in argument.tokens:
                name = argument.name.removeprefix("--").replace("-", "_")
                variable = f"{PREFIX}{name.upper()}"
                self.origins[name] = {"cli": "flag", "env": variable}.get(token.source, token.source)
        for name in self._variables:
            os.environ.pop(name, None)

    def _read_file(self, path: Path) -> ConfigFromFile:
        kinds: dict[str, type[Toml] | type[Yaml]] = {".toml": Toml, ".yaml": Yaml, ".yml": Yaml}
        kind = kinds.get(path.suffix)
        if kind is None:
            raise CycloptsError(msg=f"--config {path}: the name must end in .toml, .yaml or .yml")
        if not path.is_file():
            raise CycloptsError(msg=f"--config {path}: there is no such file")
        source: ConfigFromFile = kind(path, must_exist=True, allow_unknown=True, use_commands_as_keys=False)
        try:
            keys = list(source.config)
        except Exception as error:
            raise CycloptsError(msg=f"--config {path}: {error}") from error
        self._refuse_strangers(str(path), [str(key).replace("-", "_") for key in keys])
        return source

    def _refuse_strangers(self, place: str, names: Sequence[str]) -> None:
        known = every_setting()
        for name in names:
            if name not in known:
                close = get_close_matches(name, known, 1)
                shown = PREFIX + name.upper() if place == "the environment" else name
                meant = f"; did you mean {PREFIX + close[0].upper() if shown != name else close[0]}?" if close else ""
                raise CycloptsError(msg=f"{place} sets {shown}, which is no setting of Kinfolk{meant}")


def _names(arguments: ArgumentCollection) -> Iterator[str]:
    for argument in arguments:
        yield argument.name
