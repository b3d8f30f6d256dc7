"""A visitor of the console without a browser: a cookie jar, and the forms that pages hold."""

import re

import httpx

TOKEN = re.compile(r'name="form_token" value="(\w+)"')
ACCOUNT = re.compile(r'name="of_account" value="(\d+)"')


class Visitor:
    """Somebody at *server*; use it as a context manager."""

    def __init__(self, server, **headers):
        self.client = httpx.Client(
            base_url=server.url, timeout=60, headers=headers, limits=httpx.Limits(max_connections=None)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    @property
    def cookie(self):
        return self.client.cookies.get("callhouse_console")

    def get(self, path, **options):
        return self.client.get(f"/console{path}", **options)

    def form_token(self, path="/sign-in"):
        return TOKEN.search(self.get(path, follow_redirects=True).text)[1]

    def form(self, page):
        """What the forms of *page* hold without being filled in."""
        shown = self.get(page, follow_redirects=True).text
        account = ACCOUNT.search(shown)
        return {"form_token": TOKEN.search(shown)[1], **({"of_account": account[1]} if account else {})}

    def send(self, path, page="/sign-in", **fields):
        """Fill in the form of *page*."""
        return self.client.post(f"/console{path}", data={**self.form(page), **fields})

    def sign_in(self, name, secret, **more):
        return self.send("/sign-in", name=name, secret=secret, **more)

    def sessions(self, path="/calls"):
        """The session ids that a list shows, in its order."""
        page = self.get(path)
        assert page.status_code == 200, page.text
        return re.findall(r'<td class="when"><a href="/console/call/([^"]+)"', page.text)
