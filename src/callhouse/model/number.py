"""Telephone numbers as people write them."""

import hashlib
import re

LONGEST_KEY = 200
"""Characters of a key: indexes hold only so much."""

_NOT_DIGITS = re.compile(r"\D+", re.ASCII)
_LEADING_DIGITS = re.compile(r"\d*", re.ASCII)


def number_key(number: str) -> str:
    """What two spellings of one number have in common.

    ``tel:``, parameters after ``;``, punctuation and the 1 that leads a North American number of eleven digits are
    dropped (``+1 (617) 712-3001`` and ``tel:6177123001;ani=800`` are the same). A text without a digit is its own key.
    Of what is longer than LONGEST_KEY the key ends in a digest.
    """
    key = _NOT_DIGITS.sub("", number.partition(";")[0]) or number
    if len(key) == 11 and key[0] == "1" and key.isdecimal():
        return key[1:]
    if len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return f"{key[: LONGEST_KEY - len(digest) - 1]}~{digest}"


_HEAD_DIGITS = 15
_PLUS_ONE = str.maketrans("0123456789", "123456789a")
_PLACES = [int(11 ** (_HEAD_DIGITS - length)) for length in range(_HEAD_DIGITS + 1)]


def number_head(number: str) -> int:
    """The first digits of a number, after any plus, as a number by which numbers that begin alike lie side by side.

    Fifteen places in base eleven: 0 stands for the end and for anything but a digit.
    """
    digits = _LEADING_DIGITS.match(number.lstrip("+")[:_HEAD_DIGITS])
    length = digits.end() if digits else 0
    return int(digits[0].translate(_PLUS_ONE), 11) * _PLACES[length] if digits and length else 0


def heads(prefix: str) -> tuple[int, int] | None:
    """The heads of exactly the numbers that begin with *prefix*: from the first up to and without the second.

    None when heads do not tell: the prefix is longer than they are, or is not of digits alone.
    """
    digits = _LEADING_DIGITS.fullmatch(prefix)
    if digits is None or not 0 < len(prefix) <= _HEAD_DIGITS:
        return None
    first = number_head(prefix)
    return first, first + _PLACES[len(prefix)]
