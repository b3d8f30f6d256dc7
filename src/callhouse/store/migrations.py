"""The numbered steps that bring a database to the present schema; released ones are never edited."""

from importlib.resources import files
from typing import NamedTuple


class Migration(NamedTuple):
    number: int
    sql: str


def migrations(engine: str) -> list[Migration]:
    """The steps in ``schema/<engine>/``, in order."""
    folder = files("callhouse.store") / "schema" / engine
    scripts = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(f.name.partition("_")[0]), f.read_text()) for f in scripts]
