"""Accelerators for which a program can be compiled on a machine without them."""

import re
from pathlib import Path
from typing import NamedTuple

from jaxssl.config.checks import nearest
from jaxssl.errors import UserError

GIB = 2**30


class Accelerator(NamedTuple):
    """The data sheet of one chip.

    Attributes:
      memory: bytes of HBM that a program may fill.
      flops: peak floating-point operations a second in bfloat16.
      bandwidth: bytes a second from HBM.
      link: bytes a second to other chips, in one direction, over all links.
      axes: number of axes of a topology; 0 for GPUs, which a switch joins.
    """

    memory: int
    flops: float
    bandwidth: float
    link: float
    axes: int


# Kind of accelerator to its data sheet, with the source of its numbers.
ACCELERATORS = {
    # https://cloud.google.com/tpu/docs/v4: 275 TFLOPs, 32 GiB, 1200 GBps; all-reduce
    # of a pod of 4096 chips 1.1 PB/s.
    "v4": Accelerator(32 * GIB, 275e12, 1200e9, 1.1e15 / 4096, 3),
    # https://cloud.google.com/tpu/docs/v5e: 197 TFLOPs, 16 GB, 819 GBps; links of 400
    # GBps, both directions together.
    "v5e": Accelerator(16 * GIB, 197e12, 819e9, 200e9, 2),
    # https://cloud.google.com/tpu/docs/v5p: 459 TFLOPs, 95 GiB, 2765 GBps; links of
    # 1200 GBps, both directions together.
    "v5p": Accelerator(95 * GIB, 459e12, 2765e9, 600e9, 3),
    # https://cloud.google.com/tpu/docs/v6e: 918 TFLOPs, 32 GB, 1600 GBps; links of 800
    # GBps, both directions together.
    "v6e": Accelerator(32 * GIB, 918e12, 1600e9, 400e9, 2),
    # https://www.nvidia.com/en-us/data-center/h100 (SXM): 1979 TFLOPS with sparsity,
    # so half of it; 3.35 TB/s; NVLink 900 GB/s, both directions together. The driver
    # reports 84.9 GB, of which jax takes three quarters:
    # https://docs.jax.dev/en/latest/gpu_memory_allocation.html
    "h100": Accelerator(84_929_347_584 * 3 // 4, 989e12, 3350e9, 450e9, 0),
}

# Topologies for error messages, at least one for each kind.
EXAMPLES = "v4:2x2x2, v5e:2x4, v5e:16x16, v5p:2x2x2, v6e:4x4, h100:8, h100:2x8"

# XLA's description of a GPU that is not there, its ``GpuTargetConfigProto``.
H100 = Path(__file__).with_name("h100.txtpb")


class Topology(NamedTuple):
    """Accelerators and how they are joined.

    Attributes:
      kind: key of ``ACCELERATORS``.
      shape: chips along each axis of a TPU slice; or hosts and GPUs of each host.
      slices: number of TPU slices of this shape, which a slower network joins.
    """

    kind: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chip(self) -> Accelerator:
        """Return the data sheet of one chip."""
        return ACCELERATORS[self.kind]

    def __str__(self) -> str:
        name = f"{self.kind}:{'x'.join(map(str, self.shape))}"
        return f"{self.slices} slices of {name}" if self.slices > 1 else name


def parse(name: str, slices: int = 1) -> Topology:
    """Read ``KIND:SHAPE``.

    Args:
      name: kind and chips along each axis, as ``v5e:16x16``; for GPUs their number, as
        ``h100:8``, or hosts and GPUs of each host, as ``h100:2x8``.
      slices: number of TPU slices.

    Returns:
      The topology.

    Raises:
      UserError: the name or the number of slices is not possible.
    """
    kind, _, shape = name.partition(":")
    if kind not in ACCELERATORS:
        raise UserError(
            f"--topology is {name!r}; it starts with one of {', '.join(ACCELERATORS)}, "
            f"as in {EXAMPLES}.{nearest(kind, ACCELERATORS)}"
        )
    axes = ACCELERATORS[kind].axes
    if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})*", shape, re.ASCII):
        raise UserError(f"--topology is {name!r}; write it as one of {EXAMPLES}.")
    sizes = tuple(int(size) for size in shape.split("x"))
    if axes and len(sizes) != axes:
        raise UserError(
            f"--topology is {name!r}; {kind} has {axes} axes, as in "
            f"{kind}:{'x'.join('2' * axes)}."
        )
    if slices < 1 or (not axes and slices > 1):
        raise UserError(
            f"--slices is {slices}; give 1 or more for TPUs, and none for GPUs, where "
            "h100:2x8 has two hosts."
        )
    if not axes and len(sizes) > 2:
        raise UserError(f"--topology is {name!r}; write it as h100:8 or h100:2x8.")
    return Topology(kind, sizes if axes else (1, *sizes)[-2:], slices)
