"""Limits that the kernel keeps for a child process."""

import os
import resource
import sys
from pathlib import Path

from app.processes.role import Role
from app.settings import Settings

MEGABYTE = 1_000_000
AUTOMATIC_SHARE = 0.8
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_limit_megabytes(role: Role, settings: Settings) -> float | None:
    """What a process of this role may take beyond its libraries."""
    if role.memory_setting is None:
        return None
    return float(getattr(settings, role.memory_setting)) or AUTOMATIC_SHARE * machine_memory() / MEGABYTE


def machine_memory() -> int:
    """Bytes of the machine, or of the container if that may have fewer."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(memory, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        return memory


def limit_memory(role: Role, settings: Settings) -> None:
    """Let the process take so much beyond what it has at this moment.

    RLIMIT_DATA counts private writable memory: not the address space, of which CUDA and allocators reserve far more
    than they use, and not files that are mapped to be read.
    """
    megabytes = memory_limit_megabytes(role, settings)
    if megabytes is None or sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_bytes() + int(megabytes * MEGABYTE)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def limit_processor(role: Role, settings: Settings) -> None:
    """Let the next command use this many seconds of the processor; the kernel counts in whole ones."""
    if role.processor_setting is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime + float(getattr(settings, role.processor_setting))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData")
