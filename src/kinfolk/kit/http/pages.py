"""What people look at: the start page, the API's documentation, and what each problem means. No other host is asked."""

import importlib.util
from functools import cache
from importlib.resources import files
from inspect import cleandoc
from pathlib import Path

from kinfolk.kit import problems
from kinfolk.kit.http.answers import Answer, Request
from kinfolk.kit.http.front import NoSuchPlace
from kinfolk.kit.http.routes import get

OPENAPI = "/schema/openapi.json"
ASYNCAPI = "/schema/asyncapi.json"
_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
# Swagger UI sets style attributes from its script and draws its icons as data: images.
_DOCS_POLICY = _POLICY.replace("img-src", "style-src 'self' 'unsafe-inline'; img-src")
_KINDS = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
}
_DOCS_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Kinfolk: the API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<main id="swagger-ui"></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
_DOCS_START = b"""SwaggerUIBundle({
  url: "/schema/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  tryItOutEnabled: true, displayRequestDuration: true
});
"""
_PROBLEMS_HEAD = """# Problems

Every refusal of Kinfolk is a document of the type `application/problem+json` (RFC 9457). Its `type` is `/problems/` and
a name of this list, and leads to the same words on a running service. Made by `make docs`; do not edit.

| status | name | meaning |
|---|---|---|
"""
_DOCS_FILES = frozenset({"swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"})


@cache
def swagger_folder() -> Path:
    """Where the package swagger-ui-py keeps Swagger UI's files; its Python is never imported."""
    found = importlib.util.find_spec("swagger_ui")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "static"


def load() -> None:
    """Read every file now: a user that root becomes later may not reach where Python lies."""
    for name in _page_files():
        _page(name)
    for name in _DOCS_FILES:
        _docs(name)


@cache
def _page_files() -> frozenset[str]:
    return frozenset(file.name for file in files("kinfolk").joinpath("page").iterdir())


@cache
def _page(name: str) -> Answer:
    return _file(name, files("kinfolk").joinpath("page", name).read_bytes(), _POLICY)


@cache
def _docs(name: str) -> Answer:
    return _file(name, swagger_folder().joinpath(name).read_bytes(), _DOCS_POLICY)


def _file(name: str, body: bytes, policy: str) -> Answer:
    return Answer(
        body,
        media_type=_KINDS[Path(name).suffix],
        headers={"cache-control": "no-cache", "content-security-policy": policy},
    )


@get("/", gives={200: "text/html"})
async def start_page(_request: Request) -> Answer:
    """The start page."""
    return _page("index.html")


@get("/page/{name}", gives={200: "text/css"})
async def start_page_file(request: Request) -> Answer:
    """A file of the start page."""
    name = request.path_params["name"]
    if name not in _page_files():
        raise NoSuchPlace
    return _page(name)


@get(OPENAPI, gives={200: "application/json"})
async def schema(request: Request) -> Answer:
    """This API as an OpenAPI 3.1 document."""
    return Answer(request.app.state.documents[OPENAPI], headers={"cache-control": "no-cache"})


@get(ASYNCAPI, gives={200: "application/json"})
async def schema_of_messages(request: Request) -> Answer:
    """The messages that are taken as an AsyncAPI 3 document."""
    return Answer(request.app.state.documents[ASYNCAPI], headers={"cache-control": "no-cache"})


@get("/docs", gives={200: "text/html"})
async def docs(_request: Request) -> Answer:
    """Swagger UI."""
    return _file("docs.html", _DOCS_PAGE, _DOCS_POLICY)


@get("/docs/{name}", gives={200: "text/css"})
async def docs_file(request: Request) -> Answer:
    """A file of Swagger UI."""
    name = request.path_params["name"]
    if name == "start.js":
        return _file(name, _DOCS_START, _DOCS_POLICY)
    if name not in _DOCS_FILES:
        raise NoSuchPlace
    return _docs(name)


@get("/problems/{kind}", gives={200: "text/plain"})
async def problem(request: Request) -> Answer:
    """What a problem's `type` means."""
    for kind in problems.every_problem():
        if kind.kind() == request.path_params["kind"]:
            text = f"{kind.kind()} ({kind.status})\n\n{cleandoc(kind.__doc__ or '')}\n"
            return Answer(text.encode(), media_type=b"text/plain; charset=utf-8")
    raise NoSuchPlace


def list_of_problems() -> str:
    """Every kind of problem, in Markdown, by status and name."""
    kinds = {kind.kind(): kind for kind in problems.every_problem() if kind.__module__.startswith("kinfolk.")}
    del kinds["problem"]
    rows = sorted((kind.status, name, " ".join(cleandoc(kind.__doc__ or "").split())) for name, kind in kinds.items())
    return _PROBLEMS_HEAD + "".join(f"| {status} | `{name}` | {text} |\n" for status, name, text in rows)


ROUTES = [start_page, start_page_file, schema, schema_of_messages, docs, docs_file, problem]
