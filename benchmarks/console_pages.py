"""How long the console's pages take in a browser, beside the time of their SQL alone.

    .venv/bin/python benchmarks/console_pages.py [--calls 1000000] [--data DIR] [--json FILE]

It needs Chromium, which `make test` installs. It measures and does not judge. benchmarks/README.md says more.
"""

import re
import shutil
import statistics
import time
from html import unescape
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from litestar.testing import TestClient
from playwright.sync_api import Page, sync_playwright
from reads import on_a_stand, out
from rich.table import Table
from stand import KEEP_ALL, Stand, server

from callhouse.app import create_app
from callhouse.observability import configure_logging
from callhouse.settings import RetentionSettings, Settings, StoreSettings
from callhouse.store.engine import Parameters, Row
from callhouse.store.sqlite import SQLiteTransaction
from console.visiting import TOKEN

ROUNDS = 11
FOREVER = RetentionSettings(details="forever", sessions="forever", plivo="forever")
NEWEST_WITH_LOG = """
SELECT session_id FROM calls WHERE account_id = :id AND event_count > 0 ORDER BY started DESC LIMIT 1
"""
PART = re.compile(r'hx-get="([^"]+)" hx-trigger="load"')
"""What a page asks for as soon as it is there."""

PAINTED = """
() => new Promise((resolve) => {
  const look = () => {
    const waits = document.readyState !== "complete" || document.querySelector(
      ".chart:not([data-drawn]), .htmx-request, [hx-trigger=load] [data-with-script]"
    );
    requestAnimationFrame(() => waits ? look() : requestAnimationFrame(() => resolve(performance.now())));
  };
  look();
})
"""
"""When the frame is painted in which all parts are there and all charts are drawn; in ms from when it was asked for."""

FIRST_BYTE = "performance.getEntriesByType('navigation')[0].responseStart"


class Recorded:
    """The statements that are run in this process meanwhile."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []

    def __enter__(self) -> Self:
        self._rows = rows = SQLiteTransaction.rows

        def recorded(transaction: SQLiteTransaction, sql: str, parameters: Parameters) -> list[Row]:
            found = rows(transaction, sql, parameters)
            self.statements.append((sql, dict(parameters)))
            return found

        SQLiteTransaction.rows = recorded
        return self

    def __exit__(self, *_: object) -> None:
        SQLiteTransaction.rows = self._rows


def pages(on: Stand) -> dict[str, str]:
    [(session_id,)] = on.read_only().rows(NEWEST_WITH_LOG, {"id": on.login.id})
    return {
        "calls": "/console/calls",
        "calls of a year, unanswered": "/console/calls?last=365d&status=unanswered",
        "one call": f"/console/call/{quote(session_id, safe='')}",
        "dashboard of 7 days": "/console/dashboard",
        "dashboard of 30 days": "/console/dashboard?last=30d",
        "dashboard of 365 days": "/console/dashboard?last=365d",
        "ingest": "/console/ingest",
    }


def statements(on: Stand, paths: list[str]) -> list[list[tuple[str, Any]]]:
    """What each page, with the parts that it asks for, reads from the store."""
    settings = Settings(store=StoreSettings(data=str(on.data)), retention=FOREVER)
    found = []
    with TestClient(app=create_app(settings)) as client:
        token = TOKEN.search(client.get("/console/sign-in").text)[1]
        name, secret = on.login.fuse
        client.post("/console/sign-in", data={"form_token": token, "name": name, "secret": secret})
        for path in paths:
            client.get(path)
            with Recorded() as recorded:
                page = client.get(path, follow_redirects=False)
                assert page.status_code == 200, page.text
                for part in PART.findall(page.text):
                    client.get(unescape(part))
            found.append(recorded.statements)
    return found


def sql_alone(on: Stand, asked: list[tuple[str, Any]]) -> float:
    """Seconds that the statements take on the same file."""
    reader = on.read_only()
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for sql, parameters in asked:
            reader.rows(sql, parameters)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def in_browser(page: Page, url: str) -> tuple[float, float]:
    """The medians, in ms, until the first byte is there and until all is painted."""
    taken = []
    for _ in range(ROUNDS):
        page.goto(url)
        painted = page.evaluate(PAINTED)
        taken.append((page.evaluate(FIRST_BYTE), painted))
    first, last = (statistics.median(each) for each in zip(*taken[1:], strict=True))
    return first, last


def measure(on: Stand, place: Path) -> dict[str, dict[str, float]]:
    paths = pages(on)
    found = {}
    # Before the browser is there, which keeps an event loop in this thread.
    asked = dict(zip(paths, statements(on, list(paths.values())), strict=True))
    with server(on.data, place, KEEP_ALL) as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{running.url}/console/sign-in")
        page.locator("input[name=name]").fill(on.login.fuse[0])
        page.locator("input[name=secret]").fill(on.login.fuse[1])
        page.locator("input[name=secret]").press("Enter")
        page.wait_for_url("**/console/calls")
        for name, path in paths.items():
            first, last = in_browser(page, running.url + path)
            sql = sql_alone(on, asked[name]) * 1000
            found[name] = {"statements": len(asked[name]), "sql": sql, "first byte": first, "last paint": last}
        browser.close()
    return found


def report(found: dict[str, dict[str, float]]) -> None:
    table = Table("page", "statements", "SQL alone", "first byte", "last paint", "first byte / SQL", title="p50 in ms")
    for name, each in found.items():
        table.add_row(
            name, str(each["statements"]), f"{each['sql']:.2f}", f"{each['first byte']:.1f}",
            f"{each['last paint']:.1f}", f"{each['first byte'] / each['sql']:.1f}",
        )  # fmt: skip
    out.print(table)
    year = found["dashboard of 365 days"]["first byte"]
    out.print(f"The dashboard of a year is there after {year:.0f} ms; aim: below 1,000: {year < 1000}.")


if __name__ == "__main__":
    configure_logging("auto", "warning")
    on_a_stand(__doc__, measure, report)
