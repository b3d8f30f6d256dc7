"""The console in a real browser: what a person does in it works, for everybody, and it asks nobody but the server.

With CALLHOUSE_TEST_IMAGES the pictures of docs/console.md are written to the directory that it names.
"""

import asyncio
import csv
import os
import random
import shutil
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from arro3.io import read_parquet
from playwright.sync_api import expect, sync_playwright

import stores
from callhouse import console, simulation
from callhouse.model.account import Retention
from callhouse.sources.native import written
from callhouse.store import open_store
from callhouse.store.mirrors import UNKNOWN
from callhouse.wire import Window
from conftest import KEEP_ALL
from live.npm import packages
from live.test_docs_page import CHROMIUM
from mirror.followed import followed
from serving import Server, send

pytestmark = pytest.mark.look

NODE = Path(__file__).parent / "console_node"
KAMAILIO = Path(__file__).parents[1] / "sources/samples/kamailio"
IMAGES = os.environ.get("CALLHOUSE_TEST_IMAGES")
NOW = int(time.time())
LONG_EMAIL = f"{'mailbox-' * 8}x@{'a-long-label.' * 10}example"
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
SCRIPT = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
ODD = "\u202e gnp.exe \u2066 日本 \U0001f4de عربى é\u0301 " + "long" * 40


@pytest.fixture(scope="module")
def package():
    return packages(NODE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("console")
    (directory / "token").write_text("the operator's long token")
    token = f"console.admin_token_file={directory / 'token'}"
    with Server(directory / "data", *KEEP_ALL, token, "mirror.background=false") as running:
        yield running


@pytest.fixture(scope="module")
def logins(server):
    """The accounts of these tests, made before the browser, which keeps an event loop in this thread."""
    ours = server.account("ops@harbor.example", "--login", "ops", "--timezone", "America/New_York")
    simulated = [written(*each) for each in simulation.calls(1, 300, (NOW - 86_400) * 1000, (NOW - 900) * 1000)]
    sent = server.client.post(
        "/ingest/calls", content=b"\n".join(simulated), headers={"Content-Type": "application/x-ndjson"}, auth=ours.fuse
    )
    assert sent.json()["rejected"] == []
    send(server, ours, [COMPLAINT, TRANSFER])
    server.client.post("/ingest/calls", json=REFUSED, auth=ours.fuse)
    for file in sorted(KAMAILIO.glob("*.json")):
        server.client.post("/ingest/kamailio", content=file.read_bytes(), auth=ours.fuse)
    asyncio.run(add_mirrors(server.data, ours.id))
    odd = server.account("odd@console.example")
    send(server, odd, list(odd_calls()))
    long = server.account(LONG_EMAIL)
    before = {"session_id": "the day before", "start": NOW - 100_000, "answer": NOW - 100_000, "end": NOW - 99_993}
    oldest = {"session_id": "oldest", "start": NOW - 200_000, "end": NOW - 199_990, "duration": 0}
    send(server, long, [{"session_id": "endless", "start": NOW - 60, "answer": NOW - 50, "end": 99_999_999_999}])
    send(server, long, [before, oldest])
    return {"ours": ours, "odd": odd, "none": server.account("none@console.example"), "long": long,
            "busy": server.account("busy@console.example")}  # fmt: skip


async def add_mirrors(data, account_id):
    """One that has nearly all, and one whose vendor deletes faster than it answers."""
    store = await open_store(stores.location(data), retention=Retention(), clock=lambda: NOW * 1000)
    had = Window((NOW - 90 * 86_400) * 1000, (NOW - 100) * 1000)
    await followed(store, "sales", "plivo", account_id, had=had)
    losses = {NOW // 86_400 - 9: 14, NOW // 86_400 - 8: UNKNOWN}
    late = await followed(store, "old office", "plivo", account_id, losses=losses, calls=77)
    await store.mirrors.set_state(late.id, "active", "The vendor answered 503.")
    await store.close()


COMPLAINT = {
    "session_id": "300060;007;1529552581", "call_uuid": "complaint", "start": NOW - 700, "answer": NOW - 696.5,
    "end": NOW - 590, "src": "2125550143", "dest": "8005550100", "direction": "inbound",
    "application_name": "Order Status", "application_version": "2.3", "hangup_source": "Caller",
    "hangup_original_code": "16", "hangup_original_scheme": "q850", "sip_call_id": "0a1b2c@sbc.example",
    "events": [
        {"timestamp": NOW - 700 + at, "class": cls, "line": line, "data": {"module_type": kind, "result_variable": var}}
        for at, cls, line, kind, var in (
            (3.5, "info", 'Executing application "Order Status" version "2.3"', "start", "start"),
            (3.6, "prompt", "Harbor Lane Supply.  To trace an order, press 1.  For a person, 0.", "menu", "choice"),
            (9.2, "event", "User input: 1 (dtmf)", "menu", "choice"),
            (9.3, "prompt", "Key in the seven digits of your order number.", "number", "order"),
            (16.9, "event", "No input", "number", "order"),
            (17.0, "prompt", "Key in the seven digits of your order number.", "number", "order"),
            (24.1, "event", "User input: 4417702 (dtmf)", "number", "order"),
            (24.2, "info", "Sending", "rest", "lookup"),
            (26.8, "error", "HTTP 503 from https://orders.example.com/v2/4417702", "rest", "lookup"),
            (27.0, "prompt", "One moment, a colleague will pick up.", "transfer", "desk"),
            (29.0, "info", "Transferring call", "transfer", "desk"),
            (110.0, "event", "Disconnecting call", "transfer", "desk"),
        )
    ],
}  # fmt: skip
TRANSFER = {
    "session_id": "300060;008;1529552610", "call_uuid": "transfer", "parent_call_uuid": "complaint",
    "start": NOW - 671, "answer": NOW - 660, "end": NOW - 590, "src": "2125550143", "dest": "6175550180",
    "direction": "transfer", "application_name": "Agent Desk", "hangup_source": "Caller", "hangup_cause_code": 4000,
}  # fmt: skip


REFUSED = [
    {"session_id": "300060;009;1529552999", "start": NOW - 60, "end": NOW - 90, "src": "2125550143"},
    {"session_id": "", "start": NOW - 60, "src": "2125550143", "dest": "8005550100"},
    {"session_id": "300060;010;1529553001", "start": "yesterday"},
    {"session_id": "300060;011;1529553002", "start": NOW - 60, "end": NOW - 80},
]


def odd_calls():
    """Calls that try a page: hostile and long texts everywhere, ten thousand events, none at all."""
    for name, text in (("script", SCRIPT), ("odd", ODD)):
        event = {"timestamp": NOW - 50, "class": "error", "line": text, "data": {text: text, "deep": {text: [text]}}}
        yield {
            "session_id": f"{name} {text}", "start": NOW - 60, "end": NOW - 1, "src": text, "dest": text, "other": text,
            "application_name": text, "hangup_source": text, "hangup_cause_name": text, "sip_call_id": text,
            "events": [event],
        }  # fmt: skip
    rng = random.Random(1)
    classes = ("info", "event", "debug", "prompt", "error")
    events = [
        {"timestamp": NOW - 3_000 + n * 0.25, "class": rng.choice(classes), "line": f"Step {n}", "data": {"n": n}}
        for n in range(10_000)
    ]
    yield {"session_id": "many", "start": NOW - 3_000, "end": NOW - 400, "src": "1", "dest": "2", "events": events}
    yield {"session_id": "nothing", "start": NOW - 30, "end": NOW - 30}


@pytest.fixture(scope="module")
def browser(logins, package):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server, logins):
    """Opens pages as an account; in the end only the server was asked, and nothing went wrong."""
    asked, problems, contexts = set(), [], []

    def open_as(who, *, viewport=DESKTOP, color_scheme="light", **options):
        context = browser.new_context(
            base_url=server.url, viewport=viewport, color_scheme=color_scheme, timezone_id="Europe/Berlin", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.goto("/console")
        if who is not None:
            sign_in(page, *logins[who].fuse)
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert asked == {urlsplit(server.url).netloc}
    assert problems == []


def sign_in(page, name, secret):
    page.get_by_label("E-mail address").fill(name)
    page.get_by_label("Developer key").fill(secret)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def sign_in_as_operator(page):
    page.get_by_text("Sign in as operator").first.click()
    page.get_by_label("Admin token").fill("the operator's long token")
    page.get_by_role("button", name="Sign in as operator").click()
    expect(page.locator(".account")).to_contain_text("ops@harbor.example")


def search(page, text):
    page.get_by_role("searchbox", name="Search").fill(text)
    page.get_by_role("button", name="Search").click()


def rows(page):
    return page.locator(".calls tbody tr")


def test_a_caller_complains_and_the_call_is_found_by_number_words_or_id_and_read(visit):
    page = visit("ours")
    expect(rows(page)).to_have_count(50)
    expect(page.locator(".count b")).to_be_visible()
    assert int(page.locator(".count b").inner_text()) >= 302
    for asked, count in (
        ("+1 212 555 0143", 2),
        ("503 4417702", 1),
        (COMPLAINT["session_id"], 1),
        ("0a1b2c@sbc.example", 1),
    ):
        search(page, asked)
        expect(rows(page)).to_have_count(count)
        expect(page.locator(".count")).to_have_text(f"{count} call{'s' if count > 1 else ''}")
    row = rows(page).first
    for cell, text in ((".status", "answered"), (".duration", "1:50"), (".cause", "Caller"), (".legs", "2")):
        expect(row.locator(cell)).to_contain_text(text)
    row.locator(".from").click()
    expect(page).to_have_title("2125550143 → 8005550100 · Callhouse")
    assert page.url.endswith(f"/console/call/{quote(COMPLAINT['session_id'], safe='')}")
    expect(page.locator(".facts").first).to_contain_text("The caller hung up. The call ended in the normal way.")
    expect(page.locator(".facts").first).to_contain_text("sent as Q.850 16")
    expect(page.locator("section", has_text="Where the record came from")).to_contain_text("/ingest/calls")
    expect(page.locator(".steps li")).to_have_count(9)
    expect(page.locator(".steps .input .text")).to_have_text(["1", "4417702"])
    page.get_by_role("link", name="2125550143 → 6175550180").click()
    expect(page.locator("h1")).to_contain_text("6175550180")


def test_the_timeline_is_to_scale_and_leads_to_the_events(visit):
    page = visit("ours")
    page.goto(f"/console/call/{quote(COMPLAINT['session_id'], safe='')}")
    own = page.locator(".lane.own rect")
    left, width = ([float(own.nth(n).get_attribute(name)) for n in (0, 1)] for name in ("x", "width"))
    assert left == [0, pytest.approx(3.5 / 110 * 1000, abs=0.1)]
    assert width[1] == pytest.approx(106.5 / 110 * 1000, abs=0.1)
    leg = page.locator(".lane:not(.own):not(.log) rect").first
    assert float(leg.get_attribute("x")) == pytest.approx(29 / 110 * 1000, abs=0.1)
    ticks = page.locator(".ticks")
    box = ticks.bounding_box()
    at = {"x": box["width"] * 26.8 / 110, "y": box["height"] / 2}
    ticks.hover(position=at)
    expect(page.locator("#pointed")).to_contain_text("0:26.800 error HTTP 503")
    ticks.click(position=at)
    expect(page.locator(".events .pointed")).to_contain_text("HTTP 503")


def test_events_are_filtered_searched_and_copied(visit, server):
    page = visit("ours", permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"/console/call/{quote(COMPLAINT['session_id'], safe='')}")
    lines = page.locator(".events .line span")
    expect(lines).to_have_count(12)
    page.get_by_role("searchbox", name="Search the events").press_sequentially("order n")
    expect(lines).to_have_count(2)
    expect(page.get_by_role("searchbox", name="Search the events")).to_be_focused()
    page.get_by_role("searchbox", name="Search the events").fill("")
    expect(lines).to_have_count(12)
    page.locator(".chip.error").click()
    expect(lines).to_have_text(["HTTP 503 from https://orders.example.com/v2/4417702"])
    page.get_by_role("button", name="Copy", exact=True).first.click()
    expect(page.locator("#told")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.split("\t")[:3] == ["0:26.800", "error", "HTTP 503 from https://orders.example.com/v2/4417702"]
    assert "module_type=rest" in copied
    page.get_by_role("link", name="Copy link").click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.includes('/console/call/'))")


def test_ten_thousand_events_are_drawn_and_shown_some_at_a_time(visit):
    page = visit("odd")
    page.goto("/console/call/many")
    expect(page.locator(".events tbody tr")).to_have_count(200)
    page.get_by_role("button", name="Show more events").click()
    expect(page.locator(".events tbody tr")).to_have_count(400)
    page.get_by_role("button", name="Copy", exact=True).first.click()
    expect(page.locator("#told")).to_have_text("Copied the 400 events that are shown; there are more.")
    assert page.locator(".tick").count() == 5
    page.get_by_role("searchbox", name="Search the events").fill("Step 9999")
    expect(page.locator(".events tbody tr")).to_have_count(1)


def test_a_click_on_the_timeline_of_many_events_shows_the_one_that_was_then(visit):
    page = visit("odd")
    page.goto("/console/call/many")
    ticks = page.locator(".ticks")
    box = ticks.bounding_box()
    at = {"x": box["width"] * 0.75, "y": box["height"] / 2}
    ticks.hover(position=at)
    expect(page.locator("#pointed")).to_contain_text(" Step ")
    said = page.locator("#pointed").inner_text()
    ticks.click(position=at)
    pointed = page.locator(".events tr.pointed")
    expect(pointed).to_have_count(1)
    expect(pointed).to_be_in_viewport()
    assert said.split()[-1] == pointed.locator(".line span").inner_text().split()[-1]
    assert int(said.split()[-1]) > 1_000
    page.get_by_role("button", name="Show earlier events").click()
    expect(page.locator(".events tbody tr")).to_have_count(400)


def test_what_the_reader_of_a_call_in_progress_does_stays_as_it_is(visit, server, logins):
    start = int(time.time()) - 600
    call = {"session_id": "read", "src": "7", "dest": "8", "start": start}
    events = [
        {"timestamp": start + n, "class": ("info", "debug")[n % 2], "line": f"Line {n}", "data": {"n": n}}
        for n in range(500)
    ]
    send(server, logins["odd"], [{**call, "events": events}])
    page = visit("odd")
    page.goto("/console/call/read")
    shown, total = page.locator(".events tbody tr"), page.locator(".facts").first
    page.locator(".events summary").first.click()
    page.get_by_role("button", name="Show more events").click()
    expect(shown).to_have_count(400)
    wait_for_updates(total)
    assert shown.count() == 400
    expect(page.locator(".events details").first).to_have_attribute("open", "")
    page.locator(".chip.info").click()
    box = page.get_by_role("searchbox", name="Search the events")
    box.press_sequentially("line 4")
    expect(page.locator(".found")).to_have_text("56 of 500 events")
    more = {"timestamp": start + 501, "class": "info", "line": "Line 4, once more", "data": {}}
    send(server, logins["odd"], [{"session_id": "read", "events": [more]}], "events")
    expect(page.locator(".found")).to_have_text("57 of 501 events")
    wait_for_updates(total)
    expect(shown).to_have_count(57)
    expect(box).to_have_value("line 4")
    expect(box).to_be_focused()
    expect(page.locator(".chip.info input")).to_be_checked()


def wait_for_updates(shown):
    """Wait until the stream of a call in progress has told something twice."""
    for _ in range(2):
        before = shown.inner_text()
        expect(shown).not_to_have_text(before, use_inner_text=True)


@pytest.mark.parametrize("width", [320, 390, 761, 768, 820, 900, 1024, 1181])
def test_an_operator_sees_and_switches_the_account_in_a_window_of_any_width(visit, width):
    page = visit(None, viewport={"width": width, "height": 800})
    sign_in_as_operator(page)
    for path in ("/console/calls", "/console/accounts", "/console/account"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.locator(".account").evaluate("account => account.scrollWidth <= account.clientWidth"), path
    page.goto("/console/accounts")
    page.get_by_role("row", name=LONG_EMAIL).get_by_role("button").click()
    expect(page.locator(".account")).to_contain_text(LONG_EMAIL)
    page.goto("/console/account")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_call_without_an_end_in_sight_leaves_the_figures_in_their_tiles(visit):
    page = visit("long", viewport=PHONE)
    page.goto("/console/dashboard?last=24h")
    expect(page.locator(".tiles")).to_contain_text("0:07 before")
    wide = "tiles => tiles.filter(tile => tile.scrollWidth > tile.clientWidth).length"
    assert page.locator(".tiles .card").evaluate_all(wide) == 0


def test_the_focus_stays_at_a_menu_that_is_closed_by_keyboard(visit):
    page = visit("ours")
    summary = page.locator(".menu summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="CSV")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".menu")).not_to_have_attribute("open", "")
    expect(summary).to_be_focused()


def test_the_day_of_another_year_leaves_room_for_the_direction(visit, server, logins):
    old = NOW - 600 * 86_400
    send(server, logins["odd"], [{"session_id": "another year", "start": old, "end": old + 5, "src": "1"}])
    page = visit("odd")
    page.goto(f"/console/calls?until={time.strftime('%Y-%m-%d', time.gmtime(old + 86_400))}")
    row = rows(page).first
    started, direction = row.locator("time").bounding_box(), row.locator(".direction").bounding_box()
    assert started["x"] + started["width"] <= direction["x"]


def test_a_long_name_of_a_step_does_not_widen_the_page(visit, server, logins):
    event = {"timestamp": NOW - 50, "class": "prompt", "line": "Hello", "data": {"result_variable": "x" * 300}}
    send(server, logins["odd"], [{"session_id": "long step", "start": NOW - 60, "end": NOW, "events": [event]}])
    for viewport in (DESKTOP, PHONE):
        page = visit("odd", viewport=viewport)
        page.goto("/console/call/long%20step")
        expect(page.locator(".steps")).to_contain_text("xxx")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_preset_that_is_chosen_replaces_the_range(visit):
    page = visit("ours")
    page.goto("/console/calls?since=2020-01-01T00:00&until=2020-02-01T00:00")
    expect(page.locator(".empty")).to_contain_text("No call matches.")
    page.get_by_label("When").select_option("24h")
    page.get_by_role("button", name="Search").click()
    expect(rows(page)).to_have_count(50)
    expect(page.get_by_label("When")).to_have_value("24h")
    expect(page.locator("[name=since]")).to_have_value("")


def test_a_live_list_says_that_it_is_empty_until_a_call_comes(visit, server, logins):
    page = visit("odd")
    page.goto("/console/calls?live=1&q=arrives%20later")
    expect(page.locator(".empty")).to_contain_text("No call matches yet.")
    send(server, logins["odd"], [{"session_id": "arrives later", "start": int(time.time())}])
    expect(rows(page)).to_have_count(1)
    expect(page.locator(".empty")).to_be_hidden()


def test_older_goes_on_from_a_live_list_as_it_stands_however_many_calls_came(visit, server, logins):
    page = visit("busy")
    page.goto("/console/calls?live=1&application=Growing")
    expect(page.locator(".count")).to_have_text("0 calls")
    names = [f"growing{n}" for n in range(80)]
    calls = [
        {"session_id": name, "start": NOW - 200 + n, "end": NOW, "src": f"n{n}", "application_name": "Growing"}
        for n, name in enumerate(names)
    ]
    send(server, logins["busy"], calls[:61])
    expect(page.locator(".count")).to_have_text("61 calls")
    page.locator(".menu summary").click()
    send(server, logins["busy"], calls[61:])
    expect(page.locator(".count")).to_have_text("80 calls")
    expect(page.locator(".menu")).to_have_attribute("open", "")
    found = rows(page).locator(".from").all_inner_texts()
    page.get_by_role("link", name="Older").click()
    expect(rows(page)).to_have_count(30)
    found += rows(page).locator(".from").all_inner_texts()
    assert found == [f"n{n}" for n in reversed(range(80))]


def test_the_keyboard_alone_is_enough(visit):
    page = visit("ours")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search")).to_be_focused()
    page.keyboard.type("2125550143")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(2)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(rows(page).nth(1).get_by_role("link")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("6175550180")
    page.goto("/console/calls")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


def test_new_calls_arrive_while_the_list_is_looked_at_and_change_as_they_go_on(visit, server, logins):
    page = visit("none")
    expect(page.locator(".empty")).to_contain_text("No calls yet.")
    page.goto("/console/calls?live=1")
    call = {"session_id": "arriving", "src": "5550001", "dest": "5550002", "start": int(time.time()) - 3}
    send(server, logins["none"], [call])
    expect(rows(page)).to_have_count(1)
    expect(rows(page).locator(".status")).to_have_text("in progress")
    rows(page).get_by_role("link").focus()
    send(server, logins["none"], [{**call, "session_id": "another", "start": call["start"] + 1}])
    expect(rows(page)).to_have_count(2)
    expect(rows(page).nth(1).get_by_role("link")).to_be_focused()
    send(server, logins["none"], [{**call, "answer": call["start"] + 1, "end": call["start"] + 3}])
    expect(rows(page).nth(1).locator(".status")).to_have_text("answered")
    expect(rows(page).nth(1).locator(".duration")).to_have_text("0:03")
    page.get_by_role("switch", name="Live").click()
    expect(page.get_by_role("switch", name="Live")).to_have_attribute("aria-checked", "false")


def test_an_empty_live_list_leads_to_older_calls_as_soon_as_there_are_some(visit, server, logins):
    page = visit("busy")
    page.goto("/console/calls?q=5557771&live=1")
    expect(page.locator(".count")).to_have_text("0 calls")
    times = {"start": int(time.time()) - 60, "end": int(time.time())}
    send(server, logins["busy"], [{"session_id": f"q{n}", "src": "5557771", **times} for n in range(61)])
    expect(page.locator(".count")).to_have_text("61 calls")
    page.get_by_role("link", name="Older").click()
    expect(rows(page)).to_have_count(11)


def links(page):
    return page.eval_on_selector_all(".calls .when a", "all => all.map(each => each.getAttribute('href'))")


def test_words_are_searched_in_all_events_while_those_of_a_click_are_shown_and_more_arrive(visit, server, logins):
    start = int(time.time()) - 700
    events = [{"timestamp": start + n, "class": "info", "line": f"word{n // 100} {n}"} for n in range(600)]
    send(server, logins["odd"], [{"session_id": "typed", "start": start, "events": events}])
    page = visit("odd")
    page.goto("/console/call/typed")
    ticks = page.locator(".ticks")
    box = ticks.bounding_box()
    ticks.click(position={"x": box["width"] * 0.78, "y": box["height"] / 2})
    expect(page.locator("table.events")).to_have_attribute("data-from", "400")
    page.get_by_role("searchbox", name="Search the events").evaluate("box => { box.value = 'word1' }")
    more = {"timestamp": start + 601, "class": "info", "line": "word1, once more"}
    send(server, logins["odd"], [{"session_id": "typed", "events": [more]}], "events")
    expect(page.locator(".found")).to_have_text("101 of 601 events")
    expect(page.locator(".events tbody tr")).to_have_count(101)


def test_the_records_of_a_call_in_progress_are_those_of_its_end_afterwards(visit, server, logins):
    call = {"session_id": "ending", "src": "1", "dest": "2", "start": int(time.time()) - 5}
    send(server, logins["odd"], [call])
    page = visit("odd")
    page.goto("/console/call/ending")
    records = page.locator("details.record")
    plivo = records.filter(has=page.get_by_text("Plivo", exact=False)).first
    plivo.locator("summary").click()
    expect(plivo).to_contain_text("status=live")
    send(server, logins["odd"], [{**call, "end": call["start"] + 3}])
    expect(page.locator("h1 .badge")).not_to_have_text("in progress")
    expect(plivo).not_to_contain_text("status=live")
    expect(plivo).to_have_attribute("open", "")


@pytest.mark.parametrize("path", ["/console/ingest", "/console/calls?live=1", "/console/call/lasting"])
def test_a_page_whose_sign_in_ended_elsewhere_becomes_the_form_and_comes_back(visit, server, logins, path):
    send(server, logins["odd"], [{"session_id": "lasting", "start": int(time.time()) - 5}])
    page = visit("odd")
    page.goto(path)
    other = page.context.new_page()
    other.goto("/console/account")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_label("E-mail address")).to_be_visible()
    expect(page.locator("h1")).to_have_text("Sign in", timeout=30_000)
    sign_in(page, *logins["odd"].fuse)
    assert page.url.endswith(path)
    # Signed in here, the form there has nothing to ask for any more.
    other.evaluate("dispatchEvent(new Event('focus'))")
    expect(other.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_page_of_another_account_than_the_one_that_was_chosen_since_says_so(browser, server):
    context = browser.new_context(base_url=server.url, viewport=DESKTOP)
    page = context.new_page()
    page.goto("/console")
    sign_in_as_operator(page)
    page.goto("/console/ingest")
    other = context.new_page()
    other.goto("/console/accounts")
    other.get_by_role("row", name="odd@console.example").get_by_role("button").click()
    expect(other.locator(".account")).to_contain_text("odd@console.example")
    expect(page.locator("#told")).to_contain_text("another account has been chosen", timeout=30_000)
    expect(page.locator(".account")).to_contain_text("ops@harbor.example")
    expect(page.locator(".sources").first).to_contain_text("/ingest/kamailio")
    page.get_by_text("Drop all…").click()
    page.get_by_role("button", name="Drop for good").click()
    expect(page.locator("h1")).to_have_text("Another account is shown now")
    context.close()


def test_a_call_in_progress_is_followed_to_its_end(visit, server, logins):
    start = int(time.time()) - 5
    call = {"session_id": "followed", "src": "5551234", "dest": "5559876", "start": start}
    send(server, logins["odd"], [call])
    page = visit("odd")
    page.goto("/console/call/followed")
    expect(page.locator("h1 .badge")).to_have_text("in progress")
    expect(page.locator("#events")).to_contain_text("Nothing has been logged of this call yet.")
    for n, line in enumerate(("Welcome to the shop", "User input: 7 (dtmf)")):
        event = {
            "timestamp": start + n,
            "class": ("prompt", "event")[n],
            "line": line,
            "data": {"result_variable": "a"},
        }
        send(server, logins["odd"], [{"session_id": "followed", "events": [event]}], "events")
        expect(page.locator(".events .line span")).to_have_count(n + 1)
    page.locator(".events summary").first.click()
    expect(page.locator(".steps .input .text")).to_have_text("7")
    send(server, logins["odd"], [{**call, "answer": start + 1, "end": start + 4, "hangup_source": "Callee"}])
    expect(page.locator("h1 .badge")).to_have_text("answered")
    expect(page.locator(".facts").first).to_contain_text("The called party hung up.")
    expect(page.locator(".events details").first).to_have_attribute("open", "")


@pytest.mark.parametrize("name", ["CSV", "NDJSON", "Parquet"])
def test_an_export_is_downloaded_with_its_progress_and_holds_the_filter(visit, tmp_path, name):
    page = visit("ours")
    page.goto("/console/calls?status=answered&direction=inbound")
    count = int(page.locator(".count b").inner_text().replace(",", ""))
    assert 100 < count < 300
    page.locator(".menu summary").click()
    with page.expect_download() as started:
        page.get_by_role("link", name=name).click()
    file = tmp_path / started.value.suggested_filename
    started.value.save_as(file)
    expect(page.locator("#download")).to_contain_text(f"Exported {count} calls")
    if name == "CSV":
        with file.open(newline="") as lines:
            statuses = [row["status"] for row in csv.DictReader(lines)]
    elif name == "Parquet":
        table = read_parquet(file).read_all()
        statuses = table.column("status").to_pylist()
        assert table.column("start").to_pylist()[0].tzinfo is not None
    else:
        statuses = ["answered" for _ in file.read_text().splitlines()]
    assert statuses == ["answered"] * count


def test_nothing_that_was_sent_runs_and_all_of_it_is_shown(visit, server):
    page = visit("odd")
    for name, text in (("script", SCRIPT), ("odd", ODD)):
        page.goto("/console/calls")
        assert page.locator(".calls .from", has_text=text.strip()[:20]).count() == 1
        page.goto(f"/console/call/{quote(f'{name} {text}', safe='')}")
        assert page.locator(".events .line span").inner_text().split() == text.split()
        page.locator(".rest summary").click()
        page.locator(".events summary").click()
        expect(page.locator(".facts.small")).to_contain_text(text[:20])
        assert page.title() != "run"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_scripts_a_call_is_found_and_read_too(visit):
    page = visit("ours", java_script_enabled=False)
    search(page, "2125550143")
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_text("Counting…")).to_be_hidden()
    expect(page.get_by_role("switch", name="Live")).to_be_hidden()
    for path in ("/console/account", f"/console/call/{quote(COMPLAINT['session_id'], safe='')}"):
        page.goto(path)
        assert page.locator("[data-copy], [data-copy-events]").count()
        for button in page.locator("[data-copy], [data-copy-events]").all():
            expect(button).to_be_hidden()
    page.go_back()
    page.go_back()
    page.get_by_role("link", name="Count them").click()
    expect(page.locator(".count")).to_have_text("2 calls")
    rows(page).nth(1).get_by_role("link").click()
    expect(page.locator(".events tbody tr")).to_have_count(12)
    page.locator(".chip.error input").check()
    page.locator(".filter-events").get_by_role("button", name="Search").click()
    expect(page.locator(".events tbody tr")).to_have_count(1)


def test_times_can_be_those_of_the_browser(visit):
    page = visit("ours")
    page.get_by_label("Times in").select_option("Europe/Berlin")
    expect(page.get_by_label("Times in")).to_have_value("Europe/Berlin")
    shown = rows(page).first.locator("time")
    assert shown.get_attribute("datetime").endswith("Z")


def test_an_operator_goes_from_account_to_account(visit):
    page = visit(None)
    sign_in_as_operator(page)
    page.locator(".account").click()
    page.get_by_role("row", name="odd@console.example").get_by_role("button").click()
    expect(page.locator(".account")).to_contain_text("odd@console.example")
    expect(rows(page).first).to_be_visible()


def test_a_refused_record_is_looked_at_tried_again_and_dropped(visit, server, logins):
    login = logins["odd"]
    broken = {"session_id": "broken", "start": NOW, "end": NOW - 5, "note": SCRIPT}
    server.client.post("/ingest/calls", json=broken, auth=login.fuse)
    page = visit("odd")
    page.get_by_role("link", name="Ingest").click()
    expect(page.locator(".sources")).to_contain_text("/ingest/calls")
    page.get_by_role("link", name="end is before start").last.click()
    expect(page.locator("code", has_text="broken")).to_contain_text("document.title='run'")
    page.get_by_role("button", name="Replay").click()
    expect(page.locator(".told")).to_have_text("0 accepted, 1 refused again.")
    page.get_by_text("Drop all…").click()
    page.get_by_role("button", name="Drop for good").click()
    expect(page.locator(".told")).to_have_text("1 dropped.")
    expect(page.locator("section", has_text="Quarantine")).to_contain_text("Nothing has been refused.")


PAGES = {
    "calls": "/console/calls",
    "filtered": "/console/calls?q=order&status=answered&errors=without&last=7d",
    "no-match": "/console/calls?q=nothinglikethis",
    "ingest": "/console/ingest",
    "quarantined": "/console/quarantine/1",
    "account": "/console/account",
    "call": f"/console/call/{quote(COMPLAINT['session_id'], safe='')}",
}


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_no_page_has_a_barrier_or_is_wider_than_its_window(visit, package, viewport, color_scheme):
    page = visit(None, viewport=viewport, color_scheme=color_scheme)
    assert barriers(page, package) == []
    picture(page, "sign-in", viewport, color_scheme)
    page = visit("ours", viewport=viewport, color_scheme=color_scheme)
    for name, path in PAGES.items():
        page.goto(path)
        if "calls" in path:
            expect(page.locator(".count")).to_contain_text("call")
            expect(page.locator(".count b")).to_be_visible()
        if name == "ingest":
            expect(page.locator(".days tbody tr").first).to_be_visible()
            expect(page.locator("section", has_text="Mirrors").first).to_contain_text("old office")
        if name == "call":
            page.locator(".record summary").first.click()
        assert barriers(page, package) == [], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        if name == "call":
            page.locator(".record summary").first.click()
        picture(page, name, viewport, color_scheme)


def barriers(page, package):
    """What axe finds that keeps somebody out, or makes it hard."""
    # Evaluated by the debugger: the page's own policy would not let the script in.
    page.evaluate((package / "axe-core/axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        (each["id"], node["html"], node["any"] and node["any"][0]["message"])
        for each in found
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]


def picture(page, name, viewport, color_scheme):
    """Draw the page for the documentation, when that is asked for."""
    if IMAGES is None or name not in {"calls", "call", "dashboard", "ingest", "account", "sign-in"}:
        return
    size = "phone" if viewport is PHONE else "desktop"
    page.screenshot(
        path=Path(IMAGES) / f"{name}-{size}-{color_scheme}.png", full_page=name != "calls", animations="disabled"
    )


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_what_only_an_operator_sees_and_what_goes_wrong_has_no_barrier_either(visit, package, color_scheme):
    page = visit(None, color_scheme=color_scheme)
    sign_in_as_operator(page)
    page.goto("/console/ingest")
    expect(page.locator("#storage table")).to_contain_text("log_words")
    expect(page.get_by_text("The vendor answered 503.")).to_be_visible()
    assert barriers(page, package) == []
    asked = page.request.get("/console/call/nothing-of-that-name")
    assert (asked.status, "Sign out" in asked.text()) == (404, True)
    assert page.request.get("/console/calls?since=yesterday").status == 400


def test_the_scripts_that_are_kept_are_those_of_npm(package):
    kept = Path(console.__file__).parent / "static"
    for name, path in (("htmx.min.js", "dist/htmx.min.js"), ("hx-sse.min.js", "dist/ext/hx-sse.min.js")):
        published = (package / "htmx.org" / path).read_text()
        assert (kept / name).read_text().strip() == published.partition("//# sourceMappingURL")[0].strip()
    assert (kept / "htmx.LICENSE.txt").read_text() == (package / "htmx.org/LICENSE").read_text()
