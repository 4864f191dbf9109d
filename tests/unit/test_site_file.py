"""The one YAML file of nodes, destinations and rules: read, refused by the path of the fault, and written back."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.address import host_fault
from orchestrator.domain.delivery import Destination, Node
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.notice import EVENTS, Notice
from orchestrator.domain.site import SiteContent
from orchestrator.rulebook.sitefile import parse_site, write_site

EXAMPLE = """
nodes:
  - {name: ct1, ae_title: CT1, host: 10.1.2.3, port: 104, may_send: true, site: main, patient_id_issuer: MAIN,
     time_zone: Europe/London, identity_authority: false}
destinations:
  - {name: pacs, kind: dicom, ae_title: PACS, host: 127.0.0.1, port: 11113, profile: ohif, proof: commitment}
  - {name: ehr, kind: fhir, url: "https://ehr.example/fhir", patient_systems: {MAIN: "urn:oid:2.999.1.1"}}
  - {name: orders, kind: hl7v2, host: 10.1.2.4, port: 2575}
  - {name: share, kind: folder, path: out}
rules: []
"""


def test_the_example_of_the_manual_is_read():
    site = parse_site(EXAMPLE)
    nodes, destinations, rules = site.nodes, site.destinations, site.rules
    assert nodes == (
        Node("ct1", "CT1", "10.1.2.3", 104, site="main", patient_id_issuer="MAIN", time_zone="Europe/London"),
    )
    assert destinations[0] == Destination(
        "pacs", "dicom", ae_title="PACS", host="127.0.0.1", port=11113, proof="commitment"
    )
    assert destinations[1].patient_systems == (("MAIN", "urn:oid:2.999.1.1"),)
    assert rules == ()


def test_the_ehr_waits_for_a_review_unless_it_says_otherwise_and_images_do_not():
    destinations = parse_site(EXAMPLE).destinations
    assert {d.name: d.release for d in destinations} == {
        "pacs": "at_once",
        "ehr": "after_review",
        "orders": "after_review",
        "share": "at_once",
    }


def test_a_destination_takes_500_objects_at_a_time_and_as_many_a_second_as_come_unless_it_says_otherwise():
    destinations = parse_site(
        "destinations: [{name: a, kind: folder, path: a}, {name: b, kind: folder, path: b, max_batch: 9, max_per_s: 2}]"
    ).destinations
    assert [(d.max_batch, d.max_per_s) for d in destinations] == [(500, None), (9, 2.0)]


def test_a_node_may_not_send_unless_it_says_so():
    nodes = parse_site("nodes: [{name: ct1, ae_title: CT1, host: h}]").nodes
    assert nodes == (Node("ct1", "CT1", "h", 104, may_send=False),)


def test_a_node_is_asked_nothing_unless_it_says_that_it_answers_queries():
    nodes = parse_site(
        "nodes: [{name: ct1, ae_title: CT1, host: h}, {name: pacs, ae_title: P, host: h, query: true}]"
    ).nodes
    assert [node.query for node in nodes] == [False, True]
    with pytest.raises(Refused, match=r"nodes\[0\]\.query: "):
        parse_site("nodes: [{name: pacs, ae_title: P, host: h, query: 'yes'}]")


@pytest.mark.parametrize("text", ["", "# nothing yet", "{}", "nodes: []"])
def test_an_empty_file_is_an_empty_site(text):
    assert parse_site(text) == SiteContent()


def faults() -> list[tuple[str, str]]:
    return [
        ("- 1", "the file"),
        ("nodes", "the file"),
        ("false", "the file"),
        ("nodez: []", "nodez"),
        *faults_of_nodes(),
        *faults_of_destinations(),
        *faults_of_notices(),
        ("rules: {name: CT}", "rules"),
        ("rules: [CT]", "rules[0]"),
    ]


def faults_of_nodes() -> list[tuple[str, str]]:
    node = "name: n, ae_title: A, host: h"
    return [
        ("nodes: 3", "nodes"),
        ("nodes: [3]", "nodes[0]"),
        ("nodes: [{ae_title: A, host: h}]", "nodes[0].name"),
        ("nodes: [{name: 'a b', ae_title: A, host: h}]", "nodes[0].name"),
        ("nodes: [{name: n, ae_title: '', host: h}]", "nodes[0].ae_title"),
        ("nodes: [{name: n, ae_title: '   ', host: h}]", "nodes[0].ae_title"),
        ("nodes: [{name: n, ae_title: ABCDEFGHIJKLMNOPQ, host: h}]", "nodes[0].ae_title"),
        ("nodes: [{name: n, ae_title: 'A\\B', host: h}]", "nodes[0].ae_title"),
        ("nodes: [{name: n, ae_title: A, host: ''}]", "nodes[0].host"),
        ("nodes: [{name: n, ae_title: A, host: 169.254.169.254}]", "nodes[0].host"),
        (f"nodes: [{{{node}, port: 0}}]", "nodes[0].port"),
        (f"nodes: [{{{node}, port: 65536}}]", "nodes[0].port"),
        (f"nodes: [{{{node}, port: '104'}}]", "nodes[0].port"),
        (f"nodes: [{{{node}, may_send: 'yes'}}]", "nodes[0].may_send"),
        (f"nodes: [{{{node}, colour: red}}]", "nodes[0].colour"),
        (f"nodes: [{{{node}, quota_gb_per_day: 0}}]", "nodes[0].quota_gb_per_day"),
        (f"nodes: [{{{node}, quota_gb_per_day: -1}}]", "nodes[0].quota_gb_per_day"),
        (f"nodes: [{{{node}, quota_gb_per_day: .inf}}]", "nodes[0].quota_gb_per_day"),
        (f"nodes: [{{{node}, quota_gb_per_day: 5 GB}}]", "nodes[0].quota_gb_per_day"),
        (f"nodes: [{{{node}}}, {{{node}}}]", "nodes[1].name"),
    ]


def faults_of_notices() -> list[tuple[str, str]]:
    hook = "name: n, kind: webhook, url: 'https://h.example/'"
    mail = "name: n, kind: email, to: [a@b.example], events: [job.failed]"
    return [
        ("notices: {}", "notices"),
        (f"notices: [{{{hook}}}]", "notices[0].events"),
        (f"notices: [{{{hook}, events: []}}]", "notices[0].events"),
        (f"notices: [{{{hook}, events: [job.begun]}}]", "notices[0].events[0]"),
        (f"notices: [{{{hook}, events: [job.done], secret: x}}]", "notices[0].secret"),
        (f"notices: [{{{hook}, events: [job.done], template: a}}]", "notices[0].template"),
        (f"notices: [{{{hook}, events: [job.done], to: [a@b.example]}}]", "notices[0].to"),
        ("notices: [{name: n, kind: webhook, events: [job.done]}]", "notices[0].url"),
        ("notices: [{name: n, kind: webhook, events: [job.done], url: 'https://a@h/'}]", "notices[0].url"),
        ("notices: [{name: n, kind: webhook, events: [job.done], url: 'http://[fe80::1]/'}]", "notices[0].url"),
        ("notices: [{name: n, kind: pager, events: [job.done]}]", "notices[0].kind"),
        ("notices: [{name: n, kind: email, events: [job.done]}]", "notices[0].to"),
        (f"notices: [{{{mail}, url: 'https://h/'}}]", "notices[0].url"),
        (f"notices: [{{{mail}, template: '{{patient_name}}'}}]", "notices[0].template"),
        (f"notices: [{{{mail}, template: '{{reason.__class__}}'}}]", "notices[0].template"),
        (f"notices: [{{{mail}, template: '{{reason'}}]", "notices[0].template"),
        (
            'notices: [{name: n, kind: email, events: [job.done], to: ["a@b.example\\nBcc: c@d.example"]}]',
            "notices[0].to[0]",
        ),
        ("notices: [{name: n, kind: email, events: [job.done], to: ['a@b.example, c@d.example']}]", "notices[0].to[0]"),
        ("notices: [{name: n, kind: email, events: [job.done], to: [a@b.example, nobody]}]", "notices[0].to[1]"),
        (f"notices: [{{{mail}}}, {{{mail}}}]", "notices[1].name"),
    ]


def faults_of_destinations() -> list[tuple[str, str]]:
    pacs = "name: p, kind: dicom, ae_title: A, host: h, port: 104"
    return [
        ("destinations: [{name: p, kind: ftp}]", "destinations[0].kind"),
        ("destinations: [{name: p, kind: dicom, host: h, port: 1}]", "destinations[0].ae_title"),
        ("destinations: [{name: p, kind: dicom, ae_title: A, port: 1}]", "destinations[0].host"),
        ("destinations: [{name: p, kind: dicom, ae_title: A, host: h}]", "destinations[0].port"),
        ("destinations: [{name: p, kind: dicomweb}]", "destinations[0].url"),
        ("destinations: [{name: p, kind: fhir}]", "destinations[0].url"),
        ("destinations: [{name: p, kind: hl7v2, host: h}]", "destinations[0].port"),
        ("destinations: [{name: p, kind: folder}]", "destinations[0].path"),
        ("destinations: [{name: p, kind: fhir, url: 'ftp://h/'}]", "destinations[0].url"),
        ("destinations: [{name: p, kind: dicomweb, url: 'http://0xA9FEA9FE/'}]", "destinations[0].url"),
        ("destinations: [{name: p, kind: dicom, ae_title: A, host: 169.254.1.1, port: 1}]", "destinations[0].host"),
        ("destinations: [{name: p, kind: hl7v2, host: '::ffff:a9fe:a9fe', port: 1}]", "destinations[0].host"),
        (f"destinations: [{{{pacs}, proof: hope}}]", "destinations[0].proof"),
        (f"destinations: [{{{pacs}, release: never}}]", "destinations[0].release"),
        (f"destinations: [{{{pacs}, patient_systems: {{MAIN: 1}}}}]", "destinations[0].patient_systems.MAIN"),
        (f"destinations: [{{{pacs}, max_batch: 0}}]", "destinations[0].max_batch"),
        (f"destinations: [{{{pacs}, max_per_s: 0}}]", "destinations[0].max_per_s"),
        (f"destinations: [{{{pacs}, max_per_s: .inf}}]", "destinations[0].max_per_s"),
        (f"destinations: [{{{pacs}}}, {{{pacs}}}]", "destinations[1].name"),
    ]


@pytest.mark.parametrize(("text", "path"), faults(), ids=[text[:60] for text, _ in faults()])
def test_each_fault_names_its_path(text, path):
    with pytest.raises(Refused) as refusal:
        parse_site(text)
    assert refusal.value.fault is Fault.DESTINATION_INVALID
    assert refusal.value.detail.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "text", ["nodes: [", "a: 1\na: 2", "!!python/object:os.system {}", "x: \x00", "a: 1\n---\nb: 2"]
)
def test_what_is_no_plain_yaml_is_refused(text):
    with pytest.raises(Refused) as refusal:
        parse_site(text)
    assert refusal.value.fault is Fault.RULE_INVALID


def test_notices_say_who_is_told_of_what():
    site = parse_site(
        "notices:\n"
        "  - {name: ops, kind: webhook, url: 'https://h.example/t', events: [job.failed, job.failed, alarm.raised]}\n"
        '  - {name: mail, kind: email, to: [a@b.example], events: [job.held], template: "{code}\\n{reason}"}\n'
    )
    assert site.notices == (
        Notice("ops", "webhook", ("job.failed", "alarm.raised"), url="https://h.example/t"),
        Notice("mail", "email", ("job.held",), to=("a@b.example",), template="{code}\n{reason}"),
    )


@pytest.mark.parametrize("url", ["http://hook.example/", "https://10.0.0.1/", "https://localhost/", "https://[::1]/"])
def test_only_https_to_public_addresses_is_kept_where_that_is_wanted(url):
    for text, path in (
        (f"notices: [{{name: n, kind: webhook, events: [job.done], url: '{url}'}}]", r"notices\[0\]\.url"),
        (f"destinations: [{{name: p, kind: fhir, url: '{url}'}}]", r"destinations\[0\]\.url"),
    ):
        parse_site(text)
        with pytest.raises(Refused, match=path):
            parse_site(text, https_only=True)
    inside = "destinations: [{name: p, kind: dicom, ae_title: A, host: 10.0.0.1, port: 104}]"
    assert parse_site(inside, https_only=True) == parse_site(inside)


# there and back

awkward = st.sampled_from(
    [
        "NO",
        "on",
        "1e5",
        "089",
        "0x1F",
        "12:30",
        "2024-01-31",
        "null",
        "~",
        "true",
        "+.5",
        "1.5e3",
        ".inf",
        "1_000",
        "=",
        "<<",
    ]
)
texts = awkward | st.text(max_size=20)
names = awkward.filter(lambda t: set(t) <= set(string.ascii_letters + string.digits + "_.-")) | st.text(
    string.ascii_letters + string.digits + "_.-", min_size=1, max_size=64
)
ae_titles = (
    st.text([chr(c) for c in range(0x20, 0x7F) if chr(c) != "\\"], min_size=1, max_size=16).filter(
        lambda t: t == t.strip()
    )
    | awkward
)
values = st.recursive(
    st.booleans() | st.integers(-(10**18) + 1, 10**18 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
hosts = texts.filter(lambda text: text and not host_fault(text))
urls = st.sampled_from(["https://h.example", "http://10.1.2.3:8080/a?b=%20", "HTTPS://[::1]/"])
nodes = st.builds(
    Node,
    name=names,
    ae_title=ae_titles,
    host=hosts,
    port=st.integers(1, 65535),
    may_send=st.booleans(),
    site=texts,
    patient_id_issuer=texts,
    time_zone=st.sampled_from(["", "UTC", "Europe/London"]),
    identity_authority=st.booleans(),
    query=st.booleans(),
    quota_gb_per_day=st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
)
destinations = st.builds(
    Destination,
    name=names,
    kind=st.sampled_from(["dicom", "dicomweb", "fhir", "hl7v2", "folder"]),
    ae_title=ae_titles,
    host=hosts,
    port=st.integers(1, 65535),
    url=urls,
    path=texts.filter(bool),
    profile=texts,
    proof=st.sampled_from(["commitment", "query", "ack"]),
    release=st.sampled_from(["at_once", "after_review", "shadow"]),
    production=st.booleans(),
    patient_system=texts,
    patient_systems=st.dictionaries(texts, texts, max_size=3).map(lambda systems: tuple(systems.items())),
    max_batch=st.integers(1, 10_000),
    max_per_s=st.none() | st.floats(0.01, 1e6),
)
mailboxes = st.sampled_from(["a@b.example", "no+1@b-c.example", "'=on'@1.example"])
given_events = st.lists(st.sampled_from(EVENTS), min_size=1, unique=True).map(tuple)
notices = st.builds(Notice, name=names, kind=st.just("webhook"), events=given_events, url=urls) | st.builds(
    Notice,
    name=names,
    kind=st.just("email"),
    events=given_events,
    to=st.lists(mailboxes, min_size=1, max_size=3).map(tuple),
    template=st.sampled_from(["", "{event}", "NO {code}\n\n on\t{reason}: {at}\n", "# {id}"]),
)
sites = st.builds(
    SiteContent,
    nodes=st.lists(nodes, max_size=3, unique_by=lambda n: n.name).map(tuple),
    destinations=st.lists(destinations, max_size=3, unique_by=lambda d: d.name).map(tuple),
    rules=st.lists(st.dictionaries(texts, values, max_size=3), max_size=3).map(tuple),
    procedures=st.lists(st.dictionaries(texts, values, max_size=3), max_size=3).map(tuple),
    test_studies=st.lists(st.dictionaries(texts, values, max_size=3), max_size=3).map(tuple),
    notices=st.lists(notices, max_size=3, unique_by=lambda n: n.name).map(tuple),
)


@given(sites)
def test_a_site_that_is_written_is_read_back_the_same(site):
    assert parse_site(write_site(site)) == site


def test_only_what_differs_from_the_defaults_is_written():
    site = parse_site(EXAMPLE)
    assert "production" not in write_site(site)
    assert "identity_authority" not in write_site(site)
    assert parse_site(write_site(site)) == site


def test_a_rule_shared_by_two_places_is_written_and_read():
    condition = {"field": "series.modality", "eq": "CT"}
    site = SiteContent(rules=({"name": "a", "when": condition}, {"name": "b", "when": condition}))
    assert parse_site(write_site(site)).rules == site.rules
