"""Accounts and their credentials. Secrets leave the store once, when they are made; it keeps only their hashes."""

import hashlib
import hmac
import secrets
import string
from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import argon2
import msgspec

from callhouse.errors import CallhouseError
from callhouse.model.account import Account, Plan, Retention, RetentionOverride
from callhouse.model.instant import parse_duration
from callhouse.store.engine import Engine, Reader, Row, Transaction

T = TypeVar("T")
CredentialKind = Literal["fuse", "dev", "plivo"]
KINDS: tuple[CredentialKind, ...] = get_args(CredentialKind)

_ALPHABET = string.ascii_letters + string.digits
_AUTH_ID_ALPHABET = string.ascii_uppercase + string.digits

_COLUMNS = """
id, email, login, auth_id, plan, active, timezone, parent_id, created,
retention_details, retention_sessions, retention_plivo
"""
_LIST = f"SELECT {_COLUMNS} FROM accounts ORDER BY id"  # noqa: S608
_IDS = "SELECT id FROM accounts ORDER BY id"
_GET = f"SELECT {_COLUMNS} FROM accounts WHERE id = :id"  # noqa: S608
_SUBACCOUNTS = f"SELECT {_COLUMNS} FROM accounts WHERE parent_id = :id ORDER BY id"  # noqa: S608
_INSERT = """
INSERT INTO accounts (email, login, auth_id, plan, active, timezone, parent_id, created)
VALUES (:email, :login, :auth_id, :plan, 1, :timezone, :parent_id, :created) RETURNING id
"""
_SET_ACTIVE = "UPDATE accounts SET active = :active WHERE id = :id"
_SET_RETENTION = """
UPDATE accounts SET retention_details = :details, retention_sessions = :sessions, retention_plivo = :plivo
WHERE id = :id
"""
_SET_TIMEZONE = "UPDATE accounts SET timezone = :timezone WHERE id = :id"
_SET_LOGIN = "UPDATE accounts SET login = :login WHERE id = :id"
_TAKEN = "SELECT 1 FROM credentials WHERE kind = :kind AND name = :name AND account_id <> :account_id"
_DROP_LOGIN = "DELETE FROM credentials WHERE kind = 'dev' AND account_id = :account_id"
_PUT_CREDENTIAL = """
INSERT INTO credentials (kind, name, account_id, hash) VALUES (:kind, :name, :account_id, :hash)
ON CONFLICT (kind, name) DO UPDATE SET hash = excluded.hash
"""
_CREDENTIAL = "SELECT hash, account_id FROM credentials WHERE kind = :kind AND name = :name"
_META = "SELECT value FROM meta WHERE name = :name"
_VERSION = {"name": "accounts_version"}
_NEW_VERSION = """
INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_PUT_META = "INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING"

slow_hasher = argon2.PasswordHasher()


class AccountError(CallhouseError):
    """An account that cannot be made or found; the message is for the operator."""


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets of an account in the clear, for showing once. None for an API that the account does not use."""

    developer_key: str
    password: str | None
    auth_token: str


class Credential(msgspec.Struct, frozen=True):
    """What is stored of a credential: the account it opens, the hash of its secret, its kind and name."""

    account: Account
    hash: str
    kind: CredentialKind
    name: str


def is_slow(stored: str) -> bool:
    """Whether checking the hash takes a deliberate tenth of a second, because a person may have chosen the secret."""
    return stored.startswith("$argon2")


class Accounts:
    """The accounts of a store. *retention* is the server's, for accounts that wish nothing else."""

    def __init__(self, engine: Engine, retention: Retention, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._retention = retention
        self._clock = clock
        self._key = b""

    async def create(
        self, *, email: str, login: str | None, plan: Plan, timezone: str, parent_id: int | None
    ) -> tuple[Account, Secrets]:
        """Make an account and its secrets. Raises AccountError when a name is taken or the parent is unknown."""
        new = _new_secrets(login)
        hashes = self._hashes(new)
        prefix = "MA" if parent_id is None else "SA"
        auth_id = prefix + "".join(secrets.choice(_AUTH_ID_ALPHABET) for _ in range(18))
        names = {"fuse": email.lower(), "dev": login, "plivo": auth_id}

        def work(tx: Transaction) -> int:
            if parent_id is not None:
                parent = tx.rows(_GET, {"id": parent_id})
                if not parent:
                    raise AccountError(f"There is no account {parent_id} to be the parent.")
                if _account(parent[0], self._retention).parent_id is not None:
                    raise AccountError(f"Account {parent_id} is itself a subaccount and cannot be a parent.")
            for kind, name in names.items():
                _check_free(tx, kind, name, account_id=0)
            row = {
                "email": email,
                "login": login,
                "auth_id": auth_id,
                "plan": plan,
                "timezone": timezone,
                "parent_id": parent_id,
                "created": self._clock(),
            }
            [(account_id,)] = tx.each(_INSERT, [row])
            tx.each(_PUT_CREDENTIAL, _credential_rows(account_id, names, hashes))
            return int(account_id)

        return await self.get(await self._write(work)), new

    async def rotate(self, account_id: int) -> tuple[Account, Secrets]:
        """Replace all secrets of an account at once. Raises AccountError for an unknown id."""
        account = await self.get(account_id)
        new = _new_secrets(account.login)
        hashes = self._hashes(new)
        names = {"fuse": account.email.lower(), "dev": account.login, "plivo": account.auth_id}
        await self._write(lambda tx: tx.each(_PUT_CREDENTIAL, _credential_rows(account_id, names, hashes)))
        return account, new

    async def set_password(self, account_id: int, password: str, login: str | None = None) -> Account:
        """Let an account in to the DEV API with a password of its owner's choice, and a *login* if it has none.

        Another *login* replaces the one it has. Raises AccountError for an unknown id, without any login, and when the
        login is taken.
        """
        login = login or (await self.get(account_id)).login
        if login is None:
            raise AccountError(f"Account {account_id} has no login yet; choose one with --login.")
        row = {"kind": "dev", "name": login, "account_id": account_id, "hash": slow_hasher.hash(password)}

        def work(tx: Transaction) -> None:
            _check_free(tx, "dev", login, account_id)
            tx.each(_DROP_LOGIN, [{"account_id": account_id}])
            tx.each(_SET_LOGIN, [{"id": account_id, "login": login}])
            tx.each(_PUT_CREDENTIAL, [row])

        await self._write(work)
        return await self.get(account_id)

    async def all(self) -> list[Account]:
        rows = await self._engine.quick(lambda reader: reader.rows(_LIST, {}))
        return [_account(row, self._retention) for row in rows]

    async def get(self, account_id: int) -> Account:
        """Raises AccountError for an unknown id."""
        rows = await self._engine.quick(lambda reader: reader.rows(_GET, {"id": account_id}))
        if not rows:
            raise AccountError(f"There is no account {account_id}; `callhouse accounts list` shows those there are.")
        return _account(rows[0], self._retention)

    async def subaccounts(self, account_id: int) -> list[Account]:
        """The accounts whose parent it is."""
        rows = await self._engine.quick(lambda reader: reader.rows(_SUBACCOUNTS, {"id": account_id}))
        return [_account(row, self._retention) for row in rows]

    async def set_active(self, account_id: int, *, active: bool) -> Account:
        """Switch an account on or off. Raises AccountError for an unknown id."""
        await self.get(account_id)
        await self._write(lambda tx: tx.each(_SET_ACTIVE, [{"id": account_id, "active": int(active)}]))
        return await self.get(account_id)

    async def change(self, account_id: int, *, timezone: str | None, retention: RetentionOverride | None) -> Account:
        """Set what is not None. Raises AccountError for an unknown id."""
        await self.get(account_id)

        def work(tx: Transaction) -> None:
            if timezone is not None:
                tx.each(_SET_TIMEZONE, [{"id": account_id, "timezone": timezone}])
            if retention is not None:
                tx.each(_SET_RETENTION, [{"id": account_id, **msgspec.structs.asdict(retention)}])

        await self._write(work)
        return await self.get(account_id)

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        def and_tell(tx: Transaction) -> T:
            tx.each(_NEW_VERSION, [{**_VERSION, "value": secrets.token_bytes(8)}])
            return work(tx)

        return await self._engine.write(and_tell)

    async def version(self) -> bytes:
        """Other bytes after every change to any account, in whichever process it was made."""
        rows = await self._engine.quick(lambda reader: reader.rows(_META, _VERSION))
        return bytes(rows[0][0]) if rows else b""

    async def credential(self, kind: CredentialKind, name: str) -> Credential | None:
        """The credential of that name; fuse's names are e-mail addresses, whose case does not matter."""
        key = {"kind": kind, "name": name.lower() if kind == "fuse" else name}

        def work(reader: Reader) -> Credential | None:
            found = reader.rows(_CREDENTIAL, key)
            if not found:
                return None
            stored, account_id = found[0]
            [account] = reader.rows(_GET, {"id": account_id})
            return Credential(_account(account, self._retention), stored, kind, key["name"])

        return await self._engine.quick(work)

    def matches_fast(self, stored: str, secret: str) -> bool:
        """Whether *secret* is the generated one whose hash is *stored*, in constant time."""
        return hmac.compare_digest(stored, self._fast_hash(secret))

    def _fast_hash(self, secret: str) -> str:
        return hashlib.blake2b(secret.encode(), key=self._key, digest_size=32).hexdigest()

    def seal(self, purpose: str, content: bytes) -> bytes:
        """What nobody but a server of this store can make of *content*, and no other *purpose* makes of it."""
        return hashlib.blake2b(content, key=self._key, digest_size=32, person=purpose.encode()).digest()

    def _hashes(self, new: Secrets) -> dict[str, str | None]:
        return {
            "fuse": self._fast_hash(new.developer_key),
            "dev": None if new.password is None else slow_hasher.hash(new.password),
            "plivo": self._fast_hash(new.auth_token),
        }

    async def load_key(self) -> None:
        """Make or read the key of the fast hash; it lies in the store so that a backup is whole."""

        def find(reader: Reader) -> bytes | None:
            rows = reader.rows(_META, {"name": "credential_key"})
            return bytes(rows[0][0]) if rows else None

        def make(tx: Transaction) -> bytes:
            tx.each(_PUT_META, [{"name": "credential_key", "value": secrets.token_bytes(32)}])
            return bytes(tx.rows(_META, {"name": "credential_key"})[0][0])

        known = await self._engine.quick(find)
        self._key = known if known is not None else await self._engine.write(make)


def ids(reader: Reader) -> list[int]:
    """All accounts there are. What is asked of all calls is asked of one account after the other, as each may lie on
    another server.
    """
    return [account_id for (account_id,) in reader.rows(_IDS, {})]


def _check_free(tx: Transaction, kind: str, name: str | None, account_id: int) -> None:
    if name is not None and tx.rows(_TAKEN, {"kind": kind, "name": name, "account_id": account_id}):
        raise AccountError(f"{name} is taken by another account.")


def _new_secrets(login: str | None) -> Secrets:
    def random(length: int) -> str:
        return "".join(secrets.choice(_ALPHABET) for _ in range(length))

    return Secrets(developer_key=random(32), password=None if login is None else random(20), auth_token=random(40))


def _credential_rows(
    account_id: int, names: dict[str, str | None], hashes: dict[str, str | None]
) -> list[dict[str, str | int | None]]:
    return [
        {"kind": kind, "name": name, "account_id": account_id, "hash": hashes[kind]}
        for kind, name in names.items()
        if name is not None
    ]


def _account(row: Row, server: Retention) -> Account:
    details, sessions, plivo = row[9:12]
    retention = Retention(
        details=server.details if details is None else parse_duration(details),
        sessions=server.sessions if sessions is None else parse_duration(sessions),
        plivo=server.plivo if plivo is None else parse_duration(plivo),
        quarantine=server.quarantine,
    )
    return Account(
        id=row[0],
        email=row[1],
        login=row[2],
        auth_id=row[3],
        plan=row[4],
        active=bool(row[5]),
        timezone=row[6],
        parent_id=row[7],
        created=row[8],
        retention=retention,
        override=RetentionOverride(details=details, sessions=sessions, plivo=plivo),
    )
