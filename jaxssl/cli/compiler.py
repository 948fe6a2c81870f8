"""The process in which ``jaxssl aot`` compiles.

python -m jaxssl.cli.compiler --config=FILE --topology=KIND:SHAPE ...
"""

import resource
import sys
from collections.abc import Sequence

from jaxssl import cli
from jaxssl.cli import aot

STACK = 100 * 2**20
"""Bytes. libtpu recurses deeply: the usual eight MiB are too few for ResNet-34 on
v6e:4x4. Linux leaves 128 MiB free below the stack of a process."""


def main(argv: Sequence[str]) -> int:
    """Compile with the flags of ``jaxssl aot``.

    Args:
      argv: its words.

    Returns:
      The exit code.
    """
    raise_stack_limit()
    verb = aot.VERB._replace(run=aot.compile_here)
    return cli.main(["aot", *argv], verbs={"aot": verb})


def raise_stack_limit() -> None:
    """Let the main thread's stack grow to `STACK`, or as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = STACK if hard == resource.RLIM_INFINITY else min(STACK, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
