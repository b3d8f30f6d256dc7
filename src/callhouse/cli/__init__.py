"""The command line."""

import sys
from typing import Annotated

import typer

from callhouse import __version__
from callhouse.cli import accounts, backup, check, demo, generate, importing, mirror, move, quarantine, search, serve
from callhouse.cli.context import failing_clearly

app = typer.Typer(
    name="callhouse",
    help="A self-hosted call-log server: switches send it their calls, scripts read them through the APIs they speak.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"callhouse {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that stand before the command."""


app.command()(failing_clearly(demo.demo))
app.command()(failing_clearly(serve.serve))
app.command()(failing_clearly(serve.config))
app.command()(failing_clearly(generate.generate))
app.command()(failing_clearly(search.search))
app.command("import")(failing_clearly(importing.import_))
app.command()(failing_clearly(backup.backup))
app.command()(failing_clearly(backup.restore))
app.command()(failing_clearly(check.check))
app.command()(failing_clearly(move.move))
app.add_typer(accounts.app, name="accounts")
app.add_typer(mirror.app, name="mirror")
app.add_typer(quarantine.app, name="quarantine")
