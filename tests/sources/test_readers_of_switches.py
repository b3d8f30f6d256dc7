"""Whatever comes, a reader of a switch gives a part or says why not: random bytes, and records with random damage."""

import json
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sources.reading import NAMES, PLUGINS, SEEDS, TOKENS, examined

MUTATIONS = int(os.environ.get("CALLHOUSE_TEST_MUTATIONS", "2000"))
"""Damaged records that each reader gets; more of them take longer and find more."""

READERS = sorted(SEEDS)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_random_bytes_and_random_objects_raise_nothing_else(name, data):
    texts = st.text(max_size=20) | st.sampled_from(["0", "-1", "1795213960", "1795213960000000", "ARRAY::a|:b", "%41"])
    values = st.recursive(
        texts
        | st.none()
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-(2**63), 2**63),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=10,
    )
    names = st.sampled_from(NAMES)
    objects = st.dictionaries(names, values, max_size=8)
    documents = st.fixed_dictionaries(
        {"variables": objects}, optional={"callflow": st.lists(objects), "app_log": objects, "channel_data": values}
    )
    record = data.draw(st.binary(max_size=200) | (objects | documents).map(lambda o: json.dumps(o).encode()))
    examined(PLUGINS[name], record)


@pytest.mark.parametrize("name", READERS)
def test_records_with_damage_raise_nothing_else(name):
    samples = SEEDS[name]
    dice = random.Random(MUTATIONS)
    for _ in range(MUTATIONS):
        record = bytearray(dice.choice(samples))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(record) + 1)
            end = at + dice.choice([0, 0, 1, 2, 10, 500])
            kind = dice.random()
            if kind < 0.4:
                record[at:end] = dice.choice(TOKENS)
            elif kind < 0.6:
                record[at:end] = dice.randbytes(dice.randint(1, 4))
            elif kind < 0.8:
                other = dice.choice(samples)
                start = dice.randrange(len(other))
                record[at:end] = other[start : start + dice.choice([5, 50, 500])]
            else:
                del record[at:end]
        try:
            examined(PLUGINS[name], bytes(record))
        except Exception:
            print(bytes(record))
            raise
