"""Who talks to whom: the network policies of each component, and nothing beside them."""

from __future__ import annotations

import pytest

from tests.helm.chart import PROFILES, Object, Rendering, changed, profile

DATABASE = ("namespace postgresql cnpg.io/cluster=tendon", (5432,))
BROKER = ("namespace rabbitmq", (5671,))
BUCKET = ("10.20.0.0/24", (9000,))
PACS = ("10.1.2.4/32", (104,))
EHR = ("10.1.3.0/24", (443,))
NAMES = ("namespace kube-system", ("UDP 53", "TCP 53"))


def peer(given: Object) -> str:
    if "ipBlock" in given:
        return given["ipBlock"]["cidr"]
    words = []
    if "namespaceSelector" in given:
        ((label, name),) = given["namespaceSelector"]["matchLabels"].items()
        assert label == "kubernetes.io/metadata.name"
        words += ["namespace", name]
    words += [f"{key}={value}" for key, value in given.get("podSelector", {}).get("matchLabels", {}).items()]
    return " ".join(words)


def port(given: Object) -> object:
    return f"{given['protocol']} {given['port']}" if given["port"] == 53 else given["port"]


def rules(policy: Object, direction: str, side: str) -> list[tuple[str, tuple]]:
    return [
        (peer(given), tuple(port(number) for number in rule["ports"]))
        for rule in policy["spec"].get(direction, [])
        for given in rule[side]
    ]


def reaches(rendering: Rendering) -> dict[str, list]:
    policies = rendering.of_kind("NetworkPolicy")
    return {name: rules(policy, "egress", "to") for name, policy in policies.items()}


def hears(rendering: Rendering) -> dict[str, list]:
    policies = rendering.of_kind("NetworkPolicy")
    return {name: heard for name, policy in policies.items() if (heard := rules(policy, "ingress", "from"))}


def test_each_component_reaches_what_it_needs_and_nothing_else(chart):
    assert reaches(chart.render(profile("s3-gpu"))) == {
        "default-deny": [],
        "scp": [NAMES, DATABASE, BUCKET],
        "admin": [NAMES, DATABASE, BUCKET, PACS, EHR],
        "rounds": [NAMES, DATABASE, BROKER, BUCKET, PACS, EHR],
        "worker-cpu": [NAMES, DATABASE, BROKER, BUCKET],
        "worker-gpu": [NAMES, DATABASE, BROKER, BUCKET],
        "migrate": [NAMES, DATABASE, BROKER],
    }


def test_only_senders_reach_the_listener_and_only_the_named_the_pages(chart):
    assert hears(chart.render(profile("s3-gpu"))) == {"scp": [("10.1.0.0/16", ("dicom",))]}
    assert hears(chart.render(profile("high-availability"))) == {
        "scp": [("10.1.0.0/16", ("dicom",)), ("fd00:1::/64", ("dicom",))],
        "admin": [
            ("namespace ingress-nginx", ("http",)),
            ("namespace monitoring app.kubernetes.io/name=prometheus", ("http",)),
        ],
    }


def test_on_a_shared_volume_nothing_reaches_for_a_bucket(chart):
    assert reaches(chart.render(profile("minimal")))["worker-cpu"] == [
        NAMES,
        ("10.20.0.10/32", (5432,)),
        ("10.20.0.11/32", (5671,)),
    ]


@pytest.mark.parametrize("name", sorted(PROFILES.keys() - {"test-environment"}))
def test_every_pod_is_closed_in_both_directions(chart, name):
    rendering = chart.render(profile(name))
    policies = rendering.of_kind("NetworkPolicy")
    assert set(policies) == {"default-deny", *rendering.pods()}
    for policy in policies.values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    everyone = policies["default-deny"]["spec"]
    assert "ingress" not in everyone
    assert "egress" not in everyone
    for pod in rendering.pods().values():
        assert everyone["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_no_rule_is_open_to_everybody_by_an_empty_list(rendering):
    for policy in rendering.of_kind("NetworkPolicy").values():
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule[side]
                assert all(rule[side])
                assert rule["ports"]


def test_policies_are_left_out_only_where_the_site_says_so(chart):
    assert chart.render(profile("test-environment")).of_kind("NetworkPolicy") == {}
    closed = changed(profile("minimal"), "networkPolicy", {"enabled": False})
    assert chart.render(closed).of_kind("NetworkPolicy") == {}


def test_names_are_looked_up_where_the_cluster_keeps_them(chart):
    assert reaches(chart.render(profile("everything")))["scp"][:2] == [
        ("namespace kube-system k8s-app=kube-dns", ("UDP 53", "TCP 53")),
        ("169.254.20.10/32", ("UDP 53", "TCP 53")),
    ]
