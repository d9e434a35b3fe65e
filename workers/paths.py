"""The roots that a path from outside must lie under."""

from collections.abc import Iterable
from pathlib import Path


def lies_under(path: Path, roots: Iterable[Path]) -> bool:
    """Whether ``path``, with all links resolved, is one of ``roots`` or inside one."""
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return False
    return any(resolved.is_relative_to(root.resolve()) for root in roots)
