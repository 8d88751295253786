"""Over a Citus cluster, as far as it can be seen without one: the statements, the keys, and the refusal."""

from typing import Any

import pytest
from sqlalchemy import ForeignKeyConstraint, PrimaryKeyConstraint, Table, UniqueConstraint
from tests.conftest import run_sql
from tests.kit.test_migrate import rows

from kinfolk.app import MODULES
from kinfolk.cli import run
from kinfolk.kit import distribution
from kinfolk.kit.distribution import distributed, statements
from kinfolk.kit.sql import metadata

TABLES = distributed(MODULES)

# Stands for Citus, of which the statements ask this much: it remembers what it was told.
CITUS = """
    CREATE TABLE pg_dist_partition (logicalrelid regclass, partmethod text, told text);
    CREATE FUNCTION create_distributed_table(t text, c text, colocate_with text DEFAULT '') RETURNS void LANGUAGE sql
        AS $$ INSERT INTO pg_dist_partition VALUES (t::regclass, 'h', c || ' ' || colocate_with) $$;
"""


def misplaced(table: Table, column: str) -> list[str]:
    """What Citus would refuse: unique keys without the column, and ties to tables that do not lie with this one."""
    keys = [each for each in table.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint)]
    unique = [(each.name, each.columns) for each in keys]
    unique += [(each.name, each.columns) for each in table.indexes if each.unique]
    wrong = [str(name) for name, columns in unique if column not in columns]
    for foreign in table.constraints:
        if isinstance(foreign, ForeignKeyConstraint):
            pairs = {(each.parent.name, each.column.name) for each in foreign.elements}
            if (column, TABLES.get(foreign.referred_table.name)) not in pairs:
                wrong.append(str(foreign.name))
    return wrong


def test_every_key_of_a_spread_table_holds_its_column() -> None:
    for module in MODULES:
        module.load_tables()
    assert {"imports", "citizens", "ties"} <= TABLES.keys()
    assert not [wrong for name, column in TABLES.items() for wrong in misplaced(metadata.tables[name], column)]
    for table in metadata.tables.values():
        if table.name not in TABLES:
            assert not {each.referred_table.name for each in table.foreign_key_constraints} & TABLES.keys()
    assert misplaced(metadata.tables["idempotent_imports"], "import_id") == ["pk_idempotent_imports"]
    assert set(misplaced(metadata.tables["ties"], "low_id")) == {"fk_ties_high", "fk_ties_low"}


def test_what_would_be_done_can_be_seen(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "distribute", "--dry-run"]) == 0  # and no server was started for it
    assert capfd.readouterr().out == (
        "SELECT create_distributed_table('imports', 'import_id');\n"
        "SELECT create_distributed_table('citizens', 'import_id', colocate_with => 'imports');\n"
        "SELECT create_distributed_table('ties', 'import_id', colocate_with => 'imports');\n"
    )
    assert statements({"a": "x", "b": "y"})["b"] == "SELECT create_distributed_table('b', 'y')"
    assert run(["db", "distribute", "--now"]) == 2


def test_without_citus_it_is_refused(make_database: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "distribute", "--pg-url", make_database("alone")]) == 3
    assert capfd.readouterr().err.startswith("this database has no Citus")


def test_tables_are_spread_once_and_together(
    make_database: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url = make_database("spread")
    run_sql(url, CITUS)
    monkeypatch.setattr(distribution, "HAS_CITUS", "SELECT 1")
    assert run(["db", "distribute", "--pg-url", url]) == 0
    assert capfd.readouterr().out.count("create_distributed_table") == len(TABLES)
    told = [("imports", "import_id "), ("citizens", "import_id imports"), ("ties", "import_id imports")]
    assert rows(url, "SELECT logicalrelid::text, told FROM pg_dist_partition") == told
    assert run(["db", "distribute", "--pg-url", url]) == 0
    assert capfd.readouterr().out == ""
