"""``jaxssl aot``."""

import contextlib
import dataclasses
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import flags

from jaxssl import atomic_write
from jaxssl.aot import accelerators
from jaxssl.aot import compile as aot
from jaxssl.cli.verb import Verb, get, given, require
from jaxssl.config.checks import choice
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.train.setup import set_up


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "config", None, "config file, FILE.py or FILE.py:variant", flag_values=values
    )
    flags.DEFINE_string(
        "topology", None, "chips: v5e:16x16, v4:2x2x2, h100:2x8", flag_values=values
    )
    flags.DEFINE_list(
        "mesh",
        [],
        "short for --config.mesh: data=64,model=4,params=fsdp",
        flag_values=values,
    )
    flags.DEFINE_integer("slices", 1, "TPUs of that topology", flag_values=values)
    flags.DEFINE_string("json", None, "file for the numbers", flag_values=values)
    flags.DEFINE_bool(
        "lower",
        False,
        "compile nothing; only the hash of the program that would be",
        flag_values=values,
    )


def _read_mesh(config: meshes.MeshConfig, words: list[str]) -> meshes.MeshConfig:
    """Return the section ``mesh`` with what ``--mesh`` says in its place."""
    changes = {}
    for word in words:
        name, _, value = word.partition("=")
        choice("--mesh: the setting", name, ("data", "model", "params"))
        if name != "params" and not value.lstrip("-").isdecimal():
            raise UserError(f"--mesh: {name} is {value!r}; give a number of devices.")
        changes[name] = value if name == "params" else int(value)
    try:
        return dataclasses.replace(config, **changes)
    except UserError as error:
        raise UserError(f"--mesh: {error}") from None


def _aot(values: flags.FlagValues, rest: list[str]) -> int:
    """Compile in a process of its own: compilers of chips crash, and take theirs along.

    Raises:
      UserError: a flag is wrong, or the compiler crashed.
    """
    require(values, "config", "configs/NAME.py")
    name = require(values, "topology", "v5e:2x4")
    topology = accelerators.parse(name, get(values, "slices"))
    _read_mesh(meshes.MeshConfig(), get(values, "mesh"))
    target = get(values, "json")
    if target and not Path(target).absolute().parent.is_dir():
        raise UserError(f"--json: there is no folder {Path(target).absolute().parent}.")
    command = [sys.executable, "-m", "jaxssl.cli.compiler", *given(values), *rest]
    with _deep_stack():
        child = subprocess.Popen(command)
    try:
        code = child.wait()
    finally:
        child.kill()  # It hears no Ctrl-C while it compiles.
    if code < 0:
        raise UserError(explain_crash(topology, -code))
    return code


@contextlib.contextmanager
def _deep_stack() -> Iterator[None]:
    """Let a process that is started in the block have a stack without limit.

    libtpu ends with signal 11 on ResNet-34 for v6e:4x4 under the usual eight MiB. A
    limit that a process raises for itself comes too late: memory is laid out by then.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


def explain_crash(topology: accelerators.Topology, number: int) -> str:
    """Say what a compiler's death by a signal means, and what else may be tried."""
    if number == signal.SIGKILL:
        why = (
            "which the system does where memory runs out; close other programs, or try"
        )
    else:
        why = "a fault of its own; try"
    return (
        f"the compiler for {topology} was ended by signal {number}, {why} another "
        "--config.train.batch_size or --mesh."
    )


def compile_here(values: flags.FlagValues, rest: list[str]) -> int:
    """Compile in this process, and say what the compiler said.

    Args:
      values: the flags of ``jaxssl aot``.
      rest: overrides.

    Returns:
      The exit code.
    """
    spec, target = get(values, "config"), get(values, "json")
    topology = accelerators.parse(get(values, "topology"), get(values, "slices"))
    # Nothing runs on the accelerators that this machine may have.
    jax.config.update("jax_platforms", "cpu")
    with aot.quiet():
        jax.devices()
    chosen = config_file.load(spec, rest)
    setup = set_up(chosen)
    layout = _read_mesh(setup.mesh, get(values, "mesh"))
    asked = (setup.experiment.task, setup.spec(), layout, topology)
    if get(values, "lower"):
        found = {"program": aot.lower_step(*asked).digest}
        print(f"program: {found['program']}")
    else:
        words = f"compiling the step of {spec} for {topology}; this takes minutes"
        print(words, flush=True)
        report = aot.compile_step(*asked)
        print(aot.render(report))
        found = aot.to_json(report)
    if target:
        text = json.dumps({"config": spec, **found}, indent=2)
        atomic_write.write(Path(target), f"{text}\n".encode())
    return 0


VERB = Verb(
    _aot,
    _define,
    "aot --config=FILE[:variant] --topology=KIND:SHAPE [--mesh=AXES] [...]",
    """\
Compile the training step of a config for TPUs or GPUs that need not be there, and
print memory, arithmetic and traffic of a chip. Nothing is computed and no image is
looked at, so images may be stand-ins: --config.data.name=generated:imagenet2012.
TPUs need pip install 'jaxssl[aot-tpu]', GPUs 'jaxssl[aot-gpu]'.
""",
)
