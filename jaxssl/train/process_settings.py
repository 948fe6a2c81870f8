"""Settings of the whole process: the cache of compiled programs, freed memory."""

import ctypes
import hashlib
import os
import platform
import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import jax

from jaxssl.config import checks

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # From glibc's malloc.h.
GLIBC_KEEP = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
"""No block on its own, nothing given back, and one heap, as others are bounded."""


def use_compilation_cache() -> None:
    """Keep compiled programs between processes, apart for each kind of processor.

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


def keep_freed_memory() -> None:
    """On a machine without accelerators, let the process keep the memory it frees.

    XLA allocates the temporary memory of a step anew each time. glibc maps so large a
    block and unmaps it afterwards, so each step faults in all its pages again, which
    takes a tenth to a fifth of a step (docs/benchmarks.md). Has to be called before
    XLA starts its threads, so it asks which plugins are installed and not which devices
    there are. Other C libraries are left alone, and so are settings from outside, the
    variables ``MALLOC_*``.
    """
    accelerated = entry_points(group="jax_plugins") or find_spec("libtpu")
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if accelerated or chosen or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in GLIBC_KEEP:
        mallopt(parameter, value)


def _processor() -> str:
    """Name this processor's instruction set: compiled code does not run on another."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else platform.processor()
    features = re.search(r"^(flags|Features)\s*:.*$", text, re.M)
    told = features[0] if features else text
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}"
