"""What people look at."""

import os
import subprocess
import sys

import httpx
import pytest
from tests.postgres_places import REPOSITORY

from kinfolk.kit import problems


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/start.js", "text/javascript; charset=utf-8"),
        ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("/docs/favicon-32x32.png", "image/png"),
    ],
)
async def test_a_page_brings_its_policy_with_it(client: httpx.AsyncClient, path: str, kind: str) -> None:
    for _ in range(2):  # what is kept in memory is not changed by having been sent
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.headers.get_list("cache-control") == ["no-cache"]
        assert answer.headers.get_list("content-security-policy")[0].startswith("default-src 'self'")
        assert len(answer.headers.get_list("x-request-id")) == 1


async def test_every_problem_is_explained_where_its_type_leads(client: httpx.AsyncClient) -> None:
    refused = (await client.get("/imports/999999999/citizens")).json()
    answer = await client.get(refused["type"])
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "no-such-import (404)\n\nThere is no such import.\n"
    for kind in problems.every_problem():
        assert (await client.get(f"/problems/{kind.kind()}")).status_code == 200


def test_what_is_made_of_the_code_is_not_stale() -> None:
    check = subprocess.run(
        [sys.executable, "tools/made_pages.py", "--check"],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (check.returncode, check.stderr) == (0, "")
