"""Plivo's own SDKs, unmodified, work against this server: the plivo packages of PyPI and of npm."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import plivo
import pytest
from plivo import exceptions
from plivo.rest import client as plivo_client

import stores
from live.npm import packages
from serving import Server, send, wait_until

NODE = Path(__file__).parent / "plivo_node"
DAY = 86_400
COUNT = 45


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of these tests' own: they send wrong tokens, which slows an address down."""
    with Server(tmp_path_factory.mktemp("plivo") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def today():
    return datetime.now(UTC).replace(microsecond=0)


def call(n, today):
    """The calls of some days, the newest first: n hours and a minute ago."""
    end = today.timestamp() - 60 - n * 3600
    return {
        "session_id": f"s{n:02}",
        "call_uuid": f"00000000-0000-4000-8000-{n:012}",
        "parent_call_uuid": "00000000-0000-4000-8000-000000000000" if n % 10 == 5 else None,
        "direction": ["inbound", "outbound", "transfer"][n % 3],
        "src": f"+1202555{n:04}",
        "dest": "919999999999" if n % 2 else "sip:sam@phone.example.com",
        "start": end - 70,
        "answer": end - n,
        "end": end,
        "billed_duration": 60,
        "rate": "0.0085",
        "hangup_cause_code": [4000, 3010][n % 2],
        "hangup_source": ["Caller", "Callee", "Answer XML"][n % 3],
        "stir_verification": "Verified" if n % 4 else "Not Applicable",
        "stir_attestation": "A",
    }


@pytest.fixture(scope="module")
def login(server, today):
    login = server.account("sdk@example.com")
    send(server, login, [call(n, today) for n in range(COUNT)])
    now = today.timestamp()
    live = {"start": now - 30, "src": "+12025550001", "dest": "911", "direction": "outbound"}
    send(server, login, [{"session_id": "live", "call_uuid": "live-1", "answer": now - 20, **live}])
    send(server, login, [{"session_id": "queued", "call_uuid": "queued-1", "dest": "911", "direction": "outbound"}])
    return login


@pytest.fixture(scope="module")
def family(server, today):
    """A main account and its subaccount, with a call each."""
    main = server.account("main@example.com")
    sub = server.account("sub@example.com", "--parent", str(main.id))
    for n, (login, name) in enumerate([(main, "main-1"), (sub, "sub-1")]):
        send(server, login, [{**call(n, today), "call_uuid": name}])
    return main, sub


def uuids(numbers):
    return [f"00000000-0000-4000-8000-{n:012}" for n in numbers]


def first_page(condition):
    return uuids([n for n in range(COUNT) if condition(n)][:20])


def text(moment):
    return moment.strftime("%Y-%m-%d %H:%M:%S")


# --- Python ---


@pytest.fixture
def client(monkeypatch, server, login):
    """Plivo's client, with this server's address in place of the three of the voice API."""
    return python_client(monkeypatch, server, login.plivo)


def python_client(monkeypatch, server, credentials):
    for name in ("API_VOICE_BASE_URI", "API_VOICE_BASE_URI_FALLBACK_1", "API_VOICE_BASE_URI_FALLBACK_2"):
        monkeypatch.setattr(plivo_client, name, f"{server.url}/v1/Account")
    return plivo.RestClient(*credentials)


def shown(page):
    return [found.call_uuid for found in page]


def test_python_lists_calls_with_their_meta(client, login, today):
    page = client.calls.list()
    assert shown(page) == uuids(range(20))
    assert page.meta.total_count == COUNT
    assert page.meta.previous is None
    assert page.meta.next == f"/v1/Account/{login.auth_id}/Call/?limit=20&offset=20"
    assert shown(client.calls.list(limit=3, offset=44)) == uuids([44])
    assert shown(client.calls.list(offset=COUNT)) == []
    newest = page.objects[0]
    assert newest.end_time == text(today - timedelta(seconds=60)) + "+00:00"
    assert (newest.total_rate, newest.total_amount, newest.billed_duration) == ("0.00850", "0.00850", 60)
    assert newest.Stir_attestation == newest.stir_attestation == "A"


def test_python_pages_through_all_calls_by_itself(client):
    assert shown(client.calls) == uuids(range(COUNT))


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"call_direction": "inbound"}, lambda n: n % 3 == 0),
        ({"call_direction": "outbound"}, lambda n: n % 3 != 0),
        ({"from_number": "+12025550003"}, lambda n: n == 3),
        ({"from_number": "1202555001"}, lambda n: 10 <= n < 20),
        ({"to_number": "9199"}, lambda n: n % 2),
        ({"to_number": "91%3C92"}, lambda n: False),
        ({"bill_duration": 12}, lambda n: n == 12),
        ({"parent_call_uuid": "00000000-0000-4000-8000-000000000000"}, lambda n: n % 10 == 5),
        ({"hangup_cause_code": 3010}, lambda n: n % 2),
        ({"hangup_source": "Answer XML"}, lambda n: n % 3 == 2),
        ({"hangup_source": "Caller", "hangup_cause_code": 4000}, lambda n: n % 6 == 0),
    ],
)
def test_python_filters(client, asked, kept):
    page = client.calls.list(**asked)
    assert shown(page) == first_page(kept)
    assert page.meta.total_count == len([n for n in range(COUNT) if kept(n)])


@pytest.mark.parametrize(
    ("form", "kept"),
    [
        ("end_time", lambda n: n == 9),
        ("end_time__gt", lambda n: n < 9),
        ("end_time__gte", lambda n: n <= 9),
        ("end_time__lt", lambda n: n > 9),
        ("end_time__lte", lambda n: n >= 9),
    ],
)
@pytest.mark.parametrize("spelt", [text, lambda moment: moment, lambda moment: moment.replace(tzinfo=None)])
def test_python_asks_for_times_as_texts_and_as_datetimes(client, today, form, kept, spelt):
    ninth = today - timedelta(hours=9, seconds=60)
    assert shown(client.calls.list(**{form: spelt(ninth)})) == first_page(kept)


def test_python_narrows_to_a_subaccount_and_a_subaccount_sees_its_own(monkeypatch, server, family):
    main, sub = family
    client = python_client(monkeypatch, server, main.plivo)
    assert shown(client.calls) == ["main-1", "sub-1"]
    assert shown(client.calls.list(subaccount=sub.auth_id)) == ["sub-1"]
    assert client.calls.get("sub-1").call_uuid == "sub-1"
    client = python_client(monkeypatch, server, sub.plivo)
    assert shown(client.calls) == ["sub-1"]
    with pytest.raises(exceptions.ResourceNotFoundError):
        client.calls.get("main-1")


def test_python_gets_a_call(client, login):
    found = client.calls.get(uuids([7])[0])
    assert (found.from_number, found.call_state, found.bill_duration) == ("+12025550007", "ANSWER", 7)
    assert found.resource_uri == f"/v1/Account/{login.auth_id}/Call/{uuids([7])[0]}/"


def test_python_reads_live_and_queued_calls(client):
    assert client.live_calls.list_ids().calls == ["live-1"]
    assert client.live_calls.list_ids(call_direction="inbound").calls == []
    assert client.live_calls.list_ids(call_direction="outbound", from_number="+12025550001").calls == ["live-1"]
    assert client.queued_calls.list_ids().calls == ["queued-1"]
    live = client.live_calls.get("live-1")
    assert (live.call_status, live.direction, live["from"], live.to) == (
        "in-progress",
        "outbound",
        "+12025550001",
        "911",
    )
    queued = client.queued_calls.get("queued-1")
    assert (queued.call_status, queued.call_uuid) == ("queued", "queued-1")
    assert client.calls.live_call_list_ids().calls == ["live-1"]
    assert client.calls.queued_call_get("queued-1").to == "911"


def test_python_raises_its_own_errors(monkeypatch, server, client, login):
    wrong = python_client(monkeypatch, server, (login.auth_id, "wrong"))
    with pytest.raises(exceptions.AuthenticationError):
        wrong.calls.list()
    with pytest.raises(exceptions.AuthenticationError, match=r"^authentication failed$"):
        wrong.calls.get("x")
    with pytest.raises(exceptions.AuthenticationError):
        wrong.live_calls.list_ids()
    for get in (client.calls.get, client.live_calls.get, client.queued_calls.get):
        with pytest.raises(exceptions.ResourceNotFoundError, match=r"^not found$"):
            get("unknown")
    with pytest.raises(exceptions.ResourceNotFoundError):
        client.live_calls.get(uuids([0])[0])
    with pytest.raises(exceptions.ValidationError, match=r"^Parameter end_time is 'yesterday'; expected a time in UTC"):
        client.calls.list(end_time="yesterday")
    with pytest.raises(exceptions.ValidationError, match="at most 30 days after"):
        client.calls.list(end_time__gte="2026-01-01 00:00", end_time__lt="2026-03-01 00:00")
    with pytest.raises(exceptions.ValidationError, match=r"^Parameter status is 'over'"):
        client.calls.list(status="over")


def test_python_raises_its_general_error_for_a_429_and_does_not_ask_again(monkeypatch, own_server):
    server = own_server()
    login = server.account()
    wrong = python_client(monkeypatch, server, (login.auth_id, "wrong"))
    raised = []
    while not raised or type(raised[-1]) is exceptions.AuthenticationError:
        with pytest.raises(exceptions.PlivoRestError) as error:
            wrong.calls.list()
        raised.append(error.value)
    assert (type(raised[-1]), "429" in str(raised[-1])) == (exceptions.PlivoRestError, True)
    # The line of a request is written after its answer.
    assert wait_until(lambda: server.log.read_text().count('"status":429'), "the line of the refusal") == 1
    # It is the wrong tokens that have to wait: a right one gets in.
    assert python_client(monkeypatch, server, login.plivo).calls.list().meta.total_count == 0


def test_python_survives_a_500_of_a_store_that_fails(monkeypatch, own_server):
    server = own_server()
    login = server.account()
    stores.sql(server.data, "ALTER TABLE end_counts RENAME TO gone")
    client = python_client(monkeypatch, server, login.plivo)
    with pytest.raises(exceptions.PlivoServerError, match=r"^internal error$"):
        client.calls.list()


# --- Node ---


@pytest.fixture(scope="session")
def package():
    return packages(NODE)


@pytest.fixture
def node(package, server, login):
    """Runs methods of client.calls of npm's plivo; what came of each."""

    def run(*asked, login=login, token=None):
        done = subprocess.run(
            ["node", NODE / "ask.js", server.url, login.auth_id, token or login.auth_token, json.dumps(asked)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def listed(answer):
    return [found["callUuid"] for found in answer["value"]["items"]]


def test_node_lists_calls_with_their_meta(node, login, today):
    bare, some, beyond = node(["list", []], ["list", [{"limit": 5, "offset": 3}]], ["list", [{"offset": 100}]])
    assert listed(bare) == uuids(range(20))
    assert bare["value"]["meta"]["totalCount"] == COUNT
    assert some["value"]["meta"]["next"] == f"/v1/Account/{login.auth_id}/Call/?limit=5&offset=8"
    assert listed(some) == uuids(range(3, 8))
    assert listed(beyond) == []
    newest = bare["value"]["items"][0]
    assert newest["endTime"] == text(today - timedelta(seconds=60)) + "+00:00"
    assert (newest["totalRate"], newest["stirAttestation"], newest["billedDuration"]) == ("0.00850", "A", 60)


def test_node_pages_through_all_calls_by_offset(node):
    pages = node(*(["list", [{"limit": 10, "offset": offset}]] for offset in range(0, 60, 10)))
    assert [found for page in pages for found in listed(page)] == uuids(range(COUNT))


def test_node_filters(node, today):
    ninth = text(today - timedelta(hours=9, seconds=60))
    filters = [
        ({"callDirection": "inbound"}, lambda n: n % 3 == 0),
        ({"fromNumber": "1202555001"}, lambda n: 10 <= n < 20),
        ({"toNumber": "sip:"}, lambda n: n % 2 == 0),
        ({"fromNumber": None, "hangupCauseCode": 3010}, lambda n: n % 2),
        ({"hangupSource": "Answer XML"}, lambda n: n % 3 == 2),
        ({"stirVerification": "Not Applicable"}, lambda n: n % 4 == 0),
        ({"parentCallUuid": uuids([0])[0]}, lambda n: n % 10 == 5),
        ({"bill_duration__gte": 10, "bill_duration__lt": 20}, lambda n: 10 <= n < 20),
        ({"bill_duration": 12}, lambda n: n == 12),
        ({"endTime": ninth}, lambda n: n == 9),
        ({"endTimeGreaterThan": ninth}, lambda n: n < 9),
        ({"endTimeGreaterOrEqual": ninth}, lambda n: n <= 9),
        ({"endTimeLessThan": ninth}, lambda n: n > 9),
        ({"end_time__lte": ninth}, lambda n: n >= 9),
        # The package mangles this name into one that is unknown, which is ignored.
        ({"endTime__gt": ninth}, lambda _: True),
    ]
    answers = node(*(["list", [{"limit": 20, **asked}]] for asked, _ in filters))
    for (asked, kept), answer in zip(filters, answers, strict=True):
        assert listed(answer) == first_page(kept), asked


def test_node_narrows_to_a_subaccount(node, family):
    main, sub = family
    whole, narrowed = node(["list", []], ["list", [{"subaccount": sub.auth_id}]], login=main)
    assert listed(whole) == ["main-1", "sub-1"]
    assert listed(narrowed) == ["sub-1"]


def test_node_gets_calls_completed_live_and_queued(node):
    one, live, queued, ids, outbound, waiting = node(
        ["get", [uuids([7])[0]]],
        ["getLiveCall", ["live-1"]],
        ["getQueuedCall", ["queued-1"]],
        ["listLiveCalls", []],
        ["listLiveCalls", [{"callDirection": "inbound"}]],
        ["listQueuedCalls", []],
    )
    assert (one["value"]["fromNumber"], one["value"]["callState"], one["value"]["billDuration"]) == (
        "+12025550007",
        "ANSWER",
        7,
    )
    assert (live["value"]["callStatus"], live["value"]["callUuid"]) == ("in-progress", "live-1")
    assert (queued["value"]["callStatus"], queued["value"]["to"]) == ("queued", "911")
    assert [found["callUuid"] for found in ids["value"]["items"]] == ["live-1"]
    assert outbound["value"]["items"] == []
    assert [found["callUuid"] for found in waiting["value"]["items"]] == ["queued-1"]


def test_node_rejects_with_its_errors(node):
    """Compiled to ES5 its error classes lose their prototype, so that status and text alone tell them apart."""
    wrong = node(["list", []], ["get", ["x"]], ["listLiveCalls", []], token="wrong")
    unknown = node(["get", ["unknown"]], ["getLiveCall", ["unknown"]], ["getQueuedCall", ["unknown"]])
    bad = node(["list", [{"limit": 50}]], ["list", [{"endTime": "yesterday"}]], ["listLiveCalls", [{"offset": -1}]])
    for answers, status, message in [
        (wrong, 401, "authentication failed"),
        (unknown, 404, "not found"),
        (bad[:1], 400, "Parameter limit is '50'; expected a whole number from 1 to 20."),
        (bad[1:2], 400, "Parameter end_time is 'yesterday'; expected a time in UTC as YYYY-MM-DD HH:MM[:ss[.uuuuuu]]."),
        (bad[2:], 400, "Parameter offset is '-1'; expected a whole number from 0 to 9007199254740992."),
    ]:
        for answer in answers:
            error = answer["error"]
            assert (error["isError"], error["name"], error["classes"]) == (True, "Error", [])
            assert (error["status"], error["message"]) == (status, message)
            assert len(error["apiID"]) == 36
