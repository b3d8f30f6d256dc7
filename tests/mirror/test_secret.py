"""A secret's file that is none, or hangs, keeps nothing waiting; a blank around a secret is hinted at."""

import asyncio
import os
import threading
import time
from types import SimpleNamespace

import httpx
import pytest

from callhouse.errors import SecretUnavailable, VendorRefusal
from callhouse.mirror import secret
from callhouse.mirror import vendor as vendors
from callhouse.mirror.vendor import Vendor
from mirror.stand import served


def obtained(place):
    return asyncio.run(secret.obtain(f"file:{place}", {}))


def test_only_a_regular_file_of_a_fair_size_holds_a_secret(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_text("x" * (secret.LONGEST + 1))
    (tmp_path / "good").write_text("x" * secret.LONGEST)
    began = time.monotonic()
    for place in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(SecretUnavailable, match="no regular file"):
            obtained(place)
    with pytest.raises(SecretUnavailable, match="has more than"):
        obtained(tmp_path / "long")
    assert time.monotonic() - began < secret.PATIENCE
    assert len(obtained(tmp_path / "good")) == secret.LONGEST
    assert asyncio.run(secret.obtain("variable:NAME", {"NAME": "word"})) == "word"


def test_a_file_that_hangs_is_given_up_by_one_thread_and_keeps_the_loop_free(tmp_path, monkeypatch):
    """As one on a network drive that answers no more."""
    over, begun = threading.Event(), []
    (tmp_path / "file").write_text("word")
    read = secret._content

    def hang(path):
        begun.append(path)
        over.wait()
        return read(path)

    monkeypatch.setattr(secret, "_content", hang)
    monkeypatch.setattr(secret, "PATIENCE", 0.1)

    async def work():
        turns = 0
        asked = asyncio.create_task(secret.obtain(f"file:{tmp_path / 'file'}", {}))
        while not asked.done():
            turns += 1
            await asyncio.sleep(0.001)
        assert turns > 10
        with pytest.raises(SecretUnavailable, match="takes too long"):
            await asked
        with pytest.raises(SecretUnavailable, match="takes too long"):
            await secret.obtain(f"file:{tmp_path / 'file'}", {})
        assert len(begun) == 1

    asyncio.run(work())
    over.set()
    for thread in list(secret._hanging.values()):
        thread.join()
    assert obtained(tmp_path / "file") == "word"


@pytest.mark.parametrize(("word", "is_told"), [(" word", True), ("word ", True), ("a word", False)])
def test_a_blank_around_a_secret_that_is_refused_is_told(word, is_told):
    async def ask():
        transport = httpx.MockTransport(lambda _: httpx.Response(401))
        async with served(transport) as url, Vendor("m", url, ("a", word), 1000) as vendor:
            await vendor(dict, "/")

    with pytest.raises(VendorRefusal) as refusal:
        asyncio.run(ask())
    assert ("begins or ends with a blank" in str(refusal.value)) == is_told
    assert "word" not in str(refusal.value)


@pytest.mark.parametrize(("zone", "pause"), [("-0000", 600), ("GMT", 600), ("+0100", 0)])
def test_a_date_until_which_a_vendor_wants_to_be_left_alone_is_in_its_own_zone(monkeypatch, zone, pause):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        monkeypatch.setattr(vendors.time, "time", lambda: 1_790_000_000.0)
        said = time.strftime("%a, %d %b %Y %H:%M:%S ", time.gmtime(1_790_000_600)) + zone

        assert vendors._wish(SimpleNamespace(headers={"retry-after": said})) == pause
    finally:
        monkeypatch.undo()
        time.tzset()
