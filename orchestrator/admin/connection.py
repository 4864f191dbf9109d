"""One HTTP connection kept to deadlines: who lets us wait is closed, whatever the application does meanwhile.

uvicorn itself waits for ever for a head, for a body, and for an answer to be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.admin.limits import SECURITY_HEADERS
from orchestrator.admin.visits import Stage

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from orchestrator.admin.visits import Visit, Visits

HEAD_BYTES: Final = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long a peer may let us wait, in seconds."""

    handshake_s: float = 10.0
    head_s: float = 10.0
    """For a whole head: from the opening on for the first, from its first byte on for each further one."""
    idle_s: float = 15.0
    """From an answer to the first byte of the next head."""
    body_pause_s: float = 10.0
    body_s: float = 120.0
    rest_s: float = 2.0
    """For the rest of a body that was answered before its end."""
    reading_s: float = 30.0
    """For taking so much of an answer that more may be written."""


class _Awaited(Enum):
    """What is awaited from the peer."""

    HEAD = auto()
    IDLE = auto()
    BODY = auto()
    REST = auto()
    READING = auto()
    NOTHING = auto()


class Connection(H11Protocol):
    """uvicorn's connection with deadlines; the register of visits knows how far it has come."""

    def __init__(
        self,
        visit: Visit,
        visits: Visits,
        deadlines: Deadlines,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._visit = visit
        self._visits = visits
        self._deadlines = deadlines
        self._awaited: tuple[_Awaited, object] = (_Awaited.NOTHING, None)
        self._since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._visit.hang_up = transport.abort
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._visits.leave(self._visit)
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, of a head no more than it may have: h11 knows it for too large only while it has no end."""
        while data and not self.transport.is_closing():
            is_head = self.conn.their_state is h11.IDLE
            count = HEAD_BYTES + 1 - len(self.conn.trailing_data[0]) if is_head else len(data)
            super().data_received(data[:count])
            data = data[count:]
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request; also where the connection ends, since its peer may not read what is left."""
        self._visit.has_answer = True
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._look()

    def pause_writing(self) -> None:
        """The peer does not read."""
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._look()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, and close; beside an answer that has begun there is nothing to say."""
        if self.conn.our_state is not h11.IDLE and self.conn.our_state is not h11.SEND_RESPONSE:
            self.transport.abort()
            return
        headers = [*SECURITY_HEADERS, (b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        answer = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (answer, h11.Data(data=msg.encode("ascii")), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def shutdown(self) -> None:
        """End after the answer in hand."""
        try:
            super().shutdown()
        except h11.LocalProtocolError:
            self.transport.abort()

    def _look(self) -> None:
        """See what is awaited now, and set the timer to it."""
        awaited = self._what_is_awaited()
        now_s = self.loop.time()
        if (awaited, self.cycle) != self._awaited:
            self._awaited = (awaited, self.cycle)
            self._since_s = now_s
        stage = Stage.OWED if awaited is _Awaited.NOTHING else Stage.AWAITED
        self._visits.move(self._visit, Stage.SILENT if self.cycle is None else stage)
        self._stop_timer()
        until_s = self._until_s(awaited, now_s)
        if until_s is not None:
            self._timer = self.loop.call_at(until_s, self._expired)

    def _what_is_awaited(self) -> _Awaited:
        if self.flow.write_paused:
            return _Awaited.READING
        state, is_answered = self.conn.their_state, self.cycle is None or self.cycle.response_complete
        if state is h11.SEND_BODY:
            return _Awaited.REST if is_answered else _Awaited.BODY
        if state is h11.IDLE or is_answered:
            has_begun = self.cycle is None or self.conn.trailing_data[0]
            return _Awaited.HEAD if has_begun else _Awaited.IDLE
        return _Awaited.NOTHING

    def _until_s(self, awaited: _Awaited, now_s: float) -> float | None:
        """When it is too late."""
        deadlines, since_s = self._deadlines, self._since_s
        return {
            _Awaited.HEAD: since_s + deadlines.head_s,
            _Awaited.IDLE: since_s + deadlines.idle_s,
            _Awaited.BODY: min(now_s + deadlines.body_pause_s, since_s + deadlines.body_s),
            _Awaited.REST: since_s + deadlines.rest_s,
            _Awaited.READING: since_s + deadlines.reading_s,
            _Awaited.NOTHING: None,
        }[awaited]

    def _expired(self) -> None:
        """Close what came too late, unless it is we who read no more of a body."""
        is_ours = self._awaited[0] is _Awaited.BODY and self.flow.read_paused
        if is_ours and self.loop.time() < self._since_s + self._deadlines.body_s:
            self._look()
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
