"""Telephone numbers as people write them."""

import re

_NOT_DIGITS = re.compile(r"\D+", re.ASCII)


def number_key(number: str) -> str:
    """What two spellings of one number have in common.

    ``tel:``, parameters after ``;``, punctuation and the 1 that leads a North American number of eleven digits are
    dropped (``+1 (617) 712-3001`` and ``tel:6177123001;ani=800`` are the same). A text without a digit is its own key.
    """
    digits = _NOT_DIGITS.sub("", number.partition(";")[0])
    if not digits:
        return number
    return digits[1:] if len(digits) == 11 and digits[0] == "1" else digits
