"""A real Kamailio, configured as docs/sources/kamailio.md says, sends the calls that real SIP user agents make."""

import contextlib
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from live.sip_calls import PATIENCE, SIPP, Scenario, call_all, check_all, eventually, free_port, listed, sipp

pytestmark = pytest.mark.skipif(
    not (shutil.which("kamailio") and shutil.which("sipp")), reason="`make test` installs Kamailio and sipp"
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/sources/kamailio.md").read_text()

CONFIGURATION = """#!KAMAILIO
debug=2
log_stderror=yes
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:127.0.0.1:{port}
loadmodule "kex.so"
loadmodule "corex.so"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
modparam("rr", "enable_full_lr", 1)
modparam("rr", "append_fromtag", 1)
modparam("tm", "fr_timer", 3000)
modparam("tm", "fr_inv_timer", 4000)
modparam("tm", "failure_reply_mode", 3)
"""


# The first digit of the number chooses the far end, as in ROUTES.
SCENARIOS = {
    "the caller hangs up": Scenario("1000", "uac_hangup", "caller", "q850 16", True, length=(1.6, 2.5)),
    "a carrier calls": Scenario(
        "1001", "uac_hangup", "caller", "q850 16", True, direction="inbound", length=(1.6, 2.5)
    ),
    "a name in quotes": Scenario(
        "1002", "uac_hangup", "caller", "q850 16", True, name='Ext \\"Q\\" é', length=(1.6, 2.5)
    ),
    "the dialog's time runs out": Scenario("1500", "uac_wait", "switch", "q850 16", True, length=(1, 5)),
    "busy": Scenario("2000", "uac_486", "callee", "q850 17", plivo=3010),
    "the caller gives up": Scenario("3000", "uac_cancel", "caller", "sip 487", length=(0.9, 1.8), plivo=1000),
    "nobody answers": Scenario("3001", "uac_408", "timeout", "sip 408", length=(3.5, 5.5), plivo=3070),
    "the callee hangs up": Scenario("4000", "uac_wait", "callee", "q850 16", True, length=(1.8, 3)),
    "unavailable": Scenario("5000", "uac_480", "callee", "q850 19", length=(1.8, 3), plivo=3000),
    "a dead host": Scenario("6000", "uac_408", "timeout", "sip 408", length=(2.5, 4.5), plivo=3070),
    "one digit to an IVR": Scenario("7001", "uac_ivr_1", "callee", "q850 16", True, length=(1.9, 4)),
    "five digits to an IVR": Scenario("8002", "uac_ivr_2", "callee", "q850 16", True, length=(3, 6)),
    "another digit to an IVR": Scenario("7003", "uac_ivr_3", "callee", "q850 16", True, length=(1.9, 4)),
    "an unknown number": Scenario("9999", "uac_404", "switch", "sip 404", plivo=3050),
}
FAR_ENDS = {"1": "uas_answer", "2": "uas_busy", "3": "uas_ring", "4": "uas_bye", "5": "uas_480", "7": 1, "8": 5}


class Relay:
    """Stands between Kamailio and a server that comes and goes: it keeps the first answer back until Kamailio gives up,
    and then leads nowhere until it has a target again.
    """

    def __init__(self):
        self.target = None
        self.posts = 0
        self.turned_away = threading.Event()
        self.kept_back = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            client.settimeout(PATIENCE)
            while request := self._message(client):
                target = self.target
                if target is None:
                    self.turned_away.set()
                    return
                with socket.create_connection(target, timeout=PATIENCE) as server:
                    server.sendall(request)
                    answer = self._message(server)
                self.posts += 1
                if not self.kept_back.is_set():
                    self.kept_back.set()
                    # The record is on disk; Kamailio learns nothing of that, and hangs up. From now on it is turned
                    # away, with that record too.
                    self.target = None
                    assert client.recv(1) == b""
                    return
                client.sendall(answer)

    def _message(self, connection):
        """One request or answer with its body."""
        received = b""
        while b"\r\n\r\n" not in received:
            if not (piece := connection.recv(65_536)):
                return b""
            received += piece
        head = received.split(b"\r\n\r\n")[0]
        length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
        missing = len(head) + 4 + int(length[1] if length else 0) - len(received)
        while missing > 0:
            piece = connection.recv(missing)
            received += piece
            missing -= len(piece)
        return received

    def close(self):
        self._listener.close()


def fragment(url, database):
    """The documented configuration, with a test's own address."""
    first, example = (block.replace("\n   ", "\n") for block in re.findall(r"```kamailio\n(.*?)```", PAGE, re.DOTALL))
    included = re.sub(r"!CALLHOUSE_URL!.*?!g", f"!CALLHOUSE_URL!{url}!g", first)
    return re.sub(r"!CALLHOUSE_DB!.*?!g", f"!CALLHOUSE_DB!sqlite:///{database}!g", included), example


@pytest.fixture
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("kamailio")


def ivr(directory, digits):
    """A far end that answers, takes so many digits and hangs up; made of the one that only hangs up."""
    script = (SIPP / "uas_bye.xml").read_text()
    ok = re.search(
        r"<send><!\[CDATA\[[^]]*?SIP/2.0 200 OK.*?\]\]></send>", (SIPP / "uac_wait.xml").read_text(), re.DOTALL
    )[0]
    taking = '<recv request="INFO"/>' + ok
    file = directory / f"uas_ivr_{digits}.xml"
    file.write_text(script.replace('<pause milliseconds="1500"/>', taking * digits))
    return file


def configure(directory, port, url, database):
    """The files of Kamailio; where each far end listens."""
    included, example = fragment(url, database)
    ends = {digit: free_port() for digit in FAR_ENDS}
    routes = "\n".join(
        f'if ($rU =~ "^{digit}") {{ $du = "sip:127.0.0.1:{end}"; }}'
        for digit, end in [*ends.items(), ("6", free_port())]
    )
    # The direction and the way of a call are the operator's own.
    example = example.replace(
        '$dlg_var(direction) = "inbound";',
        'if ($rU == "1001") { $dlg_var(direction) = "inbound"; }\n'
        'else { $dlg_var(direction) = "outbound"; }\nif ($rU =~ "^15") { dlg_set_timeout("2"); }\n' + routes,
    )
    (directory / "callhouse.cfg").write_text(included)
    (directory / "kamailio.cfg").write_text(CONFIGURATION.format(port=port) + example)
    create = re.search(r'callhouse\.db "(CREATE TABLE .*?)"', PAGE, re.DOTALL)[1]
    subprocess.run(["sqlite3", database, create], check=True)
    return ends


def test_every_call_arrives_once_though_the_server_is_away_for_a_while_and_answers_late(
    own_server, directory, processes
):
    server = own_server()
    login = server.account("sbc@example.com", "--login", "sbc")
    relay = Relay()
    relay.target = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    port = free_port()
    url = f"http://{login.auth_id}:{login.auth_token}@127.0.0.1:{relay.port}/ingest/kamailio"
    ends = configure(directory, port, url, directory / "queue.db")
    checked = subprocess.run(
        ["kamailio", "-c", "-f", directory / "kamailio.cfg"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    for digit, script in FAR_ENDS.items():
        file = SIPP / f"{script}.xml" if isinstance(script, str) else ivr(directory, script)
        processes(sipp(file, ends[digit]), directory)
    processes(["kamailio", "-f", directory / "kamailio.cfg", "-Y", directory, "-w", directory, "-DD", "-E"], directory)

    callers = call_all(processes, directory, port, SCENARIOS)

    def arrived():
        return listed(server, login)

    eventually(relay.kept_back.is_set)
    server.stop()
    eventually(relay.turned_away.is_set)
    server.start()
    relay.target = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    eventually(lambda: len(arrived()) >= len(SCENARIOS))
    # More was posted than there are calls, and nothing of it made a second one.
    eventually(lambda: relay.posts > len(SCENARIOS))
    relay.close()
    logs = check_all(server, login, SCENARIOS, callers)
    # No call has a leg below it, and none is there twice.
    assert len(arrived()) == len(SCENARIOS)
    for name, scenario in SCENARIOS.items():
        assert logs[name][0]["event"]["data"]["name"] == scenario.name.replace("\\", ""), name
        assert "Answered" in [entry["event"]["line"] for entry in logs[name]] or not scenario.answered, name
