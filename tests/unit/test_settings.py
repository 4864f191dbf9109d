"""Settings come from overrides, the environment, files of the secrets folder, then defaults."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.access import ROLES
from orchestrator.settings import InvalidSettingError, as_environment, load, load_for_questions, remember_demo


def test_without_anything_set_the_defaults_hold_and_say_so():
    settings = load({})
    assert (settings.ae_title, settings.dicom_port, settings.admin_port) == ("TENDON", 11112, 8080)
    assert (settings.admin_host, settings.environment, settings.is_test) == ("127.0.0.1", "production", False)
    assert settings.data_dir == Path("tendon-data").absolute()
    assert settings.database_url == f"sqlite:///{settings.data_dir / 'tendon.db'}"
    assert settings.objects_dir == settings.data_dir / "objects"
    assert settings.work_dir == settings.data_dir / "work"
    assert set(settings.origins.values()) == {"default"}


def test_the_environment_comes_before_the_secrets_folder_and_overrides_before_both(tmp_path):
    for name, value in (("AE_TITLE", "SECRET\n"), ("DICOM_PORT", "1\n"), ("ADMIN_PORT", "  2  \n")):
        (tmp_path / f"TENDON_{name}").write_text(value)
    given = {"TENDON_SECRETS_DIR": str(tmp_path), "TENDON_AE_TITLE": "ENV", "TENDON_DICOM_PORT": "3"}
    settings = load(given, {"TENDON_DICOM_PORT": "4"})
    assert (settings.ae_title, settings.dicom_port, settings.admin_port) == ("ENV", 4, 2)
    assert settings.origins["TENDON_AE_TITLE"] == "environment"
    assert settings.origins["TENDON_ADMIN_PORT"] == "secrets folder"
    assert settings.origins["TENDON_QUIET_SECONDS"] == "default"


def test_every_setting_has_an_origin():
    assert {
        "TENDON_DATA_DIR",
        "TENDON_DATABASE_URL",
        "TENDON_PIPELINES_DIR",
        "TENDON_AE_TITLE",
        "TENDON_CALLED_AE_TITLES",
        "TENDON_UNKNOWN_SOP_CLASSES",
        "TENDON_DICOM_HOST",
        "TENDON_DICOM_PORT",
        "TENDON_ADMIN_HOST",
        "TENDON_ADMIN_PORT",
        "TENDON_TLS_CERTIFICATE",
        "TENDON_TLS_KEY",
        "TENDON_TRUSTED_PROXIES",
        "TENDON_TRUSTED_NETWORK",
        "TENDON_QUIET_SECONDS",
        "TENDON_LEASE_SECONDS",
        "TENDON_INSTALLATION",
        "TENDON_ENVIRONMENT",
    } <= set(load({}).origins)


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("PUBLIC_URL", "http://tendon.example", "must be a URL that begins with https://"),
        ("PUBLIC_URL", "https://tendon.example/here", "must be a URL without a path"),
        ("PUBLIC_URL", "https://tendon.example:port", "must be a URL that begins with https://"),
        ("OIDC_ISSUER", "http://id.example", "must be a URL that begins with https://"),
        ("OIDC_ISSUER", "http://localhost.id.example", "must be a URL that begins with https://"),
        ("OIDC_ISSUER", "https://user@id.example", "must be a URL that begins with https://"),
        ("OIDC_ISSUER", "https://id.example/?a=b", "must be a URL that begins with https://"),
        ("OIDC_ISSUER", "https://id.example/#a", "must be a URL that begins with https://"),
        ("OIDC_ROLES", "radiology", "must be GROUP=ROLE"),
        ("OIDC_ROLES", "radiology=root", "must be GROUP=ROLE"),
        ("OIDC_ROLES", "=viewer", "must be GROUP=ROLE"),
        ("OIDC_ROLES", "radiology=viewer@", "must be GROUP=ROLE"),
        ("OIDC_ROLES", "radiology=viewer,radiology=admin", "must name each group once"),
        ("LOCAL_ACCOUNTS", "no", "must be true or false"),
        ("LOCAL_ACCOUNTS", "false", "must be true where TENDON_OIDC_ISSUER names no provider"),
        ("HTTPS_ONLY", "yes", "must be true or false"),
        ("WEBHOOK_SECRET", "short", "must be at least 16 characters"),
        ("SMTP_URL", "mail.example:25", "must be smtp://HOST:PORT"),
        ("SMTP_URL", "http://mail.example:25", "must be smtp://HOST:PORT"),
        ("SMTP_URL", "smtp://:25", "must be smtp://HOST:PORT"),
        ("SMTP_URL", "smtp://mail.example:99999", "must be smtp://HOST:PORT"),
        ("MAIL_FROM", "tendon", "must be a mailbox"),
        ("MAIL_FROM", "a@b.example\nBcc: c@d.example", "must be a mailbox"),
        ("DICOM_PORT", "65536", "must be a port number"),
        ("DICOM_PORT", "-1", "must be a port number"),
        ("ADMIN_PORT", "http", "must be a port number"),
        ("ADMIN_PORT", "\N{SUPERSCRIPT TWO}", "must be a port number"),
        ("QUIET_SECONDS", "0", "must be a number of seconds above 0"),
        ("QUIET_SECONDS", "-3", "must be a number of seconds above 0"),
        ("QUIET_SECONDS", "nan", "must be a number of seconds above 0"),
        ("LEASE_SECONDS", "inf", "must be a number of seconds above 0"),
        ("LEASE_SECONDS", "soon", "must be a number of seconds above 0"),
        ("AE_TITLE", "   ", "must be 1 to 16 ASCII characters"),
        ("AE_TITLE", "X" * 17, "must be 1 to 16 ASCII characters"),
        ("AE_TITLE", "A\\B", "must be 1 to 16 ASCII characters"),
        ("AE_TITLE", "M\N{LATIN CAPITAL LETTER U WITH DIAERESIS}LLER", "must be 1 to 16 ASCII characters"),
        ("CALLED_AE_TITLES", "OLD," + "X" * 17, "must be 1 to 16 ASCII characters"),
        ("UNKNOWN_SOP_CLASSES", "some", "must be accept or refuse"),
        ("CALLED_AE_TITLES", "A\\B", "must be 1 to 16 ASCII characters"),
        ("ENVIRONMENT", "prod", "must be production or test"),
        ("TRUSTED_NETWORK", "yes", "must be true or false"),
        ("TRUSTED_PROXIES", "proxy.example.org", "must be addresses or networks"),
        ("TRUSTED_PROXIES", "10.1.2.3, *", "must be addresses or networks"),
        ("TRUSTED_PROXIES", "10.1.2.3/8", "must be addresses or networks"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_the_text_says_what_it_must_be(name, value, must):
    with pytest.raises(InvalidSettingError) as refusal:
        load({f"TENDON_{name}": value})
    assert str(refusal.value).startswith(f"TENDON_{name} {must}")


@given(st.text(min_size=1, max_size=20) | st.integers(-10, 70000).map(str))
def test_no_text_is_taken_for_a_port_but_0_to_65535(value):
    is_port = value.isascii() and value.isdigit() and int(value) <= 65535
    if is_port:
        assert load({"TENDON_DICOM_PORT": value}).dicom_port == int(value)
    else:
        with pytest.raises(InvalidSettingError, match="TENDON_DICOM_PORT must be a port number"):
            load({"TENDON_DICOM_PORT": value})


def test_further_titles_are_many_and_each_is_there_once():
    assert load({}).called_ae_titles == ()
    assert load({"TENDON_CALLED_AE_TITLES": "OLD ROUTER, PACS,,OLD ROUTER "}).called_ae_titles == ("OLD ROUTER", "PACS")


def test_nobody_and_no_network_is_trusted_unless_it_is_named():
    settings = load({})
    assert (settings.trusted_proxies, settings.is_network_trusted) == ((), False)
    given = load({"TENDON_TRUSTED_PROXIES": "10.1.2.3, fd00::/8,", "TENDON_TRUSTED_NETWORK": "true"})
    assert (given.trusted_proxies, given.is_network_trusted) == (("10.1.2.3/32", "fd00::/8"), True)


@pytest.mark.parametrize("given", ["CERTIFICATE", "KEY"])
def test_a_certificate_and_its_key_are_set_together(given):
    other = {"CERTIFICATE": "KEY", "KEY": "CERTIFICATE"}[given]
    with pytest.raises(InvalidSettingError, match=f"TENDON_TLS_{other} must be set too"):
        load({f"TENDON_TLS_{given}": "tls.pem"})
    both = load({"TENDON_TLS_CERTIFICATE": "tls.crt", "TENDON_TLS_KEY": "/etc/tls.key"})
    assert (both.tls_certificate, both.tls_key) == (Path("tls.crt").absolute(), Path("/etc/tls.key"))


def test_pipeline_folders_are_many_and_absolute():
    settings = load({"TENDON_PIPELINES_DIR": "/opt/a::b"})
    assert settings.pipelines_dirs == (Path("/opt/a"), Path("b").absolute())


def test_an_empty_value_is_as_good_as_none():
    assert load({"TENDON_DATA_DIR": "", "TENDON_AE_TITLE": ""}) == load({})


def test_a_name_that_is_no_setting_is_known_as_such():
    assert load({"TENDON_COLOUR": "blue", "TENDON_AE_TITLE": "X"}).unknown == ("TENDON_COLOUR",)


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        load({}).ae_title = "OTHER"


def test_a_child_sees_the_same_settings_and_nothing_else(tmp_path):
    given = {
        "TENDON_DATA_DIR": str(tmp_path / "data"),
        "TENDON_PIPELINES_DIR": "/opt/a:/opt/b",
        "TENDON_QUIET_SECONDS": "2.5",
        "TENDON_LEASE_SECONDS": "7",
        "TENDON_AE_TITLE": "KNEE",
        "TENDON_ENVIRONMENT": "test",
        "HOME": "/root",
        "AWS_SECRET_ACCESS_KEY": "hidden",
    }
    parent = load(given)
    child_environment = as_environment(parent)
    child = load(child_environment)
    for name in ("data_dir", "database_url", "pipelines_dirs", "ae_title", "quiet_seconds", "lease_seconds", "is_test"):
        assert getattr(child, name) == getattr(parent, name)
    assert {name for name in child_environment if not name.startswith("TENDON_")} == {"PATH"}
    assert "hidden" not in str(child_environment)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder and a state folder of its own, with no setting set."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TENDON_DATA_DIR", raising=False)
    return tmp_path


def test_where_no_site_was_set_up_the_last_demo_answers(elsewhere):
    (elsewhere / "demo").mkdir()
    remember_demo(elsewhere / "demo")
    assert load_for_questions().data_dir == elsewhere / "demo"


def test_a_site_that_was_set_up_answers_for_itself(elsewhere, monkeypatch):
    (elsewhere / "demo").mkdir()
    remember_demo(elsewhere / "demo")
    Path("tendon-data").mkdir()
    assert load_for_questions().data_dir == elsewhere / "here" / "tendon-data"
    monkeypatch.setenv("TENDON_DATA_DIR", str(elsewhere / "site"))
    assert load_for_questions().data_dir == elsewhere / "site"


def test_a_demo_that_is_gone_or_was_never_run_changes_nothing(elsewhere):
    assert load_for_questions().data_dir == elsewhere / "here" / "tendon-data"
    remember_demo(elsewhere / "removed")
    assert load_for_questions().data_dir == elsewhere / "here" / "tendon-data"


def test_a_note_that_cannot_be_written_stops_no_demo(elsewhere):
    (elsewhere / "state").write_text("a file where the folder should be")
    remember_demo(elsewhere / "demo")


@pytest.mark.parametrize(("name", "value"), [("TENDON_DATABASE_URL", "mysql://x"), ("TENDON_BROKER_URL", "redis://x")])
def test_servers_of_other_makers_are_refused(name, value):
    with pytest.raises(InvalidSettingError, match=f"{name} must begin with"):
        load({name: value})


def test_a_database_server_makes_the_system_distributed():
    assert load({"TENDON_DATABASE_URL": "postgresql://db/tendon"}).is_distributed
    assert not load({}).is_distributed


def test_a_role_answers_monitors_only_where_it_is_told_to():
    assert load({}).health_port is None
    assert load({"TENDON_HEALTH_PORT": "8081"}).health_port == 8081


PROVIDER = {
    "TENDON_OIDC_ISSUER": "https://id.example/realms/hospital",
    "TENDON_OIDC_CLIENT_ID": "tendon",
    "TENDON_OIDC_CLIENT_SECRET": "secret",
    "TENDON_OIDC_ROLES": "Radiology North=radiologist@north+south , CN=pacs admins=admin,",
    "TENDON_PUBLIC_URL": "https://tendon.example:8443/",
}


def test_an_identity_provider_gives_roles_to_groups():
    settings = load({**PROVIDER, "TENDON_OIDC_ACR": "mfa, phr", "TENDON_LOCAL_ACCOUNTS": "false"})
    assert settings.oidc.roles == (
        ("Radiology North", "radiologist", ("north", "south")),
        ("CN=pacs admins", "admin", ()),
    )
    assert (settings.oidc.groups_claim, settings.oidc.acrs) == ("groups", ("mfa", "phr"))
    assert (settings.public_url, settings.local_accounts) == ("https://tendon.example:8443", False)
    assert load({**PROVIDER, "TENDON_OIDC_ISSUER": "http://localhost:1"}).oidc.issuer == "http://localhost:1"
    every = ",".join(f"{role}s={role}" for role in ROLES)
    assert [role for _, role, _ in load({**PROVIDER, "TENDON_OIDC_ROLES": every}).oidc.roles] == list(ROLES)


@pytest.mark.parametrize("name", [name for name in PROVIDER if name != "TENDON_OIDC_ISSUER"])
def test_an_identity_provider_that_is_named_in_part_is_refused(name):
    with pytest.raises(InvalidSettingError, match=f"{name} must be set"):
        load({**PROVIDER, name: ""})
