"""From a recipe to something that can run: its settings checked, its objects built."""

import ctypes
import functools
import hashlib
import os
import platform
import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from jaxssl import settings
from jaxssl.data import pipeline
from jaxssl.experiment import Experiment
from jaxssl.train import loop, recipe, sharding, start
from jaxssl.types import Batch, UserError

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # From glibc's malloc.h.
GLIBC_KEEP = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
"""No block on its own, nothing given back, and one heap, as others are bounded."""


class Setup(NamedTuple):
    """A recipe, checked and built.

    Attributes:
      seed: of the run.
      train: the section ``train``.
      mesh: the section ``mesh``.
      experiment: what the file's ``build`` returned.
      batches: the input pipeline, in the experiment's order.
    """

    seed: int
    train: loop.Config
    mesh: sharding.Config
    experiment: Experiment
    batches: start.Pipeline

    def spec(self) -> Batch:
        """Return the shapes of a global batch; reads one record.

        Raises:
          UserError: more records than ``train.max_bad_records`` cannot be read.
        """
        return start.make_spec(
            self.experiment.train_set,
            batch_size=self.train.batch_size,
            max_bad_records=self.train.max_bad_records,
        )


def set_up(chosen: recipe.Recipe) -> Setup:
    """Check what every config has, then build the experiment.

    Raises:
      UserError: a section is missing or wrong, or ``build`` refuses the values.
    """
    config = chosen.config
    for name, kind in (("seed", int), ("train", ConfigDict), ("mesh", ConfigDict)):
        if not isinstance(config.get(name), kind):
            what = "an integer" if kind is int else "a section"
            raise UserError(f"config.{name} is missing or not {what} in {chosen.file}.")
    for name, value in recipe.flatten(config.to_dict()).items():
        path = name.startswith("init_from.") or name.endswith("data_dir")
        if path and isinstance(value, str):
            settings.local_path(f"config.{name}", value)
    if not 0 <= config.seed < 2**32:
        raise UserError(f"config.seed is {config.seed!r}; give 0 to 2**32 - 1.")
    sections: Any = config
    train = settings.from_config(loop.Config, sections.train, where="config.train")
    mesh = settings.from_config(sharding.Config, sections.mesh, where="config.mesh")
    built = recipe.build(chosen)
    if not isinstance(built, Experiment):
        raise UserError(
            f"build() of {chosen.file} returned {type(built).__name__}; "
            "it must return a jaxssl.experiment.Experiment."
        )
    batches = functools.partial(pipeline.batches, order=built.order)
    return Setup(config.seed, train, mesh, built, batches)


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
    settings.local_path("JAXSSL_CACHE", folder)
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
