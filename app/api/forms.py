"""Multipart forms, streamed to disk: nothing of a file is kept in memory."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from fastapi import Request, Response
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from app.api.route import replay, request_digest
from app.contracts.caller import LOCAL_CALLER, Caller
from app.errors import BadRequest, Invalid, UnsupportedMediaType
from app.services.quotas import Quotas
from app.services.retries import Attempt

LONGEST_TEXT = 65_536
COUNT_EVERY = 4_000_000


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file of a form."""

    path: Path
    name: str
    digest: str


@dataclass(slots=True)
class Form:
    """What was received."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, ReceivedFile] = field(default_factory=dict)

    def digest_parts(self) -> list[bytes]:
        """What makes two forms the same, whatever their boundaries and order."""
        pairs = [*self.texts.items(), *((name, file.digest) for name, file in self.files.items())]
        return [part.encode() for pair in sorted(pairs) for part in pair]


async def receive_form(
    request: Request,
    folder: Path,
    *,
    texts: Collection[str],
    files: Collection[str],
    count: Callable[[int], None],
) -> Form:
    """Read a form whose parts have these names; a part of both kinds is a file if it has a file name.

    Args:
        request: its body has not been read.
        folder: where the files are written.
        texts: names of parts that may be text.
        files: names of parts that may be files.
        count: called with numbers of bytes as they arrive; may raise.

    Raises:
        UnsupportedMediaType: the body is not a form.
        BadRequest: the body is not a well-formed form.
        Invalid: a part has another name, comes twice, or is a text that is too long or not UTF-8.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType("this route reads multipart/form-data")
    if not options.get(b"boundary"):
        raise BadRequest("the Content-Type names no boundary")
    receiver = _Receiver(folder, texts, files)
    uncounted = 0
    try:
        parser = MultipartParser(options[b"boundary"], receiver.callbacks())
        async for chunk in request.stream():
            # Writes to disk may wait; other requests need not.
            await run_in_threadpool(parser.write, chunk)
            uncounted += len(chunk)
            if uncounted >= COUNT_EVERY:
                count(uncounted)
                uncounted = 0
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(f"the form is malformed: {error}") from error
    finally:
        receiver.close()
    if not receiver.ended:
        raise BadRequest("the form ends before its last boundary")
    if uncounted:
        count(uncounted)
    return receiver.form


class _Receiver:
    """Follows the parser from part to part."""

    def __init__(self, folder: Path, texts: Collection[str], files: Collection[str]) -> None:
        self.form = Form()
        self.ended = False
        self._folder = folder
        self._allowed_texts = texts
        self._allowed_files = files
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._name = ""
        self._file_name: str | None = None
        self._sink: IO[bytes] | None = None
        self._path = folder
        self._digest = sha256()
        self._text = bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all_ended,
        }

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        given = options.get(b"filename")
        is_file = given is not None and self._name in self._allowed_files
        if not is_file and self._name not in self._allowed_texts:
            expected = ", ".join(dict.fromkeys([*self._allowed_files, *self._allowed_texts]))
            kind = "a file" if self._name in self._allowed_files else "known here"
            raise _wrong(self._name, f"the part {self._name!r} is not {kind}; parts are: {expected}")
        if self._name in self.form.texts or self._name in self.form.files:
            raise _wrong(self._name, f"the part {self._name!r} comes twice")
        self._digest = sha256()
        self._text = bytearray()
        if is_file and given is not None:
            self._file_name = given.decode("utf-8", "replace")
            # The name on disk is ours, never the client's.
            self._path = self._folder / f"part-{len(self.form.files)}"
            self._sink = self._path.open("xb")
        else:
            self._file_name = None

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._sink is not None:
            self._sink.write(piece)
            self._digest.update(piece)
            return
        self._text += piece
        if len(self._text) > LONGEST_TEXT:
            raise _wrong(self._name, f"the text {self._name!r} is longer than {LONGEST_TEXT} bytes")

    def _end(self) -> None:
        if self._sink is not None:
            self.close()
            file = ReceivedFile(self._path, self._file_name or "", self._digest.hexdigest())
            self.form.files[self._name] = file
            return
        try:
            text = self._text.decode()
        except UnicodeDecodeError as error:
            raise _wrong(self._name, f"the text {self._name!r} is not UTF-8") from error
        if "\0" in text:
            raise _wrong(self._name, f"the text {self._name!r} holds a null character")
        self.form.texts[self._name] = text

    def _all_ended(self) -> None:
        self.ended = True


def _wrong(name: str, detail: str) -> Invalid:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return Invalid(detail, errors=[{"pointer": pointer, "detail": detail}])


async def replay_form(request: Request, form: Form) -> Response | None:
    """The first answer to this form under its Idempotency-Key, if it had one before; None: go on."""
    attempt: Attempt | None = getattr(request.state, "attempt", None)
    if attempt is None:
        return None
    stored = await run_in_threadpool(attempt.begin, request_digest(request, *form.digest_parts()))
    return None if stored is None else replay(stored)


def upload_counter(request: Request, caller: Caller) -> Callable[[int], None]:
    """Counts bytes against what the caller's key may send; without a key nothing is counted."""
    quotas: Quotas = request.app.state.quotas

    def count(received: int) -> None:
        if caller.owner != LOCAL_CALLER.owner:
            quotas.count_upload(caller.owner, bytes_received=received)

    return count
