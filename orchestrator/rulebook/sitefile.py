"""The one YAML file of what staff decide: nodes, destinations, notices and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.address import host_fault, url_fault
from orchestrator.domain.delivery import MAX_BATCH, Destination, Node
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.notice import Event, Notice, is_mailbox, template_fault
from orchestrator.domain.site import SiteContent
from orchestrator.rulebook.reading import parse_yaml, word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.domain.site import Section
_AE_TITLE: Final = r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?$"
_NAME: Final = r"^[A-Za-z0-9_.-]{1,64}$"
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "dicom": ("ae_title", "host", "port"),
    "dicomweb": ("url",),
    "fhir": ("url",),
    "hl7v2": ("host", "port"),
    "folder": ("path",),
    "webhook": ("url",),
    "email": ("to",),
}
_ELSEWHERE: Final = {"webhook": ("to", "template"), "email": ("url",)}
_MOST_MAILBOXES: Final = 20
_WAITS_FOR_REVIEW: Final = ("fhir", "hl7v2")


def _zone(name: str) -> str:
    if name:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("names no time zone; Europe/London is one") from error
    return name


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _NodeText(_Text):
    name: str = Field(pattern=_NAME)
    ae_title: str = Field(pattern=_AE_TITLE)
    host: str = Field(min_length=1)
    port: int = Field(default=104, ge=1, le=65535)
    may_send: bool = False
    site: str = ""
    patient_id_issuer: str = ""
    time_zone: Annotated[str, AfterValidator(_zone)] = ""
    identity_authority: bool = False
    query: bool = False
    quota_gb_per_day: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class _DestinationText(_Text):
    name: str = Field(pattern=_NAME)
    kind: Literal["dicom", "dicomweb", "fhir", "hl7v2", "folder"]
    ae_title: str = Field(default="", pattern=f"{_AE_TITLE}|^$")
    host: str = ""
    port: int = Field(default=0, ge=0, le=65535)
    url: str = ""
    path: str = ""
    profile: str = "ohif"
    proof: Literal["commitment", "query", "ack"] = "query"
    release: Literal["at_once", "after_review", "shadow"] | None = None
    production: bool = False
    patient_system: str = ""
    patient_systems: dict[str, str] = {}
    max_batch: int = Field(default=MAX_BATCH, ge=1, le=10_000)
    max_per_s: float | None = Field(default=None, ge=0.01, allow_inf_nan=False)


class _NoticeText(_Text):
    name: str = Field(pattern=_NAME)
    kind: Literal["webhook", "email"]
    events: list[Event] = Field(min_length=1)
    url: str = ""
    to: list[str] = Field(default=[], max_length=_MOST_MAILBOXES)
    template: str = ""


_Shape = TypeVar("_Shape", bound=_Text)


class _SiteText(_Text):
    nodes: list[_NodeText] = []
    destinations: list[_DestinationText] = []
    rules: list[dict[str, Any]] = []
    procedures: list[dict[str, Any]] = []
    test_studies: list[dict[str, Any]] = []
    notices: list[_NoticeText] = []


_BASE: Final[type[yaml.SafeDumper]] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_BASE):  # type: ignore[valid-type,misc]
    """Quotes every text that would be read back as something else: YAML 1.1, which PyYAML writes, has other words."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = isinstance(word(text), str) and text.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _quoted)


def parse_site(text: str, *, https_only: bool = False) -> SiteContent:
    """What a site file holds. With `https_only` URLs lead by https to public addresses.

    Raises Refused DESTINATION_INVALID naming the path of the fault, RULE_INVALID for what is no plain YAML.
    Rules, procedures and test studies are not looked into.
    """
    content = parse_yaml(text)
    if not isinstance(content, dict | None):
        raise Refused(Fault.DESTINATION_INVALID, "the file: must hold nodes, destinations and rules by name")
    site = _shaped(_SiteText, content or {})
    for section, given in (("nodes", site.nodes), ("destinations", site.destinations), ("notices", site.notices)):
        _require_distinct(section, [one.name for one in given])
    for number, node in enumerate(site.nodes):
        _require_sound(f"nodes[{number}].host", host_fault(node.host))
    return SiteContent(
        nodes=tuple(Node(**node.model_dump()) for node in site.nodes),
        destinations=tuple(
            _destination(f"destinations[{number}].", given, https_only=https_only)
            for number, given in enumerate(site.destinations)
        ),
        rules=tuple(site.rules),
        procedures=tuple(site.procedures),
        test_studies=tuple(site.test_studies),
        notices=tuple(
            _notice(f"notices[{number}].", given, https_only=https_only) for number, given in enumerate(site.notices)
        ),
    )


def _require_distinct(section: str, names: list[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise Refused(Fault.DESTINATION_INVALID, f"{section}[{number}].name: {name} is there twice")


def part_of(section: Section, source: Mapping[str, Any], *, https_only: bool = False) -> Node | Destination | Notice:
    """One node, destination or notice, as the site file writes it. Raises as `parse_site`."""
    if section == "nodes":
        node = Node(**_shaped(_NodeText, source).model_dump())
        _require_sound("host", host_fault(node.host))
        return node
    if section == "destinations":
        return _destination("", _shaped(_DestinationText, source), https_only=https_only)
    return _notice("", _shaped(_NoticeText, source), https_only=https_only)


def _shaped(shape: type[_Shape], source: Any) -> _Shape:
    try:
        return shape.model_validate(source)
    except ValidationError as error:
        first = error.errors()[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        raise Refused(Fault.DESTINATION_INVALID, f"{path}: {first['msg']}") from error


def _require_sound(path: str, fault: str) -> None:
    if fault:
        raise Refused(Fault.DESTINATION_INVALID, f"{path}: {fault}")


def _require_needed(path: str, given: _DestinationText | _NoticeText, what: str) -> None:
    for needed in _NEEDS[given.kind]:
        if not getattr(given, needed):
            _require_sound(f"{path}{needed}", f"a {what} of kind {given.kind} needs it")


def _destination(path: str, given: _DestinationText, *, https_only: bool) -> Destination:
    _require_needed(path, given, "destination")
    if "url" in _NEEDS[given.kind]:
        _require_sound(f"{path}url", url_fault(given.url, https_only=https_only))
    if "host" in _NEEDS[given.kind]:
        _require_sound(f"{path}host", host_fault(given.host))
    values = given.model_dump()
    values["release"] = given.release or ("after_review" if given.kind in _WAITS_FOR_REVIEW else "at_once")
    values["patient_systems"] = tuple(given.patient_systems.items())
    return Destination(**values)


def _notice(path: str, given: _NoticeText, *, https_only: bool) -> Notice:
    _require_needed(path, given, "notice")
    for name in _ELSEWHERE[given.kind]:
        if getattr(given, name):
            _require_sound(f"{path}{name}", f"a notice of kind {given.kind} has none")
    if given.url:
        _require_sound(f"{path}url", url_fault(given.url, https_only=https_only))
    for number, mailbox in enumerate(given.to):
        _require_sound(
            f"{path}to[{number}]", "" if is_mailbox(mailbox) else "is no mailbox such as ops@hospital.example"
        )
    if given.template:
        _require_sound(f"{path}template", template_fault(given.template))
    events = tuple(dict.fromkeys(given.events))
    return Notice(given.name, given.kind, events, given.url, tuple(given.to), given.template)


def write_site(site: SiteContent) -> str:
    """The site file of it; `parse_site` reads it back."""
    body: dict[str, Any] = {
        "nodes": [
            _without_defaults(node, Node(name="", ae_title="", host="", port=0, may_send=False)) for node in site.nodes
        ],
        "destinations": [
            {**_without_defaults(d, Destination(name="", kind=d.kind)), "kind": d.kind, "release": d.release}
            for d in site.destinations
        ],
        "rules": [dict(rule) for rule in site.rules],
    }
    for name in ("procedures", "test_studies"):
        if given := getattr(site, name):
            body[name] = [dict(one) for one in given]
    if site.notices:
        body["notices"] = [
            {**_without_defaults(notice, Notice(name="", kind=notice.kind)), "kind": notice.kind}
            for notice in site.notices
        ]
    return write_yaml(body)


def write_yaml(value: Any) -> str:
    """Plain values as YAML; `parse_yaml` reads them back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _without_defaults(given: Node | Destination | Notice, default: Node | Destination | Notice) -> dict[str, Any]:
    values = {}
    for name in given.__slots__:
        value = getattr(given, name)
        if value != getattr(default, name):
            values[name] = dict(value) if name == "patient_systems" else value
    return values
