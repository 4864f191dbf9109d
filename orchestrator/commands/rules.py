"""Check a rule file, or try it on the studies of the last days. Neither changes anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator import settings
from orchestrator.assembly import open_catalog, open_rulebook, open_system
from orchestrator.commands.span import span
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import SiteContent
from orchestrator.domain.trial import tally
from orchestrator.rulebook import parse_yaml
from orchestrator.service.replaying import replay, seconds_of_jobs
from orchestrator.service.telling import change_told

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from orchestrator.domain.route import WouldRun
    from orchestrator.domain.trial import Change, Tally

EXAMPLE: Final = "tendon rules replay site.yaml --since 7d"
_SECONDS_PER_HOUR: Final = 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which file."""
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="say what is wrong with the rules of a file; change nothing")
    trial = actions.add_parser("replay", help="say what the rules of a file would change, study by study")
    trial.add_argument(
        "--since",
        type=span,
        default=span("7d"),
        metavar="SPAN",
        help="of the last 12h or 7d, for example (default: 7d)",
    )
    for action in (check, trial):
        action.add_argument("file", type=Path, metavar="FILE", help="YAML with `rules:`, as for `tendon import`")
        action.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Do it; exit code 1 when the rules have errors."""
    return _check(arguments) if arguments.action == "check" else _replay(arguments)


def _check(arguments: argparse.Namespace) -> int:
    site = _site(arguments.file)
    content = _content(site)
    manifests = open_catalog(settings.load()).manifests()
    findings = open_rulebook().check(content, manifests, _names(site.get("destinations")))
    has_errors = any(finding.severity == "error" for finding in findings)
    if arguments.json:
        sys.stdout.write(json.dumps({"items": [asdict(finding) for finding in findings]}, indent=2) + "\n")
        return int(has_errors)
    for finding in findings:
        sys.stdout.write(f"{finding.severity}: {finding.path}: {finding.message} [{finding.code}]\n")
    sys.stdout.write("The rules have faults.\n" if has_errors else f"{len(content.rules)} rules, no errors.\n")
    return int(has_errors)


def _replay(arguments: argparse.Namespace) -> int:
    tried = _content(_site(arguments.file))
    system = open_system(settings.load_of_installation())
    since = system.clock.now() - arguments.since
    changes = list(replay(system.records, system.rulebook, system.catalog.manifests(), tried, since))
    summed = tally(changes, seconds_of_jobs(system.records))
    if arguments.json:
        sys.stdout.write(
            json.dumps({"items": [change_told(c) for c in changes], "sum": asdict(summed)}, indent=2) + "\n"
        )
        return 0
    for change in changes:
        sys.stdout.write(f"{change.study_uid}: {'; '.join(_told(change)) or 'unchanged'}\n")
    sys.stdout.write(_summed(summed))
    return 0


def _told(change: Change) -> list[str]:
    told = [f"begins {_named(job)}" for job in change.begun]
    told += [f"no longer runs {_named(job)}" for job in change.dropped]
    return told + [f"{_named(after)}: {_differences(before, after)}" for before, after in change.altered]


def _named(job: WouldRun) -> str:
    return f"{job.pipeline} on series {job.series_uid}"


def _differences(before: WouldRun, after: WouldRun) -> str:
    differing = [f.name for f in fields(before) if getattr(before, f.name) != getattr(after, f.name)]
    return ", ".join(f"{name} {_text(getattr(before, name))} -> {_text(getattr(after, name))}" for name in differing)


def _text(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "nowhere"


def _summed(summed: Tally) -> str:
    jobs = [f"+{number} {name}" for name, number in summed.begun.items()]
    jobs += [f"-{number} {name}" for name, number in summed.dropped.items()]
    lines = [f"{summed.studies} studies, {summed.changed} of them change; jobs: {', '.join(jobs) or 'the same'}"]
    if summed.cpu_s or summed.gpu_s:
        gpu_h, cpu_h = summed.gpu_s / _SECONDS_PER_HOUR, summed.cpu_s / _SECONDS_PER_HOUR
        lines.append(f"By what stages took lately that is {gpu_h:+.2f} h of GPU lanes and {cpu_h:+.2f} h of CPU lanes")
    if summed.unknown:
        lines.append(f"Not known, since no stage was done lately: what {', '.join(summed.unknown)} takes")
    return "".join(f"{line}\n" for line in lines)


def _site(file: Path) -> Mapping[str, Any]:
    """The file as a mapping. Raises Refused where it is none."""
    try:
        site = parse_yaml(file.read_bytes())
    except OSError as fault:
        raise Refused(Fault.NOT_FOUND, f"{file.name} cannot be read: {fault.strerror}") from fault
    if not isinstance(site, Mapping) or "rules" not in site:
        raise Refused(Fault.RULE_INVALID, f"{file.name} has no `rules:`")
    return site


def _content(site: Mapping[str, Any]) -> SiteContent:
    return SiteContent(**{name: _listed(site, name) for name in ("rules", "procedures", "test_studies")})


def _listed(site: Mapping[str, Any], name: str) -> Any:
    """The list of that name; something else is left to the check."""
    given = site.get(name) or []
    return tuple(given) if isinstance(given, list) else given


def _names(destinations: Any) -> list[str]:
    given = destinations if isinstance(destinations, list) else []
    return [str(one["name"]) for one in given if isinstance(one, Mapping) and "name" in one]
