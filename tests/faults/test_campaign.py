"""The short form of the campaign: the long one is `make campaign`."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.faults.campaign.line import line_to
from tests.faults.campaign.run import run


def test_studies_sent_while_processes_die_end_as_if_none_had(tmp_path):
    faults = ["kill serve", "kill stage process", "kill PACS"]
    verdict = run(tmp_path, "embedded", studies=8, seed=7, faults=faults, calm_s=1.0)

    assert verdict.violations == []
    assert verdict.settled_s is not None
    assert [moment.fault for moment in verdict.moments] == faults
    assert verdict.lives["serve"] >= 2
    assert verdict.lives["pacs"] >= 2
    assert verdict.states["done"] >= 8
    assert "failed" not in verdict.states


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path):
    """Without root what is asked of the kernel is checked call by call, in test_objects_durability.py."""
    try:
        verdict = run(tmp_path, "power", studies=6, seed=3, faults=["cut power"] * 3, calm_s=1.0)
    except PermissionError as error:
        pytest.skip(str(error))
    assert verdict.violations == []
    assert verdict.settled_s is not None
    assert verdict.lives["serve"] >= 3
    assert verdict.states["done"] >= 6


@pytest.fixture
def echo():
    """The port of a server that gives back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while data := connection.recv(100):
                        connection.sendall(data)
                except ConnectionError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize("cut", ["silent", "no answers"])
def test_a_line_cut_holds_back_what_was_said_until_it_is_mended(echo, cut):
    with line_to(echo) as line, socket.create_connection(("127.0.0.1", line.port)) as connection:
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"
        line.cut = cut
        connection.settimeout(0.5)
        connection.sendall(b"two")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        line.cut = "whole"
        connection.settimeout(30)
        assert connection.recv(100) == b"two"


def test_a_line_reset_ends_every_connection(echo):
    with line_to(echo) as line, socket.create_connection(("127.0.0.1", line.port)) as connection:
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"
        line.cut = "reset"
        connection.settimeout(30)
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
