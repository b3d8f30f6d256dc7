"""Which column of a row is which: what Asterisk's configurations write, and what columns are called elsewhere."""

import re
from collections.abc import Sequence

from callhouse.errors import RecordError


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CEL_KINDS = frozenset(
    _words(
        "CHAN_START CHAN_END HANGUP ANSWER APP_START APP_END BRIDGE_ENTER BRIDGE_EXIT PARK_START PARK_END "
        "BLINDTRANSFER ATTENDEDTRANSFER USER_DEFINED LINKEDID_END PICKUP FORWARD LOCAL_OPTIMIZE LOCAL_OPTIMIZE_BEGIN "
        "STREAM_BEGIN STREAM_END DTMF"
    )
)
CEL_NUMBERS = {
    str(number): kind
    for number, kind in enumerate(
        _words(
            "CHAN_START CHAN_END HANGUP ANSWER APP_START APP_END BRIDGE_ENTER BRIDGE_EXIT PARK_START PARK_END "
            "BLINDTRANSFER ATTENDEDTRANSFER USER_DEFINED LINKEDID_END PICKUP FORWARD LOCAL_OPTIMIZE "
            "LOCAL_OPTIMIZE_BEGIN"
        ),
        start=1,
    )
}
"""What stands for them in a table whose eventtype is a number."""

DISPOSITIONS = frozenset(("ANSWERED", "NO ANSWER", "BUSY", "FAILED", "CONGESTION", "CANCEL"))

CEL_23 = _words(
    "title kind user_type stamp name num ani rdnis dnid exten context channel app appdata ama account uniqueid "
    "linkedid peer peer_account userfield extra tenant"
)
"""All columns that cel_custom has, as our documentation configures it."""

_CEL_20 = _words(
    "title stamp name num ani rdnis dnid exten context channel app appdata ama account uniqueid linkedid peer "
    "userfield user_type extra"
)
_CDR_16 = _words(
    "account src dst context clid channel dstchannel app appdata start answer end duration billsec disposition ama"
)
_CDR_NEW = ("peer_account", "linkedid", "sequence")
_CDR_VARIABLES = ("hangupcause", "hangupsource", "direction", "sip_call_id")
# The order of cdr_custom's own example, which writes 19 columns; with the linkedid and a cause it has 21.
_CUSTOM_15 = ("clid", *_CDR_16[1:4], *_CDR_16[5:])
_CUSTOM = {
    19: (*_CUSTOM_15, "account", "uniqueid", "userfield", "sequence"),
    21: (*_CUSTOM_15, "account", "uniqueid", "linkedid", "userfield", "sequence", "hangupcause"),
}
_DISPOSITION = _CDR_16.index("disposition")
_UNIQUEID = re.compile(r"(?:.+-)?\d{9,}\.\d+")

# What the columns are called by the configuration files, by cel_odbc and cdr_odbc, and by people's exports.
_NAMES = {
    "eventtype": "title",
    "eventenum": "kind",
    "userdeftype": "user_type",
    "eventtime": "stamp",
    "cidname": "name",
    "cidnum": "num",
    "cidani": "ani",
    "cidrdnis": "rdnis",
    "ciddnid": "dnid",
    "channame": "channel",
    "appname": "app",
    "lastapp": "app",
    "lastdata": "appdata",
    "amaflags": "ama",
    "accountcode": "account",
    "peeraccount": "peer_account",
    "bridgepeer": "peer",
    "eventextra": "extra",
    "tenantid": "tenant",
    "dcontext": "context",
    "calldate": "start",
}
_OWN_NAMES = frozenset((*CEL_23, *_CDR_16, "linkedid", "sequence")) - {"title", "kind", "stamp", "ama"}


def named(text: str) -> tuple[str, ...]:
    """Our names of the columns that an operator lists, separated by commas."""
    return tuple(name_of(name) for name in text.split(",")) if text.strip() else ()


def name_of(column: str) -> str:
    """Our name of a column; one that is none of Asterisk's keeps its own."""
    plain = column.strip().lower().replace("_", "")
    return _NAMES.get(plain) or (plain if plain in _OWN_NAMES else column.strip())


def is_header(values: Sequence[str]) -> bool:
    """Whether *values* are the names of the columns of a CDR or a CEL file."""
    names = {name_of(value) for value in values}
    return {"start", "disposition"} <= names or {"title", "stamp"} <= names


def inferred(values: Sequence[str]) -> tuple[str, ...]:
    """Our names of the columns of a row that has *values* and no header. Raises RecordError when nobody can tell."""
    count = len(values)
    if count > _DISPOSITION + 1 and values[_DISPOSITION] in DISPOSITIONS:
        return _cdr(values)
    if count in _CUSTOM and values[_DISPOSITION - 1] in DISPOSITIONS:
        return _CUSTOM[count]
    if count in {20, 23}:
        return _CEL_20 if count == 20 else CEL_23
    raise RecordError(
        f"is no row of a CDR or CEL file: {count} columns in an order that is not known; "
        "send the header line with it, or name the columns in the settings"
    )


def _cdr(values: Sequence[str]) -> tuple[str, ...]:
    """The columns of cdr_csv, to which three settings add some, and our own cdr_custom up to four more."""
    count = len(values)
    one = ("uniqueid" if count > 16 and _UNIQUEID.fullmatch(values[16]) else "userfield",)
    both = ("uniqueid", "userfield")
    more = {16: (), 17: one, 18: both, 19: _CDR_NEW, 20: (*one, *_CDR_NEW), 21: (*both, *_CDR_NEW)}
    if count in more:
        return (*_CDR_16, *more[count])
    if count <= 21 + len(_CDR_VARIABLES):
        return (*_CDR_16, *more[21], *_CDR_VARIABLES[: count - 21])
    raise RecordError(f"is a CDR with {count} columns; name them in the settings or in a header line")
