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

HOME = "/api/v1"
AT_ROOT = "/imports"
"""Served without HOME, too."""

_RULES = {
    "POST /imports": ADDED,
    "GET /imports/{import_id}/citizens": OWNED,
    "PATCH /imports/{import_id}/citizens/{citizen_id}": READ,
    "DELETE /imports/{import_id}": ADMIN,
    "GET /imports/{import_id}/citizens/birthdays": OWNED,
    "GET /imports/{import_id}/towns/stat/percentile/age": OWNED,
    "GET /api/v1/jobs": OWNED,
    "GET /api/v1/jobs/{id}": OWNED,
    "DELETE /api/v1/jobs/{id}": ADMIN,
    "GET /api/v1/ticks": READ,
    "GET /api/v1/messages/parked": ADMIN,
    "POST /api/v1/messages/parked/{lane}/replay": ADMIN,
    "DELETE /api/v1/messages/parked/{lane}/{id}": ADMIN,
    "GET /api/v1/students": READ,
    "POST /api/v1/students": ADMIN,
    "GET /api/v1/students/{student_id}": READ,
    "PATCH /api/v1/students/{student_id}": ADMIN,
    "DELETE /api/v1/students/{student_id}": ADMIN,
    "GET /api/v1/timezone": READ,
    "GET /": OPEN,
    "GET /page/{name}": OPEN,
    "GET /docs": OPEN,
    "GET /docs/{name}": OPEN,
    "GET /schema/openapi.json": OPEN,
    "GET /schema/asyncapi.json": OPEN,
    "GET /problems/{kind}": OPEN,
    "GET /health": OPEN,
    "GET /ready": OPEN,
    "GET /metrics": Rule(is_open_on_loopback=True),
}


def _both_faces() -> Iterator[tuple[str, Rule]]:
    for name, rule in _RULES.items():
        yield name, rule
        method, path = name.split()
        if path.startswith(AT_ROOT):
            yield f"{method} {HOME}{path}", rule


RULES = dict(_both_faces())
