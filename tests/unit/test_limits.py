"""Bodies are bounded and answers carry what browsers need, whatever the application does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orchestrator.admin.limits import BODY_BYTES, SECURITY_HEADERS, Limits

CAPS = {"/api/": 100, "/api/rules": 1000}


def ask(
    app, *pieces: bytes, path: str = "/", scheme: str = "http", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer; the body of the request comes in these pieces."""
    waiting = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})
    told: list[dict[str, Any]] = []

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        told.append(message)

    scope = {
        "type": "http",
        "scheme": scheme,
        "path": path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(Limits(app, CAPS)(scope, receive, send))
    starts = [message for message in told if message["type"] == "http.response.start"]
    assert len(starts) == 1
    assert not told[-1].get("more_body")
    given = {name.decode(): value.decode() for name, value in starts[0]["headers"]}
    assert len(given) == len(starts[0]["headers"])
    return starts[0]["status"], given, b"".join(message.get("body", b"") for message in told)


def answering(*headers: tuple[bytes, bytes]):
    """An application that reads the whole body and says how long it was."""

    async def app(scope, receive, send):
        count = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client has gone")
            count += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await send({"type": "http.response.body", "body": str(count).encode()})

    return app


async def never(scope, receive, send):
    raise AssertionError("nobody shall be asked")


@pytest.mark.parametrize(
    ("path", "cap"),
    [("/", BODY_BYTES), ("/api", BODY_BYTES), ("/api/", 100), ("/api/jobs", 100), ("/api/rules/check", 1000)],
)
def test_the_longest_beginning_of_the_path_decides(path, cap):
    status, _, body = ask(answering(), bytes(cap), path=path, content_length=str(cap))
    assert (status, body) == (200, str(cap).encode())
    assert ask(never, path=path, content_length=str(cap + 1))[0] == 413
    assert ask(answering(), bytes(cap), path=path)[0] == 200
    assert ask(answering(), bytes(cap), b"x", path=path)[0] == 413


def test_a_refusal_is_a_problem_with_its_code_and_ends_the_connection():
    status, headers, body = ask(never, path="/api/", content_length="101")
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert json.loads(body) == {
        "type": "/errors#TND-6012",
        "title": "the request is larger than is taken here",
        "status": status,
        "code": "TND-6012",
        "detail": "a body has at most 100 bytes here",
    }


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "GZIP"])
def test_compressed_bodies_are_refused_since_their_size_is_not_known(encoding):
    status, _, body = ask(never, b"x", content_length="1", content_encoding=encoding)
    assert (status, json.loads(body)["code"]) == (415, "TND-6011")


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_what_is_no_compression_is_taken(encoding):
    assert ask(answering(), b"x", content_length="1", content_encoding=encoding)[0] == 200


def test_what_the_application_makes_of_a_refused_body_is_not_seen():
    async def stubborn(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"oops"})

    status, _, body = ask(stubborn, bytes(101), path="/api/")
    assert status == 413
    assert b"oops" not in body


def test_a_fault_of_the_application_itself_is_left_to_the_server():
    async def faulty(scope, receive, send):
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        ask(faulty)


def test_every_answer_carries_the_headers_also_a_refusal():
    expected = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
    for app, length in ((answering(), "0"), (never, "1000000")):
        _, headers, _ = ask(app, content_length=length)
        assert headers.items() >= expected.items()
    assert expected["cache-control"] == "no-store"
    assert expected["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert "camera=()" in expected["permissions-policy"]


def test_an_answer_may_set_its_own():
    own = answering((b"Cache-Control", b"max-age=60"), (b"content-security-policy", b"default-src 'self'"))
    _, headers, _ = ask(own)
    assert headers["cache-control"] == "max-age=60"
    assert headers["content-security-policy"] == "default-src 'self'"


def test_only_over_tls_browsers_are_told_to_insist_on_it():
    assert "strict-transport-security" not in ask(answering())[1]
    assert ask(answering(), scheme="https")[1]["strict-transport-security"] == "max-age=31536000"


def test_what_is_no_request_passes():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(Limits(app, {})({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
