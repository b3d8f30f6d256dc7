"""A real FreeSWITCH, configured as docs/sources/freeswitch.md says, sends the calls that real SIP user agents make."""

import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from live.sip_calls import FAR_ENDS, SIPP, Scenario, call_all, check_all, eventually, free_port, listed, sipp

PREFIX = os.environ.get("CALLHOUSE_TEST_FREESWITCH")

pytestmark = pytest.mark.skipif(
    not PREFIX or not shutil.which("sipp"),
    reason="set CALLHOUSE_TEST_FREESWITCH to the prefix of a FreeSWITCH 1.10 (its bin/freeswitch) and install sipp",
)

CONFIGURATION = Path(__file__).parent / "freeswitch"
PAGE = (Path(__file__).parents[2] / "docs/sources/freeswitch.md").read_text()

# The first digit of the number chooses the extension of the dialplan.
SCENARIOS = {
    "the caller hangs up": Scenario("1000", "uac_hangup", "caller", "q850 16", answered=True, length=(1.6, 2.9)),
    "busy": Scenario("2000", "uac_486", "callee", "q850 17", plivo=3010),
    "the caller gives up": Scenario("3000", "uac_cancel", "caller", "sip 487", length=(0.9, 2), plivo=1000),
    "nobody answers": Scenario("3001", "uac_480", "timeout", "q850 19", length=(2.8, 4.5), plivo=3000),
    "the callee hangs up": Scenario("4000", "uac_wait", "callee", "q850 16", answered=True, length=(1.8, 3.5)),
    "unavailable": Scenario("5000", "uac_480", "callee", "q850 19", length=(1.8, 3.5), plivo=3000),
    "one digit to an IVR": Scenario("8001", "uac_ivr_1", "switch", "q850 16", answered=True, length=(1.9, 4)),
    "five digits to an IVR": Scenario("8002", "uac_ivr_2", "switch", "q850 16", answered=True, length=(3, 6)),
    "an unknown number": Scenario("9999", "uac_404", "switch", "q850 3", plivo=5020),
}
for scenario in SCENARIOS.values():
    scenario.direction = "inbound"
LEGS = [scenario for scenario in SCENARIOS.values() if scenario.dest[0] in FAR_ENDS]

OPTIONS = """OPTIONS sip:127.0.0.1:{port} SIP/2.0\r
Via: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bK-ready\r
From: <sip:test@127.0.0.1>;tag=1\r
To: <sip:127.0.0.1:{port}>\r
Call-ID: ready-{own}\r
CSeq: 1 OPTIONS\r
Max-Forwards: 70\r
Content-Length: 0\r
\r
"""


def configure(here, url, login, port, ends):
    """The files of a FreeSWITCH that lives in *here* alone."""
    for directory in ("etc", "log", "db", "run", "temp", "storage", "not-sent"):
        (here / directory).mkdir()
    cdr = re.search(r'```xml\n(<configuration name="json_cdr.conf".*?)```', PAGE, re.DOTALL)[1]
    cdr = cdr.replace("http://127.0.0.1:8080", url).replace("AUTH_ID:AUTH_TOKEN", ":".join(login.plivo))
    cdr = cdr.replace("/var/lib/freeswitch/cdr-not-sent", str(here / "not-sent"))
    route = (CONFIGURATION / "route.in").read_text()
    routes = "".join(route.format(digit=digit, port=end) for digit, end in ends.items())
    document = (CONFIGURATION / "freeswitch.xml").read_text()
    (here / "etc/freeswitch.xml").write_text(document.format(here=here, port=port, cdr=cdr, routes=routes))


def command(here):
    patterns = ("lib/freeswitch/mod", "mod", "lib64/freeswitch/mod", "lib/*/freeswitch/mod")
    modules = next(path for pattern in patterns for path in Path(PREFIX).glob(pattern))
    places = {name: here / name for name in ("log", "db", "run", "temp", "storage")}
    places |= {"conf": here / "etc", "mod": modules}
    options = [word for name, place in places.items() for word in (f"-{name}", place)]
    return [f"{PREFIX}/bin/freeswitch", "-nf", "-nc", "-nonat", *options]


def answers(port):
    """Whether FreeSWITCH is ready for calls on *port*."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(0.5)
        client.sendto(OPTIONS.format(port=port, own=client.getsockname()[1]).encode(), ("127.0.0.1", port))
        try:
            return client.recv(65_536).startswith(b"SIP/2.0 200")
        except OSError:
            return False


def test_every_leg_is_told_by_mod_json_cdr(own_server, tmp_path, processes):
    server = own_server()
    login = server.account("pbx@example.com", "--login", "pbx")
    port, ends = free_port(), {digit: free_port() for digit in FAR_ENDS}
    configure(tmp_path, server.url, login, port, ends)
    for digit, script in FAR_ENDS.items():
        processes(sipp(SIPP / f"{script}.xml", ends[digit]), tmp_path)
    processes(command(tmp_path), tmp_path)
    eventually(lambda: answers(port))

    callers = call_all(processes, tmp_path, port, SCENARIOS)

    eventually(lambda: len(listed(server, login)) >= len(SCENARIOS) + len(LEGS))
    logs = check_all(server, login, SCENARIOS, callers)
    assert pressed(logs["one digit to an IVR"]) == {"choice": "1"}
    assert pressed(logs["five digits to an IVR"]) == {"choice": "2", "acct": "4711"}
    heard = [entry["event"]["line"] for entry in logs["five digits to an IVR"] if entry["class"] == "prompt"]
    assert [line.partition("(")[0] for line in heard] == ["playback", "play_and_get_digits", "read", "playback"]


def pressed(log):
    """What the caller of *log* entered, by the variable that took it."""
    data = [entry["event"]["data"] for entry in log if entry["class"] == "prompt"]
    return {said["result_variable"]: said["value"] for said in data if "value" in said}
