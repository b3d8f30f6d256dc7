"""An account is followed through one API: another would replace what only the first tells, or double its calls."""

import pytest

from callhouse.errors import MirrorError
from mirror.stand import standing
from mirror.test_following import call


@pytest.mark.parametrize(("first", "second"), [("fuse", "dev"), ("fuse", "plivo"), ("plivo", "dev")])
def test_a_mirror_of_another_api_is_refused_also_when_the_first_is_gone_and_its_calls_are_not(
    tmp_path, clock, first, second
):
    async def work(stand):
        await stand.send(call(1, clock.now / 1000 - 600, events=[]))
        followed = await stand.follow(first)
        await stand.once()
        with pytest.raises(MirrorError, match=rf"has a mirror of another API, followed \({first}\).*another account"):
            await stand.follow(second, name="other")
        await stand.store.mirrors.remove(followed.id)
        with pytest.raises(MirrorError, match=rf"calls that a mirror of another API brought \({first}\)"):
            await stand.follow(second, name="other")
        # Through the same API it may be followed again, and by two.
        await stand.follow(first)
        await stand.follow(first, name="other")

    standing(tmp_path, clock, work)


def test_a_mirror_that_brought_nothing_keeps_no_other_away(tmp_path, clock):
    async def work(stand):
        followed = await stand.follow("fuse")
        await stand.store.mirrors.remove(followed.id)
        await stand.follow("dev")

    standing(tmp_path, clock, work)
