"""Signing in and out."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.api.dependencies import SettingsDep
from app.errors import Unauthenticated
from app.services.sessions import COOKIE
from app.web.rendering import render
from app.web.route import GenuineForm, OpenPageRoute, SessionsDep

router = APIRouter(route_class=OpenPageRoute, include_in_schema=False)

HOME = "/rankings"


def own_address(address: str) -> str:
    """The address if it lies on this server, else the first page: no reader is sent elsewhere after signing in."""
    inside = address.startswith("/") and not address.startswith("//") and "\\" not in address and address.isprintable()
    return address if inside else HOME


@router.get("/sign-in")
def show_sign_in(
    request: Request, next_address: Annotated[str, Query(alias="next", max_length=2000)] = HOME
) -> Response:
    """The form."""
    return render(request, "sign_in.html", next=own_address(next_address), problem=None)


@router.post("/sign-in", dependencies=[GenuineForm])
def sign_in(
    request: Request,
    sessions: SessionsDep,
    settings: SettingsDep,
    key: Annotated[str, Form(max_length=200)],
    next_address: Annotated[str, Form(alias="next", max_length=2000)] = HOME,
) -> Response:
    """Check the key and remember it by a cookie."""
    try:
        cookie = sessions.sign_in(key.strip())
    except Unauthenticated:
        problem = "This key is not known, or it was revoked."
        return render(request, "sign_in.html", status=401, next=own_address(next_address), problem=problem)
    response = RedirectResponse(own_address(next_address), 303)
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=round(settings.session_hours * 3600),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/sign-out", dependencies=[GenuineForm])
def sign_out() -> Response:
    """Forget the cookie."""
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE)
    return response
