"""What schemathesis makes of the document: requests that fit it, requests that do not, no answer that it lacks."""

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.modules.citizens.registers import a_citizen

from kinfolk.app import MODULES
from kinfolk.kit.http.application import describe

MOST_EXAMPLES = 25

# A body may fit the schema and still break a rule that JSON Schema cannot say: kinship, existing dates.
LEFT_OUT = [positive_data_acceptance]

document = json.loads(describe(MODULES))
for shape in ("Citizen", "CitizenChange"):
    # to make up ten thousand distinct relatives takes longer than all the rest; test_register.py sends as many
    del document["components"]["schemas"][shape]["properties"]["relatives"]["maxItems"]
schema = schemathesis.openapi.from_dict(document)


@pytest.fixture(scope="session")
def an_import(service_url: str) -> int:
    register = {"citizens": [a_citizen(number) for number in range(3)]}
    number: int = httpx.post(f"{service_url}/imports", json=register).json()["data"]["import_id"]
    return number


@schema.parametrize()
@settings(max_examples=MOST_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_documented(case: Any, service_url: str, an_import: int) -> None:
    for name, there in (("import_id", an_import), ("citizen_id", 1)):
        number = case.path_parameters.get(name)
        if isinstance(number, int) and number % 3:  # most numbers made up would name nothing
            case.path_parameters[name] = there
    case.call_and_validate(base_url=service_url, excluded_checks=LEFT_OUT, timeout=60)
