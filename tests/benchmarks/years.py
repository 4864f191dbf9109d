"""Rows of years of work at a hospital, as many studies as are wanted, put into a database in bulk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, Final

from orchestrator.domain.search import name_key
from orchestrator.store.records import open_engine
from orchestrator.store.tables import alarms, audit_events, deliveries, jobs, outputs, studies, study_sites
from tests.strategies import START

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sqlalchemy import Connection

COMMON, RARE = "main", "hut"
"""Sites: the second has sent every 10,000th study."""
DESTINATIONS: Final = ("pacs", "ehr", "share", "vna")
"""Every delivery goes to the first, every fifth also to the second, few to the third, none to the last."""
_SPAN: Final = timedelta(days=730)
_REGULARS: Final = 30_000
_OF_REGULARS: Final = 0.3
_RARELY: Final = 10_000
_SELDOM: Final = 20_000
_NEWEST: Final = 5000
"""Jobs whose inputs are as large as those of a CT; those before have few images, to spare the disk."""
_IMAGES: Final = 300
_AT_ONCE: Final = 20_000
_OTHER_JOBS: Final = (
    *(("superseded", 0.010), ("unfit", 0.008), ("failed", 0.005)),
    *(("cancelled", 0.004), ("held", 0.002), ("withdrawn", 0.001)),
)
_OTHER_DELIVERIES: Final = (
    *(("held", 0.003), ("quarantined", 0.002), ("accepted", 0.002)),
    *(("superseded", 0.002), ("withdrawn", 0.001)),
)
_UNDER_WAY: Final = 300
"""The newest jobs still wait, and so do their deliveries."""
_FIRST_WORDS: Final = ("Mueller", "Schmidt", "Schneider", "Fischer", "Weber", "Meyer", "Schulz", "Schaefer", "Schwarz")
_BEGIN: Final = (
    "Ba",
    "Ber",
    "Da",
    "Fre",
    "Gru",
    "Ha",
    "Ho",
    "Kra",
    "Le",
    "Ma",
    "Neu",
    "Pe",
    "Rei",
    "Stei",
    "Vo",
    "Wie",
)
_END: Final = ("bach", "berg", "dorf", "feld", "hagen", "hold", "ke", "mann", "meier", "ner", "stein", "thal", "wald")
_FAMILIES: Final = (*_FIRST_WORDS, *(a + b for b in _END for a in _BEGIN), "Xylander", "Ypsilantis")
_GIVEN: Final = tuple(
    a + b for a in ("An", "Ber", "El", "Hei", "Jo", "Ka", "Li", "Ma") for b in ("na", "ko", "la", "ri")
)
_KINDS: Final = (("CT", "CHEST"), ("CT", "ABDOMEN"), ("MR", "BRAIN"), ("MR", "KNEE"), ("CR", "HAND"))
_FACT_WORDS: Final = {f"series.fact_{k}": "a value of ordinary length" for k in range(12)}


@dataclass(frozen=True)
class Years:
    """What so many studies make; the same for the same number."""

    studies: int
    chance: Random = field(default_factory=lambda: Random(1))

    @cached_property
    def regulars(self) -> list[tuple[str, str]]:
        """Patients who come often: id and name."""
        return [self._patient(number) for number in range(min(_REGULARS, self.studies // 30 + 1))]

    def at(self, number: int) -> datetime:
        """When a study came: the last came last."""
        return START + _SPAN * (number / self.studies)

    def uid(self, number: int) -> str:
        """A Study Instance UID; those of one day are not neighbours."""
        return f"1.2.826.0.1.{number * 7919 % self.studies}.{number}"

    def job_id(self, number: int) -> str:
        """The job of a study; looks random and is not."""
        return f"{_scattered(number):032x}"

    def delivery_id(self, number: int) -> str:
        """The first delivery of a study's job."""
        return f"{_scattered(number + self.studies):032x}"

    def accession_number(self, number: int) -> str:
        """As a RIS gives them."""
        return f"A{10_000_000 + number}"

    def site(self, number: int) -> str:
        """Who sent it."""
        return RARE if number % min(_RARELY, self.studies // 10) == 7 else COMMON

    def _patient(self, number: int) -> tuple[str, str]:
        family = _FAMILIES[int(len(_FAMILIES) * self.chance.random() ** 2.5)]
        return f"P{number:07d}", f"{family}^{self.chance.choice(_GIVEN)}"

    def _of_study(self, number: int) -> tuple[str, str]:
        if self.chance.random() < _OF_REGULARS:
            return self.chance.choice(self.regulars)
        return self._patient(_REGULARS + number)

    def study_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `studies`."""
        facts = json.dumps({"study": {}, "series": [{"label": "series 1", "facts": _FACT_WORDS}]})
        for number in range(self.studies):
            patient_id, name = self._of_study(number)
            modality, part = _KINDS[number % len(_KINDS)]
            yield {
                "uid": self.uid(number),
                "revision": 1,
                "is_closed": True,
                "newest_at": _moment(self.at(number)),
                "patient_issuer": "MAIN",
                "patient_id": patient_id,
                "patient_name": name,
                "patient_name_key": name_key(name),
                "patient_birth_date": f"{1930 + number % 80}-05-{1 + number % 28:02d}",
                "patient_sex": "FM"[number % 2],
                "accession_number": self.accession_number(number),
                "study_date": f"{self.at(number):%Y-%m-%d}",
                "description": f"{modality} {part.lower()}",
                "modalities": json.dumps([modality]),
                "body_parts": json.dumps([part]),
                "facts": facts,
            }

    def site_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `study_sites`."""
        for number in range(self.studies):
            at = _moment(self.at(number))
            yield {"study_uid": self.uid(number), "site": self.site(number), "newest_at": at}

    def job_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `jobs`: one of each study, the newest still open."""
        rules = json.dumps([{"name": "CT of the chest", "when": {"all": [{"field": "series.modality", "eq": "CT"}]}}])
        few, many = ({f"1.2.3.{k}": f"{k:064x}" for k in range(count)} for count in (2, _IMAGES))
        for number in range(self.studies):
            is_large = self.studies - number < _NEWEST or self.site(number) == RARE
            given = {"name": "ct", "kind": "volume", "series_uid": f"{self.uid(number)}.1", "region": ""}
            at = _moment(self.at(number))
            yield {
                "id": self.job_id(number),
                "study_uid": self.uid(number),
                "study_revision": 1,
                "pipeline": "bone_ct",
                "version": "1.0.0",
                "inputs": json.dumps([{**given, "instances": many if is_large else few}]),
                "input_set": "0" * 64,
                "generation": 0,
                "priority": "routine",
                "send": '["pacs"]',
                "release": "at_once",
                "rule_set_version": 1,
                "rules": rules,
                "created_at": at,
                "state": self._state(number, _OTHER_JOBS, "waiting", "done"),
                "reason": "",
                "code": "",
                "changed_at": at,
            }

    def _state(self, number: int, others: Iterable[tuple[str, float]], at_last: str, else_: str) -> str:
        if self.studies - number < min(_UNDER_WAY, self.studies // 10):
            return at_last
        drawn = self.chance.random()
        for state, share in others:
            drawn -= share
            if drawn < 0:
                return state
        return else_

    def output_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `outputs`: one of each job."""
        for number in range(self.studies):
            yield {
                "id": f"o{number}",
                "job_id": self.job_id(number),
                "kind": "seg",
                "name": "bones.dcm",
                "digest": f"{_scattered(number):064x}",
                "study_uid": self.uid(number),
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
                "sop_instance_uid": f"2.25.{number}",
                "series_uid": f"2.25.9.{number}",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            }

    def delivery_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `deliveries`."""
        for number in range(self.studies):
            yield self._delivery(number, "pacs", self.delivery_id(number))
            if number % 5 == 0:
                yield self._delivery(number, "ehr", f"e{number}")
            if number % min(_SELDOM, self.studies // 10) == 0:
                yield self._delivery(number, "share", f"s{number}")

    def _delivery(self, number: int, destination: str, identifier: str) -> dict[str, Any]:
        state = self._state(number, _OTHER_DELIVERIES, "waiting", "proven")
        at = _moment(self.at(number))
        return {
            "id": identifier,
            "job_id": self.job_id(number),
            "output_id": f"o{number}",
            "destination": destination,
            "state": state,
            "created_at": at,
            "due_at": at,
            "tries": 0,
            "code": "",
            "reason": "",
            "proof": "query" if state == "proven" else "",
            "proven_at": at if state == "proven" else None,
        }

    def audit_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `audit_events`: one for each 20 studies."""
        for number in range(0, self.studies, 20):
            at = _moment(self.at(number))
            told = dict.fromkeys(("called_ae", "node", "reason"), "")
            read = {"event": "study.read", "outcome": "success", "actor": "ann", "address": "10.0.0.1", "times": 1}
            yield {**read, **told, "at": at, "last_at": at, "subject": self.uid(number)}

    def alarm_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `alarms`: one for each 200 studies, the last 20 not cleared."""
        count = self.studies // 200
        for number in range(count):
            at = _moment(self.at(number * 200))
            is_open = count - number <= 20
            told = {"code": "TDN-305", "subject": f"stage {number}", "detail": "an alarm of a benchmark", "times": 3}
            yield {**told, "raised_at": at, "last_at": at, "cleared_at": None if is_open else at}


def fill_years(url: str, years: Years) -> None:
    """Put all of it in; indexes are made, and what the database does by itself in years is done, at the end."""
    engine = open_engine(url)
    is_postgresql = engine.dialect.name == "postgresql"
    filled = {
        studies: years.study_rows,
        study_sites: years.site_rows,
        jobs: years.job_rows,
        outputs: years.output_rows,
        deliveries: years.delivery_rows,
        audit_events: years.audit_rows,
        alarms: years.alarm_rows,
    }
    with engine.connect() as connection:
        if not is_postgresql:
            for pragma in ("cache_size=-1000000", "synchronous=OFF"):
                connection.connection.cursor().execute(f"PRAGMA {pragma}")
        for table, rows in filled.items():
            with connection.begin():
                for index in table.indexes:
                    index.drop(connection)
                (_copy if is_postgresql else _insert)(connection, table.name, rows())
                for index in table.indexes:
                    index.create(connection)
    if is_postgresql:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


def _copy(connection: Connection, table: str, rows: Iterator[dict[str, Any]]) -> None:
    connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
    first = next(rows)
    cursor = connection.connection.cursor()
    with cursor.copy(f"COPY {table} ({', '.join(first)}) FROM STDIN") as copying:
        copying.write_row(tuple(first.values()))
        for row in rows:
            copying.write_row(tuple(row.values()))


def _insert(connection: Connection, table: str, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows)
    adding = f"INSERT INTO {table} ({', '.join(first)}) VALUES ({', '.join('?' * len(first))})"
    connection.exec_driver_sql(adding, tuple(first.values()))
    while some := [tuple(row.values()) for row in islice(rows, _AT_ONCE)]:
        connection.exec_driver_sql(adding, some)


def _moment(at: datetime) -> str:
    """As SQLite keeps it; PostgreSQL reads it in a session in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"


def _scattered(number: int) -> int:
    """Another number for each, far from that of the next (a step of odd width around 2**64)."""
    return number * 0x9E3779B97F4A7C15 % 2**64
