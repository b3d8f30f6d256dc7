"""A body, or a file, of what FreeSWITCH wrote → its records: documents of JSON or XML, lines of JSON, rows of CSV."""

import re
from collections.abc import Iterable, Iterator

from callhouse.sources import Cut, LineSplitter
from callhouse.sources.freeswitch.document import is_document

_BEGINS_XML = re.compile(rb"<\?xml\s|<cdr[\s>]")
# No value holds a bare <, so within XML nothing else looks like this.
_BETWEEN_DOCUMENTS = re.compile(rb"(?=<\?xml\s)|(?<=</cdr>)(?=<cdr[\s>])")


class Splitter:
    """Cuts as LineSplitter does; and a document of XML ends, cut off or not, where another one begins."""

    def __init__(self) -> None:
        self._lines = LineSplitter(is_document)
        self._is_xml = False
        self._is_declared = False

    def take(self, number: int, line: bytes) -> Iterator[Cut]:
        begins_xml = _BEGINS_XML.match(line) is not None
        if not (begins_xml or self._is_xml):
            yield from self._lines.take(number, line)
            return
        for piece in _BETWEEN_DOCUMENTS.split(line):
            yield from self._take_xml(number, piece)

    def _take_xml(self, number: int, piece: bytes) -> Iterator[Cut]:
        if _BEGINS_XML.match(piece):
            # The declaration may stand on a line above its document.
            if not (self._is_declared and piece.startswith(b"<cdr")):
                yield from self._lines.rest()
            self._is_declared = piece.startswith(b"<?xml") and b"<cdr" not in piece
            self._is_xml = True
        for cut in self._lines.take(number, piece):
            # A line of JSON has ended it.
            self._is_xml = False
            yield cut

    def rest(self) -> Iterable[Cut]:
        return self._lines.rest()
