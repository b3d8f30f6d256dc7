"""The vendors whose accounts can be followed."""

from callhouse import wire
from callhouse.discovery import discover
from callhouse.wire import Upstream, Wire


def upstreams() -> dict[str, Upstream]:
    """How each vendor's accounts are followed, by the name of the API."""
    return {api.name: api.upstream for api in discover(wire, Wire) if api.upstream is not None}
