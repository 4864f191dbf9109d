"""Who may come in, in memory: the ports `Accounts`, `Sessions`, `SignIns`, `Tokens` and `Answers`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.accounts import Answer

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.access import Account, Session, Token
    from orchestrator.domain.provider import SignIn
    from tests.fakes.state import State


class MemoryAccounts:
    """The port `Accounts` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add(self, account: Account) -> bool:
        is_new = account.name not in self._state.accounts
        self._state.accounts.setdefault(account.name, account)
        return is_new

    def save(self, account: Account) -> None:
        self._state.accounts[account.name] = account

    def get(self, name: str) -> Account | None:
        return self._state.accounts.get(name)

    def of_subject(self, issuer: str, subject: str) -> Account | None:
        found = (a for a in self._state.accounts.values() if (a.issuer, a.subject) == (issuer, subject))
        return min(found, key=lambda a: a.created_at, default=None)

    def all(self) -> list[Account]:
        return [self._state.accounts[name] for name in sorted(self._state.accounts)]

    def note_failure(self, name: str, at: datetime) -> None:
        self._state.sign_in_failures[max(self._state.sign_in_failures, default=0) + 1] = (name, at)

    def failures(self, name: str, since: datetime) -> int:
        return sum(whose == name and at > since for whose, at in self._state.sign_in_failures.values())

    def forget_failures(self, before: datetime) -> None:
        for number, (_, at) in list(self._state.sign_in_failures.items()):
            if at < before:
                del self._state.sign_in_failures[number]


class MemorySessions:
    """The port `Sessions` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add(self, session: Session) -> None:
        assert session.digest not in self._state.sessions
        self._state.sessions[session.digest] = session

    def save(self, session: Session) -> None:
        if session.digest in self._state.sessions:
            self._state.sessions[session.digest] = session

    def get(self, digest: str) -> Session | None:
        return self._state.sessions.get(digest)

    def end(self, digest: str) -> None:
        self._state.sessions.pop(digest, None)

    def end_all_of(self, account: str) -> None:
        self._drop(lambda session: session.account == account)

    def forget(self, seen_before: datetime) -> None:
        self._drop(lambda session: session.seen_at < seen_before)

    def _drop(self, is_to_go) -> None:
        for digest, session in list(self._state.sessions.items()):
            if is_to_go(session):
                del self._state.sessions[digest]


class MemorySignIns:
    """The port `SignIns` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add(self, sign_in: SignIn) -> None:
        assert sign_in.digest not in self._state.sign_ins
        self._state.sign_ins[sign_in.digest] = sign_in

    def take(self, digest: str) -> SignIn | None:
        return self._state.sign_ins.pop(digest, None)

    def forget(self, before: datetime) -> None:
        for digest, sign_in in list(self._state.sign_ins.items()):
            if sign_in.begun_at < before:
                del self._state.sign_ins[digest]


class MemoryTokens:
    """The port `Tokens` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add(self, token: Token) -> None:
        assert token.id not in self._state.tokens
        self._state.tokens[token.id] = token

    def save(self, token: Token) -> None:
        self._state.tokens[token.id] = token

    def get(self, token_id: str) -> Token | None:
        return self._state.tokens.get(token_id)

    def by_digest(self, digest: str) -> Token | None:
        return next((token for token in self._state.tokens.values() if token.digest == digest), None)

    def of_account(self, account: str) -> list[Token]:
        found = [token for token in self._state.tokens.values() if token.account == account]
        return sorted(sorted(found, key=lambda t: t.id), key=lambda t: t.created_at, reverse=True)


class MemoryAnswers:
    """The port `Answers` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def begin(self, account: str, key: str, request: str, at: datetime) -> Answer | None:
        known = self._state.answers.get((account, key))
        self._state.answers.setdefault((account, key), Answer(request, at))
        return known

    def finish(self, account: str, key: str, status: int, body: str) -> None:
        self._state.answers[account, key] = replace(self._state.answers[account, key], status=status, body=body)

    def drop(self, account: str, key: str) -> None:
        self._state.answers.pop((account, key), None)

    def forget(self, before: datetime) -> None:
        for key, answer in list(self._state.answers.items()):
            if answer.at < before:
                del self._state.answers[key]
