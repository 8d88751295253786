"""Statements that a child has compiled: roles run them, and load nothing of what they are written with."""

import pickle
import sys
from importlib import import_module
from typing import Any

import psutil
import pytest
from tests.running import Service

from kinfolk.app import MODULES
from kinfolk.kit.compiled import compiled, stand_in
from kinfolk.kit.errand import run_aside
from kinfolk.kit.statement import Statement

STUDENTS = "kinfolk.modules.students.statements"


def loaded_by(service: Service) -> dict[int, set[str]]:
    """The files that each process of a role has in its memory."""
    pids = [service.process.pid, *(child.pid for child in psutil.Process(service.process.pid).children())]
    return {pid: {mapped.path for mapped in psutil.Process(pid).memory_maps()} for pid in pids}


def assert_without_sqlalchemy(service: Service) -> None:
    loaded = loaded_by(service)
    assert len(loaded) >= 2
    for files in loaded.values():
        assert any("/asyncpg/" in file for file in files)
        assert not [file for file in files if "/sqlalchemy/" in file]


def test_the_api_and_what_runs_beside_it_load_no_sqlalchemy(service: Service) -> None:
    assert_without_sqlalchemy(service)


@pytest.mark.parametrize("role", ["work", "consume"])
def test_a_role_by_itself_loads_no_sqlalchemy(role: str, make_database: Any, amqp_url: str) -> None:
    with Service(role, "--pg-url", make_database("compiled"), "--amqp-url", amqp_url) as alone:
        assert_without_sqlalchemy(alone)


def test_sqlalchemy_would_be_seen() -> None:
    assert [mapped.path for mapped in psutil.Process().memory_maps() if "/sqlalchemy/" in mapped.path]


def test_what_stands_in_has_statements_and_names_and_no_tables() -> None:
    texts = compiled(MODULES)

    def imported() -> dict[str, str]:
        stand_in(texts)
        module = import_module(STUDENTS)
        return {name: found.text for name, found in vars(module).items() if isinstance(found, Statement)}

    real = import_module(STUDENTS)
    assert run_aside(imported) == {
        name: found.text for name, found in vars(real).items() if isinstance(found, Statement)
    }
    assert {"ADDED", "WELCOMED"} <= texts[STUDENTS].keys()
    assert "students" not in texts[STUDENTS]
    assert texts["kinfolk.modules.citizens.statements"]["TIE_COLUMNS"] == ("import_id", "low_id", "high_id")
    assert sys.modules[STUDENTS] is real


def test_what_is_handed_over_needs_no_sqlalchemy_to_be_read() -> None:
    assert b"sqlalchemy" not in pickle.dumps(compiled(MODULES))
