"""Values that make no sense together are refused, each with a sentence that says what to do."""

from __future__ import annotations

import pytest

from tests.helm.chart import RefusedError, changed, profile

REFUSED = [
    ("minimal", {"site.installation": ""}, "site.installation is empty"),
    ("minimal", {"images.control.tag": "latest"}, "images.control.tag is latest"),
    ("minimal", {"images.workerGpu.tag": "latest"}, "images.workerGpu.tag is latest"),
    ("minimal", {"objects.volume.create": False}, "there is no place for objects"),
    ("minimal", {"objects.url": "s3://b/p", "objects.peers": [{"cidr": "10.0.0.1/32"}]}, "are both set: objects are"),
    ("minimal", {"objects.volume.existingClaim": "studies"}, "either the chart makes the claim or it exists"),
    ("minimal", {"objects.secretName": "keys"}, "these are of a bucket"),
    ("minimal", {"objects.serviceAccountAnnotations": {"a/b": "c"}}, "these are of a bucket"),
    ("minimal", {"admin.replicas": 0}, "admin.replicas is 0: nobody could sign in"),
    ("minimal", {"rounds.replicas": 0}, "rounds.replicas is 0: no study would be routed"),
    ("minimal", {"lanes.cpu.replicas": 0}, "lanes.cpu.replicas is 0: every job ends on lane cpu"),
    ("s3-gpu", {"lanes.gpu.gpu": {"count": 0}}, "lanes.gpu has workers but lanes.gpu.gpu.count is 0"),
    ("s3-gpu", {"lanes.gpu.gpu": {"allowCpu": True}}, "allowCpu is set although lanes.gpu.gpu.count gives GPUs"),
    ("high-availability", {"admin.ingress.host": ""}, "admin.ingress is enabled without a host"),
    ("high-availability", {"admin.ingress.tlsSecretName": ""}, "admin.ingress has no TLS in production"),
    ("minimal", {"admin.trustedProxies": ["0.0.0.0/0"]}, "lets the whole world say whom it speaks for"),
    ("high-availability", {"admin.trustedProxies": ["10.42.0.0/16", "::/0"]}, "name the network of the ingress"),
    ("s3-gpu", {"objects.endpoint": "http://minio:9000"}, "objects.endpoint is http in production"),
    ("minimal", {"objects.region": "eu-west-2"}, "these are of a bucket"),
    ("minimal", {"scp.service.nodePort": 30104}, "scp.service.type is ClusterIP, which has none"),
    ("minimal", {"scp.allowedCidrs": ["0.0.0.0/0"]}, "lets the whole world send in production"),
    ("minimal", {"scp.allowedCidrs": ["10.0.0.0/8", "::/0"]}, "lets the whole world send in production"),
    ("test-environment", {"scp.service": {"type": "LoadBalancer"}}, "list the networks that may send"),
    ("minimal", {"database.peers": []}, "database.peers is empty: no pod could reach the database"),
    ("minimal", {"broker.peers": []}, "broker.peers is empty: no pod could reach the broker"),
    ("s3-gpu", {"objects.peers": []}, "objects.peers is empty: no pod could reach the bucket"),
    ("minimal", {"networkPolicy.dns": []}, "networkPolicy.dns is empty: no pod could look up a name"),
    ("minimal", {"scp.allowedCidrs": []}, "scp.allowedCidrs is empty: nobody could send"),
    ("high-availability", {"admin.allowedFrom": []}, "admin.allowedFrom is empty: the ingress could not reach"),
]


def with_changes(name: str, changes: dict) -> dict:
    values = profile(name)
    for path, value in changes.items():
        changed(values, path, value)
    return values


@pytest.mark.parametrize(("name", "changes", "sentence"), REFUSED, ids=[sentence for _, _, sentence in REFUSED])
def test_it_is_refused_and_nothing_else_is_blamed(chart, name, changes, sentence):
    with pytest.raises(RefusedError) as refused:
        chart.render(with_changes(name, changes))
    faults = str(refused.value).partition("these values make no sense:\n")[2].splitlines()
    assert len(faults) == 1
    assert sentence in faults[0]
    assert faults[0].endswith(".")


def test_all_that_is_wrong_is_said_at_once(chart):
    with pytest.raises(RefusedError) as refused:
        chart.render({})
    assert str(refused.value).count("\n- ") == 5


@pytest.mark.parametrize(("path", "value"), [("scp.allowedCidrs", ["0.0.0.0/0"]), ("admin.ingress.tlsSecretName", "")])
def test_a_test_environment_may_do_what_production_may_not(chart, path, value):
    values = with_changes("high-availability", {path: value})
    with pytest.raises(RefusedError):
        chart.render(values)
    chart.render(changed(values, "site.environment", "test"))
