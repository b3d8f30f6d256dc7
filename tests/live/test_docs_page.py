"""The API reference in a real browser: it works, and it asks nobody but the server."""

import shutil
import time
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from serving import send

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def logins(server):
    return {name: server.account(f"{name}@docs.example.com") for name in ("reader", "json", "x-ndjson", "xml")}


@pytest.fixture(scope="module")
def browser(logins):
    # It runs an event loop in this thread, as making an account does: those are made before.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """The reference, in a browser without a past; at the end only the server was asked and nothing went wrong."""
    asked, problems = set(), []
    page = browser.new_page()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{server.url}/docs")
    yield page
    page.close()
    assert asked == {urlsplit(server.url).netloc}
    assert problems == []


def authorize(page, login):
    page.locator(".scheme-container .authorize").click()
    page.locator("input[name=username]").fill(login.email)
    page.locator("input[name=password]").fill(login.developer_key)
    page.locator(".modal-ux button.authorize").click()
    page.locator(".modal-ux .btn-done").click()


def open_operation(page, operation_id):
    """The open form of an operation."""
    operation = page.locator(f"[id$=-{operation_id}]")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".try-out__btn").click()
    return operation


def execute(operation):
    """Send the form; the status and the body of the answer."""
    operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table tbody .response")
    body = answer.locator(".microlight, code").first
    expect(body).to_be_visible()
    return answer.locator(".response-col_status").inner_text().split()[0], body.inner_text()


def test_every_operation_is_shown_under_its_api(page):
    expect(page).to_have_title("Callhouse: API reference")
    expect(page.locator(".opblock-tag-section h3 a")).to_have_text(["Fuse", "Plivo", "Ingest", "Operation"])
    expect(page.locator(".opblock")).to_have_count(10)


def test_listing_calls_shows_what_was_sent(page, server, logins):
    login = logins["reader"]
    now = int(time.time())
    send(server, login, [{"session_id": "shown on the page", "start": now - 60, "end": now - 10, "dest": "6177123001"}])
    authorize(page, login)
    status, body = execute(open_operation(page, "fuse_list_calls"))
    assert status == "200"
    assert '"session_id": "shown on the page"' in body
    assert '"total_calls": 1' in body


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_the_example_of_sending_a_call_is_accepted_as_it_stands(page, server, logins, media_type):
    login = logins[media_type.rpartition("/")[2]]
    authorize(page, login)
    operation = open_operation(page, "ingest_calls")
    operation.locator(".opblock-section-request-body select.content-type").select_option(media_type)
    status, body = execute(operation)
    assert status == "200"
    assert '"accepted": 1' in body
    assert server.client.get("/api/calls/1/9999999999", auth=login.fuse).json()["total_calls"] == 1


def test_xml_is_shown_when_it_is_chosen(page, logins):
    authorize(page, logins["xml"])
    operation = open_operation(page, "fuse_list_calls")
    operation.locator(".responses-inner select.content-type").first.select_option("application/xml")
    status, body = execute(operation)
    assert status == "200"
    assert "<total_calls>0</total_calls>" in body
