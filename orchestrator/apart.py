"""Rules are replayed in a process of its own, at low priority: it works for a minute, and studies go on coming."""

from __future__ import annotations

import json
import subprocess
import sys
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from orchestrator.domain.errors import Fault, Refused, Transient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from orchestrator.domain.site import SiteContent

_LONGEST_S: Final = 300
_LAST_LINE: Final = 400


class ReplayApart:
    """The port `Replayer` by `tendon rules replay`; one at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._turn = Lock()

    def __call__(self, tried: SiteContent, span: timedelta) -> Mapping[str, Any]:
        """Raises Transient REPLAY_BUSY while another goes on or after five minutes, Refused RULE_INVALID."""
        if not self._turn.acquire(blocking=False):
            raise Transient(Fault.REPLAY_BUSY)
        try:
            return self._replay(tried, span)
        finally:
            self._turn.release()

    def _replay(self, tried: SiteContent, span: timedelta) -> Mapping[str, Any]:
        given = {name: list(getattr(tried, name)) for name in ("rules", "procedures", "test_studies")}
        with NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
            json.dump(given, file)
            file.flush()
            minutes = max(1, int(span.total_seconds() // 60))
            command = ("rules", "replay", file.name, "--since", f"{minutes}m", "--json")
            try:
                ran = subprocess.run(  # noqa: S603 - our own interpreter and command
                    ["/usr/bin/env", "nice", "-n", "10", sys.executable, "-m", "orchestrator", *command],
                    env=self._environment,
                    capture_output=True,
                    text=True,
                    timeout=_LONGEST_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise Transient(Fault.REPLAY_BUSY, f"it took longer than {_LONGEST_S} s: try fewer days") from error
        if ran.returncode != 0:
            told = (ran.stderr.strip().splitlines() or ["the replay ended without an answer"])[0]
            raise Refused(Fault.RULE_INVALID, told[:_LAST_LINE])
        replayed: Mapping[str, Any] = json.loads(ran.stdout)
        return replayed
