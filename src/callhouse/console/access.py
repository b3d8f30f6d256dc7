"""Who looks at the console: sign-ins, their cookie, and the token that every change carries.

The cookie holds a random token and its seal, so that a forged one is refused without asking the store. The store knows
a hash of the token. A sign-in takes a new token, so one that somebody planted before is worth nothing afterwards. What
a form sends with a change is another seal of the same token.
"""

import base64
import binascii
import hmac
import secrets
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.datastructures import Cookie

from callhouse.auth import Authenticator
from callhouse.errors import RequestError
from callhouse.model.account import Account
from callhouse.render import header
from callhouse.store import Store
from callhouse.store.accounts import KINDS, AccountError, Credential
from callhouse.store.sign_ins import LONGEST, SignIn

PATH = "/console"
COOKIE = "callhouse_console"
MAX_FORM = 64 * 1024

OF_ACCOUNT = "of_account"
"""The field in which a form, or a link to something that does not show its account, says whose it is."""

KNOWN_AS = "callhouse.visitor"
"""Where in the scope of a request the Visitor is who turned out to be signed in."""

_COOKIE_SEAL, _FORM_SEAL = "console cookie", "console form"
_CREDENTIAL, _OPERATOR = "console account", "console admin"


class SignInNeeded(RequestError):
    """Nobody is signed in, or no longer."""


class ForgedChange(RequestError):
    """A change that did not come from a page of the console."""


class OtherAccount(RequestError):
    """A page of one account asks for something while another one is shown, which was chosen in another window."""


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. *account* is whose calls are shown; an operator may not have chosen one yet."""

    token: bytes
    form_token: str
    is_new: bool
    sign_in: SignIn | None = None
    account: Account | None = None

    @property
    def is_operator(self) -> bool:
        return self.sign_in is not None and self.sign_in.is_operator


class Access:
    """Signs people in and out, and tells who they are. *admin_token* is an operator's, None where there is none."""

    def __init__(self, store: Store, authenticator: Authenticator, admin_token: str | None) -> None:
        self._store = store
        self._authenticator = authenticator
        self._admin_token = admin_token
        self.knows_operators = admin_token is not None

    async def visitor(self, request: Request[Any, Any, Any]) -> Visitor:
        """Who sent the request."""
        token = self._opened(request.cookies.get(COOKIE, ""))
        if token is None:
            return self._visitor(secrets.token_bytes(32), is_new=True)
        sign_in = await self._store.sign_ins.get(token)
        if sign_in is None:
            return self._visitor(token)
        account = await self._account(sign_in)
        if account is None and not (sign_in.is_operator and sign_in.fingerprint == self._operators_fingerprint()):
            return self._visitor(token)
        if account is not None:
            request.scope["callhouse.account"] = account.id  # type: ignore[typeddict-unknown-key]
        visitor = self._visitor(token, sign_in=sign_in, account=account)
        request.scope[KNOWN_AS] = visitor  # type: ignore[literal-required]
        return visitor

    def _visitor(self, token: bytes, *, is_new: bool = False, **known: Any) -> Visitor:
        form_token = self._store.accounts.seal(_FORM_SEAL, token).hex()
        return Visitor(token=token, form_token=form_token, is_new=is_new, **known)

    def renewed(self, visitor: Visitor, token: bytes) -> Visitor:
        """*visitor* under another token."""
        return self._visitor(token, sign_in=visitor.sign_in, account=visitor.account)

    async def signed_in(self, request: Request[Any, Any, Any]) -> tuple[Visitor, Account]:
        """Who sent the request, and whose calls they see. Raises SignInNeeded, or OtherAccount where the request says
        of which account the page is that it came from, and that is another one.
        """
        visitor = await self.visitor(request)
        if visitor.account is None:
            raise SignInNeeded
        of = header(request, b"x-account") or request.query_params.get(OF_ACCOUNT, "")
        if of and of != str(visitor.account.id):
            raise OtherAccount
        return visitor, visitor.account

    async def changing(self, request: Request[Any, Any, Any]) -> tuple[Visitor, dict[str, str]]:
        """Who sent a change, and its form. Raises ForgedChange unless a page of this console sent it."""
        visitor = await self.visitor(request)
        return visitor, await self._form(request, visitor)

    async def changing_account(self, request: Request[Any, Any, Any]) -> tuple[Visitor, Account, dict[str, str]]:
        """Who sent a change of an account, that account, and its form, which names the account that it was made for.

        Raises SignInNeeded, ForgedChange, or OtherAccount where that is not the one that is shown.
        """
        visitor, account = await self.signed_in(request)
        form = await self._form(request, visitor)
        if form.pop(OF_ACCOUNT, "") != str(account.id):
            raise OtherAccount
        return visitor, account, form

    async def _form(self, request: Request[Any, Any, Any], visitor: Visitor) -> dict[str, str]:
        body = await request.body()
        form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        sent = form.pop("form_token", "") or header(request, b"x-form-token")
        from_elsewhere = header(request, b"sec-fetch-site") not in {"", "same-origin"}
        if from_elsewhere or not hmac.compare_digest(sent.encode(), visitor.form_token.encode()):
            raise ForgedChange
        return form

    async def enter(self, request: Request[Any, Any, Any], name: str, secret: str) -> bytes:
        """Sign in with any credentials of an account; the new token.

        Raises NotAuthenticated, InactiveAccount or TooManyFailures.
        """
        credential = await self._authenticator.credential(request, name, secret)
        fingerprint = self._fingerprint(credential)
        return await self._put(account_id=credential.account.id, is_operator=False, fingerprint=fingerprint)

    async def enter_as_operator(self, request: Request[Any, Any, Any], secret: str) -> bytes:
        """Sign in with the admin token; the new token. Raises NotAuthenticated or TooManyFailures."""
        self._authenticator.check_token(request, secret, self._admin_token)
        accounts = await self._store.accounts.all()
        return await self._put(
            account_id=accounts[0].id if accounts else None,
            is_operator=True,
            fingerprint=self._operators_fingerprint(),
        )

    async def _put(self, **sign_in: Any) -> bytes:
        token = secrets.token_bytes(32)
        await self._store.sign_ins.put(token, **sign_in)
        return token

    async def _account(self, sign_in: SignIn) -> Account | None:
        """Whose calls the sign-in shows; None where what opened it opens nothing any more."""
        if sign_in.account_id is None:
            return None
        try:
            account = await self._store.accounts.get(sign_in.account_id)
        except AccountError:
            return None
        if sign_in.is_operator:
            return account if sign_in.fingerprint == self._operators_fingerprint() else None
        return account if account.active and await self._still_opens(account, sign_in.fingerprint) else None

    async def _still_opens(self, account: Account, fingerprint: bytes) -> bool:
        names = {"fuse": account.email, "dev": account.login, "plivo": account.auth_id}
        for kind in KINDS:
            name = names[kind]
            credential = await self._store.accounts.credential(kind, name) if name else None
            if credential is not None and self._fingerprint(credential) == fingerprint:
                return True
        return False

    def _fingerprint(self, credential: Credential) -> bytes:
        named = f"{credential.account.id} {credential.kind} {credential.hash}"
        return self._store.accounts.seal(_CREDENTIAL, named.encode())

    def _operators_fingerprint(self) -> bytes:
        return self._store.accounts.seal(_OPERATOR, (self._admin_token or "").encode())

    def _opened(self, cookie: str) -> bytes | None:
        """The token in *cookie*; None where its seal is not ours."""
        text, _, seal = cookie.partition(".")
        try:
            token = base64.urlsafe_b64decode(text.encode() + b"=")
        except (binascii.Error, ValueError):
            return None
        known = self._store.accounts.seal(_COOKIE_SEAL, token).hex()
        return token if len(token) == 32 and hmac.compare_digest(seal.encode(), known.encode()) else None

    def cookie(self, request: Request[Any, Any, Any], token: bytes) -> Cookie:
        """What lets a browser prove that it holds *token*."""
        text = base64.urlsafe_b64encode(token).decode().rstrip("=")
        return Cookie(
            key=COOKIE,
            value=f"{text}.{self._store.accounts.seal(_COOKIE_SEAL, token).hex()}",
            path=PATH,
            httponly=True,
            # Lax, so that a link to a call works from a mail; a change needs the token of the form as well.
            samesite="lax",
            secure=request.scope["scheme"] == "https",
            max_age=LONGEST // 1000,
        )


def access(request: Request[Any, Any, Any]) -> Access:
    found: Access = request.app.state.console
    return found
