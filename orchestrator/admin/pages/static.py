"""Style and script of the pages, read once; nothing else of the disk can be asked for."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

from orchestrator.domain.errors import Fault, Refused

router = APIRouter()
_FOLDER: Final = Path(__file__).with_name("static")
_TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FILES: Final = {file.name: file.read_bytes() for file in sorted(_FOLDER.iterdir()) if file.suffix in _TYPES}
BUILD: Final = sha256(b"".join(_FILES.values())).hexdigest()[:12]
"""Changes with them, so that browsers may keep them."""


@router.get("/static/{name}")
def give(name: str) -> Response:
    """A file of the pages."""
    if name not in _FILES:
        raise Refused(Fault.NOT_FOUND, "there is no such file")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_FILES[name], media_type=_TYPES[Path(name).suffix], headers=headers)
