"""Ports for who may come in: accounts, sessions at browsers, tokens of programs, passwords, the identity provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.access import Account, Session, Token
    from orchestrator.domain.provider import SignIn


class Accounts(Protocol):
    """Who may sign in."""

    def add(self, account: Account) -> bool:
        """Keep a new account; False, and nothing is kept, where the name is taken."""

    def save(self, account: Account) -> None:
        """Keep an account as it is now."""

    def get(self, name: str) -> Account | None:
        """The account."""

    def of_subject(self, issuer: str, subject: str) -> Account | None:
        """The account of somebody whom an identity provider knows."""

    def all(self) -> list[Account]:
        """Accounts by name."""

    def note_failure(self, name: str, at: datetime) -> None:
        """Somebody failed to sign in under this name, whether there is such an account or not."""

    def failures(self, name: str, since: datetime) -> int:
        """How often that was, since then."""

    def forget_failures(self, before: datetime) -> None:
        """Forget those before then."""


class Sessions(Protocol):
    """Who is signed in at a browser."""

    def add(self, session: Session) -> None:
        """Open a session."""

    def save(self, session: Session) -> None:
        """Keep a session as it is now; nothing happens where it has been ended meanwhile."""

    def get(self, digest: str) -> Session | None:
        """The session."""

    def end(self, digest: str) -> None:
        """End it; harmless when it is not there."""

    def end_all_of(self, account: str) -> None:
        """End every session of an account."""

    def forget(self, seen_before: datetime) -> None:
        """Forget the sessions last seen before then."""


class Tokens(Protocol):
    """How programs come in."""

    def add(self, token: Token) -> None:
        """Keep a new token."""

    def save(self, token: Token) -> None:
        """Keep a token as it is now."""

    def get(self, token_id: str) -> Token | None:
        """The token of this id."""

    def by_digest(self, digest: str) -> Token | None:
        """The token whose text has this digest."""

    def of_account(self, account: str) -> list[Token]:
        """Tokens of an account, the newest first."""


class SignIns(Protocol):
    """What was begun at the identity provider."""

    def add(self, sign_in: SignIn) -> None:
        """Keep what is begun."""

    def take(self, digest: str) -> SignIn | None:
        """What was begun with this state, given out once: it is not kept any longer."""

    def forget(self, before: datetime) -> None:
        """Forget what was begun before then."""


class Answers(Protocol):
    """What was answered to requests that carry an idempotency key."""

    def begin(self, account: str, key: str, request: str, at: datetime) -> Answer | None:
        """The answer to the request with this key, or None where it is new: then it is at work from now on."""

    def finish(self, account: str, key: str, status: int, body: str) -> None:
        """Keep what was answered."""

    def drop(self, account: str, key: str) -> None:
        """The request came to nothing: it may be repeated."""

    def forget(self, before: datetime) -> None:
        """Forget what was asked before then."""


class People(Protocol):
    """Who may come in, within one transaction."""

    @property
    def accounts(self) -> Accounts:
        """Who may sign in."""

    @property
    def sessions(self) -> Sessions:
        """Who is signed in."""

    @property
    def sign_ins(self) -> SignIns:
        """What was begun at the identity provider."""

    @property
    def tokens(self) -> Tokens:
        """How programs come in."""

    @property
    def answers(self) -> Answers:
        """What was answered to requests that carry a key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was given to `request`; without a status it is still being worked on."""

    request: str
    at: datetime
    status: int | None = None
    body: str = ""


class Passwords(Protocol):
    """Turns passwords into what may be kept."""

    def hash(self, password: str) -> str:
        """A salted hash."""

    def verify(self, kept: str, password: str) -> bool:
        """Whether the hash is that of the password; takes as long where the hash is empty."""

    def weakness(self, password: str, name: str) -> str:
        """Why the password of this account would be guessed; empty where it would not."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is asked of the provider for one sign-in; all three are secrets that nobody guesses."""

    state: str
    nonce: str
    verifier: str


class Provider(Protocol):
    """The identity provider (OpenID Connect, authorization code flow with PKCE)."""

    @property
    def issuer(self) -> str:
        """The URL by which it is known."""

    def begin(self, ticket: Ticket, *, again: bool) -> str:
        """The URL that the browser goes to. With `again` the person has to show anew who he is.

        Raises Transient PROVIDER_FAILED.
        """

    def finish(self, code: str, *, nonce: str, verifier: str, now: datetime) -> Mapping[str, Any]:
        """The claims of the id token that the code is exchanged for, all checked.

        Raises Refused PROVIDER_FAILED where they are not right, Transient PROVIDER_FAILED where it does not answer.
        """
