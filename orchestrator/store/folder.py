"""A folder as destination: each output is one file, there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.ports import Sent
from orchestrator.store.objects import sync_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.domain.delivery import Destination, Output


class FolderSender:
    """The port `Sender` for destinations of kind `folder`. File names hold no patient data."""

    def send(self, destination: Destination, outputs: Sequence[tuple[Output, str]]) -> list[Sent]:
        """Write each output under a temporary name, make it durable, then give it its name."""
        return [self._place(Path(destination.path), output, Path(source)) for output, source in outputs]

    def _place(self, folder: Path, output: Output, source: Path) -> Sent:
        temporary = folder / f".{output.id}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as given, temporary.open("wb") as file:
                shutil.copyfileobj(given, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(folder / output.name)
            sync_folder(folder)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            return Sent(output.id, "unreachable", f"the folder cannot be written: {error.strerror}")
        return Sent(output.id, "accepted")

    def prove(self, destination: Destination, outputs: Sequence[Output]) -> dict[str, str]:
        """A file counts as proven when its bytes are read back equal."""
        folder = Path(destination.path)
        return {o.id: "query" for o in outputs if _digest(folder / o.name) == o.digest}


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
