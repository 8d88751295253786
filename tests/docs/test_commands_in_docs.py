"""What the pages tell people to type is typed, page by page, each on a data directory of its own."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, Block, name_of, steps
from tests.docs.plain_postgres import PlainPostgres
from tests.docs.reader import Reader, is_role, looks_like
from tests.redis_server import RedisServer

# What cannot be typed here, and why.
NOT_TYPED = {
    "./test\n": "it is what runs this test",
    "./test -k kin\n": "as above",
}
NOT_TYPED_PAGES = {
    "docs/how-to/install-with-pip.md": "an index, and root: make release and tests/deploy/test_package.py do the same",
    "docs/how-to/run-it-under-systemd.md": "a machine of its own: tests/deploy/check_systemd.py types it there",
    "docs/how-to/run-it-in-containers.md": "an engine: tests/deploy/check_image.py builds without one",
    "docs/how-to/put-nginx-in-front.md": "root's folders: tests/deploy/test_nginx.py uses the files elsewhere",
}
CONSOLE_PAGES = {
    "docs/how-to/run-it-on-kubernetes.md": "a cluster: tests/deploy/test_kubernetes.py looks at the manifests",
    "docs/how-to/run-it-with-ansible.md": "servers: tests/deploy/check_ansible.py applies the roles",
    "docs/how-to/keep-account.md": "users at work: tests/modules/audit/test_audit_commands.py asks, proves and cuts",
    "docs/how-to/watch-it.md": "a Prometheus: tests/deploy/test_alerts.py looks at its files",
    "docs/how-to/use-your-own-postgresql.md": "a server to run all tests on: .github/workflows/checks.yaml does so",
    "docs/runbook.md": "what only an operator of many has: tests/deploy/test_alerts.py looks at each section",
}
FIRST_PAGES = {"README.md"}
"""Read by whoever has not started Kinfolk yet."""
TYPED_LANGUAGES = {"sh", "diff", "Ctrl-C"}
STORIES = [
    page
    for page in PAGES
    if any(block.language == "sh" for block in steps(page)) and name_of(page) not in NOT_TYPED_PAGES
]
A_SERVER_OF_YOUR_OWN = "db.example.org:5432"
A_REDIS_OF_YOUR_OWN = "redis.example.org:6379"
A_RABBITMQ = "127.0.0.1:5672"


@pytest.fixture(scope="module")
def own_server() -> Iterator[PlainPostgres]:
    with PlainPostgres() as server:
        yield server


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    with RedisServer(password="change-me") as server:
        yield server


@pytest.fixture
def changed(own_server: PlainPostgres, own_redis: RedisServer, rabbit_url: str) -> dict[str, str]:
    """Words of the pages, and what stands for them here."""
    port = free_port()
    return {
        A_RABBITMQ: rabbit_url.rpartition("@")[2],
        "127.0.0.1:8080": f"127.0.0.1:{port}",
        A_SERVER_OF_YOUR_OWN: f"127.0.0.1:{own_server.port}",
        A_REDIS_OF_YOUR_OWN: f"127.0.0.1:{own_redis.port}",
        "KINFOLK_API_PORT": str(port),
        "KINFOLK_API_URL": f"http://127.0.0.1:{port}",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("page", STORIES, ids=name_of)
def test_a_page_can_be_followed_word_for_word(page: Path, changed: dict[str, str]) -> None:
    said = ""
    with Reader(changed, is_new=name_of(page) in FIRST_PAGES) as reader:
        for block in steps(page):
            if block.language == "text" and said:
                assert looks_like(reader.as_here(block.text), said), (
                    f"{name_of(page)} shows\n{block.text}\nbut it said\n{said}"
                )
                said = ""
            elif block.text not in NOT_TYPED:
                said = reader.follow(block)


def test_what_is_not_typed_is_in_the_pages() -> None:
    assert NOT_TYPED_PAGES.keys() <= {name_of(page) for page in PAGES}
    shown = {block.text for page in PAGES for block in steps(page)}
    assert NOT_TYPED.keys() <= shown


def test_every_page_with_something_to_do_is_followed() -> None:
    todo = {page for page in PAGES for block in steps(page) if block.file or block.language in TYPED_LANGUAGES}
    assert {page for page in todo if name_of(page) not in NOT_TYPED_PAGES} == set(STORIES)


def test_commands_stand_in_blocks_that_are_typed() -> None:
    """A block in another language, or in none, must not hide a command."""
    for page in PAGES:
        for block in steps(page):
            # what is typed on machines that tests do not have
            if block.language == "console" and name_of(page) in CONSOLE_PAGES:
                continue
            assert block.language in {*TYPED_LANGUAGES, "text", "python", "sql", "toml", "yaml"}, block
            assert block.language == "sh" or not block.text.startswith(("./run ", "make ", "$ ", "curl ")), block


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("import 1\n", "import 27\n", True),
        ("import 1\n", "import one\n", False),
        ("ready pid=…\nup", "ready pid=1234\nup\n", True),
        ("up\n", "up and more\n", False),
        ('{"p50": 1.5}', '{"p50": 20.75}', True),
        ("a (b)", "a b", False),
    ],
)
def test_outputs_are_compared(shown: str, said: str, same: bool) -> None:
    assert looks_like(shown, said) is same


def test_a_page_that_says_wrong_things_is_found_out() -> None:
    with Reader({}, is_new=True) as reader:
        with pytest.raises(AssertionError, match="ended with 1"):
            reader.follow(Block("sh", "", "false\n"))
        with pytest.raises(AssertionError, match="0 times"):
            reader.follow(Block("diff", "Makefile", "-nowhere\n+here\n"))
        with pytest.raises(AssertionError, match="there already"):
            reader.follow(Block("python", "Makefile", "x"))
        assert reader.follow(Block("sh", "", "export WORD=kept\n")) == ""
        assert reader.follow(Block("sh", "", "echo $WORD\n")) == "kept\n"


def test_roles_are_told_from_errands() -> None:
    assert [is_role(words) for words in ("./run\n", "./run up --workers 2\n", "./run db current\n", "ls\n")] == [
        True,
        True,
        False,
        False,
    ]
