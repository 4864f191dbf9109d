"""Say with which settings Tendon would run here, and whether everything it needs is there."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.broker import missing_queues
from orchestrator.dicom.counting import FindCounter
from orchestrator.dicom.scu import DicomSender
from orchestrator.domain.errors import TendonError
from orchestrator.domain.queue import LANES
from orchestrator.service.checking import MOST_SKEW_S
from orchestrator.service.operating import open_alarms
from orchestrator.service.staffing import present
from workers.perform.confine import probe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from orchestrator.assembly import System
    from orchestrator.domain.site import SiteFile
    from orchestrator.settings import Settings

EXAMPLE: Final = "tendon check --json"
_MOST_SKEW_S: Final = 1.0
_NO_STUDY: Final = "2.25.0"
"""A Study Instance UID that no study has."""
_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_PASSWORD: Final = re.compile(r"(?<=://)([^/@]*):[^/@]*@")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """In what form."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print settings and findings; exit code 1 when something is missing."""
    site = settings.load()
    shown = {name: [value, site.origins[name]] for name, value in _values(site).items()}
    findings = dict(_findings(site))
    if arguments.json:
        sys.stdout.write(json.dumps({"settings": shown, "findings": findings}, indent=2) + "\n")
    else:
        _print(shown, findings)
    return int(not all(finding.startswith("ok") for finding in findings.values()))


def _values(site: Settings) -> dict[str, str]:
    return {
        "TENDON_DATA_DIR": str(site.data_dir),
        "TENDON_DATABASE_URL": _PASSWORD.sub(r"\1:***@", site.database_url),
        "TENDON_BROKER_URL": _PASSWORD.sub(r"\1:***@", site.broker_url),
        "TENDON_OBJECTS_URL": site.objects_url,
        "TENDON_OBJECTS_ENDPOINT": site.objects_endpoint,
        "TENDON_OBJECTS_REGION": site.objects_region,
        "TENDON_OBJECTS_KEY_ID": site.objects_key_id,
        "TENDON_OBJECTS_SECRET": "***" if site.objects_secret else "",
        "TENDON_OBJECTS_CACHE_GB": f"{site.objects_cache_gb:g}",
        "TENDON_RETENTION_DAYS": "" if site.retention_days is None else f"{site.retention_days:g}",
        "TENDON_PIPELINES_DIR": ":".join(str(folder) for folder in site.pipelines_dirs),
        "TENDON_AE_TITLE": site.ae_title,
        "TENDON_CALLED_AE_TITLES": ",".join(site.called_ae_titles),
        "TENDON_UNKNOWN_SOP_CLASSES": site.unknown_sop_classes,
        "TENDON_DICOM_HOST": site.dicom_host,
        "TENDON_DICOM_PORT": str(site.dicom_port),
        "TENDON_ADMIN_HOST": site.admin_host,
        "TENDON_ADMIN_PORT": str(site.admin_port),
        "TENDON_HEALTH_PORT": "" if site.health_port is None else str(site.health_port),
        "TENDON_TLS_CERTIFICATE": str(site.tls_certificate or ""),
        "TENDON_TLS_KEY": str(site.tls_key or ""),
        "TENDON_TRUSTED_PROXIES": ",".join(site.trusted_proxies),
        "TENDON_TRUSTED_NETWORK": str(site.is_network_trusted).lower(),
        "TENDON_QUIET_SECONDS": f"{site.quiet_seconds:g}",
        "TENDON_LEASE_SECONDS": f"{site.lease_seconds:g}",
        "TENDON_HTTPS_ONLY": str(site.https_only).lower(),
        "TENDON_WEBHOOK_SECRET": "***" if site.webhook_secret else "",
        "TENDON_SMTP_URL": _PASSWORD.sub(r"\1:***@", site.smtp_url),
        "TENDON_MAIL_FROM": site.mail_from,
        "TENDON_INSTALLATION": site.installation,
        "TENDON_ENVIRONMENT": site.environment,
    }


def _findings(site: Settings) -> Iterator[tuple[str, str]]:
    for name in site.unknown:
        yield name, "no setting of this version: it changes nothing"
    means = probe()
    yield "network ban of pipelines", "none: this kernel allows neither" if means == "none" else f"ok, by {means}"
    if site.broker_url:
        yield from _broker(site.broker_url)
    try:
        system = open_system(site)
    except TendonError as error:
        yield "database", f"{error}: {error.fault.value.remedy}"
        return
    yield "database schema", "ok"
    yield from _installation(system)
    system.records.close()


def _broker(url: str) -> Iterator[tuple[str, str]]:
    """Whether the broker answers, is closed to strangers, and has every queue."""
    given = urlsplit(url)
    is_local = given.hostname in _LOCAL_HOSTS
    if given.username in (None, "guest"):
        yield "broker account", "the broker's default account: give Tendon one of its own"
    if given.scheme == "amqp" and not is_local:
        yield "broker connection", "not encrypted: use amqps:// off this machine"
    try:
        missing = missing_queues(url)
    except TendonError as error:
        yield "broker", f"{error}: {error.fault.value.remedy}"
        return
    yield "broker queues", f"missing: {', '.join(missing)}: run `tendon migrate`" if missing else "ok"


def _installation(system: System) -> Iterator[tuple[str, str]]:
    yield "clock", _clock(system)
    yield "workers", _workers(system)
    for what, binding in (("DICOM port", system.receiving()), ("HTTP port", system.pages())):
        if binding.denied:
            yield what, binding.denied
    for folder, fault in system.catalog.faults().items():
        yield f"pipeline folder {folder}", fault
    for alarm in open_alarms(system.records):
        yield f"alarm {alarm.code} on {alarm.subject}", f"{alarm.detail} ({alarm.times} times)"
    with system.records.reading() as unit:
        site, circuits = unit.site.current(), unit.deliveries.circuits()
    for circuit in circuits:
        if circuit.state(system.clock.now()) != "closed":
            yield f"sending to {circuit.destination}", f"no answer {circuit.failures} times: {circuit.reason}"
    if site is None:
        yield "rules, nodes and destinations", "none yet: write a file and `tendon import` it"
        return
    findings = system.rulebook.check(site, system.catalog.manifests(), [d.name for d in site.destinations])
    yield "rules", "; ".join(f"{f.path}: {f.message}" for f in findings) or "ok"
    yield from _peers(site, system.settings.ae_title)


def _peers(site: SiteFile, ae_title: str) -> Iterator[tuple[str, str]]:
    """Whether destinations of kind `dicom` answer C-ECHO, and nodes that are to be asked C-FIND."""
    sender, counter = DicomSender(ae_title), FindCounter(ae_title)
    for destination in site.destinations:
        if destination.kind == "dicom":
            try:
                sender.echo(destination.host, destination.port, destination.ae_title)
            except (TendonError, OSError) as error:
                yield f"destination {destination.name}", str(error)
            else:
                yield f"destination {destination.name}", "ok"
    for node in site.nodes:
        if node.query:
            try:
                with counter.asking(node) as ask:
                    ask(_NO_STUDY, ())
            except TendonError as error:
                yield f"node {node.name}", str(error)
            else:
                yield f"node {node.name}", "ok"


def _clock(system: System) -> str:
    """A cluster has the database's time; one machine counts on from what its clock showed when Tendon was started."""
    skew_s = system.clock.skew_s()
    if system.settings.is_distributed:
        is_close = abs(skew_s) < _MOST_SKEW_S
        return "ok" if is_close else f"{skew_s:+.1f} s against the database's: see to the time service of both"
    if abs(skew_s) < MOST_SKEW_S:
        return "ok"
    return f"set by {skew_s:+.0f} s since Tendon was started: start it again to take over the new time"


def _workers(system: System) -> str:
    """Who is there, by lane; an embedded system that is not running has none, and lacks none."""
    workers = present(system.staff())
    lanes = {lane: [w for w in workers if any(queue.lane == lane for queue in w.queues)] for lane in LANES}
    if not workers:
        return "none is there: start one" if system.settings.is_distributed else "ok, none while Tendon does not run"
    with_gpu = sum(worker.has_gpu for worker in lanes["gpu"])
    told = f"{len(lanes['cpu'])} of lane cpu, {len(lanes['gpu'])} of lane gpu, {with_gpu} of these with a GPU"
    return f"ok, {told}"


def _print(shown: dict[str, list[str]], findings: dict[str, str]) -> None:
    console = Console()
    table = Table("setting", "value", "from", box=None)
    for name, (value, origin) in shown.items():
        table.add_row(Text(name), Text(value), Text(origin))
    console.print(table)
    for what, finding in findings.items():
        console.print(Text(f"{what}: {finding}", style="" if finding.startswith("ok") else "bold red"))
