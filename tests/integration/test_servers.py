"""The database and broker that tests run against keep what they promise, and leave nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from amqp.exceptions import PreconditionFailed
from kombu import Connection, Producer, Queue

from tests.servers.folder import LOOPBACK, NotReadyError, reserved_port, server_folder
from tests.servers.postgres import postgres
from tests.servers.rabbitmq import rabbitmq

ROOT = Path(__file__).resolve().parents[2]
STUDIES = Queue("studies", queue_arguments={"x-queue-type": "quorum"})


def runs_as_root(server):
    accounts = set()
    for pid in server.folder.processes():
        with suppress(FileNotFoundError):
            accounts.add(Path(f"/proc/{pid}").stat().st_uid)
    assert accounts == {server.folder.uid}
    return 0 in accounts


@pytest.fixture(scope="module")
def broker():
    with rabbitmq(consumer_timeout_ms=1000) as broker:
        yield broker
    assert broker.folder.processes() == []
    assert not broker.folder.path.exists()


def connected(url):
    return Connection(url, transport_options={"confirm_publish": True})


def publish(connection, *bodies):
    producer = Producer(connection.default_channel)
    for body in bodies:
        producer.publish(body, routing_key=STUDIES.name, delivery_mode="persistent")


def bodies_in(connection):
    queue = STUDIES(connection.default_channel)
    return [message.payload for message in iter(lambda: queue.get(no_ack=True), None)]


def listen(connection):
    while True:
        connection.drain_events(timeout=60)


# PostgreSQL


def test_rows_committed_outlive_a_killed_server_and_others_do_not():
    with postgres() as server:
        url = server.new_database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE study (name text)")
            connection.execute("INSERT INTO study VALUES ('committed')")
        with closing(psycopg.connect(url)) as open_transaction:
            open_transaction.execute("INSERT INTO study VALUES ('open')")
            server.kill()
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url)
            server.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT name FROM study").fetchall() == [("committed",)]


def test_a_server_is_not_root_and_leaves_no_process_no_folder_and_no_shared_memory():
    with postgres() as server:
        assert not runs_as_root(server)
        server.kill()
        assert server.folder.processes() == []
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    assert str(server.process.pid) not in [row[4] for row in rows]
    assert not server.folder.path.exists()


def test_a_new_database_is_empty_or_a_copy_of_another(postgres_server):
    one = postgres_server.new_database()
    with psycopg.connect(one) as connection:
        connection.execute("CREATE TABLE study AS SELECT 1 AS number")
    copy, other = postgres_server.new_database(template=one), postgres_server.new_database()
    with psycopg.connect(copy) as connection:
        assert connection.execute("SELECT number FROM study").fetchall() == [(1,)]
    with psycopg.connect(other) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT number FROM study")


# RabbitMQ


def test_a_consumer_may_not_hold_a_message_longer_than_the_broker_was_told(broker):
    with connected(broker.new_vhost()) as connection:
        STUDIES(connection.default_channel).declare()
        publish(connection, "held")
        STUDIES(connection.default_channel).consume(callback=lambda message: None)
        with pytest.raises(PreconditionFailed):
            listen(connection)


def test_messages_confirmed_outlive_a_killed_broker(broker):
    url, elsewhere = broker.new_vhost(), broker.new_vhost()
    with connected(url) as connection:
        STUDIES(connection.default_channel).declare()
        broker.wait_until_on_disk(url, STUDIES.name)
        publish(connection, "one", "two")
        broker.kill()
    assert broker.folder.processes() == []
    broker.start()
    with connected(url) as connection:
        assert bodies_in(connection) == ["one", "two"]
    with connected(elsewhere) as connection:
        assert broker.ask(f"/api/queues/{connection.virtual_host}") == []


def test_a_wiped_broker_comes_back_empty_and_not_as_root(broker):
    vhost = broker.new_vhost().rpartition("/")[2]
    assert vhost in [each["name"] for each in broker.ask("/api/vhosts")]
    broker.kill()
    broker.wipe()
    broker.start()
    assert vhost not in [each["name"] for each in broker.ask("/api/vhosts")]
    with connected(broker.url) as connection:
        connection.ensure_connection()
    assert not runs_as_root(broker)


# what both stand on


def has_ended(pid):
    """Whether it is gone, or a zombie, of which nothing but the number is left."""
    try:
        Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return True
    return False


def test_a_program_that_detached_itself_ends_with_its_folder():
    with server_folder("postgres") as folder:
        daemon = "cd / && setsid --fork sh -c 'echo $$ >~/pid; exec sleep 1000'"
        folder.spawn("sh", "-c", f"{daemon}; until [ -s ~/pid ]; do sleep 0.01; done").wait()
        pid = (folder.path / "pid").read_text().strip()
    assert has_ended(pid)


def test_a_server_ends_when_the_tests_are_killed():
    code = (
        "from tests.servers.folder import server_folder\n"
        "with server_folder('postgres') as folder:\n"
        "    process = folder.spawn('sleep', '1000')\n"
        "    print(folder.path, process.pid, flush=True)\n"
        "    process.wait()\n"
    )
    tests = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    path, pid = tests.stdout.readline().split()
    assert Path(path).is_dir()
    tests.kill()
    tests.communicate()
    deadline = time.monotonic() + 60
    while Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert has_ended(pid)


def never():
    raise NotReadyError


def test_a_server_that_cannot_start_says_why():
    with server_folder("postgres") as folder:
        process = folder.spawn("sh", "-c", "echo no room; exit 1")
        process.wait()
        with pytest.raises(RuntimeError, match="no room"):
            folder.wait_until(never, process)


def test_a_reserved_port_is_given_to_nobody_but_a_server():
    port = reserved_port()
    with socket.socket() as other, pytest.raises(OSError):
        other.bind((LOOPBACK, port))
    socket.create_server((LOOPBACK, port)).close()
