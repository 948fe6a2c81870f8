"""Compile the training step for accelerators that are not here; report its needs.

Nothing is computed: from shapes alone XLA's compiler for the TPU or GPU tells how much
memory the program takes and what the program sends between chips. Neither speed nor
values are tested; the least time of a step is arithmetic on data sheets.
"""

import contextlib
import hashlib
import importlib.util
import math
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

from jaxssl.aot import accelerators, collectives, flops
from jaxssl.aot.accelerators import GIB, Topology
from jaxssl.distributed import mesh as meshes
from jaxssl.distributed import partition
from jaxssl.errors import UserError
from jaxssl.text import first_line
from jaxssl.train import state_init, step
from jaxssl.types import Batch, Task, TrainState

# Environment variables with which the compiler for TPUs starts on a machine without a
# TPU, and while another process uses it.
TPU_SETTINGS = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

# The end of the line about a step that does not fit into the memory of a chip.
ADVICE = (
    "Take more chips along mesh.data, a smaller train.batch_size, or the same batch in "
    "compute.micro_batches; compute.remat=True and compute.dtype=bfloat16 need less of "
    "temporary arrays; mesh.params=fsdp and mesh.rules over mesh.model split the state."
)


class Memory(NamedTuple):
    """Bytes on each chip.

    Attributes:
      arguments: the state, the batch and the meter.
      outputs: outputs that do not reuse the memory of an argument.
      temporaries: arrays that exist while the step runs.
      code: the program.
      peak: the largest sum in use at one time, as XLA counts.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int
    peak: int

    @property
    def total(self) -> int:
        """Return the bytes that are reserved: the sum of all parts."""
        return self.arguments + self.outputs + self.temporaries + self.code


class Report(NamedTuple):
    """The needs of a compiled step.

    Attributes:
      topology: the accelerators.
      mesh: devices along each axis.
      sharers: devices that share the arithmetic. Devices along ``model`` share it only
        if a rule splits an array over ``model``; otherwise they repeat it.
      params: the setting ``mesh.params``.
      batch_size: rows of a global batch.
      memory: memory of one chip.
      work: matrix products and convolutions of the whole step.
      xla_flops: XLA's count of operations of one chip, with each loop counted once;
        None if the compiler has no count.
      xla_bytes: XLA's count of bytes that the operations of one chip access, with each
        loop counted once; None if the compiler has no count. Every operation counts
        its operands, also those in caches, so HBM moves far fewer bytes.
      traffic: collectives of one chip, by kind.
      seconds: the time of the compiler.
      program: SHA-256 of the program before compilation.
    """

    topology: Topology
    mesh: dict[str, int]
    sharers: int
    params: str
    batch_size: int
    memory: Memory
    work: flops.Work
    xla_flops: float | None
    xla_bytes: float | None
    traffic: dict[str, collectives.Traffic]
    seconds: float
    program: str

    @property
    def spare(self) -> float:
        """Return the share of a chip's memory that is left."""
        needed = max(self.memory.total, self.memory.peak)
        return 1 - needed / self.topology.chip.memory

    @property
    def flops(self) -> float:
        """Return the operations of one chip, as if they were shared evenly."""
        return self.work.total / self.sharers

    def least(self) -> dict[str, float]:
        """Return the least seconds of a step for each part of a chip at its peak.

        Arguments are read once and new outputs are written once; bytes that move again
        in between are not known. Links between slices or hosts are slower than these.
        """
        chip = self.topology.chip
        moved = sum(
            size * (2 if kind == "all-reduce" else 1)
            for kind, (_, size) in self.traffic.items()
        )
        return {
            "compute": self.flops / chip.flops,
            "links": moved / chip.link,
            "HBM": (self.memory.arguments + self.memory.outputs) / chip.bandwidth,
        }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what compilers write to the standard error of the process."""
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
    """Return abstract devices, which programs can be compiled for.

    Raises:
      UserError: the compiler is not installed, or does not know the topology.
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
                target_config=accelerators.H100.read_text(),
            ).devices
        for name, value in TPU_SETTINGS.items():
            os.environ.setdefault(name, value)
        # Without "megacore" the two cores of a v4 chip are two devices.
        options = {"chip_config_name": "megacore"} if topology.kind == "v4" else {}
        return topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{topology.kind}:{shape}",
            num_slices=topology.slices,
            **options,
        ).devices
    except JaxRuntimeError as error:
        raise UserError(
            f"--topology={topology.kind}:{shape} is none that the compiler knows: "
            f"{first_line(error)} Try one of {accelerators.EXAMPLES}."
        ) from error


class Lowered(NamedTuple):
    """A step in the language of the compiler.

    Attributes:
      mesh: a mesh of abstract devices.
      state: shapes, dtypes and shardings of the state.
      traced: the step as a jaxpr.
      program: the step as StableHLO, for the compiler.
    """

    mesh: Mesh
    state: TrainState
    traced: jax.stages.Traced
    program: jax.stages.Lowered

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the program."""
        return hashlib.sha256(self.program.as_text().encode()).hexdigest()


def lower_step(
    task: Task, spec: Batch, layout: meshes.MeshConfig, topology: Topology
) -> Lowered:
    """Trace the step and lower it to the language of the compiler.

    Args:
      task: the method.
      spec: shapes of a global batch.
      layout: the section ``mesh``.
      topology: the accelerators.

    Returns:
      The lowered step.

    Raises:
      UserError: settings do not fit.
    """
    with quiet():
        devices = find_devices(topology)
    mesh = meshes.make_mesh(layout, devices)
    meshes.check_batch(next(iter(spec.values())).shape[0], mesh)
    abstract = state_init.make_abstract(task, spec, mesh, layout)
    traced, _ = step.trace(task, abstract, spec, mesh)
    return Lowered(mesh, abstract, traced, traced.lower())


def compile_step(
    task: Task, spec: Batch, layout: meshes.MeshConfig, topology: Topology
) -> Report:
    """Compile the step that ``jaxssl train`` would take.

    Args:
      task: the method.
      spec: shapes of a global batch.
      layout: the section ``mesh``.
      topology: the accelerators.

    Returns:
      The needs of the step.

    Raises:
      UserError: settings do not fit, or the program does not fit into the memory.
    """
    lowered = lower_step(task, spec, layout, topology)
    began = time.monotonic()
    try:
        with quiet():
            compiled = lowered.program.compile()
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(explain_overflow(str(error), topology)) from error
    costs = compiled.cost_analysis() or {}
    report = Report(
        topology=topology,
        mesh=dict(lowered.mesh.shape),
        sharers=math.prod(
            lowered.mesh.shape[axis]
            for axis in {meshes.DATA, *partition.axes(lowered.state)}
        ),
        params=layout.params,
        batch_size=next(iter(spec.values())).shape[0],
        memory=_memory(compiled.memory_analysis()),
        work=flops.count(lowered.traced.jaxpr.jaxpr),
        xla_flops=costs.get("flops"),
        xla_bytes=costs.get("bytes accessed"),
        traffic=collectives.collectives(compiled.as_text() or ""),
        seconds=time.monotonic() - began,
        program=lowered.digest,
    )
    if report.spare < 0:  # The compiler for GPUs does not refuse such a program.
        raise UserError(
            f"the step does not fit: it needs {report.memory.total / GIB:.2f} GiB of "
            f"the {topology.chip.memory / GIB:.2f} GiB of each chip of {topology}. "
            f"{ADVICE}"
        )
    return report


def _memory(stats: Any) -> Memory:
    return Memory(
        stats.argument_size_in_bytes,
        stats.output_size_in_bytes - stats.alias_size_in_bytes,
        stats.temp_size_in_bytes,
        stats.generated_code_size_in_bytes,
        stats.peak_memory_in_bytes,
    )


def explain_overflow(message: str, topology: Topology) -> str:
    """Turn the compiler's error about memory, many pages long, into one line.

    Args:
      message: the text of the error.
      topology: the accelerators.
    """
    used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", message)
    temporaries = re.search(
        r"temporaries \(([\d.]+\w)\) exceeds available HBM \(([\d.]+\w)\)", message
    )
    if used:
        need = f"it needs {used[1]}iB of the {used[2]}iB"
    elif temporaries:
        need = (
            f"its temporary arrays alone need {temporaries[1]}iB of the "
            f"{temporaries[2]}iB"
        )
    else:
        need = f"{message.splitlines()[0]} This is the memory"
    return f"the step does not fit: {need} of each chip of {topology}. {ADVICE}"


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
        f"and convolutions, {report.flops / 1e9:,.2f} on a chip" + _xla_text(report),
    ]
    if report.xla_flops and report.xla_bytes:
        lines.append(
            f"intensity: {report.xla_flops / report.xla_bytes:.1f} FLOP a byte, or "
            "more (XLA counts all operands of each operation); "
            f"{chip.flops / chip.bandwidth:.0f} keep this chip's matrix units busy"
        )
    sent = [
        f"{count} {kind}, {size / 1e6:,.2f} MB"
        for kind, (count, size) in sorted(report.traffic.items())
    ]
    lines.append(f"collectives of a chip and step: {'; '.join(sent) or 'none'}")
    least = report.least()
    times = ", ".join(f"{name} {1e3 * time:.3f} ms" for name, time in least.items())
    slowest = max(least, key=lambda name: least[name])
    lines.append(
        f"ESTIMATE from data sheets, not measured, of the least time: {times}; so a "
        f"step takes at least {1e3 * least[slowest]:.3f} ms ({slowest})"
    )
    return "\n".join(lines)


def _xla_text(report: Report) -> str:
    if report.xla_flops is None:
        return ""
    counted = f"; XLA counts {report.xla_flops / 1e9:,.2f} on a chip"
    if report.work.once < report.work.total:
        times = report.work.total / report.work.once
        counted += f", bodies of loops once (multiplied out: x {times:.2f})"
    return counted


def to_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values; sizes in bytes, times in seconds."""
    return {
        "topology": str(report.topology),
        "mesh": report.mesh,
        "sharers": report.sharers,
        "params": report.params,
        "batch_size": report.batch_size,
        "memory": report.memory._asdict() | {"total": report.memory.total},
        "hbm": report.topology.chip.memory,
        "spare": report.spare,
        "flops": report.work._asdict() | {"chip": report.flops},
        "xla": {"flops": report.xla_flops, "bytes": report.xla_bytes},
        "collectives": {k: v._asdict() for k, v in sorted(report.traffic.items())},
        "least": report.least(),
        "seconds": report.seconds,
        "program": report.program,
    }
