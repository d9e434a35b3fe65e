"""What every page does before and after its function: who looks, what is refused, and how an error reads."""

import http
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import quote

import structlog
from fastapi import Depends, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from app.api.dependencies import identify
from app.contracts.problems import KINDS
from app.errors import ForerankError, NotFound, Unauthenticated, Unavailable
from app.services.quotas import Quotas
from app.services.sessions import COOKIE, Sessions
from app.web.rendering import render

log = structlog.stdlib.get_logger("forerank.web")


async def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


SessionsDep = Annotated[Sessions, Depends(_sessions)]


def _genuine_form(request: Request, sessions: SessionsDep, token: Annotated[str, Form()] = "") -> None:
    sessions.check_form(request.cookies.get(COOKIE), token)


GenuineForm = Depends(_genuine_form)


class PageRoute(APIRoute):
    """Use it as the `route_class` of a router of pages."""

    needs_caller = True

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the function that FastAPI makes of the route."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                if self.needs_caller:
                    caller = await identify(request)
                    if caller.owner != "local":
                        quotas: Quotas = request.app.state.quotas
                        quotas.count_request(caller.owner, submits=request.method == "POST")
                return await handle(request)
            except Unauthenticated as error:
                if request.method == "GET":
                    return sign_in_first(request)
                return await run_in_threadpool(error_page, request, error)
            except (ForerankError, RequestValidationError, HTTPException, OperationalError) as error:
                return await run_in_threadpool(error_page, request, error)

        return handler


class OpenPageRoute(PageRoute):
    """For the pages that are there for people who have not signed in."""

    needs_caller = False


def sign_in_first(request: Request) -> Response:
    """Send the reader to the sign-in page, and back afterwards."""
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?next={quote(address)}", 303)


def error_page(request: Request, error: Exception) -> Response:
    """Say what went wrong and what to do."""
    if isinstance(error, OperationalError):
        error = Unavailable("the database does not answer; try again soon", headers={"Retry-After": "5"})
    if isinstance(error, RequestValidationError):
        places = [
            f"{'.'.join(str(part) for part in entry['loc'][1:])}: {entry['msg'].removeprefix('Value error, ')}"
            for entry in error.errors()[:10]
        ]
        return render(request, "error.html", status=422, title="Something in the form is not right", details=places)
    if isinstance(error, ForerankError):
        details = [f"{place['pointer'].lstrip('/')}: {place['detail']}" for place in error.errors] or [error.detail]
        title = KINDS[error.code].title
        return render(request, "error.html", status=error.status, title=title, details=details, headers=error.headers)
    assert isinstance(error, HTTPException)  # noqa: S101 - the route catches nothing else
    phrase = http.HTTPStatus(error.status_code).phrase
    if error.status_code == 404:
        title, details = KINDS[NotFound.code].title, ["There is no such page."]
        return render(request, "error.html", status=404, title=title, details=details)
    return render(request, "error.html", status=error.status_code, title=phrase, details=[str(error.detail)])
