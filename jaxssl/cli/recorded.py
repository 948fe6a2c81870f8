"""``jaxssl train`` with its input written down; `jaxssl verify resume` starts it.

    python -m jaxssl.cli.recorded '{"record": FILE, "strike": null}' train --config=...

All else is the real command.
"""

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxssl import cli
from jaxssl.cli import train
from jaxssl.verify import recording


def main(argv: Sequence[str]) -> int:
    """Run the words after the first one.

    Args:
      argv: JSON with the file of the record and when to kill the process; then the
        words of ``jaxssl``.

    Returns:
      The exit code.
    """
    how = json.loads(argv[0])
    strike = recording.Strike(**how["strike"]) if how["strike"] else None
    around = functools.partial(
        recording.recorded, path=Path(how["record"]), strike=strike
    )
    verb = train.VERB._replace(run=functools.partial(train.run, around=around))
    return cli.main(argv[1:], verbs={"train": verb})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
