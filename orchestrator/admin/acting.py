"""What people and programs do, each act with a line in the audit trail; the same for pages and API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.admin.access import address_of, require_seen
from orchestrator.admin.seeing import seen_job
from orchestrator.domain import audit
from orchestrator.service import configuring, deciding, ordering
from orchestrator.service.operating import clear_alarm
from orchestrator.service.probing import send_test
from orchestrator.service.repairing import cancel_job, reroute_study, retry_job
from orchestrator.service.resuming import resume_destination

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import Request

    from orchestrator.admin.context import Admin
    from orchestrator.domain.access import Principal
    from orchestrator.domain.order import Order
    from orchestrator.domain.site import Section, SiteFile
    from orchestrator.service.probing import Tried
    from orchestrator.service.repairing import Cancelled, Rerouted, Retried


def reroute(request: Request, admin: Admin, who: Principal, study_uid: str) -> Rerouted:
    """Have the rules in force decide on a study again."""
    require_seen(request, admin, who, study_uid)
    rerouted = reroute_study(admin.router, study_uid)
    _tell(request, admin, who, audit.STUDY_REROUTED, study_uid)
    return rerouted


def retry(request: Request, admin: Admin, who: Principal, job_id: str) -> Retried:
    """Try again what failed of a job."""
    job = seen_job(request, admin, who, job_id)
    retried = retry_job(admin.router, job.id)
    _tell(request, admin, who, audit.JOB_RETRIED, job.id)
    return retried


def cancel(request: Request, admin: Admin, who: Principal, job_id: str, reason: str) -> Cancelled:
    """Call a job off."""
    job = seen_job(request, admin, who, job_id)
    cancelled = cancel_job(admin.router, job.id, by=who.name, reason=reason)
    _tell(request, admin, who, audit.JOB_CANCELLED, job.id)
    return cancelled


def put_order(request: Request, admin: Admin, who: Principal, order: Order) -> None:
    """Tell of an order."""
    ordering.keep_order(admin.records, admin.clock, order)
    _tell(request, admin, who, audit.ORDER_KEPT, audit.order_mark(order.accession_number))


def drop_order(request: Request, admin: Admin, who: Principal, accession_number: str, patient_id: str | None) -> None:
    """Take an order back."""
    ordering.drop_order(admin.records, admin.clock, accession_number, patient_id)
    _tell(request, admin, who, audit.ORDER_DROPPED, audit.order_mark(accession_number))


def propose(
    request: Request,
    admin: Admin,
    who: Principal,
    *,
    rules: Sequence[Mapping[str, Any]],
    procedures: Sequence[Mapping[str, Any]] | None,
    test_studies: Sequence[Mapping[str, Any]] | None,
    reason: str,
    based_on: int | None,
) -> SiteFile:
    """Save other rules."""
    site = deciding.propose(
        admin.office,
        who.name,
        reason,
        rules=rules,
        procedures=procedures,
        test_studies=test_studies,
        based_on=based_on,
    )
    _tell(request, admin, who, audit.RULES_DRAFTED if site.is_draft else audit.RULES_ACTIVATED, str(site.version))
    return site


def activate(request: Request, admin: Admin, who: Principal, version: int) -> SiteFile:
    """Switch a draft on."""
    site = deciding.activate(admin.office, version, who.name)
    _tell(request, admin, who, audit.RULES_ACTIVATED, str(site.version))
    return site


def roll_back(request: Request, admin: Admin, who: Principal, version: int, reason: str) -> SiteFile:
    """Put an earlier version's rules in force again."""
    site = deciding.roll_back(admin.office, version, who.name, reason)
    _tell(request, admin, who, audit.RULES_ACTIVATED, str(site.version), site.reason)
    return site


def add(request: Request, admin: Admin, who: Principal, section: Section, given: Mapping[str, Any]) -> None:
    """Add a node, destination or notice."""
    _tell_of_site(request, admin, who, configuring.add(admin.office, who.name, section, given))


def change(request: Request, admin: Admin, who: Principal, section: Section, given: Mapping[str, Any]) -> None:
    """Replace the one of its name."""
    _tell_of_site(request, admin, who, configuring.change(admin.office, who.name, section, given))


def drop(request: Request, admin: Admin, who: Principal, section: Section, name: str) -> None:
    """Take one away."""
    _tell_of_site(request, admin, who, configuring.drop(admin.office, who.name, section, name))


def test(request: Request, admin: Admin, who: Principal, name: str) -> Tried:
    """Send a destination the test object."""
    tried = send_test(admin.prober, name)
    _tell(request, admin, who, audit.DESTINATION_TESTED, name)
    return tried


def resume(request: Request, admin: Admin, who: Principal, name: str) -> int:
    """Send again what is in quarantine on its way to a destination."""
    resumed = resume_destination(admin.records, admin.clock, name)
    _tell(request, admin, who, audit.DESTINATION_RESUMED, name)
    return resumed


def clear(request: Request, admin: Admin, who: Principal, code: str, subject: str) -> None:
    """An alarm was seen to."""
    clear_alarm(admin.records, admin.clock, code, subject)
    _tell(request, admin, who, audit.ALARM_CLEARED, subject, code)


def _tell_of_site(request: Request, admin: Admin, who: Principal, site: SiteFile) -> None:
    _tell(request, admin, who, audit.SITE_CHANGED, str(site.version), site.reason)


def _tell(request: Request, admin: Admin, who: Principal, event: str, subject: str, reason: str = "") -> None:
    at = admin.clock.now()
    done = audit.done_by(who.name, event, at, address=address_of(request), subject=subject, reason=reason)
    with admin.records.transaction() as unit:
        unit.audit.add(done)
