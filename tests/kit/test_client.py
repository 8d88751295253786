"""The commands' side of HTTP: addresses, tokens, and refusals in words."""

from pathlib import Path

import httpx
import pytest
from tests.scripted_service import Answer, accepted, scripted_service

from kinfolk.kit.client import checked_url, connect, nobody_there, place, printable, refused
from kinfolk.kit.ending import Ended


def answer(status: int, **how: object) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("POST", "http://here:81/api"), **how)  # type: ignore[arg-type]


def test_requests_go_below_the_address_and_show_the_token(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("s3cret\n")
    with scripted_service(accepted(1), accepted(2)) as service:
        with connect(f"{service.url}/people/", token_file) as client:
            client.get("api/v1/imports")
        with connect(service.url, None) as client:
            client.get("api/v1/imports")
    with_token, without = service.heard
    assert with_token.path == "/people/api/v1/imports"
    assert with_token.headers["authorization"] == "Bearer s3cret"
    assert with_token.headers["user-agent"].startswith("kinfolk/")
    assert without.path == "/api/v1/imports"
    assert "authorization" not in without.headers


def test_the_environment_sends_nobody_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with scripted_service(Answer(200)) as service, connect(service.url, None) as client:
        assert client.get("").status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://here", "http://", "", "http://[::", "here\x1b"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Ended, match=r"is not the address of a service; http://127\.0\.0\.1:8080") as end:
        checked_url(address)
    assert end.value.exit_code == 2
    assert "\x1b" not in str(end.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", b"\xff\xfe", "ключ".encode()])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    token_file = tmp_path / "token"
    token_file.write_bytes(content)
    with pytest.raises(Ended, match="holds no token") as end:
        connect("http://here", token_file)
    assert end.value.exit_code == 2


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Ended, match=r"none\.txt cannot be read: No such file") as end:
        connect("http://here", tmp_path / "none.txt")
    assert end.value.exit_code == 2


def test_a_password_in_the_address_is_not_shown() -> None:
    with connect("http://anna:hidden@here:81/people", None) as client:
        assert place(client) == "http://here:81/people"
        end = nobody_there(client)
    assert end.exit_code == 3
    assert "http://here:81/people" in str(end)
    assert "hidden" not in str(end)


def test_a_refusal_lists_every_bad_place() -> None:
    end = refused(
        answer(
            400,
            json={
                "type": "/problems/invalid-citizens",
                "title": "The document breaks the rules.",
                "status": 400,
                "errors": [
                    {"pointer": "/citizens/3/birth_date", "detail": "31.02.2019 does not exist"},
                    {"pointer": "", "detail": "an object is expected"},
                ],
                "error_count": 12,
            },
        )
    )
    assert end.exit_code == 1
    assert str(end).splitlines() == [
        "The document breaks the rules. (400)",
        "  /citizens/3/birth_date: 31.02.2019 does not exist",
        "  (the whole document): an object is expected",
        "  and 10 more",
    ]


def test_a_refusal_shows_title_and_detail() -> None:
    end = refused(answer(413, json={"title": "Too large.", "detail": "at most 70 MB", "status": 413}))
    assert str(end).splitlines() == ["Too large. (413)", "at most 70 MB"]


@pytest.mark.parametrize("content", [b"<html>Bad gateway</html>", b"", b"{}", b'{"title":1}', b"\xff", b'"\xff"'])
def test_an_answer_of_somebody_else_is_recognised(content: bytes) -> None:
    end = refused(answer(502, content=content))
    assert end.exit_code == 1
    assert str(end) == "http://here:81 answered 502 Bad Gateway, and not as Kinfolk does; is it Kinfolk?"


def test_names_cannot_move_the_cursor() -> None:
    assert printable("Анна\x1b[2J\n\u202e") == "Анна\\x1b[2J\\n\\u202e"
