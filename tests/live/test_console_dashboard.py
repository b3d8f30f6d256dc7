"""The dashboard: its figures are what the APIs' answers come to, and each leads to exactly the calls behind it."""

import random
import re
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from callhouse import console, simulation
from callhouse.sources.native import written
from conftest import KEEP_ALL
from console.visiting import Visitor
from live import test_console_pages
from live.test_console_pages import DESKTOP, NODE, ODD, PHONE, SCRIPT, barriers, picture, rows
from serving import Server, send

package, browser, visit = test_console_pages.package, test_console_pages.browser, test_console_pages.visit

DAY = 86_400
NOW = int(time.time())
ZONE = ZoneInfo("America/New_York")
PERIOD = (NOW - 9 * DAY - 1_234, NOW - 2 * DAY)
BEFORE = (2 * PERIOD[0] - PERIOD[1], PERIOD[0])
OWN = ["8005550100", "8005550117", "6175550142"]
APPLICATIONS = ["Order Status", "Clinic", None]
STEPS = [("choice", "menu"), ("order", "number"), ("choice", "transfer")]
LINK = re.compile(r'<a[^>]*href="(/console/calls\?[^"]+)"[^>]*>(.*?)</a>', re.DOTALL)


def our_calls():
    """Calls of seventeen days, all at whole seconds, as the APIs tell them."""
    rng = random.Random(5)
    for n in range(900):
        start = NOW - rng.randrange(3_000, 17 * DAY)
        ring, talk = rng.randrange(1, 20), rng.choice([0, 5, 60, 600, 5 * 3_600])
        own, other = rng.choice(OWN), f"212555{rng.randrange(40):04}"
        direction = rng.choice(["inbound", "inbound", "inbound", "outbound"])
        src, dest = (own, other) if direction == "outbound" else (other, own)
        call = {
            "session_id": f"s{n}", "call_uuid": f"s{n}", "start": start, "end": start + ring + talk,
            "duration": talk, "src": src, "dest": dest, "direction": direction,
            "hangup_cause_code": rng.choice([4000, 4010] if talk else [3000, 3010, 2000, None]),
        }  # fmt: skip
        if talk:
            call["answer"] = start + ring
        if application := rng.choice(APPLICATIONS):
            call["application_name"] = application
        step = rng.choice([None, *STEPS])
        classes = ["info", *rng.choices(["prompt", "error"], [9, 1], k=2)]
        call["events"] = [
            {"timestamp": start, "class": name, "line": f"{name} {application}", "data": _data(application, step)}
            for name in classes
        ]
        yield {name: value for name, value in call.items() if value is not None}


def _data(application, step):
    named = {} if step is None else {"result_variable": step[0], "module_type": step[1]}
    return {"application": application, **named}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dashboard")
    (directory / "token").write_text("the operator's long token")
    settings = ("plivo.max_limit=2000", f"console.admin_token_file={directory / 'token'}")
    with Server(directory / "data", *KEEP_ALL, *settings) as running:
        yield running


@pytest.fixture(scope="module")
def logins(server):
    ours = server.account("ops@harbor.example", "--login", "ops", "--timezone", "America/New_York")
    send(server, ours, list(our_calls()))
    send(server, ours, [{"session_id": "going on", "start": NOW - 30, "src": "2125550001", "dest": OWN[0]}])
    odd = server.account("odd@console.example")
    for name, text in (("script", SCRIPT), ("odd", ODD)):
        data = {"result_variable": text, "module_type": text}
        event = {"timestamp": NOW - 50, "class": "error", "line": text, "data": data}
        call = {"session_id": name, "start": NOW - 60, "end": NOW - 1, "src": text, "dest": text,
                "application_name": text, "hangup_cause_name": text, "events": [event]}  # fmt: skip
        send(server, odd, [call])
    shown = server.account("ops@harbor.example.com", "--timezone", "America/New_York")
    simulated = [written(*each) for each in simulation.calls(1, 4_000, (NOW - 16 * DAY) * 1000, (NOW - 900) * 1000)]
    for at in range(0, len(simulated), 1_000):
        headers = {"Content-Type": "application/x-ndjson"}
        server.client.post(
            "/ingest/calls", content=b"\n".join(simulated[at : at + 1_000]), headers=headers, auth=shown.fuse
        )
    return {"ours": ours, "odd": odd, "shown": shown, "none": server.account("none@console.example")}


@pytest.fixture
def visitor(server, logins):
    with Visitor(server) as visitor:
        visitor.sign_in(*logins["ours"].fuse)
        yield visitor


def address(since, until):
    return f"/dashboard?since={_utc(since)}&until={_utc(until)}"


def _utc(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plivo_time(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def told(server, login):
    """All that the APIs tell of the calls, by session: Fuse with the log, Plivo the cause, the answer and the sides."""
    found = {}
    while page := server.client.get(f"/api/all_logs/0/{NOW}?limit=200&offset={len(found)}", auth=login.fuse).json()[
        "calls"
    ]:
        found.update((call["session_id"], call) for call in page)
    for since in range(NOW - 20 * DAY, NOW, 4 * DAY):
        window = f"end_time__gte={_plivo_time(since)}&end_time__lt={_plivo_time(since + 4 * DAY)}"
        path = f"/v1/Account/{login.auth_id}/Call/?limit=2000&{window}"
        for call in server.client.get(path, auth=login.plivo).json()["objects"]:
            found[call["call_uuid"]]["plivo"] = call
    return list(found.values())


def began(call):
    return int(call["start"])


def entries(call):
    """The class and the data of each line of a log."""
    return [(each["class"], each["event"]["data"]) for each in call["detail"]]


def expected(calls, everything, since):
    """The figures of *calls* by plain Python; *everything* are those that may be under way beside them."""
    answered = [call for call in calls if call["plivo"]["answer_time"]]
    talk = sum(call["plivo"]["call_duration"] for call in answered)
    at = [since, *map(began, calls)]
    peak = max(sum(began(call) <= t < int(call["end"]) for call in everything) for t in at)
    failed = [call for call in calls if any(name == "error" for name, _ in entries(call))]
    return {
        "Calls": f"{len(calls):,}",
        "Answered": f"{len(answered):,}",
        "Answer-seizure ratio": f"{100 * len(answered) / len(calls):.1f} %",
        "Average call duration": _clock(round(1000 * talk / len(answered)) // 1000),
        "Minutes": f"{talk / 60:,.0f}",
        "Most at once": f"{peak}",
        "Calls with errors": f"{len(failed):,}",
    }


def _clock(seconds):
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def plain(html):
    """The text of a piece of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def tiles(html):
    return {
        plain(name): plain(value)
        for name, value in re.findall(r'<h2[^>]*>([^<]+)</h2>\s*<p class="figure">(.*?)</p>', html, re.DOTALL)
    }


def listed(html, name):
    """The rows of a list: the name, its calls, and those of the period before."""
    section = html.partition(f'id="{name}-title"')[2].partition("</section>")[0]
    row = r'<th scope="row"[^>]*>(.*?)</th>\s*<td class="end">(.*?)</td>.*?<td class="end before">(.*?)</td>'
    found = re.findall(row, section, re.DOTALL)
    return {plain(name): (int(plain(calls).replace(",", "")), plain(before)) for name, calls, before in found}


def shared(calls, past, of):
    """How many calls have what *of* says in common, and how many of the period before."""
    now, before = (Counter(what for call in some for what in of(call)) for some in (calls, past))
    return {what: (count, f"{before[what]:,}") for what, count in now.items()}


def cause(call):
    code, name = call["plivo"]["hangup_cause_code"], call["plivo"]["hangup_cause_name"]
    return ["not known" if code is None else f"{name} {code}"]


def own_number(call):
    own = {call["plivo"]["from_number"], call["plivo"]["to_number"]} & set(OWN)
    return [*own]


def application(call):
    name = entries(call)[0][1]["application"]
    return [] if name is None else [name]


def last_step(call):
    data = entries(call)[-1][1]
    if "result_variable" not in data:
        return []
    return [" · ".join([f"{data['result_variable']} {data['module_type']}", *application(call)])]


def test_the_figures_are_what_the_answers_of_the_apis_come_to(server, logins, visitor):
    everything = told(server, logins["ours"])
    assert len(everything) == 900
    calls, past = ([call for call in everything if since <= began(call) < until] for since, until in (PERIOD, BEFORE))
    page = visitor.get(address(*PERIOD)).text
    assert tiles(page).items() >= expected(calls, everything, PERIOD[0]).items()
    assert tiles(page)["Under way now"] == "1"
    for name, value in expected(past, everything, BEFORE[0]).items():
        assert f"{value} before" in plain(page), name
    assert listed(page, "directions") == shared(calls, past, lambda call: [call["type"]])
    assert listed(page, "causes") == shared(calls, past, cause)
    assert listed(page, "numbers") == shared(calls, past, own_number)
    assert listed(page, "steps") == shared(calls, past, last_step)
    found = {name.rpartition(" ")[0].rpartition(" ")[0]: row for name, row in listed(page, "applications").items()}
    assert found == shared(calls, past, application)
    days = Counter(local(call).strftime("%a %-d %b") for call in calls)
    course = re.findall(r'<tr><th scope="row">([^<]+)</th><td class="end" data-calls="(\d+)"', page)
    assert {day: int(count) for day, count in course if count != "0"} == days
    heat = Counter((local(call).weekday(), local(call).hour) for call in calls)
    cells = re.findall(r'<td class="level\d" data-calls="(\d+)"', page)
    assert [int(count) for count in cells] == [heat[day, hour] for day in range(7) for hour in range(24)]


def local(call):
    return datetime.fromtimestamp(began(call), ZONE)


# A day that has just begun has hardly any calls.
@pytest.mark.parametrize(
    ("path", "least"),
    [
        (address(*PERIOD), 20),
        ("/dashboard?last=24h", 20),
        ("/dashboard?last=365d", 20),
        ("/dashboard?last=yesterday", 20),
        ("/dashboard?last=today", 1),
    ],
    ids=["period", "day", "year", "yesterday", "today"],
)
def test_every_number_leads_to_exactly_as_many_calls(visitor, path, least):
    page = re.sub(r">Minutes</h2>.*?</li>", "", visitor.get(path).text, flags=re.DOTALL)
    found = {
        (link, plain(text).removeprefix("The period before: ").removesuffix(" before"))
        for link, text in LINK.findall(page)
    }
    numbers = [(link, text) for link, text in found if re.fullmatch(r"[\d,]+", text)]
    assert len(numbers) >= least
    for link, number in numbers:
        query = unescape(link).partition("?")[2]
        counted = visitor.get(f"/calls/count?{query}").text
        assert f"<b>{number}</b> call" in counted, (link, counted)
        if int(number.replace(",", "")) <= 5:
            assert len(visitor.sessions(f"/calls?{query}")) == int(number), link


def test_what_was_sent_is_shown_as_text_and_counted_too(visit, server, logins):
    page = visit("odd")
    page.goto("/console/dashboard")
    for name in ("applications", "steps", "numbers"):
        section = page.locator(f"section:has(#{name}-title)")
        expect(section.locator("tbody tr")).to_have_count(2)
        expect(section).to_contain_text(SCRIPT[:40])
        for n in range(2):
            section.locator("tbody tr").nth(n).get_by_role("link").first.click()
            expect(page.locator(".count")).to_have_text("1 call")
            expect(rows(page)).to_have_count(1)
            page.go_back()
    assert page.title() != "run"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_bar_what_stands_above_it_and_a_cell_lead_to_their_calls(visit):
    page = visit("ours")
    page.goto(f"/console{address(*PERIOD)}")
    cells = page.locator("#heat tbody td[data-calls]").evaluate_all("cells => cells.map(it => +it.dataset.calls)")
    day, hour = divmod(max(range(len(cells)), key=cells.__getitem__), 24)
    for chart, at in (
        ("course", (0.47, 0.87)),
        ("course", (0.6, 0.08)),
        ("heat", ((hour + 0.5) / 24, (day + 0.5) / 7)),
    ):
        place = page.locator(f".chart.{chart}[data-drawn]")
        expect(place.locator("canvas").first).to_be_visible()
        left, top, width, height = _drawn_in(place.bounding_box(), chart)
        place.click(position={"x": left + width * at[0], "y": top + height * at[1]})
        page.wait_for_url("**/console/calls?**")
        expect(page.locator(".count b")).to_be_visible()
        shown = page.locator(".count b").inner_text()
        asked = page.url.partition("?")[2]
        page.go_back()
        assert page.locator(f'#{chart} a[href$="{asked}"]').text_content() == shown


def _drawn_in(box, chart):
    """Where the cells of the heat map lie in its box, as dashboard.js has it; of another chart the whole box."""
    if chart != "heat":
        return 0, 0, box["width"], box["height"]
    return 44, 4, box["width"] - 44 - 8, box["height"] - 4 - 24


@pytest.mark.look
def test_the_tables_are_reached_by_keyboard_and_stand_open_without_scripts(visit):
    page = visit("ours")
    page.goto(f"/console{address(*PERIOD)}")
    expect(page.locator("#heat")).to_be_hidden()
    page.locator(".as-table summary").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#heat")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".pin")).to_contain_text("days, ")
    page = visit("ours", java_script_enabled=False)
    page.goto(f"/console{address(*PERIOD)}")
    expect(page.locator("#heat")).to_be_visible()
    expect(page.locator("#course")).to_be_visible()
    expect(page.locator(".chart").first).to_be_hidden()


@pytest.mark.look
def test_charts_follow_light_and_dark(visit):
    page = visit("ours", color_scheme="light")
    page.goto(f"/console{address(*PERIOD)}")
    drawn = "[...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL())"
    light = page.evaluate(drawn)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"(light) => {drawn}.every((one, n) => one !== light[n])", arg=light)


def test_a_part_of_a_filter_that_no_field_shows_is_kept_by_the_form_and_can_be_removed(visit):
    page = visit("ours")
    page.goto(f"/console{address(*PERIOD)}")
    page.locator("section:has(#steps-title) tbody a").first.click()
    expect(page.locator(".pin")).to_contain_text("Last step ")
    expect(page.locator(".count b")).to_be_visible()
    shown = page.locator(".count b").inner_text()
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".count b")).to_have_text(shown)
    page.get_by_role("link", name="Remove the filter").click()
    expect(page.locator(".pin")).to_have_count(0)
    expect(page.locator(".count b")).not_to_have_text(shown)


def test_nothing_is_compared_with_what_nobody_knows(server, logins, visitor):
    page = plain(visitor.get("/dashboard?last=30d").text)
    assert "Nothing to compare with: the period before begins before the oldest call" in page
    assert " before" not in page.partition("Answered")[2].partition("Calls by day")[0]
    page = plain(visitor.get(address(NOW + DAY, NOW + 2 * DAY)).text)
    assert "No call started in this period." in page


def test_an_account_without_a_call_is_told_what_to_do_and_sees_nobody_elses(server, logins):
    with Visitor(server) as stranger:
        stranger.sign_in(*logins["none"].fuse)
        page = stranger.get("/dashboard").text
        assert "No calls yet." in page
        assert "/console/calls?" not in page
        page = stranger.get(f"/calls?number={OWN[0]}").text
        assert "2125550" not in page


def test_a_stranger_is_led_to_the_form_and_then_to_the_dashboard(server, logins):
    with Visitor(server) as stranger:
        asked = stranger.get("/dashboard?last=30d")
        assert asked.status_code == 303
        assert asked.headers["Location"] == "/console/sign-in?next=%2Fconsole%2Fdashboard%3Flast%3D30d"


@pytest.mark.parametrize(
    "query",
    ["last=3x", "since=x", "until=x", "since=1960-01-01", "since=2026-01-02&until=2026-01-01", "until=0001-01-01",
     "since=2020-01-01&until=2026-01-01", "since=9999-12-31T23:59:59", "until=9999-12-31T23:59:59-12:00"],
)  # fmt: skip
def test_what_is_no_period_is_a_clear_page_and_no_failure(visitor, query):
    refused = visitor.get(f"/dashboard?{query}")
    assert refused.status_code == 400
    assert "Parameter " in unescape(refused.text)


@pytest.mark.parametrize(
    "query", ["step=x", "step=[]", 'step=["a","b"]', "weekday=monday", "hour=24", "at=x", "cause=some"]
)
def test_what_is_no_part_of_a_filter_is_a_clear_page_and_no_failure(visitor, query):
    for path in ("/calls", "/calls/count", "/export/csv"):
        refused = visitor.get(f"{path}?{query}")
        assert refused.status_code == 400
        assert f"Parameter {query.partition('=')[0]}" in unescape(refused.text)


@pytest.mark.look
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_dashboard_has_no_barrier_and_fits_its_window(visit, package, viewport, color_scheme):
    for who, last in (("none", "7d"), ("odd", "24h"), ("shown", "90d"), ("shown", "7d")):
        page = visit(who, viewport=viewport, color_scheme=color_scheme)
        page.goto(f"/console/dashboard?last={last}")
        assert barriers(page, package) == [], who
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), who
    picture(page, "dashboard", viewport, color_scheme)
    for summary in page.locator(".as-table summary").all():
        summary.click()
    assert barriers(page, package) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.look
def test_the_charts_script_is_what_is_built_of_npms(package):
    kept = Path(console.__file__).parent / "static"
    command = [package / ".bin/esbuild", "echarts.js", "--bundle", "--minify", "--format=iife", "--global-name=echarts",
               "--legal-comments=eof", "--target=es2022"]  # fmt: skip
    built = subprocess.run(command, cwd=NODE, capture_output=True, check=True, timeout=120)
    assert (kept / "echarts.min.js").read_bytes() == built.stdout
    for name, path in (("echarts", "echarts/LICENSE"), ("zrender", "zrender/LICENSE")):
        assert (kept / f"{name}.LICENSE.txt").read_text() == (package / path).read_text()
    assert (kept / "echarts.NOTICE.txt").read_text() == (package / "echarts/NOTICE").read_text()
