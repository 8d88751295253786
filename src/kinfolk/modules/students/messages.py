"""Students who come by message."""

from kinfolk.kit.db import Connection
from kinfolk.kit.lanes import Lane
from kinfolk.kit.log import origin
from kinfolk.modules.students import students

main = Lane("example.main", exchange="example.exchange")


@main.takes(students.NewStudent)
async def add_from_message(conn: Connection, message: students.NewStudent) -> None:
    """Add the student that a message tells of."""
    await students.add(conn, [(message, origin())])


LANES = [main]
