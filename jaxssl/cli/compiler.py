"""The process in which ``jaxssl aot`` compiles.

python -m jaxssl.cli.compiler --config=FILE --topology=KIND:SHAPE ...
"""

import sys
from collections.abc import Sequence

from jaxssl import cli
from jaxssl.cli import aot


def main(argv: Sequence[str]) -> int:
    """Compile with the flags of ``jaxssl aot``.

    Args:
      argv: its words.

    Returns:
      The exit code.
    """
    verb = aot.VERB._replace(run=aot.compile_here)
    return cli.main(["aot", *argv], verbs={"aot": verb})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
