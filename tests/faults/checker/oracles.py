"""The oracles. Each gives the violations it sees; none at all is the verdict everybody hopes for."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pydicom import dcmread

from tests.faults.checker.records import CHANGES, Row, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydicom import Dataset

    from tests.faults.checker.ledger import Ledger

ABANDONED_S = 60.0
STRAY_S = 2 * 3600.0
"""An object without a row is left for an hour by the sweep, which comes each minute."""
ENDED_JOBS = ("done", "unfit", "failed", "held", "superseded", "cancelled")
ENDED_DELIVERIES = ("proven", "held", "quarantined", "superseded", "withdrawn")
DEAD_DELIVERIES = ("superseded", "withdrawn")
ERROR_TEXTS = {
    "jobs": ("reason",),
    "stages": ("reason", "progress_text"),
    "deliveries": ("reason",),
    "decisions": ("reason",),
    "alarms": ("subject", "detail"),
}


@dataclass(frozen=True, slots=True)
class Violation:
    """What must not be: the oracle's name, what it is about, and what was seen."""

    oracle: str
    subject: str
    text: str


@dataclass(frozen=True)
class Installation:
    """Where things lie. `logs` are files, `messages` what lay in the queues."""

    database_url: str
    data: Path
    pacs: Path
    share: Path
    logs: tuple[Path, ...] = ()
    messages: tuple[bytes, ...] = ()
    folders: dict[str, str] = field(default_factory=lambda: {"pacs": "pacs", "share": "share"})
    """Which of the folders above each destination is."""


@dataclass(frozen=True)
class Evidence:
    """All that is looked at, read once."""

    place: Installation
    ledger: Ledger
    rows: dict[str, list[Row]]

    def object_path(self, digest: str) -> Path:
        return self.place.data / "objects" / digest[:2] / digest

    @cached_property
    def pacs_objects(self) -> dict[Path, Dataset]:
        return {path: dcmread(path) for path in sorted(self.place.pacs.glob("*.dcm"))}

    @cached_property
    def share_objects(self) -> dict[Path, Dataset]:
        return {path: dcmread(path) for path in sorted(self.place.share.glob("*.dcm"))}


def check(place: Installation, ledger: Ledger) -> list[Violation]:
    """Every violation that can be seen in an installation at rest."""
    evidence = Evidence(place, ledger, read(place.database_url))
    return [Violation(name, *seen) for name, oracle in ORACLES.items() for seen in oracle(evidence)]


def stored_once(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """O1: what was answered 0x0000 is there once, bit by bit; what was not is there whole or not at all."""
    rows = defaultdict(list)
    for row in evidence.rows["instances"]:
        rows[row["sop_instance_uid"]].append(row)
    for uid in rows.keys() - evidence.ledger.sent.keys():
        yield uid, "a row of an image that nobody sent"
    for uid, sent in evidence.ledger.sent.items():
        found = rows[uid]
        if len(found) > 1 or (sent.is_stored and not found):
            yield uid, f"{len(found)} rows, where there must be one"
        for row in found:
            path = evidence.object_path(row["digest"])
            if not path.is_file():
                yield uid, "its object is not there"
            elif _sha256(data_set_of(path.read_bytes())) != sent.sha256:
                yield uid, "its data set is not the one that was sent"


def nothing_half(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """O2: no temporary file that nobody writes, no row without its object, no object that nobody needs."""
    now = time.time()
    for folder in (evidence.place.data / "objects" / "incoming", evidence.place.data / "objects" / "leaving"):
        yield from ((p.name, f"old in {folder.name}") for p in _files(folder) if now - p.stat().st_mtime > ABANDONED_S)
    for path in evidence.place.share.glob(".*"):
        yield path.name, "half a file in the share"
    needed = dict(_needed(evidence))
    for digest, owner in needed.items():
        path = evidence.object_path(digest)
        if not path.is_file():
            yield owner, f"its object {digest[:12]} is not there"
        elif _sha256(path.read_bytes()) != digest:
            yield owner, f"its object {digest[:12]} has changed"
    for path in (evidence.place.data / "objects").glob("[0-9a-f][0-9a-f]/*"):
        if path.name not in needed and now - path.stat().st_mtime > STRAY_S:
            yield path.name, "an object that nothing refers to"


def _needed(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for row in evidence.rows["instances"]:
        yield row["digest"], f"instance {row['sop_instance_uid']}"
    for row in evidence.rows["job_objects"]:
        yield row["digest"], f"job {row['job_id']}"
    for row in evidence.rows["outputs"]:
        yield row["digest"], f"output {row['id']}"
    for row in evidence.rows["stages"]:
        yield from ((digest, f"stage {row['id']}") for digest in row["artefacts"].values())


def visible_once(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """O3: each set of images has one result of the pipeline at each place; no set has two."""
    done = {row["study_uid"] for row in evidence.rows["jobs"] if row["state"] == "done"}
    whole = {uid: evidence.ledger.of_study(uid) for uid in done & set(evidence.ledger.whole())}
    for place, objects in (("PACS", evidence.pacs_objects), ("share", evidence.share_objects)):
        seen = Counter((str(found.StudyInstanceUID), sources_of(found)) for found in objects.values())
        for (study_uid, sources), times in seen.items():
            if times > 1:
                yield study_uid, f"{times} results from the same {len(sources)} images at the {place}"
        for study_uid, images in whole.items():
            if not seen[study_uid, images]:
                yield study_uid, f"no result from all its {len(images)} images at the {place}"
    yield from _made_once(evidence)
    yield from _complete_sets(evidence)


def _made_once(evidence: Evidence) -> Iterator[tuple[str, str]]:
    live = [row for row in evidence.rows["jobs"] if row["state"] != "superseded"]
    for (study, pipeline, _), times in Counter((r["study_uid"], r["pipeline"], r["input_set"]) for r in live).items():
        if times > 1:
            yield study, f"{times} jobs of {pipeline} on the same input"


def _complete_sets(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A segmentation in the share comes with one report, one picture and one page of the same name."""
    for path in evidence.place.share.glob("*.json"):
        if not evidence.place.share.joinpath(path.name.replace("-", ".seg-", 1)).with_suffix(".dcm").is_file():
            yield path.name, "a report without its segmentation in the share"
    for path in evidence.share_objects:
        stem = path.stem.replace(".seg-", "-")
        lacking = [end for end in ("json", "png", "html") if not (path.parent / f"{stem}.{end}").is_file()]
        if lacking:
            yield path.name, f"a segmentation in the share without {', '.join(lacking)}"


def proven_is_there(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """O4: what counts as proven lies there, byte for byte; in the share a newer result takes an older one's name."""
    outputs = {row["id"]: row for row in evidence.rows["outputs"]}
    superseded = {row["id"] for row in evidence.rows["jobs"] if row["state"] == "superseded"}
    proven = sorted((row for row in evidence.rows["deliveries"] if row["state"] == "proven"), key=lambda r: r["number"])
    newest = {(row["destination"], outputs[row["output_id"]]["name"]): row["id"] for row in proven}
    for row in proven:
        output = outputs[row["output_id"]]
        if output["job_id"] in superseded and newest[row["destination"], output["name"]] != row["id"]:
            continue
        kept = evidence.object_path(output["digest"])
        is_pacs = evidence.place.folders[row["destination"]] == "pacs"
        name = f"{output['sop_instance_uid']}.dcm" if is_pacs else output["name"]
        path = (evidence.place.pacs if is_pacs else evidence.place.share) / name
        if not path.is_file():
            yield row["id"], f"proven at {row['destination']}, but not there"
        elif kept.is_file() and _sent_bytes(path, is_pacs=is_pacs) != _sent_bytes(kept, is_pacs=is_pacs):
            yield row["id"], f"proven at {row['destination']}, but other bytes lie there"


def _sent_bytes(path: Path, *, is_pacs: bool) -> bytes:
    """What goes over the line: to a PACS the data set, since it writes file meta information of its own."""
    return data_set_of(path.read_bytes()) if is_pacs else path.read_bytes()


def ended_or_explained(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """O5: every study that is whole has its job, every job and delivery has ended, and what went amiss says why."""
    known = {row["study_uid"] for row in evidence.rows["jobs"]}
    for study_uid in evidence.ledger.whole():
        if study_uid not in known:
            yield study_uid, "whole, and no job was made"
    for row in evidence.rows["jobs"]:
        if row["state"] not in ENDED_JOBS:
            yield row["id"], f"a job still {row['state']}"
        elif row["state"] not in ("done", "superseded") and not row["reason"]:
            yield row["id"], f"a job {row['state']} without a reason"
    for row in evidence.rows["deliveries"]:
        if row["state"] not in ENDED_DELIVERIES:
            yield row["id"], f"a delivery still {row['state']}"
        elif row["state"] in ("held", "quarantined") and not row["reason"]:
            yield row["id"], f"a delivery {row['state']} without a reason"


def right_patient(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """O6: every output names the patient, study and accession of its images, and nobody else."""
    for path, found in {**evidence.pacs_objects, **evidence.share_objects}.items():
        patient = evidence.ledger.patients.get(str(found.StudyInstanceUID))
        if patient is None:
            yield path.name, "of a study that nobody sent"
            continue
        named = (str(found.PatientID), str(found.PatientName), str(found.AccessionNumber))
        if named != (patient.patient_id, patient.patient_name, patient.accession):
            yield path.name, "names another patient or accession than its images"
        if not sources_of(found) <= evidence.ledger.of_study(patient.study_uid):
            yield path.name, "was made from images of another study"
    yield from _right_patient_in_texts(evidence)


def _right_patient_in_texts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    studies = {row["id"]: row["study_uid"] for row in evidence.rows["jobs"]}
    for output in evidence.rows["outputs"]:
        path = evidence.object_path(output["digest"])
        if output["kind"] not in ("fhir", "page") or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        own = evidence.ledger.patients.get(studies.get(output["job_id"], ""))
        for patient in evidence.ledger.patients.values():
            if patient is not own and any(name in text for name in (patient.patient_id, patient.accession)):
                yield output["name"], "names another patient than its images"
        if output["kind"] == "fhir" and own and not all(n in text for n in (own.patient_id, own.accession)):
            yield output["name"], "does not name the patient and the accession of its images"


def no_canary(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """O8: no patient data in logs, file names, messages or error texts."""
    canary = evidence.ledger.canary.casefold()
    for path in evidence.place.logs:
        if path.is_file() and canary in path.read_text(errors="replace").casefold():
            yield path.name, "patient data in a log"
    for folder in (evidence.place.data, evidence.place.pacs, evidence.place.share):
        if any(canary in path.name.casefold() for path in folder.rglob("*")):
            yield folder.name, "patient data in a file name"
    for message in evidence.place.messages:
        if canary.encode() in message.lower():
            yield "a queue", "patient data in a message"
    for table, columns in ERROR_TEXTS.items():
        for column in columns:
            if any(canary in str(row[column]).casefold() for row in evidence.rows[table]):
                yield f"{table}.{column}", "patient data in a text"


def fenced(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """I2: attempts only rise, a stage is finished once, and what is proven or done stays so."""
    finished: Counter[str] = Counter()
    for row in evidence.rows[CHANGES]:
        subject = f"{row['kind']} {row['id']}"
        if row["attempt_became"] < row["attempt_was"]:
            yield subject, f"its attempt fell from {row['attempt_was']} to {row['attempt_became']}"
        if row["kind"] == "stages" and row["became"] == "done":
            finished[subject] += 1
        if (row["kind"], row["was"]) == ("stages", "done") and row["became"] != "done":
            yield subject, f"went back from done to {row['became']}"
        if row["was"] == "proven" and row["became"] not in ("proven", *DEAD_DELIVERIES):
            yield subject, f"went back from proven to {row['became']}"
    for subject, times in finished.items():
        if times > 1:
            yield subject, f"was finished {times} times"


ORACLES: dict[str, Callable[[Evidence], Iterator[tuple[str, str]]]] = {
    "O1": stored_once,
    "O2": nothing_half,
    "O3": visible_once,
    "O4": proven_is_there,
    "O5": ended_or_explained,
    "O6": right_patient,
    "O8": no_canary,
    "I2": fenced,
}


def sources_of(segmentation: Dataset) -> frozenset[str]:
    """The images that a segmentation says it was made from."""
    return frozenset(
        str(image.ReferencedSOPInstanceUID)
        for series in segmentation.ReferencedSeriesSequence
        for image in series.ReferencedInstanceSequence
    )


def data_set_of(part10: bytes) -> bytes:
    """What follows the file meta information, whose length its first element tells (PS3.10 7.1)."""
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
