"""The schema of the values is closed and explains itself, and the examples reach every value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from tests.helm.chart import FOLDER, PROFILES, RefusedError, changed, profile

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = json.loads((FOLDER / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((FOLDER / "values.yaml").read_text(encoding="utf-8"))
NAMES_ARE_FREE = {"definitions.labels", "definitions.annotations"}
CHECKED_BY_KUBERNETES = {f"definitions.affinity.{name}" for name in ("nodeAffinity", "podAffinity", "podAntiAffinity")}


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside the schema, with a path of names."""
    yield path, node
    for keyword in ("properties", "definitions"):
        for name, inner in node.get(keyword, {}).items():
            label = f"definitions.{name}" if keyword == "definitions" else f"{path}.{name}".lstrip(".")
            yield from nodes(inner, label)
    if isinstance(node.get("items"), dict):
        yield from nodes(node["items"], f"{path}[]")
    for number, inner in enumerate(node.get("oneOf", [])):
        yield from nodes(inner, f"{path}/{number}")


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        label = f"{path}.{name}".lstrip(".")
        if isinstance(value, dict) and value:
            yield from leaves(value, label)
        else:
            yield label, value


def at(values: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(values, dict) or name not in values:
            return None
        values = values[name]
    return values


def test_the_schema_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_no_object_takes_a_name_it_does_not_know():
    is_open = {path for path, node in nodes(SCHEMA) if node.get("type") == "object" and not closed(node)}
    assert is_open == CHECKED_BY_KUBERNETES
    free = {path for path, node in nodes(SCHEMA) if isinstance(node.get("additionalProperties"), dict)}
    assert free == NAMES_ARE_FREE


def closed(node: dict[str, Any]) -> bool:
    only = node.get("additionalProperties")
    return only is False or (isinstance(only, dict) and only["type"] == "string")


def test_every_value_is_described():
    lacking = [
        f"{path}.{name}"
        for path, node in nodes(SCHEMA)
        for name, inner in node.get("properties", {}).items()
        if not inner.get("description", "").endswith(".")
    ]
    assert lacking == []


def test_every_value_of_the_schema_has_a_default_and_the_other_way_round():
    def names(node: dict[str, Any], path: str = "") -> Iterator[str]:
        for name, inner in node.get("properties", {}).items():
            target = SCHEMA["definitions"][inner["$ref"].split("/")[-1]] if "$ref" in inner else inner
            if inner.get("$ref") == "#/definitions/image" or ("$ref" not in inner and "properties" in target):
                yield from names(target, f"{path}.{name}".lstrip("."))
            else:
                yield f"{path}.{name}".lstrip(".")

    described = {name for name in names(SCHEMA) if name}
    given = {path for path, _ in leaves(DEFAULTS)}
    assert {path for path in described if at(DEFAULTS, path) is None} == set()
    assert {path for path in given if not any(path == d or path.startswith(f"{d}.") for d in described)} == set()


def test_every_value_is_changed_by_some_example():
    examples = [profile(name) for name in PROFILES]
    never = [
        path for path, default in leaves(DEFAULTS) if all(at(values, path) in (None, default) for values in examples)
    ]
    assert never == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("rounds.replica", 2, "additional properties 'replica' not allowed"),
        ("lanes.tpu", {"replicas": 1}, "additional properties 'tpu' not allowed"),
        ("lanes.cpu.gpu", {"count": 1}, "additional properties 'gpu' not allowed"),
        ("scp.replicas", 2, "additional properties 'replicas' not allowed"),
        ("database.url", "postgresql://tendon:secret@db/tendon", "additional properties 'url' not allowed"),
        ("rounds.replicas", "two", "got string, want integer"),
        ("rounds.replicas", -1, "minimum: got -1, want 0"),
        ("site.environment", "staging", "'production', 'test'"),
        ("site.aeTitle", "MORE THAN SIXTEEN", "does not match pattern"),
        ("site.aeTitle", "BACK\\SLASH", "does not match pattern"),
        ("site.calledAeTitles", ["OLD,ROUTER"], "does not match pattern"),
        ("site.quietSeconds", 0, "exclusiveMinimum"),
        ("objects.url", "file:///srv/tendon", "does not match pattern"),
        ("objects.volume.size", "lots", "does not match pattern"),
        ("scp.allowedCidrs", ["ct1.example.org"], "does not match pattern"),
        ("admin.trustedProxies", ["ingress.example.org"], "does not match pattern"),
        ("scp.service.nodePort", 104, "nodePort"),
        ("scp.service.type", "ExternalName", "'ClusterIP', 'NodePort', 'LoadBalancer'"),
        ("database.peers", [{"cidr": "10.0.0.0/8", "namespace": "db"}], "oneOf"),
        ("database.peers", [{}], "oneOf"),
        ("database.secretName", "", "does not match pattern"),
        ("images.control.digest", "sha256:abc", "does not match pattern"),
        ("destinations", [{"cidr": "10.0.0.0/8", "ports": []}], "minItems"),
        ("lanes.gpu.gpu.resource", "gpu", "does not match pattern"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_path(chart, path, value, said):
    with pytest.raises(RefusedError) as refused:
        chart.render(changed(profile("minimal"), path, value))
    assert said in str(refused.value)
    assert path.split(".")[0] in str(refused.value)
