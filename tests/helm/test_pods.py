"""What holds for every pod: least rights, no secrets in sight, probes, pinned images, settings that Tendon reads."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

import pytest

from orchestrator import settings
from orchestrator.domain.exposure import Precautions, bind_dicom, bind_pages
from tests.helm.chart import Rendering, changed, container, profile, settings_of

PINNED = re.compile(r"[a-z0-9][a-z0-9._/:-]*(:[A-Za-z0-9_][\w.-]*|@sha256:[0-9a-f]{64})")
SECRET_LOOKING = re.compile(r"password|passwd|token|secret_key|database_url|broker_url|://[^/\s]*@", re.IGNORECASE)
NOT_READ_YET = {"TENDON_TIME_ZONE"}


def test_no_pod_runs_as_root_or_gains_rights(rendering):
    for pod in rendering.pods().values():
        assert pod["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod["spec"].keys() == set()
        assert [volume for volume in pod["spec"]["volumes"] if "hostPath" in volume] == []


def test_no_pod_speaks_to_the_cluster_or_gets_addresses_of_services_as_settings(rendering):
    for pod in rendering.pods().values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
    for account in rendering.of_kind("ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False
    assert rendering.of_kind("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding") == {}


def test_the_chart_makes_no_secret_and_no_setting_holds_one(rendering):
    assert rendering.of_kind("Secret", "ConfigMap") == {}
    for pod in rendering.pods().values():
        assert "envFrom" not in container(pod)
        for entry in container(pod)["env"]:
            assert entry.keys() == {"name", "value"}
            assert not SECRET_LOOKING.search(entry["name"])
            assert not SECRET_LOOKING.search(entry["value"])


def secrets_of(rendering: Rendering) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """By component: each Secret it sees, with the keys, none for all of them."""
    found = {}
    for name, pod in rendering.pods().items():
        (volume,) = (volume for volume in pod["spec"]["volumes"] if volume["name"] == "secrets")
        assert volume["projected"]["defaultMode"] == 0o440
        sources = [source["secret"] for source in volume["projected"]["sources"]]
        assert [item for source in sources for item in source.get("items", []) if item["key"] != item["path"]] == []
        found[name] = [(s["name"], tuple(item["key"] for item in s.get("items", []))) for s in sources]
    return found


def test_each_role_sees_the_secrets_it_needs_as_read_only_files(chart):
    database = ("tendon-database", ("TENDON_DATABASE_URL",))
    broker = ("tendon-broker", ("TENDON_BROKER_URL",))
    bucket = ("tendon-objects", ())
    rendering = chart.render(profile("s3-gpu"))
    assert secrets_of(rendering) == {
        "scp": [database, bucket],
        "admin": [database, bucket],
        "rounds": [database, broker, bucket],
        "worker-cpu": [database, broker, bucket],
        "worker-gpu": [database, broker, bucket],
        "migrate": [database, broker],
    }
    for pod in rendering.pods().values():
        (mount,) = (mount for mount in container(pod)["volumeMounts"] if mount["name"] == "secrets")
        assert mount["readOnly"] is True
        assert mount["mountPath"] == settings_of(pod)["TENDON_SECRETS_DIR"]


def test_only_the_migration_sees_the_secret_of_the_schemas_owner(chart):
    seen = secrets_of(chart.render(profile("everything")))
    owner = ("tendon-owner", ("TENDON_DATABASE_URL",))
    assert [name for name, secrets in seen.items() if owner in secrets] == ["migrate"]
    assert [name for name, secrets in seen.items() if any(name == "tendon-runtime" for name, _ in secrets)] == [
        name for name in seen if name != "migrate"
    ]


def test_only_rounds_see_the_secret_of_notices(chart):
    seen = secrets_of(chart.render(profile("everything")))
    assert [name for name, secrets in seen.items() if ("tendon-notices", ()) in secrets] == ["rounds"]


def test_only_the_pages_see_the_secret_of_the_identity_provider(chart):
    seen = secrets_of(chart.render(profile("everything")))
    assert [name for name, secrets in seen.items() if ("tendon-sign-in", ()) in secrets] == ["admin"]


def test_every_long_running_pod_is_probed_on_the_port_its_role_listens_on(rendering):
    for name, made in rendering.of_kind("Deployment").items():
        pod = made["spec"]["template"]
        ports = {port["name"]: str(port["containerPort"]) for port in container(pod)["ports"]}
        setting = "TENDON_ADMIN_PORT" if name == "admin" else "TENDON_HEALTH_PORT"
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            asked = container(pod)[probe]["httpGet"]
            assert asked["path"] == path
            assert ports[asked["port"]] == settings_of(pod)[setting]
        assert pod["spec"]["terminationGracePeriodSeconds"] > 0


def test_every_image_is_pinned(rendering):
    for pod in rendering.pods().values():
        assert PINNED.fullmatch(container(pod)["image"])
        assert not container(pod)["image"].endswith(":latest")


def test_a_digest_is_stronger_than_a_tag(chart):
    image = container(chart.render(profile("everything")).pods()["worker-cpu"])["image"]
    assert image.startswith("registry.example.org/imaging/tendon-worker@sha256:9f86d0")


def test_every_pod_writes_to_its_mounts_only_and_is_bounded(rendering):
    for name, pod in rendering.pods().items():
        mounts = {mount["mountPath"]: mount for mount in container(pod)["volumeMounts"]}
        writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
        assert {"/tmp", "/var/lib/tendon"} <= writable <= {"/tmp", "/var/lib/tendon", "/var/lib/tendon/work"}
        for volume in pod["spec"]["volumes"]:
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), (name, volume)
        resources = container(pod)["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert "memory" in resources["limits"]


def test_on_a_shared_volume_all_roles_but_the_migration_see_the_objects_and_work_on_local_disk(chart):
    for name, pod in chart.render(profile("minimal")).pods().items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container(pod)["volumeMounts"]}
        if name == "migrate":
            assert mounts["/var/lib/tendon"] == "scratch"
        else:
            assert mounts["/var/lib/tendon"] == "objects"
            assert volumes["objects"]["persistentVolumeClaim"] == {"claimName": "tendon-objects"}
            assert mounts["/var/lib/tendon/work"] == "scratch"
        assert "TENDON_OBJECTS_URL" not in settings_of(pod)


def test_with_a_bucket_no_pod_needs_a_volume(chart):
    for pod in chart.render(profile("s3-gpu")).pods().values():
        kinds = {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"}
        assert kinds == {"emptyDir", "projected"}
        assert settings_of(pod)["TENDON_OBJECTS_URL"] == "s3://imaging/tendon"


def test_every_pod_runs_a_command_of_tendon_with_arguments_it_takes(rendering):
    commands = {point.name: point for point in entry_points(group="tendon.commands")}
    lanes = []
    for name, pod in rendering.pods().items():
        command, *arguments = container(pod)["args"]
        assert command in commands
        assert name.partition("-")[0] == command
        if command == "worker":
            option, lane = arguments
            assert option == "--lanes"
            lanes.append((name, lane))
        else:
            assert arguments == []
    assert lanes == [(f"worker-{lane}", lane) for _, lane in lanes]


def test_the_settings_of_every_pod_are_read_and_valid(rendering):
    for name, pod in rendering.pods().items():
        read = settings.load(settings_of(pod))
        assert set(read.unknown) <= NOT_READ_YET, name
        assert str(read.data_dir) == "/var/lib/tendon"
        if name == "scp":
            assert (read.dicom_host, read.dicom_port) == ("0.0.0.0", 11112)
        if name == "admin":
            assert (read.admin_port, read.health_port) == (8080, None)
        elif name != "migrate":
            assert read.health_port == 8081
        assert read.admin_host == ("127.0.0.1" if name == "migrate" else "0.0.0.0"), "kubelets ask from outside"


def test_the_sites_settings_reach_the_pods(chart):
    read = settings.load(settings_of(chart.render(profile("everything")).pods()["rounds"]))
    assert (read.installation, read.environment, read.ae_title) == ("st-elsewhere", "production", "ST ELSEWHERE")
    assert read.called_ae_titles == ("TENDON", "OLD ROUTER")
    assert read.unknown_sop_classes == "refuse"
    assert (read.quiet_seconds, read.lease_seconds) == (45, 20)
    assert read.pipelines_dirs[0].as_posix() == "/opt/tendon-pipelines"
    assert settings.load(settings_of(chart.render(profile("test-environment")).pods()["scp"])).quiet_seconds == 2.5


def test_probes_are_answered_before_there_is_an_account_and_only_named_proxies_are_believed(chart):
    nothing_yet = {"has_admin": False, "has_tls": False, "has_senders": False, "is_distributed": True}
    for name, proxies in (("minimal", ()), ("everything", ("10.42.0.0/16", "fd00:42::/56"))):
        pods = chart.render(profile(name)).pods()
        read = {role: settings.load(settings_of(pods[role])) for role in ("admin", "scp", "migrate")}
        for role in ("admin", "scp"):
            having = Precautions(**nothing_yet, is_network_trusted=read[role].is_network_trusted)
            assert bind_pages(read[role].admin_host, having).host == "0.0.0.0"
            assert bind_dicom(read["scp"].dicom_host, having).host == "0.0.0.0"
        assert not read["migrate"].is_network_trusted, "it opens nothing"
        assert read["admin"].trusted_proxies == proxies
        assert read["scp"].trusted_proxies == ()


def test_scheduling_is_given_per_component(chart):
    pods = chart.render(profile("everything")).pods()
    for name, pod in pods.items():
        assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
        assert pod["spec"]["tolerations"][0]["key"] == "dedicated"
        assert "nodeAffinity" in pod["spec"]["affinity"]
        (spread,) = pod["spec"]["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == name
    only_gpu = chart.render(changed(profile("minimal"), "lanes.gpu", {"replicas": 1, "nodeSelector": {"gpu": "yes"}}))
    chosen = [name for name, pod in only_gpu.pods().items() if "nodeSelector" in pod["spec"]]
    assert chosen == ["worker-gpu"]


def test_credentials_of_a_registry_are_given_to_every_pod(chart):
    for pod in chart.render(profile("everything")).pods().values():
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]


@pytest.mark.parametrize("name", ["scp", "admin"])
def test_what_is_called_leaves_its_service_before_it_stops(chart, name):
    pod = chart.render(profile("minimal")).pods()[name]
    assert container(pod)["lifecycle"]["preStop"]["exec"]["command"][0] == "python"
