"""The commands listen on a network only once it is safe, and say why not. 127.0.0.2 stands for other machines."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml

from orchestrator import settings
from tests.certificates import write_certificate
from tests.dicom_peers import LOOPBACK, eventually
from tests.house import TENDON
from workers.commands import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ELSEWHERE = "127.0.0.2"
ANY = "0.0.0.0"
PASSWORD = "four words of chance\n"


@dataclass
class Site:
    """An installation of one machine that is asked to open both its ports."""

    folder: Path

    def environment(self, **changed: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "TENDON_DATA_DIR": str(self.folder / "data"),
            "TENDON_DICOM_HOST": ANY,
            "TENDON_ADMIN_HOST": ANY,
            "TENDON_DICOM_PORT": "0",
            "TENDON_ADMIN_PORT": "0",
            **changed,
        }

    def tendon(self, *arguments: str, said: str = "", **changed: str) -> None:
        environment = self.environment(**changed)
        subprocess.run([TENDON, *arguments], env=environment, input=said, check=True, text=True, timeout=60)

    @contextmanager
    def running(self, command: str, **changed: str) -> Iterator[tuple[str, Path]]:
        """What it announces, and the file of its standard error."""
        log = self.folder / f"{command}.log"
        with (
            log.open("w") as complaints,
            subprocess.Popen(
                [TENDON, command],
                env=self.environment(**changed),
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            try:
                yield process.stdout.readline(), log
            finally:
                process.terminate()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def port_of(announced: str, where: str) -> int:
    found = re.search(rf"{re.escape(where)}:(\d+)", announced)
    assert found, announced
    return int(found[1])


def is_reached(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def exposure(port: int) -> dict[str, str]:
    """As monitors see it once it was looked at."""

    def found() -> dict[str, str]:
        return httpx.get(f"http://{LOOPBACK}:{port}/readyz").json()["checks"]["exposure"]

    assert eventually(lambda: found()["status"] != "fail", 20)
    return found()


def test_a_fresh_installation_stays_on_its_machine_and_says_what_it_lacks(site):
    with site.running("serve") as (announced, log):
        dicom, pages = port_of(announced, f"on {LOOPBACK}"), port_of(announced, f"http://{LOOPBACK}")
        assert is_reached(LOOPBACK, dicom)
        assert is_reached(LOOPBACK, pages)
        assert not is_reached(ELSEWHERE, dicom)
        assert not is_reached(ELSEWHERE, pages)
        told = log.read_text().splitlines()[:2]
        assert "(TENDON_DICOM_HOST): no node may send" in told[0]
        assert "tendon user add NAME --role admin" in told[1]
        assert "TENDON_TLS_CERTIFICATE" in told[1]
        assert exposure(pages) == {"status": "warn", "detail": "; ".join(told)}
        found = dict(check._findings(settings.load(site.environment())))
        assert [found["DICOM port"], found["HTTP port"]] == told


def test_with_an_admin_tls_and_a_sender_both_ports_are_open(site):
    site.tendon("user", "add", "ann", "--role", "admin", "--password-stdin", said=PASSWORD)
    node = {"name": "ct", "ae_title": "CT", "host": "10.0.0.1", "port": 104, "may_send": True}
    (site.folder / "site.yaml").write_text(yaml.safe_dump({"nodes": [node], "destinations": [], "rules": []}))
    site.tendon("import", str(site.folder / "site.yaml"))
    chain, key = write_certificate(site.folder)
    files = {"TENDON_TLS_CERTIFICATE": str(chain), "TENDON_TLS_KEY": str(key)}
    with site.running("serve", **files) as (announced, log):
        assert is_reached(ELSEWHERE, port_of(announced, f"on {ANY}"))
        pages = port_of(announced, f"https://{ANY}")
        told = httpx.get(f"https://{ELSEWHERE}:{pages}/healthz", verify=False)
        assert (told.text, told.headers["strict-transport-security"]) == ("ok", "max-age=31536000")
        assert log.read_text() == ""


def test_a_listener_by_itself_stays_closed_too(site):
    with site.running("scp") as (announced, log):
        assert not is_reached(ELSEWHERE, port_of(announced, f"on {LOOPBACK}"))
        assert "no node may send" in log.read_text()


def test_in_a_trusted_cluster_probes_are_answered_before_there_is_an_account(site, postgres_server):
    trusting = {"TENDON_DATABASE_URL": postgres_server.new_database(), "TENDON_TRUSTED_NETWORK": "true"}
    site.tendon("migrate", **trusting)
    with site.running("admin", **trusting) as (announced, log):
        pages = port_of(announced, f"http://{ANY}")
        assert is_reached(ELSEWHERE, pages)
        assert exposure(pages) == {"status": "pass"}
        assert log.read_text() == ""


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, "TENDON_TLS_CERTIFICATE must be set too"),
        ({"TENDON_TLS_CERTIFICATE": "/none"}, "TENDON_TLS_KEY cannot be used: No such file"),
    ],
)
def test_without_the_certificate_that_was_named_nothing_is_served(site, changed, told):
    environment = site.environment(TENDON_TLS_KEY="/none", **changed)
    ran = subprocess.run([TENDON, "admin"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr
