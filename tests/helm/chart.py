"""The chart as Helm renders it, and what tests ask of the objects it makes."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[2] / "helm" / "tendon"
PROFILES = {path.name.removesuffix("-values.yaml"): path for path in sorted((FOLDER / "ci").glob("*-values.yaml"))}
WITH_PODS = ("Deployment", "Job")

Object = dict[str, Any]


class RefusedError(Exception):
    """Helm did not take the values; the text says why."""


@dataclass(frozen=True)
class Rendering:
    """What the chart makes of some values: rendered text by template."""

    files: dict[str, str]

    @cached_property
    def objects(self) -> list[Object]:
        texts = [text for name, text in sorted(self.files.items()) if name.endswith(".yaml")]
        return [made for text in texts for made in yaml.load_all(text, yaml.CSafeLoader) if made]

    @property
    def notes(self) -> str:
        return next(text for name, text in self.files.items() if name.endswith("NOTES.txt"))

    def of_kind(self, *kinds: str) -> dict[str, Object]:
        """Objects of these kinds by component."""
        return {component(found): found for found in self.objects if found["kind"] in kinds}

    def pods(self) -> dict[str, Object]:
        """The pod templates by component."""
        return {name: made["spec"]["template"] for name, made in self.of_kind(*WITH_PODS).items()}


@dataclass(frozen=True)
class Chart:
    """The chart in a running engine."""

    process: subprocess.Popen[str]

    def render(self, values: Object, *, release: str = "tendon", namespace: str = "imaging") -> Rendering:
        """Raises RefusedError."""
        answered = self._ask({"values": values, "release": release, "namespace": namespace})
        if "refused" in answered:
            raise RefusedError(answered["refused"])
        return Rendering(answered["files"])

    def lint(self, values: Object, version: str) -> list[str]:
        """What `helm lint --strict` says from warnings upward."""
        report = self._ask({"lint": str(FOLDER), "values": values, "version": version})
        warnings = [found["error"] for found in report["messages"] if found["severity"] > 1]
        return [*warnings, *report["errors"]]

    def _ask(self, request: Object) -> Object:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextmanager
def opened() -> Iterator[Chart]:
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("engine.py"), str(FOLDER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield Chart(process)
        process.stdin.close()


def profile(name: str) -> Object:
    """The values of an example, fresh."""
    return yaml.safe_load(PROFILES[name].read_text(encoding="utf-8"))


def changed(values: Object, path: str, value: Any) -> Object:
    """Set `path` (dotted) in these values; in place, given back."""
    inner = values
    *parents, last = path.split(".")
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    return values


def component(made: Object) -> str:
    return made["metadata"]["labels"]["app.kubernetes.io/component"]


def container(pod: Object) -> Object:
    (only,) = pod["spec"]["containers"]
    return only


def settings_of(pod: Object) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(pod)["env"]}
