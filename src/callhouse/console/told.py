"""What a change says on the page that it leads to: its address names one of these messages, and holds no words."""

from typing import Any
from urllib.parse import urlencode

from litestar import Request

_MESSAGES = {
    "dropped": "{0} dropped.",
    "replayed": "{0} accepted, {1} refused again.",
    "timezone": "The time zone was changed.",
    "retention": "The retention was changed.",
}
_LONGEST = 9


def query(name: str, *numbers: int) -> str:
    """The query of an address whose page says the message of that *name*."""
    return urlencode({"told": "-".join([name, *map(str, numbers)])})


def message(request: Request[Any, Any, Any]) -> str:
    """What the address of the request says; nothing where it is none of the messages."""
    name, *numbers = request.query_params.get("told", "").split("-")
    text = _MESSAGES.get(name, "")
    are_numbers = all(each.isascii() and each.isdigit() and len(each) <= _LONGEST for each in numbers)
    return text.format(*numbers) if are_numbers and text.count("{") == len(numbers) else ""
