"""What routes ask for in their signatures."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.contracts.caller import LOCAL_CALLER, Caller
from app.db.session import Database
from app.errors import BadRequest, Forbidden, Unauthenticated
from app.jobs import Jobs
from app.services.feed import Feed
from app.services.keys import CHALLENGE, authenticate
from app.services.scoring import Scorers
from app.services.sessions import COOKIE, Sessions
from app.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
KEY_HEADER = APIKeyHeader(
    name="X-API-Key",
    scheme_name="ApiKey",
    description="Made by `forerank key create`. On a server bound to loopback none is needed.",
    auto_error=False,
)


# Those that wait for nothing are coroutines: FastAPI sends plain functions to another thread, which costs more than
# they do, and while the interpreter is busy each such turn waits for it.
async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


async def _scorers(request: Request) -> Scorers:
    scorers: Scorers = request.app.state.scorers
    return scorers


async def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
ScorersDep = Annotated[Scorers, Depends(_scorers)]
FeedDep = Annotated[Feed, Depends(_feed)]


def _transaction(request: Request, database: DatabaseDep) -> Iterator[Session]:
    with database.transaction() as session:
        # An answer that is kept for retries is stored in the same transaction as what it reports.
        request.state.session = session
        yield session


async def _reading(database: DatabaseDep) -> AsyncIterator[Session]:
    with database.reading() as session:
        yield session


# The scope makes the transaction commit before the answer leaves, not after: who reads 202 finds the row.
SessionDep = Annotated[Session, Depends(_transaction, scope="function")]
ReadSessionDep = Annotated[Session, Depends(_reading, scope="function")]


async def identify(request: Request) -> Caller:
    """The caller: the holder of the key in ``X-API-Key``, or of the one that a page was signed in with.

    Without either, on loopback, it is the local administrator.

    Raises:
        Unauthenticated: the key is wrong, or there is none where one is needed.
    """
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    settings: Settings = request.app.state.settings
    secret = request.headers.get("x-api-key")
    cookie = request.cookies.get(COOKIE)
    if secret is not None:
        caller = await run_in_threadpool(authenticate, request.app.state.database, secret)
    elif cookie is not None and (settings.require_keys or not settings.is_loopback):
        caller = await run_in_threadpool(_signed_in, request, cookie)
    else:
        _refuse_strangers(request, settings)
        caller = LOCAL_CALLER
    request.state.caller = caller
    structlog.contextvars.bind_contextvars(owner=caller.owner)
    return caller


def _signed_in(request: Request, cookie: str) -> Caller:
    """Who signed in on a page. What changes something on the API has to come from a page of this server."""
    sessions: Sessions = request.app.state.sessions
    caller = sessions.caller(cookie)
    if request.method not in SAFE_METHODS and request.url.path.startswith("/v1/"):
        sessions.check_form(cookie, request.headers.get("x-csrf-token", ""))
    return caller


def _refuse_strangers(request: Request, settings: Settings) -> None:
    """Without a key, only a program of this machine may ask, and no web page that this machine's browser shows."""
    if settings.require_keys or not settings.is_loopback:
        raise Unauthenticated("send an API key in the header X-API-Key", headers=CHALLENGE)
    # The settings may say loopback while another program put the server, or a proxy, where others reach it.
    if request.client is not None and not _is_loopback(request.client.host):
        raise Unauthenticated("from another machine, send an API key in the header X-API-Key", headers=CHALLENGE)
    # A page of the web can make a browser ask this server, under a name that it made to resolve to loopback.
    if not _is_loopback(_host_name("Host", f"//{request.headers.get('host', '')}")):
        raise Unauthenticated("without an API key, ask for 127.0.0.1 or localhost", headers=CHALLENGE)
    origin = request.headers.get("origin")
    if origin is not None and not _is_loopback(_host_name("Origin", origin)):
        raise Unauthenticated("a page of another site may not ask without an API key", headers=CHALLENGE)


def _host_name(header: str, url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError as error:
        detail = f"the header {header} is not well-formed"
        raise BadRequest(detail, errors=[{"pointer": f"/header/{header}", "detail": detail}]) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _caller(request: Request, key: Annotated[str | None, Security(KEY_HEADER)]) -> Caller:
    # The parameter declares the header in the OpenAPI document; `identify` reads it, for routes ask before parsing.
    return await identify(request)


CallerDep = Annotated[Caller, Depends(_caller)]


def check_scope(caller: Caller, scope: str) -> None:
    """Refuse a caller without the scope.

    Raises:
        Forbidden: the key lacks it.
    """
    if scope not in caller.scopes:
        raise Forbidden(f"this needs a key with the scope {scope}; yours has {', '.join(sorted(caller.scopes))}")


def require(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that lets only callers with the scope through."""

    async def check(caller: CallerDep) -> Caller:
        check_scope(caller, scope)
        return caller

    return check


ReaderDep = Annotated[Caller, Depends(require("read"))]
SubmitterDep = Annotated[Caller, Depends(require("submit"))]
AdminDep = Annotated[Caller, Depends(require("admin"))]
