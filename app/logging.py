"""Log lines as structlog makes them, in the API and in workers; lines of other libraries take the same form."""

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from app.settings import Settings

# Of one traceback: enough to find the line, little enough to write while requests wait.
FRAMES = 20
CHAIN = 4
CHARACTERS = 8_000
# What passes for a secret wherever it stands: our keys, and passwords in URLs and connection strings.
SECRETS = (
    (re.compile(r"frk_[A-Za-z0-9_-]{8,}"), "frk_***"),
    (re.compile(r"whsec_[A-Za-z0-9+/=_-]{8,}"), "whsec_***"),
    (re.compile(r"(://[^\s:/@'\"]*):[^\s@'\"]+@"), r"\1:***@"),
    (re.compile(r"(?i)(\bpassword['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;)'\"]+)"), r"\1***"),
)

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(settings: Settings) -> None:
    """Send all log lines to standard error, as ``FORERANK_LOG_FORMAT`` and ``FORERANK_LOG_LEVEL`` say."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Any] = [structlog.processors.ExceptionRenderer(short_traceback), redact]
    if settings.log_format == "json":
        renderer.append(structlog.processors.JSONRenderer())
    else:
        renderer.append(
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name in ("alembic", "dbos"):
        # A line for each of a hundred migrations would hide what a user has to read.
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
    # One line a request is written by our own middleware, with the request's id.
    logging.getLogger("uvicorn.access").disabled = True
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def redact(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out of each value of a line what looks like a secret, and cut what is long."""
    for name, value in line.items():
        if value is not None and not isinstance(value, (bool, int, float)):
            line[name] = _redacted(value if isinstance(value, str) else repr(value))
    return line


def _redacted(text: str) -> str:
    text = _cut(text, CHARACTERS)
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


def short_traceback(exc_info: ExceptionInfo) -> str:
    """A traceback without the values of variables: they hold keys, passwords and whole arrays.

    Shown are the last `FRAMES` frames of each exception, the last `CHAIN` exceptions of a chain, and both ends of a
    text over `CHARACTERS` characters.
    """
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None and len(parts) < CHAIN:
        frames = traceback.StackSummary.extract(
            traceback.walk_tb(error.__traceback__), limit=-FRAMES, lookup_lines=True, capture_locals=False
        )
        message = _cut(f"{type(error).__module__}.{type(error).__qualname__}: {error}", CHARACTERS // 4)
        parts.append("Traceback (most recent call last):\n" + "".join(frames.format()) + message)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return _cut("\n\nwhich was caused by, or came after:\n\n".join(parts), CHARACTERS)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n... ({len(text) - most} characters) ...\n{text[-most // 2 :]}"
