"""What the port `Messenger` promises: the fake, a webhook and e-mail over the network."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.errors import Fault, Refused, TendonError, Transient
from orchestrator.domain.notice import Happening, Notice, Posting, fields_of
from orchestrator.outgoing.mail import Mail
from orchestrator.outgoing.webhook import Webhooks
from tests.dicom_peers import free_port
from tests.fakes.notices import MemoryMessenger
from tests.rows import after
from tests.servers.hooks import LOOPBACK, hooks
from tests.servers.mail import mail_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.notices import Messenger

HAPPENING = Happening(event="job.failed", at=after(0), job_id="j1", state="failed", code="TND-4002", reason="it died")
FIELDS = fields_of(Posting(number=1, notice="ops", happening=HAPPENING, due_at=after(0)), "north")


@dataclass
class Kind:
    """A messenger, a notice, who else carries it to nobody, and what its receiver does and was told."""

    messenger: Messenger
    notice: Notice
    to_nobody: tuple[Messenger, Notice]
    told: Callable[[], list[str]]
    fail: Callable[..., object]


@contextmanager
def memory() -> Iterator[Kind]:
    messenger = MemoryMessenger(fails={"nobody": Transient(Fault.NOTICE_UNSENT)})

    def fail(*, is_for_good: bool) -> None:
        messenger.fails["ops"] = (Refused if is_for_good else Transient)(Fault.NOTICE_UNSENT)

    nobody = messenger, Notice("nobody", "webhook")
    yield Kind(messenger, Notice("ops", "webhook"), nobody, lambda: [json.dumps(f) for _, f in messenger.told], fail)


@contextmanager
def webhook() -> Iterator[Kind]:
    with hooks() as hook:
        messenger = Webhooks("")
        nobody = messenger, Notice("nobody", "webhook", url=f"http://{LOOPBACK}:{free_port()}/")

        def fail(*, is_for_good: bool) -> None:
            hook.status = 404 if is_for_good else 503

        notice = Notice("ops", "webhook", url=f"http://{LOOPBACK}:{hook.port}/hook")
        yield Kind(messenger, notice, nobody, lambda: [r.body.decode() for r in hook.requests], fail)


@contextmanager
def email() -> Iterator[Kind]:
    with mail_server() as server:

        def fail(*, is_for_good: bool) -> None:
            server.answers["RCPT"] = b"550 no such mailbox" if is_for_good else b"450 later"

        sender, notice = "tendon@a.example", Notice("ops", "email", to=("ops@b.example",))
        nobody = Mail(f"smtp://{LOOPBACK}:{free_port()}", sender), notice
        messenger = Mail(f"smtp://{LOOPBACK}:{server.port}", sender)
        yield Kind(messenger, notice, nobody, lambda: [data.decode() for _, _, data in server.mails], fail)


@pytest.fixture(params=[memory, webhook, email], ids=["fake", "webhook", "email"])
def kind(request):
    with request.param() as kind:
        yield kind


def test_the_receiver_is_told_each_time(kind):
    for _ in range(2):
        kind.messenger.send(kind.notice, FIELDS, after(1))
    told = kind.told()
    assert len(told) == 2
    for text in told:
        assert all(FIELDS[name] in text for name in ("event", "id", "installation", "code", "reason", "job_id"))


def test_what_nobody_takes_is_worth_another_try(kind):
    messenger, notice = kind.to_nobody
    with pytest.raises(Transient) as failure:
        messenger.send(notice, FIELDS, after(1))
    assert failure.value.fault is Fault.NOTICE_UNSENT


@pytest.mark.parametrize(("is_for_good", "expected"), [(True, Refused), (False, Transient)], ids=["for good", "now"])
def test_a_receiver_that_will_not_take_it_is_told_from_one_that_cannot_now(kind, is_for_good, expected):
    kind.fail(is_for_good=is_for_good)
    with pytest.raises(TendonError) as failure:
        kind.messenger.send(kind.notice, FIELDS, after(1))
    assert (type(failure.value), failure.value.fault) == (expected, Fault.NOTICE_UNSENT)


@pytest.mark.parametrize("kind_of", ["webhook", "smtp", "smtps"])
def test_a_receiver_that_says_nothing_is_left_when_the_time_is_over(kind_of):
    with socket.create_server((LOOPBACK, 0)) as silent:
        host = f"{LOOPBACK}:{silent.getsockname()[1]}"
        messenger: Messenger = (
            Webhooks("", deadline_s=0.2) if kind_of == "webhook" else Mail(f"{kind_of}://{host}", "a@b", deadline_s=0.2)
        )
        with pytest.raises(Transient):
            messenger.send(Notice("ops", "webhook", url=f"http://{host}/", to=("a@b",)), FIELDS, after(1))
