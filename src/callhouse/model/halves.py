"""Escapes of half a surrogate pair in a vendor's JSON: of no character, so that no decoder reads what holds one."""

import re
import secrets

import msgspec

_COVER = f"half-{secrets.token_hex(8)}-".encode()
"""Stands for the backslash of such an escape; no vendor can know it."""

# Other escapes are passed by as a whole, so that the second backslash of two begins none.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)


def covered(body: bytes) -> bytes:
    """*body* with no half of a pair: it can be read as far as it is left in pieces, for ``as_it_came``."""
    return _ESCAPE.sub(lambda found: found[0] if found[1] is None else _COVER + found[1], body)


def as_it_came(piece: msgspec.Raw) -> bytes:
    """*piece* of a body that may have been covered."""
    return bytes(piece).replace(_COVER, b"\\")


def are_in(record: bytes) -> bool:
    return covered(record) != record
