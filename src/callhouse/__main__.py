"""``python -m callhouse``, and the ``callhouse`` command."""

from callhouse.cli import app


def main() -> None:
    app()


if __name__ == "__main__":
    main()
