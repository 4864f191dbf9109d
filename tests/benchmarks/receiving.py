"""Whether a full store, or a very large study, slows receiving; and what associations cost that say nothing."""

from __future__ import annotations

import hashlib
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert
from sqlalchemy.dialects import sqlite

from orchestrator.domain.delivery import Node
from orchestrator.domain.site import SiteContent
from orchestrator.service.operating import replace_site
from orchestrator.store.records import open_engine
from orchestrator.store.tables import instances, studies
from tests.benchmarks.ingest.objects import small_objects, study_uid
from tests.benchmarks.ingest.receivers import TENDON, started
from tests.benchmarks.ingest.sender import send
from tests.benchmarks.measure import Row
from tests.benchmarks.site import open_site
from tests.dicom_peers import LOOPBACK, associate_rq, connected, read_pdu
from tests.load.processes import family_s
from tests.strategies import START, ct_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.benchmarks.ingest.receivers import Receiver

IN_STORE: Final = 200_000
IN_STUDY: Final = 10_000
IDLE: Final = 64
IDLE_PERCENT: Final = 2.0
_PER_PEER: Final = 16
_OF_A_STUDY: Final = 100
_ROUNDS: Final = 8
_OBJECTS: Final = 150
_IDLE_S: Final = 20.0
_EMPTY, _FULL = "empty", "full"


def run() -> list[Row]:
    """The store, then one study of it, then silence."""
    return [*_of_the_store(), *_of_a_study(), _of_silence()]


def _of_the_store() -> list[Row]:
    """Two SCPs by turns, one with a long history."""
    with TemporaryDirectory(prefix="tendon-size-") as place, ExitStack() as stack:
        old = (f"1.2.3.{number}" for number in range(IN_STORE // _OF_A_STUDY))
        _fill(Path(place) / _FULL / TENDON / "data", old, _OF_A_STUDY)
        receivers = {name: stack.enter_context(started(TENDON, _made(Path(place) / name))) for name in (_EMPTY, _FULL)}
        took = {name: Took() for name in receivers}
        for number in range(_ROUNDS + 1):
            for name, receiver in receivers.items():
                took[name].add(receiver, small_objects(f"{name} {number}", _OBJECTS), is_first=not number)
    return _rows(f"{IN_STORE:,} instances in the store", took[_FULL], took[_EMPTY], "an empty store")


def _of_a_study() -> list[Row]:
    """New objects of a study of ordinary size, and of one that is very large, by turns."""
    with TemporaryDirectory(prefix="tendon-size-") as place, started(TENDON, Path(place)) as receiver:
        objects = {name: iter(small_objects(name, _OBJECTS * (_ROUNDS + 1)).items()) for name in (_EMPTY, _FULL)}
        _fill(Path(place) / TENDON / "data", [study_uid(_FULL)], IN_STUDY)
        took = {name: Took() for name in objects}
        for number in range(_ROUNDS + 1):
            for name, rest in objects.items():
                took[name].add(receiver, dict(islice(rest, _OBJECTS)), is_first=not number)
    return _rows(f"{IN_STUDY:,} instances in the study", took[_FULL], took[_EMPTY], "a small study")


@dataclass(slots=True)
class Took:
    """Medians of rounds: of one C-STORE, and of each object until its record is kept."""

    store_ms: list[float] = field(default_factory=list)
    record_ms: list[float] = field(default_factory=list)

    def add(self, receiver: Receiver, objects: Mapping[str, bytes], *, is_first: bool) -> None:
        """Measure a round; the first one counts for nothing."""
        began = time.monotonic()
        sent = send(objects, port=receiver.port, called=receiver.ae_title, associations=1, pid=receiver.pid)
        receiver.settle()
        if not is_first:
            self.store_ms.append(statistics.median(sent.times_ms))
            self.record_ms.append((time.monotonic() - began) * 1e3 / len(objects))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _rows(what: str, full: Took, empty: Took, against: str) -> list[Row]:
    return [
        Row(f"{what}: {told}", statistics.median(mine), "ms", against, statistics.median(others), "at most 1.1")
        for told, mine, others in (
            ("C-STORE, p50", full.store_ms, empty.store_ms),
            ("until recorded", full.record_ms, empty.record_ms),
        )
    ]


def _of_silence() -> Row:
    """CPU of the SCP with its recorder while all associations it takes are open and nobody says anything."""
    with TemporaryDirectory(prefix="tendon-size-") as place:
        titles = [f"CT{number}" for number in range(IDLE // _PER_PEER)]
        system = open_site(Path(place) / TENDON / "data")
        nodes = tuple(Node(title.lower(), title, LOOPBACK, 104) for title in titles)
        replace_site(system.records, system.clock, SiteContent(nodes=nodes), "benchmark")
        system.records.close()
        with started(TENDON, Path(place)) as receiver, ExitStack() as stack:
            for number in range(IDLE):
                connection = stack.enter_context(connected(receiver.port))
                connection.sendall(associate_rq(receiver.ae_title, calling=titles[number % len(titles)]))
                assert read_pdu(connection)[0] == 2, "the association was not accepted"
            receiver.settle()
            before_s = family_s(receiver.pid)
            time.sleep(_IDLE_S)
            percent = (family_s(receiver.pid) - before_s) * 100 / _IDLE_S
    return Row(f"{IDLE} idle associations", percent, "% of a core", "the bound", IDLE_PERCENT, "at most 1")


def _fill(folder: Path, study_uids: Iterable[str], count: int) -> None:
    """Rows of so many instances in each of these studies, as if received long ago; nobody asks for their files."""
    system = open_site(folder)
    engine = open_engine(system.settings.database_url)
    with engine.begin() as connection:
        for study_uid in study_uids:
            connection.execute(insert(instances), [_row(study_uid, number) for number in range(count)])
            note = sqlite.insert(studies).values(uid=study_uid, revision=1, is_closed=True, newest_at=START)
            connection.execute(note.on_conflict_do_nothing())
    engine.dispose()
    system.records.close()


def _row(study_uid: str, number: int) -> dict[str, object]:
    uid = f"{study_uid}.1.{number}"
    header = ct_header(uid, study_uid=study_uid, series_uid=f"{study_uid}.1", z_mm=float(number))
    return {
        "sop_instance_uid": uid,
        "digest": hashlib.sha256(uid.encode()).hexdigest(),
        "study_uid": study_uid,
        "series_uid": header.series_uid,
        "size": 1,
        "received_at": START,
        "association_id": "long ago",
        "is_own": False,
        "is_routable": True,
        "header": header.as_record(),
    }
