"""The process in which ``jaxssl aot`` compiles: compilers crash, and take it along."""

import contextlib
import resource
import signal
import subprocess
from collections.abc import Iterator, Sequence

from jaxssl.aot.accelerators import Topology
from jaxssl.errors import UserError


def run(command: Sequence[str], topology: Topology) -> int:
    """Run a command that compiles, with a deep stack.

    Args:
      command: the program and its arguments.
      topology: what it compiles for.

    Returns:
      The exit code of the command.

    Raises:
      UserError: the compiler crashed.
    """
    with deep_stack():
        # On Ctrl-C, to which a compiler does not react, `run` kills the process.
        code = subprocess.run(command).returncode
    if code < 0:
        raise UserError(explain_crash(topology, -code))
    return code


@contextlib.contextmanager
def deep_stack() -> Iterator[None]:
    """Give processes that are started in the block the largest stack allowed.

    libtpu ends with signal 11 on ResNet-34 for v6e:4x4 under the usual eight MiB. The
    parent has to raise the limit, because the memory of a process is laid out when the
    process starts.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


def explain_crash(topology: Topology, number: int) -> str:
    """Return why a compiler ended by signal ``number``, and what else to try."""
    cause = "a fault of its own; try"
    if number == signal.SIGKILL:
        cause = "as happens where memory runs out; close other programs, or try"
    return (
        f"the compiler for {topology} was ended by signal {number}, {cause} another "
        "--config.train.batch_size or --mesh."
    )
