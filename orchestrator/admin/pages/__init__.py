"""The pages: rendered here, renewed by htmx, usable by keyboard and read by screen readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.admin.pages import federation, home, people, rules, signing, site, static, studies

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import APIRouter


def page_routers() -> Iterable[APIRouter]:
    """The routes of all pages."""
    signing_in = (signing.router, federation.router)
    return (static.router, *signing_in, home.router, studies.router, rules.router, site.router, people.router)
