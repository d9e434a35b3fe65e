"""Multipart forms: Starlette spools their files to disk, FastAPI reads their fields; here is what both leave out.

The bytes count against the caller's key as they arrive, a part may come only once, and two forms are the same when
they hold the same, whatever their boundaries.
"""

from collections.abc import AsyncGenerator
from hashlib import file_digest
from typing import Annotated

from fastapi import Form, Request, UploadFile
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile as ReceivedFile

from app.api.dependencies import check_scope
from app.api.route import Route, StrictRequest
from app.contracts.caller import LOCAL_CALLER, Caller
from app.errors import Invalid, UnsupportedMediaType
from app.services.quotas import Quotas

MOST_FILES = 4
MOST_TEXTS = 20
LONGEST_TEXT = 65_536
COUNT_EVERY = 4_000_000

# Beside a model that holds files; FastAPI would declare it as a form without any.
MULTIPART = Form(media_type="multipart/form-data")


def _a_file(value: object) -> object:
    if isinstance(value, str):
        raise ValueError("send this part as a file, with a file name")
    return value


FilePart = Annotated[UploadFile, BeforeValidator(_a_file)]


class FormRequest(StrictRequest):
    """A request whose bytes count against what its key may send; without a key nothing is counted."""

    caller: Caller

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece."""
        quotas: Quotas = self.app.state.quotas
        uncounted = 0
        async for chunk in super().stream():
            uncounted += len(chunk)
            if self.caller.owner != LOCAL_CALLER.owner and (uncounted >= COUNT_EVERY or (uncounted and not chunk)):
                quotas.count_upload(self.caller.owner, bytes_received=uncounted)
                uncounted = 0
            yield chunk


class FormRoute(Route):
    """Use it as the `route_class` of a router whose POST routes take a model with `MULTIPART`."""

    async def read(self, request: Request, caller: Caller) -> StrictRequest:
        """Receive the form of a caller who may send one.

        Raises:
            Forbidden: the caller may not submit anything.
            UnsupportedMediaType: the body is not a form.
            Invalid: a part comes twice.
            TooManyRequests: the key has sent too many bytes.
        """
        check_scope(caller, "submit")
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise UnsupportedMediaType("this route reads multipart/form-data")
        received = FormRequest(request.scope, request.receive)
        received.caller = caller
        form = await received.form(max_files=MOST_FILES, max_fields=MOST_TEXTS, max_part_size=LONGEST_TEXT)
        names = [name for name, _ in form.multi_items()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise Invalid.at(f"/{twice[0]}", f"the part {twice[0]!r} comes twice")
        return received

    async def content(self, request: Request) -> list[bytes]:
        """Names, texts, names of files and digests of what they hold."""
        parts = [await _digested(name, value) for name, value in (await request.form()).multi_items()]
        return [text.encode() for part in sorted(parts) for text in part]


async def _digested(name: str, value: str | ReceivedFile) -> tuple[str, str, str]:
    if isinstance(value, str):
        return name, "", value
    digest = await run_in_threadpool(lambda: file_digest(value.file, "sha256").hexdigest())  # type: ignore[arg-type]
    await value.seek(0)
    return name, value.filename or "", digest
