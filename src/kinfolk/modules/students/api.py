"""The HTTP face of students."""

from kinfolk.kit.http import Answer, Header, Page, Request, Result, delete, get, patch, post
from kinfolk.kit.http.bodies import UNREADABLE
from kinfolk.kit.log import origin
from kinfolk.modules.students import students
from kinfolk.modules.students.timezone import MOSCOW, REFUSED, Clock, Place, read_clock

ANNA = Result(result=students.Student(1, "Anna", True, "2020-11-21T15:04:05+00:00", "2020-11-21T15:04:05+00:00"))
TAKEN = {"takes": students.NewStudent, "sent": students.NewStudent("Anna")}
ONE = {"gives": {200: Result[students.Student]}, "given": ANNA}
LOCATION = Header("Location", "Where the student is.", "/api/v1/students/1")


@post("/students", **TAKEN, gives={201: Result[students.Student]}, given=ANNA, refuses=UNREADABLE, sets=[LOCATION])
async def post_student(request: Request) -> Answer:
    """Add a student."""
    new = await request.document(students.NewStudent)
    added = await request.db.gathered_change(students.add, (new, origin()))
    return Answer.of(Result(result=added), 201, headers={"location": request.place(f"/students/{added.student_id}")})


@get("/students", asks=Page, gives={200: Result[list[students.Student]]}, given=Result(result=[ANNA.result]))
async def get_students(request: Request) -> Answer:
    """Active students by id."""
    page = request.asked(Page)
    async with request.db.connection() as conn:
        return Answer.of(Result(result=await students.list_active(conn, page.limit, page.after)))


@get("/students/{student_id}", **ONE, refuses=[students.NoSuchStudent])
async def get_student(request: Request) -> Answer:
    """One student, active or not."""
    found = await request.db.gathered(students.find, request.number("student_id", students.NoSuchStudent))
    return Answer.of(Result(result=found))


@patch("/students/{student_id}", **TAKEN, **ONE, refuses=(*UNREADABLE, students.NoSuchStudent))
async def patch_student(request: Request) -> Answer:
    """Rename a student."""
    student_id = request.number("student_id", students.NoSuchStudent)
    change = await request.document(students.NewStudent)
    async with request.db.transaction() as conn:
        return Answer.of(Result(result=await students.rename(conn, student_id, change)))


@delete("/students/{student_id}", gives={204: None}, refuses=[students.NoSuchStudent])
async def delete_student(request: Request) -> Answer:
    """Remove a student, who can still be found by id."""
    async with request.db.transaction() as conn:
        await students.remove(conn, request.number("student_id", students.NoSuchStudent))
    return Answer(status=204)


@get("/timezone", asks=Place, gives={200: Result[Clock]}, given=Result(result=MOSCOW), refuses=REFUSED)
async def get_timezone(request: Request) -> Answer:
    """What time it is elsewhere."""
    return Answer.of(Result(result=await read_clock(request.asked(Place))))


ROUTES = [post_student, get_students, get_student, patch_student, delete_student, get_timezone]
