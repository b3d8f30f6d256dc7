"""A vendor that is a Callhouse, and one here that follows it, both within the test and by the test's clock."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from aiohttp import web

import stores
from callhouse.app import create_app
from callhouse.ingest.limits import IngestLimits
from callhouse.mirror.service import Service
from callhouse.mirror.upstreams import upstreams
from callhouse.model.account import Retention
from callhouse.settings import MirrorSettings, RetentionSettings, Settings, StoreSettings
from callhouse.store import open_store
from callhouse.store.mirrors import Mirror
from serving import create_account

FOREVER = RetentionSettings(details="forever", sessions="forever", plivo="forever")
MINUTE = 60_000


@asynccontextmanager
async def answering(data, clock, retention=FOREVER):
    """A client of the application over the store in *data*, which runs meanwhile."""
    settings = Settings(
        store=StoreSettings(**stores.settings(data)), retention=retention, mirror=MirrorSettings(background=False)
    )
    app = create_app(settings, clock=clock)
    told, wanted = asyncio.Queue(), asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan", "state": {}}, wanted.get, told.put))
    await wanted.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://vendor.test") as client:
            yield client
    finally:
        await wanted.put({"type": "lifespan.shutdown"})
        await running


@asynccontextmanager
async def served(transport):
    """The address of a server that answers as the httpx *transport* does."""

    async def answer(request):
        asked = httpx.Request(request.method, f"http://vendor.test{request.raw_path}", headers=request.headers)
        told = await transport.handle_async_request(asked)
        headers = {name: value for name, value in told.headers.items() if name not in {"content-length", "date"}}
        return web.Response(status=told.status_code, body=await told.aread(), headers=headers)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Stand:
    """``vendor`` and ``here`` are clients of the two, ``logins`` their accounts; ``store`` is the one here."""

    def __init__(self, vendor, here, store, logins, url, clock):
        self.vendor = vendor
        self.here = here
        self.store = store
        self.logins = logins
        self.clock = clock
        self.url = url
        self._service = Service(store, {"SECRET": ""}, IngestLimits(), MINUTE)

    async def follow(self, api, **changes):
        """Add a mirror of the vendor's account."""
        there, here = self.logins
        user, secret = getattr(there, api)
        self._service.environment = {"SECRET": secret}
        return await self.store.mirrors.add(mirror(api, user, here.id, self.clock(), **{"url": self.url, **changes}))

    async def once(self, name="followed"):
        """Have all that is to be had now."""
        return await self._service.once(name)

    async def send(self, *calls):
        """Let *calls* happen at the vendor."""
        answer = await self.vendor.post("/ingest/calls", json=list(calls), auth=self.logins[0].fuse)
        assert answer.json()["rejected"] == [], answer.text

    async def both(self, api, path, **parameters):
        """The answers of the vendor and from here, with the auth id that is each account's own made alike."""
        found = []
        for client, login in zip((self.vendor, self.here), self.logins, strict=True):
            address = path.replace("AUTH_ID", login.auth_id)
            answer = await client.get(address, params=parameters, auth=getattr(login, api))
            found.append((answer.status_code, without_ids(answer.text, login)))
        return found


def mirror(api, user, account_id, now, **changes):
    upstream = upstreams()[api]
    return Mirror(
        **{
            "id": 0, "name": "followed", "api": api, "account_id": account_id,
            "url": "https://vendor.invalid", "user": user, "secret": "variable:SECRET",
            "since": now - upstream.keeps, "overlap": 24 * 60 * MINUTE,
            "rate": 100_000, "created": now, "state": "active", "trouble": "", "succeeded": None, "calls": 0,
            "speed": 0.0, "place": "[]", "owner": None, "owned_until": 0, **changes,
        }
    )  # fmt: skip


def without_ids(text, login):
    """An answer without what is each account's or request's own: the auth id, and the id of the request."""
    text = text.replace(login.auth_id, "AUTH_ID")
    return text[text.index("meta") :] if text.startswith('{"api_id":') and "meta" in text else text


def standing(tmp_path, clock, work, *, retention=FOREVER, zones=("UTC", "UTC"), transport=None):
    """Run ``work(stand)``; *retention* is the vendor's, *zones* the accounts'; *transport* stands for the vendor."""
    directories = tmp_path / "vendor", tmp_path / "here"
    logins = [
        create_account(directory, f"{directory.name}@example.com", "--login", directory.name, "--timezone", zone)
        for directory, zone in zip(directories, zones, strict=True)
    ]

    async def run():
        async with AsyncExitStack() as stack:
            vendor = await stack.enter_async_context(answering(directories[0], clock, retention))
            here = await stack.enter_async_context(answering(directories[1], clock))
            keep = Retention(details=None, sessions=None, plivo=None)
            store = await open_store(stores.location(directories[1]), retention=keep, clock=clock)
            stack.push_async_callback(store.close)
            url = await stack.enter_async_context(served(transport or vendor._transport))
            return await work(Stand(vendor, here, store, logins, url, clock))

    return asyncio.run(run())
