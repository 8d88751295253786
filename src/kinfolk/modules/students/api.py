"""The HTTP face of students."""

from kinfolk.kit.http import Answer, Header, Page, Request, Result, delete, get, patch, post
from kinfolk.kit.http.bodies import UNREADABLE
from kinfolk.kit.log import origin
from kinfolk.modules.students.students import (
    NewStudent,
    NoSuchStudent,
    Student,
    add_students,
    find_students,
    list_students,
    remove_student,
    rename_student,
)
from kinfolk.modules.students.timezone import REFUSED, Clock, Place, read_clock

ANNA = Student(1, "Anna", True, "2020-11-21T15:04:05+00:00", "2020-11-21T15:04:05+00:00")
TAKEN = {"takes": NewStudent, "sent": NewStudent("Anna")}
ONE = {"gives": {200: Result[Student]}, "given": Result(result=ANNA)}
LOCATION = Header("Location", "Where the student is.", "/api/v1/students/1")


@post("/students", **TAKEN, gives={201: Result[Student]}, given=ONE["given"], refuses=UNREADABLE, sets=[LOCATION])
async def post_student(request: Request) -> Answer:
    """Add a student."""
    new = await request.document(NewStudent)
    student = await request.db.gathered_change(add_students, (new, origin()))
    location = request.place(f"/students/{student.student_id}")
    return Answer.of(Result(result=student), 201, headers={"location": location})


@get("/students", asks=Page, gives={200: Result[list[Student]]}, given=Result(result=[ANNA]))
async def get_students(request: Request) -> Answer:
    """Active students by id."""
    page = request.asked(Page)
    async with request.db.connection() as conn:
        return Answer.of(Result(result=await list_students(conn, page.limit, page.after)))


@get("/students/{student_id}", **ONE, refuses=[NoSuchStudent])
async def get_student(request: Request) -> Answer:
    """One student, active or not."""
    student = await request.db.gathered(find_students, request.number("student_id", NoSuchStudent))
    return Answer.of(Result(result=student))


@patch("/students/{student_id}", **TAKEN, **ONE, refuses=(*UNREADABLE, NoSuchStudent))
async def patch_student(request: Request) -> Answer:
    """Rename a student."""
    student_id = request.number("student_id", NoSuchStudent)
    change = await request.document(NewStudent)
    async with request.db.transaction() as conn:
        return Answer.of(Result(result=await rename_student(conn, student_id, change)))


@delete("/students/{student_id}", gives={204: None}, refuses=[NoSuchStudent])
async def delete_student(request: Request) -> Answer:
    """Remove a student, who can still be found by id."""
    async with request.db.transaction() as conn:
        await remove_student(conn, request.number("student_id", NoSuchStudent))
    return Answer(status=204)


@get(
    "/timezone",
    asks=Place,
    gives={200: Result[Clock]},
    given=Result(result=Clock("Europe/Moscow", "2020-11-21T18:04:05+03:00")),
    refuses=REFUSED,
)
async def get_timezone(request: Request) -> Answer:
    """What time it is elsewhere."""
    return Answer.of(Result(result=await read_clock(request.asked(Place))))


ROUTES = [post_student, get_students, get_student, patch_student, delete_student, get_timezone]
