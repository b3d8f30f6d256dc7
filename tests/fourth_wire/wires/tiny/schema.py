"""The bodies of the tiny API."""

import msgspec


class Steps(msgspec.Struct):
    """How many."""

    n: int


class ErrorBody(msgspec.Struct):
    """Every failure of this API."""

    oops: str
