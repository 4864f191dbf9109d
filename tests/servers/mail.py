"""A mail server for tests, as much of RFC 5321 as a sender needs, on a free port of loopback."""

from __future__ import annotations

from base64 import b64decode
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"


@dataclass
class MailServer:
    """The mails it took: sender, recipients, data. `answers` replaces its answers, by the command's first word.

    `is_encrypted`: whether each mail came by TLS. `logins`: user names and passwords.
    """

    port: int = 0
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    is_encrypted: list[bool] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)


@contextmanager
def mail_server(tls: ssl.SSLContext | None = None, *, at_once: bool = False) -> Iterator[MailServer]:
    """A server that offers STARTTLS where it has a certificate, or with `at_once` speaks TLS from the first byte."""
    known = MailServer()

    class Handler(_Dialogue):
        server_side, certificate, speaks_tls = known, tls, at_once

    class Server(ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: object) -> None:
            """A caller that hangs up is no fault."""

    server = Server((LOOPBACK, 0), Handler)
    known.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Dialogue(StreamRequestHandler):
    server_side: MailServer
    certificate: ssl.SSLContext | None
    speaks_tls: bool
    timeout = 5

    def handle(self) -> None:
        self._sender, self._recipients, self._is_encrypted = "", [], False
        if self.speaks_tls:
            self._encrypt()
        self._say(self.server_side.answers.get("", b"220 test"))
        while line := self.rfile.readline(2000):
            word = line.split()[0].upper().decode() if line.split() else ""
            if word in self.server_side.answers:
                self._say(self.server_side.answers[word])
            elif not self._do(word, line.strip()):
                return

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def _do(self, word: str, line: bytes) -> bool:
        if word == "EHLO":
            offered = [b"test", *([b"STARTTLS"] if self.certificate and not self._is_encrypted else []), b"AUTH PLAIN"]
            for number, name in enumerate(offered, 1):
                self._say(b"250%s%s" % (b" " if number == len(offered) else b"-", name))
        elif word == "STARTTLS":
            self._say(b"220 go on")
            self._encrypt()
        elif word == "AUTH":
            self.server_side.logins.append(b64decode(line.split()[-1]))
            self._say(b"235 welcome")
        elif word == "DATA":
            self._say(b"354 go on")
            self._take()
            self._say(b"250 taken")
        else:
            if word == "MAIL":
                self._sender = line.partition(b"<")[2].partition(b">")[0].decode()
            elif word == "RCPT":
                self._recipients.append(line.partition(b"<")[2].partition(b">")[0].decode())
            self._say(b"221 bye" if word == "QUIT" else b"250 ok")
        return word != "QUIT"

    def _take(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        self.server_side.mails.append((self._sender, self._recipients, b"".join(lines)))
        self.server_side.is_encrypted.append(self._is_encrypted)

    def _encrypt(self) -> None:
        assert self.certificate is not None
        self.connection = self.certificate.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self._is_encrypted = True

    def _say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")
