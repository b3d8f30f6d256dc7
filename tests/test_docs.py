"""The documentation says what the program does."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from callhouse import observability, sources, wire
from callhouse.cli import app
from callhouse.discovery import discover
from callhouse.settings import HELP, document, load
from callhouse.sources import Source
from callhouse.wire import Wire

ROOT = Path(__file__).parents[1]
DOCS = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
}
EVERYTHING = "\n".join(DOCS.values())


@pytest.mark.parametrize(("page", "least"), [("docs/reliability.md", 36), ("docs/scaling.md", 12)])
def test_every_test_and_program_that_a_page_names_as_its_proof_exists(page, least):
    named = re.findall(r"\[`([\w.]+)`\]\(\.\./(tests/[\w/]+\.py)\)", DOCS[page])
    assert len(named) >= least
    for name, file in named:
        text = (ROOT / file).read_text()
        assert file.endswith(f"/{name}") or f"def {name}(" in text, f"{file}: {name}"


def test_every_fault_of_the_page_of_reliability_has_a_proof():
    page = DOCS["docs/reliability.md"]
    table = page.partition("## Faults")[2].partition("## ")[0]
    faults = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(faults) > 20
    assert all("](../tests/" in line for line in faults)


def test_every_wire_has_a_page():
    assert {each.name for each in discover(wire, Wire)} == {path.stem for path in (ROOT / "docs/wire").glob("*.md")}


def test_every_source_has_a_page():
    pages = {path.stem for path in (ROOT / "docs/sources").glob("*.md")}
    assert {source.name for source in discover(sources, Source)} - {"native"} == pages


def test_the_page_of_settings_is_fresh():
    assert DOCS["docs/settings.md"] == document(), "run: callhouse config --reference > docs/settings.md"


def test_every_setting_says_what_it_is():
    _, in_force = load(None, {}, {})
    assert set(HELP) == {entry.key for entry in in_force}


def commands(command, prefix=()):
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from commands(child, (*prefix, name))
        else:
            yield (*prefix, name), child


@pytest.mark.parametrize(("path", "command"), list(commands(get_command(app))), ids=lambda value: str(value)[:40])
def test_every_command_has_an_example_and_stands_in_the_docs(path, command):
    assert "Example" in command.help
    words = " ".join(path)
    group = rf"callhouse {path[0]} [\w|]*\b{path[-1]}\b" if len(path) > 1 else rf"callhouse {words}\b|`{words}`"
    assert re.search(group, EVERYTHING), f"callhouse {words} stands nowhere in the documentation"


def test_every_metric_stands_in_the_page_of_operating():
    names = {
        metric._name
        for metric in vars(observability).values()
        if hasattr(metric, "_name") and hasattr(metric, "_labelnames")
    }
    assert names
    for name in names:
        assert name in DOCS["docs/operating.md"]


@pytest.mark.parametrize("page", DOCS)
def test_every_link_between_pages_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", DOCS[page]):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"
