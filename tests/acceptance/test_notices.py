"""Others are told of what happens, and a receiver that hangs holds nobody up."""

from __future__ import annotations

import json
from threading import Event

import pytest
import yaml

from tests.house import LOOPBACK, house, write_limb_study
from tests.servers.hooks import hooks
from tests.servers.mail import mail_server

SECRET = "0123456789abcdef"
IS_OVER = Event()
TOLD = ["study.routed", "job.done", "alarm.raised", "rules.activated"]


@pytest.fixture
def receivers():
    with hooks() as ops, hooks() as hanging, mail_server() as mail:
        hanging.answer = lambda _: IS_OVER.wait(5)
        yield ops, hanging, mail


@pytest.fixture
def tendon(tmp_path, receivers):
    _, _, mail = receivers
    settings = {"TENDON_SMTP_URL": f"smtp://{LOOPBACK}:{mail.port}", "TENDON_MAIL_FROM": "tendon@hospital.example"}
    with house(tmp_path, TENDON_WEBHOOK_SECRET=SECRET, **settings) as started:
        yield started


def test_receivers_are_told_what_happened_without_patient_data(tendon, tmp_path, receivers):
    ops, hanging, mail = receivers
    tendon.start()
    site = yaml.safe_load((tmp_path / "site.yaml").read_text())
    site["notices"] = [
        {"name": "hanging", "kind": "webhook", "url": f"http://{LOOPBACK}:{hanging.port}/", "events": TOLD},
        {"name": "ops", "kind": "webhook", "url": f"http://localhost:{ops.port}/t", "events": TOLD},
        {"name": "mail", "kind": "email", "to": ["a@b.example"], "events": ["job.done"], "template": "{id}\n{job_id}"},
    ]
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    tendon.tendon("import", str(tmp_path / "site.yaml"))
    tendon.send(write_limb_study(tmp_path / "study", patient_id="CANARYID", study_description="canarytext"))
    jobs = tendon.settled(2)

    tendon.until(lambda: len(ops.requests) >= 4 and len(mail.mails) >= 2 and len(hanging.requests) >= 1)
    told = [json.loads(request.body) for request in ops.requests]
    assert sorted({one["event"] for one in told}) == ["job.done", "rules.activated", "study.routed"]
    assert {one["job_id"] for one in told if one["event"] == "job.done"} == {job["id"] for job in jobs}
    assert {one["installation"] for one in told} == {"test"}
    assert len({one["id"] for one in told}) == len(told)
    assert all(request.headers["Tendon-Signature"].startswith("t=") for request in ops.requests)
    assert {data.split()[-1].decode() for _, _, data in mail.mails} == {job["id"] for job in jobs}
    IS_OVER.set()
    seen = [*(request.body for request in ops.requests), *(data for _, _, data in mail.mails), tendon.log().encode()]
    assert [text for text in seen if b"canary" in text.lower()] == []


def test_an_import_is_refused_that_would_call_where_nobody_may(tendon, tmp_path):
    for url, setting in (("http://169.254.169.254/", "false"), ("http://hook.example/", "true")):
        notice = {"name": "ops", "kind": "webhook", "url": url, "events": TOLD}
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump({"notices": [notice]}))
        complaint = tendon.tendon("import", str(tmp_path / "bad.yaml"), expect=1, TENDON_HTTPS_ONLY=setting)
        assert "notices[0].url" in complaint
        assert "TND-5004" in complaint
