"""The certificate of the pages, and TLS as it may be spoken: 1.2 and 1.3, with keys that are forgotten afterwards."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Broken, Fault

if TYPE_CHECKING:
    from pathlib import Path

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2 (RFC 9325 4.2); those of 1.3 are all sound."""

_log = logging.getLogger("tendon.admin")


class Certificate:
    """A certificate with its key, read again when its files have changed. Raises Broken SETTING_INVALID."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._files = (chain, key)
        self._seen = self._look()
        try:
            self.context = self._read(_context())
        except OSError as error:
            told = f"TENDON_TLS_CERTIFICATE and TENDON_TLS_KEY cannot be used: {_reason(error)}"
            raise Broken(Fault.SETTING_INVALID, told) from error

    def refresh(self) -> None:
        """New connections get what is in the files now; while that cannot be used, what was read before."""
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._read(_context())
            self._read(self.context)
            self._seen = seen
        except OSError as error:
            _log.error("the new certificate cannot be used: %s", _reason(error))
        else:
            _log.info("the certificate was read again")

    def _look(self) -> list[tuple[int, int, int]]:
        """By what changed files are told; empty where one is not there."""
        try:
            found = [path.stat() for path in self._files]
        except OSError:
            return []
        return [(each.st_mtime_ns, each.st_ino, each.st_size) for each in found]

    def _read(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.load_cert_chain(*self._files, password=_no_password)
        return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _no_password() -> str:
    """Nobody is there to be asked for one."""
    return ""


def _reason(error: OSError) -> str:
    """Without the text of OpenSSL's sources."""
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "no usable PEM"
    return error.strerror or type(error).__name__
