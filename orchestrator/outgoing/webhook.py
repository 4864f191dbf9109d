"""Webhooks: a JSON body, signed, by one POST to an address that was checked just before (S16)."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Final

import httpx

from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.notice import body_of
from orchestrator.outgoing.line import DEADLINE_S, ForbiddenError, Line, UnreachedError, addresses_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.notice import Notice
    from orchestrator.outgoing.line import Resolve

SIGNATURE: Final = "Tendon-Signature"
_LATER: Final = (408, 425, 429)


def signature(secret: str, body: bytes, now: datetime) -> str:
    """The header's value: when, and HMAC-SHA256 over that time, a dot and the body."""
    at = int(now.timestamp())
    return f"t={at},v1={hmac.digest(secret.encode(), b'%d.%s' % (at, body), 'sha256').hex()}"


class Webhooks:
    """The port `Messenger`. Nothing of the answer is taken but its status.

    `trust` says which certificates are trusted; else those that this machine trusts are.
    """

    def __init__(
        self,
        secret: str,
        *,
        https_only: bool = False,
        resolve: Resolve = addresses_of,
        trust: ssl.SSLContext | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._secret = secret
        self._line = Line("the receiver", https_only=https_only, resolve=resolve, trust=trust, deadline_s=deadline_s)

    def send(self, notice: Notice, fields: Mapping[str, str], now: datetime) -> None:
        """Post it. Raises as the port says, within the deadline."""
        body = json.dumps(body_of(fields), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, body, now)
        try:
            status = self._line.call("POST", notice.url, headers=headers, body=body).status
        except ForbiddenError as error:
            raise Refused(Fault.ADDRESS_FORBIDDEN, str(error)) from None
        except UnreachedError as error:
            raise Transient(Fault.NOTICE_UNSENT, str(error)) from None
        if httpx.codes.is_success(status):
            return
        reason = f"the receiver answered with status {status}"
        if status in _LATER or httpx.codes.is_server_error(status):
            raise Transient(Fault.NOTICE_UNSENT, reason)
        raise Refused(Fault.NOTICE_UNSENT, reason)
