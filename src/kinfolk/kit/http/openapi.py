"""The OpenAPI 3.1 document, made of the routes and of the shapes they name (msgspec gives the JSON Schema)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from kinfolk import __version__
from kinfolk.kit import problems
from kinfolk.kit.auth import DeadToken, NoToken, NotYours, Rule, Rules
from kinfolk.kit.http.answers import LARGEST_ID, InvalidQuery
from kinfolk.kit.http.front import SAFE_METHODS, CrossSite, InternalError
from kinfolk.kit.http.routes import Header, Operation
from kinfolk.kit.module import Module

HOME = "/api/v1"
ABOUT = """Registers of citizens in, kinship kept two-way, answers out.

What holds for all routes:
- A body may be packed with gzip (`Content-Encoding: gzip`), and answers are packed as `Accept-Encoding` allows.
- A refusal is `application/problem+json` (RFC 9457); its `type` is an address that says what it means.
- A refusal with 429 or 503 says in `Retry-After` how many seconds to wait.
- Each answer has an `X-Request-ID`, under which the log knows the request."""
REF = "#/components/schemas/{name}"
_ID = re.compile(r"\{(\w+):str\}")
TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "What POST /api/v1/user/auth gives. Needed where the service runs with `--auth required`.",
}
_ALWAYS: tuple[type[problems.Problem], ...] = (InternalError, problems.Unavailable)

Refs = Mapping[type[Any], dict[str, Any]]


class ProblemDetails(msgspec.Struct, rename={"kind": "type"}):
    """An error (RFC 9457)."""

    kind: str
    title: str
    status: int
    detail: str | msgspec.UnsetType = msgspec.UNSET
    errors: list[problems.BadPlace] | msgspec.UnsetType = msgspec.UNSET
    error_count: int | msgspec.UnsetType = msgspec.UNSET


def document(modules: Sequence[Module], watching: Sequence[HTTPRouteHandler], rules: Rules) -> dict[str, Any]:
    """The whole document; `watching` are the kit's own routes, which stand at the root.

    What `rules` refuse is said of each route, and happens only where somebody asks.
    """
    handlers = [("", "service", handler) for handler in watching]
    handlers += [(HOME, module.name, handler) for module in modules for handler in module.handlers()]
    refs, schemas = _schemas([handler.opt["operation"] for _, _, handler in handlers])
    paths: dict[str, dict[str, Any]] = {}
    for prefix, tag, handler in handlers:
        for path in handler.paths:
            shown = prefix + _ID.sub(r"{\1}", path)
            place = paths.setdefault(shown, {})
            for method in handler.http_methods:
                rule = rules.get(f"{method} {shown}", Rule(is_open=True))
                place[method.lower()] = _operation(handler, (method, path), tag, refs, rule)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kinfolk",
            "version": __version__,
            "description": ABOUT,
        },
        "tags": [
            *({"name": module.name, "description": module.description} for module in modules),
            {"name": "service", "description": "Watching the service itself."},
        ],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": {"token": TOKEN}},
    }


def _schemas(operations: Sequence[Operation]) -> tuple[Refs, dict[str, Any]]:
    """How each shape is referred to, and the components; msgspec keeps apart two shapes of one name."""
    shapes: list[type[Any]] = [ProblemDetails]
    for operation in operations:
        shapes += [operation.takes] if operation.takes else []
        shapes += [shape for shape in operation.gives.values() if shape is not None and not isinstance(shape, str)]
    refs, components = msgspec.json.schema_components(shapes, ref_template=REF)
    return dict(zip(shapes, refs, strict=True)), components


def _operation(handler: HTTPRouteHandler, place: tuple[str, str], tag: str, refs: Refs, rule: Rule) -> dict[str, Any]:
    method, path = place
    operation: Operation = handler.opt["operation"]
    always = _ALWAYS if method in SAFE_METHODS else (*_ALWAYS, CrossSite)
    if not rule.is_open:
        always += (NoToken, DeadToken) if rule.is_for_every_role else (NoToken, DeadToken, NotYours)
    summary, _, description = cleandoc(handler.fn.__doc__ or "").partition("\n\n")
    entry: dict[str, Any] = {
        "operationId": handler.handler_name,
        "tags": [tag],
        "summary": summary.rstrip("."),
        "responses": _responses(operation, always, refs),
        "security": _security(rule),
    }
    if description:
        entry["description"] = description
    parameters = [_in_path(name, operation.named.get(name)) for name in _ID.findall(path)]
    parameters += [] if operation.asks is None else _asked(operation.asks)
    parameters += [{"name": h.name, "in": "header", **_header(h)} for h in operation.reads]
    if parameters:
        entry["parameters"] = parameters
    if operation.takes is not None:
        content: dict[str, Any] = {"schema": refs[operation.takes]}
        if operation.sent is not None:
            content["examples"] = {"example": {"value": msgspec.to_builtins(operation.sent)}}
        entry["requestBody"] = {"required": True, "content": {"application/json": content}}
    return entry


def _security(rule: Rule) -> list[dict[str, list[str]]]:
    if rule.is_open:
        return []
    return [{}, {"token": []}] if rule.is_open_on_loopback else [{"token": []}]


def _in_path(name: str, description: str | None) -> dict[str, Any]:
    """A word with its description, or a number."""
    parameter = {"name": name, "in": "path", "required": True}
    if description is not None:
        return parameter | {"description": description, "schema": {"type": "string"}}
    return parameter | {"schema": {"type": "integer", "format": "int64", "minimum": 0, "maximum": LARGEST_ID}}


def _asked(shape: type[Any]) -> list[dict[str, Any]]:
    """The parameters of a query, whose shape is flat."""
    (_,), components = msgspec.json.schema_components([shape])
    schema = components[shape.__name__]
    parameters = []
    for name, of_one in schema["properties"].items():
        described = {"description": of_one.pop("description")} if "description" in of_one else {}
        is_required = name in schema.get("required", ())
        parameters.append({"name": name, "in": "query", "required": is_required, **described, "schema": of_one})
    return parameters


def _header(header: Header) -> dict[str, Any]:
    entry: dict[str, Any] = {"description": header.description, "schema": {"type": "string"}}
    if header.example is not None:
        entry["example"] = header.example
    return entry


def _responses(operation: Operation, always: Iterable[type[problems.Problem]], refs: Refs) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    sets = {header.name: _header(header) for header in operation.sets}
    for status, shape in operation.gives.items():
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if isinstance(shape, str):
            response["content"] = {shape: {"schema": {} if shape.endswith("json") else {"type": "string"}}}
        elif shape is not None:
            content: dict[str, Any] = {"schema": refs[shape]}
            if operation.given is not None and status < 300:
                content["examples"] = {"example": {"value": msgspec.to_builtins(operation.given)}}
            response["content"] = {"application/json": content}
        if sets:
            response["headers"] = sets
        responses[str(status)] = response
    of_query = () if operation.asks is None else (InvalidQuery,)
    for problem in dict.fromkeys((*operation.refuses, *of_query, *always)):
        response = responses.setdefault(str(problem.status), {"description": "", "content": {}})
        response["description"] = " ".join(filter(None, [response["description"], problem.title()]))
        content = response["content"].setdefault(
            "application/problem+json", {"schema": refs[ProblemDetails], "examples": {}}
        )
        content["examples"][problem.kind()] = {
            "value": {"type": f"/problems/{problem.kind()}", "title": problem.title(), "status": problem.status}
        }
    return dict(sorted(responses.items()))
