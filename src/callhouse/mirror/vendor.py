"""One vendor's server: requests that are paced, tried again, and obey what the vendor asks for."""

import asyncio
import email.utils
import time
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

import httpx
import msgspec
import stamina
import stamina.instrumentation

from callhouse import __version__
from callhouse.errors import VendorHasNone, VendorRefusal, VendorUnavailable
from callhouse.observability import MIRROR_REQUESTS, log

T = TypeVar("T")

ATTEMPTS = 6
"""How often a request is made before what was to be done is given up for now."""

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 60.0
JITTER = 0.4
LONGEST_WISH = 3_600.0
"""For longer than this no vendor is left alone, whatever it asks for; in seconds."""

MAX_ANSWER = 512 * 1024 * 1024
"""Bytes of an answer at most, uncompressed."""

TIMEOUT = httpx.Timeout(60, connect=10)

# What a retry is goes into our own log, under our own names.
stamina.instrumentation.set_on_retry_hooks(())


class Vendor:
    """Asks one vendor, at most *rate* times a second; use it as a context manager. Satisfies Ask."""

    def __init__(
        self,
        name: str,
        url: str,
        credentials: tuple[str, str],
        rate: float,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._on_failure = on_failure
        self._every = 1 / rate
        self._next = 0.0
        self._url = url
        self._auth = httpx.BasicAuth(*credentials)
        self._transport = transport
        self._trust = httpx.create_ssl_context() if url.startswith("https:") else False
        # One for each request that is under way: a client that holds several connections looks at all of them several
        # times a request, which took two thirds of a mirror's time.
        self._idle: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._idle:
            await client.aclose()

    def _new_client(self) -> httpx.AsyncClient:
        # A redirect could lead the credentials elsewhere.
        return httpx.AsyncClient(
            base_url=self._url,
            auth=self._auth,
            headers={"Accept": "application/json", "User-Agent": f"callhouse/{__version__}"},
            timeout=TIMEOUT,
            transport=self._transport,
            verify=self._trust,
            follow_redirects=False,
        )

    async def __call__(self, kind: type[T], path: str, parameters: Mapping[str, str | int] | None = None) -> T:
        async for attempt in stamina.retry_context(
            on=self._pause_after,
            attempts=ATTEMPTS,
            timeout=None,
            wait_initial=FIRST_PAUSE,
            wait_max=LONGEST_PAUSE,
            wait_jitter=JITTER,
        ):
            with attempt:
                return await self._asked(kind, path, parameters)
        raise AssertionError

    def _pause_after(self, error: Exception) -> bool | float:
        if not isinstance(error, VendorUnavailable) or not error.is_worth_repeating:
            return False
        self._on_failure(str(error))
        log.warning("mirror.retrying", mirror=self._name, reason=str(error), pause=error.pause)
        if error.pause is None:
            return True
        # All other requests wait as well.
        self._next = max(self._next, asyncio.get_running_loop().time() + error.pause)
        return error.pause

    async def _asked(self, kind: type[T], path: str, parameters: Mapping[str, str | int] | None) -> T:
        await self._turn()
        client = self._idle.pop() if self._idle else self._new_client()
        try:
            async with client.stream("GET", path, params=parameters) as answer:
                MIRROR_REQUESTS.labels(self._name, str(answer.status_code)).inc()
                if answer.status_code != 200:
                    raise _failure(answer)
                body = await _body(answer)
        except httpx.HTTPError as error:
            MIRROR_REQUESTS.labels(self._name, "none").inc()
            raise VendorUnavailable(f"The vendor does not answer: {_reason(error)}.") from error
        finally:
            self._idle.append(client)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise VendorUnavailable(f"The vendor's answer is cut off or of another kind: {error}.") from None

    async def _turn(self) -> None:
        """Wait until a request may be made."""
        now = asyncio.get_running_loop().time()
        at = max(self._next, now)
        self._next = at + self._every
        if at > now:
            await asyncio.sleep(at - now)


async def _body(answer: httpx.Response) -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER:
            raise VendorUnavailable(f"The vendor's answer has more than {MAX_ANSWER} bytes.", is_worth_repeating=False)
    return b"".join(parts)


def _failure(answer: httpx.Response) -> VendorUnavailable | VendorRefusal:
    status = answer.status_code
    if status in {401, 403}:
        return VendorRefusal(f"The vendor refuses the credentials (status {status}).")
    if status == 404:
        return VendorHasNone("The vendor has nothing under this path (status 404).", is_worth_repeating=False)
    if status in {429, 503}:
        return VendorUnavailable(f"The vendor asks to be left alone (status {status}).", pause=_wish(answer))
    is_passing = status >= 500 or status in {408, 425}
    return VendorUnavailable(f"The vendor answers with status {status}.", is_worth_repeating=is_passing)


def _wish(answer: httpx.Response) -> float | None:
    """For how many seconds the vendor wants to be left alone, as it says."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit() and len(said) < 10:
        return min(float(said), LONGEST_WISH)
    try:
        until = email.utils.parsedate_to_datetime(said).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, until - time.time()), LONGEST_WISH)


def _reason(error: httpx.HTTPError) -> str:
    """What happened, without the address and what else might stand in the library's own words."""
    kinds = {
        httpx.TimeoutException: "it takes too long",
        httpx.ConnectError: "no connection can be made",
        httpx.DecodingError: "what it compressed cannot be read",
    }
    return next((text for kind, text in kinds.items() if isinstance(error, kind)), "the connection broke off")
