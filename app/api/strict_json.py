"""JSON as the standard defines it, and no more of it than any route asks for."""

import json
from typing import Any, NoReturn

from app.contracts.base import LONGEST_LIST
from app.errors import BadRequest, Invalid

DEEPEST = 32
MOST_VALUES = 50_000
INTEGERS = range(-(2**63), 2**63)


def read(body: bytes) -> Any:
    """The value that a body holds.

    Raises:
        BadRequest: it is not JSON; or it holds NaN, an infinity, a null character or half a surrogate pair (which
            PostgreSQL does not store), or is nested too deeply.
        Invalid: a list is longer than any that is asked for, an integer has over 64 bits, or there are too many values.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"the body is not JSON that can be read: {reason}") from error
    check(value)
    return value


def check(value: Any, pointer: str = "") -> None:
    """Refuse what `read` refuses, in a value that is parsed already; ``pointer`` is its place in the request."""
    waiting: list[tuple[Any, str, int]] = [(value, pointer, 0)]
    values = 1
    while waiting:
        item, place, depth = waiting.pop()
        if depth > DEEPEST:
            raise BadRequest(f"the body is nested more than {DEEPEST} deep")
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, int):
            if item not in INTEGERS:
                raise Invalid.at(place, "an integer of more than 64 bits cannot be used here")
        elif isinstance(item, (dict, list)):
            values += len(item)
            if isinstance(item, list) and len(item) > LONGEST_LIST:
                raise Invalid.at(place, f"{len(item)} items are too many; no list may have over {LONGEST_LIST}")
            if values > MOST_VALUES:
                raise Invalid.at(place, f"the request holds more than {MOST_VALUES} values")
            members = item.items() if isinstance(item, dict) else enumerate(item)
            for name, member in members:
                if isinstance(name, str):
                    _check_text(name)
                waiting.append((member, f"{place}/{pointer_part(name)}", depth + 1))


def pointer_part(name: object) -> str:
    """A name in a JSON pointer; cut, for a client may send a name of any length."""
    return str(name)[:100].replace("~", "~0").replace("/", "~1")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _check_text(text: str) -> None:
    if "\0" in text:
        raise BadRequest("a string in the body holds a null character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest("a string in the body holds half of a surrogate pair") from error
