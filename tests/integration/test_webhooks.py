"""Webhooks over real connections: what is sent, and what no name, redirect or answer can make of them (S16)."""

from __future__ import annotations

import hmac
import json
import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.errors import Fault, Refused, TendonError, Transient
from orchestrator.domain.notice import Happening, Notice, Posting, fields_of
from orchestrator.outgoing.line import addresses_of
from orchestrator.outgoing.webhook import Webhooks
from tests.dicom_peers import free_port
from tests.rows import after
from tests.servers.certificates import vouched
from tests.servers.hooks import LOOPBACK, hooks

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

SECRET = "0123456789abcdef"
FIELDS = fields_of(
    Posting(
        number=1, notice="ops", happening=Happening(event="job.done", at=after(0), reason="Größe"), due_at=after(0)
    ),
    "north",
)


def resolver(*answers: str | list[str]):
    """Gives one answer after the other, the last for ever, and remembers what it was asked."""
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        answer = answers[min(len(asked), len(answers)) - 1]
        return [answer] if isinstance(answer, str) else answer

    resolve.asked = asked
    return resolve


def hook_at(port: int, host: str = "hook.example", scheme: str = "http") -> Notice:
    return Notice("ops", "webhook", ("job.done",), url=f"{scheme}://{host}:{port}/a/b?c=d%20e")


@pytest.fixture
def hook():
    with hooks() as hook:
        yield hook


def test_the_body_is_json_and_signed_as_the_manual_says(hook):
    Webhooks(SECRET, resolve=resolver(LOOPBACK)).send(hook_at(hook.port), FIELDS, after(7))
    (request,) = hook.requests
    assert (request.method, request.path) == ("POST", "/a/b?c=d%20e")
    assert request.headers["Host"] == f"hook.example:{hook.port}"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body)["reason"] == "Größe"
    stamp, signed = (part.partition("=")[2] for part in request.headers["Tendon-Signature"].split(","))
    assert int(stamp) == int(after(7).timestamp())
    expected = hmac.new(SECRET.encode(), stamp.encode() + b"." + request.body, "sha256").hexdigest()
    assert hmac.compare_digest(signed, expected)


def test_without_a_secret_it_is_not_signed(hook):
    Webhooks("", resolve=resolver(LOOPBACK)).send(hook_at(hook.port), FIELDS, after(7))
    assert "Tendon-Signature" not in hook.requests[0].headers


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1%1", "0.0.0.0", "::", "fd00:ec2::254", "224.0.0.1"]
)
def test_a_name_that_leads_to_a_forbidden_address_is_not_called(hook, address):
    for answer in ([address], [LOOPBACK, address]):
        with pytest.raises(Refused) as refusal:
            Webhooks("", resolve=resolver(answer)).send(hook_at(hook.port), FIELDS, after(7))
        assert refusal.value.fault is Fault.ADDRESS_FORBIDDEN
    assert hook.requests == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:a9fe:a9fe]", "user@hook.example"]
)
def test_a_url_that_the_site_should_not_hold_is_not_called_either(hook, host):
    resolve = resolver(LOOPBACK)
    with pytest.raises(Refused) as refusal:
        Webhooks("", resolve=resolve).send(hook_at(hook.port, host), FIELDS, after(7))
    assert refusal.value.fault is Fault.ADDRESS_FORBIDDEN
    assert resolve.asked == []


def test_a_name_is_looked_up_once_and_what_was_checked_is_what_is_called(hook):
    resolve = resolver(LOOPBACK, "169.254.169.254")
    messenger = Webhooks("", resolve=resolve)
    messenger.send(hook_at(hook.port), FIELDS, after(7))
    assert resolve.asked == [("hook.example", hook.port)]
    with pytest.raises(Refused):
        messenger.send(hook_at(hook.port), FIELDS, after(7))
    assert len(hook.requests) == 1


def test_this_machine_is_called_unless_only_https_is_wanted(hook):
    notice = hook_at(hook.port, "localhost")
    Webhooks("").send(notice, FIELDS, after(7))
    for given, resolve in ((notice, addresses_of), (hook_at(hook.port, scheme="https"), resolver(LOOPBACK))):
        with pytest.raises(Refused) as refusal:
            Webhooks("", https_only=True, resolve=resolve).send(given, FIELDS, after(7))
        assert refusal.value.fault is Fault.ADDRESS_FORBIDDEN
    assert len(hook.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(hook, status):
    with hooks() as elsewhere:
        hook.status, hook.headers = status, {"Location": f"http://{LOOPBACK}:{elsewhere.port}/"}
        with pytest.raises(Refused, match=str(status)):
            Webhooks("", resolve=resolver(LOOPBACK)).send(hook_at(hook.port), FIELDS, after(7))
        assert elsewhere.requests == []


def test_no_proxy_of_the_environment_is_used(hook, monkeypatch):
    with hooks() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{LOOPBACK}:{proxy.port}")
        Webhooks("", resolve=resolver(LOOPBACK)).send(hook_at(hook.port), FIELDS, after(7))
        assert (len(hook.requests), proxy.requests) == (1, [])


def test_the_next_address_is_called_where_the_first_cannot_be_reached(hook):
    Webhooks("", resolve=resolver(["::1", LOOPBACK])).send(hook_at(hook.port), FIELDS, after(7))
    assert len(hook.requests) == 1


def test_an_answer_without_end_is_not_taken(hook):
    def pour(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"a" * 65536)

    hook.answer = pour
    Webhooks("", resolve=resolver(LOOPBACK)).send(hook_at(hook.port), FIELDS, after(7))
    assert len(hook.requests) == 1


def test_headers_that_drip_are_waited_for_until_the_time_is_over(hook):
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            handler.wfile.write(b"X: y\r\n")
            time.sleep(0.05)

    hook.answer = drip
    with pytest.raises(Transient, match="in time"):
        Webhooks("", resolve=resolver(LOOPBACK), deadline_s=0.3).send(hook_at(hook.port), FIELDS, after(7))


def test_a_resolver_that_hangs_is_left_when_the_time_is_over():
    def hang(host: str, port: int) -> list[str]:
        time.sleep(1)
        return [LOOPBACK]

    with pytest.raises(Transient, match="in time"):
        Webhooks("", resolve=hang, deadline_s=0.1).send(hook_at(80), FIELDS, after(7))


def test_a_name_that_nobody_knows_is_worth_another_try():
    def unknown(host: str, port: int) -> list[str]:
        raise OSError

    with pytest.raises(Transient, match="not known"):
        Webhooks("", resolve=unknown).send(hook_at(80), FIELDS, after(7))


@pytest.mark.parametrize(
    "answer", [b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 40_000]
)
def test_an_answer_that_is_no_http_is_a_failure(hook, answer):
    hook.answer = lambda handler: handler.wfile.write(answer)
    with pytest.raises(Transient, match="cannot be reached"):
        Webhooks("", resolve=resolver(LOOPBACK)).send(hook_at(hook.port), FIELDS, after(7))


# TLS


def test_the_certificate_must_be_the_hosts_though_its_address_is_called(tmp_path):
    made = vouched(tmp_path, "hook.example", LOOPBACK)
    with hooks(made.server) as hook:
        messenger = Webhooks(SECRET, resolve=resolver(LOOPBACK), trust=made.client)
        for host in ("hook.example", "HOOK.example.", LOOPBACK):
            messenger.send(hook_at(hook.port, host, "https"), FIELDS, after(7))
        assert len(hook.requests) == 3
        with pytest.raises(Transient, match="not trusted"):
            messenger.send(hook_at(hook.port, "other.example", "https"), FIELDS, after(7))
        with pytest.raises(Transient, match="not trusted"):
            Webhooks(SECRET, resolve=resolver(LOOPBACK)).send(hook_at(hook.port, scheme="https"), FIELDS, after(7))
        assert len(hook.requests) == 3


def test_a_failure_tells_nothing_of_the_receivers_answer(hook):
    hook.answer = lambda handler: handler.wfile.write(b"HTTP/1.1 500 Ann^Example\r\nContent-Length: 3\r\n\r\nAnn")
    with pytest.raises(TendonError) as failure:
        Webhooks("", resolve=resolver(LOOPBACK)).send(hook_at(hook.port), FIELDS, after(7))
    assert failure.value.detail == "the receiver answered with status 500"


def test_nobody_listening_is_no_answer():
    with pytest.raises(Transient, match="cannot be reached"):
        Webhooks("", resolve=resolver(LOOPBACK)).send(hook_at(free_port()), FIELDS, after(7))
