"""Whose request it is, and what they may see."""

from collections.abc import Iterable
from dataclasses import dataclass

SCOPES = ("read", "submit", "admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """The key behind a request; `owner` is ``local`` where no key is asked."""

    owner: str
    scopes: frozenset[str]

    @property
    def is_admin(self) -> bool:
        """Whether the caller sees everybody's things."""
        return "admin" in self.scopes

    def owns(self, owner: str) -> bool:
        """Whether what belongs to ``owner`` is the caller's to change."""
        return owner == self.owner or self.is_admin

    def name(self, things: Iterable[tuple[str, str]]) -> str:
        """Things, given with their owners, for a message: the caller's by name, those of other keys by number alone."""
        all_things = list(things)
        shown = [name for name, owner in all_things if self.owns(owner)]
        if hidden := len(all_things) - len(shown):
            shown.append(f"{hidden} of other keys")
        return ", ".join(shown)


LOCAL_CALLER = Caller("local", frozenset(SCOPES))
