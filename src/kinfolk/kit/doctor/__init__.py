"""What is wrong with an installation and what mends it: one check after another, and nothing is changed."""

from collections.abc import Sequence

from kinfolk.kit.doctor import database, machine, neighbours
from kinfolk.kit.doctor.findings import Check, Finding, Findings, Place, wrong

CHECKS: Sequence[Check] = (
    machine.settings,
    machine.user,
    machine.file_limit,
    machine.zones,
    machine.data_dir,
    machine.disk,
    database.postgresql,
    neighbours.port,
    neighbours.service,
    neighbours.redis,
    neighbours.rabbitmq,
)


async def examine(place: Place, checks: Sequence[Check] = CHECKS) -> Findings:
    """All findings, in the order of the checks; one that cannot be made is a finding, too."""
    for check in checks:
        try:
            async for finding in check(place):
                yield finding
        except Exception as error:  # whatever is broken here, the other checks go on
            yield wrong(
                f"{check.__name__} could not be looked at ({type(error).__name__}: {error})", "see what the words say"
            )


__all__ = ["CHECKS", "Finding", "Place", "examine"]
