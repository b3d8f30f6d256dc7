"""All that every API answers about the calls of an account that started and ended in a window."""

from datetime import UTC, datetime
from urllib.parse import quote

JSON, XML = "application/json", "application/xml"


def answers(server, login, since, until, *, calls):
    """The bodies by path, format and parameters: of lists, single calls and logs; there are *calls* complete ones."""
    asking = _Asking(server, login)
    asking.fuse(f"{since}/{until}", calls)
    asking.dev(f"{since}/{until}")
    asking.plivo(since, until, calls)
    return asking.found


class _Asking:
    def __init__(self, server, login):
        self._server, self._login = server, login
        self.found = {}

    def _ask(self, path, auth, accept=JSON, **parameters):
        answer = self._server.client.get(path, params=parameters, auth=auth, headers={"Accept": accept})
        body = answer.json() if accept == JSON else answer.text
        if isinstance(body, dict):
            body.pop("api_id", None)
        self.found[path, accept, *sorted(parameters.items())] = answer.status_code, body
        return body

    def fuse(self, window, calls):
        auth = self._login.fuse
        for accept in (JSON, XML):
            for route in ("calls", "all_logs"):
                for offset in range(0, calls, 7):
                    self._ask(f"/api/{route}/{window}", auth, accept, limit=7, offset=offset)
        listed = self._ask(f"/api/calls/{window}", auth, limit=calls + 1)
        assert listed["total_calls"] == len(listed["calls"]) == calls
        for call in listed["calls"]:
            for accept in (JSON, XML):
                self._ask(f"/api/call/{quote(call['session_id'], safe='')}", auth, accept)

    def dev(self, window):
        auth = self._login.dev
        for service in ("logs", "sessions", "errors"):
            for accept in (JSON, XML):
                self._ask(f"/ws/calls/{service}/{window}", auth, accept)
        for log in self._ask(f"/ws/calls/logs/{window}", auth, limit=1000)["result"]["logs"]:
            self._ask(f"/ws/calls/log/{log['log_id']}", auth)

    def plivo(self, since, until, calls):
        auth, path = self._login.plivo, f"/v1/Account/{self._login.auth_id}/Call/"
        for status in ("live", "queued"):
            for call_uuid in self._ask(path, auth, status=status)["calls"]:
                self._ask(f"{path}{quote(call_uuid, safe='')}/", auth, status=status)
        first, last = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") for at in (since, until))
        uuids = []
        for offset in range(0, calls, 20):
            page = self._ask(path, auth, limit=20, offset=offset, end_time__gte=first, end_time__lte=last)
            uuids += [call["call_uuid"] for call in page["objects"]]
        assert len(uuids) == calls
        for call_uuid in uuids:
            self._ask(f"{path}{quote(call_uuid, safe='')}/", auth)
