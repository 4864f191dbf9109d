"""Whether the pipeline a job was planned with is the one that lies here."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.store.catalog import package_digest

if TYPE_CHECKING:
    from orchestrator.domain.job import Job
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.site import Catalog

_Look = tuple[tuple[str, int, int, int], ...]


class Builds:
    """The pipelines as they lie in their folders now, not as they lay when the catalog was read.

    A folder's bytes are read again only when a file's size, time or number has changed.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._manifests = catalog.manifests()
        self._seen: dict[str, tuple[_Look, str]] = {}
        self._lock = Lock()

    def manifest(self, job: Job) -> Manifest:
        """The manifest of the job's pipeline. Raises Broken UNKNOWN_PIPELINE, Transient OTHER_BUILD."""
        manifest = self._manifests.get(job.pipeline)
        if manifest is None:
            raise Broken(Fault.UNKNOWN_PIPELINE, f"{job.pipeline} is no longer installed")
        planned = (job.version, job.package_digest or manifest.package_digest)
        if planned != (manifest.version, manifest.package_digest):
            detail = f"this worker has another build of {job.pipeline} than the job was planned with"
            raise Transient(Fault.OTHER_BUILD, detail)
        try:
            digest = self._digest(Path(manifest.folder))
        except OSError:
            digest = "not readable"
        if digest != manifest.package_digest:
            raise Transient(Fault.OTHER_BUILD, f"{job.pipeline} was changed while this worker ran: restart it")
        return manifest

    def _digest(self, folder: Path) -> str:
        look = _look(folder)
        with self._lock:
            seen, digest = self._seen.get(str(folder), ((), ""))
            if seen != look:
                digest = package_digest(folder)
                self._seen[str(folder)] = (look, digest)
            return digest


def _look(folder: Path) -> _Look:
    """All files by what changes when they do."""
    found = []
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts:
            state = path.stat()
            found.append((str(path), state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(found)
