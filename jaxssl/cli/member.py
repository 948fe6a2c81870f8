"""One of the processes that ``jaxssl verify devices`` starts.

python -m jaxssl.cli.member '{"place": [HOST:PORT, 2, 0], ...}' --config.KEY=VALUE ...
"""

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from jaxssl import cli
from jaxssl.cli.verb import CONFIG, Verb
from jaxssl.distributed import address, coordination
from jaxssl.run import config_file
from jaxssl.train.process_settings import use_compilation_cache
from jaxssl.train.setup import set_up
from jaxssl.verify import device_equivalence


def main(argv: Sequence[str]) -> int:
    """Take the steps that one device took, together with the other processes.

    Args:
      argv: JSON with this process's place among the processes, the seconds to wait for
        the others, the config, the folder of the steps and the file of the result; then
        overrides.

    Returns:
      The exit code.
    """
    run = functools.partial(_repeat, json.loads(argv[0]))
    verb = Verb(run, (CONFIG,), "repeat", __doc__)
    return cli.main(["repeat", *argv[1:]], verbs={"repeat": verb})


def _repeat(job: dict[str, Any], values: flags.FlagValues, overrides: list[str]) -> int:
    del values  # The config of the job is in its JSON.
    jax.config.update("jax_platforms", "cpu")
    coordination.join(
        address.ProcessAddress(*job["place"]), join_seconds=job["seconds"]
    )
    use_compilation_cache()
    setup = set_up(config_file.load(job["config"], overrides))
    differences = device_equivalence.repeat(setup, Path(job["folder"]))
    if coordination.is_first():
        Path(job["result"]).write_text(json.dumps(differences))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
