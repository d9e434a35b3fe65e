"""Templates, and how numbers, moments and sizes read on a page."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from app.api.document import version
from app.contracts.caller import Caller
from app.schemas.finetunes import FineTuningAnswer
from app.schemas.rankings import RankingAnswer
from app.services.sessions import COOKIE

FOLDER = Path(__file__).parent
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin", "Cache-Control": "no-store"}
PLACES = (
    ("/rankings", "Rankings"),
    ("/leaderboards", "Leaderboards"),
    ("/finetunes", "Fine-tunings"),
    ("/schedules", "Schedules"),
    ("/datasets", "Data sets"),
    ("/models", "Models"),
    ("/zoos", "Zoos"),
    ("/workers", "Workers"),
)
NOT_KNOWN = "–"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates; every value in them is escaped, and a name that does not exist is an error."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": number,
        "count": count,
        "seconds": seconds,
        "size": size,
        "called": called,
        "breakable": breakable,
        "moment": moment,
        "share": share,
        "percent": percent,
        "json_block": json_block,
        "as_table": as_table,
    }
    templates.globals |= {"version": version()}
    return templates


def render(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """A page, with what every page shows: who is signed in, and the token of its forms."""
    caller: Caller | None = getattr(request.state, "caller", None)
    values |= {
        "request": request,
        "path": request.url.path,
        "places": PLACES,
        "caller": caller,
        "signed_in": caller is not None and caller.owner != "local",
        "may_submit": caller is not None and "submit" in caller.scopes,
        "form_token": request.app.state.sessions.form_token(request.cookies.get(COOKIE)),
    }
    content = environment().get_template(template).render(values)
    return HTMLResponse(content, status, headers=HEADERS | dict(headers or {}))


def number(value: float | None, digits: int = 4) -> str:
    """Four significant digits."""
    return NOT_KNOWN if value is None else f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """A large count for people: 3.5 M."""
    if value is None:
        return NOT_KNOWN
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}"


def as_table(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """The members of data classes, without those that no row has."""
    entries = [asdict(row) for row in rows]
    known = {name for entry in entries for name, value in entry.items() if value is not None}
    return [{name: value for name, value in entry.items() if name in known} for entry in entries]


def called(job: RankingAnswer | FineTuningAnswer) -> str:
    """A job's name; one without a name is called by its target, and when it was asked for."""
    target = job.target.name if isinstance(job, RankingAnswer) else job.request.target
    return job.name or f"{target}, {job.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def breakable(name: str) -> Markup:
    """A model's name, which may break after its dots, slashes and underscores."""
    return Markup(re.sub(r"([_./:@])(?=.)", r"\1<wbr>", str(escape(name))))  # noqa: S704 - escaped


def size(value: float) -> str:
    """Bytes for people: 20 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def seconds(value: float | None) -> str:
    """A duration: 3.2 s, 4 min 10 s, 2 h 5 min."""
    if value is None:
        return NOT_KNOWN
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(value: datetime | None) -> Markup | str:
    """A moment in UTC, to the minute, in a form that programs can read too."""
    if value is None:
        return NOT_KNOWN
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(utc.isoformat(), f"{utc:%Y-%m-%d %H:%M}")


def share(value: float | None) -> str:
    """A share as a percentage."""
    return NOT_KNOWN if value is None else f"{100 * value:.0f} %"


def percent(value: float | None) -> str:
    """A share as a number of percent, for columns whose head says so."""
    return NOT_KNOWN if value is None else f"{100 * value:.1f}"


def json_block(value: Any) -> Markup:
    """JSON inside a script element that is data; nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, default=str)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - escaped
