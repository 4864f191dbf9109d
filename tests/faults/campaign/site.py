"""An installation to break: roles that are started again, a PACS of its own, and lines that can be cut."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.faults.campaign.disk import Disk, disk
from tests.faults.campaign.line import Line, line_to
from tests.faults.campaign.modality import CANARY
from tests.faults.campaign.roles import Role, Roles
from tests.faults.checker.ledger import Ledger
from tests.faults.checker.oracles import ENDED_DELIVERIES, ENDED_JOBS, Installation
from tests.faults.checker.records import ask, watch
from tests.house import House, Services, house
from tests.servers.folder import reserved_port
from tests.servers.postgres import PostgresServer, postgres
from tests.servers.rabbitmq import RabbitBroker, rabbitmq

if TYPE_CHECKING:
    from collections.abc import Iterator

Mode = Literal["embedded", "distributed", "power"]
"""`power`: embedded, on a disk whose power can be cut."""
Control = Literal["", "fsync"]
"""A safety that is taken away, to see that the checker misses it."""
ROOT = Path(__file__).resolve().parents[3]
PIPELINE = "quick_bone"
PIPELINES = str(ROOT / "tests" / "pipelines")
EATMYDATA = "libeatmydata.so"
"""Debian's library of that name: every call that makes something durable does nothing."""
LEASE_S = 2.0
QUIET_S = 2.0
RULES = [
    {
        "name": "quickly",
        "when": {"all": [{"field": "series.modality", "eq": "CT"}]},
        "run": [PIPELINE],
        "send": ["pacs", "share"],
    }
]


@dataclass
class Site:
    """All that a fault may reach."""

    mode: Mode
    house: House
    database_url: str
    ledger: Ledger
    roles: Roles
    lines: dict[str, Line]
    disk: Disk | None = None
    database: PostgresServer | None = None
    broker: RabbitBroker | None = None
    messages: list[bytes] = field(default_factory=list)
    """Whatever lay in the queues when somebody looked."""

    def ended(self) -> bool:
        """Whether each whole study has a job and nothing is under way."""
        jobs = ask(self.database_url, "SELECT study_uid, state FROM jobs")
        deliveries = ask(self.database_url, "SELECT state FROM deliveries")
        return (
            set(self.ledger.whole()) <= {job["study_uid"] for job in jobs}
            and all(job["state"] in ENDED_JOBS for job in jobs)
            and all(delivery["state"] in ENDED_DELIVERIES for delivery in deliveries)
        )

    def settle(self, timeout_s: float) -> float | None:
        """Seconds until all had ended, or None where it never did."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            if self.ended():
                return time.monotonic() - began
            time.sleep(0.25)
        return None

    def installation(self) -> Installation:
        """Where the checker looks."""
        folder = self.house.folder
        servers = [server.folder.path / "log" for server in (self.database, self.broker) if server is not None]
        return Installation(
            self.database_url,
            folder / "data",
            folder / "pacs",
            folder / "share",
            (*(role.log for role in self.roles.named.values()), *servers),
            tuple(self.messages),
        )


@contextmanager
def site(folder: Path, mode: Mode, control: Control = "") -> Iterator[Site]:
    """A started installation whose database, broker and PACS are reached over lines of ours."""
    with ExitStack() as stack:
        database = broker = services = None
        own_disk = stack.enter_context(disk(folder / "data")) if mode == "power" else None
        lines = {}
        if mode == "distributed":
            database, broker = stack.enter_context(postgres()), stack.enter_context(rabbitmq())
            lines = {"database": stack.enter_context(line_to(database.port))}
            lines["broker"] = stack.enter_context(line_to(broker.port))
            services = Services(database.new_database(), broker.url)
        changed = {
            "TENDON_PIPELINES_DIR": PIPELINES,
            "TENDON_QUIET_SECONDS": str(QUIET_S),
            "TENDON_LEASE_SECONDS": str(LEASE_S),
            "TENDON_DICOM_PORT": str(reserved_port()),
            "TENDON_ADMIN_PORT": str(reserved_port()),
        }
        made = stack.enter_context(house(folder, RULES, services, **changed))
        url = services.database_url if services else f"sqlite:///{folder / 'data' / 'tendon.db'}"
        pacs_port = reserved_port()
        lines["pacs"] = stack.enter_context(line_to(pacs_port))
        _lead_over(made, lines, database, broker)
        watch(url)
        if control == "fsync":
            made.environment["LD_PRELOAD"] = EATMYDATA
        roles = _roles(made, pacs_port)
        ledger = Ledger(folder / "ledger.jsonl", CANARY)
        lines["modality"] = stack.enter_context(line_to(int(changed["TENDON_DICOM_PORT"])))
        started = Site(mode, made, url, ledger, roles, lines, own_disk, database, broker)
        stack.callback(roles.stop)
        roles.start()
        yield started


def _lead_over(
    made: House, lines: dict[str, Line], database: PostgresServer | None, broker: RabbitBroker | None
) -> None:
    """Have the PACS, the database and the broker reached over their lines."""
    at_site = made.folder / "site.yaml"
    at_site.write_text(at_site.read_text().replace(f"port: {made.pacs_port}", f"port: {lines['pacs'].port}"))
    made.tendon("import", str(at_site))
    if database is not None and broker is not None:
        for name, port in (("database", database.port), ("broker", broker.port)):
            setting = f"TENDON_{name.upper()}_URL"
            made.environment[setting] = made.environment[setting].replace(f":{port}/", f":{lines[name].port}/")


def _roles(made: House, pacs_port: int) -> Roles:
    commands = dict(made.commands)
    commands["pacs"] = [sys.executable, "-m", "tests.faults.campaign.pacs", str(made.pacs_folder), str(pacs_port)]
    python = {"PYTHONPATH": str(ROOT)}
    return Roles(
        {
            name: Role(command, {**made.environment, **(python if name == "pacs" else {})}, made.folder / f"{name}.log")
            for name, command in commands.items()
        }
    )
