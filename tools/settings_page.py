"""The page of settings, made out of the settings and the commands themselves."""

from collections import defaultdict
from typing import Any

from cyclopts import App, ArgumentCollection
from cyclopts.validators import Number

from kinfolk.cli import add_commands, app
from kinfolk.kit.settings import GROUPS, PREFIX

HEAD = """\
# Settings

Made by `make docs` from `src/kinfolk/kit/settings.py`; a test fails when it is stale.

A setting has one name in three spellings: the flag `--api-port`, the variable `KINFOLK_API_PORT`, and the key
`api_port` of the TOML or YAML file that `--config` names. A flag beats the variable, which beats the file, which beats
the default. A name that no setting has stops the program with exit code 2, wherever it stands. `kinfolk settings` shows
every value and where it came from; passwords are masked.
"""


def page() -> str:
    add_commands(is_listing=False)
    takers = commands_by_setting()
    parts = [HEAD]
    for group in GROUPS:
        rows = [row(argument, takers) for argument in arguments_of(group)]
        parts.append(f"\n## {title(group)}\n\n| setting | variable | default | for | |\n|---|---|---|---|---|\n")
        parts += rows
    return "".join(parts)


def row(argument: Any, takers: dict[str, list[str]]) -> str:
    name = argument.name
    variable = PREFIX + name.removeprefix("--").replace("-", "_").upper()
    default = argument.field_info.default
    shown = "" if default is None or not argument.show_default else "off" if default is False else f"`{default}`"
    commands = ", ".join(f"`{command}`" for command in takers[name] if command != "settings") or "all"
    words = " ".join(argument.parameter.help.split())
    return f"| `{name}` | `{variable}` | {shown} | {commands} | {words}{limits(argument)} |\n"


def limits(argument: Any) -> str:
    """What a value may be, where its type does not say."""
    words = []
    if choices := argument.get_choices():
        words.append("one of " + ", ".join(f"`{choice}`" for choice in choices))
    for number in (validator for validator in argument.parameter.validator if isinstance(validator, Number)):
        bounds = {"more than": number.gt, "at least": number.gte, "less than": number.lt, "at most": number.lte}
        words += [f"{bound} {value:,}" for bound, value in bounds.items() if value is not None]
    return f" {', '.join(words).capitalize()}." if words else ""


def commands_by_setting() -> dict[str, list[str]]:
    takers = defaultdict(list)
    for command in (name for name in app if not name.startswith("-")):
        for taker in _with_words_of_their_own(app[command]):
            for argument in taker.assemble_argument_collection():
                if command not in takers[argument.name]:
                    takers[argument.name].append(command)
    return takers


def _with_words_of_their_own(command: App) -> list[App]:
    """A command, or the commands below it."""
    return [command] if command.default_command else [command[name] for name in command if not name.startswith("-")]


def arguments_of(group: type[Any]) -> ArgumentCollection:
    """The settings of one group, in the order of its fields."""
    arguments = app["settings"].assemble_argument_collection(parse_docstring=True)
    names = ["--" + field.replace("_", "-") for field in group.__dataclass_fields__]
    return ArgumentCollection(argument for name in names for argument in arguments if argument.name == name)


def title(group: type[Any]) -> str:
    """As `--help` has it."""
    [named] = arguments_of(group)[0].parameter.group
    return str(named.name)
