"""The HTTP server keeps to its deadlines and limits, and answers the honest meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event

import pytest

from orchestrator.admin.connection import HEAD_BYTES, Deadlines
from orchestrator.admin.tls import Certificate
from orchestrator.admin.visits import MOST
from tests.certificates import write_certificate
from tests.dicom_peers import LOOPBACK, eventually
from tests.served import GOOD, POST, answer, one_answer, serving, stranger

LONG_S = 60.0
PATIENT = dict.fromkeys(("handshake_s", "head_s", "idle_s", "body_pause_s", "body_s", "rest_s", "reading_s"), LONG_S)


def hurried(*names: str, within_s: float = 0.3) -> Deadlines:
    """Only the deadlines named are short."""
    return Deadlines(**{**PATIENT, **dict.fromkeys(names, within_s)})


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends it."""
    with suppress(ConnectionError):
        return connection.recv(1 << 16) == b""
    return True


def trickle(connection: socket.socket, piece: bytes, pause_s: float = 0.02) -> bytes:
    """Send a piece again and again until the other side has enough; gives what it said."""
    connection.settimeout(pause_s)
    told = b""
    for _ in range(500):
        try:
            connection.sendall(piece)
            if not (heard := connection.recv(1 << 16)):
                return told
            told += heard
        except TimeoutError:
            continue
        except ConnectionError:
            return told
    raise AssertionError("it has had no end")


# deadlines


def test_a_head_that_comes_slowly_is_not_waited_for():
    with serving(deadlines=hurried("head_s")) as port, stranger(port) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert trickle(slow, b"X: y\r\n") == b""


def test_who_says_nothing_at_all_is_not_waited_for():
    with serving(deadlines=hurried("head_s")) as port, stranger(port) as silent:
        assert is_closed(silent)


def test_the_head_of_a_further_request_has_its_own_deadline():
    with serving(deadlines=hurried("head_s")) as port, stranger(port) as slow:
        for _ in range(3):
            slow.sendall(GOOD)
            assert one_answer(slow).endswith(b"ok")
            time.sleep(0.2)
        slow.sendall(GOOD[:10])
        assert is_closed(slow)


def test_who_was_answered_may_rest_for_a_while():
    with serving(deadlines=hurried("idle_s")) as port, stranger(port) as resting:
        resting.sendall(GOOD)
        one_answer(resting)
        assert is_closed(resting)


def test_a_body_has_to_go_on_arriving():
    with serving(deadlines=hurried("body_pause_s")) as port, stranger(port) as slow:
        slow.sendall(POST + b"Content-Length: 30\r\n\r\n")
        for _ in range(30):
            time.sleep(0.02)
            slow.sendall(b"x")
        assert one_answer(slow).endswith(b"30")
        slow.sendall(POST + b"Content-Length: 30\r\n\r\nx")
        assert is_closed(slow)


def test_a_body_has_to_end():
    with serving(deadlines=hurried("body_s")) as port, stranger(port) as slow:
        slow.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        assert trickle(slow, b"x") == b""


def test_a_body_that_nobody_asked_for_is_not_taken_for_long():
    with serving(deadlines=hurried("rest_s")) as port, stranger(port) as insistent:
        insistent.sendall(b"GET /healthz HTTP/1.1\r\nHost: tendon\r\nContent-Length: 60000\r\n\r\n")
        assert trickle(insistent, b"x").endswith(b"ok")


def test_an_answer_has_to_be_read():
    deadlines = hurried("reading_s")
    with serving(deadlines=deadlines) as port, stranger(port) as deaf:
        deaf.sendall(b"GET /much HTTP/1.1\r\nHost: tendon\r\n\r\n")
        assert eventually(lambda: not is_established(deaf, port))
        assert len(answer(deaf)) < 32 << 20


def is_established(connection: socket.socket, port: int) -> bool:
    """Whether the server still holds its end, as the kernel's table has it."""
    peer = connection.getsockname()[1]
    table = Path("/proc/net/tcp").read_text(encoding="ascii")
    ends = [line.split()[1:4] for line in table.splitlines()]
    return any(end[0].endswith(f":{port:04X}") and end[1].endswith(f":{peer:04X}") and end[2] == "01" for end in ends)


def test_an_application_may_take_its_time():
    released = Event()

    async def slow_app(scope, receive, send) -> None:
        await asyncio.to_thread(released.wait, 30)
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": message["body"][:1]})

    quick = hurried("head_s", "idle_s", "rest_s", "reading_s", within_s=0.2)
    with serving(slow_app, deadlines=quick) as port, stranger(port) as honest:
        honest.sendall(b"POST / HTTP/1.1\r\nHost: tendon\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        time.sleep(0.5)
        released.set()
        assert one_answer(honest).endswith(b"x")


# sizes and shapes


@pytest.fixture(scope="module")
def at_ease():
    """The port of a server with the deadlines of every day."""
    with serving() as port:
        yield port


@pytest.mark.parametrize(
    "head",
    [
        GOOD[:-2] + b"X: " + b"y" * HEAD_BYTES + b"\r\n\r\n",
        GOOD[:-2] + b"X: y\r\n" * (2 << 20 >> 3) + b"\r\n",
        GOOD[:-2] + b"X: " + b"y" * (2 << 20),
        b"GET /" + b"y" * (2 << 20),
    ],
    ids=["just too long", "2 MB of lines", "a line without end", "a target without end"],
)
def test_a_head_has_at_most_16_kib(at_ease, head):
    with stranger(at_ease) as large:
        with suppress(ConnectionError):
            large.sendall(head)
        told = answer(large)
        assert told == b"" or told.startswith(b"HTTP/1.1 400 ")


def test_a_head_of_nearly_16_kib_is_taken(at_ease):
    with stranger(at_ease) as large:
        large.sendall(GOOD[:-2] + b"X: " + b"y" * (HEAD_BYTES - 200) + b"\r\n\r\n")
        assert one_answer(large).endswith(b"ok")


@pytest.mark.parametrize("nonsense", [b"\x16\x03\x01\x00\xa5\x01\x00", b"GET\r\n\r\n", b"\0" * 100 + b"\r\n\r\n"])
def test_what_is_no_http_is_refused_with_the_headers_of_every_answer(at_ease, nonsense):
    with stranger(at_ease) as strange:
        strange.sendall(nonsense + b"\r\n\r\n")
        told = answer(strange)
    assert told.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nx-content-type-options: nosniff\r\n" in told.lower()


def test_a_request_with_two_lengths_is_refused(at_ease):
    """Else a proxy and we might disagree about where the next request begins."""
    hidden = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GOOD
    with stranger(at_ease) as smuggler:
        smuggler.sendall(POST + hidden)
        told = answer(smuggler)
    assert told.startswith(b"HTTP/1.1 400 ")
    assert told.count(b"HTTP/1.1") == 1
    assert b"TND-6011" in told


@pytest.mark.parametrize("framing", [b"Content-Length: 4, 5", b"Transfer-Encoding: gzip", b"Content-Length: -1"])
def test_a_body_of_unclear_length_is_refused(at_ease, framing):
    with stranger(at_ease) as smuggler:
        smuggler.sendall(POST + framing + b"\r\n\r\n12345")
        told = answer(smuggler)
    assert told.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))


def test_nonsense_beside_an_answer_that_has_begun_ends_the_connection_and_nothing_else(caplog):
    async def hasty(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with serving(hasty) as port, stranger(port) as rude:
        rude.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert rude.recv(1, socket.MSG_PEEK)
        rude.sendall(b"nonsense\r\n")
        assert b"begun" in answer(rude)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_a_body_announced_too_large_is_refused_before_it_is_sent(at_ease):
    with stranger(at_ease) as large:
        large.sendall(POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        assert one_answer(large).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_chunks_is_cut_off_at_the_cap_and_the_answer_arrives(at_ease):
    with stranger(at_ease) as large:
        large.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            large.sendall(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
            assert large.recv(1, socket.MSG_PEEK)
            time.sleep(0.01)
        large.sendall(b"0\r\n\r\n")
        told = answer(large)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in told
    assert b"TND-6012" in told


# many at once


def threads_and_descriptors() -> tuple[int, int]:
    return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_answered_soon(port: int) -> bool:
    """Within a few tries; who comes meanwhile may push one try out."""
    for _ in range(5):
        with suppress(OSError, AssertionError), socket.create_connection((LOOPBACK, port), timeout=2) as honest:
            honest.sendall(GOOD)
            return one_answer(honest).endswith(b"ok")
    return False


def test_monitors_are_answered_under_siege_and_nothing_is_left_of_it():
    with serving(deadlines=Deadlines(**PATIENT)) as port:
        assert is_answered_soon(port)
        before = threads_and_descriptors()
        besiegers = []
        with ExitStack() as held:

            def besieger(said: bytes = b"") -> socket.socket:
                connection = held.enter_context(stranger(port))
                besiegers.append(connection)
                with suppress(OSError):
                    connection.sendall(said)
                return connection

            for number in range(300):
                besieger(GOOD[: 1 + number % 30])
            assert is_answered_soon(port)
            for _ in range(1000):
                besieger()
            assert is_answered_soon(port)
            assert eventually(lambda: threads_and_descriptors()[1] - before[1] - len(besiegers) <= MOST)
            for _ in range(300):
                besieger(POST + b"Content-Length: 1000\r\n\r\nx")
            assert is_answered_soon(port)
            for _ in range(20):
                besieger(GOOD[:-2] + b"X: y\r\n" * (2 << 20 >> 3))
                besieger(GOOD[:-2] + b"X: " + b"y" * (1 << 20))
            assert is_answered_soon(port)
        assert eventually(lambda: threads_and_descriptors() <= before, 10), (before, threads_and_descriptors())
        assert is_answered_soon(port)


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "in their handshakes"])
def test_the_end_does_not_wait_for_those_who_are_waited_for(is_secure, tmp_path):
    certificate = Certificate(*write_certificate(tmp_path)) if is_secure else None
    with ExitStack() as held:
        with serving(certificate=certificate, deadlines=Deadlines(**PATIENT)) as port:
            for said in (b"", GOOD[:9], POST + b"Content-Length: 9\r\n\r\n", GOOD):
                held.enter_context(stranger(port)).sendall(b"" if is_secure else said)
            time.sleep(0.1)
            began_s = time.monotonic()
        assert time.monotonic() - began_s < LONG_S / 2
