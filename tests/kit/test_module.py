"""The face of a module."""

import sys

from kinfolk.kit.module import Module, modules


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


def test_the_faces_of_modules_are_found_by_name() -> None:
    assert modules() == ()
    found = modules("kinfolk.modules.students", "kinfolk.modules.citizens")
    assert [module.name for module in found] == ["students", "citizens"]


def test_a_module_names_what_roles_need() -> None:
    (students,) = modules("kinfolk.modules.students")
    assert "students.welcome" in [job.name for job in students.load_jobs()]
    assert [tick.name for tick in students.load_ticks()] == ["students.touch"]
    assert [lane.name for lane in students.load_lanes()] == ["example.main"]
