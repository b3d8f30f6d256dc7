"""``callhouse check``: whether the store can be read and agrees with itself."""

import sys

import msgspec
import typer

from callhouse.cli.context import Config, Data, Database, Json, Set, no_store, out, print_json, progress_bar, settings
from callhouse.errors import NoStore
from callhouse.store.check import Finding, Report, check_store


class Checked(msgspec.Struct):
    """What ``check --json`` prints."""

    ok: bool
    checked: dict[str, int]
    findings: list[Finding]


def check(
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Look through the whole store, also while the server runs; status 1, and a line for each thing found.

    Pages and indexes, counts, logs, errors, search index, rows of calls in progress, quarantine.

    Example: `callhouse check --data /var/lib/callhouse`
    """
    in_force, _ = settings(config, data, chosen, database)
    try:
        with progress_bar() as tell:
            report = check_store(in_force.store.location(), tell)
    except NoStore as error:
        raise no_store(error) from None
    if as_json:
        print_json(Checked(not report.findings, report.checked, report.findings))
    else:
        _print(report)
    if report.findings:
        raise typer.Exit(1)


def _print(report: Report) -> None:
    for finding in report.findings:
        sys.stdout.write(f"{_line(finding)}\n")
    looked_at = ", ".join(f"{rows:,} {table}" for table, rows in report.checked.items())
    found = len(report.findings)
    what = f"{found:,} finding{'' if found == 1 else 's'}" if found else "Nothing is wrong"
    out.print(f"{what}; looked at {looked_at or 'nothing'}.", soft_wrap=True, highlight=False)


def _line(finding: Finding) -> str:
    whose = "" if finding.account is None else f"account {finding.account}"
    if finding.session_id is not None:
        whose += f", session {finding.session_id}"
    where = f"{finding.part} ({whose})" if whose else finding.part
    return "".join(c if c.isprintable() else "\ufffd" for c in f"{where}: {finding.problem}; {finding.remedy}.")
