"""A real RabbitMQ broker for tests: its own Erlang node, port mapper, cookie and data; every port on loopback."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import urllib.error
import urllib.request
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import amqp

from tests.servers.folder import LOOPBACK, NotReadyError, ServerFolder, reserved_port, server_folder

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

NAME = "tendon"
# Counts of queues and the timeouts of consumers are looked at this often in tests, and by a broker as it is shipped.
TICK_MS, SHIPPED_TICK_MS = 500, 5000
# The node looks through every plugin's folder for each module it loads: without the others it starts a third sooner.
PLUGINS = ("rabbitmq_management", "rabbitmq_management_agent", "rabbitmq_prelaunch", "rabbitmq_web_dispatch")
ADVANCED_CONFIG = """[
  {{kernel, [{{inet_dist_use_interface, {{127,0,0,1}}}}]}},
  {{rabbit, [{{quorum_tick_interval, {tick_ms}}}, {{channel_tick_interval, {tick_ms}}}]}}
].
"""
# As compose.yaml starts it: Erlang's schedulers sleep instead of spinning when they have nothing to do.
NO_BUSY_WAIT = "+sbwt none +sbwtdcpu none +sbwtdio none"


class RabbitBroker:
    """One broker; `start`, `stop`, `kill` and `wipe` it as often as a test likes, on the same ports and data."""

    def __init__(self, folder: ServerFolder, programs: Path, consumer_timeout_ms: int | None, tick_ms: int) -> None:
        self.folder = folder
        self.port, self.management_port, self._node_port, self._mapper_port = (reserved_port() for _ in range(4))
        self.process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(8)
        self._numbers = count(1)
        self._configure(consumer_timeout_ms, tick_ms)
        self._link_programs(programs)

    @property
    def url(self) -> str:
        """The virtual host that every broker has."""
        return self._url(NAME)

    @property
    def management_url(self) -> str:
        """Where the HTTP API begins, with name and password; `ask` is the short way."""
        return f"http://{NAME}:{self._password}@{LOOPBACK}:{self.management_port}"

    def new_vhost(self) -> str:
        """The URL of a new, empty virtual host."""
        name = f"{NAME}_{next(self._numbers)}"
        self.ask(f"/api/vhosts/{name}", "PUT")
        return self._url(name)

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """What the HTTP API answers, e.g. on `/api/queues/VHOST/QUEUE`; raises urllib.error.HTTPError."""
        credentials = base64.b64encode(f"{NAME}:{self._password}".encode()).decode()
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.management_port}{path}",
            method=method,
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def wait_until_on_disk(self, vhost_url: str, *queues: str) -> None:
        """Returns once quorum queues just declared would outlive a kill.

        Raft keeps the names of its queues in a table that it writes with a delay of about a second (`names.dets` of
        RabbitMQ 3.10). Up to then a killed broker forgets the queue and with it every message it confirmed.
        """
        vhost = vhost_url.rpartition("/")[2]
        names = [f"{vhost}_{queue}".encode() for queue in queues]

        def registered() -> None:
            written = b"".join(path.read_bytes() for path in self.folder.path.glob("data/*/quorum/*/names.dets"))
            # An atom in Erlang's external term format is preceded by the low byte of its length.
            if not all(bytes([len(name)]) + name in written for name in names):
                raise NotReadyError

        assert self.process is not None
        self.folder.wait_until(registered, self.process)

    def start(self) -> None:
        """Returns once the broker takes connections and the HTTP API answers."""
        mapper = self._spawn("epmd", "-port", str(self._mapper_port), "-address", LOOPBACK)
        self.folder.wait_until(self._reach_mapper, mapper)
        self.process = self._spawn(self.folder.path / "rabbitmq" / "sbin" / "rabbitmq-server")
        self.folder.wait_until(self._connect, self.process)

    def stop(self) -> None:
        """Shut down in order, which takes the broker about six seconds; `kill` takes none."""
        assert self.process is not None
        self.process.terminate()
        self._end()

    def kill(self) -> None:
        """Take the Erlang node down as a crash does."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self._end()

    def wipe(self) -> None:
        """Lose all data, as a lost disk does; the broker must not be running."""
        assert self.folder.processes() == []
        shutil.rmtree(self.folder.path / "data")

    def _end(self) -> None:
        assert self.process is not None
        self.process.wait()
        self.folder.end_processes()

    def _url(self, vhost: str) -> str:
        return f"amqp://{NAME}:{self._password}@{LOOPBACK}:{self.port}/{vhost}"

    def _spawn(self, *command: str | Path) -> subprocess.Popen[bytes]:
        home = self.folder.path
        return self.folder.spawn(
            *command,
            RABBITMQ_SCRIPTS_DIR=str(home / "rabbitmq" / "sbin"),
            RABBITMQ_CONF_ENV_FILE=str(home / "none"),
            RABBITMQ_CONFIG_FILE=str(home / "rabbitmq.conf"),
            RABBITMQ_ADVANCED_CONFIG_FILE=str(home / "advanced.config"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(home / "enabled_plugins"),
            RABBITMQ_MNESIA_BASE=str(home / "data"),
            RABBITMQ_LOG_BASE=str(home / "data"),
            RABBITMQ_LOGS="-",
            RABBITMQ_NODENAME=f"{NAME}@localhost",
            RABBITMQ_DIST_PORT=str(self._node_port),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=NO_BUSY_WAIT,
            ERL_EPMD_PORT=str(self._mapper_port),
            ERL_EPMD_ADDRESS=LOOPBACK,
        )

    def _configure(self, consumer_timeout_ms: int | None, tick_ms: int) -> None:
        settings = {
            "listeners.tcp.1": f"{LOOPBACK}:{self.port}",
            "management.tcp.ip": LOOPBACK,
            "management.tcp.port": self.management_port,
            "collect_statistics_interval": tick_ms,
            "default_vhost": NAME,
            "default_user": NAME,
            "default_pass": self._password,
        }
        if consumer_timeout_ms is not None:
            settings["consumer_timeout"] = consumer_timeout_ms
        self.folder.write("rabbitmq.conf", "".join(f"{name} = {value}\n" for name, value in settings.items()))
        self.folder.write("advanced.config", ADVANCED_CONFIG.format(tick_ms=tick_ms))
        self.folder.write("enabled_plugins", "[rabbitmq_management].\n")
        self.folder.write(".erlang.cookie", secrets.token_hex(16), mode=0o400)

    def _link_programs(self, installed: Path) -> None:
        linked = self.folder.path / "rabbitmq"
        (linked / "plugins").mkdir(parents=True)
        (linked / "sbin").symlink_to(installed / "sbin")
        for plugin in (installed / "plugins").iterdir():
            if plugin.name.startswith(tuple(f"{name}-" for name in PLUGINS)) or not plugin.name.startswith("rabbitmq_"):
                (linked / "plugins" / plugin.name).symlink_to(plugin)

    def _reach_mapper(self) -> None:
        try:
            socket.create_connection((LOOPBACK, self._mapper_port)).close()
        except OSError as error:
            raise NotReadyError from error

    def _connect(self) -> None:
        address = f"{LOOPBACK}:{self.port}"
        try:
            with amqp.Connection(address, userid=NAME, password=self._password, virtual_host=NAME):
                pass
            self.ask("/api/overview")
        except urllib.error.HTTPError as error:
            error.close()
            raise NotReadyError from error
        except (OSError, amqp.AMQPError) as error:
            raise NotReadyError from error


@contextmanager
def rabbitmq(*, consumer_timeout_ms: int | None = None, tick_ms: int = TICK_MS) -> Iterator[RabbitBroker]:
    """A started broker, which ends with the block and takes its data along.

    `consumer_timeout_ms` is how long a consumer may hold a message without acknowledging it; RabbitMQ's default is
    half an hour.
    """
    programs = installed_programs()
    with server_folder("rabbitmq") as folder:
        broker = RabbitBroker(folder, programs, consumer_timeout_ms, tick_ms)
        broker.start()
        yield broker


def installed_programs() -> Path:
    """The folder that holds the broker's scripts and plugins; raises RuntimeError where there is none."""
    for script in Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"):
        return script.parents[1]
    raise RuntimeError("RabbitMQ is not installed: run tests/install-programs")
