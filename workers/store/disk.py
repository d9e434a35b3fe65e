"""Room on a disk for files that are written through memory maps."""

import errno
import os

DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def reserve(descriptor: int, size: int) -> None:
    """Give a file its blocks before it is mapped: writing to a page without one, on a full disk, ends the process.

    Raises:
        OSError: the disk has no room (``DISK_IS_FULL``).
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
