"""Swagger UI in a real browser: all from our own host, nothing amiss, and a request that can be tried out."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from tests.journeys.test_page import CHROMIUM, FLAGS, PATIENCE_MS


@pytest.fixture
def page(service_url: str) -> Iterator[Page]:
    """A window; afterwards nothing that was asked may have left our host, and nothing may have gone wrong."""
    asked: list[str] = []
    amiss: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: amiss.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: amiss.append(str(error)))
        page.on("requestfailed", lambda request: amiss.append(request.url))
        yield page
        browser.close()
    assert amiss == []
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {urlsplit(service_url).netloc}
    assert {urlsplit(url).path for url in asked} > {"/docs", "/docs/swagger-ui-bundle.js", "/schema/openapi.json"}


def test_a_get_can_be_tried_out(page: Page, service_url: str) -> None:
    page.goto(f"{service_url}/docs")
    expect(page.get_by_role("heading", name="Kinfolk")).to_be_visible()
    paths = httpx.get(f"{service_url}/schema/openapi.json").json()["paths"].values()
    expect(page.locator(".opblock")).to_have_count(sum(map(len, paths)))
    expect(page.locator(".errors-wrapper")).to_have_count(0)
    health = page.locator(".opblock", has_text="/health").first
    health.locator(".opblock-summary").click()
    health.get_by_role("button", name="Execute").click()
    live = health.locator(".live-responses-table .response").first
    expect(live.locator(".response-col_status")).to_contain_text("200")
    expect(live.locator("code").first).to_contain_text(re.compile(r'"status":\s*"alive"'))


def test_the_example_register_can_be_sent(page: Page, service_url: str) -> None:
    page.goto(f"{service_url}/docs")
    post = page.locator(".opblock-post").first
    post.locator(".opblock-summary").click()
    expect(post.locator("textarea.body-param__text")).to_have_value(re.compile("Иванов Иван"))
    post.get_by_role("button", name="Execute").click()
    expect(post.locator(".live-responses-table .response .response-col_status").first).to_contain_text("201")
