"""The face of a module."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from kinfolk.kit.module import Module, module, modules


def test_a_module_loads_what_it_names() -> None:
    place = "kinfolk.modules.citizens"
    named = Module(name="x", description="", routes=f"{place}.api:ROUTES", tables=f"{place}.tables")
    named.load_tables()
    assert f"{place}.tables" in sys.modules
    assert named.handlers() is sys.modules[f"{place}.api"].ROUTES


def test_a_module_may_have_nothing_or_bring_it_itself() -> None:
    bare = Module(name="x", description="")
    bare.load_tables()
    assert [bare.handlers(), bare.load_jobs(), bare.load_ticks(), bare.load_lanes(), bare.load_renewals()] == [()] * 5
    own = Module(name="x", description="", routes=["a route"], jobs=["a job"], ticks=["a tick"], lanes=["a lane"])
    assert [own.handlers(), own.load_jobs(), own.load_ticks(), own.load_lanes()] == [
        ["a route"], ["a job"], ["a tick"], ["a lane"]
    ]  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "planted_module"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    for name in [name for name in sys.modules if name.startswith("planted_module")]:
        del sys.modules[name]


def test_what_a_module_has_is_found_by_the_names_of_its_files_and_not_loaded(package: Path) -> None:
    files = {"api": "ROUTES = [1]", "tables": "", "statements": "", "messages": "LANES = [4]"}
    for file, text in (files | {"jobs": "JOBS = [2]\nTICKS = [3]"}).items():
        (package / f"{file}.py").write_text(text)
    import_module("planted_module")
    found = module("planted_module", description="Planted.", is_at_root=True)
    assert (found.name, found.description, found.is_at_root) == ("planted_module", "Planted.", True)
    assert [name for name in sys.modules if name.startswith("planted_module.")] == []
    assert (found.tables, found.statements) == ("planted_module.tables", "planted_module.statements")
    assert [found.handlers(), found.load_jobs(), found.load_ticks(), found.load_lanes()] == [[1], [2], [3], [4]]


def test_jobs_may_have_no_ticks_and_a_file_must_have_what_it_is_there_for(package: Path) -> None:
    (package / "jobs.py").write_text("JOBS = [2]")
    (package / "messages.py").write_text("LANE = [4]")
    import_module("planted_module")
    found = module("planted_module", description="")
    assert (found.load_jobs(), found.load_ticks(), found.handlers(), found.tables) == ([2], (), (), None)
    with pytest.raises(AttributeError, match="LANES"):
        found.load_lanes()


def test_the_faces_of_modules_are_found_by_name() -> None:
    assert modules() == ()
    found = modules("kinfolk.modules.students", "kinfolk.modules.citizens")
    assert [module.name for module in found] == ["students", "citizens"]


def test_a_module_names_what_roles_need() -> None:
    (students,) = modules("kinfolk.modules.students")
    assert "students.welcome" in [job.name for job in students.load_jobs()]
    assert [tick.name for tick in students.load_ticks()] == ["students.touch"]
    assert [lane.name for lane in students.load_lanes()] == ["example.main"]
