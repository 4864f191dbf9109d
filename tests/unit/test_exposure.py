"""Where Tendon listens, by what it was asked for and by what protects it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.access import Account
from orchestrator.domain.delivery import Node
from orchestrator.domain.exposure import OWN, Precautions, bind_dicom, bind_pages, may_administer, may_receive
from orchestrator.domain.health import PASS, Health
from orchestrator.domain.site import SiteContent
from orchestrator.service.checking import exposure_health

ANY = "0.0.0.0"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = {"admin": "has_admin", "tls": "has_tls", "senders": "has_senders", "trusted": "is_network_trusted"}


def having(words: str) -> Precautions:
    given = words.split()
    flags = {flag: name in given for name, flag in NAMES.items()}
    return Precautions(**flags, is_distributed="cluster" in given)


@pytest.mark.parametrize(
    ("words", "lacking"),
    [
        ("", "admin tls"),
        ("senders", "admin tls"),
        ("admin", "tls"),
        ("tls", "admin"),
        ("admin tls", ""),
        ("trusted", "admin"),
        ("trusted tls", "admin"),
        ("trusted admin", ""),
        ("cluster", "admin tls"),
        ("cluster admin", "tls"),
        ("cluster tls", "admin"),
        ("cluster admin tls", ""),
        ("cluster trusted", ""),
    ],
)
def test_pages_are_opened_with_an_admin_and_tls_or_a_trusted_network(words, lacking):
    bound = bind_pages(ANY, having(words))
    assert bound.host == (OWN if lacking else ANY)
    assert ("tendon user add NAME --role admin" in bound.denied) == ("admin" in lacking)
    assert ("TENDON_TLS_CERTIFICATE and TENDON_TLS_KEY" in bound.denied) == ("tls" in lacking)
    assert ("TENDON_TRUSTED_NETWORK=true" in bound.denied) == ("tls" in lacking)
    assert bool(bound.denied) == bool(lacking)


@pytest.mark.parametrize(
    ("words", "is_open"),
    [
        ("", False),
        ("admin tls", False),
        ("senders", True),
        ("trusted", True),
        ("cluster", False),
        ("cluster senders", True),
        ("cluster trusted", True),
    ],
)
def test_the_dicom_port_is_opened_once_some_node_may_send(words, is_open):
    bound = bind_dicom(ANY, having(words))
    assert bound.host == (ANY if is_open else OWN)
    assert ("may_send: true" in bound.denied) == (not is_open)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
@pytest.mark.parametrize("bind", [bind_pages, bind_dicom])
def test_this_machine_itself_needs_no_protection(bind, host):
    assert bind(host, having("")).host == host
    assert bind(host, having("")).denied == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.1.2.3", "fe80::1", "tendon.example.org", "localhost.evil"])
@pytest.mark.parametrize("bind", [bind_pages, bind_dicom])
def test_every_other_address_does(bind, host):
    assert bind(host, having("")).host == OWN


def test_what_is_missing_is_said_in_one_sentence_that_names_the_setting():
    assert bind_pages(ANY, having("tls")).denied == (
        "HTTP is answered on 127.0.0.1 only, not on 0.0.0.0 (TENDON_ADMIN_HOST): there is no account with role admin "
        "that may sign in (tendon user add NAME --role admin); then start Tendon again"
    )


def account(**given) -> Account:
    return Account(**{"name": "ann", "role": "admin", "created_at": NOW, "password": "hash", **given})


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ({}, True),
        ({"role": "operator"}, False),
        ({"is_disabled": True}, False),
        ({"sites": ("north",)}, False),
        ({"password": "", "issuer": "https://id", "subject": "7"}, True),
        ({"password": ""}, False),
        ({"provisional_until": NOW + timedelta(days=1)}, True),
        ({"provisional_until": NOW}, False),
    ],
)
def test_an_admin_is_who_can_sign_in_and_manage_accounts(given, counts):
    assert may_administer([account(role="viewer"), account(**given)], NOW) is counts


def test_a_site_receives_once_a_node_may_send():
    node = {"name": "ct", "ae_title": "CT", "host": "10.0.0.1", "port": 104}
    assert not may_receive(None)
    assert not may_receive(SiteContent(nodes=(Node(**node, may_send=False),)))
    assert may_receive(SiteContent(nodes=(Node(**node, may_send=False), Node(**node, may_send=True))))


def test_monitors_are_warned_of_what_was_denied():
    fine, denied = bind_pages(OWN, having("")), bind_dicom(ANY, having(""))
    assert exposure_health([fine]) == PASS
    assert exposure_health([fine, denied]) == Health("warn", detail=denied.denied)
