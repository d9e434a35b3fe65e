"""Who asks, and what they may see."""

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


LOCAL_CALLER = Caller("local", frozenset(SCOPES))
