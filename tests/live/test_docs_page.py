"""The API references in a real browser: they work, and they ask nobody but the server."""

import shutil
import time
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from serving import send

pytestmark = pytest.mark.look

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
    names = ("reader", "json", "x-ndjson", "xml", "dev")
    return {name: server.account(f"{name}@docs.example.com", "--login", f"{name} of docs") for name in names}


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


def show(page, reference):
    """Go to a reference by its link."""
    page.locator("nav").get_by_role("link", name=reference, exact=True).click()
    expect(page.locator(".info .title")).to_contain_text(f"Callhouse: {reference}")


def authorize(page, credentials):
    page.locator(".scheme-container .authorize").click()
    page.locator("input[name=username]").fill(credentials[0])
    page.locator("input[name=password]").fill(credentials[1])
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
    answer = operation.locator(".live-responses-table tbody .response")
    if answer.count():
        # Else the answer to the form before might be taken for this one's.
        operation.locator(".btn-clear").click()
        expect(answer).to_have_count(0)
    operation.locator("button.execute").click()
    body = answer.locator(".microlight, code").first
    expect(body).to_be_visible()
    return answer.locator(".response-col_status").inner_text().split()[0], body.inner_text()


REFERENCES = {
    "DEV": ["dev_list_logs", "dev_get_log", "dev_list_sessions", "dev_list_errors"],
    "Fuse": ["fuse_list_calls", "fuse_list_calls_with_logs", "fuse_get_call_log"],
    "Plivo": ["plivo_list_calls", "plivo_get_call"],
    "Ingest": ["ingest_asterisk", "ingest_calls", "ingest_events", "ingest_freeswitch", "ingest_kamailio"],
    "Operation": ["healthz", "readyz", "metrics"],
}


def test_every_api_has_a_reference_of_its_own_that_shows_its_operations_alone(page):
    assert page.locator("nav a").all_inner_texts() == list(REFERENCES)
    for reference, operations in REFERENCES.items():
        show(page, reference)
        expect(page).to_have_title(f"Callhouse: {reference} reference")
        expect(page.locator("nav a[aria-current=page]")).to_have_text(reference)
        expect(page.locator(".opblock-tag-section h3 a")).to_have_text([reference])
        expect(page.locator(".opblock")).to_have_count(len(operations))
        for operation_id in operations:
            expect(page.locator(f"[id$=-{operation_id}]")).to_be_visible()


@pytest.mark.parametrize(("reference", "named"), [("DEV", "login and password"), ("Fuse", "developer key")])
def test_each_reference_says_which_credentials_its_api_takes(page, reference, named):
    show(page, reference)
    expect(page.locator(".info .description")).to_contain_text(named)
    page.locator(".scheme-container .authorize").click()
    expect(page.locator(".modal-ux .auth-container")).to_contain_text(named)


def test_listing_sessions_with_login_and_password_shows_what_was_sent(page, server, logins):
    login = logins["dev"]
    now = int(time.time())
    send(server, login, [{"session_id": "300060;007;1529552581", "start": now - 60, "end": now - 10, "src": "1"}])
    show(page, "DEV")
    authorize(page, login.dev)
    operation = open_operation(page, "dev_list_sessions")
    status, body = execute(operation)
    assert status == "200"
    assert "300060;007;1529552581" in body
    assert '"total_sessions": "1"' in body
    operation.locator(".responses-inner select.content-type").first.select_option("application/xml")
    status, body = execute(operation)
    assert status == "200"
    assert "<total_sessions>1</total_sessions>" in body


def test_listing_calls_shows_what_was_sent(page, server, logins):
    login = logins["reader"]
    now = int(time.time())
    send(server, login, [{"session_id": "shown on the page", "start": now - 60, "end": now - 10, "dest": "6177123001"}])
    show(page, "Fuse")
    authorize(page, login.fuse)
    status, body = execute(open_operation(page, "fuse_list_calls"))
    assert status == "200"
    assert '"session_id": "shown on the page"' in body
    assert '"total_calls": 1' in body


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_the_example_of_sending_a_call_is_accepted_as_it_stands(page, server, logins, media_type):
    login = logins[media_type.rpartition("/")[2]]
    show(page, "Ingest")
    authorize(page, login.fuse)
    operation = open_operation(page, "ingest_calls")
    operation.locator(".opblock-section-request-body select.content-type").select_option(media_type)
    status, body = execute(operation)
    assert status == "200"
    assert '"accepted": 1' in body
    assert server.client.get("/api/calls/1/9999999999", auth=login.fuse).json()["total_calls"] == 1


def test_xml_is_shown_when_it_is_chosen(page, logins):
    show(page, "Fuse")
    authorize(page, logins["xml"].fuse)
    operation = open_operation(page, "fuse_list_calls")
    operation.locator(".responses-inner select.content-type").first.select_option("application/xml")
    status, body = execute(operation)
    assert status == "200"
    assert "<total_calls>0</total_calls>" in body
