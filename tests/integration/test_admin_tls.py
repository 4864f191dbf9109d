"""The pages over TLS, with certificates that change under way, and the word of proxies."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from threading import active_count

import httpx
import pytest

from orchestrator.admin.connection import Deadlines
from orchestrator.admin.server import AdminServer
from orchestrator.admin.tls import Certificate
from orchestrator.domain.errors import Broken
from tests.certificates import write_certificate
from tests.dicom_peers import LOOPBACK, eventually
from tests.served import APPLICATION, GOOD, answer, one_answer, serving, stranger

OFTEN_S = 0.05


@pytest.fixture
def certificate(tmp_path):
    return Certificate(*write_certificate(tmp_path))


@contextmanager
def shaken(port: int, version: ssl.TLSVersion | None = None, ciphers: str = "DEFAULT@SECLEVEL=0"):
    """A connection by TLS that trusts whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version or ssl.TLSVersion.TLSv1_3
    with stranger(port) as plain, context.wrap_socket(plain) as secure:
        yield secure


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pages_are_served_by_tls_and_say_that_it_shall_stay_so(certificate, version):
    with serving(certificate=certificate) as port, shaken(port, version) as browser:
        browser.sendall(GOOD)
        told = one_answer(browser)
    assert told.endswith(b"ok")
    assert b"\r\nstrict-transport-security: max-age=31536000\r\n" in told


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "DEFAULT@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256"),
    ],
)
def test_what_is_broken_or_remembers_keys_is_not_spoken(certificate, version, ciphers):
    with serving(certificate=certificate) as port, pytest.raises(ssl.SSLError), shaken(port, version, ciphers):
        pass


def test_who_speaks_without_tls_is_not_answered(certificate):
    with serving(certificate=certificate) as port, stranger(port) as plain:
        plain.sendall(GOOD)
        assert b"HTTP" not in answer(plain)


def test_a_handshake_has_a_deadline(certificate):
    with serving(certificate=certificate, deadlines=Deadlines(handshake_s=0.3)) as port:
        for said in (b"", b"\x16\x03\x01\x02\0"):
            with stranger(port) as silent:
                silent.sendall(said)
                answer(silent)


def test_of_a_handshake_that_failed_nothing_is_left(certificate):
    server = AdminServer(APPLICATION, socket.create_server((LOOPBACK, 0)), certificate=certificate)
    server.start()
    try:
        with stranger(server.port) as plain:
            plain.sendall(GOOD)
            answer(plain)
        assert eventually(lambda: len(server._server._visits) == 0)
    finally:
        server.stop()


def test_handshakes_that_do_not_end_keep_nobody_out(certificate):
    with serving(certificate=certificate) as port:
        before = active_count()
        silent = [stranger(port) for _ in range(400)]
        with shaken(port) as browser:
            browser.sendall(GOOD)
            assert one_answer(browser).endswith(b"ok")
        for connection in silent:
            connection.close()
        assert eventually(lambda: active_count() <= before)


def seen_by(port: int) -> bytes | None:
    with shaken(port) as browser:
        return browser.getpeercert(binary_form=True)


def test_a_changed_certificate_is_used_for_new_connections_and_a_faulty_one_never(certificate, tmp_path, caplog):
    with serving(certificate=certificate, look_again_s=OFTEN_S) as port, shaken(port) as older:
        first = seen_by(port)
        write_certificate(tmp_path)
        assert eventually(lambda: seen_by(port) != first)
        second = seen_by(port)
        chain, key = tmp_path / "tls.crt", tmp_path / "tls.key"
        (tmp_path / "other").mkdir()
        of_another, _ = write_certificate(tmp_path / "other")
        faults = {
            "key values mismatch": lambda: chain.write_bytes(of_another.read_bytes()),
            "no usable PEM": lambda: key.write_bytes(b"nonsense"),
            "No such file": key.unlink,
        }
        for told, harm in faults.items():
            harm()
            assert eventually(lambda told=told: told in caplog.text), (told, caplog.text)
            assert seen_by(port) == second
        older.sendall(GOOD)
        assert one_answer(older).endswith(b"ok")


def test_a_certificate_with_the_key_of_another_is_not_started_with(tmp_path):
    (tmp_path / "other").mkdir()
    chain, _ = write_certificate(tmp_path)
    _, key = write_certificate(tmp_path / "other")
    with pytest.raises(Broken, match="TENDON_TLS_KEY cannot be used: key values mismatch"):
        Certificate(chain, key)
    with pytest.raises(Broken, match="cannot be used: No such file"):
        Certificate(tmp_path / "none.crt", key)


# proxies

SAID = {"X-Forwarded-For": "6.6.6.6, 10.1.2.3", "X-Forwarded-Proto": "https"}


def who(port: int) -> tuple[list[str], bool]:
    """Whom the application takes the client for, and whether it told browsers to insist on TLS."""
    told = httpx.get(f"http://{LOOPBACK}:{port}/who", headers=SAID)
    return told.json(), "strict-transport-security" in told.headers


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",), ("127.0.0.2",)])
def test_nobody_is_believed_who_is_no_trusted_proxy(trusted, monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with serving(trusted=trusted) as port:
        assert who(port) == ([LOOPBACK, "http"], False)


@pytest.mark.parametrize("trusted", [("127.0.0.1",), ("127.0.0.0/8", "fd00::/8")])
def test_a_trusted_proxy_is_believed_but_not_what_it_was_told(trusted):
    with serving(trusted=trusted) as port:
        assert who(port) == (["10.1.2.3", "https"], True)
