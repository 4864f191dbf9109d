"""What Helm makes of the chart: whole, valid Kubernetes objects that fit each other."""

from __future__ import annotations

import re
import tomllib

import kubernetes_validate
import pytest
import yaml

from tests.helm.chart import FOLDER, PROFILES, WITH_PODS, changed, component, profile

KUBERNETES = ("1.29", "1.37")
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_object_with_no_field_it_does_not_know(rendering, version):
    for made in rendering.objects:
        kubernetes_validate.validate(made, version, strict=True)


def test_a_misspelt_field_would_be_found(chart):
    deployment = chart.render(profile("minimal")).of_kind("Deployment")["scp"]
    deployment["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("name", PROFILES)
def test_helm_lint_finds_nothing(chart, name):
    assert chart.lint(profile(name), f"v{KUBERNETES[0]}.0") == []


def test_every_template_makes_something_in_some_example(chart):
    made = set()
    for name in PROFILES:
        made |= {file for file, text in chart.render(profile(name)).files.items() if text.strip("- \n")}
    all_templates = {
        f"tendon/{path.relative_to(FOLDER)}"
        for path in (FOLDER / "templates").rglob("*")
        if path.is_file() and not path.name.startswith("_")
    }
    assert all_templates - made == {"tendon/templates/validation.yaml"}


def test_objects_are_named_once_and_live_in_the_release(rendering):
    identities = [(made["kind"], made["metadata"]["name"]) for made in rendering.objects]
    assert len(identities) == len(set(identities))
    assert {made["metadata"]["namespace"] for made in rendering.objects} == {"imaging"}
    assert {made["metadata"]["labels"]["app.kubernetes.io/instance"] for made in rendering.objects} == {"tendon"}


@pytest.mark.parametrize("release", ["a", "tendon", "x" * 53])
def test_names_are_dns_labels_for_every_release_name(chart, release):
    names = [made["metadata"]["name"] for made in chart.render(profile("everything"), release=release).objects]
    assert [name for name in names if not DNS_LABEL.fullmatch(name)] == []


def test_two_releases_in_one_namespace_share_nothing(chart):
    values = profile("minimal")
    one, other = (
        {(made["kind"], made["metadata"]["name"]) for made in chart.render(values, release=release).objects}
        for release in ("tendon", "tendon-research")
    )
    assert one & other == set()


def test_services_budgets_and_policies_select_the_pods_of_their_component(rendering):
    pods = {name: pod["metadata"]["labels"] for name, pod in rendering.pods().items()}
    for made in rendering.objects:
        spec = made.get("spec", {})
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
        }.get(made["kind"])
        if selector is None or component(made) == "default-deny":
            continue
        chosen = [name for name, labels in pods.items() if selector(spec).items() <= labels.items()]
        assert chosen == [component(made)]


def test_every_pod_has_its_own_account_and_each_service_port_is_open(rendering):
    accounts = rendering.of_kind("ServiceAccount")
    for name, pod in rendering.pods().items():
        assert pod["spec"]["serviceAccountName"] == accounts[name]["metadata"]["name"]
    for name, service in rendering.of_kind("Service").items():
        open_ports = {port["name"] for port in rendering.pods()[name]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= open_ports


def test_what_has_several_replicas_has_a_disruption_budget_and_nothing_else(rendering):
    several = {name for name, made in rendering.of_kind("Deployment").items() if made["spec"]["replicas"] > 1}
    assert set(rendering.of_kind("PodDisruptionBudget")) == several


def test_the_migration_needs_nothing_that_is_installed_after_it(rendering):
    hooks = {
        (made["kind"], made["metadata"]["name"]): int(made["metadata"]["annotations"]["helm.sh/hook-weight"])
        for made in rendering.objects
        if "helm.sh/hook" in made["metadata"].get("annotations", {})
    }
    (job,) = (made for made in rendering.objects if made["kind"] == "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert hooks["ServiceAccount", pod["serviceAccountName"]] < hooks["Job", job["metadata"]["name"]]
    kinds_of_volumes = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds_of_volumes == {"emptyDir", "projected"}
    if rendering.of_kind("NetworkPolicy"):
        assert hooks["NetworkPolicy", job["metadata"]["name"]] < hooks["Job", job["metadata"]["name"]]


def test_the_claim_of_the_objects_outlives_the_release(chart):
    claim = chart.render(profile("minimal")).of_kind("PersistentVolumeClaim")["objects"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize(
    ("path", "value"), [("site.quietSeconds", 60), ("secretsRevision", "2"), ("images.worker.tag", "0.1.1")]
)
def test_a_changed_setting_replaces_the_pods_it_concerns(chart, path, value):
    before = chart.render(profile("minimal")).pods()
    after = chart.render(changed(profile("minimal"), path, value)).pods()
    replaced = {name for name in after if after[name] != before[name]}
    assert replaced >= {"worker-cpu"}
    if path == "images.worker.tag":
        assert replaced == {"worker-cpu"}


def test_a_roll_out_keeps_the_listener_and_never_needs_a_second_gpu(chart):
    strategies = {
        name: made["spec"]["strategy"]["rollingUpdate"]
        for name, made in chart.render(profile("everything")).of_kind("Deployment").items()
    }
    assert strategies["scp"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert strategies["worker-gpu"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_gpu_workers_hold_the_gpus_that_were_asked_for_and_others_none(chart):
    def held(name: str) -> dict[str, dict]:
        pods = chart.render(profile(name)).pods()
        return {
            component: extra
            for component, pod in pods.items()
            if (
                extra := {
                    resource: amount
                    for resource, amount in pod["spec"]["containers"][0]["resources"]["limits"].items()
                    if "/" in resource
                }
            )
        }

    assert held("s3-gpu") == {"worker-gpu": {"nvidia.com/gpu": 1}}
    assert held("everything") == {"worker-gpu": {"nvidia.com/mig-2g.20gb": 2}}
    assert held("test-environment") == {}


def test_senders_keep_their_address(chart):
    for name in ("s3-gpu", "high-availability"):
        service = chart.render(profile(name)).of_kind("Service")["scp"]["spec"]
        assert service["externalTrafficPolicy"] == "Local"
    service = chart.render(profile("s3-gpu")).of_kind("Service")["scp"]["spec"]
    assert service["loadBalancerSourceRanges"] == ["10.1.0.0/16"]


def test_the_notes_name_what_was_installed(chart):
    notes = chart.render(profile("high-availability")).notes
    assert "https://tendon.example.org/" in notes
    assert "no workers on lane gpu" in notes
    notes = chart.render(profile("minimal"), release="site").notes
    assert "service/site-tendon-admin 8080:80" in notes
    assert "exec deploy/site-tendon-admin -- tendon user add" in notes
    assert "nothing be delivered" in notes


def test_the_chart_is_of_the_version_of_the_code():
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert yaml.safe_load((FOLDER / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"] == project["version"]


def test_every_pod_is_made_by_one_of_the_kinds_the_tests_look_into(rendering):
    kinds = {made["kind"] for made in rendering.objects if "template" in made.get("spec", {})}
    assert kinds == set(WITH_PODS)


def test_the_examples_stay_out_of_the_packed_chart():
    assert "ci/" in (FOLDER / ".helmignore").read_text(encoding="utf-8").splitlines()
