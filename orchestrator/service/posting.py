"""What is to be told goes to the receivers of notices, at least once each. No receiver delays another."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import Fault, Refused, TendonError, Transient, where
from orchestrator.domain.notice import PATIENCE, fields_of
from orchestrator.service.desks import Desks
from orchestrator.service.noticing import sound_alarm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.domain.notice import Notice, NoticeKind, Posting
    from orchestrator.notices import Messenger
    from orchestrator.ports import Clock, Records
    from orchestrator.service.leading import Office

CLAIM: Final = timedelta(seconds=60)
"""Longer than any messenger takes; a posting whose sender died is sent again after it."""
VISIT: Final = timedelta(seconds=10)
"""How long one receiver is told one thing after another, before anybody asks whether to go on."""
KEPT_FOR: Final = timedelta(days=7)

_log = logging.getLogger("tendon.notices")


@dataclass(frozen=True, slots=True)
class Post:
    """What sending notices needs; one messenger per kind. Without an `office` nobody else sends."""

    records: Records
    clock: Clock
    messengers: Mapping[NoticeKind, Messenger]
    installation: str
    office: Office | None = None
    desks: Desks = field(default_factory=Desks)


def notices_due(post: Post) -> list[str]:
    """Names of the notices that `post_to` would send now."""
    with post.records.reading() as unit:
        return unit.notices.due(post.clock.now())


def post_to(post: Post, name: str) -> int:
    """Tell the receiver of one notice what is due, until it fails; returns how much it took.

    None while another thread does so.
    """
    with post.desks.at(name) as is_free:
        return _visit(post, name) if is_free else 0


def forget_told(post: Post) -> None:
    """Forget what ended a week ago."""
    with post.records.transaction() as unit:
        unit.notices.forget(post.clock.now() - KEPT_FOR)


def _visit(post: Post, name: str) -> int:
    taken, end = 0, post.clock.now() + VISIT
    while post.clock.now() < end:
        posting, notice = _claimed(post, name)
        if posting is None:
            break
        if notice is None:
            _end(post, posting.given_up(post.clock.now(), "the site has no such notice any more"))
            continue
        error = _sent(post, notice, posting)
        if error is not None:
            _note_failure(post, posting, error)
            break
        _end(post, posting.sent(post.clock.now()))
        taken += 1
    return taken


def _claimed(post: Post, name: str) -> tuple[Posting | None, Notice | None]:
    """What to tell next, and to whom by the site in force now."""
    now = post.clock.now()
    with post.records.transaction() as unit:
        if post.office is not None and not post.office.is_held(unit):
            return None, None
        site = unit.site.current()
        notice = next((one for one in site.notices if one.name == name), None) if site else None
        return unit.notices.claim(name, now, now + CLAIM), notice


def _sent(post: Post, notice: Notice, posting: Posting) -> TendonError | None:
    """Why it was not taken; a fault of the messenger is as good as no answer."""
    messenger = post.messengers.get(notice.kind)
    if messenger is None:
        return Refused(Fault.NOTICE_UNSENT, f"notices of kind {notice.kind} need a setting: see docs/notices.md")
    try:
        messenger.send(notice, fields_of(posting, post.installation), post.clock.now())
    except TendonError as error:
        return error
    except Exception as error:  # noqa: BLE001 - see above
        _log.error("notice %s: %s", notice.name, where(error))
        return Transient(Fault.NOTICE_UNSENT, f"sending failed: {type(error).__name__}")
    return None


def _end(post: Post, posting: Posting) -> None:
    with post.records.transaction() as unit:
        unit.notices.keep(posting)


def _note_failure(post: Post, posting: Posting, error: TendonError) -> None:
    """All that waits for the receiver waits longer; what waited for 72 hours is given up.

    An alarm tells what is given up, and a refusal that waiting does not mend.
    """
    now, name = post.clock.now(), posting.notice
    with post.records.transaction() as unit:
        failed = posting.failed(now, error.detail, unit.notices.failures(name) + 1)
        if not unit.notices.keep(failed):
            return
        unit.notices.put_off(name, failed.due_at)
        given_up = unit.notices.give_up(name, now - PATIENCE, now, error.detail) + (failed.state == "given up")
        if given_up:
            detail = f"{given_up} given up after 72 hours: {error.detail}"
            sound_alarm(unit, Alarm(Fault.NOTICE_UNSENT.code, f"notice {name}", detail, now, now))
        elif isinstance(error, Refused) and failed.tries == 1:
            sound_alarm(unit, Alarm(error.code, f"notice {name}", error.detail, now, now))
