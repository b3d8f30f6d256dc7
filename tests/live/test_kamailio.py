"""A real Kamailio, configured as docs/sources/kamailio.md says, sends the calls that real SIP user agents make."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving import get
from sources.switch_calls import stored_calls

pytestmark = pytest.mark.skipif(
    not (shutil.which("kamailio") and shutil.which("sipp")), reason="`make test` installs Kamailio and sipp"
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/sources/kamailio.md").read_text()
SIPP = Path(__file__).parent / "sipp"

# Everything that a test waits for happens within this; what does not is a failure.
PATIENCE = 60

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


@dataclass
class Scenario:
    """One call: what the caller's script is and does, and what is to be known of it then."""

    dest: str
    script: str
    ended_by: str
    cause: str
    answered: bool = False
    talks: int = 1000
    direction: str = "outbound"
    name: str = "Alice Smith"
    length: tuple[float, float] = (0, 0.5)
    plivo: int = 4000


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


def free_port(kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Relay:
    """Stands between Kamailio and a server that comes and goes, and keeps one answer back until Kamailio gives up."""

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
                    # The record is on disk; Kamailio learns nothing of that, and hangs up.
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


@pytest.fixture
def processes():
    """Starts programs and ends them again."""
    running = []

    def start(command, cwd):
        log = (cwd / f"{len(running)}-{Path(command[0]).name}.log").open("wb")
        process = subprocess.Popen(
            list(map(str, command)), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )
        running.append((process, log))
        return process

    yield start
    for process, log in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def sipp(script, port, *options):
    return ["sipp", "-sf", script, "-i", "127.0.0.1", "-p", port, "-ci", "127.0.0.1", "-nostdin", *options]


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


def eventually(what):
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


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

    callers = {}
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        callers[name] = f"141555501{number:02}"
        fields = directory / f"{number}.csv"
        fields.write_text(f"SEQUENTIAL\n{callers[name]};{scenario.dest};{scenario.name}\n")
        script = SIPP / f"{scenario.script}.xml"
        options = ["-inf", fields, "-m", "1", "-d", scenario.talks, "-timeout", "30s", f"127.0.0.1:{port}"]
        processes(sipp(script, free_port(), *options), directory)

    def listed():
        now = int(time.time())
        return get(server, login, f"/api/calls/{now - 600}/{now + 600}").json()["calls"]

    eventually(relay.kept_back.is_set)
    eventually(listed)
    relay.target = None
    server.stop()
    eventually(relay.turned_away.is_set)
    server.start()
    relay.target = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    eventually(lambda: len(listed()) >= len(SCENARIOS))
    # More was posted than there are calls, and nothing of it made a second one.
    eventually(lambda: relay.posts > len(SCENARIOS))
    relay.close()
    by_caller = {call["src"]: call for call in stored_calls(server, login).values()}
    assert len(listed()) == len(by_caller) == len(SCENARIOS)
    shown = {call["session_id"]: call for call in listed()}
    plivo = {call["from_number"]: call for call in plivo_calls(server, login)}
    sessions = dev_sessions(server, login)
    assert len(plivo) == len(sessions) == len(SCENARIOS)
    for name, scenario in SCENARIOS.items():
        call = by_caller[callers[name]]
        check(name, scenario, call, shown[call["session_id"]])
        check_plivo(name, scenario, plivo[callers[name]])
        session = sessions[call["session_id"]]
        # An outbound call shows the dialled number in the place of the caller's.
        assert (session[0], session[1 if scenario.direction == "outbound" else 5]) == (
            scenario.direction,
            scenario.dest,
        )
        assert (int(session[7]), int(session[8])) == (call["started"] // 1000, call["ended"] // 1000), name
        log = get(server, login, f"/api/call/{call['session_id']}").json()
        assert log[0]["event"]["data"]["name"] == scenario.name.replace("\\", ""), name
        assert "Answered" in [entry["event"]["line"] for entry in log] or not scenario.answered, name


def check(name, scenario, call, shown):
    assert (call["dest"], call["direction"]) == (scenario.dest, scenario.direction), name
    assert shown["type"] == scenario.direction
    assert shown["dest"] == scenario.dest
    assert shown["log"] is True
    assert call["hangup_source"] == scenario.ended_by, name
    assert f"{call['hangup_original_scheme']} {call['hangup_original_code']}" == scenario.cause, name
    assert (call["answered"] is not None) == scenario.answered, name
    shortest, longest = scenario.length
    assert shortest <= (call["ended"] - call["started"]) / 1000 <= longest, name


def plivo_calls(server, login):
    path = f"/v1/Account/{login.auth_id}/Call/"
    body = server.client.get(path, auth=(login.auth_id, login.auth_token)).json()
    assert body["meta"]["total_count"] == len(SCENARIOS)
    return body["objects"]


def check_plivo(name, scenario, call):
    assert (call["to_number"], call["call_direction"]) == (scenario.dest, scenario.direction), name
    assert (call["hangup_source"], call["hangup_cause_code"]) == (scenario.ended_by, scenario.plivo), name
    assert (call["answer_time"] is not None) == (call["bill_duration"] > 0) == scenario.answered, name


def dev_sessions(server, login):
    """The columns of each line of the DEV API's sessions, by the session's id."""
    now = int(time.time())
    path = f"/ws/calls/sessions/{now - 600}/{now + 600}"
    result = server.client.get(path, auth=(login.login, login.password)).json()["result"]
    assert int(result["total_sessions"]) == len(SCENARIOS)
    # The time in brackets holds a blank.
    return {line.split()[6]: line.split() for line in result["sessions"]}
