"""Settings of the whole process: the cache of compiled programs, and malloc."""

import contextlib
import ctypes
import hashlib
import os
import platform
import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
from jax._src import compilation_cache, compiler

from jaxssl.config import checks
from jaxssl.distributed import coordination

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

# Disable mmap for large blocks, disable trimming (by the largest threshold, in bytes),
# and use one arena, because the size of every other arena is bounded.
GLIBC_KEEP = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))


def use_compilation_cache() -> None:
    """Keep compiled programs on disk, in one folder for each kind of processor.

    The folder is ``JAXSSL_CACHE``, or ``jaxssl/xla`` in the user's cache; an empty
    ``JAXSSL_CACHE`` keeps nothing.

    Raises:
      UserError: ``JAXSSL_CACHE`` is no path.
    """
    folder = os.environ.get("JAXSSL_CACHE")
    if folder is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = str(Path(base) / "jaxssl" / "xla")
    if not folder:
        return
    checks.local_path("JAXSSL_CACHE", folder)
    jax.config.update("jax_compilation_cache_dir", str(Path(folder) / _processor()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not coordination.is_first():
        compiler._cache_write = _store_program


def _store_program(
    key: str, seconds: float, name: str, backend: Any, program: Any, callbacks: Any
) -> None:
    """Store a compiled program, on whichever process; jax does so on the first alone.

    Each process has programs of its own, because a program names the devices of its
    process. So no two processes write the same file.
    """
    if not callbacks:
        with contextlib.suppress(OSError):
            compilation_cache.put_executable_and_time(
                key, name, program, backend, int(seconds)
            )


def keep_freed_memory() -> None:
    """On a machine without accelerators, let the process keep the memory it frees.

    XLA allocates the temporary memory of a step anew in each step. glibc maps such a
    large block and unmaps it afterwards, so each step faults in all pages again, which
    takes a tenth to a fifth of a step (docs/benchmarks.md). Call this before XLA starts
    its threads; therefore the function looks for installed plugins, not for devices.
    It changes nothing with another C library, or where a variable ``MALLOC_*`` is set.
    """
    accelerated = entry_points(group="jax_plugins") or find_spec("libtpu")
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if accelerated or chosen or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in GLIBC_KEEP:
        mallopt(parameter, value)


def _processor() -> str:
    """Return a name for this processor's instruction set, which compiled code needs."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else platform.processor()
    features = re.search(r"^(flags|Features)\s*:.*$", text, re.M)
    described = features[0] if features else text
    digest = hashlib.sha256(described.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}"
