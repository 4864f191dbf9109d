"""The identity provider over HTTP: OpenID Connect, authorization code flow with PKCE (RFC 7636) and a nonce."""

from __future__ import annotations

import json
import logging
import time
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar
from urllib.parse import quote_plus, urlencode, urlsplit

from orchestrator.domain.address import url_fault
from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.provider import claims_fault
from orchestrator.outgoing.idtoken import TokenError, UnknownKeyError, claims_of, keys_of
from orchestrator.outgoing.line import DEADLINE_S, ForbiddenError, Line, UnreachedError, addresses_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from joserfc.jwk import Key

    from orchestrator.accounts import Ticket
    from orchestrator.outgoing.line import Resolve

MOST_BYTES: Final = 256 * 1024
_KEPT_S: Final = 3600.0
_RENEWED_EVERY_S: Final = 60.0
_FAILED_FOR_S: Final = 10.0
_SCOPES: Final = ("openid", "profile", "email")
_BASIC: Final = "client_secret_basic"
_POST: Final = "client_secret_post"
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON: Final = {"Accept": "application/json"}
_log = logging.getLogger("tendon.provider")

Document = TypeVar("Document")


@dataclass(frozen=True, slots=True)
class Client:
    """What this installation is at the provider. `callback` is where the provider sends browsers back to."""

    issuer: str
    id: str
    secret: str
    callback: str
    groups_claim: str = "groups"
    acrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Metadata:
    """What is needed of the provider's metadata (OpenID Connect Discovery 1.0, 3)."""

    authorize: str
    token: str
    keys: str
    scope: str
    is_basic: bool


class _Kept(Generic[Document]):
    """A document that is fetched once an hour. One that could not be fetched is not asked for again at once."""

    def __init__(self, fetch: Callable[[], Document], monotonic: Callable[[], float]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = Lock()
        self._kept: tuple[float, Document] | None = None
        self._failed: tuple[float, Transient] | None = None

    def get(self, within_s: float = _KEPT_S) -> Document:
        """The document, not older than that. Raises Transient PROVIDER_FAILED."""
        with self._lock:
            now = self._monotonic()
            if self._kept is not None and now - self._kept[0] < within_s:
                return self._kept[1]
            if self._failed is not None and now - self._failed[0] < _FAILED_FOR_S:
                raise Transient(self._failed[1].fault, self._failed[1].detail)
            try:
                document = self._fetch()
            except Transient as failure:
                self._failed = (self._monotonic(), failure)
                raise
            self._kept, self._failed = (now, document), None
            return document


class OpenIdProvider:
    """The port `Provider`. What it answers is bounded, and never quoted: neither to people nor in the log.

    `trust` says which certificates are trusted; else those that this machine trusts are.
    """

    def __init__(
        self,
        client: Client,
        *,
        resolve: Resolve = addresses_of,
        trust: ssl.SSLContext | None = None,
        deadline_s: float = DEADLINE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._line = Line("the identity provider", resolve=resolve, trust=trust, deadline_s=deadline_s)
        self._metadata = _Kept(self._fetch_metadata, monotonic)
        self._keys = _Kept(self._fetch_keys, monotonic)

    @property
    def issuer(self) -> str:
        """The URL by which it is known."""
        return self._client.issuer

    def begin(self, ticket: Ticket, *, again: bool) -> str:
        """The URL that the browser goes to. Raises Transient PROVIDER_FAILED."""
        metadata = self._metadata.get()
        challenge = urlsafe_b64encode(sha256(ticket.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._client.id,
            "redirect_uri": self._client.callback,
            "scope": metadata.scope,
            "state": ticket.state,
            "nonce": ticket.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if self._client.acrs:
            asked["acr_values"] = " ".join(self._client.acrs)
        if again:
            asked.update(prompt="login", max_age="0")
        at = metadata.authorize
        return f"{at}{'&' if '?' in at else '?'}{urlencode(asked)}"

    def finish(self, code: str, *, nonce: str, verifier: str, now: datetime) -> Mapping[str, Any]:
        """The claims of the id token that the code is exchanged for. Raises Refused and Transient PROVIDER_FAILED."""
        token = self._exchanged(code, verifier).get("id_token")
        try:
            claims = self._claims(token)
        except TokenError as error:
            self._refuse(str(error))
        if fault := claims_fault(claims, issuer=self._client.issuer, client_id=self._client.id, nonce=nonce, now=now):
            self._refuse(f"the id token {fault}")
        return claims

    def _claims(self, token: object) -> Mapping[str, Any]:
        """With keys that are fetched anew where the token names another, but not more than once a minute."""
        try:
            return claims_of(token, self._keys.get())
        except UnknownKeyError:
            return claims_of(token, self._keys.get(_RENEWED_EVERY_S))

    def _exchanged(self, code: str, verifier: str) -> dict[str, Any]:
        """What the provider gives for the code."""
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._client.callback,
            "code_verifier": verifier,
        }
        headers, metadata = {**_JSON, **_FORM}, self._metadata.get()
        if metadata.is_basic:
            pair = f"{quote_plus(self._client.id)}:{quote_plus(self._client.secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            given.update(client_id=self._client.id, client_secret=self._client.secret)
        status, found = self._called("POST", metadata.token, headers, urlencode(given).encode())
        if status != HTTPStatus.OK:
            self._refuse(f"the identity provider answered the code with status {status}")
        return found

    def _fetch_metadata(self) -> _Metadata:
        issuer = self._client.issuer
        found = self._fetched(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            self._fail("the identity provider calls itself otherwise than TENDON_OIDC_ISSUER")
        methods = _texts(found.get("token_endpoint_auth_methods_supported")) or (_BASIC,)
        known = {*_texts(found.get("scopes_supported")), *_SCOPES}
        return _Metadata(
            authorize=self._address(found.get("authorization_endpoint")),
            token=self._address(found.get("token_endpoint")),
            keys=self._address(found.get("jwks_uri")),
            scope=" ".join(scope for scope in (*_SCOPES, self._client.groups_claim) if scope in known),
            is_basic=_BASIC in methods or _POST not in methods,
        )

    def _address(self, url: object) -> str:
        """An address of the metadata: by https, or at the provider itself where that is on this machine."""
        issuer = urlsplit(self._client.issuer)
        allowed = ("https://", f"{issuer.scheme}://{issuer.netloc}/")
        if not isinstance(url, str) or not url.startswith(allowed) or url_fault(url):
            self._fail("the metadata of the identity provider lack an address by https")
        return url

    def _fetch_keys(self) -> Sequence[Key]:
        return keys_of(self._fetched(self._metadata.get().keys))

    def _fetched(self, url: str) -> dict[str, Any]:
        status, found = self._called("GET", url, _JSON)
        if status != HTTPStatus.OK:
            self._fail(f"the identity provider answered with status {status}")
        return found

    def _called(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object; an empty one where the answer is none."""
        try:
            answer = self._line.call(method, url, headers=headers, body=body, most_bytes=MOST_BYTES)
        except (ForbiddenError, UnreachedError) as error:
            self._fail(str(error))
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._fail(f"the identity provider answered with status {answer.status}")
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            found = None
        return answer.status, found if isinstance(found, dict) else {}

    def _fail(self, reason: str) -> NoReturn:
        _log.warning("nobody can sign in by the identity provider: %s", reason)
        raise Transient(Fault.PROVIDER_FAILED, reason)

    def _refuse(self, reason: str) -> NoReturn:
        _log.warning("the identity provider did not sign somebody in: %s", reason)
        raise Refused(Fault.PROVIDER_FAILED, reason)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
