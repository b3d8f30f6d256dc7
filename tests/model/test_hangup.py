"""Other systems' hangup causes in Plivo's terms."""

import pytest

from callhouse.model import hangup
from callhouse.model.call import Call


@pytest.mark.parametrize(
    ("scheme", "original", "code"),
    [
        ("q850", "16", 4000),
        ("q850", "17", 3010),
        ("q850", " 19 ", 3000),
        ("q850", "018", 3000),
        ("q850", "26", 9000),
        ("q850", "487", 1000),
        ("q850", "602", 6000),
        ("q850", "802", 6000),
        ("q850", "46", 3090),
        ("q850", "101", 5000),
        ("q850", "0", 0),
        ("q850", "142", 0),
        ("sip", "486", 3010),
        ("sip", "487", 1000),
        ("sip", "200", 4000),
        ("sip", "302", 5020),
        ("sip", "499", 3020),
        ("sip", "599", 3080),
        ("sip", "699", 3110),
        ("sip", "100", 0),
        ("sip", "999", 0),
        ("plivo", "8011", 8011),
        ("plivo", "0", 0),
        ("plivo", "3060", 0),
        ("q850", "NORMAL_CLEARING", 0),
        ("q850", "-16", 0),
        ("q850", "16.0", 0),
        ("q850", "٣", 0),
        ("sip", "9" * 5000, 0),
    ],
)
def test_a_code_is_mapped_by_its_line_or_by_its_class(scheme, original, code):
    assert hangup.mapped(scheme, original) == code
    assert hangup.cause_code(Call(session_id="s", hangup_original_scheme=scheme, hangup_original_code=original)) == code


def test_every_code_that_a_mapping_gives_is_in_the_table():
    for scheme in ("q850", "sip", "plivo"):
        assert {hangup.mapped(scheme, str(code)) for code in range(10_000)} <= set(hangup.NAMES)


def test_the_table_has_all_of_plivos_codes():
    assert len(hangup.NAMES) == 54


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, None),
        ({"hangup_original_code": "17"}, None),
        ({"hangup_original_scheme": "sip"}, None),
        ({"hangup_original_scheme": "sip", "hangup_original_code": ""}, None),
        ({"hangup_original_scheme": "sip", "hangup_original_code": "486", "hangup_cause_code": 4000}, 4000),
        ({"hangup_cause_code": 0, "hangup_original_scheme": "sip", "hangup_original_code": "486"}, 0),
    ],
)
def test_what_the_sender_said_goes_before_what_its_switch_said(fields, code):
    assert hangup.cause_code(Call(session_id="s", **fields)) == code
