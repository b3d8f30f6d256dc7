"""Rows of mod_cdr_csv → the channel variables that its template names."""

import re

from callhouse.errors import RecordError

EXAMPLE = ",".join(
    f'"${{{name}}}"'
    for name in (
        "caller_id_name",
        "caller_id_number",
        "destination_number",
        "context",
        "start_stamp",
        "answer_stamp",
        "end_stamp",
        "duration",
        "billsec",
        "hangup_cause",
        "uuid",
        "bleg_uuid",
        "accountcode",
        "read_codec",
        "write_codec",
    )
)
"""The template named ``example``, which is the default of the configuration that FreeSWITCH comes with."""

# A variable may be an expression with braces of its own: ${regex(${caller_id_name}|^.)}.
_VARIABLE = re.compile(r"\$\{((?:[^{}]|\{[^{}]*\})+)\}")
_ESCAPED = re.compile(r'\\(["\\])')


class Template:
    """A template of cdr_csv.conf.xml. Raises ValueError when no row of it can be read back."""

    def __init__(self, text: str) -> None:
        pieces = _VARIABLE.split(text.strip())
        self._before, self._names, self._between = pieces[0], pieces[1::2], pieces[2::2]
        if "uuid" not in self._names:
            raise ValueError("has no ${uuid}, without which legs cannot be told apart")
        names = set(self._names)
        if not names & {"start_stamp", "start_epoch", "start_uepoch"}:
            raise ValueError("has no ${start_stamp}, ${start_epoch} or ${start_uepoch}")
        if not all(self._between[:-1]):
            raise ValueError("has two variables with nothing between them")
        if not names & {"end_stamp", "end_epoch", "end_uepoch", "duration"}:
            raise ValueError("has no ${end_stamp}, ${end_epoch}, ${end_uepoch} or ${duration}")

    def variables(self, row: str) -> dict[str, str]:
        """The variables of a *row*. Raises RecordError when it does not fit the template, or fits it in two ways."""
        row = row.strip()
        if not row.startswith(self._before):
            raise self._misfit()
        values, place = [], len(self._before)
        for between in self._between[:-1]:
            end = row.find(between, place)
            if end < 0:
                raise self._misfit()
            values.append(row[place:end])
            place = end + len(between)
        last = self._between[-1]
        # Nothing escapes what a caller chose to be called, so he can make columns; then there are too many.
        if not row.endswith(last) or (
            len(self._between) > 1 and self._between[-2] in row[place : len(row) - len(last)]
        ):
            raise self._misfit()
        values.append(row[place : len(row) - len(last)])
        if "\\" in row:
            values = [_ESCAPED.sub(r"\1", value) for value in values]
        return dict(zip(self._names, values, strict=True))

    def _misfit(self) -> RecordError:
        return RecordError(
            f"is neither JSON nor XML nor a row of the {len(self._names)} columns of the setting "
            "sources.freeswitch.csv_template; set it to the template in cdr_csv.conf.xml"
        )
