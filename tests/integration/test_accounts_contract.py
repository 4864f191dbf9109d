"""What the ports `Accounts`, `Sessions`, `SignIns`, `Tokens` and `Passwords` promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.access import Account, Permission, Session, Token
from orchestrator.domain.provider import SignIn
from orchestrator.passwords import Argon2Passwords
from tests.fakes.passwords import PlainPasswords
from tests.rows import after
from tests.strategies import START

ANN = Account(name="ann", role="admin", created_at=START, password="hash")
BOB = Account(
    name="bob",
    role="viewer",
    created_at=after(1),
    sites=("north", "south"),
    provisional_until=after(60),
    is_disabled=True,
    issuer="https://id.example",
    subject="4711",
)
SESSION = Session(digest="d1", account="ann", csrf="c", created_at=START, seen_at=START, confirmed_at=START)
TOKEN = Token(
    id="t1",
    account="ann",
    label="export",
    scopes=(Permission.STUDIES_READ, Permission.JOBS_ACT),
    digest="e1",
    created_at=START,
    expires_at=after(60),
)


def test_accounts_are_read_as_they_were_kept(store):
    with store.records.transaction() as unit:
        assert unit.accounts.add(BOB)
        assert unit.accounts.add(ANN)
        assert not unit.accounts.add(replace(ANN, role="viewer"))
    with store.reopened().reading() as unit:
        assert unit.accounts.all() == [ANN, BOB]
        assert unit.accounts.get("bob") == BOB
        assert unit.accounts.get("BOB") is None
        assert unit.accounts.of_subject("https://id.example", "4711") == BOB
        assert unit.accounts.of_subject("https://other.example", "4711") is None
    with store.records.transaction() as unit:
        unit.accounts.save(replace(BOB, sites=(), provisional_until=None))
    with store.reopened().reading() as unit:
        assert unit.accounts.get("bob") == replace(BOB, sites=(), provisional_until=None)


def test_failures_are_counted_by_name_and_forgotten(records):
    with records.transaction() as unit:
        for name, second in (("ann", 0), ("ann", 10), ("bob", 10), ("nobody", 5)):
            unit.accounts.note_failure(name, after(second))
    with records.transaction() as unit:
        assert [unit.accounts.failures(name, after(-1)) for name in ("ann", "bob", "nobody", "x")] == [2, 1, 1, 0]
        assert unit.accounts.failures("ann", START) == 1
        unit.accounts.forget_failures(after(10))
        assert [unit.accounts.failures(name, after(-1)) for name in ("ann", "nobody")] == [1, 0]


def test_sessions_are_kept_until_they_end(store):
    second, third = replace(SESSION, digest="d2"), replace(SESSION, digest="d3", account="bob", seen_at=after(5))
    with store.records.transaction() as unit:
        for session in (SESSION, second, third):
            unit.sessions.add(session)
    changed = replace(SESSION, seen_at=after(9), confirmed_at=after(8), emergency_until=after(99))
    with store.records.transaction() as unit:
        unit.sessions.save(changed)
        unit.sessions.end("d2")
        unit.sessions.end("d2")
        unit.sessions.save(second)
    with store.reopened().reading() as unit:
        assert [unit.sessions.get(digest) for digest in ("d1", "d2", "d3")] == [changed, None, third]
    with store.records.transaction() as unit:
        unit.sessions.forget(after(5))
        assert unit.sessions.get("d3") == third
        unit.sessions.forget(after(6))
        assert unit.sessions.get("d3") is None
        unit.sessions.end_all_of("ann")
        assert unit.sessions.get("d1") is None


def test_what_was_begun_at_the_provider_is_given_out_once(store):
    first = SignIn(digest="d1", browser="b", nonce="n", verifier="v", page="/studies?q=x", begun_at=after(1))
    second = replace(first, digest="d2", session="s", begun_at=after(2))
    with store.records.transaction() as unit:
        unit.sign_ins.add(first)
        unit.sign_ins.add(second)
    with store.reopened().transaction() as unit:
        assert unit.sign_ins.take("d2") == second
    with store.reopened().transaction() as unit:
        assert unit.sign_ins.take("d2") is None
        assert unit.sign_ins.take("d3") is None
        unit.sign_ins.forget(after(1))
        unit.sign_ins.add(second)
        assert unit.sign_ins.take("d1") == first
        unit.sign_ins.forget(after(3))
        assert unit.sign_ins.take("d2") is None


def test_tokens_are_found_by_id_digest_and_account(store):
    newer = replace(TOKEN, id="t2", digest="e2", created_at=after(1))
    with store.records.transaction() as unit:
        unit.tokens.add(TOKEN)
        unit.tokens.add(newer)
        unit.tokens.add(replace(TOKEN, id="t3", digest="e3", account="bob"))
    used = replace(TOKEN, used_at=after(2), revoked_at=after(3))
    with store.records.transaction() as unit:
        unit.tokens.save(used)
    with store.reopened().reading() as unit:
        assert unit.tokens.get("t1") == unit.tokens.by_digest("e1") == used
        assert unit.tokens.get("x") is unit.tokens.by_digest("x") is None
        assert unit.tokens.of_account("ann") == [newer, used]


@pytest.mark.parametrize("passwords", [PlainPasswords(), Argon2Passwords()], ids=["fake", "argon2"])
def test_a_hash_is_that_of_its_password_alone(passwords):
    kept = passwords.hash("four words of chance")
    assert passwords.verify(kept, "four words of chance")
    assert not passwords.verify(kept, "four words of Chance")
    assert not passwords.verify("", "")
    assert not passwords.verify("no hash", "four words of chance")
    assert passwords.weakness("short", "ann")
    assert not passwords.weakness("four words of chance", "ann")


def test_argon2_salts_and_refuses_what_is_guessed_first():
    passwords = Argon2Passwords()
    assert passwords.hash("x") != passwords.hash("x")
    for password in ("password123", "12345678", "annannann", "tendontendon", "x" * 257):
        assert passwords.weakness(password, "ann"), password
    assert not passwords.weakness("correct-horse", "ann")
