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


def test_a_module_may_have_jobs_ticks_and_lanes() -> None:
    place = "kinfolk.modules.jobs.forgetting"
    module = Module(name="x", description="", jobs=f"{place}:JOBS", ticks=f"{place}:TICKS", lanes=["a lane"])
    assert module.load_jobs() is sys.modules[place].JOBS
    assert module.load_ticks() is sys.modules[place].TICKS
    assert module.load_lanes() == ["a lane"]
    bare = Module(name="x", description="")
    assert (bare.load_jobs(), bare.load_ticks(), bare.load_lanes()) == ((), (), ())
