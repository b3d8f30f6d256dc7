"""What a sender may send at once."""

import msgspec


class IngestLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits on what is sent. A body over its limit is refused whole; a record over one of its is refused alone."""

    max_body: int = 64 * 1024 * 1024
    """Bytes of a body, as sent and after decompression."""
    max_records: int = 200_000
    """Records of a body."""
    max_record: int = 4 * 1024 * 1024
    """Bytes of one record."""
    max_depth: int = 32
    """How deep the arrays and objects of a record may nest."""
    max_events: int = 10_000
    """Events of one call, all that were sent for it together."""
    max_log: int = 64 * 1024 * 1024
    """Bytes of one call's log, as stored before compression."""
