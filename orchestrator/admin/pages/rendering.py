"""Templates become pages. Whatever comes from outside is escaped; nothing in a page runs but our own files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orchestrator.admin.access import whoever
from orchestrator.admin.pages.static import BUILD
from orchestrator.admin.problems import problem_of
from orchestrator.domain.access import Permission
from orchestrator.domain.errors import Fault, TendonError

if TYPE_CHECKING:
    from starlette.requests import Request

    from orchestrator.admin.context import Admin
    from orchestrator.domain.access import Principal

_NAVIGATION: Final = (
    ("/studies", "Studies", Permission.STUDIES_READ),
    ("/jobs", "Jobs", Permission.STUDIES_READ),
    ("/rules", "Rules", Permission.RULES_READ),
    ("/nodes", "Nodes", Permission.SITE_READ),
    ("/destinations", "Destinations", Permission.SITE_READ),
    ("/pipelines", "Pipelines", Permission.STATUS_READ),
    ("/audit", "Audit", Permission.AUDIT_READ),
    ("/users", "Users", Permission.USERS_WRITE),
)
_SIGN_IN: Final = "/login"
_CONFIRM: Final = "/confirm"
_CHOOSE: Final = "/password"
_DA_LENGTH: Final = 8


def _moment(value: datetime | str | None, zone: str) -> str:
    """A moment by the clock of the installation."""
    if not value:
        return ""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{moment.astimezone(ZoneInfo(zone) if zone != 'UTC' else UTC):%Y-%m-%d %H:%M:%S}"


def _day(text: str) -> str:
    """A date as DICOM writes it (DA), with its parts set apart; what is none as it is."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == _DA_LENGTH and text.isdecimal() else text


def _name(name: str) -> str:
    """A person's name as people write it: PN components in order of use (PS3.5 6.2)."""
    parts = name.partition("=")[0].split("^")
    family, given = parts[0], " ".join(part for part in parts[1:3] if part)
    return ", ".join(part for part in (family, given) if part)


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("orchestrator.admin.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_ENVIRONMENT.filters["moment"] = _moment
_ENVIRONMENT.filters["person"] = _name
_ENVIRONMENT.filters["day"] = _day
_ENVIRONMENT.filters["part"] = lambda text: quote(str(text), safe="")


def render(
    request: Request, admin: Admin, template: str, who: Principal | None, status: int = 200, **given: Any
) -> HTMLResponse:
    """A page, or part of one, as this person sees it."""
    permissions = who.permissions if who is not None and not who.must_set_password else frozenset()
    page = _ENVIRONMENT.get_template(template).render(
        installation=admin.installation,
        environment=admin.environment,
        zone=admin.time_zone,
        build=BUILD,
        who=who,
        csrf=who.session.csrf if who is not None and who.session is not None else "",
        may={permission.name for permission in permissions},
        navigation=[(path, title) for path, title, needed in _NAVIGATION if needed in permissions],
        here=request.url.path,
        **given,
    )
    return HTMLResponse(page.encode("utf-8", "replace"), status)


def is_part(request: Request) -> bool:
    """Whether htmx asks, for a part of a page."""
    return request.headers.get("hx-request") == "true"


def go_to(request: Request, path: str) -> Response:
    """Have the browser go to a page of ours."""
    if is_part(request):
        return Response(status_code=200, headers={"HX-Redirect": path})
    return RedirectResponse(path, 303)


def own_path(text: str) -> str:
    """The path if it is one of this application, else the first page: nobody is sent to another site."""
    split = urlsplit(text)
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and not split.netloc and not split.scheme
    return text if is_own and text.isprintable() and "\\" not in text else "/"


def error_page(request: Request, admin: Admin, error: TendonError, status: int | None = None) -> Response:
    """What went wrong and what can be done about it; who must sign in is sent there."""
    fault = error.fault
    if fault in (Fault.NOT_SIGNED_IN, Fault.PASSWORD_PROVISIONAL, Fault.CONFIRMATION_NEEDED) and not is_part(request):
        return _sent_on(request, fault)
    if fault is Fault.NOT_SIGNED_IN:
        return go_to(request, _SIGN_IN)
    who = whoever(request, admin)
    template = "error_part.html" if is_part(request) else "error.html"
    problem = problem_of(error)
    return render(request, admin, template, who, status or problem.status, problem=problem, remedy=fault.value.remedy)


def _sent_on(request: Request, fault: Fault) -> Response:
    if fault is Fault.PASSWORD_PROVISIONAL:
        return RedirectResponse(_CHOOSE, 303)
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = here if request.method == "GET" else own_path(urlsplit(request.headers.get("referer", "")).path or "/")
    to = _SIGN_IN if fault is Fault.NOT_SIGNED_IN else _CONFIRM
    return RedirectResponse(to if back == "/" else f"{to}?next={quote(back, safe='/')}", 303)
