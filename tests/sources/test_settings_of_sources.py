"""What an operator sets of a source: in the file, in the environment and on the command line, and on replay too."""

import json

import pytest

from conftest import KEEP_ALL
from serving import callhouse
from sources.switch_calls import post, stored_calls

RECORD = {"id": "c1", "callee": "800", "start_time": "1795213752.988", "end_time": "1795213753.988"}


def test_a_server_reads_records_as_its_settings_say(own_server):
    server = own_server(*KEEP_ALL, "sources.kamailio.call_id=id", "sources.kamailio.dest=callee")
    login = server.account()
    assert post(server, login, "kamailio", json.dumps(RECORD).encode())["accepted"] == 1
    assert stored_calls(server, login)["c1"]["dest"] == "800"


def test_what_was_refused_under_wrong_settings_is_replayed_under_right_ones(own_server, tmp_path):
    server = own_server(*KEEP_ALL)
    login = server.account()
    reply = post(server, login, "kamailio", json.dumps(RECORD).encode())
    assert "sources.kamailio.call_id" in reply["rejected"][0]["error"]
    row = b"2026-11-20 22:32:38;2026-11-20 22:32:40;leg-1"
    assert "csv_template" in post(server, login, "freeswitch", row, "text/csv")["rejected"][0]["error"]
    file = tmp_path / "callhouse.toml"
    file.write_text(
        '[retention]\nsessions = "forever"\n\n[sources.kamailio]\ncall_id = "id"\n\n'
        "[sources.freeswitch]\ncsv_template = '${start_stamp};${end_stamp};${uuid}'\ntimezone = \"Europe/Berlin\"\n"
    )
    callhouse("quarantine", "replay", "--all", "--config", file, data=server.data)
    calls = stored_calls(server, login)
    assert set(calls) == {"c1", "leg-1"}
    assert (calls["leg-1"]["started"], calls["leg-1"]["ended"]) == (1795210358000, 1795210360000)
    shown = {e["key"]: e for e in json.loads(callhouse("config", "--json", "--config", file).stdout).values()}
    assert shown["sources.kamailio.call_id"]["value"] == "id"
    assert shown["sources.kamailio.call_id"]["origin"] == str(file)
    assert shown["sources.kamailio.src"]["origin"] == "default"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[sources.kamailio]\nfrom = "x"\n', "there is no setting sources.kamailio.from"),
        ('[sources.other]\nname = "x"\n', "there is no setting sources.other.name"),
        ("[sources]\nkamailio = 1\n", "there is no setting sources.kamailio"),
        ("[sources.kamailio]\nsrc = 1\n", "sources.kamailio.src is 1"),
        ('[sources.freeswitch]\ntimezone = "Mars"\n', "sources.freeswitch.timezone is 'Mars'"),
        ('[sources.freeswitch]\ncsv_template = "x"\n', "sources.freeswitch.csv_template has no ${uuid}"),
        ('[sources.kamailio]\nacc_columns = "x"\n', "sources.kamailio.acc_columns must name"),
    ],
)
def test_settings_that_make_no_sense_stop_the_start(tmp_path, text, reason):
    file = tmp_path / "callhouse.toml"
    file.write_text(text)
    done = callhouse("serve", "--config", file, data=tmp_path / "data", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in " ".join(done.stderr.split())


def test_the_environment_sets_a_source_too():
    done = callhouse("config", "--json", env={"CALLHOUSE_SOURCES_KAMAILIO_SRC": "caller"})
    assert json.loads(done.stdout)["sources.kamailio.src"]["value"] == "caller"
