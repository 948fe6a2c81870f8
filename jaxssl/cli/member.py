"""One of the processes of ``jaxssl verify devices``, which starts them.

python -m jaxssl.cli.member '{"place": [HOST:PORT, 2, 0], ...}' --config.KEY=VALUE ...
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from jaxssl import cli
from jaxssl.cli.verb import Verb
from jaxssl.distributed import address, coordination
from jaxssl.train.process_settings import use_compilation_cache
from jaxssl.verify import device_equivalence, devices


def main(argv: Sequence[str]) -> int:
    """Take the steps that one device took, together with the other processes.

    Args:
      argv: JSON with the place among the processes, how long to wait for them, the
        config file, the folder of the steps and where to write; then overrides.

    Returns:
      The exit code.
    """
    how = json.loads(argv[0])

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("config", None, "config file", flag_values=values)

    def run(_: flags.FlagValues, words: list[str]) -> int:
        _repeat(how, words)
        return 0

    verb = Verb(run, define, "repeat", __doc__ or "")
    return cli.main(["repeat", *argv[1:]], verbs={"repeat": verb})


def _repeat(how: dict[str, Any], words: list[str]) -> None:
    jax.config.update("jax_platforms", "cpu")
    coordination.join(
        address.ProcessAddress(*how["place"]), join_seconds=how["seconds"]
    )
    use_compilation_cache()
    setting = devices.read_setting(how["config"], words)
    found = device_equivalence.repeat(setting, Path(how["folder"]), how["name"])
    if coordination.is_first():
        Path(how["result"]).write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
