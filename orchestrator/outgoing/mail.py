"""E-mail by a mail server: a plain text, encrypted where the server offers it."""

from __future__ import annotations

import smtplib
import socket
import ssl
from contextlib import contextmanager, suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from threading import Timer
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.notice import mail_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from orchestrator.domain.notice import Notice

DEADLINE_S: Final = 20.0
_PORTS: Final = {"smtp": 25, "smtps": 465}
_READY: Final = 220
_REFUSED_FOR_GOOD: Final = range(500, 600)


class Mail:
    """The port `Messenger`. A password is only told over an encrypted connection.

    `trust` says which certificates are; else those that this machine trusts are.
    """

    def __init__(
        self, url: str, sender: str, *, trust: ssl.SSLContext | None = None, deadline_s: float = DEADLINE_S
    ) -> None:
        self._server = urlsplit(url)
        self._sender = sender
        self._trust = trust or ssl.create_default_context()
        self._deadline_s = deadline_s

    def send(self, notice: Notice, fields: Mapping[str, str], now: datetime) -> None:
        """Hand it to the mail server, for all mailboxes at once. Raises as the port says, within the deadline."""
        message = self._message(notice, fields, now)
        try:
            with self._connected() as smtp:
                smtp.send_message(message, self._sender, notice.to)
        except smtplib.SMTPRecipientsRefused as error:
            _raise_for(max(code for code, _ in error.recipients.values()))
        except smtplib.SMTPResponseException as error:
            _raise_for(error.smtp_code)
        except ssl.SSLCertVerificationError:
            raise Transient(Fault.NOTICE_UNSENT, "the mail server's certificate is not trusted") from None
        except (OSError, smtplib.SMTPException, ValueError):
            raise Transient(Fault.NOTICE_UNSENT, "the mail server cannot be reached, or did not finish") from None

    def _message(self, notice: Notice, fields: Mapping[str, str], now: datetime) -> EmailMessage:
        message = EmailMessage()
        subject, text = mail_of(fields, notice.template)
        message["Subject"] = subject
        message["From"] = Address("Tendon", addr_spec=self._sender)
        message["To"] = [Address(addr_spec=mailbox) for mailbox in notice.to]
        message["Date"] = format_datetime(now)
        message["Message-ID"] = f"<{fields['id']}@{self._sender.partition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        return message

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        """A connection that is cut when the deadline comes, however the server drags on."""
        scheme, host = self._server.scheme, self._server.hostname or ""
        smtp = (
            smtplib.SMTP_SSL(timeout=self._deadline_s, context=self._trust)
            if scheme == "smtps"
            else smtplib.SMTP(timeout=self._deadline_s)
        )
        smtp._host = host  # type: ignore[attr-defined]  # noqa: SLF001 - the name that TLS is to prove
        hanging_up = Timer(self._deadline_s, _hang_up, [smtp])
        hanging_up.daemon = True
        hanging_up.start()
        try:
            status, _ = smtp.connect(host, self._server.port or _PORTS[scheme])
            if status != _READY:
                _raise_for(status)
            self._introduce(smtp, is_encrypted=scheme == "smtps")
            yield smtp
            with suppress(OSError, smtplib.SMTPException):
                smtp.quit()
        finally:
            hanging_up.cancel()
            smtp.close()

    def _introduce(self, smtp: smtplib.SMTP, *, is_encrypted: bool) -> None:
        smtp.ehlo_or_helo_if_needed()
        if not is_encrypted and smtp.has_extn("starttls"):
            smtp.starttls(context=self._trust)
            smtp.ehlo()
            is_encrypted = True
        if self._server.username:
            if not is_encrypted:
                raise Refused(Fault.NOTICE_UNSENT, "the mail server takes the password only unencrypted")
            smtp.login(unquote(self._server.username), unquote(self._server.password or ""))


def _hang_up(smtp: smtplib.SMTP) -> None:
    with suppress(OSError, AttributeError):
        smtp.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def _raise_for(status: int) -> None:
    """Statuses from 500 on are for good."""
    reason = f"the mail server answered with status {status}"
    if status in _REFUSED_FOR_GOOD:
        raise Refused(Fault.NOTICE_UNSENT, reason)
    raise Transient(Fault.NOTICE_UNSENT, reason)
