"""The one-machine deployment: services, what they may do, their secrets, and the files beside them."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from orchestrator import settings
from tests.helm.test_images import DOCKERFILE, stages
from tests.helm.test_pods import NOT_READ_YET, SECRET_LOOKING
from tests.servers import rabbitmq

if TYPE_CHECKING:
    from pathlib import Path

ROOT = DOCKERFILE.parents[1]
ROLES = {"migrate", "scp", "rounds", "admin", "worker-cpu", "worker-gpu"}
SERVERS = {"postgres", "rabbitmq"}
PINNED = re.compile(r"[a-z0-9./-]+:\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")


def read_by_compose(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker-compose", "--file", ROOT / "compose.yaml", "config", "--quiet"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def deployment(**environment: str) -> dict[str, Any]:
    """The deployment with the variables of its environment put in."""

    def given(variable: re.Match[str]) -> str:
        return environment.get(variable["name"], variable["default"] or "")

    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(re.sub(r"\$\{(?P<name>\w+)(:-(?P<default>[^}]*)|:\?[^}]*)\}", given, text))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return deployment(TENDON_INSTALLATION="st-elsewhere")


def secrets_of(service: dict[str, Any]) -> set[str]:
    return {secret["source"] if isinstance(secret, dict) else secret for secret in service["secrets"]}


def test_compose_takes_it():
    read = read_by_compose(TENDON_INSTALLATION="st-elsewhere")
    assert read.returncode == 0, read.stderr


def test_every_role_and_server_is_a_service(compose):
    assert compose["services"].keys() == ROLES | SERVERS


def test_it_does_not_start_without_a_name_for_the_installation():
    refused = read_by_compose()
    assert refused.returncode != 0
    assert "name this installation once" in refused.stderr


def test_every_service_is_read_only_and_without_rights(compose):
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert "cap_add" not in service
        assert "/tmp" in service["tmpfs"]
    for name in SERVERS:
        assert compose["services"][name]["user"] == "999:999"
    assert [name for name in ROLES if "user" in compose["services"][name]] == []


def test_ports_are_bound_to_this_machine_until_the_site_says_otherwise(compose):
    ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert ports == {"scp": ["127.0.0.1:11112:11112"], "admin": ["127.0.0.1:8080:8080"]}
    elsewhere = deployment(TENDON_BIND="10.1.2.3")
    assert elsewhere["services"]["scp"]["ports"] == ["10.1.2.3:11112:11112"]


def test_a_proxy_is_believed_where_the_site_names_it():
    named = deployment(TENDON_INSTALLATION="x", TENDON_TRUSTED_PROXIES="172.18.0.1")
    assert settings.load(environment(named["services"]["admin"])).trusted_proxies == ("172.18.0.1/32",)


def test_only_who_speaks_to_peers_has_a_way_out(compose):
    assert compose["networks"]["inside"]["internal"] is True
    outside = {name for name, service in compose["services"].items() if "outside" in service["networks"]}
    assert outside == {"scp", "rounds", "admin"}
    assert all("inside" in service["networks"] for service in compose["services"].values())


def test_every_image_is_pinned_or_built_here(compose):
    for name, service in compose["services"].items():
        assert PINNED.fullmatch(service["image"])
        if name in SERVERS:
            assert "build" not in service
        else:
            assert service["build"]["target"] in stages()
            assert (ROOT / service["build"]["dockerfile"]).is_file()
    built = compose["services"]["worker-gpu"]["build"]
    assert built["args"]["EXTRAS"] == "workers,inference"


def test_every_secret_is_defined_used_and_made(compose, tmp_path):
    used = set.union(*(secrets_of(service) for service in compose["services"].values()))
    assert used == compose["secrets"].keys()
    make_secrets(tmp_path / "made")
    wanted = {ROOT / secret["file"] for secret in compose["secrets"].values()}
    assert {path.parent for path in wanted} == {ROOT / "docker" / "secrets"}
    assert {path.name for path in wanted} == {path.name for path in (tmp_path / "made").iterdir()} - {".gitignore"}


def test_each_role_sees_the_secrets_it_needs(compose):
    seen = {name: secrets_of(service) for name, service in compose["services"].items()}
    both = {"TENDON_DATABASE_URL", "TENDON_BROKER_URL"}
    assert seen == {
        "postgres": {"postgres-password"},
        "rabbitmq": {"rabbitmq-account"},
        "scp": {"TENDON_DATABASE_URL"},
        "admin": {"TENDON_DATABASE_URL"},
        **dict.fromkeys(("migrate", "rounds", "worker-cpu", "worker-gpu"), both),
    }


def test_no_secret_stands_in_an_environment(compose):
    for service in compose["services"].values():
        for name, value in service["environment"].items() if "environment" in service else ():
            assert name == "POSTGRES_PASSWORD_FILE" or not SECRET_LOOKING.search(name)
            assert not SECRET_LOOKING.search(str(value)) or str(value).startswith("/run/secrets/")


def environment(service) -> dict[str, str]:
    """As the container sees it: text only."""
    return {name: str(value) for name, value in service["environment"].items()}


def test_every_role_runs_a_command_of_tendon_with_settings_it_reads(compose):
    commands = {point.name for point in entry_points(group="tendon.commands")}
    for name in ROLES:
        service = compose["services"][name]
        assert service["command"][0] in commands
        assert service["command"][0] == name.partition("-")[0]
        read = settings.load({**environment(service), "TENDON_SECRETS_DIR": ""})
        assert set(read.unknown) <= NOT_READ_YET
        assert read.health_port == (None if name == "admin" else 8081)
        assert read.installation == "st-elsewhere"
    scp, admin = (settings.load(environment(compose["services"][name])) for name in ("scp", "admin"))
    assert (scp.dicom_host, scp.dicom_port) == ("0.0.0.0", 11112)
    assert (admin.admin_host, admin.admin_port) == ("0.0.0.0", 8080)
    assert scp.is_network_trusted, "a container's own loopback would answer nobody"
    assert admin.is_network_trusted, "its port is asked before there is an account"
    assert admin.trusted_proxies == ()
    assert compose["services"]["worker-cpu"]["command"][1:] == ["--lanes", "cpu"]
    assert compose["services"]["worker-gpu"]["command"][1:] == ["--lanes", "gpu"]


def test_roles_start_after_the_migration_and_that_after_the_servers(compose):
    waits = {name: service.get("depends_on", {}) for name, service in compose["services"].items()}
    healthy = {"condition": "service_healthy"}
    assert waits["migrate"] == {"postgres": healthy, "rabbitmq": healthy}
    for name in ROLES - {"migrate"}:
        assert waits[name] == {"migrate": {"condition": "service_completed_successfully"}, "postgres": healthy}
    for name in SERVERS:
        assert compose["services"][name]["healthcheck"]["test"][0] == "CMD"
    assert compose["services"]["migrate"]["restart"] == "no"
    assert [name for name in ROLES - {"migrate"} if compose["services"][name]["restart"] != "unless-stopped"] == []


def test_what_must_last_lies_in_named_volumes(compose):
    assert compose["volumes"].keys() == {"database", "broker", "data"}
    mounts = {name: service["volumes"] for name, service in compose["services"].items() if "volumes" in service}
    assert mounts["postgres"] == ["database:/var/lib/postgresql/data"]
    assert "broker:/var/lib/rabbitmq" in mounts["rabbitmq"]
    for name in ROLES:
        assert mounts[name] == ["data:/var/lib/tendon"]


def test_gpu_workers_start_only_when_asked_for(compose):
    assert [name for name, service in compose["services"].items() if "profiles" in service] == ["worker-gpu"]
    (device,) = compose["services"]["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def make_secrets(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "docker" / "make-secrets", folder], capture_output=True, text=True, check=False)


def test_secrets_are_random_fit_each_other_and_are_kept_from_other_accounts(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    assert make_secrets(one).returncode == 0
    assert make_secrets(other).returncode == 0
    texts = {path.name: path.read_text() for path in one.iterdir()}
    database, broker = urlsplit(texts["TENDON_DATABASE_URL"]), urlsplit(texts["TENDON_BROKER_URL"])
    assert (database.scheme, database.hostname, database.path) == ("postgresql", "postgres", "/tendon")
    assert (broker.scheme, broker.hostname, broker.path) == ("amqp", "rabbitmq", "/tendon")
    assert database.password == texts["postgres-password"]
    assert f"default_pass = {broker.password}\n" in texts["rabbitmq-account.conf"]
    assert f"default_user = {broker.username}\n" in texts["rabbitmq-account.conf"]
    assert re.fullmatch(r"[0-9a-f]{48}", database.password)
    assert len({database.password, broker.password, (other / "postgres-password").read_text()}) == 3
    assert stat.S_IMODE(one.stat().st_mode) == 0o700
    assert all(stat.S_IMODE((one / name).stat().st_mode) == 0o444 for name in texts if name != ".gitignore")
    assert texts[".gitignore"].strip() == "*"
    read = settings.load({"TENDON_SECRETS_DIR": str(one)})
    assert (read.database_url, read.broker_url) == (texts["TENDON_DATABASE_URL"], texts["TENDON_BROKER_URL"])


def test_secrets_in_use_are_never_overwritten(tmp_path):
    make_secrets(tmp_path / "made")
    before = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    refused = make_secrets(tmp_path / "made")
    assert refused.returncode == 1
    assert "Nothing was changed" in refused.stderr
    assert {path.name: path.read_text() for path in (tmp_path / "made").iterdir()} == before


READ_BY_RABBITMQ = """
[Schema | Files] = init:get_plain_arguments(),
Given = lists:append([cuttlefish_conf:file(File) || File <- Files]),
case cuttlefish_generator:map(cuttlefish_schema:files([Schema]), Given) of
  {error, _, Why} -> io:format("~p~n", [Why]), halt(1);
  Read -> io:format("~p~n", [[proplists:lookup(Key, proplists:get_value(rabbit, Read)) || Key <-
    [consumer_timeout, default_vhost, default_user, default_user_tags]]]), halt(0)
end.
"""


def read_by_rabbitmq(*files: Path) -> subprocess.CompletedProcess[str]:
    """What the broker's own reader makes of its configuration."""
    plugins = rabbitmq.installed_programs() / "plugins"
    (schema,) = plugins.glob("rabbit-*/priv/schema/rabbit.schema")
    return subprocess.run(
        ["erl", "-noshell", "-pa", *plugins.glob("*/ebin"), "-eval", READ_BY_RABBITMQ, "-extra", schema, *files],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_broker_understands_its_configuration(tmp_path):
    make_secrets(tmp_path / "made")
    read = read_by_rabbitmq(ROOT / "docker" / "rabbitmq.conf", tmp_path / "made" / "rabbitmq-account.conf")
    assert read.returncode == 0, read.stdout
    said = "".join(read.stdout.split())
    assert said == (
        '[{consumer_timeout,14400000},{default_vhost,<<"tendon">>},{default_user,<<"tendon">>},{default_user_tags,[]}]'
    )


def test_the_broker_would_refuse_a_setting_it_does_not_know(tmp_path):
    (tmp_path / "wrong.conf").write_text("consumer_timeouts = 1\n")
    assert read_by_rabbitmq(tmp_path / "wrong.conf").returncode == 1


def test_the_broker_mounts_both_files_where_it_looks_for_them(compose):
    service = compose["services"]["rabbitmq"]
    assert "./docker/rabbitmq.conf:/etc/rabbitmq/conf.d/20-tendon.conf:ro" in service["volumes"]
    (account,) = service["secrets"]
    assert account["target"] == "/etc/rabbitmq/conf.d/30-account.conf"
