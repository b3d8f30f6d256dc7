"""The vendors whose accounts can be followed."""

import functools
from collections.abc import Mapping
from types import MappingProxyType

from callhouse import wire
from callhouse.discovery import discover
from callhouse.wire import Upstream, Wire


@functools.cache
def upstreams() -> Mapping[str, Upstream]:
    """How each vendor's accounts are followed, by the name of the API."""
    return MappingProxyType({api.name: api.upstream for api in discover(wire, Wire) if api.upstream is not None})
