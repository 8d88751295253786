"""The face of a module."""

import sys

from kinfolk.kit.module import Module


def test_a_module_loads_what_it_names() -> None:
    place = "kinfolk.modules.citizens"
    module = Module(name="x", description="", routes=f"{place}.api:ROUTES", tables=f"{place}.tables")
    module.load_tables()
    assert f"{place}.tables" in sys.modules
    assert module.handlers() is sys.modules[f"{place}.api"].ROUTES


def test_a_module_may_have_no_tables_and_bring_its_routes_itself() -> None:
    module = Module(name="x", description="", routes=["a route"])
    module.load_tables()
    assert module.handlers() == ["a route"]
