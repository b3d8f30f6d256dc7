"""What a dashboard lists when there is more than a page can bear."""

import re
import time

from console.visiting import Visitor
from serving import send

NOW = int(time.time())


def test_of_very_many_hangup_causes_those_of_the_most_calls_are_listed(server):
    login = server.account("causes@console.example")
    times = {"start": NOW - 60, "end": NOW - 1}
    codes = [*range(1_000, 1_250), *range(1_240, 1_250)]
    send(server, login, [{"session_id": f"c{n}", "hangup_cause_code": code, **times} for n, code in enumerate(codes)])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        page = visitor.get("/dashboard?last=24h").text
    listed = re.findall(r"<small><bdi>(\d{4})</bdi></small>", page)
    assert len(listed) == len(set(listed)) == 100
    assert set(listed) > {str(code) for code in range(1_240, 1_250)}
    assert "The 150 causes of the fewest calls are not listed." in page
