"""Students who come by message."""

from kinfolk.kit.db import Connection
from kinfolk.kit.lanes import Lane
from kinfolk.kit.log import origin
from kinfolk.modules.students.students import NewStudent, add_students

main = Lane("example.main", exchange="example.exchange")


@main.takes(NewStudent)
async def add_from_message(conn: Connection, message: NewStudent) -> None:
    """Add the student that a message tells of."""
    await add_students(conn, [(message, origin())])


LANES = [main]
