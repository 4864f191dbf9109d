"""Serves HTTP to a network that may be hostile: bounded connections, deadlines, TLS."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from ipaddress import ip_network
from socket import SHUT_RDWR, socket
from threading import Thread
from typing import TYPE_CHECKING, Final

import uvicorn

from orchestrator.admin.connection import HEAD_BYTES, Connection, Deadlines
from orchestrator.admin.visits import Visit, Visits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp

    from orchestrator.admin.tls import Certificate

_BACKLOG: Final = 1024
_GRACE_S: Final = 2
_LOOK_AGAIN_S: Final = 60.0
"""Whether the certificate has changed."""
_PAUSE_S: Final = 0.2
"""Where no connection can be accepted, since descriptors have run out."""


class AdminServer:
    """Serves an application in a thread, on a socket that is already bound.

    With a certificate by TLS only. What the proxies `trusted` say of the requests they pass on is believed.
    """

    def __init__(
        self,
        application: ASGIApp,
        listening: socket,
        *,
        certificate: Certificate | None = None,
        trusted: Sequence[str] = (),
        deadlines: Deadlines | None = None,
        look_again_s: float = _LOOK_AGAIN_S,
    ) -> None:
        self._listening = listening
        visits = Visits([ip_network(each) for each in trusted])
        config = uvicorn.Config(
            application,
            http="h11",
            ws="none",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=bool(trusted),
            forwarded_allow_ips=list(trusted),
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = _Server(
            config,
            listening,
            visits,
            certificate=certificate,
            deadlines=deadlines or Deadlines(),
            look_again_s=look_again_s,
        )
        self._thread = Thread(target=self._server.run, name="admin")

    @property
    def port(self) -> int:
        """The port it is bound to."""
        return int(self._listening.getsockname()[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End after the answers in hand."""
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()


class _Server(uvicorn.Server):
    """uvicorn's server with an acceptor of its own, which knows of each connection before its handshake."""

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket,
        visits: Visits,
        *,
        certificate: Certificate | None,
        deadlines: Deadlines,
        look_again_s: float,
    ) -> None:
        super().__init__(config)
        self.servers = []
        self._listening = listening
        self._visits = visits
        self._certificate = certificate
        self._deadlines = deadlines
        self._look_again_s = look_again_s
        self._duties: list[asyncio.Task[None]] = []
        self._arrivals: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Begin to accept."""
        del sockets
        await self.lifespan.startup()
        self._listening.setblocking(False)  # noqa: FBT003 - that is how sockets spell it
        self._listening.listen(_BACKLOG)
        duties = [self._accept()] if self._certificate is None else [self._accept(), self._renew(self._certificate)]
        self._duties = [asyncio.create_task(duty) for duty in duties]
        self.started = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Accept no more, and let the answers in hand go out."""
        for duty in self._duties:
            duty.cancel()
        await asyncio.gather(*self._duties, return_exceptions=True)
        self._visits.dismiss_all()
        await asyncio.gather(*self._arrivals, return_exceptions=True)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, address = await loop.sock_accept(self._listening)
            except OSError:
                await asyncio.sleep(_PAUSE_S)
                continue
            visit = Visit(str(address[0]), partial(_hang_up, connected))
            if self._visits.welcome(visit):
                arrival = asyncio.create_task(self._take_up(connected, visit))
                self._arrivals.add(arrival)
                arrival.add_done_callback(self._arrivals.discard)
            else:
                connected.close()
            await asyncio.sleep(0)

    async def _take_up(self, connected: socket, visit: Visit) -> None:
        """Make it a connection, after its handshake where there is one."""

        def protocol() -> Connection:
            return Connection(
                visit,
                self._visits,
                self._deadlines,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )

        taking_up = asyncio.get_running_loop().connect_accepted_socket
        try:
            if self._certificate is None:
                await taking_up(protocol, connected)
            else:
                await taking_up(
                    protocol,
                    connected,
                    ssl=self._certificate.context,
                    ssl_handshake_timeout=self._deadlines.handshake_s,
                    ssl_shutdown_timeout=_GRACE_S,
                )
        except OSError:
            self._visits.leave(visit)

    async def _renew(self, certificate: Certificate) -> None:
        while True:
            await asyncio.sleep(self._look_again_s)
            certificate.refresh()


def _hang_up(connected: socket) -> None:
    """End a connection whose handshake is not over: whoever reads from it is told."""
    with suppress(OSError):
        connected.shutdown(SHUT_RDWR)
