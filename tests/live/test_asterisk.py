"""A real Asterisk, configured as docs/sources/asterisk.md says, writes the calls that real SIP user agents make."""

import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

import stores
from live.sip_calls import FAR_ENDS, SIPP, Scenario, call_all, check_all, eventually, free_port, sipp
from serving import COMMAND

PREFIX = os.environ.get("CALLHOUSE_TEST_ASTERISK")

pytestmark = pytest.mark.skipif(
    not PREFIX or not shutil.which("sipp"),
    reason="set CALLHOUSE_TEST_ASTERISK to the prefix of an Asterisk (its sbin/asterisk, 18 or newer) and install sipp",
)

CONFIGURATION = Path(__file__).parent / "asterisk"
PAGE = (Path(__file__).parents[2] / "docs/sources/asterisk.md").read_text()

# The first digit of the number chooses what extensions.conf does with it. Where the callee refuses, the dialplan goes
# on, and it is what ends the call.
SCENARIOS = {
    "the caller hangs up": Scenario("1000", "uac_hangup", "caller", "q850 16", answered=True, length=(1.6, 2.9)),
    "busy": Scenario("2000", "uac_486", "switch", "q850 17", plivo=3010),
    "the caller gives up": Scenario("3000", "uac_cancel", "caller", "sip 487", length=(0.9, 2), plivo=1000),
    "nobody answers": Scenario("3001", "uac_480", "switch", "q850 19", length=(2.8, 4), plivo=3000),
    "the callee hangs up": Scenario("4000", "uac_wait", "callee", "q850 16", answered=True, length=(1.8, 3.5)),
    "unavailable": Scenario("5000", "uac_480", "switch", "q850 19", length=(1.8, 3), plivo=3000),
    "one digit to an IVR": Scenario("8001", "uac_ivr_1", "switch", "q850 16", answered=True, length=(1.9, 4)),
    "five digits to an IVR": Scenario("8002", "uac_ivr_2", "switch", "q850 16", answered=True, length=(3, 6)),
    "an unknown number": Scenario("9999", "uac_404", "switch", "q850 1", plivo=3050),
}
for scenario in SCENARIOS.values():
    scenario.direction = "inbound"

# A second of it is 8,000 bytes of silence in mu-law.
PROMPTS = {"welcome": 4_000, "menu": 4_000, "enter-account": 2_000, "goodbye": 2_000}


def documented(modules):
    """The files of the documentation by name, and the lines with which a call enters the dialplan."""
    blocks = [textwrap.dedent(block) for block in re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)]
    options, cel, cel_new, cel_old, cdr, cdr_new, cdr_old, entry = blocks
    is_new = (modules / "res_cdrel_custom.so").exists()
    files = {
        "asterisk.conf": options,
        "cel.conf": cel,
        "cel_custom.conf": cel_new if is_new else cel_old,
        "cdr.conf": cdr,
        "cdr_custom.conf": cdr_new if is_new else cdr_old,
    }
    return files, entry


def found(*patterns):
    """The first thing of the installation that one of *patterns* matches."""
    return next(path for pattern in patterns for path in sorted(Path(PREFIX).glob(pattern)))


def configure(here, port, ends):
    """The files of an Asterisk that lives in *here* alone."""
    modules = found("lib/asterisk/modules", "lib64/asterisk/modules", "lib/*/asterisk/modules")
    files, entry = documented(modules)
    for directory in ("etc", "run", "spool", "log/cdr-custom", "log/cel-custom", "data/sounds/en"):
        (here / directory).mkdir(parents=True)
    # Modules read in the documentation which options they have.
    (here / "data/documentation").symlink_to(
        found("share/asterisk/documentation", "var/lib/asterisk/documentation", "lib/asterisk/documentation")
    )
    for name, size in PROMPTS.items():
        (here / f"data/sounds/en/{name}.ulaw").write_bytes(b"\xff" * size)
    for file in CONFIGURATION.glob("*.conf"):
        files[file.name] = files.get(file.name, "") + file.read_text().format(
            here=here, modules=modules, port=port, entry=entry.strip()
        )
    far_end = (CONFIGURATION / "far_end.in").read_text()
    files["pjsip.conf"] += "".join(far_end.format(digit=digit, port=end) for digit, end in ends.items())
    for name, text in files.items():
        (here / "etc" / name).write_text(text)


@pytest.fixture
def here(tmp_path_factory):
    # The path of a socket must not be long.
    return tmp_path_factory.mktemp("ast")


def test_every_call_is_told_by_cdr_and_cel_together(own_server, here, processes):
    server = own_server()
    login = server.account("pbx@example.com", "--login", "pbx")
    port, ends = free_port(), {digit: free_port() for digit in FAR_ENDS}
    configure(here, port, ends)
    for digit, script in FAR_ENDS.items():
        processes(sipp(SIPP / f"{script}.xml", ends[digit]), here)
    asterisk = [f"{PREFIX}/sbin/asterisk", "-C", here / "etc/asterisk.conf"]
    processes([*asterisk, "-f", "-n"], here)
    ready = [*asterisk, "-rx", "core waitfullybooted"]
    eventually(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0)

    callers = call_all(processes, here, port, SCENARIOS)

    written = [here / f"log/{kind}-custom/callhouse.csv" for kind in ("cel", "cdr")]

    follow = [
        *COMMAND,
        "import",
        "asterisk",
        *written,
        "--follow",
        "--account",
        str(login.id),
        *stores.options(server.data),
    ]
    processes(follow, here)

    def arrived():
        """Whether Asterisk has written the end of every call, and all that it has written was imported."""
        rows = b"".join(file.read_bytes() for file in written if file.exists())
        is_told = rows.count(b"LINKEDID_END") >= 2 * len(SCENARIOS)
        return is_told and imported_bytes(server) == len(rows)

    eventually(arrived)
    logs = check_all(server, login, SCENARIOS, callers)
    menu, account = (told(logs[f"{digits} to an IVR"]) for digits in ("one digit", "five digits"))
    assert menu == ["Playing welcome", "Playing menu", "Digit 1", "IVR_MENU(choice=1)", "Hung up, cause 16"]
    assert account[:4] == ["Playing welcome", "Playing menu", "Digit 2", "IVR_MENU(choice=2)"]
    assert account[4:] == ["Playing enter-account", *(f"Digit {digit}" for digit in "4711"), *account[-2:]]
    assert account[-2:] == ["Playing goodbye", "Hung up, cause 16"]


def imported_bytes(server):
    """How much of all files was imported."""
    [(size,)] = stores.sql(server.data, "SELECT coalesce(sum(size), 0) FROM imports")
    return size


def told(log):
    """What the caller of *log* heard and pressed, and how it ended."""
    lines = [entry["event"]["line"] for entry in log]
    return [line for line in lines if line.startswith(("Playing", "Digit", "IVR_MENU", "Hung up"))]
