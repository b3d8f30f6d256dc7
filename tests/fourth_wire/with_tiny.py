"""The ``callhouse`` command with one more wire API, wires/tiny; all else is the program itself."""

from pathlib import Path

from callhouse import wire
from callhouse.__main__ import main

# At the top of the file, so that a spawned worker, which runs it anew, does it too.
wire.__path__.append(str(Path(__file__).parent / "wires"))

if __name__ == "__main__":
    main()
