"""Settings from `TENDON_*` in the environment or files under TENDON_SECRETS_DIR; read once, frozen."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PREFIX: Final = "TENDON_"
_AE_TITLE_LENGTH: Final = 16
_LAST_PORT: Final = 65535
_SHORTEST_SECRET: Final = 16
_ROLES: Final = ("viewer", "radiologist", "operator", "admin", "auditor")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_GROUP: Final = re.compile(r"(?P<group>[^,]+)=(?P<role>[a-z]+)(@(?P<sites>[^,=@]+))?")
_MAILBOX: Final = re.compile(r"[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,252}")

Value = TypeVar("Value")


class InvalidSettingError(ValueError):
    """A setting cannot be what it is set to; the text names it and says what it must be."""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """The identity provider, and what its groups may do."""

    issuer: str
    """Empty: there is no provider."""
    client_id: str
    client_secret: str
    groups_claim: str
    roles: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Group, role, and the sites it is for; without sites: every site."""
    acrs: tuple[str, ...]
    """Authentication context classes of which the provider must have fulfilled one; none: it decides."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a site decides before start. `origins` says where each value came from."""

    data_dir: Path
    database_url: str
    broker_url: str
    """Empty: workers look for their work by themselves."""
    objects_url: str
    """Empty: objects are kept under `data_dir`, which all roles share."""
    objects_endpoint: str
    objects_region: str
    objects_key_id: str
    objects_secret: str
    objects_cache_gb: float
    retention_days: float | None
    """None: what was received is kept for ever."""
    pipelines_dirs: tuple[Path, ...]
    ae_title: str
    called_ae_titles: tuple[str, ...]
    """Further titles that peers may call."""
    unknown_sop_classes: str
    """Whether objects of classes that the standard does not name are taken: accept or refuse."""
    dicom_host: str
    dicom_port: int
    admin_host: str
    admin_port: int
    health_port: int | None
    """Where roles without pages answer monitors; None: nowhere."""
    tls_certificate: Path | None
    tls_key: Path | None
    """PEM files of the pages; None: without TLS."""
    trusted_proxies: tuple[str, ...]
    """Addresses and networks that are believed whom they speak for."""
    is_network_trusted: bool
    """Whether somebody else protects what is sent to and from here."""
    quiet_seconds: float
    lease_seconds: float
    time_zone: str
    """Whose clock rules go by where a node does not name its own."""
    rule_approval: bool
    """Whether rules need the approval of a second person."""
    https_only: bool
    """Whether URLs lead by https to public addresses only."""
    webhook_secret: str
    """Signs the webhooks of notices; empty: they are not signed."""
    smtp_url: str
    """The mail server of notices; empty: there is none."""
    mail_from: str
    public_url: str
    """Where browsers reach the pages; empty: not said."""
    oidc: OidcSettings
    local_accounts: bool
    """Whether people may sign in by a password kept here."""
    installation: str
    environment: str
    origins: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    """Names that look like settings but are none of this version."""

    @property
    def objects_dir(self) -> Path:
        """Where objects are kept."""
        return self.data_dir / "objects"

    @property
    def journal_dir(self) -> Path:
        """Where what is received stays until it is objects and records; on one disk with the objects."""
        return self.objects_dir / "journal"

    @property
    def work_dir(self) -> Path:
        """Where stages run; emptied at start."""
        return self.data_dir / "work"

    @property
    def is_distributed(self) -> bool:
        """Whether the roles run as processes of their own on one database server."""
        return self.database_url.startswith("postgresql")

    @property
    def is_test(self) -> bool:
        """Whether every output is stamped TEST."""
        return self.environment == "test"


def load(environment: Mapping[str, str] | None = None, overrides: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; `overrides` come before the environment. Raises InvalidSettingError."""
    given = os.environ if environment is None else environment  # noqa: TID251 - settings are read here
    source = _Source({**given, **(overrides or {})})
    site = _read(source)
    _require_whole_provider(site)
    return site


def _read(source: _Source) -> Settings:
    data_dir = Path(source.text("DATA_DIR", "tendon-data")).absolute()
    certificate, key = _tls(source)
    return Settings(
        data_dir=data_dir,
        database_url=source.parsed("DATABASE_URL", f"sqlite:///{data_dir / 'tendon.db'}", _database_url),
        broker_url=source.parsed("BROKER_URL", "", _broker_url),
        **_objects(source),
        retention_days=source.parsed("RETENTION_DAYS", "", lambda text: _above_zero(text) if text else None),
        pipelines_dirs=tuple(Path(p).absolute() for p in source.text("PIPELINES_DIR", "").split(":") if p),
        ae_title=source.parsed("AE_TITLE", "TENDON", _ae_title),
        called_ae_titles=source.parsed("CALLED_AE_TITLES", "", _ae_titles),
        unknown_sop_classes=source.parsed("UNKNOWN_SOP_CLASSES", "accept", _accept_or_refuse),
        dicom_host=source.text("DICOM_HOST", "127.0.0.1"),
        dicom_port=source.parsed("DICOM_PORT", "11112", _port),
        admin_host=source.text("ADMIN_HOST", "127.0.0.1"),
        admin_port=source.parsed("ADMIN_PORT", "8080", _port),
        health_port=source.parsed("HEALTH_PORT", "", lambda text: _port(text) if text else None),
        tls_certificate=certificate,
        tls_key=key,
        trusted_proxies=source.parsed("TRUSTED_PROXIES", "", _networks),
        is_network_trusted=source.parsed("TRUSTED_NETWORK", "false", _yes_or_no),
        quiet_seconds=source.parsed("QUIET_SECONDS", "30", _seconds),
        lease_seconds=source.parsed("LEASE_SECONDS", "15", _seconds),
        time_zone=source.parsed("TIME_ZONE", "UTC", time_zone_name),
        rule_approval=source.parsed("RULE_APPROVAL", "false", _yes_or_no),
        https_only=source.parsed("HTTPS_ONLY", "false", _yes_or_no),
        **_telling(source),
        public_url=source.parsed("PUBLIC_URL", "", lambda text: _reached_safely(text.removesuffix("/"), path=False)),
        oidc=_read_oidc(source),
        local_accounts=source.parsed("LOCAL_ACCOUNTS", "true", _yes_or_no),
        installation=source.text("INSTALLATION", ""),
        environment=source.parsed("ENVIRONMENT", "production", _environment),
        origins=source.origins,
        unknown=source.unknown(),
    )


def _objects(source: _Source) -> dict[str, Any]:
    """Where objects are kept."""
    return {
        "objects_url": source.parsed("OBJECTS_URL", "", _objects_url),
        "objects_endpoint": source.parsed("OBJECTS_ENDPOINT", "", _endpoint),
        "objects_region": source.text("OBJECTS_REGION", "us-east-1"),
        "objects_key_id": source.text("OBJECTS_KEY_ID", ""),
        "objects_secret": source.text("OBJECTS_SECRET", ""),
        "objects_cache_gb": source.parsed("OBJECTS_CACHE_GB", "10", _gigabytes),
    }


def _telling(source: _Source) -> dict[str, Any]:
    """How notices are sent."""
    return {
        "webhook_secret": source.parsed("WEBHOOK_SECRET", "", _secret),
        "smtp_url": source.parsed("SMTP_URL", "", _smtp_url),
        "mail_from": source.parsed("MAIL_FROM", "", _mailbox),
    }


def _read_oidc(source: _Source) -> OidcSettings:
    return OidcSettings(
        issuer=source.parsed("OIDC_ISSUER", "", _reached_safely),
        client_id=source.text("OIDC_CLIENT_ID", ""),
        client_secret=source.text("OIDC_CLIENT_SECRET", ""),
        groups_claim=source.text("OIDC_GROUPS_CLAIM", "groups"),
        roles=source.parsed("OIDC_ROLES", "", _roles_of_groups),
        acrs=source.parsed("OIDC_ACR", "", lambda text: _listed(text, ",")),
    )


def load_of_installation() -> Settings:
    """The settings for commands that act on an installation. Raises InvalidSettingError where there is none."""
    site = load()
    if not site.is_distributed and not site.data_dir.is_dir():
        raise InvalidSettingError(f"there is no installation in {site.data_dir}: name its folder by TENDON_DATA_DIR")
    return site


def load_for_questions() -> Settings:
    """The settings for commands that only ask: where no site was set up, the last demo's records answer."""
    site = load()
    if site.origins["TENDON_DATA_DIR"] != "default" or site.data_dir.exists():
        return site
    try:
        last = Path(_last_demo().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return site
    return load(overrides={"TENDON_DATA_DIR": str(last)}) if last.is_dir() else site


def remember_demo(data_dir: Path) -> None:
    """Note where the newest demo keeps its records, so that it can be asked about them."""
    note = _last_demo()
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(data_dir), encoding="utf-8")


def _last_demo() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()  # noqa: TID251
    return Path(home) / "tendon" / "last-demo"


def as_environment(settings: Settings) -> dict[str, str]:
    """The environment of a child process that shall see the same settings, and nothing else."""
    values = {
        "DATA_DIR": settings.data_dir,
        "DATABASE_URL": settings.database_url,
        "BROKER_URL": settings.broker_url,
        "OBJECTS_URL": settings.objects_url,
        "OBJECTS_ENDPOINT": settings.objects_endpoint,
        "OBJECTS_REGION": settings.objects_region,
        "OBJECTS_KEY_ID": settings.objects_key_id,
        "OBJECTS_SECRET": settings.objects_secret,
        "OBJECTS_CACHE_GB": settings.objects_cache_gb,
        "PIPELINES_DIR": ":".join(str(folder) for folder in settings.pipelines_dirs),
        "AE_TITLE": settings.ae_title,
        "LEASE_SECONDS": settings.lease_seconds,
        "QUIET_SECONDS": settings.quiet_seconds,
        "TIME_ZONE": settings.time_zone,
        "ENVIRONMENT": settings.environment,
    }
    return {"PATH": os.defpath, **{_PREFIX + name: str(value) for name, value in values.items()}}


class _Source:
    """Values by name, from the environment first, then from a file of the secrets folder; empty means not set."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._secrets = environment.get(f"{_PREFIX}SECRETS_DIR", "")
        self.origins: dict[str, str] = {}

    def unknown(self) -> tuple[str, ...]:
        """Names of the environment that look like settings but were not asked for."""
        known = {*self.origins, f"{_PREFIX}SECRETS_DIR"}
        return tuple(sorted(name for name in self._environment if name.startswith(_PREFIX) and name not in known))

    def text(self, name: str, default: str) -> str:
        key = _PREFIX + name
        secret = Path(self._secrets) / key if self._secrets else None
        if self._environment.get(key):
            value, origin = self._environment[key], "environment"
        elif secret is not None and secret.is_file():
            value, origin = secret.read_text(encoding="utf-8").strip(), "secrets folder"
        else:
            value, origin = default, "default"
        self.origins[key] = origin
        return value

    def parsed(self, name: str, default: str, parse: Callable[[str], Value]) -> Value:
        text = self.text(name, default)
        try:
            return parse(text)
        except ValueError as error:
            raise InvalidSettingError(f"{_PREFIX}{name} {error}") from error


def _tls(source: _Source) -> tuple[Path | None, Path | None]:
    """Certificate and key: both or none."""
    names = ("TLS_CERTIFICATE", "TLS_KEY")
    given = [source.text(name, "") for name in names]
    missing = [name for name, text in zip(names, given, strict=True) if not text]
    if len(missing) == 1:
        raise InvalidSettingError(f"{_PREFIX}{missing[0]} must be set too: TLS needs a certificate and its key")
    certificate, key = (Path(text).absolute() if text else None for text in given)
    return certificate, key


def _networks(text: str) -> tuple[str, ...]:
    given = [each.strip() for each in text.split(",") if each.strip()]
    try:
        return tuple(str(ip_network(each)) for each in given)
    except ValueError as error:
        raise ValueError("must be addresses or networks, such as 10.1.2.3, 10.1.0.0/16") from error


def _database_url(text: str) -> str:
    if not text.startswith(("sqlite:///", "postgresql://")):
        raise ValueError("must begin with sqlite:/// or postgresql://")
    return text


def _broker_url(text: str) -> str:
    if text and not text.startswith(("amqp://", "amqps://")):
        raise ValueError("must begin with amqp:// or amqps://")
    return text


def _objects_url(text: str) -> str:
    if text and not text.startswith("s3://"):
        raise ValueError("must begin with s3://")
    return text


def _endpoint(text: str) -> str:
    if text and not text.startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")
    return text


def _yes_or_no(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def _secret(text: str) -> str:
    if text and len(text) < _SHORTEST_SECRET:
        raise ValueError(f"must be at least {_SHORTEST_SECRET} characters that nobody can guess")
    return text


def _smtp_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_sound = parts.scheme in ("smtp", "smtps") and parts.hostname and (parts.port or 1) and not parts.path[1:]
    except ValueError:
        is_sound = False
    if text and not is_sound:
        raise ValueError("must be smtp://HOST:PORT or smtps://USER:PASSWORD@HOST:PORT")
    return text


def _mailbox(text: str) -> str:
    if text and not _MAILBOX.fullmatch(text):
        raise ValueError("must be a mailbox such as tendon@hospital.example")
    return text


def _reached_safely(text: str, *, path: bool = True) -> str:
    """A URL by https, or by http on this machine; without a path where there may be none."""
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and (parts.port or 1) and parts.username is None and not parts.query
    except ValueError:
        is_whole = False
    if not text:
        return ""
    is_safe = is_whole and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK))
    if not is_safe or parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be a URL that begins with https:// and has neither user nor query")
    if parts.path and not path:
        raise ValueError("must be a URL without a path")
    return text


def _roles_of_groups(text: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """`group=role` or `group=role@site+site`, separated by commas; a group may hold spaces and =."""
    found = []
    for part in _listed(text, ","):
        entry = _GROUP.fullmatch(part)
        if entry is None or entry["role"] not in _ROLES:
            raise ValueError(f"must be GROUP=ROLE or GROUP=ROLE@SITE+SITE, with commas between; {part[:64]!r} is not")
        found.append((entry["group"].strip(), entry["role"], _listed(entry["sites"] or "", "+")))
    groups = [group for group, _, _ in found]
    if len(set(groups)) < len(groups) or "" in groups:
        raise ValueError("must name each group once")
    return tuple(found)


def _listed(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def _require_whole_provider(site: Settings) -> None:
    """Raise InvalidSettingError where the provider is named in part, or is the only way in and is not there."""
    if not site.oidc.issuer:
        if not site.local_accounts:
            raise InvalidSettingError("TENDON_LOCAL_ACCOUNTS must be true where TENDON_OIDC_ISSUER names no provider")
        return
    for name, value in (
        ("OIDC_CLIENT_ID", site.oidc.client_id),
        ("OIDC_CLIENT_SECRET", site.oidc.client_secret),
        ("OIDC_ROLES", site.oidc.roles),
        ("PUBLIC_URL", site.public_url),
    ):
        if not value:
            raise InvalidSettingError(f"{_PREFIX}{name} must be set where TENDON_OIDC_ISSUER is")


def time_zone_name(text: str) -> str:
    """A zone of the IANA database. Raises ValueError."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must name a time zone, such as Europe/London") from error
    return text


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= _LAST_PORT:
        raise ValueError("must be a port number, 0 to 65535 (0: any free port)")
    return port


def _seconds(text: str) -> float:
    try:
        return _above_zero(text)
    except ValueError as error:
        raise ValueError("must be a number of seconds above 0") from error


def _gigabytes(text: str) -> float:
    return 0.0 if text == "0" else _above_zero(text)


def _above_zero(text: str) -> float:
    value = float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else 0.0
    if not value > 0:
        raise ValueError("must be a number above 0")
    return value


def _ae_title(text: str) -> str:
    title = text.strip()
    if not 0 < len(title) <= _AE_TITLE_LENGTH or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("must be 1 to 16 ASCII characters without a backslash (PS3.5 VR AE)")
    return title


def _ae_titles(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_ae_title(title) for title in text.split(",") if title.strip()))


def _accept_or_refuse(text: str) -> str:
    if text not in ("accept", "refuse"):
        raise ValueError("must be accept or refuse")
    return text


def _environment(text: str) -> str:
    if text not in ("production", "test"):
        raise ValueError("must be production or test")
    return text
