"""A result as one FHIR R4 (4.0.1) transaction for the EHR: report, observations, study, device, provenance.

Resources are named by identifiers that leave version and generation out, so a newer result takes the place of the
older one; the study and the device are created only where they are missing. The patient is never created: it is
referred to by identifier, whose system each destination sets for itself.
"""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from orchestrator.domain.codes import MILLILITRE, sct
from orchestrator.domain.report import conclusion, drawn, is_test, marks, number, segment_name, volume_ml
from orchestrator.domain.result import canonical_json, derive_uid
from orchestrator.domain.review import UNREVIEWED_MARK
from orchestrator.ports import BuiltObject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.domain.codes import Code
    from orchestrator.domain.result import Measurement, Provenance, Score, Segment
    from orchestrator.ports import ReportRequest

Resource = dict[str, Any]

_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    "IBSI": "urn:oid:1.2.840.10008.2.16.13",
}
_URI = "urn:ietf:rfc:3986"
_DICOM_UID = "urn:dicom:uid"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_TAGS = f"urn:oid:{derive_uid('Tendon', 'fhir', 'tags')}"
_VOLUME = sct("118565006", "Volume")


def build(request: ReportRequest) -> Sequence[BuiltObject]:
    """One transaction Bundle as canonical JSON; every reference in it resolves inside it or is by identifier."""
    bundle = _Bundle(request)
    resources = list(bundle.resources())
    data = canonical_json({"resourceType": "Bundle", "type": "transaction", "entry": resources})
    return [BuiltObject("fhir", f"{request.provenance.pipeline}.json", data)]


@dataclass(frozen=True, slots=True, eq=False)
class _Bundle:
    """Makes the entries of one request."""

    request: ReportRequest

    def resources(self) -> Iterator[Resource]:
        """Entries, what is referred to before what refers to it."""
        device, study = self._device(), self._imaging_study()
        yield self._entry("device", device, created_once=True)
        yield self._entry("study", study, created_once=True)
        results: list[str] = []
        members: list[str] = []
        for role, resource, parts in self._observations():
            results.append(role)
            for part_role, part in parts:
                members.append(part_role)
                yield self._entry(part_role, part)
            yield self._entry(role, resource)
        for n, score in enumerate(self.request.results.scores):
            results.append(f"score {n}")
            yield self._entry(results[-1], self._risk(results[-1], score))
        yield self._entry("report", self._report(results))
        yield self._entry("provenance", self._provenance(["report", *results, *members]))

    def _entry(self, role: str, resource: Resource, *, created_once: bool = False) -> Resource:
        kind = resource["resourceType"]
        query = f"_tag={_TAGS}|{self._uid(role)}"
        if "identifier" in resource:
            first = resource["identifier"][0]
            query = f"identifier={first['system']}|{first['value']}"
        if created_once:
            how = {"method": "POST", "url": kind, "ifNoneExist": query}
        else:
            how = {"method": "PUT", "url": f"{kind}?{query}"}
        return {"fullUrl": self._urn(role), "resource": resource, "request": how}

    def _uid(self, role: str) -> str:
        """Names a resource for ever: version, input set and generation are left out on purpose."""
        p = self.request.provenance
        return derive_uid(p.installation, "fhir", p.study_uid, p.pipeline, p.source_series_uid, role)

    def _urn(self, role: str) -> str:
        number = int(self._uid(role).removeprefix("2.25."))
        return f"urn:uuid:{uuid.UUID(int=number, version=5)}"

    def _ref(self, role: str) -> Resource:
        return {"reference": self._urn(role)}

    def _own(self, role: str) -> Resource:
        return _identifier(_URI, f"urn:oid:{self._uid(role)}")

    def _meta(self, role: str) -> Resource:
        provenance = self.request.provenance
        tags = [
            {"system": _TAGS, "code": "unreviewed", "display": UNREVIEWED_MARK},
            {"system": _TAGS, "code": provenance.standing, "display": marks(provenance)[1]},
            {"system": _TAGS, "code": self._uid(role)},
        ]
        meta: Resource = {"tag": tags}
        if is_test(provenance):
            tags.append({"system": _TAGS, "code": "TEST", "display": marks(provenance)[-1]})
            meta["security"] = [_coding(f"{_TERMINOLOGY}/v3-ActReason", "HTEST", "test health data")]
        return meta

    def _subject(self) -> Resource:
        """The patient by (issuer, id); the EHR's system for the id is the destination's to say."""
        identity = self.request.identity
        patient = identity.patient
        if not patient.id:
            return {"type": "Patient", "display": "not identified in the images"}
        named = _identifier(identity.patient_system, patient.id, "MR")
        if patient.issuer:
            named["assigner"] = {"display": patient.issuer}
        return {"type": "Patient", "identifier": named}

    def _device(self) -> Resource:
        p = self.request.provenance
        facts = {
            "standing": p.standing,
            "package": f"sha256:{p.package_digest}",
            "weights": _weights(p),
            "UDI": "none",
        }
        return {
            "resourceType": "Device",
            "meta": self._meta("device"),
            "identifier": [_identifier(_URI, f"urn:oid:{derive_uid(p.installation, 'device', p.pipeline, p.version)}")],
            "status": "active",
            "manufacturer": "Tendon",
            "deviceName": [{"name": p.title, "type": "user-friendly-name"}, {"name": p.pipeline, "type": "model-name"}],
            "version": [{"value": p.version}],
            "property": [{"type": {"text": k}, "valueCode": [{"text": v}]} for k, v in facts.items()],
            "note": [{"text": f"{p.intended_use} {marks(p)[1]}."}],
        }

    def _imaging_study(self) -> Resource:
        identity = self.request.identity
        study: Resource = {
            "resourceType": "ImagingStudy",
            "meta": self._meta("study"),
            "identifier": [_identifier(_DICOM_UID, f"urn:oid:{self.request.provenance.study_uid}")],
            "status": "available",
            "subject": self._subject(),
            "series": [self._source_series(), *self._result_series()],
        }
        if identity.accession_number:
            study["basedOn"] = [self._order()]
        if day := _date(identity.study_date):
            study["started"] = day
        if identity.study_description:
            study["description"] = identity.study_description
        return study

    def _order(self) -> Resource:
        """The order the images were made for, by its accession number; an order is never created or changed."""
        return {
            "type": "ServiceRequest",
            "identifier": _identifier("", self.request.identity.accession_number, "ACSN"),
        }

    def _source_series(self) -> Resource:
        identity = self.request.identity
        series: Resource = {"uid": self.request.provenance.source_series_uid, "modality": _modality(identity.modality)}
        if identity.series_description:
            series["description"] = identity.series_description
        series["numberOfInstances"] = len(self.request.source_files)
        return series

    def _result_series(self) -> Iterator[Resource]:
        for made in self.request.built:
            if made.sop_instance_uid:
                instance = {"uid": made.sop_instance_uid, "sopClass": _coding(_URI, f"urn:oid:{made.sop_class_uid}")}
                yield {
                    "uid": made.series_uid,
                    "modality": _modality(made.kind.upper()),
                    "description": f"{self.request.provenance.title}, {UNREVIEWED_MARK}",
                    "numberOfInstances": 1,
                    "instance": [instance],
                }

    def _observations(self) -> Iterator[tuple[str, Resource, list[tuple[str, Resource]]]]:
        """(role, observation, its members): a group for each segment, then what belongs to none."""
        results = self.request.results
        homes = {s.label: s for s in drawn(results)}
        for segment in homes.values():
            own = [m for m in results.measurements if m.segment == segment.label]
            parts = [self._measured(m, n, segment) for n, m in enumerate(own)]
            role = f"segment {segment.label}"
            value = _quantity(volume_ml(segment, self.request.volume.grid), MILLILITRE)
            group = self._observation(role, _VOLUME, segment, f"Volume of {segment_name(segment)}") | value
            group["identifier"].append(
                _identifier(_DICOM_UID, f"urn:oid:{self.request.provenance.tracking_uid(segment.label)}")
            )
            if parts:
                group["hasMember"] = [self._ref(r) for r, _ in parts]
            yield role, group, parts
        homeless = [m for m in results.measurements if m.segment not in homes]
        for n, measurement in enumerate(homeless):
            yield *self._measured(measurement, n, None), []

    def _measured(self, measurement: Measurement, number: int, segment: Segment | None) -> tuple[str, Resource]:
        role = f"measurement {segment.label if segment else ''} {number} {measurement.name} {measurement.method}"
        resource = self._observation(role, measurement.name, segment, measurement.name.meaning)
        resource |= _quantity(measurement.value, measurement.unit)
        if measurement.method:
            resource["method"] = {"text": measurement.method}
        return role, resource

    def _observation(self, role: str, code: Code, segment: Segment | None, text: str) -> Resource:
        resource: Resource = {
            "resourceType": "Observation",
            "meta": self._meta(role),
            "identifier": [self._own(role)],
            "status": "preliminary",
            "category": [{"coding": [_coding(f"{_TERMINOLOGY}/observation-category", "imaging", "Imaging")]}],
            "code": _concept(code, text),
            "subject": self._subject(),
            "device": self._ref("device"),
            "derivedFrom": [self._ref("study")],
            "note": [{"text": ". ".join(marks(self.request.provenance)) + "."}],
        }
        if day := _date(self.request.identity.study_date):
            resource["effectiveDateTime"] = day
        if segment is not None:
            resource["bodySite"] = _concept(segment.type, segment_name(segment))
            if segment.laterality is not None:
                resource["bodySite"]["coding"].append(_concept(segment.laterality, "")["coding"][0])
        return resource

    def _risk(self, role: str, score: Score) -> Resource:
        prediction: Resource = {"outcome": _concept(score.name, score.name.meaning)}
        if score.probability is not None:
            prediction["probabilityDecimal"] = 100 * score.probability
        intervals = [score.interval] if score.interval else []
        said = [f"{score.model} {score.version}", score.citation]
        said += [f"score {score.value}"] if score.value is not None else []
        said += [f"interval {number(100 * low)} to {number(100 * high)} %" for low, high in intervals]
        said += [f"missing: {', '.join(score.missing)}"] if score.missing else []
        return {
            "resourceType": "RiskAssessment",
            "meta": self._meta(role),
            "identifier": [self._own(role)],
            "status": "preliminary",
            "method": {"text": f"{score.model} {score.version}"},
            "subject": self._subject(),
            "performer": self._ref("device"),
            "prediction": [prediction],
            "note": [{"text": ". ".join([*marks(self.request.provenance), *said]) + "."}],
        }

    def _report(self, results: Sequence[str]) -> Resource:
        request = self.request
        said = conclusion(request.results, request.provenance, request.volume.grid)
        report: Resource = {
            "resourceType": "DiagnosticReport",
            "meta": self._meta("report"),
            "identifier": [self._own("report")],
            "text": {
                "status": "generated",
                "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{escape(said)}</p></div>',
            },
            "status": "partial",
            "category": [{"coding": [_coding(f"{_TERMINOLOGY}/v2-0074", "RAD", "Radiology")]}],
            "code": {
                "coding": [_coding(_SYSTEMS["LN"], "18748-4", "Diagnostic imaging study")],
                "text": f"AI analysis: {request.provenance.title}",
            },
            "subject": self._subject(),
            "issued": _instant(request.provenance.content_time),
            "imagingStudy": [self._ref("study")],
            "conclusion": said,
        }
        if results:
            report["result"] = [self._ref(r) for r in results if not r.startswith("score ")]
        if request.identity.accession_number:
            report["basedOn"] = [self._order()]
        if day := _date(request.identity.study_date):
            report["effectiveDateTime"] = day
        return report

    def _provenance(self, targets: Sequence[str]) -> Resource:
        p = self.request.provenance
        made = [
            {
                "identifier": _identifier(_DICOM_UID, f"urn:oid:{b.sop_instance_uid}"),
                "display": f"DICOM {b.kind.upper()}",
            }
            for b in self.request.built
            if b.sop_instance_uid
        ]
        facts = [f"rule set version {p.rule_set_version}", f"input set {p.input_set}", f"generation {p.generation}"]
        facts += [f"package sha256:{p.package_digest}", f"weights {_weights(p)}"]
        inputs = [{"identifier": _identifier(_DICOM_UID, f"urn:oid:{uid}")} for uid in p.input_uids]
        what = [self._ref("study"), *({"display": fact} for fact in facts), *inputs]
        return {
            "resourceType": "Provenance",
            "meta": self._meta("provenance"),
            "target": [*(self._ref(role) for role in targets), *made],
            "recorded": _instant(p.content_time),
            "activity": {"text": f"{p.title}, version {p.version}: {'. '.join(marks(p))}"},
            "agent": [
                {
                    "type": {
                        "coding": [_coding(f"{_TERMINOLOGY}/provenance-participant-type", "assembler", "Assembler")]
                    },
                    "who": self._ref("device"),
                }
            ],
            "entity": [{"role": "source", "what": entity} for entity in what],
        }


def _weights(provenance: Provenance) -> str:
    return f"sha256:{provenance.weights_digest}" if provenance.weights_digest else "none"


def _coding(system: str, code: str, display: str = "") -> Resource:
    return {"system": system, "code": code} | ({"display": display} if display else {})


def _concept(code: Code, text: str) -> Resource:
    coding = {"code": code.value, "display": code.meaning}
    if system := _SYSTEMS.get(code.scheme):
        coding["system"] = system
    return {"coding": [coding]} | ({"text": text} if text else {})


def _modality(value: str) -> Resource:
    return _coding(_SYSTEMS["DCM"], value or "OT")


def _identifier(system: str, value: str, kind: str = "") -> Resource:
    identifier: Resource = {"value": value}
    if system:
        identifier["system"] = system
    if kind:
        identifier["type"] = {"coding": [_coding(f"{_TERMINOLOGY}/v2-0203", kind)]}
    return identifier


def _quantity(value: float | None, unit: Code) -> Resource:
    """The value with its UCUM unit, or why there is none (R4 invariant obs-6: never both)."""
    if value is None or not math.isfinite(value):
        return {
            "dataAbsentReason": {"coding": [_coding(f"{_TERMINOLOGY}/data-absent-reason", "error", "Error")]},
        }
    return {
        "valueQuantity": {"value": value, "unit": unit.meaning, "system": _SYSTEMS["UCUM"], "code": unit.value},
    }


def _date(da: str) -> str:
    """A DICOM date as FHIR date; empty when it is none. Times stay out: the images name no time zone."""
    found = re.fullmatch(r"(\d{4})\.?(0[1-9]|1[0-2])\.?(0[1-9]|[12]\d|3[01])", da)
    return "-".join(found.groups()) if found else ""


def _instant(content_time: str) -> str:
    c = content_time
    return f"{c[:4]}-{c[4:6]}-{c[6:8]}T{c[8:10]}:{c[10:12]}:{c[12:14]}Z"
