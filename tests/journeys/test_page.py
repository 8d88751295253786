"""The start page in a real browser, as the analyst of a gift shop uses it."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.running import Service

from kinfolk.modules.citizens.example_register import generate

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MOST_ID = 2**63 - 1
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Visit:
    """A window on the page, and all that it asked for and said meanwhile."""

    page: Page
    service_url: str
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    accidents: list[str] = field(default_factory=list)

    def go(self, path: str = "/") -> None:
        self.page.goto(self.service_url + path)

    def bring(self, register: Path) -> int:
        """Upload a register and wait for its answers; the number of the import."""
        self.page.get_by_label("Choose a file").set_input_files(register)
        expect(self.page.get_by_role("status")).to_contain_text(f"{register.name} is import")
        return int(urlsplit(self.page.url).query.removeprefix("import="))

    def rows(self, table: str) -> list[list[str]]:
        rows = self.page.locator(f"#{table} tbody tr").all()
        return [row.locator("th, td").all_inner_texts() for row in rows]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, service_url: str) -> Iterator[Visit]:
    """A fresh window; afterwards, nothing that it did may have left our own host or gone wrong unseen."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    visit = Visit(context.new_page(), service_url.rstrip("/"))
    visit.page.on("request", lambda request: visit.requests.append(request.url))
    visit.page.on("console", lambda message: visit.said.append(message.text))
    visit.page.on("pageerror", lambda error: visit.accidents.append(str(error)))
    yield visit
    context.close()
    assert visit.accidents == []
    assert {urlsplit(url).netloc for url in visit.requests} == {urlsplit(service_url).netloc}
    # What a browser says of a refusal by itself, and nothing of ours.
    assert [words for words in visit.said if "Failed to load resource" not in words] == []


@pytest.fixture
def citizens() -> list[dict[str, Any]]:
    return json.loads(b"".join(generate(120, 4)))["citizens"]


@pytest.fixture
def register(tmp_path: Path, citizens: list[dict[str, Any]]) -> Path:
    path = tmp_path / "register.json"
    path.write_text(json.dumps({"citizens": citizens}))
    return path


def test_the_page_needs_no_other_host_and_no_inline_code(visit: Visit) -> None:
    answer = visit.page.goto(visit.service_url)
    assert answer is not None
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    for name in ("API documentation", "OpenAPI", "Metrics"):
        link = visit.page.get_by_role("link", name=name).get_attribute("href")
        assert httpx.get(f"{visit.service_url}/{link}", follow_redirects=True).status_code == 200


def test_upload_look_correct(visit: Visit, register: Path, citizens: list[dict[str, Any]]) -> None:
    visit.go()
    number = visit.bring(register)
    page = visit.page
    expect(page.get_by_role("heading", name=f"Import {number}: 120 citizens")).to_be_visible()
    assert {row[0] for row in visit.rows("towns")} == {citizen["town"] for citizen in citizens}
    presents = visit.rows("presents")
    assert [row[0] for row in presents][::11] == ["January", "December"]
    assert sum(int(row[1]) for row in presents) == sum(len(citizen["relatives"]) for citizen in citizens)
    expect(page.locator("#citizens > li")).to_have_count(20)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#citizens > li")).to_have_count(40)

    first = citizens[0]
    page.get_by_role("button", name=f"Correct {first['name']}").first.click()
    form = page.get_by_role("form", name="Correct citizen 1", exact=True)
    form.get_by_label("Name").fill("Ольга Новая")
    form.get_by_label("Town").fill("Новый Город")
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Citizen 1 is corrected.")
    expect(page.locator("#towns")).to_contain_text("Новый Город")

    # A second correction goes on from the first one's version.
    page.get_by_role("button", name="Correct Ольга Новая").click()
    form.get_by_label("Name").fill("Ольга Вторая")
    form.get_by_label("Name").press("Enter")
    expect(page.locator("#citizens > li").first).to_contain_text("Ольга Вторая")

    page.reload()
    expect(page.locator("#citizens > li").first).to_contain_text("Ольга Вторая")
    expect(page.locator("#citizens > li").first).to_contain_text("Новый Город")
    asked = unquote(" ".join(visit.requests))
    assert "Новый" not in asked
    assert "Ольга" not in asked


def test_every_bad_place_is_shown(visit: Visit, tmp_path: Path, citizens: list[dict[str, Any]]) -> None:
    for citizen in citizens[:70]:
        citizen["town"] = ""
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"citizens": citizens}))
    visit.go()
    visit.page.get_by_label("Choose a file").set_input_files(bad)
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("70 places to put right")
    expect(alert.locator("li").nth(3)).to_contain_text("4th citizen of the file, town")
    expect(alert.locator("li").nth(3)).to_contain_text("/citizens/3/town")
    expect(alert.locator("li")).to_have_count(50)
    alert.get_by_role("button", name="Show all 70").click()
    expect(alert.locator("li")).to_have_count(70)
    expect(visit.page.locator("#answers")).to_be_hidden()


def test_an_import_is_opened_by_number_and_by_address(visit: Visit, register: Path) -> None:
    visit.go()
    number = visit.bring(register)
    visit.go()
    page = visit.page
    expect(page.locator("#answers")).to_be_hidden()
    page.get_by_label("Its number").fill(str(number))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"Import {number}:")).to_be_visible()
    page.go_back()
    expect(page.locator("#answers")).to_be_hidden()
    visit.go(f"/?import={number}")
    expect(page.get_by_role("heading", name=f"Import {number}:")).to_be_visible()
    visit.go("/?import=999999999")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#answers")).to_be_hidden()


def test_a_correction_that_comes_too_late_is_not_made(
    visit: Visit, register: Path, citizens: list[dict[str, Any]]
) -> None:
    visit.go()
    number = visit.bring(register)
    address = f"{visit.service_url}/api/v1/imports/{number}/citizens/1"
    assert httpx.patch(address, json={"name": "Somebody Faster"}).status_code == 200
    visit.page.get_by_role("button", name=f"Correct {citizens[0]['name']}").first.click()
    form = visit.page.get_by_role("form", name="Correct citizen 1", exact=True)
    form.get_by_label("Name").fill("Somebody Slower")
    form.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_role("status")).to_contain_text("Somebody else changed this import")
    expect(visit.page.locator("#citizens > li").first).to_contain_text("Somebody Faster")


def test_a_wrong_correction_says_why(visit: Visit, register: Path) -> None:
    visit.go()
    visit.bring(register)
    visit.page.get_by_role("button", name="Correct").first.click()
    form = visit.page.get_by_role("form", name="Correct citizen 1", exact=True)
    form.get_by_label("Town").fill("...")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("/town")
    form.get_by_label("Town").press("Escape")
    expect(form).to_have_count(0)


def test_the_longest_ids_keep_their_last_digit(visit: Visit, tmp_path: Path, citizens: list[dict[str, Any]]) -> None:
    last = citizens[0] | {"citizen_id": MOST_ID, "relatives": [], "name": "Number 1234567890123456789"}
    path = tmp_path / "long.json"
    path.write_text(json.dumps({"citizens": [last, last | {"citizen_id": MOST_ID - 1}]}))
    visit.go()
    number = visit.bring(path)
    visit.page.get_by_label("Find by number").fill(str(MOST_ID))
    expect(visit.page.locator("#citizens > li")).to_have_count(1)
    visit.page.get_by_role("button", name="Correct").click()
    visit.page.get_by_label("Name", exact=True).fill("The Very Last")
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("status")).to_have_text(f"Citizen {MOST_ID} is corrected.")
    answer = httpx.get(f"{visit.service_url}/api/v1/imports/{number}/citizens").json()["data"]
    names = {citizen["citizen_id"]: citizen["name"] for citizen in answer}
    assert names == {MOST_ID - 1: "Number 1234567890123456789", MOST_ID: "The Very Last"}


def test_a_narrow_window_and_long_words(visit: Visit, tmp_path: Path, citizens: list[dict[str, Any]]) -> None:
    citizens[0] |= {"town": "М" * 256, "name": "W" * 256}
    path = tmp_path / "wide.json"
    path.write_text(json.dumps({"citizens": citizens}))
    visit.page.set_viewport_size({"width": 360, "height": 740})
    visit.go()
    visit.bring(path)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360


def test_names_are_text_and_never_markup(visit: Visit, tmp_path: Path, citizens: list[dict[str, Any]]) -> None:
    citizens[0] |= {"town": "<b>town</b>", "name": "<img src=x onerror=alert(1)>"}
    path = tmp_path / "markup.json"
    path.write_text(json.dumps({"citizens": citizens}))
    visit.go()
    visit.bring(path)
    expect(visit.page.locator("#citizens > li").first).to_contain_text("<img src=x onerror=alert(1)>")
    expect(visit.page.locator("#towns")).to_contain_text("<b>town</b>")
    assert visit.page.locator("#answers img").count() == 0


def test_who_is_asked_logs_in_and_goes_on(browser: Browser, make_database: Any, register: Path) -> None:
    with ThreadPoolExecutor() as aside:  # in this thread, Playwright's own event loop runs
        url = aside.submit(make_database, "page_asks").result()
    with Service("api", "--auth", "required", "--pg-url", url) as service:
        (password,) = re.findall(r"with the password (\S+)", service.log)
        context = browser.new_context(viewport={"width": 1100, "height": 800})
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(service.url)
        page.get_by_label("Choose a file").set_input_files(register)
        expect(page.get_by_role("heading", name="This service asks who you are")).to_be_focused()
        for word, is_right in (("wrong", False), (password, True)):
            page.get_by_label("Your name").fill("admin")
            page.get_by_label("Your password").fill(word)
            page.get_by_role("button", name="Log in").click()
            if not is_right:
                expect(page.locator("#login-problem")).to_contain_text("Wrong username or password")
        expect(page.locator("#login-form")).to_be_hidden()
        page.get_by_role("button", name="Send it again").click()
        expect(page.get_by_role("status")).to_contain_text(f"{register.name} is import")
        with page.expect_download() as download:
            page.get_by_role("link", name="citizens").click()
        assert len(json.loads(Path(download.value.path()).read_text())["data"]) == 120
        assert page.evaluate("document.cookie + localStorage.length + sessionStorage.length") == "00"
        answer = httpx.post(f"{service.url}/api/v1/user/auth", json={"username": "admin", "password": password})
        identity = {"authorization": f"Bearer {answer.json()['data']['access_token']}"}
        assert httpx.delete(f"{service.url}/api/v1/user/sessions", headers=identity).status_code == 204
        page.get_by_role("button", name="Correct").first.click()
        page.get_by_label("Name", exact=True).fill("Somebody Else")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="This service asks who you are")).to_be_focused()
        service.end()
        page.get_by_role("link", name="citizens").click()
        expect(page.locator("#open-problem")).to_contain_text("The connection was lost")
        context.close()
