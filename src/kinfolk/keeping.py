"""The commands that keep an installation: `kinfolk backup`, `restore`, `doctor`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from kinfolk.kit.database_url import database_url
from kinfolk.kit.ending import FAILED, OK, WrongSetting, ends_plainly
from kinfolk.kit.settings import ClientSettings, DatabaseSettings, FileSettings, ServingSettings, sources, whole


@ends_plainly
def backup(
    file: Path,
    /,
    *,
    is_check: Annotated[
        bool,
        Parameter(name="--check", negative="", help="Write none: restore FILE into a server of its own, and tell."),
    ] = False,
    keep: Annotated[
        int | None,
        Parameter(converter=whole, validator=Number(gte=1), help="Of a folder's backups, remove all but so many."),
    ] = None,
    database: DatabaseSettings = DatabaseSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Write all that the database holds into FILE, while the service runs.

    FILE is there when all of it is: what was there before stays until then. It holds people, and only you can read it.
    Where FILE is a folder, a file in it is named after the moment.
    """
    from kinfolk.kit.backup import back_up, check, file_of_now, remove_older

    if is_check:
        revision, rows = check(file, database.pg_bin, _renewals())
        for table, count in rows.items():
            print(f"{table} {count}")
        print(f"{file} can be restored: revision {revision}, {sum(rows.values())} rows in {len(rows)} tables")
        return OK
    try:
        folder = file if file.is_dir() else None
    except OSError as error:
        raise WrongSetting(f"{file} cannot be written: {error.strerror}") from None
    if keep is not None and folder is None:
        raise WrongSetting(f"--keep is for a folder of backups, which {file} is not")
    if folder is not None:
        file = file_of_now(folder)
    with database_url(database) as (url, _mend):
        revision = back_up(url, file, database.pg_bin)
    print(f"{file}: {file.stat().st_size} bytes, revision {revision}")
    if folder is not None and keep is not None:
        for older in remove_older(folder, keep):
            print(f"{older}: removed")
    return OK


@ends_plainly
def restore(
    file: Path,
    /,
    *,
    is_replacing: Annotated[
        bool, Parameter(name="--replace", negative="", help="Throw away what the database holds now.")
    ] = False,
    database: DatabaseSettings = DatabaseSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Put the backup in FILE into the database, all of it or nothing, and bring its tables up to date.

    Whoever is connected is sent away and may come back at once.
    """
    from kinfolk.kit.backup import restore

    with database_url(database) as (url, _mend):
        revision = restore(url, file, database.pg_bin, _renewals(), is_replacing=is_replacing)
    print(f"{file} is restored: revision {revision}")
    return OK


@ends_plainly
def doctor(settings: ServingSettings = ServingSettings(), client: ClientSettings = ClientSettings()) -> int:
    """Tell what is wrong with this installation and what mends it, a line each; changes nothing.

    Give it the settings that the service has. `wrong` keeps something from working and makes the exit code 1;
    `look` may be meant so.
    """
    from kinfolk.app import MODULES
    from kinfolk.kit.doctor import Place, examine

    place = Place(
        settings=settings,
        client=client,
        origins=dict(sources.origins),
        lanes=[lane for module in MODULES for lane in module.load_lanes()],
    )

    async def told() -> set[str]:
        verdicts: set[str] = set()
        async for finding in examine(place):
            print(finding.line(), flush=True)
            verdicts.add(finding.verdict)
        return verdicts

    return FAILED if "wrong" in asyncio.run(told()) else OK


def _renewals() -> Sequence[Any]:
    from kinfolk.app import MODULES

    return [statement for module in MODULES for statement in module.load_renewals()]
