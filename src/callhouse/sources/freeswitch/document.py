"""What mod_json_cdr and mod_xml_cdr send, under any of their settings → one shape: that of the JSON, in plain text.

The header says little: ``disable-100-continue`` sends JSON under a form's content type, and a file that FreeSWITCH
wrote because nobody answered has none. So the body is looked at.
"""

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

from lxml import etree

from callhouse.errors import RecordError, shortened
from callhouse.sources import BYTE_ORDER_MARK, json_object

FIELD = b"cdr="
"""The name of the only field of a form that FreeSWITCH posts."""

_BAD_ENCODING = (
    "; mod_json_cdr with encode=true and encode-values=true writes JSON that cannot be read: set encode-values to "
    "false, or encode to false or base64, in json_cdr.conf.xml"
)
# The encoder of values replaces all of these, and no record is without them: its time stamps hold blanks.
_LEFT_BY_NO_ENCODER = re.compile(r'[ "<>]')
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_STRAY = re.compile("[\udc80-\udcff]")
_ARRAY = "ARRAY::"
_BETWEEN = "|:"
_ROOT = re.compile(rb"<cdr[\s>]")

# Elements that JSON shows as an array under another name.
_LISTS = {
    "application": "applications",
    "callflow": "callflow",
    "originator_caller_profile": "originator_caller_profiles",
    "originatee_caller_profile": "originatee_caller_profiles",
    "origination_caller_profile": "origination_caller_profiles",
}
_NAMES = {"call-stats": "callStats"}


def is_document(record: bytes) -> bool:
    """Whether *record* can be nothing but JSON or XML, bare or encoded."""
    start = record[:64].removeprefix(BYTE_ORDER_MARK).lstrip()
    return start.startswith((b"{", b"<", FIELD)) or start[:3].upper() in {b"%7B", b"%3C"}


def read_document(record: bytes, max_depth: int) -> dict[str, Any]:
    """The record as mod_json_cdr would send it with encode and encode-values off; arrays of values are lists.

    Raises RecordError with a reason that tells the operator of the switch what to do.
    """
    text = record.removeprefix(BYTE_ORDER_MARK).strip().removeprefix(FIELD).lstrip()
    advice = ""
    if text[:1] == b"%":
        text, advice = unquote_to_bytes(text).strip(), _BAD_ENCODING
    elif text[:1] not in (b"{", b"<"):
        text = _from_base64(text)
    is_xml = text[:1] == b"<"
    if is_xml:
        document = _from_xml(text, max_depth)
    else:
        try:
            document = _from_json(text, max_depth)
        except RecordError as error:
            raise RecordError(f"{error}{advice}") from None
    variables = document.get("variables")
    if not isinstance(variables, dict):
        raise RecordError("has no variables; is this a record of mod_json_cdr or mod_xml_cdr?")
    # mod_xml_cdr always encodes values, mod_json_cdr if encode-values says so.
    return {**document, "variables": _plain(variables, encoded=is_xml or not _has_plain_text(variables))}


def _from_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True).strip()
    except binascii.Error:
        raise RecordError("is neither JSON nor XML, nor either of them in base64 or percent-encoded") from None


def _from_json(text: bytes, max_depth: int) -> dict[str, Any]:
    return json_object(legible(text).encode(), max_depth)


def legible(text: bytes) -> str:
    """*text* as UTF-8, but for bytes that are none, which are read as Latin-1: a switch hands on what a caller sent."""
    return _STRAY.sub(lambda stray: chr(ord(stray[0]) - 0xDC00), text.decode(errors="surrogateescape"))


def _has_plain_text(variables: dict[str, Any]) -> bool:
    return any(_LEFT_BY_NO_ENCODER.search(value) for value in variables.values() if isinstance(value, str))


def _plain(variables: dict[str, Any], *, encoded: bool) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(member) for member in value]
        if not isinstance(value, str):
            return value
        # Never unquote_plus: a plus is a plus here.
        text = legible(unquote_to_bytes(value)) if encoded and "%" in value else value
        return text.removeprefix(_ARRAY).split(_BETWEEN) if text.startswith(_ARRAY) else text

    return {name: plain(value) for name, value in variables.items()}


def _from_xml(text: bytes, max_depth: int) -> dict[str, Any]:
    if not text.endswith(b"</cdr>"):
        raise RecordError("is XML that is cut off: it does not end in </cdr>")
    if b"<!" in text:
        raise RecordError("is XML with declarations, which mod_xml_cdr never writes")
    if text.count(b"</cdr>") > 1 or len(_ROOT.findall(text)) > 1:
        raise RecordError("is more than one document of XML, or half a one and another; send each by itself")
    builder = _Builder(max_depth)
    try:
        _parse(text, builder)
    except expat.ExpatError as error:
        builder = _Builder(max_depth)
        _recover(text, builder, str(error))
    if builder.document is None:
        raise RecordError("is no <cdr>")
    return builder.document


def _parse(text: bytes, builder: "_Builder") -> None:
    # Without namespaces: a variable named nolocal:x becomes an element whose prefix is bound to nothing.
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.Parse(text, True)


def _recover(text: bytes, builder: "_Builder", reason: str) -> None:
    """Read what is no XML at all: names that no element may have, bytes that are no text."""
    readable = _NOT_XML.sub("\ufffd", legible(text)).encode()
    parser = etree.XMLParser(
        recover=True, resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True, encoding="utf-8"
    )
    try:
        root = etree.fromstring(readable, parser)
    except etree.XMLSyntaxError:
        root = None
    if root is None:
        raise RecordError(f"is XML that cannot be read: {shortened(reason)}")
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if not isinstance(element.tag, str):
            continue
        if event == "start":
            builder.start(element.tag, {str(name): str(value) for name, value in element.attrib.items()})
            builder.text(element.text or "")
        else:
            builder.end(element.tag)
            builder.text(element.tail or "")


class _Builder:
    """Makes of the elements of a ``<cdr>`` what mod_json_cdr would have sent; *document* is it, in the end."""

    def __init__(self, max_depth: int) -> None:
        self.document: dict[str, Any] | None = None
        self._max_depth = max_depth
        self._open: list[tuple[str, dict[str, Any], list[str]]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) == self._max_depth:
            raise RecordError(f"nests deeper than {self._max_depth}")
        self._open.append((name, dict(attributes), []))

    def text(self, text: str) -> None:
        if self._open:
            self._open[-1][2].append(text)

    def end(self, _name: str) -> None:
        name, members, texts = self._open.pop()
        text = "".join(texts)
        if not self._open:
            self.document = members if name == "cdr" else None
            return
        if members and text.strip():
            members["#text"] = text.strip()
        parent, siblings, _ = self._open[-1]
        value = members or text
        if parent == "variables":
            _add(siblings, name, value)
        elif name in _LISTS:
            siblings.setdefault(_LISTS[name], [])
            _add(siblings, _LISTS[name], value)
        else:
            _add(siblings, _NAMES.get(name, name), value)


def _add(members: dict[str, Any], name: str, value: Any) -> None:
    known = members.get(name)
    if isinstance(known, list):
        known.append(value)
    else:
        members[name] = value if name not in members else [known, value]
