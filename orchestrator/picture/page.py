"""Pages for people: one for each job, and one for a whole run, self-contained, without links or scripts.

No patient data is on them. Whatever text comes from outside is escaped, so that it can be neither markup nor a link.
"""

from __future__ import annotations

import re
from base64 import b64encode
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from orchestrator.domain.report import (
    ASKED_FIRST,
    drawn,
    findings,
    marks,
    number,
    reading_order,
    segment_name,
    unit_text,
    value_text,
    volume_ml,
)
from orchestrator.picture.style import CSS
from orchestrator.ports import BuiltObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.domain.result import Measurement, Score
    from orchestrator.ports import ReportRequest

SHOWN_AT_ONCE = 12


def build(request: ReportRequest) -> Sequence[BuiltObject]:
    """The job's page, named after the pipeline; its section can be taken into a whole page."""
    title = request.provenance.title
    page = _document(title, [_section(request)])
    return [BuiltObject("page", f"{request.provenance.pipeline}.html", page.encode())]


def whole_page(sections: Iterable[str], summary: Mapping[str, Any]) -> str:
    """The page of a run: what came in, what was decided, what each job found, what was delivered, how long it took.

    `sections` are job pages as built. `summary` is the run's summary.json; its optional keys `received` (a list of
    {modality, description, instances}), `decisions` (a list of {rule, pipeline, is_yes, reason}) and `problems`
    (sentences) are shown too.
    """
    jobs = list(summary.get("jobs", ()))
    parts = [
        _opening(summary, jobs),
        _part("What needs attention", _list(safe(p) for p in summary.get("problems", ()))),
        _part("What came in", _received(summary)),
        _part("What was decided, and why", _decided(summary, jobs)),
        *(_section_of(page) for page in sections),
        _part("What was delivered", _delivered(summary)),
        _part("How long it took", _timed(summary, jobs)),
    ]
    return _document("Tendon: report of a run", [part for part in parts if part])


def safe(value: object) -> str:
    """Text for HTML: no markup, and nothing a viewer could take for a link."""
    return re.sub("h(?=ttp)", lambda h: f"&#{ord(h[0])};", escape(str(value)), flags=re.IGNORECASE)


def _document(title: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{safe(title)}</title>\n<style>\n{CSS}\n</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _section_of(page: str) -> str:
    """What stands between <main> and </main> of a job's page."""
    return page.partition("<main>")[2].rpartition("</main>")[0].strip()


def _section(request: ReportRequest) -> str:
    provenance, results = request.provenance, request.results
    said = findings(results, provenance, request.volume.grid)
    parts = [
        f'<section class="job">\n<div class="headline"><h2>{safe(provenance.title)}</h2>',
        f'<span class="soft">{safe(provenance.pipeline)} {safe(provenance.version)}</span></div>',
        f'<ul class="marks">{"".join(f"<li>{safe(m)}</li>" for m in marks(provenance))}</ul>',
        f'<p class="lead">{safe(said)}</p>',
        *(_figure(b) for b in request.built if b.kind == "picture"),
        _segments(request),
        *_measurements(request),
        _scores(results.scores),
        _notices(request),
        _provenance(request),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _figure(picture: BuiltObject) -> str:
    """The picture as data. Chance "http" in base64 is broken by a line end, which URLs ignore."""
    data = re.sub("(ht)(tp)", r"\1\n\2", b64encode(picture.data).decode(), flags=re.IGNORECASE)
    alt = "Outlines of the result on axial, coronal and sagittal planes of the image"
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"/></figure>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; cells are HTML already. Columns in `numbers` are set to the right."""
    kinds = [' class="n"' if column in numbers else "" for column in range(len(head))]
    heading = "".join(f"<th{kind}>{title}</th>" for kind, title in zip(kinds, head, strict=True))
    body = "\n".join(
        f"<tr>{''.join(f'<td{kind}>{cell}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>" for row in rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{heading}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _segments(request: ReportRequest) -> str:
    rows = []
    for s in drawn(request.results):
        red, green, blue = s.colour_rgb
        swatch = f'<span class="swatch" style="border-color:rgb({red},{green},{blue})"></span>'
        volume = number(volume_ml(s, request.volume.grid))
        drawn_by = {"AUTOMATIC": "computer", "SEMIAUTOMATIC": "computer with a person", "MANUAL": "a person"}
        rows.append(
            (
                f"{swatch}{safe(segment_name(s))}",
                safe(s.type.meaning),
                f"<code>{safe(s.type)}</code>",
                drawn_by[s.algorithm_type],
                f"{volume} ml",
            )
        )
    head = ("Region", "What it is", "Code", "Drawn by", "Volume")
    return f"<h3>Regions</h3>\n{_table(head, rows, (4,))}" if rows else ""


def _measurements(request: ReportRequest) -> list[str]:
    """A table for each region: the numbers people ask for first, the others folded away where they are many."""
    results = request.results
    labels = [s.label for s in drawn(results)]
    groups = {label: [m for m in results.measurements if m.segment == label] for label in labels}
    groups[""] = [m for m in results.measurements if m.segment not in labels]
    parts = []
    for label, found in groups.items():
        if not found:
            continue
        title = f"Measurements of {label}" if label else "Measurements"
        parts.append(f"<h3>{safe(title)}</h3>")
        if len(found) <= SHOWN_AT_ONCE:
            parts.append(_measured(found))
            continue
        first = _first(found)
        rest = [m for m in found if m not in first]
        parts.append(_measured(first))
        parts.append(f"<details><summary>{len(rest)} more measurements</summary>\n{_measured(rest)}\n</details>")
    return parts


def _first(found: Sequence[Measurement]) -> list[Measurement]:
    """What a reader looks for first; the first few where none of it is there."""
    in_order = reading_order(found)
    wanted = [m for m in in_order if str(m.name) in ASKED_FIRST]
    return (wanted or in_order)[:SHOWN_AT_ONCE]


def _measured(found: Iterable[Measurement]) -> str:
    """A table with one block of rows for each method, headed by it."""
    head = '<th>Measurement</th><th class="n">Value</th><th>Unit</th><th>Code</th>'
    body = []
    for method, group in groupby(found, key=lambda m: m.method):
        if method:
            body.append(f'<tr class="how"><td colspan="4">{safe(method)}</td></tr>')
        body.extend(f"<tr>{_cells(m)}</tr>" for m in group)
    rows = "\n".join(body)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _cells(m: Measurement) -> str:
    value = safe(number(m.value)) if m.value is not None else f'<span class="warning">{value_text(m)}</span>'
    code = f"<td><code>{safe(m.name)}</code></td>"
    return f'<td>{safe(m.name.meaning)}</td><td class="n">{value}</td><td>{safe(unit_text(m.unit))}</td>{code}'


def _scores(scores: Sequence[Score]) -> str:
    rows = []
    for s in scores:
        interval = f" ({number(100 * s.interval[0])} to {number(100 * s.interval[1])} %)" if s.interval else ""
        chance = f"{number(100 * s.probability)} %{interval}" if s.probability is not None else ""
        missing = f"Missing: {', '.join(s.missing)}" if s.missing else ""
        rows.append(
            (
                safe(s.name.meaning),
                "" if s.value is None else number(s.value),
                safe(chance),
                safe(f"{s.model} {s.version}. {s.citation} {missing}"),
            )
        )
    return f"<h3>Scores</h3>\n{_table(('Score', 'Value', 'Probability', 'Model'), rows, (1, 2))}" if rows else ""


def _notices(request: ReportRequest) -> str:
    if not request.results.notices:
        return ""
    items = "".join(
        f'<li class="{n.severity}">{safe(n.text)}{f" <code>{safe(n.code)}</code>" if n.code else ""}</li>'
        for n in request.results.notices
    )
    return f'<h3>What to keep in mind</h3>\n<ul class="notes">{items}</ul>'


def _provenance(request: ReportRequest) -> str:
    p = request.provenance
    facts = {
        "Made by": f"{p.title}, {p.pipeline} {p.version}",
        "Intended use": p.intended_use,
        "Standing": p.standing,
        "Inputs": f"{len(p.input_uids)} objects, {len(request.source_files)} images in the series measured on",
        "Rule set": f"version {p.rule_set_version}",
        "Package (SHA-256)": p.package_digest,
        "Weights (SHA-256)": p.weights_digest or "none",
        "Input set": p.input_set,
        "Result": f"{p.result_id}, generation {p.generation}",
        **{f"Setting: {name}": value for name, value in request.results.parameters.items()},
    }
    return f"<details><summary>How this was made</summary>\n{_facts(facts)}\n</details>"


def _facts(facts: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{safe(k)}</dt><dd>{safe(v)}</dd>' for k, v in facts.items())}</dl>"


def _part(title: str, content: str) -> str:
    return f'<section class="part">\n<h2>{title}</h2>\n{content}\n</section>' if content else ""


def _opening(summary: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> str:
    done = sum(job.get("state") == "done" for job in jobs)
    proven = sum(bool(o.get("proven")) for o in summary.get("objects", ()))
    said = f"{done} of {len(jobs)} AI jobs done, {proven} of {len(summary.get('objects', ()))} objects proven stored."
    return (
        f'<h1>Report of a run</h1>\n<p class="lead">{said}</p>\n<p class="soft">Every AI result here is unreviewed.</p>'
    )


def _list(items: Iterable[str]) -> str:
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="notes">{rows}</ul>' if rows else ""


def _received(summary: Mapping[str, Any]) -> str:
    study = f'<p class="soft">Study <code>{safe(summary.get("study_uid", ""))}</code></p>'
    rows = [
        (safe(s.get("modality", "")), safe(s.get("description", "")), safe(s.get("instances", "")))
        for s in summary.get("received", ())
    ]
    return study + (_table(("Modality", "Series", "Objects"), rows, (2,)) if rows else "")


def _decided(summary: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            safe(d.get("pipeline", "")),
            '<span class="good">yes</span>' if d.get("is_yes") else '<span class="soft">no</span>',
            safe(d.get("rule", "")),
            safe(d.get("reason", "")),
        )
        for d in summary.get("decisions", ())
    ]
    decided = _table(("Pipeline", "Run", "Rule", "Why"), rows) if rows else ""
    states = [(safe(j["pipeline"]), _state(j["state"]), safe(j.get("reason", ""))) for j in jobs]
    return decided + (f"<h3>Jobs</h3>\n{_table(('Pipeline', 'State', 'Reason'), states)}" if states else "")


def _state(state: str) -> str:
    kind = {"done": "good", "failed": "bad", "unfit": "warning", "held": "warning"}.get(state, "soft")
    return f'<span class="{kind}">{safe(state)}</span>'


def _delivered(summary: Mapping[str, Any]) -> str:
    rows = [
        (
            safe(str(o["kind"]).upper()),
            '<span class="good">proven</span>' if o.get("proven") else '<span class="warning">not proven</span>',
            f"<code>{safe(o['path'])}</code>",
        )
        for o in summary.get("objects", ())
    ]
    rows += [
        ("FHIR", '<span class="good">handed over</span>', f"<code>{safe(p)}</code>") for p in summary.get("ehr", ())
    ]
    return _table(("Object", "State", "File"), rows) if rows else ""


def _timed(summary: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> str:
    steps = "".join(f"<li><b>{number(s)} s</b><span>{safe(name)}</span></li>" for name, s in summary["seconds"].items())
    rows = [
        (
            safe(job["pipeline"]),
            safe(stage["name"]),
            "" if stage["seconds"] is None else f"{number(stage['seconds'])} s",
        )
        for job in jobs
        for stage in job.get("stages", ())
    ]
    stages = f"<h3>Stages</h3>\n{_table(('Pipeline', 'Stage', 'Time'), rows, (2,))}" if rows else ""
    return f'<p class="soft">Counted from the first association.</p>\n<ul class="steps">{steps}</ul>\n{stages}'
