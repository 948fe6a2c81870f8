"""Compile the real training step for chips that one does not own; read what it needs.

Nothing is computed: shapes go in, and XLA's compiler for the TPU or GPU says how much
memory the program takes and what it sends between chips. Speed and numbers stay
unproven; the estimate of a step's time is arithmetic on data sheets, no measurement.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.errors import JaxRuntimeError
from jax.experimental import topologies
from jax.sharding import Mesh

from jaxssl.data import pipeline
from jaxssl.train import chips, flops, hlo, sharding, start, step
from jaxssl.train.chips import GIB, Topology
from jaxssl.types import Batch, Task, UserError

TPU_SETTINGS = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
"""Let the compiler of TPUs start on a machine without one, and beside another."""

ADVICE = (
    "Take more chips along mesh.data, a smaller train.batch_size, or the same batch in "
    "compute.micro_batches; compute.remat=True and compute.dtype=bfloat16 need less of "
    "temporary arrays; mesh.params=fsdp and mesh.rules over mesh.model split the state."
)


class Memory(NamedTuple):
    """Bytes on each chip.

    Attributes:
      arguments: the state, the batch and the meter.
      outputs: what comes out beyond the state that went in.
      temporaries: what the step needs while it runs.
      code: the program.
      peak: what XLA expects to be in use at once, by its own count.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int
    peak: int

    @property
    def total(self) -> int:
        """Return what is reserved: all parts at once."""
        return self.arguments + self.outputs + self.temporaries + self.code


class Report(NamedTuple):
    """What a compiled step needs.

    Attributes:
      topology: what it was compiled for.
      mesh: devices along each axis.
      params: the preset of ``mesh``.
      batch_size: rows of a global batch.
      memory: of one chip.
      work: matrix products and convolutions of the whole step.
      xla_flops: of one chip, loops once; None where the compiler does not tell.
      xla_bytes: from and to HBM, of one chip, likewise.
      traffic: collectives of one chip, by kind.
      seconds: that the compiler took.
      program: SHA-256 of the program before it was compiled.
    """

    topology: Topology
    mesh: dict[str, int]
    params: str
    batch_size: int
    memory: Memory
    work: flops.Work
    xla_flops: float | None
    xla_bytes: float | None
    traffic: dict[str, hlo.Traffic]
    seconds: float
    program: str

    @property
    def spare(self) -> float:
        """Return the share of a chip's memory that is left."""
        return 1 - self.memory.total / self.topology.chip.memory

    @property
    def flops(self) -> float:
        """Return the operations of one chip, as if all shared the work evenly."""
        return self.work.total / (self.mesh[sharding.DATA] * self.mesh[sharding.MODEL])

    @property
    def hbm_bytes(self) -> float | None:
        """Return bytes from and to HBM of one chip, loops multiplied out."""
        if self.xla_bytes is None:
            return None
        return self.xla_bytes * self.work.total / max(self.work.once, 1)

    def estimate(self) -> dict[str, float]:
        """Return the seconds that each part would take at the data sheet's peak."""
        chip = self.topology.chip
        moved = sum(
            size * (2 if kind == "all-reduce" else 1)
            for kind, (_, size) in self.traffic.items()
        )
        found = {"compute": self.flops / chip.flops, "links": moved / chip.link}
        if self.hbm_bytes is not None:
            found["HBM"] = self.hbm_bytes / chip.bandwidth
        return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what compilers write to the process's standard error from the user."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def find_devices(topology: Topology) -> list[Any]:
    """Return devices that can be compiled for and hold nothing.

    Raises:
      UserError: the compiler is not installed, or knows no such topology.
    """
    tpu = bool(topology.chip.axes)
    package, extra = ("libtpu", "tpu") if tpu else ("jax_cuda12_plugin", "gpu")
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"--topology={topology.kind}:...: {package}, the compiler for it, is "
            f"missing; run: pip install 'jaxssl[aot-{extra}]'"
        )
    shape = "x".join(map(str, topology.shape))
    try:
        if not tpu:
            return topologies.get_topology_desc(
                platform="cuda",
                topology_name="",
                topology=f"1x{shape}",
                target_config=chips.H100,
            ).devices
        for name, value in TPU_SETTINGS.items():
            os.environ.setdefault(name, value)
        # Else a v4 chip shows its two cores as two devices.
        options = {"chip_config_name": "megacore"} if topology.kind == "v4" else {}
        return topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{topology.kind}:{shape}",
            num_slices=topology.slices,
            **options,
        ).devices
    except JaxRuntimeError as error:
        told = str(error).splitlines()[0]
        raise UserError(
            f"--topology={topology.kind}:{shape} is none that the compiler knows: "
            f"{told} Try one of {chips.EXAMPLES}."
        ) from error


def make_spec(source: Any, *, batch_size: int, seed: int) -> Batch:
    """Return the shapes of a global batch after reading one record."""
    one = start.make_spec(pipeline.batches, source, batch_size=1, seed=seed)
    return {
        name: jax.ShapeDtypeStruct((batch_size, *rows.shape[1:]), rows.dtype)
        for name, rows in one.items()
    }


def lower_step(
    task: Task, spec: Batch, layout: sharding.Config, topology: Topology
) -> tuple[Mesh, jax.stages.Traced, jax.stages.Lowered]:
    """Write the step down in the compiler's language, for these chips.

    Raises:
      UserError: settings do not fit.
    """
    with quiet():
        devices = find_devices(topology)
    mesh = sharding.make_mesh(layout, devices)
    sharding.check_batch(next(iter(spec.values())).shape[0], mesh)
    abstract = start.make_abstract(task, spec, mesh, layout)
    traced, _ = step.trace(task, abstract, spec, mesh)
    return mesh, traced, traced.lower()


def digest(lowered: jax.stages.Lowered) -> str:
    """Return a hash of a program that has not been compiled."""
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()


def compile_step(
    task: Task, spec: Batch, layout: sharding.Config, topology: Topology
) -> Report:
    """Compile the step that ``jaxssl train`` would take.

    Args:
      task: the method.
      spec: shapes of a global batch.
      layout: the mesh, and how the state lies on it.
      topology: the chips.

    Returns:
      What it needs.

    Raises:
      UserError: settings do not fit, or the program does not fit into the memory.
    """
    mesh, traced, lowered = lower_step(task, spec, layout, topology)
    began = time.monotonic()
    try:
        with quiet():
            compiled = lowered.compile()
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(explain_overflow(str(error), topology)) from error
    costs = compiled.cost_analysis() or {}
    report = Report(
        topology,
        dict(mesh.shape),
        layout.params,
        next(iter(spec.values())).shape[0],
        _memory(compiled.memory_analysis()),
        flops.count(traced.jaxpr.jaxpr),
        costs.get("flops"),
        costs.get("bytes accessed"),
        hlo.collectives(compiled.as_text() or ""),
        time.monotonic() - began,
        digest(lowered),
    )
    if report.spare < 0:  # The compiler for GPUs does not mind.
        raise UserError(
            f"the step does not fit: it needs {report.memory.total / GIB:.2f} GiB of "
            f"the {topology.chip.memory / GIB:.2f} GiB of each chip of {topology}. "
            f"{ADVICE}"
        )
    return report


def _memory(found: Any) -> Memory:
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
        found.peak_memory_in_bytes,
    )


def explain_overflow(message: str, topology: Topology) -> str:
    """Turn the compiler's pages about memory into one line.

    Args:
      message: of its error.
      topology: what was compiled for.
    """
    used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", message)
    temporaries = re.search(
        r"temporaries \(([\d.]+\w)\) exceeds available HBM \(([\d.]+\w)\)", message
    )
    if used:
        what = f"it needs {used[1]}iB of the {used[2]}iB"
    elif temporaries:
        what = (
            f"its temporary arrays alone need {temporaries[1]}iB of the "
            f"{temporaries[2]}iB"
        )
    else:
        what = f"{message.splitlines()[0]} This is the memory"
    return f"the step does not fit: {what} of each chip of {topology}. {ADVICE}"


def render(report: Report) -> str:
    """Return a report in lines for people."""
    memory, chip = report.memory, report.topology.chip
    parts = " + ".join(
        f"{getattr(memory, name) / GIB:.2f} {name}"
        for name in ("arguments", "outputs", "temporaries", "code")
    )
    lines = [
        f"{report.topology}: mesh data {report.mesh['data']} x model "
        f"{report.mesh['model']}, {report.params}, batch {report.batch_size}; compiled "
        f"in {report.seconds:.0f} s",
        f"memory of a chip, GiB: {parts} = {memory.total / GIB:.2f} of "
        f"{chip.memory / GIB:.2f}, {report.spare:.0%} spare "
        f"(at once in use, by XLA: {memory.peak / GIB:.2f})",
        f"arithmetic: {report.work.total / 1e9:,.1f} GFLOP a step in matrix products "
        f"and convolutions, {report.flops / 1e9:,.2f} on a chip" + _xla_words(report),
    ]
    if report.hbm_bytes:
        lines.append(
            f"intensity: {report.flops / report.hbm_bytes:.1f} FLOP a byte of HBM; "
            f"{chip.flops / chip.bandwidth:.0f} keep this chip's matrix units busy"
        )
    sent = [
        f"{count} {kind}, {size / 1e6:,.2f} MB"
        for kind, (count, size) in sorted(report.traffic.items())
    ]
    lines.append(f"collectives of a chip and step: {'; '.join(sent) or 'none'}")
    found = report.estimate()
    times = ", ".join(f"{name} {1e3 * time:.3f} ms" for name, time in found.items())
    slowest = max(found, key=lambda name: found[name])
    lines.append(
        f"ESTIMATE from data sheets, not measured: {times}; a step takes no less than "
        f"{1e3 * found[slowest]:.3f} ms ({slowest})"
    )
    return "\n".join(lines)


def _xla_words(report: Report) -> str:
    if report.xla_flops is None:
        return ""
    words = f"; XLA counts {report.xla_flops / 1e9:,.2f} on a chip"
    if report.work.once < report.work.total:
        times = report.work.total / report.work.once
        words += f", bodies of loops once (multiplied out: x {times:.2f})"
    return words


def to_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values; sizes in bytes, times in seconds."""
    return {
        "topology": str(report.topology),
        "mesh": report.mesh,
        "params": report.params,
        "batch_size": report.batch_size,
        "memory": report.memory._asdict() | {"total": report.memory.total},
        "hbm": report.topology.chip.memory,
        "spare": report.spare,
        "flops": report.work._asdict() | {"chip": report.flops},
        "xla": {"flops": report.xla_flops, "bytes": report.xla_bytes},
        "collectives": {k: v._asdict() for k, v in sorted(report.traffic.items())},
        "estimate": report.estimate(),
        "seconds": report.seconds,
        "program": report.program,
    }
