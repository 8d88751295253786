"""Every setting of Kinfolk: flag > environment `KINFOLK_*` > file of `--config` > default.

A setting is a field of one of the groups below; a command takes the groups it needs. Cyclopts makes the flag, the
variable and the file's key out of the field's name, and `--help` out of its docstring.
"""

import os
import re
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from math import isnan
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import yaml
from cyclopts import App, ArgumentCollection, Parameter, Token
from cyclopts.config import Dict
from cyclopts.validators import Number

from kinfolk.kit.ending import WrongSetting

PREFIX = "KINFOLK_"
LOOPBACK = "127.0.0.0/8,::1"


def whole(value_type: type[int], tokens: Sequence[Token]) -> int:  # noqa: ARG001  # as Cyclopts calls it
    """The converter for every whole number on a command line: Cyclopts itself would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f'"{tokens[0].value}" is not a whole number.') from None


def _numeric(value_type: type[float], value: float) -> None:  # noqa: ARG001  # as Cyclopts calls it
    if isnan(value):
        raise ValueError("Must be a number.")


def is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def default_data_dir() -> Path:
    """As root, or without a home, `/var/lib/kinfolk`, else `$XDG_DATA_HOME/kinfolk` (XDG Base Directory)."""
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    if os.geteuid() != 0:
        with suppress(RuntimeError):  # a service or a container may run as a user that has no home
            return (named if named.is_absolute() else Path.home() / ".local/share") / "kinfolk"
    return Path("/var/lib/kinfolk")


@Parameter(name="*", group="File", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class FileSettings:
    config: Path | None = None
    """A TOML or YAML file of settings; its keys are the flags' names with `_`."""


@Parameter(name="*", group="Database", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    pg_url: str | None = None
    """PostgreSQL 15 to 18 as postgresql://user:password@host:port/name. Without it: the embedded server."""
    data_dir: Annotated[Path, Parameter(show_default=False)] = field(default_factory=default_data_dir)
    """Where the embedded server lives. Default: $XDG_DATA_HOME/kinfolk, as root /var/lib/kinfolk."""
    pg_bin: Path | None = None
    """The folder of PostgreSQL's programs for the embedded server. Default: those Kinfolk brings."""
    pool_size: Annotated[int, Parameter(converter=whole, validator=Number(gte=2, lte=1_000))] = 10
    """Connections to PostgreSQL that each process keeps at the most; a worker does one job less at a time."""


@Parameter(name="*", group="Web", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class WebSettings:
    api_address: str = "127.0.0.1"
    """The address to listen on."""
    api_port: Annotated[int, Parameter(converter=whole, validator=Number(gte=0, lte=65_535))] = 8080
    """The port to listen on; 0 takes a free one and prints it."""
    uds: Path | None = None
    """Listen on this unix socket instead of an address and port."""
    workers: Annotated[int, Parameter(converter=whole, validator=Number(gte=1, lte=256))] = 1
    """Processes that share the socket."""
    uploads: Annotated[int, Parameter(converter=whole, validator=Number(gte=1, lte=1_000))] = 4
    """Bodies over 4 MB that each process takes at a time; one more is answered 503 with Retry-After."""
    auth: Literal["off", "required"] | None = None
    """Whether everybody is asked who they are. Default: off at a loopback address, else required."""
    trusted_proxies: str = LOOPBACK
    """Networks whose proxies are believed whom they ask for (X-Forwarded-For), as is who speaks to --uds."""
    sockets: Annotated[int, Parameter(converter=whole, validator=Number(gte=0, lte=100_000))] = 2_000
    """WebSockets that each process holds at a time; one more is answered 503 with Retry-After."""
    insecure: bool = False
    """Listen beyond loopback although nobody is asked who they are."""

    @property
    def asks_who(self) -> bool:
        """A unix socket is there for a proxy, behind which anybody may stand."""
        if self.auth is None:
            return self.uds is not None or not is_loopback(self.api_address)
        return self.auth == "required"


@Parameter(name="*", group="Cache", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    cache_bytes: Annotated[int, Parameter(converter=whole, validator=Number(gte=0, lte=1_000_000_000_000))] = 64_000_000
    """Bytes of answers that each process keeps at the most; 0 keeps none."""
    redis_url: str | None = None
    """A Redis for Kinfolk alone, as redis://user:password@host:port/number, in which processes and machines share
    answers. Personal data then lies there, too. Without it: each process has its own."""


@Parameter(name="*", group="Messages", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class AmqpSettings:
    amqp_url: str | None = None
    """RabbitMQ 3.10 or newer as amqp://user:password@host:port/vhost. Without it no messages are taken."""
    amqp_vhosts: str | None = None
    """Vhosts of other addresses or users, by the names that lanes give them: NAME=amqp://…,NAME=amqp://…."""
    amqp_delays: str | None = None
    """Seconds after which a failed message is tried again, such as 5,30,300. Default: as each lane says."""


@Parameter(name="*", group="Outside services", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class OutsideSettings:
    timezone_url: str | None = None
    """The service that knows what time it is elsewhere. Without it: the machine's own zone data."""


@Parameter(name="*", group="Contacts", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class ContactsSettings:
    contacts_store: str = "sql"
    """Where contacts are kept: sql (the database), fs:FOLDER (a file each) or memory (until the end)."""


@Parameter(name="*", group="Process", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    user: str | None = None
    """Become this user once the sockets are bound."""
    grace_seconds: Annotated[float, Parameter(validator=(_numeric, Number(gt=0, lte=3_600)))] = 20.0
    """How long work under way may take to finish after SIGTERM or SIGINT."""


@Parameter(name="*", group="Metrics", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    metrics_port: Annotated[int | None, Parameter(converter=whole, validator=Number(gte=0, lte=65_535))] = None
    """Answer Prometheus at this port; 0 takes a free one and prints it. Without it: nowhere; the API has /metrics."""
    metrics_address: str = "127.0.0.1"
    """The address that goes with --metrics-port."""


@Parameter(name="*", group="Telemetry", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    sentry_dsn: str | None = None
    """Tell this Sentry of accidents, as https://key@host/number. Needs kinfolk[sentry]."""
    otlp_url: str | None = None
    """Send OpenTelemetry's spans to this collector (OTLP over HTTP), as http://host:4318. Needs kinfolk[otlp]."""


@Parameter(name="*", group="Log", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class LogSettings:
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    log_format: Literal["logfmt", "json", "color"] | None = None
    """How a line is written. Default: color on a terminal, else logfmt, without the time where systemd's journal is."""
    log_config: Path | None = None
    """A YAML file for logging.config.dictConfig, instead of all of the above."""


@Parameter(name="*", group="Client", show_env_var=True)
@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    api_url: str = "http://127.0.0.1:8080"
    """The address of the running service."""
    token_file: Path | None = None
    """A file that holds the token to show to the service."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """What every role that answers HTTP takes."""

    file: FileSettings = field(default_factory=FileSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    web: WebSettings = field(default_factory=WebSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    amqp: AmqpSettings = field(default_factory=AmqpSettings)
    outside: OutsideSettings = field(default_factory=OutsideSettings)
    contacts: ContactsSettings = field(default_factory=ContactsSettings)
    process: ProcessSettings = field(default_factory=ProcessSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    logs: LogSettings = field(default_factory=LogSettings)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RoleSettings:
    """What every role takes that does not answer HTTP."""

    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    process: ProcessSettings = field(default_factory=ProcessSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    logs: LogSettings = field(default_factory=LogSettings)
    file: FileSettings = field(default_factory=FileSettings)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EverySetting(ServingSettings):
    """In the order in which they are shown."""

    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    client: ClientSettings = field(default_factory=ClientSettings)


GROUPS: tuple[type[Any], ...] = tuple(type(group) for group in vars(EverySetting()).values())
SECRETS = frozenset({"pg_url", "redis_url", "amqp_url", "amqp_vhosts", "timezone_url", "sentry_dsn", "otlp_url"})


_PASSWORD = re.compile(r"(://[^:/?#@]*):.*@", re.DOTALL)  # up to the last @, for passwords may hold any sign
_QUERY_VALUE = re.compile(r"([?&])([^=&#]*)=([^&#]*)")


def every_setting() -> list[str]:
    return [name for group in GROUPS for name in group.__dataclass_fields__]


def masked(name: str, value: Any) -> str:
    """`value` as it may be shown: a URL without its password, wherever it stands and however it is written."""
    if value is None:
        return "-"
    if name not in SECRETS:
        return str(value)
    text = str(value)
    if text and "://" not in text:
        return "***"
    return _QUERY_VALUE.sub(_masked_pair, _PASSWORD.sub(r"\1:***@", text))


def _masked_pair(match: re.Match[str]) -> str:
    sign, key, value = match.groups()
    return f"{sign}{key}={'***' if 'pass' in unquote(key).lower() else value}"


class Sources:
    """What Cyclopts asks for values after flags and environment: the file.

    It refuses what no setting knows, remembers where each value came from, and takes `KINFOLK_*` out of the
    environment, so that no child process inherits a secret by chance.
    """

    def __init__(self) -> None:
        self.origins: dict[str, str] = {}

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        self.origins.clear()
        variables = [name for name in os.environ if name.startswith(PREFIX)]
        for name in variables:
            del os.environ[name]
        _refuse_strangers("the environment", variables, PREFIX)
        for argument in arguments:
            if argument.name == "--config" and argument.tokens:
                _read_file(Path(argument.tokens[0].value))(app, commands, arguments)
        for argument in arguments:
            for token in argument.tokens:
                name = argument.name.removeprefix("--").replace("-", "_")
                variable = f"{PREFIX}{name.upper()}"
                self.origins[name] = {"cli": "flag", "env": variable}.get(token.source, token.source)


sources = Sources()
"""Those of this command line."""


def _read_file(path: Path) -> Dict:
    """The settings of a TOML or YAML file, for Cyclopts. Raises WrongSetting."""
    readers: dict[str, Callable[[str], Any]] = {
        ".toml": tomllib.loads,
        ".yaml": yaml.safe_load,
        ".yml": yaml.safe_load,
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise WrongSetting(f"--config {path}: the name must end in .toml, .yaml or .yml")
    try:
        values = reader(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise WrongSetting(f"--config {path}: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise WrongSetting(f"--config {path}: {error}") from error
    if not isinstance(values, dict):
        raise WrongSetting(f"--config {path}: settings are written as name and value")
    settings = {str(key).replace("-", "_"): value for key, value in values.items()}
    _refuse_strangers(str(path), list(settings))
    for name, value in settings.items():
        if name == "config" or not isinstance(value, str | int | float):
            shown = masked(name, value) if name in SECRETS else repr(value)
            raise WrongSetting(f"{path} sets {name}, which cannot be {'in a file' if name == 'config' else shown}")
    return Dict(settings, source=str(path), allow_unknown=True, use_commands_as_keys=False)


def _refuse_strangers(place: str, names: Sequence[str], prefix: str = "") -> None:
    known = [name.upper() if prefix else name for name in every_setting()]
    for name in names:
        given = name.removeprefix(prefix)
        if given not in known:
            close = get_close_matches(given, known, 1)
            meant = f"; did you mean {prefix}{close[0]}?" if close else ""
            raise WrongSetting(f"{place} sets {name}, which is no setting of Kinfolk{meant}")
