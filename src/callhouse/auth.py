"""Credentials → Account."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import argon2
from litestar import Request

from callhouse.errors import InactiveAccount, NotAuthenticated, TooManyFailures
from callhouse.model.account import Account
from callhouse.observability import AUTH_FAILURES
from callhouse.render import header
from callhouse.store import Store
from callhouse.store.accounts import KINDS, Credential, CredentialKind, is_slow, slow_hasher

FREE_FAILURES = 10
"""Wrong credentials that an address may send in a row before it is slowed down."""

SECONDS_A_FAILURE = 6.0
"""How long it takes until an address is forgiven one failure."""

HASHING_THREADS = 2

VERDICT_SECONDS = 60.0
"""How long a password that a person chose is taken for right without hashing it again."""

KNOWN_SECONDS = 24 * 3600.0
"""How long a password that was right is still hashed for an address that is being slowed down."""

REMEMBERED = 10_000
"""Addresses, and verdicts, kept in memory."""

_DECOY = (
    f"$argon2id$v={argon2.low_level.ARGON2_VERSION}"
    f"$m={slow_hasher.memory_cost},t={slow_hasher.time_cost},p={slow_hasher.parallelism}${'A' * 22}${'A' * 43}"
)
"""The hash of no password: to find that out takes as long as with any other."""


class Throttle:
    """Counts the wrong credentials of each address; an address is forgiven one every SECONDS_A_FAILURE.

    It is addresses that are slowed down, never accounts, so nobody can lock an owner out from elsewhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Seconds until *address* may fail again; 0 when it may now."""
        failures = self._count(_network(address)) if self._failures else 0
        if failures < FREE_FAILURES:
            return 0
        return max(1, round((failures - FREE_FAILURES + 1) * SECONDS_A_FAILURE))

    def forgive(self, address: str) -> None:
        """Take one failure back."""
        network = _network(address)
        self._failures[network] = (max(0.0, self._count(network) - 1), self._clock())

    def failed(self, address: str) -> None:
        """Note a failure. They stop adding up a little above the limit, so the wait stays short."""
        network = _network(address)
        self._failures[network] = (min(self._count(network) + 1, FREE_FAILURES + 5), self._clock())
        self._failures.move_to_end(network)
        if len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def _count(self, network: str) -> float:
        failures, at = self._failures.get(network, (0.0, 0.0))
        return max(0.0, failures - (self._clock() - at) / SECONDS_A_FAILURE)


def _network(address: str) -> str:
    """The address, or for IPv6 the /64 that one customer usually has to himself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


class Authenticator:
    """Finds the account behind HTTP Basic credentials.

    A generated key is hashed, which is quick, when it was not seen since any account changed; a password that people
    choose is hashed with argon2 once a minute. A slowed-down address still gets in with a right generated key, which
    cannot be guessed, or with a password that was right within a day: the failures of others cost an owner nothing.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts = store.accounts
        self._clock = clock
        self._throttle = Throttle(clock)
        # What is remembered of secrets are hashes that are worth nothing outside this process.
        self._key = secrets.token_bytes(32)
        self._version = b""
        self._owners: dict[bytes, Account] = {}
        self._verdicts: OrderedDict[bytes, float] = OrderedDict()
        # Hashing is slow on purpose; who guesses must not keep the threads busy that others need.
        self._hashing = ThreadPoolExecutor(HASHING_THREADS, "argon2")
        self._under_way: dict[bytes, asyncio.Future[bool]] = {}

    async def account(self, request: Request[Any, Any, Any], kinds: Collection[CredentialKind]) -> Account:
        """The active account whose credential of one of *kinds* the request carries.

        Raises NotAuthenticated, InactiveAccount or TooManyFailures.
        """
        # The vendor's own page names the header Authentication, so some scripts send that.
        authorization = header(request, b"authorization") or header(request, b"authentication")
        key = self._hash(f"{kinds} {authorization}")
        version = await self._accounts.version()
        if version != self._version or len(self._owners) > REMEMBERED:
            self._version, self._owners = version, {}
        account = self._owners.get(key)
        if account is None:
            account, slow = await self._checked(request, authorization, kinds)
            # Meanwhile somebody may have seen that an account changed.
            if not slow and version == self._version:
                self._owners[key] = account
        if not account.active:
            raise InactiveAccount
        request.scope["callhouse.account"] = account.id  # type: ignore[typeddict-unknown-key]
        return account

    async def _checked(
        self, request: Request[Any, Any, Any], authorization: str, kinds: Collection[CredentialKind]
    ) -> tuple[Account, bool]:
        """The account, and whether its secret is one that people choose."""
        parsed = parse_basic(authorization)
        if parsed is None:
            # No guess: the answer asks for credentials, which some clients wait for, however others guessed from here.
            AUTH_FAILURES.inc()
            raise NotAuthenticated
        found = await self._find(*parsed, kinds, _address(request))
        if found is None:
            raise self._failure(_address(request))
        return found.account, is_slow(found.hash)

    async def credential(self, request: Request[Any, Any, Any], name: str, secret: str) -> Credential:
        """The credential of an active account, of whichever kind, of that *name* and *secret*.

        Raises NotAuthenticated, InactiveAccount or TooManyFailures.
        """
        found = await self._find(name, secret, KINDS, _address(request))
        if found is None:
            raise self._failure(_address(request))
        if not found.account.active:
            raise InactiveAccount
        return found

    def check_token(self, request: Request[Any, Any, Any], secret: str, expected: str | None) -> None:
        """Raise NotAuthenticated or TooManyFailures unless *secret* is what is *expected*; None is nobody's secret."""
        # Of hashes, so that neither length nor content shows in the time it takes.
        if expected is None or not hmac.compare_digest(self._hash(secret), self._hash(expected)):
            raise self._failure(_address(request))

    def _failure(self, address: str) -> NotAuthenticated | TooManyFailures:
        """Count a wrong secret of *address*; what to tell it."""
        AUTH_FAILURES.inc()
        if wait := self._throttle.wait(address):
            return TooManyFailures(wait)
        self._throttle.failed(address)
        return NotAuthenticated()

    async def _find(self, name: str, secret: str, kinds: Collection[CredentialKind], address: str) -> Credential | None:
        for kind in kinds:
            credential = await self._accounts.credential(kind, name)
            # An unknown name costs what a known one costs, so that time does not tell them apart.
            stored = credential.hash if credential else _DECOY if kind == "dev" else ""
            if is_slow(stored):
                right = await self._matches_slow(stored, secret, address)
            else:
                right = self._accounts.matches_fast(stored, secret)
            if right and credential is not None:
                # Only wrong credentials take the time of every kind.
                return credential
        return None

    async def _matches_slow(self, stored: str, secret: str, address: str) -> bool:
        # The stored hash is part of what is hashed: a changed password is checked anew at once.
        key = self._hash(f"{stored} {secret}")
        age = self._clock() - self._verdicts.get(key, -math.inf)
        if age < VERDICT_SECONDS:
            return True
        under_way = self._under_way.get(key)
        if under_way is None:
            if self._throttle.wait(address) and age > KNOWN_SECONDS:
                return False
            # Taken for a failure until it proves right, lest many guesses be made while the first is checked.
            self._throttle.failed(address)
            run = asyncio.get_running_loop().run_in_executor
            under_way = self._under_way[key] = run(self._hashing, _verify, stored, secret)
            under_way.add_done_callback(lambda _: self._under_way.pop(key))
            right = await asyncio.shield(under_way)
            self._throttle.forgive(address)
            if right:
                self._remember(key)
            return right
        return await asyncio.shield(under_way)

    def _remember(self, key: bytes) -> None:
        self._verdicts[key] = self._clock()
        self._verdicts.move_to_end(key)
        if len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)

    def _hash(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=32).digest()


async def authenticate(request: Request[Any, Any, Any], *kinds: CredentialKind) -> Account:
    """The account whose credential of one of *kinds* the request carries; raises what Authenticator.account does."""
    authenticator: Authenticator = request.app.state.authenticator
    return await authenticator.account(request, kinds)


def _address(request: Request[Any, Any, Any]) -> str:
    return request.client.host if request.client else ""


def _verify(stored: str, secret: str) -> bool:
    try:
        return slow_hasher.verify(stored, secret)
    except argon2.exceptions.VerificationError:
        return False


def parse_basic(authorization: str | None) -> tuple[str, str] | None:
    """The user name and password of a Basic Authorization header; None when it is missing or malformed."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, secret) if colon else None
