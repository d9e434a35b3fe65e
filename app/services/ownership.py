"""Who may change what."""

from app.contracts.caller import Caller
from app.errors import Forbidden


def check_owner(caller: Caller, owner: str, thing: str, *, to: str = "change") -> None:
    """Let the owner and admins pass.

    Args:
        owner: of the thing.
        thing: how a message names it.
        to: what the caller wants to do with it.

    Raises:
        Forbidden: it belongs to somebody else.
    """
    if not caller.owns(owner):
        raise Forbidden(f"{thing} belongs to another key; only that key or an admin may {to} it")
