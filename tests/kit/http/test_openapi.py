"""The OpenAPI document: valid, whole, and true."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
import time_machine
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.kit.http.conftest import PLANTED
from tests.postgres_places import REPOSITORY

from kinfolk.app import MODULES
from kinfolk.kit.http import Answer, Request, get, handshake
from kinfolk.kit.http.application import describe
from kinfolk.kit.http.watching import ROUTES
from kinfolk.kit.module import Module
from kinfolk.rules import EVENTS, RULES

DOCUMENT: dict[str, Any] = json.loads(describe(MODULES, RULES))
WHEN_THE_EXAMPLES_WERE_TRUE = datetime(2026, 6, 1, tzinfo=UTC)


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method.upper(), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def fits(value: Any, schema: dict[str, Any]) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def sent(path: str, method: str) -> Any:
    return DOCUMENT["paths"][path][method]["requestBody"]["content"]["application/json"]["examples"]["example"]["value"]


def given(path: str, method: str, status: str = "200") -> Any:
    content = DOCUMENT["paths"][path][method]["responses"][status]["content"]["application/json"]
    return content["examples"]["example"]["value"]


async def test_it_is_served_as_it_is_described(client: httpx.AsyncClient) -> None:
    answer = await client.get("/schema/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == describe(MODULES, RULES)


@pytest.mark.parametrize("modules", [MODULES, (PLANTED,), ()], ids=["ours", "planted", "none"])
def test_it_is_valid(modules: tuple[Module, ...]) -> None:
    OpenAPIV31SpecValidator(json.loads(describe(modules))).validate()


def test_every_route_is_in_it() -> None:
    routed = {("", handler) for handler in [*ROUTES, *handshake.ROUTES]}
    routed |= {("/api/v1", handler) for module in MODULES for handler in module.handlers()}
    expected = {
        (prefix + path.replace(":str}", "}"), method)
        for prefix, handler in routed
        for path in handler.paths
        for method in handler.http_methods
    }
    assert {(path, method) for path, method, _ in operations(DOCUMENT)} == expected
    ids = [operation["operationId"] for _, _, operation in operations(DOCUMENT)]
    assert len(ids) == len(set(ids)) == len(expected)


@pytest.mark.parametrize(("path", "method", "operation"), operations(DOCUMENT))
def test_every_example_fits_its_schema(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    contents = [operation.get("requestBody", {}), *operation["responses"].values()]
    for media in [media for each in contents for media in each.get("content", {}).values()]:
        Draft202012Validator.check_schema({**media["schema"], "components": DOCUMENT["components"]})
        for example in media.get("examples", {}).values():
            fits(example["value"], media["schema"])
    for name, response in operation["responses"].items():
        assert response["description"]
        if int(name) >= 400 and "application/problem+json" in response["content"]:
            examples = response["content"]["application/problem+json"]["examples"]
            assert {example["value"]["status"] for example in examples.values()} == {int(name)}


async def test_the_examples_are_what_happens(client: httpx.AsyncClient) -> None:
    """Each example is sent, and answered as the document says; only the import's number is another one."""
    imports = "/api/v1/imports"
    one = imports + "/{import_id}"
    with time_machine.travel(WHEN_THE_EXAMPLES_WERE_TRUE):
        added = await client.post(imports, json=sent(imports, "post"))
        number = added.json()["data"]["import_id"]
        assert added.status_code == 201
        assert added.json() == {"data": {"import_id": number}}
        fits(given(imports, "post", "201"), {"$ref": "#/components/schemas/ImportAdded"})
        example = DOCUMENT["paths"][imports]["post"]["responses"]["201"]["headers"]["Location"]["example"]
        assert added.headers["location"] == example.replace("/1/", f"/{number}/")
        for part in ("/citizens", "/citizens/birthdays", "/towns/stat/percentile/age"):
            answer = await client.get(one.format(import_id=number) + part)
            assert answer.json() == given(one + part, "get")
            assert "etag" in answer.headers
        corrected = await client.patch(
            f"{imports}/{number}/citizens/1", json=sent(one + "/citizens/{citizen_id}", "patch")
        )
        assert (corrected.status_code, corrected.json()) == (200, given(one + "/citizens/{citizen_id}", "patch"))
    for path in ("/health", "/ready"):
        assert (await client.get(path)).json() == given(path, "get")


async def test_the_refusals_are_what_happens(client: httpx.AsyncClient) -> None:
    refusals = [
        (await client.get("/api/v1/imports/999999999/citizens"), "/api/v1/imports/{import_id}/citizens", "get"),
        (await client.post("/api/v1/imports", content=b"{"), "/api/v1/imports", "post"),
        (await client.post("/api/v1/imports", json={}), "/api/v1/imports", "post"),
        (await client.post("/api/v1/imports", headers={"content-encoding": "br"}), "/api/v1/imports", "post"),
        (await client.post("/api/v1/imports", headers={"sec-fetch-site": "cross-site"}), "/api/v1/imports", "post"),
    ]
    for answer, path, method in refusals:
        responses = DOCUMENT["paths"][path][method]["responses"]
        media = responses[str(answer.status_code)]["content"]["application/problem+json"]
        fits(answer.json(), media["schema"])
        example = media["examples"][answer.json()["type"].removeprefix("/problems/")]["value"]
        assert example.items() <= answer.json().items()
    assert [answer.status_code for answer, _, _ in refusals] == [404, 400, 400, 415, 403]


def test_the_limits_of_the_contract_are_in_it() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    largest = 2**63 - 1
    for shape in ("Citizen", "CitizenChange"):
        fields = schemas[shape]["properties"]
        assert schemas[shape]["additionalProperties"] is False
        for name in ("town", "street", "building", "name"):
            assert (fields[name]["type"], fields[name]["minLength"], fields[name]["maxLength"]) == ("string", 1, 256)
        assert (fields["apartment"]["minimum"], fields["apartment"]["maximum"]) == (0, largest)
        assert fields["birth_date"]["pattern"] == r"^[0-9]{2}\.[0-9]{2}\.[0-9]{4}$"
        assert sorted(fields["gender"]["enum"]) == ["female", "male"]
        relatives = fields["relatives"]
        assert (relatives["maxItems"], relatives["uniqueItems"]) == (10_000, True)
        assert (relatives["items"]["minimum"], relatives["items"]["maximum"]) == (0, largest)
    assert schemas["Citizen"]["properties"]["citizen_id"]["maximum"] == largest
    assert set(schemas["Citizen"]["required"]) == set(schemas["Citizen"]["properties"])
    assert schemas["CitizenChange"]["required"] == []
    assert schemas["NewImport"]["properties"]["citizens"]["maxItems"] == 10_000


def test_paths_queries_headers_and_items_are_in_it() -> None:
    document = json.loads(describe((PLANTED,)))
    put = document["paths"]["/api/v1/things/{thing_id}"]["put"]
    assert (put["summary"], put["description"]) == ("Keep a thing", "It is not really kept.")
    (number,) = put["parameters"]
    assert number == {
        "name": "thing_id",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**63 - 1},
    }
    seen = document["paths"]["/api/v1/things/{thing_id}"]["get"]["parameters"][1]
    assert (seen["name"], seen["in"], seen["schema"], seen["example"]) == (
        "If-None-Match",
        "header",
        {"type": "string"},
        '"v0"',
    )
    thing = document["components"]["schemas"]["Thing"]
    assert (thing["properties"]["parts"]["minItems"], thing["properties"]["parts"]["maxItems"]) == (1, 3)
    assert thing["properties"]["sizes"]["items"] == {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 2}
    assert document["components"]["schemas"]["Part"]["properties"]["word"]["maxLength"] == 5
    forgotten = document["paths"]["/api/v1/things/{thing_id}"]["delete"]["responses"]["204"]
    assert forgotten == {"description": "No Content"}
    failing = document["paths"]["/api/v1/failing"]["get"]["responses"]["200"]
    assert failing["content"] == {"text/plain": {"schema": {"type": "string"}}}
    for path, method, operation in operations(document):
        assert ("403" in operation["responses"]) == (method != "GET" or path == "/ws")
        assert {"500", "503"} <= set(operation["responses"])


def test_two_shapes_of_one_name_are_two_schemas() -> None:
    shapes = [msgspec.defstruct("Same", [(name, int)], module=f"place.of_{name}") for name in ("one", "two")]

    async def handle(_request: Request) -> Answer:
        """Answer."""
        raise AssertionError

    routes = [get(f"/{number}", gives={200: shape})(handle) for number, shape in enumerate(shapes)]
    document = json.loads(describe([Module(name="twins", description="Twins.", routes=routes)]))
    properties = []
    for number in (0, 1):
        media = document["paths"][f"/api/v1/{number}"]["get"]["responses"]["200"]["content"]["application/json"]
        name = media["schema"]["$ref"].removeprefix("#/components/schemas/")
        properties.append(list(document["components"]["schemas"][name]["properties"]))
    assert properties == [["one"], ["two"]]


async def test_the_schema_of_messages_is_served_as_it_is_committed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/schema/asyncapi.json")
    assert answer.content == (REPOSITORY / "asyncapi.json").read_bytes()
    document = answer.json()
    assert document["channels"].keys() >= {"imports.main", "example.main", "events"}
    assert document["channels"]["events"]["address"] == "/ws"
    told = document["components"]["messages"]["event"]["payload"]["properties"]["name"]["enum"]
    assert set(told) == {*EVENTS, "events.missed"}
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', answer.text):
        part: Any = document
        for name in reference.split("/"):
            part = part[name]
