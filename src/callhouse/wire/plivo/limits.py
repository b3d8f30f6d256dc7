"""What an operator may set of this API."""

import msgspec


class PlivoLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    max_limit: int = 20
