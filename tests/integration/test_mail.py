"""E-mail over real connections to a mail server."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest

from orchestrator.domain.errors import Refused, Transient
from orchestrator.domain.notice import Happening, Notice, Posting, fields_of
from orchestrator.outgoing.mail import Mail
from tests.rows import after
from tests.servers.certificates import vouched
from tests.servers.mail import LOOPBACK, mail_server

TWO = Notice(
    "mail", "email", ("job.failed",), to=("a@b.example", "c@d.example"), template="{event}: {reason}\n\n{id}\n"
)


def fields(reason: str = "it died") -> dict[str, str]:
    happening = Happening(event="job.failed", at=after(0), reason=reason)
    return fields_of(Posting(number=1, notice="mail", happening=happening, due_at=after(0)), "north")


@pytest.fixture
def certificate(tmp_path):
    return vouched(tmp_path, "localhost", LOOPBACK)


def test_one_mail_goes_to_all_mailboxes_and_is_the_same_when_it_is_sent_again():
    with mail_server() as server:
        mail = Mail(f"smtp://{LOOPBACK}:{server.port}", "tendon@hospital.example")
        for _ in range(2):
            mail.send(TWO, fields("Größe 3"), after(7))
    assert server.mails[0] == server.mails[1]
    sender, recipients, data = server.mails[0]
    assert (sender, recipients) == ("tendon@hospital.example", ["a@b.example", "c@d.example"])
    message = message_from_bytes(data, policy=policy.default)
    assert message["Subject"] == "job.failed: Größe 3"
    assert message["From"] == "Tendon <tendon@hospital.example>"
    assert message["To"] == "a@b.example, c@d.example"
    assert message["Date"].datetime == after(7)
    assert message["Message-ID"] == f"<{fields('Größe 3')['id']}@hospital.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().strip() == fields("Größe 3")["id"]


@pytest.mark.parametrize(
    "reason", ["a\r\nBcc: e@f.example\r\n\r\nb", "a\nSubject: b", "\r\n.\r\nMAIL FROM:<e@f>", "\x0bBcc: e@f"]
)
def test_no_reason_makes_a_header_or_another_mail(reason):
    with mail_server() as server:
        Mail(f"smtp://{LOOPBACK}:{server.port}", "tendon@hospital.example").send(TWO, fields(reason), after(7))
    ((_, recipients, data),) = server.mails
    message = message_from_bytes(data, policy=policy.default)
    assert recipients == ["a@b.example", "c@d.example"]
    assert message.keys().count("Subject") == 1
    assert "Bcc" not in message


def test_the_mail_is_encrypted_where_the_server_offers_it(certificate):
    with mail_server(certificate.server) as server:
        url = f"smtp://ann:p%40ss@localhost:{server.port}"
        Mail(url, "tendon@hospital.example", trust=certificate.client).send(TWO, fields(), after(7))
    assert server.is_encrypted == [True]
    assert server.logins == [b"\0ann\0p@ss"]


def test_the_mail_is_encrypted_from_the_first_byte_with_smtps(certificate):
    with mail_server(certificate.server, at_once=True) as server:
        url = f"smtps://ann:secret@localhost:{server.port}"
        Mail(url, "tendon@hospital.example", trust=certificate.client).send(TWO, fields(), after(7))
    assert server.is_encrypted == [True]
    assert server.logins == [b"\0ann\0secret"]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_mail_server_that_cannot_prove_its_name_gets_neither_mail_nor_password(certificate, tmp_path, at_once):
    (tmp_path / "other").mkdir()
    other = vouched(tmp_path / "other", "elsewhere.example")
    with mail_server(other.server, at_once=at_once) as server:
        scheme = "smtps" if at_once else "smtp"
        for trust in (other.client, certificate.client):
            with pytest.raises(Transient, match="not trusted"):
                Mail(f"{scheme}://ann:secret@localhost:{server.port}", "a@b.example", trust=trust).send(
                    TWO, fields(), after(7)
                )
    assert (server.mails, server.logins) == ([], [])


def test_a_password_is_told_to_no_server_that_does_not_encrypt():
    with mail_server() as server:
        with pytest.raises(Refused, match="unencrypted"):
            Mail(f"smtp://ann:secret@{LOOPBACK}:{server.port}", "a@b.example").send(TWO, fields(), after(7))
        assert (server.mails, server.logins) == ([], [])


def test_a_mailbox_that_is_refused_keeps_the_mail_from_no_other():
    with mail_server() as server:
        server.answers["RCPT"] = b"550 no"
        with pytest.raises(Refused, match="550"):
            Mail(f"smtp://{LOOPBACK}:{server.port}", "a@b.example").send(TWO, fields(), after(7))
        assert server.mails == []


@pytest.mark.parametrize(("word", "answer"), [("", b"421 busy"), ("MAIL", b"451 later"), ("DATA", b"452 full")])
def test_what_the_server_cannot_take_now_is_worth_another_try(word, answer):
    with mail_server() as server:
        server.answers[word] = answer
        with pytest.raises(Transient):
            Mail(f"smtp://{LOOPBACK}:{server.port}", "a@b.example").send(TWO, fields(), after(7))
