"""What a process that serves holds in memory."""

import subprocess
import sys

PROGRAM = """
import sys
from kinfolk.app import MODULES
from kinfolk.kit.db import Database
from kinfolk.kit.http.application import application
from kinfolk.kit.http.server import server

application(MODULES, Database("postgresql://127.0.0.1:1/none"))
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_what_serving_does_not_need_is_not_loaded() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert {"litestar", "uvicorn", "asyncpg"} <= loaded
    assert loaded.isdisjoint({"alembic", "croniter", "pydantic", "rich", "redis", "faker", "numpy", "pytest"})
