"""Compile the training step of a config for TPUs or GPUs that are not here.

This machine need not have them. Prints memory, arithmetic and traffic of a chip.
Nothing is computed and only shapes of images matter, so generated ones do:
--config.data.name=generated:imagenet2012.
TPUs need pip install 'jaxssl[aot-tpu]', GPUs 'jaxssl[aot-gpu]'.
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from jaxssl.aot import accelerators, child
from jaxssl.cli.verb import CONFIG, Flag, Verb, get, given, require
from jaxssl.config.checks import choice, shown
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError

FLAGS = (
    CONFIG,
    Flag("topology", str, None, "what to compile for: v5e:16x16, h100:2x8"),
    Flag("mesh", list, [], "short for --config.mesh: data=64,model=4,params=fsdp"),
    Flag("slices", int, 1, "TPU slices of that topology", (1, 1024)),
    Flag("json", str, None, "file for the report"),
    Flag("lower", bool, False, "compile nothing; print the hash of the program"),
)


def read_mesh(config: meshes.MeshConfig, settings: list[str]) -> meshes.MeshConfig:
    """Return the section ``mesh`` with the settings of ``--mesh``.

    Raises:
      UserError: names the setting of ``--mesh`` that is wrong.
    """
    changes = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        choice("--mesh: the setting", name, ("data", "model", "params"))
        try:
            changes[name] = value if name == "params" else int(value)
        except ValueError:
            raise UserError(
                f"--mesh: {name} is {shown(value)}; give a number of devices."
            ) from None
    try:
        return dataclasses.replace(config, **changes)
    except UserError as error:
        raise UserError(f"--mesh: {error}") from None


def _aot(values: flags.FlagValues, rest: list[str]) -> int:
    """Check the flags, then compile in another process.

    Raises:
      UserError: a flag is wrong, or the compiler crashed.
    """
    require(values, "config", "configs/NAME.py")
    name = require(values, "topology", "v5e:2x4")
    topology = accelerators.parse(name, get(values, "slices"))
    read_mesh(meshes.MeshConfig(), get(values, "mesh"))
    target = get(values, "json")
    if target and not Path(target).absolute().parent.is_dir():
        raise UserError(f"--json: there is no folder {Path(target).absolute().parent}.")
    command = [sys.executable, "-m", "jaxssl.cli.compiler", *given(values), *rest]
    return child.run(command, topology)


VERB = Verb(
    _aot,
    FLAGS,
    "aot --config=FILE[:variant] --topology=KIND:SHAPE [--mesh=AXES] [...]",
    __doc__,
)
