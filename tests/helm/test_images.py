"""The images: what goes into them, who runs in them, and that their parts do what they say."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
IMAGES = ("control", "worker")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@dataclass(frozen=True)
class Step:
    word: str
    rest: str


@dataclass(frozen=True)
class Stage:
    """One FROM with its instructions."""

    name: str
    base: str
    steps: tuple[Step, ...]

    def all(self, word: str) -> list[str]:
        return [step.rest for step in self.steps if step.word == word]


def instructions() -> list[Step]:
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    steps = instructions()
    starts = [number for number, step in enumerate(steps) if step.word == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(steps)], strict=True):
        base, _, name = steps[start].rest.split()
        found[name] = Stage(name, base, tuple(steps[start + 1 : end]))
    return found


def inherited(name: str) -> list[Step]:
    """The instructions of a stage after those of the stages it stands on."""
    stage = stages()[name]
    return [*(inherited(stage.base) if stage.base in stages() else []), *stage.steps]


def last(name: str, word: str) -> str:
    return next(step.rest for step in reversed(inherited(name)) if step.word == word)


def in_context(path: str) -> bool:
    """Whether .dockerignore, in the three forms of pattern it uses, lets a file of the checkout into the build."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if pattern.startswith("**/"):
            fits = any(fnmatch(part, pattern[3:]) for part in Path(path).parts)
        else:
            fits = pattern in ("*", path) or path.startswith(f"{pattern}/")
        kept = line.startswith("!") if fits else kept
    return kept


def files_of_checkout() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.splitlines()


def test_hadolint_has_nothing_to_say():
    ran = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", DOCKERFILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_two_images_are_there():
    assert set(IMAGES) <= stages().keys()


@pytest.mark.parametrize("name", IMAGES)
def test_the_image_runs_as_a_numbered_account_without_rights(name):
    user, _, group = last(name, "USER").partition(":")
    assert user.isdigit()
    assert group.isdigit()
    assert int(user) > 9999
    made = " ".join(step.rest for step in inherited(name) if step.word == "RUN")
    assert f"tendon:x:{user}:{group}:" in made
    assert f"--owner={user} --group={group} --mode=0750 /var/lib/tendon" in made
    assert all(int(port) > 1023 for port in last(name, "EXPOSE").split())


@pytest.mark.parametrize("name", IMAGES)
def test_the_entry_point_is_the_command_that_the_wheel_brings(name):
    assert json.loads(last(name, "ENTRYPOINT"))[0] in PROJECT["scripts"]
    assert json.loads(last(name, "CMD")) == ["--help"]


@pytest.mark.parametrize("name", IMAGES)
def test_the_image_says_what_it_is(name):
    labels = {
        key.removeprefix("org.opencontainers.image.")
        for step in inherited(name)
        if step.word == "LABEL"
        for key in (word.partition("=")[0] for word in shlex.split(step.rest))
    }
    assert labels == {"title", "description", "vendor", "licenses", "version", "revision"}


def test_the_version_of_the_images_is_that_of_the_code():
    assert f"VERSION={PROJECT['version']}" in stages()["runtime"].all("ARG")


def test_every_base_is_pinned_to_a_full_version():
    (argument,) = (step.rest for step in instructions()[:1])
    assert re.fullmatch(
        r"PYTHON_IMAGE=docker\.io/library/python:3\.11\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", argument
    )
    assert {stage.base for stage in stages().values()} - stages().keys() == {"${PYTHON_IMAGE}"}


def test_nothing_is_fetched_but_packages_pinned_by_the_constraints():
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert not re.search(r"^ADD|curl|wget|apt-get|git clone|latest", text, re.MULTILINE)
    assert "PIP_CONSTRAINT=/src/constraints.txt" in " ".join(stages()["libraries"].all("ENV"))


def test_no_secret_is_built_in():
    for step in instructions():
        if step.word in {"ARG", "ENV", "LABEL"}:
            assert not re.search(r"password|secret|token|_url=", step.rest, re.IGNORECASE)


def test_every_file_that_is_copied_exists_and_is_let_into_the_build():
    for stage in stages().values():
        for rest in stage.all("COPY"):
            words = rest.split()
            if words[0].startswith("--from="):
                assert words[0].removeprefix("--from=") in stages()
                continue
            for source in words[:-1]:
                assert (ROOT / source).exists()
                assert in_context(source)


def test_nothing_else_is_let_into_the_build():
    let_in = {path.split("/")[0] for path in files_of_checkout() if in_context(path)}
    copied = {
        word.split("/")[0]
        for stage in stages().values()
        for rest in stage.all("COPY")
        if not rest.startswith("--from=")
        for word in rest.split()[:-1]
    }
    assert let_in == copied
    for path in (
        "docker/secrets/TENDON_BROKER_URL",
        ".git/config",
        ".venv/pyvenv.cfg",
        "orchestrator/x.pyc",
        "tendon-data/a",
    ):
        assert not in_context(path)


def test_all_that_the_wheel_is_made_of_is_let_into_the_build():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    folders = [*build["wheel"]["packages"], *build["wheel"]["force-include"]]
    for path in files_of_checkout():
        if path.split("/")[0] in folders:
            assert in_context(path)


def requirements(*extras: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, ROOT / "docker" / "requirements.py", ROOT / "pyproject.toml", *extras],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.splitlines() if ran.returncode == 0 else [ran.stderr.splitlines()[-1]]


def test_the_requirements_are_those_of_the_wheel():
    extras = PROJECT["optional-dependencies"]
    assert requirements() == PROJECT["dependencies"]
    assert requirements("workers,inference") == [*extras["workers"], *extras["inference"]]
    assert requirements("wrokers") == ["KeyError: 'wrokers'"]


def test_all_that_goes_into_an_image_is_pinned():
    def plain(name: str) -> str:
        return re.match(r"[\w.-]+", name)[0].lower().replace("_", "-")

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain(line) for line in lines if "==" in line}
    wanted = {plain(line) for line in [*requirements(), *requirements("workers,inference"), "hatchling"]}
    assert wanted - pinned == set()


class Monitor(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def health_port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Monitor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def healthcheck(**environment: str) -> int:
    command = json.loads(last("control", "HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "python"
    ran = subprocess.run(
        [sys.executable, *command[1:]], env={"PATH": os.defpath, **environment}, capture_output=True, check=False
    )
    return ran.returncode


def test_the_health_check_asks_the_port_of_the_role(health_port, monkeypatch):
    port, nobody = str(health_port), "1"
    assert healthcheck(TENDON_HEALTH_PORT=port, TENDON_ADMIN_PORT=nobody) == 0
    assert healthcheck(TENDON_HEALTH_PORT="", TENDON_ADMIN_PORT=port) == 0
    assert healthcheck(TENDON_HEALTH_PORT=nobody) == 1
    monkeypatch.setattr(Monitor, "status", 503)
    assert healthcheck(TENDON_HEALTH_PORT=port) == 1
