"""Who may do what: one line a route, for the whole product. A route that stands in no line is not served."""

from collections.abc import Iterator

from kinfolk.kit.auth import Rule

OPEN = Rule(is_open=True)
EVERY_USER = Rule(supplier="all", analyst="all")
ADDED = Rule(supplier="all")
"""By those who bring registers."""
OWNED = Rule(supplier="own", analyst="all")
READ = Rule(analyst="all")
ADMIN = Rule()

AT_ROOT = ("", "/api/v1")
FACES = {"/imports": AT_ROOT, "/addresses": AT_ROOT, "/schemas": AT_ROOT, "/user": ("/api/v1", "/api/v1.0")}
"""Under which prefixes a path is served that stands here without one."""

_RULES = {
    "POST /imports": ADDED,
    "GET /imports/{import_id}/citizens": OWNED,
    "PATCH /imports/{import_id}/citizens/{citizen_id}": READ,
    "DELETE /imports/{import_id}": ADMIN,
    "DELETE /api/v1/imports/{import_id}/citizens/{citizen_id}": ADMIN,
    "GET /api/v1/imports/{import_id}/citizens/{citizen_id}/export": ADMIN,
    "GET /imports/{import_id}/citizens/birthdays": OWNED,
    "GET /imports/{import_id}/towns/stat/percentile/age": OWNED,
    "GET /api/v1/jobs": OWNED,
    "GET /api/v1/jobs/{id}": OWNED,
    "DELETE /api/v1/jobs/{id}": ADMIN,
    "GET /api/v1/ticks": READ,
    "GET /api/v1/messages/parked": ADMIN,
    "POST /api/v1/messages/parked/{lane}/replay": ADMIN,
    "DELETE /api/v1/messages/parked/{lane}/{id}": ADMIN,
    "GET /api/v1/audit": ADMIN,
    "GET /api/v1/students": READ,
    "POST /api/v1/students": ADMIN,
    "GET /api/v1/students/{student_id}": READ,
    "PATCH /api/v1/students/{student_id}": ADMIN,
    "DELETE /api/v1/students/{student_id}": ADMIN,
    "GET /api/v1/timezone": READ,
    "GET /addresses": READ,
    "POST /addresses": ADMIN,
    "GET /addresses/{contact_id}": READ,
    "PUT /addresses/{contact_id}": ADMIN,
    "DELETE /addresses/{contact_id}": ADMIN,
    "POST /user/auth": OPEN,
    "DELETE /user/auth": EVERY_USER,
    "DELETE /user/sessions": EVERY_USER,
    "GET /user/me": EVERY_USER,
    "PATCH /user/me": EVERY_USER,
    "GET /users": ADMIN,
    "POST /users": ADMIN,
    "GET /users/{id}": ADMIN,
    "PATCH /users/{id}": ADMIN,
    "DELETE /users/{id}": ADMIN,
    "GET /": OPEN,
    "GET /page/{name}": OPEN,
    "GET /docs": OPEN,
    "GET /docs/{name}": OPEN,
    "GET /schema/openapi.json": OPEN,
    "GET /schema/asyncapi.json": OPEN,
    "GET /schemas/address-book-v1.json": OPEN,
    "GET /problems/{kind}": OPEN,
    "GET /health": OPEN,
    "GET /ready": OPEN,
    "GET /ws": EVERY_USER,
    "GET /metrics": Rule(is_open_on_loopback=True),
}


def _on_each_face() -> Iterator[tuple[str, Rule]]:
    for name, rule in _RULES.items():
        method, path = name.split()
        for prefix in next((prefixes for start, prefixes in FACES.items() if path.startswith(start)), [""]):
            yield f"{method} {prefix}{path}", rule


RULES = dict(_on_each_face())

EVENTS = {
    "import.created": OWNED,
    "import.progress": OWNED,
    "import.removed": OWNED,
    "citizen.changed": OWNED,
    "citizen.removed": OWNED,
    "job.queued": OWNED,
    "job.running": OWNED,
    "job.progress": OWNED,
    "job.done": OWNED,
    "job.failed": OWNED,
    "job.cancelled": OWNED,
    "message.parked": ADMIN,
}
"""Who is told what; an event that stands in no line, only administrators."""
