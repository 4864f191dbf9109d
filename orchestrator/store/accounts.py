"""Rows of who may come in: the ports `Accounts`, `Sessions`, `SignIns`, `Tokens` and `Answers`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, insert, select, update

from orchestrator.accounts import Answer
from orchestrator.domain.access import Account, Permission, Session, Token
from orchestrator.domain.provider import SignIn
from orchestrator.store.dialect import insert_or_keep
from orchestrator.store.people import accounts, answers, sessions, sign_in_failures, sign_ins, tokens

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row


class AccountRows:
    """The port `Accounts` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, account: Account) -> bool:
        adding = insert_or_keep(self._connection, accounts).values(**_account_values(account))
        added = adding.on_conflict_do_nothing().returning(accounts.c.name)
        return self._connection.execute(added).first() is not None

    def save(self, account: Account) -> None:
        self._connection.execute(
            update(accounts).where(accounts.c.name == account.name).values(**_account_values(account))
        )

    def get(self, name: str) -> Account | None:
        row = self._connection.execute(select(accounts).where(accounts.c.name == name)).one_or_none()
        return _account(row) if row else None

    def of_subject(self, issuer: str, subject: str) -> Account | None:
        found = select(accounts).where(accounts.c.issuer == issuer, accounts.c.subject == subject)
        row = self._connection.execute(found.order_by(accounts.c.created_at).limit(1)).one_or_none()
        return _account(row) if row else None

    def all(self) -> list[Account]:
        return [_account(row) for row in self._connection.execute(select(accounts).order_by(accounts.c.name))]

    def note_failure(self, name: str, at: datetime) -> None:
        self._connection.execute(insert(sign_in_failures).values(name=name, at=at))

    def failures(self, name: str, since: datetime) -> int:
        counted = select(func.count()).where(sign_in_failures.c.name == name, sign_in_failures.c.at > since)
        return int(self._connection.execute(counted).scalar_one())

    def forget_failures(self, before: datetime) -> None:
        self._connection.execute(delete(sign_in_failures).where(sign_in_failures.c.at < before))


class SessionRows:
    """The port `Sessions` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, session: Session) -> None:
        self._connection.execute(insert(sessions).values(**asdict(session)))

    def save(self, session: Session) -> None:
        self._connection.execute(update(sessions).where(sessions.c.digest == session.digest).values(**asdict(session)))

    def get(self, digest: str) -> Session | None:
        row = self._connection.execute(select(sessions).where(sessions.c.digest == digest)).one_or_none()
        return Session(**row._mapping) if row else None  # noqa: SLF001

    def end(self, digest: str) -> None:
        self._connection.execute(delete(sessions).where(sessions.c.digest == digest))

    def end_all_of(self, account: str) -> None:
        self._connection.execute(delete(sessions).where(sessions.c.account == account))

    def forget(self, seen_before: datetime) -> None:
        self._connection.execute(delete(sessions).where(sessions.c.seen_at < seen_before))


class SignInRows:
    """The port `SignIns` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, sign_in: SignIn) -> None:
        self._connection.execute(insert(sign_ins).values(**asdict(sign_in)))

    def take(self, digest: str) -> SignIn | None:
        taken = delete(sign_ins).where(sign_ins.c.digest == digest).returning(*sign_ins.c)
        row = self._connection.execute(taken).one_or_none()
        return SignIn(**row._mapping) if row else None  # noqa: SLF001

    def forget(self, before: datetime) -> None:
        self._connection.execute(delete(sign_ins).where(sign_ins.c.begun_at < before))


class TokenRows:
    """The port `Tokens` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, token: Token) -> None:
        self._connection.execute(insert(tokens).values(**asdict(token)))

    def save(self, token: Token) -> None:
        self._connection.execute(update(tokens).where(tokens.c.id == token.id).values(**asdict(token)))

    def get(self, token_id: str) -> Token | None:
        row = self._connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
        return _token(row) if row else None

    def by_digest(self, digest: str) -> Token | None:
        row = self._connection.execute(select(tokens).where(tokens.c.digest == digest)).one_or_none()
        return _token(row) if row else None

    def of_account(self, account: str) -> list[Token]:
        found = select(tokens).where(tokens.c.account == account).order_by(tokens.c.created_at.desc(), tokens.c.id)
        return [_token(row) for row in self._connection.execute(found)]


class AnswerRows:
    """The port `Answers` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, account: str, key: str, request: str, at: datetime) -> Answer | None:
        adding = insert_or_keep(self._connection, answers).values(account=account, key=key, request=request, at=at)
        if self._connection.execute(adding.on_conflict_do_nothing().returning(answers.c.key)).first() is not None:
            return None
        known = select(answers.c.request, answers.c.at, answers.c.status, answers.c.body).where(
            answers.c.account == account, answers.c.key == key
        )
        return Answer(**self._connection.execute(known).one()._mapping)  # noqa: SLF001

    def finish(self, account: str, key: str, status: int, body: str) -> None:
        its = (answers.c.account == account, answers.c.key == key)
        self._connection.execute(update(answers).where(*its).values(status=status, body=body))

    def drop(self, account: str, key: str) -> None:
        self._connection.execute(delete(answers).where(answers.c.account == account, answers.c.key == key))

    def forget(self, before: datetime) -> None:
        self._connection.execute(delete(answers).where(answers.c.at < before))


def _account_values(account: Account) -> dict[str, Any]:
    return {**asdict(account), "sites": list(account.sites)}


def _account(row: Row[Any]) -> Account:
    return Account(**{**row._mapping, "sites": tuple(row.sites)})  # noqa: SLF001


def _token(row: Row[Any]) -> Token:
    return Token(**{**row._mapping, "scopes": tuple(Permission(scope) for scope in row.scopes)})  # noqa: SLF001
