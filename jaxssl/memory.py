"""How much memory is at hand."""

import os
import resource
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")
CGROUP = Path("/sys/fs/cgroup")


def available() -> int:
    """Return the bytes that this process can still take.

    They are bounded by what the machine has left, by the limit of the container, and by
    the limit of the process (``ulimit -v``).
    """
    bounds = [_machine(), _container(), _process()]
    return max(0, min(bound for bound in bounds if bound is not None))


def _machine() -> int:
    if MEMINFO.exists():
        for line in MEMINFO.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * PAGE


def _container() -> int | None:
    limit, stat = CGROUP / "memory.max", CGROUP / "memory.stat"
    if not limit.exists() or limit.read_text().strip() == "max":
        return None
    # Of what counts against the limit, cached files make room when it is needed.
    kept = dict(line.split() for line in stat.read_text().splitlines())["anon"]
    return int(limit.read_text()) - int(kept)


def _process() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or not STATM.exists():
        return None
    return limit - int(STATM.read_text().split()[0]) * PAGE
