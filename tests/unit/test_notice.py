"""What a notice tells and what it can never tell."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.notice import (
    FIELDS,
    PATIENCE,
    Happening,
    Posting,
    body_of,
    fields_of,
    is_mailbox,
    mail_of,
    template_fault,
)
from tests.rows import after

FAILED = Happening(
    event="job.failed", at=after(0), study_uid="1.5", job_id="j1", pipeline="bone_ct", state="failed", reason="it died"
)
WAITING = Posting(number=7, notice="ops", happening=FAILED, due_at=after(0))


def test_a_body_tells_what_applies_and_always_who_what_when_and_why():
    body = body_of(fields_of(WAITING, "north"))
    assert body.pop("id")
    assert body == {
        "event": "job.failed",
        "at": f"{after(0):%Y-%m-%dT%H:%M:%S}.000+00:00",
        "installation": "north",
        "study_uid": "1.5",
        "job_id": "j1",
        "pipeline": "bone_ct",
        "state": "failed",
        "code": "",
        "reason": "it died",
    }


def test_the_id_stays_when_it_is_sent_again_and_is_no_other_postings():
    other = Posting(number=8, notice="ops", happening=FAILED, due_at=after(0))
    elsewhere = Posting(number=7, notice="mail", happening=FAILED, due_at=after(0))
    again = WAITING.failed(after(5), "no answer", 3)
    names = [fields_of(one, "north")["id"] for one in (WAITING, again, other, elsewhere)]
    assert names[0] == names[1]
    assert len({*names, fields_of(WAITING, "south")["id"]}) == 4


def test_the_receiver_is_tried_less_and_less_often_and_given_up_after_72_hours():
    waits = [(WAITING.failed(after(5), "no answer", tries).due_at - after(5)).total_seconds() for tries in range(1, 12)]
    assert 0.5 <= waits[0] <= 1
    assert all(30 <= wait <= 60 for wait in waits[6:])
    assert WAITING.failed(after(0) + PATIENCE - timedelta(seconds=1), "no answer", 99).state == "waiting"
    ended = WAITING.failed(after(0) + PATIENCE, "no answer", 99)
    assert (ended.state, ended.reason, ended.ended_at) == ("given up", "no answer", after(0) + PATIENCE)


def test_an_e_mail_without_a_template_tells_all_that_there_is_to_tell():
    subject, text = mail_of(fields_of(WAITING, "north"), "")
    assert subject == "Tendon north: job.failed"
    assert "reason: it died\n" in text
    assert "destination" not in text


def test_a_template_is_subject_and_text():
    subject, text = mail_of(fields_of(WAITING, "north"), "{event} at {installation}\n\nBecause {reason}.\n{job_id}")
    assert (subject, text) == ("job.failed at north", "Because it died.\nj1\n")


@given(st.text(), st.sampled_from(["{reason}", "a {reason}\nb", ""]))
def test_no_field_makes_a_second_line_of_the_subject(reason, template):
    happening = Happening(event="job.failed", at=after(0), reason=reason, code=reason)
    subject, _ = mail_of(fields_of(Posting(number=1, notice="n", happening=happening, due_at=after(0)), "i"), template)
    assert subject.isprintable()
    assert len(subject) <= 200


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_may_stand_in_a_template(name):
    assert template_fault(f"{{{name}}}\nand {{{name}}}") == ""


@pytest.mark.parametrize(
    "template",
    [
        *("{patient_name}", "{}", "{0}", "{reason!r}", "{reason:>99999999}", "{reason.__class__}", "{ reason }"),
        *("{{reason}}", "{reason", "reason}", "a{b{reason}", "\n{reason}", "  \n{reason}", "", "a\x00", "a\r\nBcc: b"),
        "a" * 10_001,
    ],
)
def test_nothing_else_may_stand_in_a_template(template):
    assert template_fault(template)


@pytest.mark.parametrize("text", ["a@b", "ops@hospital.example", "a.b+c_d'e@x-1.example"])
def test_a_plain_mailbox_is_one(text):
    assert is_mailbox(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "@b", "a@", "a@b@c", "a b@c", "a@b c", "a@b,c@d", "<a@b>", "A <a@b>", "a@b\n", "a@b\r\nBcc: c@d"),
        *("a@-b", "a@b-", "ä@b", "a@b..c", '"a b"@c', "a@[127.0.0.1]", "a" * 65 + "@b", "a@" + "b" * 254),
    ],
)
def test_nothing_else_is_a_mailbox(text):
    assert not is_mailbox(text)
