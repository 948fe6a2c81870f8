"""The process in which ``jaxssl aot`` compiles.

python -m jaxssl.cli.compiler --config=FILE --topology=KIND:SHAPE ...
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from jaxssl import atomic_write, cli
from jaxssl.aot import accelerators
from jaxssl.aot import compile as aot
from jaxssl.cli import aot as aot_verb
from jaxssl.cli.verb import get
from jaxssl.run import config_file
from jaxssl.train.setup import set_up


def main(argv: Sequence[str]) -> int:
    """Compile with the flags of ``jaxssl aot``.

    Args:
      argv: the words behind ``jaxssl aot``.

    Returns:
      The exit code.
    """
    verb = aot_verb.VERB._replace(run=_compile)
    return cli.main(["aot", *argv], verbs={"aot": verb})


def _compile(values: flags.FlagValues, overrides: list[str]) -> int:
    """Compile in this process; print and store the compiler's numbers."""
    spec, target = get(values, "config"), get(values, "json")
    topology = accelerators.parse(get(values, "topology"), get(values, "slices"))
    # Nothing runs on the accelerators that this machine may have.
    jax.config.update("jax_platforms", "cpu")
    with aot.quiet():
        jax.devices()
    setup = set_up(config_file.load(spec, overrides))
    layout = aot_verb.read_mesh(setup.mesh, get(values, "mesh"))
    arguments = (setup.experiment.task, setup.spec(), layout, topology)
    if get(values, "lower"):
        numbers = {"program": aot.lower_step(*arguments).digest}
        print(f"program: {numbers['program']}")
    else:
        print(
            f"compiling the step of {spec} for {topology}; this takes minutes",
            flush=True,
        )
        report = aot.compile_step(*arguments)
        print(aot.render(report))
        numbers = aot.to_json(report)
    if target:
        text = json.dumps({"config": spec, **numbers}, indent=2)
        atomic_write.write(Path(target), f"{text}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
