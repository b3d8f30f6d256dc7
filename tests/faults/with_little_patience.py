"""The ``callhouse`` command that cuts off after a second who takes nothing of its answer, and not after minutes."""

from callhouse import observability
from callhouse.__main__ import main

# At the top of the file, so that a spawned worker, which runs it anew, does it too.
observability.STALLED_SECONDS = 1

if __name__ == "__main__":
    main()
