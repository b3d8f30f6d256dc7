"""Answers made smaller for clients that ask for it.

The framework's own middleware takes any mention of gzip for a wish, ``gzip;q=0`` too, and knows no zstd.
"""

import gzip
import re

import zstandard

TINY = 1_000
"""Bodies of fewer bytes fit into one packet anyhow."""

_CODING = re.compile(r"\s*(zstd|gzip|x-gzip)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?", re.ASCII | re.IGNORECASE)


def preferred(accept_encoding: str) -> str | None:
    """The coding that the client likes best of those we know, zstd before gzip; None unless it names one.

    ``*`` names none: plivo-php sends it and expects nothing compressed.
    """
    best: tuple[float, bool] | None = None
    for part in accept_encoding.split(","):
        if match := _CODING.fullmatch(part):
            wish = float(match[2] or 1), match[1].lower() == "zstd"
            if wish[0] > 0 and (best is None or wish > best):
                best = wish
    if best is None:
        return None
    return "zstd" if best[1] else "gzip"


def compressed(body: bytes, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
    """*body* as the client wants it, and the headers that say so."""
    headers = {"Vary": "Accept-Encoding"}
    coding = preferred(accept_encoding) if accept_encoding and len(body) >= TINY else None
    if coding is None:
        return body, headers
    headers["Content-Encoding"] = coding
    if coding == "zstd":
        return zstandard.compress(body, 3), headers
    return gzip.compress(body, 4, mtime=0), headers
