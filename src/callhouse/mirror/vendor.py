"""One vendor's server: requests that are paced, tried again, and obey what the vendor asks for."""

import asyncio
import email.utils
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Self, TypeVar
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
import stamina
import stamina.instrumentation
from yarl import URL

from callhouse import __version__
from callhouse.errors import AnswerFailed, AnswerTooLong, VendorHasNone, VendorRefusal, VendorUnavailable
from callhouse.model import halves
from callhouse.observability import MIRROR_REQUESTS, log

T = TypeVar("T")

ATTEMPTS = 6
"""How often a request is made before what was to be done is given up for now."""

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 60.0
JITTER = 0.4
LONGEST_WISH = 3_600.0
"""For longer than this no vendor is left alone, whatever it asks for; in seconds."""

MAX_ANSWER = 128 * 1024 * 1024
"""Bytes of an answer at most, uncompressed."""

TIMEOUT = aiohttp.ClientTimeout(total=600, sock_connect=10, sock_read=60)
"""Seconds for an answer: in all, until there is a connection, and between two parts of it."""

# What a retry is goes into our own log, under our own names.
stamina.instrumentation.set_on_retry_hooks(())


class Vendor:
    """Asks one vendor, at most *rate* times a second; use it as a context manager. Satisfies Ask.

    *credentials*, which may change at any time, are the user's name and the secret.
    """

    def __init__(
        self,
        name: str,
        url: str,
        credentials: tuple[str, str],
        rate: float,
        *,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._on_failure = on_failure
        self._every = 1 / rate
        self._next = 0.0
        self._turns = asyncio.Lock()
        self._url = url
        self.credentials = credentials

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            headers={"Accept": "application/json", "User-Agent": f"callhouse/{__version__}"},
            timeout=TIMEOUT,
            # How many requests are under way, whoever asks decides.
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self._url),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def __call__(
        self,
        kind: type[T],
        path: str,
        parameters: Mapping[str, str | int] | None = None,
        *,
        attempts: int | None = None,
    ) -> T:
        async for attempt in stamina.retry_context(
            on=self._pause_after,
            attempts=attempts or ATTEMPTS,
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
        query = f"?{urlencode(parameters)}" if parameters else ""
        authorization = aiohttp.encode_basic_auth(*self.credentials, encoding="utf-8")
        try:
            # A redirect could lead the credentials elsewhere.
            async with self._client.get(
                URL(f"{self._url}{path}{query}", encoded=True),
                allow_redirects=False,
                headers={"Authorization": authorization},
            ) as answer:
                MIRROR_REQUESTS.labels(self._name, str(answer.status)).inc()
                if answer.status != 200:
                    raise _failure(answer, self.credentials[1])
                body = await _body(answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            MIRROR_REQUESTS.labels(self._name, "none").inc()
            has_no_answer = isinstance(error, TimeoutError | aiohttp.ClientPayloadError)
            kind_of_failure = AnswerFailed if has_no_answer else VendorUnavailable
            raise kind_of_failure(f"The vendor does not answer: {_reason(error)}.") from error
        try:
            return _decoded(body, kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise AnswerFailed(f"The vendor's answer is cut off or of another kind: {error}.") from None

    async def _turn(self) -> None:
        """Wait until a request may be made: in turn, so that none are made at once after the process was held up."""
        clock = asyncio.get_running_loop().time
        async with self._turns:
            while (pause := self._next - clock()) > 0:  # noqa: ASYNC110 — the vendor may put it off meanwhile
                await asyncio.sleep(pause)
            self._next = clock() + self._every


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for *url*, looked up once: the library would do so for every request."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER:
            raise AnswerTooLong(f"The vendor's answer has more than {MAX_ANSWER} bytes.", is_worth_repeating=False)
    return b"".join(parts)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        covered = halves.covered(body)
        if covered == body:
            raise
        return msgspec.json.decode(covered, type=kind)


def _failure(answer: aiohttp.ClientResponse, secret: str) -> VendorUnavailable | VendorRefusal:
    status = answer.status
    if status in {401, 403}:
        hint = " The secret begins or ends with a blank." if secret != secret.strip() else ""
        return VendorRefusal(f"The vendor refuses the credentials (status {status}).{hint}")
    if status in {404, 410}:
        return VendorHasNone(f"The vendor has nothing under this path (status {status}).", is_worth_repeating=False)
    if status in {429, 503}:
        return VendorUnavailable(f"The vendor asks to be left alone (status {status}).", pause=_wish(answer))
    if status >= 500:
        return AnswerFailed(f"The vendor answers with status {status}.")
    kind = AnswerFailed if status >= 400 else VendorUnavailable
    return kind(f"The vendor answers with status {status}.", is_worth_repeating=status in {408, 425})


def _wish(answer: aiohttp.ClientResponse) -> float | None:
    """For how many seconds the vendor wants to be left alone, as it says."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit() and len(said) < 10:
        return min(float(said), LONGEST_WISH)
    try:
        until = email.utils.parsedate_to_datetime(said)
        # A date with -0000 is in UTC too, and says only that nobody knows where.
        pause = (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, pause), LONGEST_WISH)


def _reason(error: Exception) -> str:
    """What happened, without the address and what else might stand in the library's own words."""
    kinds = {
        TimeoutError: "it takes too long",
        aiohttp.ClientSSLError: "its certificate is not trusted, or no secure connection can be made",
        aiohttp.ClientConnectorError: "no connection can be made",
        aiohttp.ClientPayloadError: "what it sends is cut off or cannot be unpacked",
        aiohttp.ClientResponseError: "what it sends is no HTTP",
    }
    return next((text for kind, text in kinds.items() if isinstance(error, kind)), "the connection broke off")
